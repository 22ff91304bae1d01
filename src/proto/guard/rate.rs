//! Rates by one instant per key: the generic cell rate algorithm (a leaky bucket that needs no
//! timer).
//!
//! What is kept is when the bucket will be empty again. It may be as far away as `burst` intervals.

use std::hash::Hash;
use std::time::Instant;

use crate::proto::guard::aged::Aged;
use crate::proto::settings::Rate;

/// Takes one from a bucket that is empty at `empty_at`: the instant to keep, or `None` if that is
/// too much.
pub(super) fn take(rate: Rate, now: Instant, empty_at: Option<Instant>) -> Option<Instant> {
    let next = empty_at.map_or(now, |at| at.max(now)) + rate.interval;
    (next.duration_since(now) <= rate.interval * rate.burst.max(1)).then_some(next)
}

/// Buckets by key, of bounded number.
#[derive(Debug)]
pub(super) struct Buckets<K> {
    rate: Rate,
    empty_at: Aged<K, Instant>,
}

impl<K: Eq + Hash + Copy> Buckets<K> {
    pub(super) fn new(rate: Rate, entries: usize) -> Self {
        Self {
            rate,
            empty_at: Aged::new(entries),
        }
    }

    /// Takes one from a key's bucket; `false` if that is too much.
    pub(super) fn take(&mut self, now: Instant, key: K) -> bool {
        let next = take(self.rate, now, self.empty_at.find(&key));
        if let Some(next) = next {
            self.empty_at.put(key, next);
        }
        next.is_some()
    }

    /// Whether a key's bucket has room for one.
    pub(super) fn has_room(&self, now: Instant, key: K) -> bool {
        take(self.rate, now, self.empty_at.find(&key)).is_some()
    }

    /// Empties a key's bucket.
    pub(super) fn forgive(&mut self, key: K) {
        self.empty_at.forget(&key);
    }

    /// Changes the rate of all.
    pub(super) fn change(&mut self, rate: Rate) {
        self.rate = rate;
    }

    pub(super) fn count(&self) -> usize {
        self.empty_at.count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_one_in_each_interval() {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let mut now = Instant::now();
        let rate = Rate {
            burst: 5,
            interval: Duration::from_millis(100),
        };
        let mut buckets = Buckets::new(rate, 10);
        assert_eq!((0..20).filter(|_| buckets.take(now, 1)).count(), 5);
        assert!(buckets.take(now, 2), "another key");
        now += Duration::from_millis(100);
        assert!(buckets.take(now, 1) && !buckets.take(now, 1));
        now += Duration::from_millis(250);
        assert_eq!((0..20).filter(|_| buckets.take(now, 1)).count(), 2);
        now += Duration::from_secs(3600);
        assert_eq!((0..20).filter(|_| buckets.take(now, 1)).count(), 5);
        assert!(!buckets.has_room(now, 1));
        buckets.forgive(1);
        assert!(buckets.has_room(now, 1));
    }
}
