//! One client transaction in the table, with the CANCEL's beside it if it is an INVITE's.
//!
//! A CANCEL is a transaction of its own (RFC 3261 §9.1) and shares the branch, hence the slot. The
//! letters tell their timers apart: an INVITE's are A, B, D, M and any other request's E, F, K.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::settings::Timing;
use crate::proto::sip::{Message, Method};
use crate::proto::timer::{Letter, Timer, TimerKey};
use crate::proto::transaction::client_invite::ClientInvite;
use crate::proto::transaction::client_non_invite::ClientNonInvite;
use crate::proto::transaction::timers::{Resend, first, next_pause};
use crate::proto::transaction::{ClientEvent, ClientId};
use crate::proto::{Destination, Flow, Output};

/// A slot of the table.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    stage: Stage,
}

/// What becomes of a response that matches by branch.
#[derive(Debug)]
pub(super) enum Answer {
    /// A retransmission, or of no interest to the user.
    Absorbed,
    /// It did not come from where the request went.
    Forged,
    /// The user must see it.
    Report(ClientEvent),
    /// No state or method takes it.
    Stray,
}

/// What a machine is told of its transaction, and the way it acts.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) id: ClientId,
    pub(super) to: &'a Destination,
    pub(super) is_reliable: bool,
    pub(super) timing: &'a Timing,
}

/// How far it has come.
#[derive(Debug)]
enum Stage {
    /// The branch is being written into a request.
    Reserved,
    Invite {
        peer: Peer,
        machine: ClientInvite,
        cancel: Option<Cancel>,
    },
    NonInvite {
        peer: Peer,
        machine: ClientNonInvite,
        /// The request's method, of which a response's CSeq must speak.
        method: Box<[u8]>,
    },
}

/// Where the request went.
#[derive(Debug)]
struct Peer {
    to: Destination,
    is_reliable: bool,
}

/// The CANCEL of an INVITE.
#[derive(Debug)]
enum Cancel {
    /// It waits for the first provisional response.
    Held(Bytes),
    Sent(Box<ClientNonInvite>),
}

impl Client {
    /// A slot whose request is not written yet.
    pub(super) fn reserved(id: ClientId) -> Self {
        Self {
            id,
            stage: Stage::Reserved,
        }
    }

