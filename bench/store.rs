//! What a durable binding costs: CPU of the store's threads, time to the acknowledgement, the start
//! with many bindings, and the disk after many overwrites.
//!
//! `cargo bench --bench store [-- DIRECTORY]`; numbers mean something on a quiet machine and a real
//! disk only.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, measures real time, and stops where it fails"
)]

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::io::store::{Loaded, Store, StoreConfig};
use rouse::proto::push::params::PushParams;
use rouse::proto::push::{Pns, Prid};
use rouse::proto::registration::binding::StoredBinding;
use rouse::proto::{
    AorId, BindingId, BindingKey, Flow, FlowId, ListenerId, StoreTicket, StoreWrite, Transport,
};

const BINDINGS: u64 = 100_000;
const OVERWRITES: u64 = 200_000;
const RATE: u64 = 2_000;
const SECONDS: u64 = 5;

fn main() {
    // `cargo test --all-targets` starts benches, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let parent = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(parent).unwrap();
    let path = directory.path();

    let record = serialized();
    println!(
        "a binding as text is {record} bytes; {BINDINGS} of them, in {}",
        path.display()
    );
    fill(path);
    for round in 1..=3 {
        paced(path, round, "upsert", |number| {
            StoreWrite::Put(Box::new(binding(number)))
        });
        paced(path, round, "extend", |number| StoreWrite::Extend {
            key: key(number),
            expires_unix: 4_000_000_001,
            registered_ms: 1,
        });
    }
    load(path);
    overwrite(path);
    load(path);
}

/// Fills the store as fast as it takes bindings.
fn fill(path: &Path) {
    let (store, reports) = open(path);
    let started = Instant::now();
    flood(&store, &reports, BINDINGS, |number| number);
    println!(
        "fill: {:.2} s, {} MiB on disk",
        started.elapsed().as_secs_f64(),
        disk(path) >> 20
    );
    store.close();
}

fn overwrite(path: &Path) {
    let (store, reports) = open(path);
    let (cpu, started) = (cpu(), Instant::now());
    flood(&store, &reports, OVERWRITES, |number| number % BINDINGS);
    println!(
        "{OVERWRITES} overwrites at full speed: {:.2} s, {:.1} µs CPU each, {} MiB on disk",
        started.elapsed().as_secs_f64(),
        micros(cpu, OVERWRITES),
        disk(path) >> 20
    );
    store.close();
    println!("after close: {} MiB on disk", disk(path) >> 20);
}

/// Keeps 4,000 writes in flight.
fn flood(
    store: &Store,
    reports: &Receiver<(StoreTicket, bool)>,
    count: u64,
    number: impl Fn(u64) -> u64,
) {
    let mut reported = 0;
    for sequence in 0..count {
        while sequence - reported >= 4_000 {
            assert!(reports.recv().unwrap().1);
            reported += 1;
        }
        let write = StoreWrite::Put(Box::new(binding(number(sequence))));
        store.submit(Some(ticket(sequence)), write).unwrap();
    }
    for _ in reported..count {
        assert!(reports.recv().unwrap().1);
    }
}

/// A steady rate, as in a morning of registrations.
fn paced(path: &Path, round: u32, what: &str, write: impl Fn(u64) -> StoreWrite) {
    let (store, reports) = open(path);
    let count = RATE * SECONDS;
    let gap = Duration::from_secs(1) / u32::try_from(RATE).unwrap();
    let started = Instant::now();
    let collector = std::thread::spawn(move || {
        let mut waited = Vec::new();
        while let Ok((ticket, durable)) = reports.recv() {
            assert!(durable);
            let due = gap * u32::try_from(ticket.number).unwrap();
            waited.push(started.elapsed().saturating_sub(due));
        }
        waited.sort_unstable();
        waited
    });
    let before = cpu();
    for sequence in 0..count {
        let due = gap * u32::try_from(sequence).unwrap();
        std::thread::sleep(due.saturating_sub(started.elapsed()));
        let number = sequence.wrapping_mul(7_919) % BINDINGS;
        store.submit(Some(ticket(sequence)), write(number)).unwrap();
    }
    // The last group's.
    std::thread::sleep(Duration::from_millis(50));
    let each = micros(before, count);
    let groups = store
        .stats()
        .groups
        .load(std::sync::atomic::Ordering::Relaxed);
    store.close();
    let waited = collector.join().unwrap();
    let at = |percent: usize| waited.get(waited.len() * percent / 100).unwrap();
    println!(
        "round {round}: {RATE} {what}s/s for {SECONDS} s: {each:.1} µs CPU each, {:.1} in a group, \
         acknowledged p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        count as f64 / groups as f64,
        millis(*at(50)),
        millis(*at(99)),
        millis(*waited.last().unwrap()),
    );
}

