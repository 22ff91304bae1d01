//! The works that both servers do, each from a fresh start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::load::{Load, Wire};
use crate::push::{self, Pushes, Service};
use crate::server::{Definitions, Kind, PLAIN, Places, Running, TLS};
use crate::tally::Pace;

/// What one round of a scenario gave: by key of the tables.
pub type Figures = BTreeMap<String, f64>;

/// A work.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for the table.
    pub work: &'static str,
    /// Does it once.
    pub run: fn(&Places, Kind, Size) -> Result<Figures>,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All that the tables say.
    Full,
    /// A fifth of the bindings and connections where the figure is for one of them.
    Quick,
}

impl Size {
    const fn of(self, full: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => full / 5,
        }
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "call_udp",
        work: "INVITE…BYE to a phone on UDP, 10,000 agents on 1,000 ports, 2,000 calls/s",
        run: |places, kind, _| calls(places, kind, "cpu_per_call_udp", Wire::Udp, 10_000, 2000.0),
    },
    Scenario {
        name: "call_tls",
        work: "the same, 1,000 phones on TLS, 2,000 calls/s",
        run: |places, kind, _| calls(places, kind, "cpu_per_call_tls", Wire::Tls, 1000, 2000.0),
    },
    Scenario {
        name: "call_tls_10k",
        work: "the same, 10,000 phones on TLS, 1,000 calls/s",
        run: |places, kind, _| {
            calls(
                places,
                kind,
                "cpu_per_call_tls_10k",
                Wire::Tls,
                10_000,
                1000.0,
            )
        },
    },
    Scenario {
        name: "max_calls",
        work: "most calls/s of UDP with fewer than 0.1 % failed",
        run: max_calls,
    },
    Scenario {
        name: "register",
        work: "REGISTER relayed and answered, 2,000/s; Rouse stores it durably, Kamailio not at all",
        run: register,
    },
    Scenario {
        name: "wake",
        work: "INVITE → push → REGISTER → INVITE → 200 → BYE, 300/s; Kamailio pushes by plain HTTP",
        run: wake,
    },
    Scenario {
        name: "bindings",
        work: "memory of one agent with one device and its token",
        run: bindings,
    },
    Scenario {
        name: "tls_idle",
        work: "memory of one idle registered phone on TLS",
        run: tls_idle,
    },
    Scenario {
        name: "held",
        work: "memory of one held INVITE",
        run: held,
    },
    Scenario {
        name: "restart",
        work: "killed, started again: until the first answer with all bindings loaded",
        run: restart,
    },
    Scenario {
        name: "storm",
        work: "10,000 phones register again in one burst",
        run: storm,
    },
];

/// A server with its load.
struct Stage {
    running: Running,
    load: Load,
    pushes: Pushes,
    service: Service,
}

impl Stage {
    fn new(places: &Places, kind: Kind, definitions: Definitions) -> Result<Self> {
        places.clear()?;
        let server = crate::load::Server {
            plain: PLAIN,
            tls: TLS,
            is_relay: kind == Kind::Rouse,
        };
        let load = Load::new(server)?;
        let (service, pushes) = push::start(load.waker()?)?;
        let running = places.start(kind, definitions, &service)?;
        Ok(Self {
            running,
            load,
            pushes,
            service,
        })
    }

    /// Agents with phones, registered.
    fn agents(&mut self, count: usize, wire: Wire, sockets: usize) -> Result<()> {
        self.load.add_phones(count, wire, sockets)?;
        self.load
            .register(0..count, Pace::Window(200), true, true)?;
        Ok(())
    }

    /// What the server's CPU did for each unit of a work, in microseconds.
    fn cost(
        &mut self,
        work: impl FnOnce(&mut Load, &Pushes) -> Result<Value>,
    ) -> Result<(f64, Value)> {
        let before = self.running.cpu();
        let report = work(&mut self.load, &self.pushes)?;
        let spent = self.running.cpu() - before;
        let done = report["done"].as_f64().unwrap_or(0.0);
        let share = report["failed_share"].as_f64().unwrap_or(1.0);
        if share > 0.01 {
            bail!("more than 1 % failed: {report}");
        }
        Ok((spent * 1e6 / done, report))
    }
}

