//! The response context of one proxied request (RFC 3261 §16.2, §16.7): its branches, the best
//! response so far, and what is still awaited.
//!
//! A branch toward a device goes Idle → (Probing | Waking | Calling) → Final; a device that comes
//! back on another flow takes it from anywhere before Final to Calling again, but never while its
//! INVITE is live on a flow that answers.
//! A device that was pushed for a call that ended before it came is Late: see `late_wake`.
//! Invariants: one branch per device; at most one live client transaction per branch; a context
//! whose branches are all Final has answered.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::proto::event::CallNumber;
use crate::proto::proxy::best_response::Best;
use crate::proto::proxy::upstream::UpstreamHop;
use crate::proto::registration::asked::{Asked, Number};
use crate::proto::registration::binding::NewBinding;
use crate::proto::registration::relay::Relay;
use crate::proto::sip::Message;
use crate::proto::timer::TimerKey;
use crate::proto::transaction::{ClientId, ServerId};
use crate::proto::{
    AorId, BindingId, BindingKey, Destination, Flow, FlowId, HeldId, ListenerId, Transport,
};

/// One request on its way.
#[derive(Debug)]
pub(super) struct ResponseContext {
    pub(super) id: u64,
    pub(super) server: ServerId,
    pub(super) request: Message,
    /// The request's flow.
    pub(super) flow: Flow,
    pub(super) started: Instant,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) branches: SmallVec<[Branch; 1]>,
    pub(super) best: Option<Best>,
    /// How many of the request's Routes are ours.
    pub(super) own_routes: usize,
    /// The Request-URI after undoing strict routing (RFC 3261 §16.4), if it changed.
    pub(super) strict_uri: Option<Vec<u8>>,
    /// Whether the request is inside a dialog.
    pub(super) is_in_dialog: bool,
    /// How it waits for a device that sleeps.
    pub(super) hold: Hold,
    /// The bytes that it is kept in, after its sender was told that it was taken; 0: it is not.
    pub(super) kept: usize,
    /// Its name in the store, while it is kept there.
    pub(super) held: Option<HeldId>,
    /// Until when it may wait for devices, if it began in an earlier process.
    pub(super) wake_by: Option<Instant>,
    /// The caller said that somebody else answered.
    pub(super) is_elsewhere: bool,
}

/// How a request waits for a device that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// A call: as long as a device may take to wake.
    Call,
    /// Its sender is told that it was taken; each device gets it when it registers.
    Message,
    /// The same, but of those with this mark only the newest.
    Notify(u64),
    /// No longer than its sender's transaction waits.
    Brief {
        /// Whether the device is woken for it.
        is_pushed: bool,
    },
}

/// What kind of request.
#[derive(Debug)]
pub(super) enum Kind {
    /// INVITE.
    Invite,
    /// Any other but REGISTER.
    NonInvite,
    /// REGISTER.
    Register(Box<Registration>),
}

/// A REGISTER under way.
#[derive(Debug)]
pub(super) struct Registration {
    pub(super) relay: Relay,
    /// The 2xx to the phone, the changes, and how many writes are outstanding.
    pub(super) granted: Option<Granted>,
}

/// What the upstream granted, until it is durable.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) response: Bytes,
    /// The devices that are there, or there anew.
    pub(super) present: Vec<BindingKey>,
    /// The devices that go.
    pub(super) leaving: Vec<BindingId>,
    pub(super) outstanding: usize,
    pub(super) is_durable: bool,
}

/// One change of a binding.
#[derive(Debug)]
pub(super) enum Change {
    /// It is there, until its expiry.
    Put {
        binding: Box<NewBinding>,
        /// Whether it says of the device what was known of it.
        is_known: bool,
    },
    /// A registration that a later one has overtaken before that was durable: the device's record
    /// is written again, so that no 2xx is out before it is kept.
    Again,
    /// It is gone.
    Remove(BindingId),
}

/// How far the context is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Branches may be started and answers are awaited.
    Open,
    /// No branch may be started; answers are awaited: cancelled, or declined for all.
    Closing,
    /// The final response has gone.
    Answered,
}

/// Whom a branch reaches.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// A device, by its flow.
    Device(BindingKey),
    /// An upstream, by its nodes.
    Upstream {
        /// Where to, in order; those behind `next` were tried.
        hops: Vec<UpstreamHop>,
        /// The next to try.
        next: usize,
    },
}

/// One branch (RFC 3261 §16.6).
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) target: Target,
    /// The q of its Contact, thousandths.
    pub(super) q: u16,
    pub(super) state: BranchState,
    /// Its device has said something to the request.
    pub(super) is_reached: bool,
    /// The request is kept for this device.
    pub(super) is_kept: bool,
    /// How often a kept request went out in vain.
    pub(super) attempts: u8,
    /// The flow on which it is among those that listen.
    pub(super) listens: Option<FlowId>,
}

/// How far a branch is.
#[derive(Debug)]
pub(super) enum BranchState {
    /// Its turn has not come.
    Idle,
    /// Its flow was asked whether it lives.
    Probing {
        /// Until when.
        timer: TimerKey,
    },
    /// It waits for its device to register.
    Waking {
        /// Until when.
        timer: TimerKey,
    },
    /// The request is out.
    Calling(Calling),
    /// A CANCEL is out.
    Cancelling(Cancelling),
    /// The call is over, but a push has obliged its device to show it: when the device comes it
    /// gets the INVITE and its CANCEL, so that it stops.
    Late(Late),
    /// It has its final response.
    Final,
}

