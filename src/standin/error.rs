//! Why a phone or an Asterisk of ours did not get what it waited for.

use std::io;
use std::time::Duration;

/// A wait that failed. The text says what was awaited and what came instead.
#[derive(Debug, thiserror::Error)]
pub enum PhoneError {
    /// The far side sent something else, and it rules out what was awaited.
    #[error("waited for {awaited}, but got {instead}")]
    Instead {
        /// What was awaited.
        awaited: String,
        /// What came.
        instead: String,
    },
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// A request was refused.
    #[error("{request} was refused with {status} {reason}")]
    Refused {
        /// The request's method and target.
        request: String,
        /// The final status.
        status: u16,
        /// Its reason phrase.
        reason: String,
    },
    /// Nothing came in time.
    #[error("waited {within:?} for {awaited}; {seen}")]
    Timeout {
        /// What was awaited.
        awaited: String,
        /// For how long.
        within: Duration,
        /// What was heard meanwhile, in words.
        seen: String,
    },
    /// The socket is closed: the phone sleeps, or the far side closed the connection.
    #[error("waited for {awaited}, but the connection is closed")]
    Closed {
        /// What was awaited.
        awaited: String,
    },
}

impl PhoneError {
    /// Returns the status of a refusal.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Instead { .. } | Self::Io(_) | Self::Timeout { .. } | Self::Closed { .. } => None,
        }
    }
}
