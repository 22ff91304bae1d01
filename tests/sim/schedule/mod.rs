//! Schedules: phones, Asterisk, push services, the store and the network as models around the
//! gateway, in virtual time, with all that can go wrong decided by a seed.
//!
//! After each step of each schedule the invariants are checked (`invariants`). A seed that breaks
//! one is played again and told as a ladder. `make sim SEEDS=200000` plays as many, `make sim SEED=7`
//! that one, `make sim SEED=7 FAULT=LostCancel` with a fault.

mod asterisk;
mod cast;
mod chance;
mod dialog;
mod endpoint;
mod faults;
mod invariants;
mod ladder;
mod network;
mod phone;
mod plan;
mod play;
mod record;
mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use faults::Fault;
use invariants::{Broken, Invariant};
use play::{Outcome, play};

/// How many are played without further ado.
const SEEDS: u64 = 20_000;
/// How many a fault may take to be caught.
const SEEDS_TO_CATCH: u64 = 6_000;

/// Plays one, and takes a panic for what it is.
fn try_play(seed: u64, fault: Option<Fault>) -> Option<Broken> {
    let outcome = catch_unwind(AssertUnwindSafe(|| play(seed, fault, false)));
    match outcome {
        Ok(Outcome { broken, .. }) => broken,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(Broken {
                invariant: Invariant::NoPanic,
                what: text.unwrap_or("it panicked").to_owned(),
            })
        }
    }
}

/// Plays seeds on all cores until one fails; returns the first of those that did.
fn first_broken(
    seeds: u64,
    fault: Option<Fault>,
    counts: impl Fn(&Broken) -> bool + Sync,
) -> Option<(u64, Broken)> {
    let next = AtomicU64::new(0);
    let stop = AtomicU64::new(u64::MAX);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let found = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds || seed > stop.load(Ordering::Relaxed) {
                            return None;
                        }
                        if let Some(broken) = try_play(seed, fault).filter(&counts) {
                            stop.fetch_min(seed, Ordering::Relaxed);
                            return Some((seed, broken));
                        }
                    }
                })
            })
            .collect();
        let found = workers
            .into_iter()
            .filter_map(|worker| worker.join().unwrap());
        found.collect::<Vec<_>>()
    });
    found.into_iter().min_by_key(|(seed, _)| *seed)
}

/// Fails with all that a reader needs.
fn fail(seed: u64, broken: &Broken, fault: Option<Fault>) -> ! {
    let ladder = catch_unwind(AssertUnwindSafe(|| play(seed, fault, true)));
    let ladder = ladder.map_or_else(|_| String::new(), |outcome| outcome.ladder);
    let with = fault.map_or_else(String::new, |fault| format!(" FAULT={fault:?}"));
    panic!("{ladder}\n{broken}\n\nto see this again: make sim SEED={seed}{with}\n");
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn named_fault() -> Option<Fault> {
    let name = std::env::var("SIM_FAULT").ok()?;
    let fault = Fault::ALL
        .into_iter()
        .find(|fault| format!("{fault:?}") == name);
    Some(fault.unwrap_or_else(|| panic!("one of {:?}", Fault::ALL)))
}

#[test]
fn no_schedule_breaks_an_invariant() {
    if let Some(seed) = number("SIM_SEED") {
        let fault = named_fault();
        if let Some(broken) = try_play(seed, fault) {
            fail(seed, &broken, fault);
        }
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    if let Some((seed, broken)) = first_broken(seeds, None, |_| true) {
        fail(seed, &broken, None);
    }
}

#[test]
fn every_fault_is_caught_by_its_invariant() {
    for fault in Fault::ALL {
        let wanted = fault.is_caught_by();
        let is_it = |broken: &Broken| broken.invariant == wanted;
        let caught = first_broken(SEEDS_TO_CATCH, Some(fault), is_it);
        assert!(caught.is_some(), "{fault:?} is not caught by {wanted:?}");
    }
}