fn calls(
    places: &Places,
    kind: Kind,
    key: &str,
    wire: Wire,
    agents: usize,
    rate: f64,
) -> Result<Figures> {
    let mut stage = Stage::new(places, kind, lookup(wire))?;
    stage.agents(agents, wire, 1000)?;
    stage.load.call(0..agents, rate, 1.0)?;
    let (cost, report) = stage.cost(|load, _| load.call(0..agents, rate, 5.0))?;
    let mut figures = Figures::from([(key.to_owned(), cost)]);
    latencies(&mut figures, key, &report, "answer_us");
    figures.insert(
        format!("{key}.failed_share"),
        number(&report["failed_share"]),
    );
    Ok(figures)
}

fn max_calls(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let agents = 10_000;
    let mut stage = Stage::new(places, kind, lookup(Wire::Udp))?;
    stage.agents(agents, Wire::Udp, 1000)?;
    let mut best = 0.0;
    let mut rate = 3000.0;
    while rate <= 20_000.0 {
        let report = stage.load.call(0..agents, rate, 3.0)?;
        if number(&report["failed_share"]) >= 0.001 {
            break;
        }
        best = rate;
        rate += 500.0;
    }
    // Lower is better in every table.
    Ok(Figures::from([
        ("max_calls".to_owned(), 1.0 / best),
        ("max_calls.per_second".to_owned(), best),
    ]))
}

fn register(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let agents = 10_000;
    let mut stage = Stage::new(places, kind, &["WITH_PATH"])?;
    stage.load.add_phones(agents, Wire::Udp, 1000)?;
    let pace = Pace::Rate(2000.0);
    let (cost, report) = stage.cost(|load, _| load.register(0..agents, pace, true, false))?;
    let mut figures = Figures::from([("cpu_per_register".to_owned(), cost)]);
    latencies(&mut figures, "cpu_per_register", &report, "answer_us");
    let (cost, _) = stage.cost(|load, _| load.register(0..agents, pace, true, false))?;
    figures.insert("cpu_per_register.refresh".to_owned(), cost);
    Ok(figures)
}

fn wake(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let (warm, agents) = (300, 3300);
    let mut stage = Stage::new(places, kind, &["WITH_LOOKUP", "WITH_WAKE"])?;
    if kind == Kind::Rouse {
        // Asleep is a phone whose stream has gone. Kamailio's sleepers are nowhere at all.
        stage.agents(agents, Wire::Tcp, 0)?;
        stage.load.sleep(0..agents);
        stage.load.move_to_udp(0..agents, 1000)?;
    } else {
        stage.load.add_phones(agents, Wire::Udp, 1000)?;
    }
    stage.load.idle(Duration::from_secs(1))?;
    stage.cost(|load, pushes| load.wake(0..warm, 300.0, pushes))?;
    let (cost, report) = stage.cost(|load, pushes| load.wake(warm..agents, 300.0, pushes))?;
    let mut figures = Figures::from([("cpu_per_wake".to_owned(), cost)]);
    latencies(&mut figures, "invite_to_push", &report, "invite_to_push_us");
    latencies(
        &mut figures,
        "register_to_invite",
        &report,
        "register_to_invite_us",
    );
    latencies(
        &mut figures,
        "register_sent_to_invite",
        &report,
        "register_sent_to_invite_us",
    );
    Ok(figures)
}

fn bindings(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let count = size.of(500_000);
    let mut stage = Stage::new(places, kind, &["WITH_LOOKUP", "HASHSZ=16"])?;
    let before = stage.running.memory();
    let pace = Pace::Window(400);
    stage.load.add_phones(count, Wire::Udp, 10_000)?;
    let report = stage.load.register(0..count, pace, true, false)?;
    // Transactions end, and what they had is given back.
    stage.load.idle(Duration::from_secs(40))?;
    let grown = stage.running.memory().saturating_sub(before);
    Ok(Figures::from([
        ("memory_per_binding".to_owned(), grown as f64 / count as f64),
        (
            "memory_per_binding.per_second".to_owned(),
            count as f64 / number(&report["seconds"]),
        ),
    ]))
}