fn load(path: &Path) {
    let started = Instant::now();
    let opened = Store::open(StoreConfig::new(path)).unwrap();
    let open = started.elapsed();
    let mut bytes = 0;
    let loaded: Loaded = opened
        .load(0, |binding: StoredBinding| bytes += binding.contact.len())
        .unwrap();
    println!(
        "start with {} bindings: {:.0} ms to open, {:.0} ms to read",
        loaded.live,
        millis(open),
        millis(started.elapsed() - open)
    );
    assert!(bytes > 0);
}

fn open(path: &Path) -> (Store, Receiver<(StoreTicket, bool)>) {
    let (sender, reports) = channel();
    let store = Store::open(StoreConfig::new(path))
        .unwrap()
        .start(move |ticket, durable| sender.send((ticket, durable)).unwrap())
        .unwrap();
    (store, reports)
}

/// CPU time of the store's and the database's threads so far, in nanoseconds.
fn cpu() -> u64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|task| task.unwrap().path())
        .filter(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            ["store", "fjall:worker"].contains(&name.trim_end())
        })
        .filter_map(|task| {
            let line = std::fs::read_to_string(task.join("schedstat")).ok()?;
            line.split(' ').next()?.parse::<u64>().ok()
        })
        .sum()
}

fn micros(before: u64, count: u64) -> f64 {
    (cpu() - before) as f64 / 1e3 / count as f64
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What the directory takes on disk, holes not counted.
fn disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            if meta.is_dir() {
                disk(&entry.path())
            } else {
                meta.blocks() * 512
            }
        })
        .sum()
}

fn ticket(number: u64) -> StoreTicket {
    StoreTicket {
        shard: 0,
        number,
        is_awaited: false,
    }
}

fn key(number: u64) -> BindingKey {
    BindingKey {
        aor: AorId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        binding: BindingId(number),
    }
}

/// An iPhone behind TLS.
fn binding(number: u64) -> StoredBinding {
    let token = "0f744707bebcf74f9b7c25d48e3358945f6aa01da5ddb387462c7eaf61bbad78";
    let remote = "192.0.2.1:40000".parse().unwrap();
    StoredBinding {
        key: key(number),
        user: format!("agent{number}").into(),
        domain: "pbx.example.com".into(),
        upstream: "pbx".into(),
        contact: Bytes::from(format!(
            "<sip:agent{number}@192.0.2.1:5060;transport=tls;pn-provider=apns;\
             pn-param=ABCDE12345.com.example.app.voip;pn-prid={token}:voip>;\
             +sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a95a0e128>\""
        )),
        instance: Some("<urn:uuid:00000000-0000-1000-8000-000a95a0e128>".into()),
        reg_id: Some(1),
        push: Some(PushParams {
            pns: Pns::Apns,
            app: "com.example.app".into(),
            detail: Some("ABCDE12345".into()),
            call_token: Prid::new(token),
            alert_token: Some(Prid::new(token)),
        }),
        flow: Flow {
            id: FlowId::Datagram {
                listener: ListenerId(0),
                remote,
            },
            listener: ListenerId(0),
            remote,
            transport: Transport::Udp,
        },
        expires_unix: 4_000_000_000,
        registered_ms: 2_000_000_000_000,
    }
}

/// About how large a record is before it is sealed.
fn serialized() -> usize {
    let one = binding(0);
    let push = one.push.as_ref().map_or(0, |push| {
        push.app.len() + 2 * push.call_token.expose().len() + 10
    });
    one.user.len() + one.domain.len() + one.contact.len() + push + 48 + 40
}