    /// Sends the request, once.
    pub(super) fn start(
        &mut self,
        fx: &mut Effects<'_>,
        timing: &Timing,
        (method, request): (Method<'_>, &Bytes),
        to: Destination,
        is_reliable: bool,
    ) {
        let Stage::Reserved = self.stage else {
            return;
        };
        let peer = Peer { to, is_reliable };
        let scope = peer.scope(self.id, timing);
        self.stage = if method == Method::Invite {
            Stage::Invite {
                machine: ClientInvite::start(fx, &scope, request),
                peer,
                cancel: None,
            }
        } else {
            Stage::NonInvite {
                machine: ClientNonInvite::start(fx, &scope, request),
                peer,
                method: method.as_bytes().into(),
            }
        };
    }

    /// Sends the CANCEL, or holds it.
    pub(super) fn cancel(&mut self, fx: &mut Effects<'_>, timing: &Timing, reasons: &[&[u8]]) {
        // RFC 3261 §9.1: "A CANCEL request SHOULD NOT be sent to cancel a request other than
        // INVITE."
        if let Stage::Invite {
            machine,
            cancel: cancel @ None,
            ..
        } = &mut self.stage
        {
            *cancel = machine.cancel_request(reasons).map(Cancel::Held);
            self.release_cancel(fx, timing);
        }
    }

    /// Sends an unanswered INVITE no more.
    pub(super) fn hush(&mut self, fx: &mut Effects<'_>) {
        if let Stage::Invite { machine, .. } = &mut self.stage {
            machine.hush(fx);
        }
    }

    /// Sends an unanswered INVITE again, ahead of Timer A.
    pub(super) fn send_again(&mut self, fx: &mut Effects<'_>, timing: &Timing) {
        if let Stage::Invite { peer, machine, .. } = &mut self.stage {
            machine.send_again(fx, &peer.scope(self.id, timing));
        }
    }

    /// Takes a response with this branch.
    pub(super) fn handle_response(
        &mut self,
        fx: &mut Effects<'_>,
        timing: &Timing,
        flow: &Flow,
        response: &Message,
    ) -> Answer {
        let (Some(status), Ok(cseq)) = (response.status(), response.cseq()) else {
            return Answer::Stray;
        };
        let answer = match &mut self.stage {
            Stage::Reserved => Answer::Stray,
            Stage::Invite { peer, .. } | Stage::NonInvite { peer, .. } if !peer.is_source(flow) => {
                Answer::Forged
            }
            Stage::Invite {
                peer,
                machine,
                cancel,
            } => {
                let scope = peer.scope(self.id, timing);
                match (cseq.method, cancel) {
                    (Method::Invite, _) => machine.handle_response(fx, &scope, status, response),
                    (Method::Cancel, Some(Cancel::Sent(machine))) => {
                        match machine.handle_response(fx, &scope, status) {
                            // The user asked for a CANCEL and hears of the INVITE's end.
                            Answer::Report(_) | Answer::Absorbed => Answer::Absorbed,
                            answer @ (Answer::Forged | Answer::Stray) => answer,
                        }
                    }
                    _ => Answer::Stray,
                }
            }
            Stage::NonInvite {
                peer,
                machine,
                method,
            } => {
                if cseq.method.as_bytes() == &**method {
                    machine.handle_response(fx, &peer.scope(self.id, timing), status)
                } else {
                    Answer::Stray
                }
            }
        };
        self.release_cancel(fx, timing);
        answer
    }

    /// Fires a timer.
    pub(super) fn handle_timer(
        &mut self,
        fx: &mut Effects<'_>,
        timing: &Timing,
        letter: Letter,
    ) -> Option<ClientEvent> {
        match &mut self.stage {
            Stage::Reserved => None,
            Stage::Invite {
                peer,
                machine,
                cancel,
            } => {
                let scope = peer.scope(self.id, timing);
                match (letter, cancel) {
                    (Letter::E | Letter::F | Letter::K, Some(Cancel::Sent(machine))) => {
                        // Nobody waits for the answer to a CANCEL: Timer B of the INVITE does.
                        machine.handle_timer(fx, &scope, letter);
                        None
                    }
                    _ => machine.handle_timer(fx, &scope, letter),
                }
            }
            Stage::NonInvite { peer, machine, .. } => {
                machine.handle_timer(fx, &peer.scope(self.id, timing), letter)
            }
        }
    }

    /// Takes notice that the request could not be sent.
    pub(super) fn handle_send_failed(&mut self, fx: &mut Effects<'_>) -> Option<ClientEvent> {
        match &mut self.stage {
            Stage::Reserved => None,
            Stage::Invite { machine, .. } => machine.handle_send_failed(fx),
            Stage::NonInvite { machine, .. } => machine.handle_send_failed(fx),
        }
    }

    /// Whether the slot can be given back. An INVITE's end and its CANCEL's are independent.
    pub(super) fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Reserved => false,
            Stage::Invite {
                machine, cancel, ..
            } => {
                let cancel_is_over = match cancel {
                    None | Some(Cancel::Held(_)) => true,
                    Some(Cancel::Sent(cancel)) => cancel.is_terminated(),
                };
                machine.is_terminated() && cancel_is_over
            }
            Stage::NonInvite { machine, .. } => machine.is_terminated(),
        }
    }

    /// Ends all of it without a word.
    pub(super) fn end(mut self, fx: &mut Effects<'_>) {
        match &mut self.stage {
            Stage::Reserved => {}
            Stage::Invite {
                machine, cancel, ..
            } => {
                machine.end(fx);
                if let Some(Cancel::Sent(cancel)) = cancel {
                    cancel.end(fx);
                }
            }
            Stage::NonInvite { machine, .. } => machine.end(fx),
        }
    }

    /// Sends a held CANCEL after the first provisional response; forgets it after a final one.
    fn release_cancel(&mut self, fx: &mut Effects<'_>, timing: &Timing) {
        let Stage::Invite {
            peer,
            machine,
            cancel,
        } = &mut self.stage
        else {
            return;
        };
        let Some(Cancel::Held(request)) = cancel else {
            return;
        };
        if machine.is_proceeding() {
            let scope = peer.scope(self.id, timing);
            let sent = ClientNonInvite::start(fx, &scope, request);
            machine.on_cancel_sent(fx, &scope);
            *cancel = Some(Cancel::Sent(Box::new(sent)));
        } else if !machine.awaits_final() {
            *cancel = None;
        }
    }
}

impl Peer {
    fn scope<'a>(&'a self, id: ClientId, timing: &'a Timing) -> Scope<'a> {
        Scope {
            id,
            to: &self.to,
            is_reliable: self.is_reliable,
            timing,
        }
    }

    /// Whether a message on this flow comes from where the request went.
    fn is_source(&self, flow: &Flow) -> bool {
        match &self.to {
            Destination::Flow(id) => flow.id == *id,
            Destination::Hop(hop) => flow.remote == hop.address && flow.transport == hop.transport,
        }
    }
}

impl Scope<'_> {
    /// Sends the request; its failure ends the transaction.
    pub(super) fn send_request(&self, fx: &mut Effects<'_>, message: &Bytes) {
        fx.output(Output::Send {
            to: self.to.clone(),
            message: message.clone(),
            report: Some(self.id),
        });
    }

    /// Sends what the transaction survives if it is lost.
    pub(super) fn send_unreported(&self, fx: &mut Effects<'_>, message: &Bytes) {
        fx.output(Output::Send {
            to: self.to.clone(),
            message: message.clone(),
            report: None,
        });
    }

    /// Arms a timer with its first value; `None` if that is zero.
    pub(super) fn arm(&self, fx: &mut Effects<'_>, letter: Letter) -> Option<TimerKey> {
        let after = first(self.timing, letter, self.is_reliable);
        (!after.is_zero()).then(|| fx.arm(after, Timer::Client(self.id, letter)))
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
            pause: first(self.timing, letter, self.is_reliable),
            timer,
        }))
    }

    /// Arms it as after the first sending.
    pub(super) fn restart(&self, fx: &mut Effects<'_>, letter: Letter, resend: &mut Resend) {
        resend.pause = first(self.timing, letter, self.is_reliable);
        resend.timer = fx.arm(resend.pause, Timer::Client(self.id, letter));
    }

    /// Arms it for the next time.
    pub(super) fn rearm(&self, fx: &mut Effects<'_>, letter: Letter, resend: &mut Resend) {
        resend.pause = next_pause(self.timing, letter, resend.pause);
        resend.timer = fx.arm(resend.pause, Timer::Client(self.id, letter));
    }
}