/// A call that is over, for a device that has yet to learn so.
#[derive(Debug)]
pub(super) struct Late {
    /// Until when.
    pub(super) timer: TimerKey,
    /// The Reasons of its CANCEL.
    pub(super) reasons: Vec<Vec<u8>>,
    /// The INVITE that is out already, silent so far, and where: there its own CANCEL follows it.
    pub(super) sent: Option<(ClientId, Destination)>,
}

/// A request that is out.
#[derive(Debug)]
pub(super) struct Calling {
    pub(super) client: ClientId,
    pub(super) leg: Leg,
    /// The leg to take if this one, chosen for the request's size, cannot be had.
    pub(super) datagram: Option<Box<Leg>>,
    /// A 1xx came.
    pub(super) is_provisional: bool,
    /// Timer C (RFC 3261 §16.6 step 11).
    pub(super) timer_c: Option<TimerKey>,
    /// Until when a 1xx must come, or the device is pushed as well.
    pub(super) grace: Option<TimerKey>,
    /// The device was pushed beside it.
    pub(super) is_pushed: bool,
    /// The deadline of the push beside it.
    pub(super) wake: Option<TimerKey>,
}

/// A request that is cancelled.
#[derive(Debug)]
pub(super) struct Cancelling {
    pub(super) client: ClientId,
    pub(super) leg: Leg,
    /// Whether it went out only to be cancelled.
    pub(super) is_late: bool,
    /// Until when the caller waits for one who had not said a word.
    pub(super) timer: Option<TimerKey>,
}

/// Where a request goes, and which of our addresses stands for us there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Leg {
    pub(super) to: Destination,
    pub(super) transport: Transport,
    pub(super) listener: ListenerId,
    /// The upstream's node, if it is one.
    pub(super) node: Option<u16>,
}

impl Leg {
    /// A leg over a flow.
    pub(super) const fn over(flow: Flow) -> Self {
        Self {
            to: Destination::Flow(flow.id),
            transport: flow.transport,
            listener: flow.listener,
            node: None,
        }
    }

    /// The address that it goes to; a connection that is open has none here.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match &self.to {
            Destination::Flow(FlowId::Datagram { remote, .. }) => Some(*remote),
            Destination::Flow(FlowId::Stream(_)) => None,
            Destination::Hop(hop) => Some(hop.address),
        }
    }

    /// A leg to an upstream.
    pub(super) fn upstream(hop: &UpstreamHop) -> Self {
        Self {
            to: hop.to.clone(),
            transport: hop.transport,
            listener: hop.listener,
            node: Some(hop.node),
        }
    }
}

impl Branch {
    /// A branch whose turn has not come.
    pub(super) const fn new(target: Target, q: u16) -> Self {
        Self {
            target,
            q,
            state: BranchState::Idle,
            is_reached: false,
            is_kept: false,
            attempts: 0,
            listens: None,
        }
    }

    /// Whether nothing more comes of it.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self.state, BranchState::Final)
    }

    /// Whether the request's answer need not wait for it.
    pub(super) const fn has_answered(&self) -> bool {
        matches!(self.state, BranchState::Final | BranchState::Late(_)) || self.is_late()
    }

    /// Until when its device may take to wake.
    pub(super) fn wake_deadline(&self) -> Option<Instant> {
        match &self.state {
            BranchState::Waking { timer } => Some(timer.due()),
            BranchState::Calling(calling) => calling.wake.map(TimerKey::due),
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Cancelling(_)
            | BranchState::Late(_)
            | BranchState::Final => None,
        }
    }

    /// Whether its request went out only to be cancelled.
    pub(super) const fn is_late(&self) -> bool {
        matches!(&self.state, BranchState::Cancelling(cancelling) if cancelling.is_late)
    }

    /// Whether its request is out for a device that has not said a word.
    pub(super) const fn is_unheard(&self) -> bool {
        matches!(self.target, Target::Device(_))
            && matches!(&self.state, BranchState::Calling(calling) if !calling.is_provisional)
    }

    /// Where its request is out.
    pub(super) const fn leg(&self) -> Option<&Leg> {
        match &self.state {
            BranchState::Calling(calling) => Some(&calling.leg),
            BranchState::Cancelling(cancelling) => Some(&cancelling.leg),
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Waking { .. }
            | BranchState::Late(_)
            | BranchState::Final => None,
        }
    }

    /// The device it is for.
    pub(super) const fn device(&self) -> Option<BindingKey> {
        match self.target {
            Target::Device(key) => Some(key),
            Target::Upstream { .. } => None,
        }
    }
}

impl ResponseContext {
    /// Whether it is an INVITE's.
    pub(super) const fn is_invite(&self) -> bool {
        matches!(self.kind, Kind::Invite)
    }

    /// Whether it may be kept for a device after its sender was told that it was taken.
    pub(super) const fn may_be_kept(&self) -> bool {
        matches!(self.hold, Hold::Message | Hold::Notify(_))
    }

    /// What events call it by.
    pub(super) const fn number(&self) -> CallNumber {
        CallNumber(self.id)
    }

    /// The request's Call-ID for logs.
    pub(super) fn call_id(&self) -> Box<str> {
        self.request
            .call_id()
            .map_or_else(|_| "".into(), |id| String::from_utf8_lossy(id).into())
    }

    /// Which of the REGISTERs of its agent it is.
    pub(super) fn asked(&self) -> Asked {
        Asked {
            at: self.started,
            number: self.request.cseq().ok().map(|cseq| {
                let call_id = self.request.call_id().unwrap_or_default();
                Number::of(call_id, cseq.number)
            }),
        }
    }

    /// The agent that it calls, if it goes to devices.
    pub(super) fn agent(&self) -> Option<AorId> {
        self.branches
            .iter()
            .find_map(Branch::device)
            .map(|key| key.aor)
    }
}
