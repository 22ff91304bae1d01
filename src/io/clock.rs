//! The clocks: the one place that reads them.
//!
//! `proto` takes the monotonic clock as an argument; durable times are wall-clock times. Both are
//! read here, and the pair that turns one into the other is read as one.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::proto::ClockAnchor;

/// The process's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Reads the monotonic clock.
    #[must_use]
    pub fn now() -> Instant {
        Instant::now()
    }

    /// Reads the wall clock, in milliseconds since the Unix epoch; 0 for a clock set before it.
    #[must_use]
    pub fn unix_ms() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            })
    }

    /// Reads the wall clock, in microseconds since the Unix epoch; 0 for a clock set before it.
    #[must_use]
    pub fn unix_us() -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
            })
    }

    /// Reads both clocks at one moment.
    #[must_use]
    pub fn anchor() -> ClockAnchor {
        ClockAnchor {
            instant: Self::now(),
            unix_ms: Self::unix_ms(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_past_2020_and_the_anchor_reads_both() {
        let before = Clock::now();
        let anchor = Clock::anchor();
        assert!(anchor.unix_ms > 1_577_836_800_000);
        assert!(anchor.instant >= before);
    }
}
