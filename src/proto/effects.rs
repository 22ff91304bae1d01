//! What a leaf state machine is lent to act with: the time, the timers, randomness, the outputs.
//!
//! Leaf machines own no queue and return no outputs; they write into what they are lent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

use crate::proto::timer::{Timer, TimerKey, TimerQueue};
use crate::proto::{Event, Output};

/// The effects of one input.
#[derive(Debug)]
pub struct Effects<'g> {
    /// The time of the input.
    pub now: Instant,
    /// Wall-clock time of the input, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The shard's timers.
    pub timers: &'g mut TimerQueue,
    /// Randomness for branches, tags and identifiers, seeded from outside.
    pub rng: &'g mut StdRng,
    /// The outputs, oldest first.
    pub outputs: &'g mut VecDeque<Output>,
}

impl Effects<'_> {
    /// Arms a timer `after` from now.
    pub fn arm(&mut self, after: Duration, timer: Timer) -> TimerKey {
        self.timers.arm_after(self.now, after, timer)
    }

    /// Cancels a timer.
    pub fn cancel(&mut self, key: TimerKey) {
        self.timers.cancel(key);
    }

    /// Appends an output.
    pub fn output(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Reports something that an operator counts or reads.
    pub fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Returns 64 random bits.
    pub fn random(&mut self) -> u64 {
        self.rng.next_u64()
    }
}