fn tls_idle(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let count = size.of(10_000);
    let mut stage = Stage::new(places, kind, lookup(Wire::Tls))?;
    let before = stage.running.memory();
    let cpu = stage.running.cpu();
    stage.load.add_phones(count, Wire::Tls, 0)?;
    let handshake = (stage.running.cpu() - cpu) * 1e6 / count as f64;
    stage
        .load
        .register(0..count, Pace::Window(200), true, true)?;
    stage.load.idle(Duration::from_secs(40))?;
    let grown = stage.running.memory().saturating_sub(before);
    Ok(Figures::from([
        (
            "memory_per_tls_connection".to_owned(),
            grown as f64 / count as f64,
        ),
        (
            "memory_per_tls_connection.handshake_us".to_owned(),
            handshake,
        ),
    ]))
}

fn held(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let count = size.of(100_000);
    let mut stage = Stage::new(places, kind, &["WITH_LOOKUP", "WITH_WAKE"])?;
    if kind == Kind::Rouse {
        stage.agents_that_sleep(count)?;
    } else {
        stage.load.add_phones(count, Wire::Udp, 10)?;
    }
    stage.load.idle(Duration::from_secs(40))?;
    let before = stage.running.memory();
    let report = stage.load.hold(0..count, 2000.0, &stage.pushes)?;
    let held = number(&report["done"]);
    let grown = stage.running.memory().saturating_sub(before);
    Ok(Figures::from([(
        "memory_per_held_call".to_owned(),
        grown as f64 / held,
    )]))
}

impl Stage {
    /// Agents whose phones were here, a thousand streams at a time.
    fn agents_that_sleep(&mut self, count: usize) -> Result<()> {
        for first in (0..count).step_by(1000) {
            let users = first..count.min(first + 1000);
            self.load.add_phones(users.len(), Wire::Tcp, 0)?;
            self.load
                .register(users.clone(), Pace::Window(200), true, true)?;
            self.load.sleep(users);
        }
        Ok(())
    }
}

fn restart(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let count = size.of(500_000);
    let definitions: Definitions = &["WITH_LOOKUP", "WITH_DB", "HASHSZ=16"];
    let mut stage = Stage::new(places, kind, definitions)?;
    stage.load.add_phones(count, Wire::Udp, 10_000)?;
    stage
        .load
        .register(0..count, Pace::Window(400), true, false)?;
    stage.running.kill()?;
    let Stage {
        running,
        mut load,
        service,
        ..
    } = stage;
    drop(running);
    let started = Instant::now();
    let again = places.start(kind, definitions, &service)?;
    let seconds = started.elapsed().as_secs_f64();
    // All are there: the last ones can be called.
    let report = load.call(count - 100..count, 100.0, 1.0)?;
    if number(&report["failed_share"]) > 0.0 {
        bail!("bindings were lost: {report}");
    }
    drop(again);
    Ok(Figures::from([("restart".to_owned(), seconds)]))
}

fn storm(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let count = 10_000;
    let mut stage = Stage::new(places, kind, &["WITH_PATH"])?;
    stage.agents(count, Wire::Udp, 1000)?;
    let report = stage
        .load
        .register(0..count, Pace::Window(count), true, true)?;
    Ok(Figures::from([(
        "storm.seconds".to_owned(),
        number(&report["seconds"]),
    )]))
}

const fn lookup(wire: Wire) -> Definitions {
    match wire {
        Wire::Udp => &["WITH_LOOKUP"],
        Wire::Tcp => &["WITH_LOOKUP", "WITH_TCP"],
        Wire::Tls => &["WITH_LOOKUP", "WITH_TCP", "WITH_TLS"],
    }
}

fn latencies(figures: &mut Figures, key: &str, report: &Value, name: &str) {
    for share in ["p50", "p99"] {
        if let Some(value) = report[name][share].as_f64() {
            figures.insert(format!("{key}_{share}"), value);
        }
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}
