//! kill -9: what was acknowledged is there. The test binary starts itself again as the process that
//! is killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rand::RngExt;
use rouse::io::store::{Store, StoreConfig};
use rouse::proto::StoreWrite;

use crate::support::{FAR, Running, SMALL, binding, contents, directory, key};

const PATH: &str = "ROUSE_STORE_CRASH_PATH";
const FIRST: &str = "ROUSE_STORE_CRASH_FIRST";
const STORES: u64 = 6;
const ROUNDS: u64 = 5;
/// Each round names its bindings from a number of its own.
const ROUND: u64 = 1_000_000;

/// How far a binding has come; each step is asked for after the one before is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Put,
    Extended,
    Removed,
}

/// What the writing process does with the n-th binding.
fn steps(number: u64) -> &'static [Step] {
    match number % 8 {
        0 => &[Step::Put, Step::Removed],
        1 | 2 => &[Step::Put, Step::Extended],
        3 => &[Step::Put, Step::Extended, Step::Removed],
        _ => &[Step::Put],
    }
}

fn write(step: Step, number: u64) -> StoreWrite {
    match step {
        Step::Put => StoreWrite::Put(Box::new(binding(number))),
        Step::Extended => StoreWrite::Extend {
            key: key(number),
            expires_unix: FAR + 1,
            registered_ms: 1,
        },
        Step::Removed => StoreWrite::Remove(key(number)),
    }
}

/// Not a test of its own: the process that writes until it is killed.
#[test]
fn the_process_that_is_killed() {
    let (Ok(path), Ok(first)) = (std::env::var(PATH), std::env::var(FIRST)) else {
        return;
    };
    let first: u64 = first.parse().unwrap();
    let opened = Store::open_sized(StoreConfig::new(path), SMALL).unwrap();
    let (sender, acknowledged) = channel();
    let store = opened
        .start(move |ticket, durable| {
            sender.send((ticket.number, durable)).unwrap();
        })
        .unwrap();
    let submit = |step, number: u64| {
        let ticket = rouse::proto::StoreTicket {
            shard: 0,
            number: number * 4 + step as u64,
            is_awaited: false,
        };
        store.submit(Some(ticket), write(step, number)).unwrap();
    };
    for number in first..first + 32 {
        submit(Step::Put, number);
    }
    let mut next = first + 32;
    let mut out = std::io::stdout();
    for (ticket, durable) in acknowledged {
        assert!(durable);
        let (number, step) = (ticket / 4, ticket % 4);
        writeln!(out, "acknowledged {number} {step}").unwrap();
        out.flush().unwrap();
        let following = steps(number)
            .iter()
            .find(|following| **following as u64 > step);
        if let Some(following) = following {
            submit(*following, number);
        } else {
            submit(Step::Put, next);
            next += 1;
        }
    }
}

fn start(path: &Path, first: u64) -> (Child, Receiver<(u64, Step)>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::the_process_that_is_killed",
            "--nocapture",
        ])
        .env(PATH, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in output.lines() {
            let line = line.unwrap();
            // A line that the kill cut off was not read by anybody.
            let mut words = line.split(' ').rev();
            let step = match words.next() {
                Some("0") => Step::Put,
                Some("1") => Step::Extended,
                Some("2") => Step::Removed,
                _ => continue,
            };
            let number = words.next().and_then(|word| word.parse().ok());
            if let (Some(number), Some("acknowledged")) = (number, words.next()) {
                sender.send((number, step)).unwrap();
            }
        }
    });
    (child, receiver)
}

/// Kills at a random moment: the time passes waiting for what never comes.
fn kill_within(child: &mut Child, most: Duration) {
    let life = rand::rng().random_range(Duration::ZERO..most);
    let (_never, moment) = channel::<()>();
    moment.recv_timeout(life).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Checks one binding against how far it is known to have come; the step after that may have
/// happened or not.
fn check(
    number: u64,
    known: Step,
    held: Option<&rouse::proto::registration::binding::StoredBinding>,
) {
    let next = steps(number).iter().find(|step| **step > known).copied();
    let Some(held) = held else {
        assert!(
            known == Step::Removed || next == Some(Step::Removed),
            "binding {number} was acknowledged and is lost"
        );
        return;
    };
    assert_ne!(known, Step::Removed, "binding {number} was removed");
    let mut expected = binding(number);
    let is_extended = held.expires_unix == FAR + 1;
    if is_extended {
        expected.expires_unix = FAR + 1;
        expected.registered_ms = 1;
        assert!(known == Step::Extended || next == Some(Step::Extended));
    } else {
        assert_eq!(known, Step::Put, "binding {number} lost its extension");
    }
    assert_eq!(*held, expected);
}

#[test]
fn every_acknowledged_write_survives_kill_9_at_a_random_moment() {
    // A few stores, each killed again and again: loading what has gathered takes its time.
    let acknowledged: usize = (0..STORES).map(|_| kill_again_and_again()).sum();
    assert!(acknowledged > 500, "too few writes to say anything");
    writeln!(
        std::io::stderr(),
        "{} kills, {acknowledged} acknowledged bindings, none lost",
        STORES * ROUNDS
    )
    .unwrap();
}

fn kill_again_and_again() -> usize {
    let directory = directory();
    let mut known: BTreeMap<u64, Step> = BTreeMap::new();
    for round in 0..ROUNDS {
        let (mut child, acknowledged) = start(directory.path(), round * ROUND);
        let first = acknowledged.recv_timeout(Duration::from_secs(20)).unwrap();
        kill_within(&mut child, Duration::from_millis(40));
        known.extend([first]);
        known.extend(acknowledged);
        let held = contents(directory.path());
        for (number, step) in &known {
            check(*number, *step, held.get(&key(*number)));
        }
    }
    let (running, _) = Running::open(directory.path());
    running.store.close();
    known.len()
}

#[test]
fn a_first_start_that_is_killed_leaves_a_store_that_opens() {
    for _ in 0..15 {
        let directory = directory();
        let (mut child, acknowledged) = start(directory.path(), 0);
        kill_within(&mut child, Duration::from_millis(30));
        let known: BTreeMap<u64, Step> = acknowledged.into_iter().collect();
        let held = contents(directory.path());
        for (number, step) in &known {
            check(*number, *step, held.get(&key(*number)));
        }
    }
}
