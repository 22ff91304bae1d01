//! When a sleeping device is asked to register again (RFC 8599 §5.5): early enough for several
//! tries, and never by a VoIP push.

use std::time::{Duration, Instant};

/// The first push comes this share of the registration's time before its end …
const SHARE: u32 = 10;
/// … but not later, and not earlier, than this (RFC 8599 §5.5 demands at least 120 s).
const LATEST_FIRST: Duration = Duration::from_secs(150);
const EARLIEST_FIRST: Duration = Duration::from_secs(900);
/// After this there is no time left for a device to come.
const LAST: Duration = Duration::from_secs(20);
/// The time that `+sip.pnsreg` promises, seconds before the end (RFC 8599 §4.1.4: over 120).
pub const PNSREG: u32 = 150;

/// When a binding that was registered at `since` until `expires` is pushed next, after `now`;
/// `None` if it is not pushed any more. Each wait is half of what is left.
#[must_use]
pub fn next(since: Instant, expires: Instant, now: Instant) -> Option<Instant> {
    let whole = expires.saturating_duration_since(since);
    let first = (whole / SHARE).clamp(LATEST_FIRST, EARLIEST_FIRST);
    if whole < first * 2 {
        return None;
    }
    let mut before = first;
    while before >= LAST {
        let at = expires.checked_sub(before)?;
        if at > now {
            return Some(at);
        }
        before /= 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_before_the_end(whole: u64) -> Vec<u64> {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let since = Instant::now();
        let expires = since + Duration::from_secs(whole);
        let mut all = Vec::new();
        let mut now = since;
        while let Some(at) = next(since, expires, now) {
            all.push(expires.duration_since(at).as_secs());
            now = at;
        }
        all
    }

    #[test]
    fn an_hour_is_refreshed_six_minutes_before_its_end_and_then_ever_sooner() {
        assert_eq!(seconds_before_the_end(3600), [360, 180, 90, 45, 22]);
        assert_eq!(seconds_before_the_end(86_400), [900, 450, 225, 112, 56, 28]);
        assert_eq!(seconds_before_the_end(600), [150, 75, 37]);
    }

    #[test]
    fn a_registration_too_short_for_it_is_not_refreshed_by_pushes() {
        assert!(seconds_before_the_end(299).is_empty());
        assert!(seconds_before_the_end(60).is_empty());
    }
}
