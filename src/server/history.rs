//! The counters of the last quarter of an hour, for charts that someone opens after it went wrong.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::Duration;

use parking_lot::Mutex;

use crate::io::admin::Operator as _;
use crate::io::admin::view::{Sample, Summary};
use crate::server::console::Console;

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(5);
/// A quarter of an hour.
const MOST: usize = 180;

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<VecDeque<Sample>>);

impl Samples {
    fn add(&self, sample: Sample) {
        let mut samples = self.0.lock();
        while samples.len() >= MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(super) fn all(&self) -> Vec<Sample> {
        self.0.lock().iter().copied().collect()
    }
}

/// Takes samples for as long as there is a console.
pub(super) async fn keep(console: Weak<Console>) {
    let mut every = tokio::time::interval(EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(console) = console.upgrade() else {
            return;
        };
        let sample = sample(&console.summary());
        console.samples.add(sample);
    }
}

fn sample(summary: &Summary) -> Sample {
    Sample {
        at_ms: summary.now_ms,
        calls: summary.calls,
        wakes: summary.wakes.iter().map(|wakes| wakes.count).sum(),
        pushes: summary.pushes.iter().map(|pushes| pushes.count).sum(),
        devices_awake: summary.devices_awake,
        devices_asleep: summary.devices_asleep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_a_quarter_of_an_hour_is_kept() {
        let samples = Samples::default();
        for at_ms in 0..1000 {
            let sample = Sample {
                at_ms,
                ..Sample::default()
            };
            samples.add(sample);
        }
        let all = samples.all();
        assert_eq!((all.len(), all[0].at_ms, all[179].at_ms), (180, 820, 999));
    }
}
