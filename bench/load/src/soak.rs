//! A long mixture of everything with a server that must be afterwards what it was before: as much
//! memory, as many files, nothing left in its tables.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::load::Wire;
use crate::scenario::{Figures, Size, Stage, TRANSACTIONS};
use crate::server::{ADMIN, Kind, PLAIN, Places, TLS};
use crate::tally::Pace;

/// Agents on datagrams, behind them those on TLS, and those whose phones sleep and are woken.
const UDP: std::ops::Range<usize> = 0..1000;
const ON_TLS: std::ops::Range<usize> = 1000..1200;
const SLEEPERS: std::ops::Range<usize> = 1200..1500;
/// The part of the time before the first measure: buffers, tables and what is remembered of calls
/// have the size then that the work needs.
const WARM_UP: f64 = 1.0 / 3.0;
/// What memory may grow by after that, of what it was: the allocator's part.
const GROWTH: f64 = 0.1;
/// What the store keeps in memory before it writes a table (`io/store`): bindings, their times, calls.
const STORE: u64 = (16 + 16 + 4) << 20;

/// What a server holds.
#[derive(Debug)]
struct Holdings {
    memory: u64,
    files: usize,
    /// Its gauges of what there is.
    gauges: BTreeMap<String, f64>,
}

/// What was done.
#[derive(Default)]
struct Done {
    registers: u64,
    calls: u64,
    wakes: u64,
    failed: u64,
}

/// Rounds of registrations, calls, wakes, cut connections and nonsense, for the time that
/// `SOAK_SECONDS` says (ten minutes); then nothing may be left of them.
pub fn soak(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let seconds = std::env::var("SOAK_SECONDS").unwrap_or_else(|_| "600".to_owned());
    let seconds = seconds.parse().context("SOAK_SECONDS")?;
    let mut stage = Stage::new(places, kind, &[])?;
    stage.load.add_phones(UDP.len(), Wire::Udp, 100)?;
    stage.load.add_phones(ON_TLS.len(), Wire::Tls, 0)?;
    stage.load.add_phones(SLEEPERS.len(), Wire::Tcp, 0)?;
    let all = UDP.start..SLEEPERS.end;
    stage.load.register(all, Pace::Window(200), true, true)?;
    let seconds = Duration::from_secs(seconds);
    let (mut done, started) = (Done::default(), Instant::now());
    play(&mut stage, &mut done, seconds.mul_f64(WARM_UP))?;
    stage.load.idle(TRANSACTIONS)?;
    let before = holdings(&stage)?;
    eprintln!("   before: {before:?}");
    play(&mut stage, &mut done, seconds.mul_f64(1.0 - WARM_UP))?;
    stage.load.idle(TRANSACTIONS)?;
    let after = holdings(&stage)?;
    eprintln!("   after: {after:?}");
    compare(&before, &after)?;
    if done.failed as f64 > 0.001 * (done.calls + done.wakes) as f64 {
        bail!("{} of the calls failed", done.failed);
    }
    Ok(Figures::from([
        ("soak.seconds".to_owned(), started.elapsed().as_secs_f64()),
        ("soak.calls".to_owned(), done.calls as f64),
        ("soak.wakes".to_owned(), done.wakes as f64),
        ("soak.registers".to_owned(), done.registers as f64),
        ("soak.failed".to_owned(), done.failed as f64),
        ("soak.mib_before".to_owned(), mebibytes(before.memory)),
        ("soak.mib_after".to_owned(), mebibytes(after.memory)),
        ("soak.files".to_owned(), after.files as f64),
    ]))
}

/// Rounds for so long.
fn play(stage: &mut Stage, done: &mut Done, time: Duration) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        round(stage, done)?;
        eprintln!(
            "   {:4.0} s: {} calls, {} wakes, {} REGISTERs, {} failed; {:.1} MiB",
            started.elapsed().as_secs_f64(),
            done.calls,
            done.wakes,
            done.registers,
            done.failed,
            mebibytes(stage.running.memory()),
        );
    }
    Ok(())
}

/// Everything once, in about ten seconds.
fn round(stage: &mut Stage, done: &mut Done) -> Result<()> {
    let load = &mut stage.load;
    done.registers += count(&load.register(UDP, Pace::Rate(1000.0), true, true)?, "done");
    let called = load.call(UDP.start..ON_TLS.end, 300.0, 3.0)?;
    done.calls += count(&called, "done");
    done.failed += count(&called, "sent") - count(&called, "done");
    // Phones that lose their connections come back on others.
    let cut = ON_TLS.start..ON_TLS.start + 50;
    load.sleep(cut.clone());
    load.reopen(cut.clone())?;
    done.registers += count(&load.register(cut, Pace::Window(50), true, true)?, "done");
    load.sleep(SLEEPERS);
    load.idle(Duration::from_millis(500))?;
    load.reopen(SLEEPERS)?;
    let woken = load.wake(SLEEPERS, 100.0, &stage.pushes)?;
    done.wakes += count(&woken, "done");
    done.failed += count(&woken, "sent") - count(&woken, "done");
    nonsense()
}

/// What strangers send: requests that are refused, halves of messages, handshakes that do not end.
fn nonsense() -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 9, 1), 0))?;
    for number in 0..200 {
        let text = format!(
            "INVITE sip:u0000001@{PLAIN} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.9.1;branch=z9hG4bKn{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:stranger@127.0.9.1>;tag={number}\r\nTo: <sip:u0000001@{PLAIN}>\r\n\
             Call-ID: n{number}\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(text.as_bytes(), PLAIN)?;
        socket.send_to(&[0x16, 0x03, number as u8, 0xff], PLAIN)?;
    }
    for number in 0..20 {
        let to = if number % 2 == 0 { PLAIN } else { TLS };
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(b"REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/TCP 127")?;
        if number % 4 < 2 {
            // The server may have hung up by itself.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
    Ok(())
}

fn holdings(stage: &Stage) -> Result<Holdings> {
    Ok(Holdings {
        memory: stage.running.memory(),
        files: stage.running.files(),
        gauges: gauges()?,
    })
}

/// The server's gauges of what it has: bindings, transactions, flows, what waits in queues.
fn gauges() -> Result<BTreeMap<String, f64>> {
    let mut stream = TcpStream::connect(ADMIN).context("the operator's listener")?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let counted = [
        "gateway_bindings{",
        "gateway_transactions{",
        "gateway_flows{",
        "gateway_input_queue{",
    ];
    let gauges: BTreeMap<String, f64> = text
        .lines()
        .filter(|line| counted.iter().any(|name| line.starts_with(name)))
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect();
    if gauges.is_empty() {
        bail!("the server shows no gauges");
    }
    Ok(gauges)
}

fn compare(before: &Holdings, after: &Holdings) -> Result<()> {
    if before.files != after.files {
        bail!("{} files were open, and {} are", before.files, after.files);
    }
    for (name, was) in &before.gauges {
        let is = after.gauges.get(name);
        if is != Some(was) {
            bail!("{name} was {was}, and is {is:?}");
        }
    }
    let most = before.memory as f64 * (1.0 + GROWTH) + STORE as f64;
    if after.memory as f64 > most {
        bail!(
            "memory has grown from {:.1} to {:.1} MiB",
            mebibytes(before.memory),
            mebibytes(after.memory)
        );
    }
    Ok(())
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or(0)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
