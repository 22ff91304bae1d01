//! What a call, a REGISTER and a wake may allocate: the same counts on every machine.
//!
//! `bench/cost` plays them, and counts their instructions. Lower a ceiling when a count falls.

#![expect(
    clippy::expect_used,
    reason = "a test crate: what goes wrong must stop the test"
)]

use play::{Crowd, Meter, Stage};

#[path = "../../bench/cost/play.rs"]
mod play;

/// Agents on so many flows, as `bench/load` has them.
const CROWD: Crowd = Crowd {
    agents: 1000,
    flows: 100,
};
/// Tables and queues grow now and then: their share is small in so many.
const TIMES: u64 = 400;

/// Counts allocations.
#[derive(Default)]
struct Allocations(u64);

impl Meter for Allocations {
    fn count(&mut self, work: &mut dyn FnMut()) {
        self.0 += allocation_counter::measure(work).count_total;
    }
}

#[track_caller]
fn assert_at_most(
    ceiling: u64,
    begin: fn(&mut Stage<Allocations>),
    unit: fn(&mut Stage<Allocations>),
) {
    let mut stage = Stage::new(CROWD, Allocations::default());
    begin(&mut stage);
    for _ in 0..TIMES {
        unit(&mut stage);
    }
    let each = stage.into_meter().0 / TIMES;
    assert!(
        each <= ceiling,
        "{each} allocations, and {ceiling} are allowed"
    );
}

#[test]
fn a_call_allocates_little() {
    assert_at_most(CALL, |_| {}, Stage::call);
}

#[test]
fn a_register_allocates_little() {
    assert_at_most(REGISTER, |_| {}, Stage::register);
    assert_at_most(REFRESH, |_| {}, Stage::refresh);
}

#[test]
fn a_wake_allocates_little() {
    assert_at_most(WAKE, Stage::sleep, Stage::wake);
}

const CALL: u64 = 1;
const REGISTER: u64 = 1;
const REFRESH: u64 = 1;
const WAKE: u64 = 1;
