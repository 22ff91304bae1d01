//! The client transaction of every request but INVITE (RFC 3261 §17.1.2): also that of a CANCEL.
//!
//! ```text
//! Trying ──1xx──▶ Proceeding ──200-699──▶ Completed ──K──▶ Terminated
//!    E: send again (T1 doubling up to T2; in Proceeding T2), F: timeout
//! ```

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::timer::{Letter, TimerKey};
use crate::proto::transaction::ClientEvent;
use crate::proto::transaction::client::{Answer, Scope};
use crate::proto::transaction::timers::Resend;

/// The states of RFC 3261 §17.1.2.2.
#[derive(Debug)]
pub(super) enum ClientNonInvite {
    /// Sent, no response yet.
    Trying(Waiting),
    /// A provisional response has come.
    Proceeding(Waiting),
    /// A final response has come.
    Completed { timer_k: TimerKey },
    /// Over.
    Terminated,
}

/// What waits for a final response.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Timer E; `None` over a reliable transport.
    resend: Option<Box<Resend>>,
    timer_f: Option<TimerKey>,
}

impl ClientNonInvite {
    /// Sends the request.
    pub(super) fn start(fx: &mut Effects<'_>, scope: &Scope<'_>, request: &Bytes) -> Self {
        scope.send_request(fx, request);
        Self::Trying(Waiting {
            resend: scope.arm_resend(fx, Letter::E, request),
            timer_f: scope.arm(fx, Letter::F),
        })
    }

    /// Takes a response that matches.
    pub(super) fn handle_response(
        &mut self,
        fx: &mut Effects<'_>,
        scope: &Scope<'_>,
        status: u16,
    ) -> Answer {
        match std::mem::replace(self, Self::Terminated) {
            // Timer E goes on as it is set: only its next pause is T2.
            Self::Trying(waiting) | Self::Proceeding(waiting) if status < 200 => {
                *self = Self::Proceeding(waiting);
                Answer::Report(ClientEvent::Provisional)
            }
            Self::Trying(waiting) | Self::Proceeding(waiting) => {
                waiting.end(fx);
                // Over a reliable transport Timer K is zero: Terminated at once.
                if let Some(timer_k) = scope.arm(fx, Letter::K) {
                    *self = Self::Completed { timer_k };
                }
                Answer::Report(ClientEvent::Final)
            }
            Self::Completed { timer_k } => {
                *self = Self::Completed { timer_k };
                Answer::Absorbed
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
            (Letter::E, Self::Trying(waiting)) => {
                if let Some(resend) = &mut waiting.resend {
                    scope.send_request(fx, &resend.message);
                    scope.rearm(fx, Letter::E, resend);
                }
                None
            }
            (Letter::E, Self::Proceeding(waiting)) => {
                if let Some(resend) = &mut waiting.resend {
                    scope.send_request(fx, &resend.message);
                    resend.pause = scope.timing.t2;
                    scope.rearm(fx, Letter::E, resend);
                }
                None
            }
            (Letter::F, Self::Trying(_) | Self::Proceeding(_)) => {
                self.end(fx);
                Some(ClientEvent::Timeout)
            }
            (Letter::K, Self::Completed { .. }) => {
                self.end(fx);
                None
            }
            _ => None,
        }
    }

    /// Takes notice that the request could not be sent (RFC 3261 §17.1.4).
    pub(super) fn handle_send_failed(&mut self, fx: &mut Effects<'_>) -> Option<ClientEvent> {
        match self {
            Self::Trying(_) | Self::Proceeding(_) => {
                self.end(fx);
                Some(ClientEvent::TransportError)
            }
            Self::Completed { .. } | Self::Terminated => None,
        }
    }

    /// Whether it is over.
    pub(super) fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated)
    }

    /// Ends it without a word.
    pub(super) fn end(&mut self, fx: &mut Effects<'_>) {
        match std::mem::replace(self, Self::Terminated) {
            Self::Trying(waiting) | Self::Proceeding(waiting) => waiting.end(fx),
            Self::Completed { timer_k } => fx.cancel(timer_k),
            Self::Terminated => {}
        }
    }
}

impl Waiting {
    fn end(self, fx: &mut Effects<'_>) {
        if let Some(resend) = self.resend {
            fx.cancel(resend.timer);
        }
        if let Some(timer_f) = self.timer_f {
            fx.cancel(timer_f);
        }
    }
}
