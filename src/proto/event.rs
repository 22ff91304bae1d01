//! What an operator counts or reads: one closed enum; `telemetry` maps it to a metric and a line.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::proto::push::params::NoPush;
use crate::proto::push::{Pns, PushError};
use crate::proto::registration::keep::KeepFailure;
use crate::proto::reject::Reject;
use crate::proto::{BindingKey, Flow, FlowId, Transport};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A device registered or refreshed; `asleep_for` if it had no flow.
    Registered {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
        /// The flow.
        flow: Flow,
        /// For how long.
        expires: Duration,
        /// Whether it was not there before.
        is_new: bool,
        /// Whether it was not reached on this flow before.
        is_moved: bool,
    },
    /// The upstream granted a device that can be woken less time than it asked for: unless it
    /// registers again before, it cannot be called.
    Shortened {
        /// The agent.
        aor: Box<str>,
        /// What it asked for, seconds.
        asked: u32,
        /// What it got, seconds.
        granted: u32,
    },
    /// A device registered for another agent: it no longer rings for this one.
    ChangedHands {
        /// Which binding.
        key: BindingKey,
        /// The agent that had it.
        aor: Box<str>,
    },
    /// A device left.
    Unregistered {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
    },
    /// A binding's time is over.
    Expired {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
    },
    /// The gateway has refreshed the registration of a device that sleeps.
    Refreshed {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
        /// For how long it holds now.
        expires: Duration,
    },
    /// The gateway could not refresh the registration of a device that sleeps.
    RefreshFailed {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
        /// Why.
        failure: KeepFailure,
    },
    /// A device's flow closed; it can be woken.
    Asleep {
        /// Which binding.
        key: BindingKey,
        /// The agent.
        aor: Box<str>,
    },
    /// A Contact gave no way to wake its device.
    NoPush {
        /// The agent.
        aor: Box<str>,
        /// Why.
        reason: NoPush,
    },
    /// A call for an agent arrived.
    CallReceived {
        /// Its number.
        call: CallNumber,
        /// The caller's URI, a part of the request.
        caller: Bytes,
        /// Its Call-ID.
        call_id: Box<str>,
        /// The agent.
        aor: Box<str>,
        /// How many devices it goes to.
        devices: usize,
        /// How many of those have no flow.
        asleep: usize,
    },
    /// A device is being woken for a call.
    WakeStarted {
        /// The call's number.
        call: CallNumber,
        /// Its Call-ID.
        call_id: Box<str>,
        /// Which binding.
        key: BindingKey,
        /// The push service.
        pns: Pns,
    },
    /// A push service took a push.
    PushAccepted {
        /// Which binding.
        key: BindingKey,
        /// The push service.
        pns: Pns,
        /// What the push says.
        notice: &'static str,
        /// After how long.
        after: Duration,
        /// The provider's name for it.
        provider_id: Box<str>,
    },
    /// A push failed.
    PushFailed {
        /// Which binding.
        key: BindingKey,
        /// The push service.
        pns: Pns,
        /// What the push says.
        notice: &'static str,
        /// What went wrong.
        error: PushError,
    },
    /// A device re-registered for a waiting call.
    Woken {
        /// The call's number.
        call: CallNumber,
        /// Its Call-ID.
        call_id: Box<str>,
        /// Which binding.
        key: BindingKey,
        /// After how long.
        after: Duration,
        /// Where it registered from, if it is reached there.
        flow: Option<Flow>,
    },
    /// A device was not woken in time.
    WakeTimedOut {
        /// The call's number.
        call: CallNumber,
        /// Its Call-ID.
        call_id: Box<str>,
        /// Which binding.
        key: BindingKey,
        /// After how long.
        after: Duration,
    },
    /// The INVITE went out to a device.
    CallForwarded {
        /// The call's number.
        call: CallNumber,
        /// Its Call-ID.
        call_id: Box<str>,
        /// Which binding.
        key: BindingKey,
        /// The flow.
        flow: FlowId,
    },
    /// A call's INVITE got its final answer.
    CallAnswered {
        /// The call's number.
        call: CallNumber,
        /// Its Call-ID.
        call_id: Box<str>,
        /// Its status.
        status: u16,
        /// After how long.
        after: Duration,
    },
    /// A call took a step toward one of its devices that is counted nowhere.
    CallStep {
        /// The call's number.
        call: CallNumber,
        /// Which binding.
        key: BindingKey,
        /// What happened.
        step: Step,
    },
    /// The caller gave up.
    CallCancelled {
        /// The call's number.
        call: CallNumber,
        /// Whether it said that somebody else has answered.
        is_elsewhere: bool,
    },
    /// One side of a call hung up: the call may be any, also one that we know nothing of.
    CallEnded {
        /// Its Call-ID.
        call_id: Box<str>,
        /// Whether the phone did.
        is_phone: bool,
    },
    /// An upstream's call went to nobody.
    CallRefused {
        /// Its Call-ID.
        call_id: Box<str>,
        /// Whom it is for: the Request-URI's user.
        user: Box<str>,
        /// The caller's URI, a part of the request.
        caller: Bytes,
        /// Why.
        reject: Reject,
    },
    /// A MESSAGE or NOTIFY is kept for a device that sleeps; its sender was told that it was taken.
    Kept {
        /// Its Call-ID.
        call_id: Box<str>,
        /// Which binding.
        key: BindingKey,
        /// What it is.
        kind: Kept,
    },
    /// A request that was kept is kept no more.
    KeptEnded(KeptEnd),
    /// A request was refused.
    Rejected {
        /// Why.
        reject: Reject,
        /// The flow.
        flow: Flow,
    },
    /// A stranger that has proved where it is did what it must not do.
    Offence {
        /// Where it is.
        address: IpAddr,
        /// How it came.
        transport: Transport,
        /// What it did.
        reject: Reject,
        /// Whether it is banned from now on.
        is_banned: bool,
    },
    /// Something was dropped.
    Dropped {
        /// Where.
        place: Drop,
        /// The flow.
        flow: Option<FlowId>,
    },
    /// A request was too large for a datagram on a path whose MTU is unknown.
    Oversize {
        /// What was done about it.
        way: Oversize,
        /// How large it was.
        bytes: usize,
    },
    /// Something durable could not be written.
    StoreFailed,
    /// An upstream's node has (no) address.
    NodeResolved {
        /// The node's index.
        node: u16,
        /// How many addresses.
        hops: usize,
    },
}

