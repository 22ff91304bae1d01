//! Schedules: phones, Asterisk, push services, the store and the network as models around the
//! gateway, in virtual time, with all that can go wrong decided by a seed.
//!
//! After each step of each schedule the invariants are checked (`invariants`). A seed that breaks
//! one is played again and told as a ladder. `make sim SEEDS=200000` plays as many (`FROM=` another first
//! one, `MOST=5` to list so many that fail), `make sim SEED=7` that one, `make sim SEED=7 FAULT=LostCancel` with a fault.

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

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
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

/// Plays seeds on all cores until as many have failed as are asked for; returns those, in order.
fn broken_ones(
    seeds: Range<u64>,
    most: usize,
    fault: Option<Fault>,
    counts: impl Fn(&Broken) -> bool + Sync,
) -> Vec<(u64, Broken)> {
    let next = AtomicU64::new(seeds.start);
    let all = Mutex::new(Vec::new());
    let stop = AtomicU64::new(u64::MAX);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || seed > stop.load(Ordering::Relaxed) {
                return;
            }
            if let Some(broken) = try_play(seed, fault).filter(&counts) {
                let mut all = all.lock().unwrap();
                all.push((seed, broken));
                if all.len() >= most {
                    stop.fetch_min(seed, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let mut all = all.into_inner().unwrap();
    all.sort_by_key(|(seed, _)| *seed);
    all
}

/// Fails with all that a reader needs.
fn fail(seed: u64, broken: &Broken, fault: Option<Fault>, others: &str) -> ! {
    let ladder = catch_unwind(AssertUnwindSafe(|| play(seed, fault, true)));
    let ladder = ladder.map_or_else(|_| String::new(), |outcome| outcome.ladder);
    let with = fault.map_or_else(String::new, |fault| format!(" FAULT={fault:?}"));
    panic!("{ladder}\n{broken}\n\nto see this again: make sim SEED={seed}{with}\n{others}");
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
            fail(seed, &broken, fault, "");
        }
        return;
    }
    let first = number("SIM_FROM").unwrap_or(0);
    let seeds = first..first + number("SIM_SEEDS").unwrap_or(SEEDS);
    let most = number("SIM_MOST").map_or(1, |most| usize::try_from(most).unwrap());
    let all = broken_ones(seeds, most, None, |_| true);
    if let Some(((seed, broken), others)) = all.split_first() {
        let others = others.iter();
        let others: String = others
            .map(|(seed, broken)| format!("{seed}: {broken}\n"))
            .collect();
        fail(*seed, broken, None, &others);
    }
}

#[test]
fn every_fault_is_caught_by_its_invariant() {
    for fault in Fault::ALL {
        let wanted = fault.is_caught_by();
        let is_it = |broken: &Broken| broken.invariant == wanted;
        let caught = broken_ones(0..SEEDS_TO_CATCH, 1, Some(fault), is_it);
        assert!(!caught.is_empty(), "{fault:?} is not caught by {wanted:?}");
    }
}
