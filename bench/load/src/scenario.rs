//! The works that both servers do, each from a fresh start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::load::{Load, Second, Wire};
use crate::push::{self, Pushes, Service};
use crate::server::{Definitions, Kind, PLAIN, Places, Running, TLS};
use crate::soak;
use crate::tally::Pace;

/// What one round of a scenario gave: by key of the tables.
pub type Figures = BTreeMap<String, f64>;

/// A work.
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, for the table.
    pub work: &'static str,
    /// How often it is done.
    pub effort: Effort,
    /// Does it once.
    pub run: fn(&Places, Kind, Size) -> Result<Figures>,
}

/// How often a scenario is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As often as was asked for: its figures drift.
    Rounds,
    /// Fewer times: it takes long, and comes out the same each time.
    Heavy,
    /// Only by name: it is no comparison.
    Alone,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// All that the tables say.
    Full,
    /// Shorter where that changes the figure little.
    Quick,
}

impl Size {
    const fn of(self, full: usize, quick: usize) -> usize {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

/// All of them.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "call_udp",
        effort: Effort::Rounds,
        work: "INVITE…BYE to a phone on UDP, 10,000 agents on 1,000 ports, 2,000 calls/s",
        run: |places, kind, _| calls(places, kind, "cpu_per_call_udp", Wire::Udp, 10_000, 2000.0),
    },
    Scenario {
        name: "call_tls",
        effort: Effort::Rounds,
        work: "the same, 1,000 phones on TLS, 2,000 calls/s",
        run: |places, kind, _| calls(places, kind, "cpu_per_call_tls", Wire::Tls, 1000, 2000.0),
    },
    Scenario {
        name: "call_tls_10k",
        effort: Effort::Rounds,
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
        effort: Effort::Heavy,
        work: "most calls/s of UDP with fewer than 0.1 % failed",
        run: max_calls,
    },
    Scenario {
        name: "register",
        effort: Effort::Rounds,
        work: "REGISTER relayed and answered, 2,000/s; Rouse stores it durably, Kamailio not at all",
        run: register,
    },
    Scenario {
        name: "wake",
        effort: Effort::Rounds,
        work: "INVITE → push → REGISTER → INVITE → 200 → BYE, 300/s; Kamailio pushes by plain HTTP",
        run: wake,
    },
    Scenario {
        name: "bindings",
        effort: Effort::Heavy,
        work: "memory of one agent with one device and its token, 500,000 of them; then killed and started again, until the first answer with all of them loaded",
        run: bindings,
    },
    Scenario {
        name: "tls_idle",
        effort: Effort::Heavy,
        work: "memory of one idle registered phone on TLS",
        run: tls_idle,
    },
    Scenario {
        name: "held",
        effort: Effort::Heavy,
        work: "memory of one held INVITE",
        run: held,
    },
    Scenario {
        name: "storm",
        effort: Effort::Heavy,
        work: "10,000 phones register again in one burst",
        run: storm,
    },
    Scenario {
        name: "overload",
        effort: Effort::Alone,
        work: "as many calls as it can take, twice as many, five times as many, and as many again; the load on one core, the server on the other",
        run: overload,
    },
    Scenario {
        name: "soak",
        effort: Effort::Alone,
        work: "registrations, calls, wakes, cut connections and nonsense for ten minutes, of which nothing may be left",
        run: soak::soak,
    },
    Scenario {
        name: "flat",
        effort: Effort::Alone,
        work: "CPU of one call with 1,000 to 1,000,000 agents on 1,000 ports, and with 10,000 on 1 to 10,000",
        run: flat,
    },
];

/// More than this is not the same work any more.
const MOST_FAILED: f64 = 0.001;
/// Longer than transactions over UDP are kept (RFC 3261 Timer J), for what they had to come back.
pub const TRANSACTIONS: Duration = Duration::from_secs(36);

/// A server with its load.
pub struct Stage {
    /// The server.
    pub running: Running,
    /// Its load.
    pub load: Load,
    /// What it pushed.
    pub pushes: Pushes,
    service: Service,
}

