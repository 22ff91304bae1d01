//! Calls at rates that change, and what became of those of each second.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{DRAIN, Load, Stage};

/// What became of the calls of one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Second {
    /// So many began.
    pub sent: u64,
    /// Of these, answered and ended.
    pub done: u64,
    /// Refused with an answer.
    pub refused: u64,
    /// The server's seconds of CPU.
    pub cpu: f64,
}

impl Load {
    /// Calls agents at each of these rates for so many seconds; `cpu` is the server's so far.
    pub fn surge(
        &mut self,
        users: Range<usize>,
        rates: &[(f64, usize)],
        cpu: impl Fn() -> f64,
    ) -> Result<Vec<Second>> {
        self.begin();
        let mut seconds = Vec::new();
        let mut state = 88_172_645_463_325_252_u64;
        let started = Instant::now();
        let mut begun = started;
        let mut before = cpu();
        for rate in rates
            .iter()
            .flat_map(|(rate, seconds)| vec![*rate; *seconds])
        {
            let first = self.calls.len();
            while begun.elapsed() < Duration::from_secs(1) {
                let due = (begun.elapsed().as_secs_f64() * rate) as usize;
                for _ in self.calls.len() - first..due.min(self.calls.len() - first + 64) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    self.start_call(users.start + (state as usize) % users.len())?;
                }
                self.step(Duration::from_millis(1), None)?;
            }
            begun += Duration::from_secs(1);
            let after = cpu();
            seconds.push(((first..self.calls.len()), after - before));
            before = after;
        }
        let end = Instant::now() + DRAIN;
        while Instant::now() < end && self.tally.done + self.tally.failed() < self.tally.sent {
            self.step(Duration::from_millis(1), None)?;
        }
        let became = seconds.into_iter().map(|(calls, cpu)| {
            let calls = self.calls.get(calls).unwrap_or_default();
            let count = |stage| calls.iter().filter(|call| call.stage == stage).count() as u64;
            Second {
                sent: calls.len() as u64,
                done: count(Stage::Done),
                refused: count(Stage::Failed),
                cpu,
            }
        });
        Ok(became.collect())
    }
}
