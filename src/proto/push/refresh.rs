//! When a sleeping device is asked to register again (RFC 8599 §5.5): early enough for several
//! tries, and never by a VoIP push.

use std::time::{Duration, Instant};

/// The first push comes this share of the registration's time before its end …
const SHARE: u32 = 10;
/// … but not later, and not earlier, than this (RFC 8599 §5.5 demands at least 120 s).
const LATEST_FIRST: Duration = Duration::from_secs(150);
const EARLIEST_FIRST: Duration = Duration::from_secs(900);
/// A device that refreshes by itself has this long before the end failed to.
const OVERDUE: Duration = Duration::from_secs(130);
/// A push this long before the end is the last that RFC 8599 §5.5 allows to wait for.
const LAST_CALL: Duration = Duration::from_secs(120);
/// The shortest registration, in seconds, that pushes keep.
pub const SHORTEST: u32 = 300;
/// After this there is no time left for a device to come.
const LAST: Duration = Duration::from_secs(20);
/// The time that `+sip.pnsreg` promises, seconds before the end (RFC 8599 §4.1.4: over 120).
pub const PNSREG: u32 = 150;

/// When a binding that was registered at `since` until `expires` is pushed next, after `now`;
/// `None` if it is not pushed any more. Each wait is half of what is left. `is_own` is whether its
/// device said that it refreshes by itself (`+sip.pnsreg`): it is pushed only when it did not.
#[must_use]
pub fn next(since: Instant, expires: Instant, now: Instant, is_own: bool) -> Option<Instant> {
    let whole = expires.saturating_duration_since(since);
    let first = first_before(whole)?;
    let mut before = if is_own { OVERDUE } else { first };
    while before >= LAST {
        let at = expires.checked_sub(before)?;
        if at > now {
            return Some(at);
        }
        before /= 2;
    }
    None
}

/// How long before the end of a registration of so much time a device is pushed that says nothing of
/// refreshing by itself; `None` if it is too short.
#[must_use]
pub fn first_before(whole: Duration) -> Option<Duration> {
    let is_kept = whole >= Duration::from_secs(SHORTEST.into());
    is_kept.then(|| (whole / SHARE).clamp(LATEST_FIRST, EARLIEST_FIRST))
}

/// Whether a push with so much time left is the last that comes early enough: a device that was told
/// that it will be pushed waits for it, awake or not (RFC 8599 §4.1.4, §5.5).
#[must_use]
pub fn is_last_call(left: Duration) -> bool {
    left >= LAST_CALL && left < LAST_CALL * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds_before_the_end(whole: u64, is_own: bool) -> Vec<u64> {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let since = Instant::now();
        let expires = since + Duration::from_secs(whole);
        let mut all = Vec::new();
        let mut now = since;
        while let Some(at) = next(since, expires, now, is_own) {
            all.push(expires.duration_since(at).as_secs());
            now = at;
        }
        all
    }

    #[test]
    fn an_hour_is_refreshed_six_minutes_before_its_end_and_then_ever_sooner() {
        assert_eq!(seconds_before_the_end(3600, false), [360, 180, 90, 45, 22]);
        assert_eq!(
            seconds_before_the_end(86_400, false),
            [900, 450, 225, 112, 56, 28]
        );
        assert_eq!(seconds_before_the_end(600, false), [150, 75, 37]);
    }

    #[test]
    fn a_registration_too_short_for_it_is_not_refreshed_by_pushes() {
        assert!(seconds_before_the_end(299, false).is_empty());
        assert!(seconds_before_the_end(60, false).is_empty());
    }

    #[test]
    fn a_device_that_refreshes_by_itself_is_pushed_only_when_it_is_overdue() {
        assert_eq!(seconds_before_the_end(3600, true), [130, 65, 32]);
        assert!(PNSREG > 130 && seconds_before_the_end(299, true).is_empty());
    }

    #[test]
    fn one_push_of_each_row_is_the_last_call() {
        for (whole, is_own) in [(3600, false), (86_400, false), (300, false), (3600, true)] {
            let all = seconds_before_the_end(whole, is_own);
            let last = |left: &&u64| is_last_call(Duration::from_secs(**left));
            assert_eq!(all.iter().filter(last).count(), 1, "{all:?}");
        }
    }
}
