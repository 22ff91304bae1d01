//! The value of every timer by its letter (RFC 3261 §17 and table 4, RFC 6026 §8.4 and §8.7).
//!
//! | Letter | first set to | then | reliable transport |
//! |---|---|---|---|
//! | A | T1 | doubles, no cap: B ends it | not used |
//! | B, F, H, L, M | 64*T1 | – | 64*T1 |
//! | D | 64*T1, at least 32 s | – | 0 |
//! | E, G | T1 | doubles up to T2 (E in Proceeding: T2) | not used |
//! | I, K | T4 | – | 0 |
//! | J | 64*T1 | – | 0 |

use std::time::Duration;

use bytes::Bytes;

use crate::proto::settings::Timing;
use crate::proto::timer::{Letter, TimerKey};

/// RFC 3261 §17.1.1.2: "with a value of at least 32 seconds for unreliable transports".
const TIMER_D_MINIMUM: Duration = Duration::from_secs(32);

/// A message that is sent again until it is answered. Boxed in the machines: few are in such a
/// state at a time, and all live ones would pay for the place.
#[derive(Debug)]
pub(super) struct Resend {
    pub(super) message: Bytes,
    /// The pause that is running.
    pub(super) pause: Duration,
    pub(super) timer: TimerKey,
}

/// Returns what a timer is first set to. Zero: it is not armed, and what it would end is over.
pub(super) fn first(timing: &Timing, letter: Letter, is_reliable: bool) -> Duration {
    let only_unreliable = |value| if is_reliable { Duration::ZERO } else { value };
    let timeout = timing.t1 * 64;
    match letter {
        Letter::A | Letter::E | Letter::G => only_unreliable(timing.t1),
        Letter::B | Letter::F | Letter::H | Letter::L | Letter::M => timeout,
        Letter::D => only_unreliable(timeout.max(TIMER_D_MINIMUM)),
        Letter::I | Letter::K => only_unreliable(timing.t4),
        Letter::J => only_unreliable(timeout),
    }
}

/// Returns the pause after this one, for the three letters that retransmit.
pub(super) fn next_pause(timing: &Timing, letter: Letter, pause: Duration) -> Duration {
    let doubled = pause.saturating_mul(2);
    if letter == Letter::A {
        doubled
    } else {
        doubled.min(timing.t2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        t1: Duration::from_millis(500),
        t2: Duration::from_secs(4),
        t4: Duration::from_secs(5),
        timer_c: Duration::from_secs(185),
    };

    fn millis(letter: Letter, is_reliable: bool) -> u128 {
        first(&TIMING, letter, is_reliable).as_millis()
    }

    #[test]
    fn every_letter_has_the_value_of_table_4() {
        let table = [
            (Letter::A, 500, 0),
            (Letter::B, 32_000, 32_000),
            (Letter::D, 32_000, 0),
            (Letter::E, 500, 0),
            (Letter::F, 32_000, 32_000),
            (Letter::G, 500, 0),
            (Letter::H, 32_000, 32_000),
            (Letter::I, 5_000, 0),
            (Letter::J, 32_000, 0),
            (Letter::K, 5_000, 0),
            (Letter::L, 32_000, 32_000),
            (Letter::M, 32_000, 32_000),
        ];
        for (letter, unreliable, reliable) in table {
            assert_eq!(millis(letter, false), unreliable, "{letter:?} over UDP");
            assert_eq!(millis(letter, true), reliable, "{letter:?} over TCP");
        }
    }

    #[test]
    fn timer_d_is_never_less_than_32_seconds() {
        let quick = Timing {
            t1: Duration::from_millis(10),
            ..TIMING
        };
        assert_eq!(first(&quick, Letter::D, false), TIMER_D_MINIMUM);
        let slow = Timing {
            t1: Duration::from_secs(1),
            ..TIMING
        };
        assert_eq!(first(&slow, Letter::D, false), Duration::from_secs(64));
    }

    #[test]
    fn a_doubles_without_a_cap_and_e_and_g_double_up_to_t2() {
        let pauses = |letter| {
            std::iter::successors(Some(TIMING.t1), |pause| {
                Some(next_pause(&TIMING, letter, *pause))
            })
            .take(6)
            .map(|pause| pause.as_millis())
            .collect::<Vec<_>>()
        };
        assert_eq!(pauses(Letter::A), [500, 1_000, 2_000, 4_000, 8_000, 16_000]);
        for letter in [Letter::E, Letter::G] {
            assert_eq!(pauses(letter), [500, 1_000, 2_000, 4_000, 4_000, 4_000]);
        }
    }
}
