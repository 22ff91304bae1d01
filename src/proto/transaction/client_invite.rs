//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §8.4).
//!
//! ```text
//! Calling ──1xx──▶ Proceeding ──┬─ 2xx ──────▶ Accepted ──M──▶ Terminated
//!    A: send again, B: timeout  └─ 300-699 ──▶ Completed ──D──▶ Terminated
//! ```
//! The INVITE's bytes are kept while Timer A may send them again, then only what ACK and CANCEL
//! copy, then only the ACK. Over a reliable transport the INVITE is not kept at all.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::sip::Message;
use crate::proto::timer::{Letter, TimerKey};
use crate::proto::transaction::ClientEvent;
use crate::proto::transaction::client::{Answer, Scope};
use crate::proto::transaction::follow_up::FollowUp;
use crate::proto::transaction::timers::Resend;

/// The states of RFC 6026 §8.4.
#[derive(Debug)]
pub(super) enum ClientInvite {
    /// Sent, no response yet.
    Calling {
        follow_up: FollowUp,
        /// Timer A; `None` over a reliable transport.
        resend: Option<Box<Resend>>,
        timer_b: Option<TimerKey>,
    },
    /// A provisional response has come.
    Proceeding {
        follow_up: FollowUp,
        /// Armed with the CANCEL: how long the final response may take from there.
        timer_b: Option<TimerKey>,
    },
    /// A 300-699 has come and was acknowledged.
    Completed { ack: Bytes, timer_d: TimerKey },
    /// A 2xx has come; there may be more.
    Accepted { timer_m: TimerKey },
    /// Over.
    Terminated,
}

impl ClientInvite {
    /// Sends the INVITE.
    pub(super) fn start(fx: &mut Effects<'_>, scope: &Scope<'_>, invite: &Bytes) -> Self {
        scope.send_request(fx, invite);
        Self::Calling {
            follow_up: FollowUp::new(invite),
            resend: scope.arm_resend(fx, Letter::A, invite),
            timer_b: scope.arm(fx, Letter::B),
        }
    }

    /// Takes a response that matches.
    pub(super) fn handle_response(
        &mut self,
        fx: &mut Effects<'_>,
        scope: &Scope<'_>,
        status: u16,
        response: &Message,
    ) -> Answer {
        match std::mem::replace(self, Self::Terminated) {
            Self::Calling {
                follow_up,
                resend,
                timer_b,
            } => {
                cancel_resend(fx, resend);
                // Timer B ends the Calling state only (RFC 3261 §17.1.1.2).
                cancel(fx, timer_b);
                self.advance(fx, scope, follow_up, None, (status, response))
            }
            Self::Proceeding { follow_up, timer_b } => {
                self.advance(fx, scope, follow_up, timer_b, (status, response))
            }
            Self::Completed { ack, timer_d } => {
                let answer = match status {
                    // The ACK got lost, or the peer is impatient; RFC 3261 §17.1.1.2: it "MUST
                    // cause the ACK to be re-passed to the transport layer".
                    300.. => {
                        scope.send_unreported(fx, &ack);
                        Answer::Absorbed
                    }
                    // RFC 6026 §8.4 has no place for a 2xx in this state.
                    200..300 => Answer::Stray,
                    _ => Answer::Absorbed,
                };
                *self = Self::Completed { ack, timer_d };
                answer
            }
            Self::Accepted { timer_m } => {
                *self = Self::Accepted { timer_m };
                match status {
                    200..300 => Answer::Report(ClientEvent::Final),
                    _ => Answer::Absorbed,
                }
            }
            Self::Terminated => Answer::Stray,
        }
    }

    /// Fires a timer.
    pub(super) fn handle_timer(
        &mut self,
        fx: &mut Effects<'_>,
        scope: &Scope<'_>,
        letter: Letter,
    ) -> Option<ClientEvent> {
        match (letter, &mut *self) {
            (
                Letter::A,
                Self::Calling {
                    resend: Some(resend),
                    ..
                },
            ) => {
                scope.send_request(fx, &resend.message);
                scope.rearm(fx, Letter::A, resend);
                None
            }
            (Letter::B, Self::Calling { .. } | Self::Proceeding { .. }) => {
                self.end(fx);
                Some(ClientEvent::Timeout)
            }
            (Letter::D | Letter::M, _) => {
                self.end(fx);
                None
            }
            _ => None,
        }
    }

