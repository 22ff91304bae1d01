//! One schedule: a seed's plan, played step by step.
//!
//! A step is one input or one timer, all that leaves because of it, and a look at the invariants.

mod services;
mod strangers;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::push::PushError;
use rouse::proto::sip::Message;
use rouse::proto::transaction::ClientId;
use rouse::proto::{CloseReason, Destination, Event as Told, Flow, FlowId, Input, Output};

use crate::schedule::asterisk::{Asterisk, PBX, node};
use crate::schedule::cast::{Errand, Hands};
use crate::schedule::chance::Chance;
use crate::schedule::faults::Fault;
use crate::schedule::invariants::{Broken, Invariant, Onlooker, is_lasting};
use crate::schedule::ladder::{self, PUSH, Row, Way};
use crate::schedule::network::{Event, Fate, Network, party};
use crate::schedule::phone::Phone;
use crate::schedule::plan::Plan;
use crate::schedule::text;
use crate::world::{World, tcp, udp, with_shards};

/// More steps than this, and something goes in circles.
const LONGEST: usize = 20_000;
/// More time than this after everything calmed down, and something does not end.
const LONGEST_PEACE: Duration = Duration::from_secs(1500);

/// How a schedule went.
#[derive(Debug)]
pub struct Outcome {
    pub broken: Option<Broken>,
    pub ladder: String,
}

/// Plays a seed; `is_told` draws its ladder.
pub fn play(seed: u64, fault: Option<Fault>, is_told: bool) -> Outcome {
    let mut chance = Chance::new(seed);
    let plan = Plan::of(&mut chance);
    let mut outcome = None;
    with_shards(plan.shards, || {
        outcome = Some(Play::new(plan, chance, fault, is_told).run());
    });
    outcome.unwrap()
}

struct Play {
    world: World,
    network: Network,
    onlooker: Onlooker,
    chance: Chance,
    asterisk: Asterisk,
    phones: Vec<Phone>,
    nodes: usize,
    bad_pushes: u64,
    /// Of a hundred messages, how many a stranger repeats, or garbles.
    strangers: u64,
    fault: Option<Fault>,
    number: u32,
    /// When the store has made what it was given.
    store: Instant,
    is_store_broken: bool,
    peace: Option<Instant>,
    /// Whether this step is the store's answer.
    is_release: bool,
    rows: Option<Vec<Row>>,
    steps: usize,
}

impl Play {
    fn new(plan: Plan, chance: Chance, fault: Option<Fault>, is_told: bool) -> Self {
        let settings = plan.settings.clone();
        let own = settings.clone();
        let own = fault.map_or(own, |fault| fault.settings(settings.clone()));
        let world = World::played_outside(own);
        let now = world.now;
        let mut network = Network::new(plan.weather);
        for (at, errand) in plan.errands {
            network.at(now + at, Event::Errand(errand));
        }
        let groups = if plan.phones.iter().any(|phone| !phone.q.is_empty()) {
            2
        } else {
            1
        };
        Self {
            onlooker: Onlooker::new(settings, now, groups),
            world,
            network,
            chance,
            asterisk: plan.asterisk,
            phones: plan.phones,
            nodes: plan.nodes,
            bad_pushes: plan.bad_pushes,
            strangers: plan.strangers,
            fault,
            number: 0,
            store: now,
            is_store_broken: false,
            peace: None,
            is_release: false,
            rows: is_told.then(Vec::new),
            steps: 0,
        }
    }

    fn run(mut self) -> Outcome {
        while self.onlooker.broken.is_none() && self.step() {
            self.steps += 1;
            let is_endless = self
                .peace
                .is_some_and(|at| self.world.now > at + LONGEST_PEACE);
            if self.steps > LONGEST || is_endless {
                self.onlooker.broken = Some(Broken {
                    invariant: Invariant::NothingLeft,
                    what: "it does not end".to_owned(),
                });
            }
        }
        if self.onlooker.broken.is_none() {
            self.world.advance(Duration::from_secs(36));
            self.outputs();
            self.onlooker.look(&self.world);
            self.onlooker.end();
        }
        let rows = self.rows.take().unwrap_or_default();
        Outcome {
            broken: self.onlooker.broken,
            ladder: ladder::draw(&rows, self.nodes, self.phones.len()),
        }
    }

