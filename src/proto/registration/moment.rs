//! An instant in eight bytes, where there are millions of them.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The first instant that this process packed: what the others are counted from.
static ORIGIN: OnceLock<Instant> = OnceLock::new();
/// The count of that one: others may be before it.
const MIDDLE: u64 = 1 << 63;

/// An instant, to the nanosecond, within 290 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let origin = *ORIGIN.get_or_init(|| at);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let count = match at.checked_duration_since(origin) {
            Some(after) => MIDDLE.saturating_add(nanos(after)),
            None => MIDDLE.saturating_sub(nanos(origin.saturating_duration_since(at))),
        };
        Self(NonZeroU64::new(count).unwrap_or(NonZeroU64::MIN))
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let count = moment.0.get();
        #[expect(
            clippy::expect_used,
            reason = "whoever packed this moment has set the origin"
        )]
        let origin = ORIGIN.get().expect("there is no moment before the first");
        let (after, before) = (count.saturating_sub(MIDDLE), MIDDLE.saturating_sub(count));
        let at = *origin + Duration::from_nanos(after);
        at.checked_sub(Duration::from_nanos(before)).unwrap_or(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_comes_back_exactly_and_in_order() {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let start = Instant::now();
        let later = [0, 1, 999_999_999, 1 << 40, 1 << 60].map(Duration::from_nanos);
        let instants = later.map(|later| start + later);
        let moments = instants.map(Moment::from);
        assert!(moments.is_sorted());
        assert_eq!(moments.map(Instant::from), instants);
        let earlier = start.checked_sub(Duration::from_nanos(12_345)).unwrap();
        assert!(Moment::from(earlier) < moments[0]);
        assert_eq!(Instant::from(Moment::from(earlier)), earlier);
        assert_eq!(size_of::<Option<Moment>>(), 8);
    }
}