    /// Stops Timer A; Timer B runs on.
    pub(super) fn hush(&mut self, fx: &mut Effects<'_>) {
        if let Self::Calling { resend, .. } = self {
            cancel_resend(fx, resend.take());
        }
    }

    /// Sends the INVITE at once if it waits for longer than T1 to be sent again: its peer is known
    /// to listen from now on. Timer A starts anew, Timer B runs on.
    pub(super) fn send_again(&mut self, fx: &mut Effects<'_>, scope: &Scope<'_>) {
        if let Self::Calling {
            resend: Some(resend),
            ..
        } = self
            && resend.pause > scope.timing.t1
        {
            fx.cancel(resend.timer);
            scope.send_request(fx, &resend.message);
            scope.restart(fx, Letter::A, resend);
        }
    }

    /// Takes notice that the INVITE could not be sent (RFC 3261 §17.1.4).
    pub(super) fn handle_send_failed(&mut self, fx: &mut Effects<'_>) -> Option<ClientEvent> {
        match self {
            Self::Calling { .. } => {
                self.end(fx);
                Some(ClientEvent::TransportError)
            }
            // A response came: one copy arrived, whatever became of the others.
            Self::Proceeding { .. }
            | Self::Completed { .. }
            | Self::Accepted { .. }
            | Self::Terminated => None,
        }
    }

    /// Writes the CANCEL; `None` once a final response has come.
    pub(super) fn cancel_request(&self, reasons: &[&[u8]]) -> Option<Bytes> {
        match self {
            Self::Calling { follow_up, .. } | Self::Proceeding { follow_up, .. } => {
                Some(follow_up.cancel(reasons))
            }
            Self::Completed { .. } | Self::Accepted { .. } | Self::Terminated => None,
        }
    }

    /// Arms Timer B when the CANCEL goes out: RFC 3261 §9.1 gives the final response 64*T1.
    pub(super) fn on_cancel_sent(&mut self, fx: &mut Effects<'_>, scope: &Scope<'_>) {
        if let Self::Proceeding { timer_b, .. } = self
            && timer_b.is_none()
        {
            *timer_b = scope.arm(fx, Letter::B);
        }
    }

    /// Whether a provisional response has come and no final one.
    pub(super) fn is_proceeding(&self) -> bool {
        matches!(self, Self::Proceeding { .. })
    }

    /// Whether no final response has come.
    pub(super) fn awaits_final(&self) -> bool {
        matches!(self, Self::Calling { .. } | Self::Proceeding { .. })
    }

    /// Whether it is over.
    pub(super) fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated)
    }

    /// Ends it without a word.
    pub(super) fn end(&mut self, fx: &mut Effects<'_>) {
        match std::mem::replace(self, Self::Terminated) {
            Self::Calling {
                resend, timer_b, ..
            } => {
                cancel_resend(fx, resend);
                cancel(fx, timer_b);
            }
            Self::Proceeding { timer_b, .. } => cancel(fx, timer_b),
            Self::Completed { timer_d, .. } => fx.cancel(timer_d),
            Self::Accepted { timer_m } => fx.cancel(timer_m),
            Self::Terminated => {}
        }
    }

    /// Calling and Proceeding take a response alike.
    fn advance(
        &mut self,
        fx: &mut Effects<'_>,
        scope: &Scope<'_>,
        follow_up: FollowUp,
        timer_b: Option<TimerKey>,
        (status, response): (u16, &Message),
    ) -> Answer {
        if status < 200 {
            *self = Self::Proceeding { follow_up, timer_b };
            return Answer::Report(ClientEvent::Provisional);
        }
        cancel(fx, timer_b);
        if status < 300 {
            if let Some(timer_m) = scope.arm(fx, Letter::M) {
                *self = Self::Accepted { timer_m };
            }
            return Answer::Report(ClientEvent::Final);
        }
        let ack = follow_up.ack(response);
        scope.send_unreported(fx, &ack);
        // Over a reliable transport Timer D is zero: Terminated at once.
        if let Some(timer_d) = scope.arm(fx, Letter::D) {
            *self = Self::Completed { ack, timer_d };
        }
        Answer::Report(ClientEvent::Final)
    }
}

fn cancel(fx: &mut Effects<'_>, timer: Option<TimerKey>) {
    if let Some(timer) = timer {
        fx.cancel(timer);
    }
}

fn cancel_resend(fx: &mut Effects<'_>, resend: Option<Box<Resend>>) {
    if let Some(resend) = resend {
        fx.cancel(resend.timer);
    }
}