    /// The next thing that happens, if anything still does.
    fn step(&mut self) -> bool {
        let lag = self.fault.map_or(Duration::ZERO, Fault::lag);
        let gateway = self.world.due().map(|at| at + lag);
        let phones = self.phones.iter().filter_map(|phone| phone.endpoint.due());
        let model = phones.chain(self.asterisk.endpoint.due()).min();
        let outside = self.network.due().into_iter().chain(model).min();
        if outside.is_none() && self.world.timers().all(|(_, timer)| is_lasting(&timer)) {
            return false;
        }
        let next = gateway.into_iter().chain(outside).min();
        if let Some(at) = next {
            // What is late by then is late, even if it ends with that step.
            let before = at.checked_sub(Duration::from_millis(1)).unwrap_or(at);
            self.onlooker.look_at_requests(before.max(self.world.now));
        }
        if let Some(at) = gateway.filter(|at| outside.is_none_or(|other| *at <= other)) {
            self.world.fire(at);
            self.outputs();
            self.onlooker.timer_fired();
            self.onlooker.look(&self.world);
            return true;
        }
        let Some(at) = outside else { return false };
        self.world.now = self.world.now.max(at);
        if self.network.due() == Some(at) {
            if let Some(event) = self.network.pop() {
                self.happen(event);
            }
        } else {
            self.fire_models(at);
        }
        true
    }

    fn fire_models(&mut self, at: Instant) {
        for phone in 0..self.phones.len() {
            if self.phones[phone]
                .endpoint
                .due()
                .is_some_and(|due| due <= at)
            {
                self.with_phone(phone, Phone::fire);
            }
        }
        if self.asterisk.endpoint.due().is_some_and(|due| due <= at) {
            self.with_asterisk(|asterisk, hands| {
                asterisk.endpoint.fire(hands.now, &mut hands.out);
            });
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Up { flow, bytes } => {
                self.tell(party(flow.id), Way::Up, || line(&bytes));
                match Message::parse(bytes.clone()) {
                    Ok(message) => self.feed(Input::Message { flow, message }),
                    Err(error) => self.feed(Input::Malformed { flow, bytes, error }),
                }
            }
            Event::Down { flow, bytes } => self.arrive(flow, bytes),
            Event::Closed { flow } => self.close(flow),
            Event::SendFailed { client } => self.feed(Input::SendFailed {
                transaction: client,
            }),
            Event::Verdict {
                id,
                token,
                at,
                verdict,
            } => {
                let word = verdict
                    .as_ref()
                    .map_or_else(PushError::label, |_| "accepted");
                self.tell(PUSH, Way::Up, || word.to_owned());
                self.onlooker.verdict(&token, at, verdict.as_ref().err());
                self.feed(Input::Pushed { id, verdict });
            }
            Event::Pushed { phone, notice } => {
                self.tell(phone, Way::Own, || format!("pushed: {notice}"));
                self.with_phone(phone, |phone, hands| phone.pushed(hands, notice));
            }
            Event::Stored { ticket, write } => {
                let durable = write.is_some();
                if let (Some(write), true) = (write, self.fault != Some(Fault::UnwrittenStore)) {
                    self.world.write(write);
                }
                if let Some(ticket) = ticket {
                    self.is_release = true;
                    self.feed(Input::Stored { ticket, durable });
                    self.is_release = false;
                }
            }
            Event::Errand(errand) => self.run_errand(errand),
        }
    }

