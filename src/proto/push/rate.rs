//! How often a device is pushed (RFC 8599 §13: a push costs battery, and may be made to).
//!
//! Each device has a minute's worth of pushes that fills up again as time passes. Calls may use all
//! of it, everything else only the upper half: who is called a lot still is.
//! Invariant: as many entries are kept as devices were pushed lately, twice over at most.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ahash::RandomState;

use crate::proto::AppId;

/// The time in which an empty budget is full again.
const REFILL: Duration = Duration::from_secs(60);
/// So many entries are worth no look at which of them are full again.
const FEW: usize = 1024;

/// The budgets of a shard's devices.
#[derive(Debug)]
pub struct Budget {
    per_minute: u32,
    /// By device: when its budget is full again.
    full_at: HashMap<AppId, Instant, RandomState>,
    look_at: usize,
}

impl Budget {
    /// Full budgets of so many pushes.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self {
            per_minute: per_minute.max(1),
            full_at: HashMap::default(),
            look_at: FEW,
        }
    }

    /// Changes how many a minute brings; what is spent stays spent.
    pub fn set_per_minute(&mut self, per_minute: u32) {
        self.per_minute = per_minute.max(1);
    }

    /// Takes one push from a device's budget.
    ///
    /// # Errors
    /// When there will be one.
    pub fn take(&mut self, now: Instant, device: AppId, is_call: bool) -> Result<(), Duration> {
        if self.full_at.len() >= self.look_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.look_at = FEW.max(self.full_at.len() * 2);
        }
        let full_at = self.full_at.get(&device).copied().unwrap_or(now).max(now);
        let one = REFILL / self.per_minute;
        // What is spent is the time until it is full again.
        let share = if is_call { REFILL } else { REFILL / 2 };
        let spent = full_at.saturating_duration_since(now) + one;
        if spent > share.max(one) {
            return Err(spent - share.max(one));
        }
        self.full_at.insert(device, full_at + one);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Instant {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        Instant::now()
    }

    #[test]
    fn calls_have_twice_what_all_else_has() {
        let (mut budget, now, device) = (Budget::new(20), start(), AppId(1));
        let quiet = (0..30).filter(|_| budget.take(now, device, false).is_ok());
        assert_eq!(quiet.count(), 10);
        let calls = (0..30).filter(|_| budget.take(now, device, true).is_ok());
        assert_eq!(calls.count(), 10);
        assert_eq!(budget.take(now, device, true), Err(Duration::from_secs(3)));
        assert_eq!(budget.take(now, AppId(2), true), Ok(()), "another device");
        let later = now + Duration::from_secs(3);
        assert_eq!(budget.take(later, device, true), Ok(()));
        assert!(budget.take(later, device, true).is_err());
        let full = later + REFILL;
        let calls = (0..30).filter(|_| budget.take(full, device, true).is_ok());
        assert_eq!(calls.count(), 20);
    }

    #[test]
    fn the_first_push_of_a_device_always_goes() {
        for per_minute in [0, 1, 2] {
            for is_call in [false, true] {
                let mut budget = Budget::new(per_minute);
                assert_eq!(budget.take(start(), AppId(1), is_call), Ok(()));
            }
        }
    }

    #[test]
    fn devices_that_were_not_pushed_lately_are_forgotten() {
        let (mut budget, mut now) = (Budget::new(20), start());
        for number in 0..100_000 {
            now += Duration::from_millis(10);
            assert_eq!(budget.take(now, AppId(number), true), Ok(()));
        }
        // Each one's budget is full again after 3 s, so that 300 are not at a time.
        assert!(budget.full_at.len() <= FEW);
    }
}
