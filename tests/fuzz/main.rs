//! What holds of any bytes at all: the corpus of each target, and changes of it made from a seed.
//!
//! `make fuzz` plays more of them; with cargo-fuzz and a nightly compiler it sees which of them are
//! new to the program (fuzz/). What either finds goes into tests/fuzz/corpus and is played for ever.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that fails shall stop where it fails, and say on what"
)]

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::time::Duration;

use rouse::io::clock::Clock;

use crate::mutate::Mutator;
use crate::targets::{TARGETS, Target};

/// Changed inputs of each target, without `FUZZ_SECONDS`.
const ROUNDS: u64 = 5_000;
/// Of the gateway, which plays an hour for each.
const GAMES: u64 = 1_000;

/// The inputs of a target, by their names.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let entries = std::fs::read_dir(folder.join(target)).expect("a corpus");
    let mut found: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, std::fs::read(entry.path()).expect("an input"))
        })
        .collect();
    found.sort();
    found
}

/// Runs a target on an input, and says which it was if it fails.
fn run(name: &str, target: Target, from: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let path = std::env::temp_dir().join(format!("rouse-fuzz-{name}"));
        let kept = std::fs::write(&path, input)
            .map_or_else(|error| error.to_string(), |()| path.display().to_string());
        eprintln!(
            "target {name} fails on {from}, kept as {kept}:\n{}",
            input.escape_ascii()
        );
        resume_unwind(panic);
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_input_of_the_corpus_passes() {
    for (name, target) in TARGETS {
        let inputs = corpus(name);
        assert!(inputs.len() >= 4, "{name} has a corpus");
        for (from, input) in inputs {
            run(name, target, &from, &input);
        }
    }
}

/// Changes the corpus until the rounds are played, or the seconds are over.
fn play(name: &str, rounds: u64) {
    let (_, target) = TARGETS
        .into_iter()
        .find(|known| known.0 == name)
        .expect("a target");
    let inputs: Vec<_> = corpus(name).into_iter().map(|(_, input)| input).collect();
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let seconds = number("FUZZ_SECONDS").map(Duration::from_secs);
    let start = Clock::now();
    let mut mutator = Mutator::new(seed);
    let mut round = 0;
    let goes_on = |round| match seconds {
        Some(seconds) => Clock::now().saturating_duration_since(start) < seconds,
        None => round < rounds,
    };
    while goes_on(round) {
        let input = mutator.next(&inputs);
        run(
            name,
            target,
            &format!("round {round} of seed {seed}"),
            &input,
        );
        round += 1;
    }
    eprintln!("{name}: {round} inputs");
}

#[test]
fn changed_messages_pass() {
    play("message", ROUNDS);
}

#[test]
fn changed_streams_pass() {
    play("framing", ROUNDS);
}

#[test]
fn changed_uris_pass() {
    play("uri", ROUNDS);
}

#[test]
fn changed_headers_pass() {
    play("header", ROUNDS);
}

#[test]
fn changed_configurations_pass() {
    play("config", ROUNDS / 4);
}

#[test]
fn changed_push_replies_pass() {
    play("push_reply", ROUNDS);
}

#[test]
fn changed_records_pass() {
    play("store_record", ROUNDS);
}

#[test]
fn changed_frames_pass() {
    play("websocket", ROUNDS);
}

#[test]
fn changed_games_pass() {
    play("gateway", GAMES);
}
