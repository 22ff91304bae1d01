//! One server transaction in the table, and where its responses go (RFC 3261 §18.2.2, RFC 3581 §4).

use std::net::IpAddr;

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::settings::Timing;
use crate::proto::sip::{HeaderName, Message, Method, NameAddr, Via};
use crate::proto::timer::{Letter, Timer, TimerKey};
use crate::proto::transaction::key::{Key, LegacyPrefix, Matching};
use crate::proto::transaction::server_invite::ServerInvite;
use crate::proto::transaction::server_non_invite::ServerNonInvite;
use crate::proto::transaction::timers::{Resend, first, next_pause};
use crate::proto::transaction::{Received, ServerId};
use crate::proto::{Destination, Flow, FlowId, Output, Transport};

/// A slot of the table.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) id: ServerId,
    pub(super) key: Key,
    /// Where the request came from: a CANCEL must come from there as well.
    pub(super) source: IpAddr,
    to: FlowId,
    machine: Machine,
    /// Only if the peer is one of RFC 2543.
    legacy: Option<Box<Legacy>>,
}

/// What a machine is told of its transaction, and the way it acts.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    id: ServerId,
    to: FlowId,
    timing: &'a Timing,
}

#[derive(Debug)]
enum Machine {
    Invite(ServerInvite),
    NonInvite(ServerNonInvite),
}

/// How the ACK of an RFC 2543 peer is found.
#[derive(Debug)]
struct Legacy {
    prefix: LegacyPrefix,
    ack: Option<Key>,
}

/// Returns the flow that a response goes back over.
///
/// A stream's is the connection that the request came on. A datagram goes to the source address; to
/// the source port if the Via asks for that (`rport`, RFC 3581 §4), else to the port of its
/// sent-by, 5060 if it names none (RFC 3261 §18.2.2). `maddr` is not followed: it would let anybody
/// send our responses to a third party.
#[must_use]
pub fn response_flow(flow: &Flow, via: &Via<'_>) -> FlowId {
    match flow.id {
        FlowId::Stream(_) => flow.id,
        FlowId::Datagram {
            listener,
            mut remote,
        } => {
            if via.rport().is_none() {
                remote.set_port(via.port.unwrap_or(Transport::Udp.default_port()));
            }
            FlowId::Datagram { listener, remote }
        }
    }
}

impl Server {
    /// Begins with a request that its user has.
    pub(super) fn new(
        id: ServerId,
        flow: &Flow,
        via: &Via<'_>,
        method: Method<'_>,
        matching: Matching,
    ) -> Self {
        Self {
            id,
            key: matching.key,
            source: flow.remote.ip(),
            to: response_flow(flow, via),
            machine: if method == Method::Invite {
                Machine::Invite(ServerInvite::new())
            } else {
                Machine::NonInvite(ServerNonInvite::Trying)
            },
            legacy: matching
                .legacy
                .map(|prefix| Box::new(Legacy { prefix, ack: None })),
        }
    }

    /// Takes a request of the same key.
    pub(super) fn handle_request(
        &mut self,
        fx: &mut Effects<'_>,
        timing: &Timing,
        method: Method<'_>,
    ) -> Received {
        let scope = self.scope(timing);
        match &mut self.machine {
            Machine::Invite(machine) if method == Method::Ack => machine.handle_ack(fx, &scope),
            Machine::Invite(machine) => {
                machine.handle_retransmission(fx, &scope);
                Received::Retransmission
            }
            Machine::NonInvite(machine) => {
                machine.handle_retransmission(fx, &scope);
                Received::Retransmission
            }
        }
    }

    /// Sends a response. Returns the key of its ACK if that is another than the request's.
    pub(super) fn respond(
        &mut self,
        fx: &mut Effects<'_>,
        timing: &Timing,
        status: u16,
        response: Bytes,
    ) -> Option<Key> {
        let scope = self.scope(timing);
        match &mut self.machine {
            Machine::Invite(machine) => {
                let is_final = status >= 200 && machine.awaits_final();
                let legacy = self.legacy.as_mut().filter(|_| is_final);
                let ack = legacy.and_then(|legacy| legacy.on_final(self.key, &response));
                machine.respond(fx, &scope, status, response);
                ack
            }
            Machine::NonInvite(machine) => {
                machine.respond(fx, &scope, status, response);
                None
            }
        }
    }

    /// Fires a timer.
    pub(super) fn handle_timer(&mut self, fx: &mut Effects<'_>, timing: &Timing, letter: Letter) {
        let scope = self.scope(timing);
        match &mut self.machine {
            Machine::Invite(machine) => machine.handle_timer(fx, &scope, letter),
            Machine::NonInvite(machine) => machine.handle_timer(fx),
        }
    }

    /// Whether its user owes a final response.
    pub(super) fn awaits_final(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.awaits_final(),
            Machine::NonInvite(machine) => machine.awaits_final(),
        }
    }

    /// Whether the slot can be given back.
    pub(super) fn is_over(&self) -> bool {
        match &self.machine {
            Machine::Invite(machine) => machine.is_terminated(),
            Machine::NonInvite(machine) => machine.is_terminated(),
        }
    }

    /// Every key that leads here.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let ack = self.legacy.as_ref().and_then(|legacy| legacy.ack);
        std::iter::once(self.key).chain(ack)
    }

    fn scope<'a>(&self, timing: &'a Timing) -> Scope<'a> {
        Scope {
            id: self.id,
            to: self.to,
            timing,
        }
    }
}

impl Legacy {
    /// RFC 3261 §17.2.3: "the To tag of the ACK matches the To tag of the response sent by the
    /// server transaction".
    fn on_final(&mut self, request: Key, response: &Bytes) -> Option<Key> {
        let response = Message::parse(response.clone()).ok()?;
        let to = NameAddr::parse(response.header(HeaderName::To)?).ok()?;
        self.ack = Some(self.prefix.with_to_tag(to.tag())).filter(|ack| *ack != request);
        self.ack
    }
}

impl Scope<'_> {
    /// Sends a response. Nobody is told if that fails: the client asks again or gives up.
    pub(super) fn send(&self, fx: &mut Effects<'_>, response: &Bytes) {
        fx.output(Output::Send {
            to: Destination::Flow(self.to),
            message: response.clone(),
            report: None,
        });
    }

    /// Arms a timer with its first value; `None` if that is zero.
    pub(super) fn arm(&self, fx: &mut Effects<'_>, letter: Letter) -> Option<TimerKey> {
        let after = first(self.timing, letter, self.is_reliable());
        (!after.is_zero()).then(|| fx.arm(after, Timer::Server(self.id, letter)))
    }

    /// Arms a timer that will send this again; `None` over a reliable transport.
    pub(super) fn arm_resend(
        &self,
        fx: &mut Effects<'_>,
        letter: Letter,
        message: &Bytes,
    ) -> Option<Box<Resend>> {
        let timer = self.arm(fx, letter)?;
        Some(Box::new(Resend {
            message: message.clone(),
            pause: first(self.timing, letter, self.is_reliable()),
            timer,
        }))
    }

    /// Arms it for the next time.
    pub(super) fn rearm(&self, fx: &mut Effects<'_>, letter: Letter, resend: &mut Resend) {
        resend.pause = next_pause(self.timing, letter, resend.pause);
        resend.timer = fx.arm(resend.pause, Timer::Server(self.id, letter));
    }

    fn is_reliable(&self) -> bool {
        match self.to {
            FlowId::Datagram { .. } => false,
            FlowId::Stream(_) => true,
        }
    }
}