/// Names a call within its shard while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallNumber(pub u64);

/// One step of a call toward a device, for its timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The device's flow is old: it was asked whether it lives.
    Asked,
    /// The call waits until the device has registered, or has it woken beside its INVITE.
    Waits(Asleep),
    /// A push for the device is under way already.
    Joined,
    /// The device was pushed too often lately: not before this time has passed.
    Limited(Duration),
    /// The device rings, or says something else before its answer.
    Ringing(u16),
    /// The device's final answer.
    Answered(u16),
    /// The device is tried no longer.
    Failed(Reject),
    /// The device came when the call was over.
    CameLate,
}

/// Why a device has to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asleep {
    /// It has no open flow.
    NoFlow,
    /// Its flow did not answer.
    Silent,
    /// It did not react to its INVITE.
    Unheard,
    /// Its flow ended under the INVITE, or somebody on the way could not reach it.
    Lost,
}

/// The end of a request that was kept.
#[derive(Clone, Debug)]
pub struct KeptEnd {
    /// Its Call-ID.
    pub call_id: Box<str>,
    /// Which binding.
    pub key: BindingKey,
    /// What it is.
    pub kind: Kept,
    /// What became of it.
    pub outcome: KeptOutcome,
    /// How long after it came.
    pub after: Duration,
}

/// What is kept for a device that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kept {
    /// A text message.
    Message,
    /// A notification.
    Notify,
}

impl Kept {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Notify => "notify",
        }
    }
}

/// What became of a kept request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeptOutcome {
    /// The device took it.
    Delivered,
    /// The device refused it with this status.
    Refused(u16),
    /// The device did not come in time.
    Expired,
    /// The device came, and did not answer.
    Unanswered,
    /// A newer notification took its place.
    Replaced,
    /// The device is no longer the agent's.
    Lost,
}

impl KeptOutcome {
    /// The label in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused(_) => "refused",
            Self::Expired => "expired",
            Self::Unanswered => "unanswered",
            Self::Replaced => "replaced",
            Self::Lost => "lost",
        }
    }
}

/// Where something was dropped: the label of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Drop {
    /// A response that matches no client transaction.
    StrayResponse,
    /// A response that did not come from where the request went.
    ForgedResponse,
    /// An ACK that matches nothing.
    StrayAck,
    /// Bytes that are no message, and to which no answer can be built.
    Malformed,
    /// A request without a usable Via.
    NoVia,
    /// A UDP request from a stranger, by choice without an answer.
    Stranger,
    /// A response that we could not forward: no Via below ours.
    NoNextVia,
    /// A message for a flow that is gone.
    FlowGone,
    /// An answer to a datagram, so large that it would serve somebody who sent it in another's name.
    Reflection,
}

/// How a request too large for a datagram went: the label of the counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oversize {
    /// To an upstream as a datagram all the same.
    Datagram,
    /// To a phone as a datagram: its flow is all there is.
    Phone,
    /// To an upstream over a connection.
    Stream,
}

impl Oversize {
    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Datagram => "datagram",
            Self::Phone => "phone",
            Self::Stream => "stream",
        }
    }
}
