//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §8.5).
//!
//! ```text
//! Proceeding ─┬─ 300-699 ─▶ Completed ──ACK──▶ Confirmed ──I──▶ Terminated
//!             │               G: send again, H: no ACK came ──▶ Terminated
//!             └─ 2xx ─────▶ Accepted ──L──▶ Terminated
//! ```
//! The 100 is the user's to send (the core does at once), so Proceeding may have no response yet.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::timer::{Letter, TimerKey};
use crate::proto::transaction::Received;
use crate::proto::transaction::server::Scope;
use crate::proto::transaction::timers::Resend;

/// The states of RFC 6026 §8.5.
#[derive(Debug)]
pub(super) enum ServerInvite {
    /// No final response yet.
    Proceeding {
        /// The latest provisional one.
        provisional: Option<Bytes>,
    },
    /// A 300-699 was sent and no ACK has come.
    Completed {
        final_response: Bytes,
        /// Timer G; `None` over a reliable transport.
        resend: Option<Box<Resend>>,
        timer_h: Option<TimerKey>,
    },
    /// The ACK has come; copies of it are absorbed.
    Confirmed { timer_i: TimerKey },
    /// A 2xx was sent; copies of the INVITE are absorbed.
    Accepted { timer_l: TimerKey },
    /// Over.
    Terminated,
}

impl ServerInvite {
    /// Begins with an INVITE that its user has.
    pub(super) fn new() -> Self {
        Self::Proceeding { provisional: None }
    }

    /// Takes a copy of the INVITE.
    pub(super) fn handle_retransmission(&self, fx: &mut Effects<'_>, scope: &Scope<'_>) {
        match self {
            Self::Proceeding {
                provisional: Some(response),
            }
            | Self::Completed {
                final_response: response,
                ..
            } => scope.send(fx, response),
            // Accepted: whoever sent the 2xx sends it again by itself (RFC 6026 §7.1).
            Self::Proceeding { provisional: None }
            | Self::Confirmed { .. }
            | Self::Accepted { .. }
            | Self::Terminated => {}
        }
    }

    /// Takes an ACK that matches.
    pub(super) fn handle_ack(&mut self, fx: &mut Effects<'_>, scope: &Scope<'_>) -> Received {
        match self {
            Self::Completed { .. } => {
                self.end(fx);
                // Over a reliable transport Timer I is zero: Terminated at once.
                if let Some(timer_i) = scope.arm(fx, Letter::I) {
                    *self = Self::Confirmed { timer_i };
                }
                Received::Acked
            }
            Self::Proceeding { .. } | Self::Confirmed { .. } => Received::Acked,
            // RFC 6026 §7.1: an ACK in the Accepted state is passed to the user.
            Self::Accepted { .. } | Self::Terminated => Received::Ack,
        }
    }

    /// Sends a response.
    pub(super) fn respond(
        &mut self,
        fx: &mut Effects<'_>,
        scope: &Scope<'_>,
        status: u16,
        response: Bytes,
    ) {
        match self {
            Self::Proceeding { provisional } if status < 200 => {
                scope.send(fx, &response);
                *provisional = Some(response);
            }
            Self::Proceeding { .. } => {
                scope.send(fx, &response);
                *self = if status < 300 {
                    scope
                        .arm(fx, Letter::L)
                        .map_or(Self::Terminated, |timer_l| Self::Accepted { timer_l })
                } else {
                    Self::Completed {
                        resend: scope.arm_resend(fx, Letter::G, &response),
                        timer_h: scope.arm(fx, Letter::H),
                        final_response: response,
                    }
                };
            }
            // RFC 3261 §16.7 step 5: a 2xx to an INVITE goes up "after a final response has been
            // sent on the server transaction" too; RFC 6026 §7.1: copies of a 2xx pass.
            Self::Completed { .. } | Self::Confirmed { .. } | Self::Accepted { .. } => {
                if (200..300).contains(&status) {
                    scope.send(fx, &response);
                }
            }
            Self::Terminated => {}
        }
    }

    /// Fires a timer.
    pub(super) fn handle_timer(&mut self, fx: &mut Effects<'_>, scope: &Scope<'_>, letter: Letter) {
        match (letter, &mut *self) {
            (
                Letter::G,
                Self::Completed {
                    resend: Some(resend),
                    ..
                },
            ) => {
                scope.send(fx, &resend.message);
                scope.rearm(fx, Letter::G, resend);
            }
            (Letter::H | Letter::I | Letter::L, _) => self.end(fx),
            _ => {}
        }
    }

    /// Whether its user owes a final response.
    pub(super) fn awaits_final(&self) -> bool {
        matches!(self, Self::Proceeding { .. })
    }

    /// Whether it is over.
    pub(super) fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated)
    }

    fn end(&mut self, fx: &mut Effects<'_>) {
        match std::mem::replace(self, Self::Terminated) {
            Self::Completed {
                resend, timer_h, ..
            } => {
                if let Some(resend) = resend {
                    fx.cancel(resend.timer);
                }
                if let Some(timer_h) = timer_h {
                    fx.cancel(timer_h);
                }
            }
            Self::Confirmed { timer_i: timer } | Self::Accepted { timer_l: timer } => {
                fx.cancel(timer);
            }
            Self::Proceeding { .. } | Self::Terminated => {}
        }
    }
}
