//! The server transaction of every request but INVITE and ACK (RFC 3261 §17.2.2).
//!
//! ```text
//! Trying ──1xx──▶ Proceeding ──200-699──▶ Completed ──J──▶ Terminated
//! ```

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::timer::{Letter, TimerKey};
use crate::proto::transaction::server::Scope;

/// The states of RFC 3261 §17.2.2.
#[derive(Debug)]
pub(super) enum ServerNonInvite {
    /// No response yet.
    Trying,
    /// This provisional response was sent.
    Proceeding { provisional: Bytes },
    /// This final response was sent.
    Completed {
        final_response: Bytes,
        timer_j: TimerKey,
    },
    /// Over.
    Terminated,
}

impl ServerNonInvite {
    /// Takes a copy of the request.
    pub(super) fn handle_retransmission(&self, fx: &mut Effects<'_>, scope: &Scope<'_>) {
        match self {
            Self::Proceeding {
                provisional: response,
            }
            | Self::Completed {
                final_response: response,
                ..
            } => scope.send(fx, response),
            Self::Trying | Self::Terminated => {}
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
            Self::Trying | Self::Proceeding { .. } if status < 200 => {
                scope.send(fx, &response);
                *self = Self::Proceeding {
                    provisional: response,
                };
            }
            Self::Trying | Self::Proceeding { .. } => {
                scope.send(fx, &response);
                // Over a reliable transport Timer J is zero: Terminated at once.
                *self = scope
                    .arm(fx, Letter::J)
                    .map_or(Self::Terminated, |timer_j| Self::Completed {
                        final_response: response,
                        timer_j,
                    });
            }
            // RFC 3261 §17.2.2: "Any other final responses passed by the TU to the server
            // transaction MUST be discarded while in the "Completed" state."
            Self::Completed { .. } | Self::Terminated => {}
        }
    }

    /// Fires Timer J, the only one.
    pub(super) fn handle_timer(&mut self, fx: &mut Effects<'_>) {
        if let Self::Completed { timer_j, .. } = self {
            fx.cancel(*timer_j);
            *self = Self::Terminated;
        }
    }

    /// Whether its user owes a final response.
    pub(super) fn awaits_final(&self) -> bool {
        matches!(self, Self::Trying | Self::Proceeding { .. })
    }

    /// Whether it is over.
    pub(super) fn is_terminated(&self) -> bool {
        matches!(self, Self::Terminated)
    }
}