    fn arrive(&mut self, flow: FlowId, bytes: Bytes) {
        let Ok(message) = Message::parse(bytes) else {
            return;
        };
        let to = party(flow);
        if to >= PBX {
            let flow = node(to - PBX);
            self.with_asterisk(|asterisk, hands| asterisk.receive(hands, flow, &message));
            return;
        }
        let Some(phone) = self.phones.get(to) else {
            return;
        };
        let is_there = phone.flow.is_some_and(|own| own.id == flow);
        // A connection that the phone has left half-open still brings what was sent on it.
        if is_there || phone.has_left(flow) {
            let flow = flow_of(flow);
            self.with_phone(to, |phone, hands| phone.receive(hands, flow, &message));
        }
    }

    fn close(&mut self, flow: Flow) {
        if self.network.is_closed(self.world.now, flow.id) {
            self.tell(party(flow.id), Way::Up, || "its connection ends".to_owned());
            self.feed(Input::FlowClosed {
                flow: flow.id,
                reason: CloseReason::Peer,
            });
        }
    }

    fn run_errand(&mut self, errand: Errand) {
        if self.peace.is_some() && is_trouble(&errand) {
            return;
        }
        let from = node(self.chance.index(self.nodes));
        match errand {
            Errand::Call { agent } => {
                self.with_asterisk(|asterisk, hands| asterisk.call(hands, from, agent));
            }
            Errand::Cancel { call } => {
                self.with_asterisk(|asterisk, hands| {
                    asterisk.cancel(hands, &call);
                });
                for phone in 0..self.phones.len() {
                    self.with_phone(phone, |phone, hands| {
                        phone.cancel(hands, &call);
                    });
                }
            }
            Errand::HangUp { phone: None, call } => {
                self.with_asterisk(|asterisk, hands| asterisk.hang_up(hands, from, &call));
            }
            Errand::HangUp {
                phone: Some(phone),
                call,
            } => self.with_phone(phone, |phone, hands| phone.hang_up(hands, &call)),
            Errand::Reinvite { call } => {
                self.with_asterisk(|asterisk, hands| asterisk.reinvite(hands, from, &call));
            }
            Errand::Ask { agent, method } => {
                self.with_asterisk(|asterisk, hands| asterisk.ask(hands, from, agent, method));
            }
            Errand::Ring { phone, branch } => {
                self.with_phone(phone, |phone, hands| phone.ring(hands, &branch));
            }
            Errand::Decide { phone: PBX, branch } => {
                self.with_asterisk(|asterisk, hands| asterisk.decide(hands, &branch));
            }
            Errand::Decide { phone, branch } => {
                self.with_phone(phone, |phone, hands| phone.decide(hands, &branch));
            }
            Errand::Register { phone, expires } => {
                self.with_phone(phone, |phone, hands| phone.register(hands, expires));
            }
            Errand::Sleep { phone } => self.with_phone(phone, Phone::sleep),
            Errand::Wake { phone } => self.with_phone(phone, Phone::wake),
            Errand::SwitchOn { phone } => self.with_phone(phone, Phone::switch_on),
            Errand::Move { phone } => self.with_phone(phone, Phone::move_away),
            Errand::Die { phone } => self.die(phone),
            Errand::Reinstall { phone } => self.with_phone(phone, Phone::reinstall),
            Errand::ChangeHands { phone, agent } => {
                self.with_phone(phone, |phone, hands| phone.change_hands(hands, agent));
            }
            Errand::CallOut { phone } => self.with_phone(phone, Phone::call),
            Errand::Cut { party, lasts } => {
                self.tell(party, Way::Own, || format!("cut off for {lasts:?}"));
                self.network.cut(self.world.now, party, lasts);
            }
            Errand::Restart => self.restart(),
            Errand::StoreBreaks { lasts } => {
                self.tell_gateway(|| "its store breaks".to_owned());
                self.is_store_broken = true;
                let well = Event::Errand(Errand::StoreHeals);
                self.network.at(self.world.now + lasts, well);
            }
            Errand::StoreHeals => self.is_store_broken = false,
            Errand::Peace => {
                self.tell_gateway(|| "all is calm from here on".to_owned());
                self.peace = Some(self.world.now);
                self.network.clear_up();
                self.bad_pushes = 0;
                self.strangers = 0;
                self.is_store_broken = false;
            }
        }
    }