impl Stage {
    /// A fresh start.
    pub fn new(places: &Places, kind: Kind, definitions: Definitions) -> Result<Self> {
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
        let repeated =
            report["repeated"].as_f64().unwrap_or(0.0) + report["resent"].as_f64().unwrap_or(0.0);
        if share > MOST_FAILED || repeated > MOST_FAILED * done {
            bail!("more than 0.1 % failed or were sent again: {report}");
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

fn max_calls(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let agents = 10_000;
    let mut stage = Stage::new(places, kind, lookup(Wire::Udp))?;
    stage.agents(agents, Wire::Udp, 1000)?;
    stage.load.call(0..agents, 1000.0, 1.0)?;
    let (mut best, mut rate, mut step) = (0.0, 2000.0, 2000.0);
    let least = size.of(250, 500) as f64;
    // Doubling its way up would end far above; the step is halved at the first rate that fails.
    while step >= least && rate <= 40_000.0 {
        let report = stage.load.call(0..agents, rate, 2.0)?;
        let is_good = number(&report["failed_share"]) < MOST_FAILED;
        eprintln!(
            "   {rate:.0}/s: {}",
            if is_good {
                "all answered"
            } else {
                "too many failed"
            }
        );
        if is_good {
            best = rate;
        } else {
            step /= 2.0;
            // What was left over is answered or given up.
            stage.load.idle(Duration::from_secs(3))?;
        }
        rate = best + step;
    }
    if best == 0.0 {
        bail!("not even {rate:.0} calls a second");
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

fn wake(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let (warm, agents) = (300, 300 + size.of(3000, 1500));
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
        "register_to_grant",
        &report,
        "register_to_grant_us",
    );
    latencies(
        &mut figures,
        "register_sent_to_invite",
        &report,
        "register_sent_to_invite_us",
    );
    Ok(figures)
}

fn bindings(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let count = 500_000;
    let mut stage = Stage::new(places, kind, &["WITH_LOOKUP", "HASHSZ=16"])?;
    let before = stage.running.memory();
    stage.load.add_phones(count, Wire::Udp, 10_000)?;
    // Over UDP a transaction is kept for 32 s: faster, and there would be more of them than Rouse
    // allows; what they took is not given back, and would be counted among the bindings.
    let pace = match kind {
        Kind::Rouse => Pace::Rate(2500.0),
        Kind::Kamailio => Pace::Window(400),
    };
    let report = stage.load.register(0..count, pace, true, false)?;
    stage.load.idle(TRANSACTIONS)?;
    let grown = stage.running.memory().saturating_sub(before);
    let mut figures = Figures::from([
        ("memory_per_binding".to_owned(), grown as f64 / count as f64),
        (
            "memory_per_binding.registered_per_second".to_owned(),
            count as f64 / number(&report["seconds"]),
        ),
    ]);
    restart(places, kind, stage, count, &mut figures)?;
    Ok(figures)
}

fn restart(
    places: &Places,
    kind: Kind,
    mut stage: Stage,
    count: usize,
    figures: &mut Figures,
) -> Result<()> {
    stage.running.kill()?;
    let Stage {
        running,
        mut load,
        service,
        ..
    } = stage;
    drop(running);
    let definitions: Definitions = &["WITH_LOOKUP", "WITH_DB", "HASHSZ=16"];
    if kind == Kind::Kamailio {
        places.fill_database(&load)?;
    }
    let started = Instant::now();
    let again = places.start(kind, definitions, &service)?;
    // Kamailio's other child answers while the first is still loading: ready is who knows the last.
    let patience = started + Duration::from_secs(120);
    let last = count - 20..count;
    while number(&load.call(last.clone(), 500.0, 0.04)?["failed_share"]) > 0.0 {
        if Instant::now() > patience {
            bail!("the last bindings were not loaded in two minutes");
        }
    }
    figures.insert("restart".to_owned(), started.elapsed().as_secs_f64());
    let memory = again.memory() as f64;
    figures.insert("restart.memory_mib".to_owned(), memory / 1_048_576.0);
    // All are there: the first and the last ones can be called.
    for users in [0..100, count - 100..count] {
        let report = load.call(users, 100.0, 1.0)?;
        if number(&report["failed_share"]) > 0.0 {
            bail!("bindings were lost: {report}");
        }
    }
    Ok(())
}

/// What is served of more calls than can be, what a refusal costs, and how soon it is over.
fn overload(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let agents = 2000;
    crate::account::pin(0)?;
    let mut stage = Stage::new(places, kind, lookup(Wire::Udp))?;
    crate::account::pin(1)?;
    stage.agents(agents, Wire::Udp, 200)?;
    let (load, running) = (&mut stage.load, &stage.running);
    let cpu = || running.cpu();
    load.surge(0..agents, &[(1000.0, 2)], cpu)?;
    let mut capacity = 1000.0;
    loop {
        let seconds = load.surge(0..agents, &[(capacity * 1.15, 3)], cpu)?;
        let all = sum(&seconds);
        if (all.done as f64) < 0.999 * all.sent as f64 {
            break;
        }
        capacity *= 1.15;
        load.idle(Duration::from_millis(500))?;
    }
    load.idle(Duration::from_secs(6))?;
    // Nothing is refused at nine tenths: what one call costs.
    let calm = sum(&load.surge(0..agents, &[(capacity * 0.9, 4)], cpu)?);
    let call = calm.cpu / calm.done.max(1) as f64;
    let mut figures = Figures::from([
        ("overload.capacity_per_second".to_owned(), capacity),
        ("overload.call_us".to_owned(), call * 1e6),
    ]);
    let rates = [(capacity, 5), (capacity * 2.0, 5), (capacity * 5.0, 5)];
    let mut most = 0.0_f64;
    let mut goodputs = Vec::new();
    for (rate, length) in rates {
        let phases = [(rate, length), (capacity * 0.9, 10)];
        let seconds = load.surge(0..agents, &phases, cpu)?;
        let (surge, after) = seconds.split_at(length);
        for second in &seconds {
            eprintln!("   {second:?}");
        }
        let all = sum(surge);
        let name = format!("overload.{:.0}x", rate / capacity);
        let goodput = all.done as f64 / length as f64;
        most = most.max(goodput);
        goodputs.push((name.clone(), goodput));
        let rest = (all.cpu - all.done as f64 * call).max(0.0);
        figures.insert(format!("{name}.offered"), all.sent as f64 / length as f64);
        figures.insert(
            format!("{name}.refused"),
            all.refused as f64 / length as f64,
        );
        figures.insert(
            format!("{name}.refusal_of_a_call"),
            rest / all.refused.max(1) as f64 / call,
        );
        let last = after.iter().rposition(|second| second.done < second.sent);
        figures.insert(
            format!("{name}.recovered_s"),
            last.map_or(0.0, |last| last as f64 + 1.0),
        );
        load.idle(Duration::from_secs(1))?;
    }
    for (name, goodput) in goodputs {
        figures.insert(format!("{name}.goodput"), goodput);
        figures.insert(format!("{name}.goodput_of_peak"), goodput / most);
    }
    Ok(figures)
}

fn sum(seconds: &[Second]) -> Second {
    seconds.iter().fold(Second::default(), |sum, next| Second {
        sent: sum.sent + next.sent,
        done: sum.done + next.done,
        refused: sum.refused + next.refused,
        cpu: sum.cpu + next.cpu,
    })
}

/// What one call costs with many agents, and with few and many flows.
fn flat(places: &Places, kind: Kind, size: Size) -> Result<Figures> {
    let mut figures = Figures::new();
    let most = size.of(1_000_000, 100_000);
    let agents = [1000, 10_000, 100_000, 1_000_000].map(|agents| (agents, 1000, "agents"));
    let flows = [1, 1000, 10_000].map(|flows| (10_000, flows, "flows"));
    for (agents, flows, what) in agents.into_iter().chain(flows) {
        if agents > most {
            continue;
        }
        let mut stage = Stage::new(places, kind, lookup(Wire::Udp))?;
        stage.agents(agents, Wire::Udp, flows)?;
        stage.load.idle(Duration::from_secs(2))?;
        stage.load.call(0..agents, 1000.0, 1.0)?;
        let (cost, _) = stage.cost(|load, _| load.call(0..agents, 1000.0, 5.0))?;
        let number = if what == "agents" { agents } else { flows };
        figures.insert(format!("cpu_per_call.{what}_{number:07}"), cost);
    }
    Ok(figures)
}

fn tls_idle(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let count = 10_000;
    let mut stage = Stage::new(places, kind, lookup(Wire::Tls))?;
    let before = stage.running.memory();
    let cpu = stage.running.cpu();
    stage.load.add_phones(count, Wire::Tls, 0)?;
    let handshake = (stage.running.cpu() - cpu) * 1e6 / count as f64;
    stage
        .load
        .register(0..count, Pace::Window(200), true, true)?;
    stage.load.idle(Duration::from_secs(12))?;
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

fn held(places: &Places, kind: Kind, _: Size) -> Result<Figures> {
    let count = 100_000;
    let mut stage = Stage::new(places, kind, &["WITH_LOOKUP", "WITH_WAKE"])?;
    if kind == Kind::Rouse {
        stage.agents_that_sleep(count)?;
    } else {
        stage.load.add_phones(count, Wire::Udp, 10)?;
    }
    // Streams need no Timer J; toward Asterisk there is Timer K.
    stage.load.idle(Duration::from_secs(12))?;
    let before = stage.running.memory();
    let report = stage.load.hold(0..count, 2000.0, &stage.pushes)?;
    let held = number(&report["done"]);
    if held < count as f64 * (1.0 - MOST_FAILED) {
        bail!("not all calls were held: {report}");
    }
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
