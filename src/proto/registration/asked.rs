//! Which of an agent's REGISTERs counts when they overtake each other (RFC 3261 §10.3).

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use crate::proto::aor::user_hash;

/// As long a copy of a REGISTER may be under way: Timer F, 64*T1 (RFC 3261 §17.1.2.2).
const STRAYS: Duration = Duration::from_secs(32);

/// A REGISTER among those of its agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// When it arrived; since a restart, when that was.
    pub at: Instant,
    /// Its Call-ID and CSeq; `None` since a restart.
    pub number: Option<Number>,
}

/// A request's CSeq, and half of its Call-ID's hash: what tells REGISTERs of a phone apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(NonZeroU64);

impl Number {
    /// The number of a request.
    #[must_use]
    pub fn of(call_id: &[u8], cseq: u32) -> Self {
        Self(NonZeroU64::MIN | u64::from(user_hash(call_id)) | u64::from(cseq) << 32)
    }

    const fn call(self) -> u32 {
        self.0.get() as u32
    }

    const fn cseq(self) -> u32 {
        (self.0.get() >> 32) as u32
    }
}

impl Asked {
    /// Whether it counts more than another of the same agent, though it is answered earlier. RFC
    /// 3261 §10.3 has them processed in the order in which they are received, and those of one
    /// Call-ID by their CSeq; which goes for copies alone, lest an app that counts anew with the
    /// same Call-ID be deaf.
    #[must_use]
    pub fn is_after(self, other: Self) -> bool {
        let apart = self.at.saturating_duration_since(other.at)
            + other.at.saturating_duration_since(self.at);
        match (self.number, other.number) {
            (Some(own), Some(other))
                if own.call() == other.call() && own != other && apart < STRAYS =>
            {
                own.cseq() > other.cseq()
            }
            _ => self.at > other.at,
        }
    }
}