    fn die(&mut self, phone: usize) {
        let flow = self.phones[phone].flow;
        self.with_phone(phone, Phone::die);
        // Its connection is found dead much later, or never.
        if let Some(flow) = flow.filter(text::is_stream)
            && self.chance.percent(60)
        {
            let after = self.chance.millis(1_000, 100_000);
            self.network
                .at(self.world.now + after, Event::Closed { flow });
        }
    }

    fn restart(&mut self) {
        self.tell_gateway(|| "dies, and starts again".to_owned());
        let flows = self.network.restart();
        self.world.over.extend(&flows);
        if self.fault == Some(Fault::ForgetfulRestart) {
            self.world.stored.pop();
        }
        self.onlooker.restarted(self.world.now);
        self.world.restart();
        self.store = self.world.now;
        self.outputs();
        self.onlooker.look(&self.world);
        for flow in flows {
            let flow = flow_of(flow);
            self.with_phone(party(flow.id), |phone, hands| phone.on_closed(hands, flow));
        }
    }

    // --- the gateway ---

    fn feed(&mut self, input: Input) {
        if let Input::SendFailed { transaction } = &input {
            for shard in 0..7 {
                let branch = transaction.branch(shard);
                self.onlooker.record.send_failed(self.world.now, &branch);
            }
        }
        self.onlooker.input(self.world.now, &input);
        let input = match self.fault {
            Some(fault) => fault.input(input),
            None => input,
        };
        self.world.input(input);
        self.outputs();
        self.onlooker.look(&self.world);
    }

    fn outputs(&mut self) {
        while let Some(output) = self.world.outside.as_mut().and_then(|all| all.pop_front()) {
            match self.fault {
                Some(fault) => {
                    for output in fault.output(output, self.is_release) {
                        self.act(output);
                    }
                }
                None => self.act(output),
            }
        }
    }

    fn act(&mut self, output: Output) {
        let now = self.world.now;
        match output {
            Output::Send {
                to,
                message,
                report,
            } => self.send(to, message, report),
            Output::Push(push) => self.push(*push),
            Output::Store { ticket, write } => {
                let delay = self.chance.millis(
                    1,
                    if self.network.weather.lost > 0 {
                        900
                    } else {
                        9
                    },
                );
                self.store = self.store.max(now + delay);
                let write = (!self.is_store_broken).then_some(write);
                self.network.at(self.store, Event::Stored { ticket, write });
            }
            Output::HandedOver(left) => self.world.left.extend(left),
            Output::Claim(claim) => self.world.input(Input::Claimed(claim)),
            // It has left.
            Output::Withdraw(_)
            | Output::Ping { .. }
            | Output::Close { .. }
            | Output::FlowBound { .. }
            | Output::FlowUnbound { .. }
            | Output::Resolve { .. } => {}
            Output::Event(event) => self.tell_gateway(|| name_of(&event)),
        }
    }

    fn send(&mut self, to: Destination, bytes: Bytes, report: Option<ClientId>) {
        let now = self.world.now;
        self.onlooker.sent(now, &to, &bytes);
        let Destination::Flow(flow) = to else { return };
        let what = self.rows.is_some().then(|| line(&bytes));
        let fate = self.network.down(now, &mut self.chance, flow, bytes);
        let way = if fate == Fate::Goes {
            Way::Down
        } else {
            Way::Lost
        };
        self.tell(party(flow), way, || what.unwrap_or_default());
        if let (Fate::Refused, Some(client)) = (fate, report) {
            let delay = self.chance.millis(0, 20);
            self.network.at(now + delay, Event::SendFailed { client });
        }
    }

    // --- the models ---

    fn with_phone(&mut self, phone: usize, act: impl FnOnce(&mut Phone, &mut Hands<'_>)) {
        let mut hands = hands(self.world.now, &mut self.chance, &mut self.number);
        act(&mut self.phones[phone], &mut hands);
        let done = Done::of(hands);
        self.let_happen(phone, done);
    }

    fn with_asterisk(&mut self, act: impl FnOnce(&mut Asterisk, &mut Hands<'_>)) {
        let mut hands = hands(self.world.now, &mut self.chance, &mut self.number);
        act(&mut self.asterisk, &mut hands);
        let done = Done::of(hands);
        self.let_happen(PBX, done);
    }

    fn let_happen(&mut self, of: usize, done: Done) {
        let now = self.world.now;
        for note in done.notes {
            self.tell(of, Way::Own, || note.to_owned());
        }
        self.onlooker.record.asked.extend(done.asked);
        for (flow, bytes) in done.out {
            self.let_strangers_speak(&bytes);
            let what = self.rows.is_some().then(|| line(&bytes));
            let fate = self.network.up(now, &mut self.chance, flow, bytes);
            if fate != Fate::Goes {
                self.tell(party(flow.id), Way::Own, || {
                    format!("lost: {}", what.unwrap_or_default())
                });
            }
        }
        for flow in done.closed {
            self.network.close(now, flow);
        }
        for (after, errand) in done.later {
            self.network.at(now + after, Event::Errand(errand));
        }
    }

    fn tell(&mut self, party: usize, way: Way, what: impl FnOnce() -> String) {
        let at = self.world.now.duration_since(self.world.start);
        if let Some(rows) = &mut self.rows {
            rows.push(Row {
                at,
                party: Some(party),
                way,
                what: what(),
            });
        }
    }

    fn tell_gateway(&mut self, what: impl FnOnce() -> String) {
        self.tell(usize::MAX, Way::Own, what);
    }
}

/// What a model did.
struct Done {
    out: Vec<(Flow, Bytes)>,
    later: Vec<(Duration, Errand)>,
    asked: Vec<(String, crate::schedule::cast::Ask)>,
    closed: Vec<Flow>,
    notes: Vec<&'static str>,
}

impl Done {
    fn of(hands: Hands<'_>) -> Self {
        Self {
            out: hands.out,
            later: hands.later,
            asked: hands.asked,
            closed: hands.closed,
            notes: hands.notes,
        }
    }
}

const fn hands<'h>(now: Instant, chance: &'h mut Chance, number: &'h mut u32) -> Hands<'h> {
    Hands {
        now,
        chance,
        number,
        out: Vec::new(),
        later: Vec::new(),
        asked: Vec::new(),
        closed: Vec::new(),
        notes: Vec::new(),
    }
}

/// Whether it is something that goes wrong, or begins.
const fn is_trouble(errand: &Errand) -> bool {
    !matches!(
        errand,
        Errand::Cancel { .. }
            | Errand::HangUp { .. }
            | Errand::Ring { .. }
            | Errand::Decide { .. }
            | Errand::StoreHeals
            | Errand::Peace
    )
}

fn flow_of(id: FlowId) -> Flow {
    match id {
        FlowId::Stream(connection) => tcp(connection.0),
        FlowId::Datagram { remote, .. } => udp(remote.port()),
    }
}

/// An event by its name, and by what it names first.
fn name_of(event: &Told) -> String {
    let text = format!("{event:?}");
    text.chars().take(60).collect()
}

/// A message in a few words: its first line, what it is about, and its branch.
fn line(bytes: &Bytes) -> String {
    let Ok(message) = Message::parse(bytes.clone()) else {
        return "?".to_owned();
    };
    let method = text::method(&message);
    let branch = text::branch(&message, 0);
    // The gateway's are long, and end in what tells them apart.
    let branch = branch.trim_start_matches("z9hG4bK");
    let branch = branch
        .get(branch.len().saturating_sub(5)..)
        .unwrap_or_default();
    match message.status() {
        Some(status) => format!("{status} {method} {branch}"),
        None => format!("{method} {branch}"),
    }
}
