//! One gateway in virtual time, with hands for a phone, an Asterisk, a push service and a store; or
//! several of them, with the routing between shards in front.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::gateway::{Gateway, Genesis};
use rouse::proto::line::Urgency;
use rouse::proto::push::{Pns, PushAccepted, PushError, PushId, PushRequest};
use rouse::proto::registration::binding::StoredBinding;
use rouse::proto::registration::location::Agent;
use rouse::proto::registration::purr::Purrs;
use rouse::proto::settings::{
    ContactMode, Guard, HoldResponse, Limits, Listener, Node, PushApp, Qualify, RegisterRules,
    Settings, Timing, Upstream, Wake,
};
use rouse::proto::shard::{Shards, bit, route};
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::timer::Timer;
use rouse::proto::transaction::ClientId;
use rouse::proto::{
    AorId, Claim, ClockAnchor, CloseReason, Command, ConnectionId, Destination, Event, Flow,
    FlowId, Input, ListenerId, Output, StoreTicket, StoreWrite, StoredCall, Transport,
};

pub const TOKEN: &str = "00aabbccddeeff00112233445566778899aabbccddeeff001122334455667788";
pub const APNS: &str = "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip;\
    pn-prid=00aabbccddeeff00112233445566778899aabbccddeeff001122334455667788:voip";

/// A message that the gateway sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Instant,
    pub to: Destination,
    pub message: Message,
    /// Who wants to know that it could not be sent.
    pub report: Option<ClientId>,
}

impl Sent {
    pub fn first_line(&self) -> String {
        self.text().lines().next().unwrap_or_default().to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.message.raw()).into_owned()
    }

    pub fn header(&self, name: HeaderName) -> String {
        String::from_utf8_lossy(self.message.header(name).unwrap_or_default()).into_owned()
    }
}

thread_local! {
    static SHARDS: Cell<u16> = const { Cell::new(1) };
}

/// Plays a scene in worlds of so many shards.
pub fn with_shards(shards: u16, scene: impl FnOnce()) {
    SHARDS.set(shards);
    scene();
    SHARDS.set(1);
}

pub struct World {
    gateways: Vec<Gateway>,
    genesis: Genesis,
    purrs: Purrs,
    /// Which shards have an agent on a flow.
    masks: BTreeMap<FlowId, u64>,
    pub start: Instant,
    pub now: Instant,
    pub sent: VecDeque<Sent>,
    pub pushes: VecDeque<PushRequest>,
    /// Pushes that were withdrawn.
    pub withdrawn: Vec<PushId>,
    pub pings: VecDeque<FlowId>,
    pub events: Vec<Event>,
    pub bound: Vec<FlowId>,
    pub claims: Vec<Claim>,
    /// What is durable.
    pub stored: Vec<StoredBinding>,
    /// Calls that wait, as the store has them.
    pub held: Vec<StoredCall>,
    /// Requests that were left after a handover.
    pub left: Vec<u64>,
    /// Whether a restart takes them up.
    pub resumes_calls: bool,
    pub is_store_working: bool,
    /// Whether writes are answered only by `World::store`.
    pub is_store_slow: bool,
    unanswered: Vec<StoreTicket>,
    /// Connections that are over.
    pub over: BTreeSet<FlowId>,
    /// Shards that wanted to hear of the end of one when that had been.
    echoes: Vec<(u16, FlowId)>,
    next_number: u32,
    /// What leaves, for a schedule that plays the outside itself: nothing of it is acted upon here
    /// but which shards have an agent on a flow.
    pub outside: Option<VecDeque<Output>>,
}

pub fn settings(contact: ContactMode) -> Settings {
    let listener = |transport, port| Listener {
        transport,
        address: SocketAddr::from(([192, 0, 2, 1], port)),
        advertise_host: "192.0.2.1".into(),
        advertise_port: port,
    };
    Settings {
        listeners: vec![
            listener(Transport::Udp, 5060),
            listener(Transport::Tcp, 5060),
            listener(Transport::Tls, 5061),
        ],
        upstreams: vec![Upstream {
            name: "pbx".into(),
            domains: vec!["pbx.example.com".into()],
            nodes: vec![Node {
                index: 0,
                host: "192.0.2.80".into(),
                port: Some(5080),
                transport: Some(Transport::Udp),
            }],
            contact,
            qualify: Qualify::Local,
            trust: vec!["192.0.2.80/31".parse().unwrap()],
            trusts_datagrams: true,
            expires: Duration::from_secs(3600),
            keep: None,
        }],
        wake: Wake {
            timeout: Duration::from_secs(25),
            fresh: Duration::from_secs(5),
            probe: Duration::from_millis(400),
            grace: Duration::from_secs(2),
            late: Duration::from_secs(30),
            hold_response: HoldResponse::None,
            unreachable_status: 480,
            // Short enough for `assert_quiet`.
            message_hold: Duration::from_secs(60),
            missed_call_push: false,
            no_global_decline: false,
        },
        register: RegisterRules::default(),
        timing: Timing::default(),
        limits: Limits::default(),
        guard: Guard::default(),
        push: rouse::proto::settings::Push {
            apps: vec![
                PushApp {
                    pns: Pns::Apns,
                    name: "com.example.app".into(),
                },
                PushApp {
                    pns: Pns::Fcm,
                    name: "project".into(),
                },
            ],
            ..Default::default()
        },
    }
}

/// Asterisk's flow.
pub fn pbx() -> Flow {
    let remote = SocketAddr::from(([192, 0, 2, 80], 5080));
    let listener = ListenerId(0);
    Flow {
        id: FlowId::Datagram { listener, remote },
        listener,
        remote,
        transport: Transport::Udp,
    }
}

/// A connection that we opened to Asterisk.
pub fn pbx_tcp() -> Flow {
    Flow {
        id: FlowId::Stream(ConnectionId(900)),
        listener: ListenerId(1),
        remote: pbx().remote,
        transport: Transport::Tcp,
    }
}

/// A phone's UDP flow.
pub fn udp(port: u16) -> Flow {
    let remote = SocketAddr::from(([198, 51, 100, 7], port));
    let listener = ListenerId(0);
    Flow {
        id: FlowId::Datagram { listener, remote },
        listener,
        remote,
        transport: Transport::Udp,
    }
}

/// A phone's TLS connection.
pub fn tls(number: u64) -> Flow {
    Flow {
        listener: ListenerId(2),
        transport: Transport::Tls,
        ..tcp(number)
    }
}

/// A phone's TCP connection.
pub fn tcp(number: u64) -> Flow {
    Flow {
        id: FlowId::Stream(ConnectionId(number)),
        listener: ListenerId(1),
        remote: SocketAddr::from(([198, 51, 100, 7], 40_000)),
        transport: Transport::Tcp,
    }
}

impl World {
    pub fn new() -> Self {
        Self::with(settings(ContactMode::Agent))
    }

    pub fn with(settings: Settings) -> Self {
        let start = rouse::io::clock::Clock::now();
        let genesis = Genesis {
            settings: Arc::new(settings),
            shard: 0,
            shards: SHARDS.get(),
            anchor: ClockAnchor {
                instant: start,
                unix_ms: 1_800_000_000_000,
            },
            seed: [7; 32],
            key: [9; 32],
        };
        let mut world = Self {
            gateways: gateways(&genesis),
            purrs: Purrs::new(&genesis.key),
            genesis,
            masks: BTreeMap::new(),
            start,
            now: start,
            sent: VecDeque::new(),
            pushes: VecDeque::new(),
            withdrawn: Vec::new(),
            pings: VecDeque::new(),
            events: Vec::new(),
            bound: Vec::new(),
            claims: Vec::new(),
            stored: Vec::new(),
            held: Vec::new(),
            resumes_calls: false,
            left: Vec::new(),
            is_store_working: true,
            is_store_slow: false,
            unanswered: Vec::new(),
            over: BTreeSet::new(),
            echoes: Vec::new(),
            next_number: 0,
            outside: None,
        };
        world.drain();
        world
    }

    /// Leaves what leaves to whoever takes it from `outside`.
    pub fn played_outside(settings: Settings) -> Self {
        let mut world = Self::with(settings);
        world.outside = Some(VecDeque::new());
        world
    }

    /// The process dies and another starts on the same store.
    pub fn restart(&mut self) {
        let anchor = ClockAnchor {
            instant: self.now,
            unix_ms: 1_800_000_000_000
                + u64::try_from(self.now.duration_since(self.start).as_millis()).unwrap(),
        };
        self.genesis.anchor = anchor;
        self.genesis.seed[0] += 1;
        self.gateways = gateways(&self.genesis);
        self.masks.clear();
        self.bound.clear();
        for binding in self.stored.clone() {
            self.input(Input::Command(Command::Restore(Box::new(binding))));
        }
        if self.resumes_calls {
            for call in self.held.clone() {
                self.input(Input::Command(Command::Resume(Box::new(call))));
            }
        }
        self.drain();
    }

    pub fn input(&mut self, input: Input) {
        if let Input::FlowClosed { flow, .. } = input {
            self.over.insert(flow);
        }
        for shard in self.shards_of(&input) {
            let gateway = &mut self.gateways[usize::from(shard)];
            gateway.handle_input(self.now, input.clone());
            self.drain();
        }
    }

    /// The shards that get an input, as the transports and the driver find them.
    fn shards_of(&self, input: &Input) -> Vec<u16> {
        let all = 0..self.genesis.shards;
        let mask = |flow: &FlowId| self.masks.get(flow).copied().unwrap_or(0);
        let bound = |flow: &FlowId| {
            let mask = mask(flow);
            all.clone()
                .filter(move |shard| mask & bit(*shard) != 0)
                .collect()
        };
        match input {
            Input::Message { flow, message } | Input::Shed { flow, message } => {
                match route(message, mask(&flow.id), self.genesis.shards, &self.purrs) {
                    Shards::One(shard) => vec![shard],
                    Shards::All => all.collect(),
                }
            }
            Input::Malformed { flow, .. } => vec![flow.remote.port() % self.genesis.shards],
            Input::Heard { flow } | Input::FlowClosed { flow, .. } => bound(flow),
            Input::Pushed { id, .. } => vec![id.shard],
            Input::Stored { ticket, .. } => vec![ticket.shard],
            Input::Command(Command::Restore(binding)) => {
                vec![binding.key.aor.shard(self.genesis.shards)]
            }
            Input::Command(Command::Forget(key)) => vec![key.aor.shard(self.genesis.shards)],
            Input::Command(Command::Resume(call)) => {
                let message = Message::parse(call.request.clone()).unwrap();
                match route(&message, 0, self.genesis.shards, &self.purrs) {
                    Shards::One(shard) => vec![shard],
                    Shards::All => vec![0],
                }
            }
            // A client's number is unlike any other shard's.
            Input::SendFailed { .. }
            | Input::Resolved { .. }
            | Input::Claimed(_)
            | Input::Command(Command::Drain | Command::HandOver | Command::Reload(_)) => {
                all.collect()
            }
        }
    }

    /// How soon the driver would hand a message on in a surge.
    pub fn urgency(&self, flow: &Flow, message: &Message) -> Urgency {
        let mask = self.masks.get(&flow.id).copied().unwrap_or(0);
        let shard = match route(message, mask, self.genesis.shards, &self.purrs) {
            Shards::One(shard) => shard,
            Shards::All => 0,
        };
        self.gateways[usize::from(shard)].urgency(flow, message)
    }

    /// Bindings, and those with an open flow.
    pub fn count(&self) -> (usize, usize) {
        let counts = self
            .gateways
            .iter()
            .map(|gateway| gateway.location().count());
        counts.fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1))
    }

    pub fn timers(&self) -> impl Iterator<Item = (Instant, Timer)> + '_ {
        self.gateways.iter().flat_map(Gateway::timers)
    }

    /// What is in flight in all shards together.
    pub fn in_flight(&self) -> [usize; 6] {
        let all = self.gateways.iter().map(Gateway::in_flight);
        all.fold([0; 6], |sum, next| {
            std::array::from_fn(|at| sum[at] + next[at])
        })
    }

    /// A message arrives.
    pub fn receive(&mut self, flow: Flow, text: impl AsRef<[u8]>) {
        self.over.remove(&flow.id);
        let bytes = Bytes::copy_from_slice(text.as_ref());
        match Message::parse(bytes.clone()) {
            Ok(message) => self.input(Input::Message { flow, message }),
            Err(error) => self.input(Input::Malformed { flow, bytes, error }),
        }
    }

    fn drain(&mut self) {
        let mut answers = Vec::new();
        // Twice: what one shard claims another hears.
        for shard in (0..self.genesis.shards).chain(0..self.genesis.shards) {
            while let Some(output) = self.gateways[usize::from(shard)].poll_output() {
                answers.extend(self.act(shard, output));
            }
        }
        for (shard, flow) in std::mem::take(&mut self.echoes) {
            let reason = CloseReason::Transport;
            let gateway = &mut self.gateways[usize::from(shard)];
            gateway.handle_input(self.now, Input::FlowClosed { flow, reason });
            self.drain();
        }
        if self.is_store_slow {
            self.unanswered.extend(answers);
        } else {
            self.answer_writes(answers);
        }
    }

    fn act(&mut self, shard: u16, output: Output) -> Option<StoreTicket> {
        let is_routing = matches!(
            output,
            Output::FlowBound { .. } | Output::FlowUnbound { .. }
        );
        if let (false, Some(outside)) = (is_routing, &mut self.outside) {
            outside.push_back(output);
            return None;
        }
        match output {
            Output::Send {
                to,
                message,
                report,
            } => {
                let message = Message::parse(message).expect("the gateway writes SIP");
                // A 400 or 505 quotes what was wrong with the request.
                if !matches!(message.status(), Some(400 | 505)) {
                    message.validate().expect("the gateway writes valid SIP");
                }
                let at = self.now;
                self.sent.push_back(Sent {
                    at,
                    to,
                    message,
                    report,
                });
            }
            Output::Ping { flow } => self.pings.push_back(flow),
            Output::Close { .. } | Output::Resolve { .. } => {}
            Output::HandedOver(left) => self.left.extend(left),
            Output::Claim(claim) => {
                self.claims.push(claim);
                let others = (0..self.genesis.shards).filter(|other| *other != shard);
                for other in others {
                    let gateway = &mut self.gateways[usize::from(other)];
                    gateway.handle_input(self.now, Input::Claimed(claim));
                }
            }
            Output::FlowBound { flow } => {
                let mask = self.masks.entry(flow).or_default();
                if *mask == 0 {
                    self.bound.push(flow);
                }
                *mask |= bit(shard);
                // As the transports say it of a connection that has ended already.
                if self.over.contains(&flow) {
                    self.echoes.push((shard, flow));
                }
            }
            Output::FlowUnbound { flow } => {
                let mask = self.masks.entry(flow).or_default();
                *mask &= !bit(shard);
                if *mask == 0 {
                    self.masks.remove(&flow);
                    self.bound.retain(|other| *other != flow);
                }
            }
            Output::Push(push) => self.pushes.push_back(*push),
            Output::Withdraw(push) => self.withdrawn.push(push),
            Output::Store { ticket, write } => {
                if self.is_store_working {
                    self.write(write);
                }
                return ticket;
            }
            Output::Event(event) => self.events.push(event),
        }
        None
    }

    /// The store catches up.
    pub fn store(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        self.answer_writes(unanswered);
    }

    fn answer_writes(&mut self, tickets: Vec<StoreTicket>) {
        let durable = self.is_store_working;
        for ticket in tickets {
            self.input(Input::Stored { ticket, durable });
        }
    }

    /// Makes a write durable.
    pub fn write(&mut self, write: StoreWrite) {
        match write {
            StoreWrite::Put(binding) => {
                self.stored.retain(|old| old.key != binding.key);
                self.stored.push(*binding);
            }
            StoreWrite::Extend {
                key,
                expires_unix,
                registered_ms,
            } => {
                for old in self.stored.iter_mut().filter(|old| old.key == key) {
                    old.expires_unix = expires_unix;
                    old.registered_ms = registered_ms;
                }
            }
            StoreWrite::Remove(key) => self.stored.retain(|old| old.key != key),
            StoreWrite::Hold(call) => self.held.push(*call),
            StoreWrite::Release(id) => self.held.retain(|call| call.id != id),
        }
    }

    /// Lets time pass.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.due().filter(|at| *at <= end) {
            self.fire(at);
        }
        self.now = end;
    }

    /// A message could not be sent.
    pub fn fail(&mut self, sent: &Sent) {
        let transaction = sent.report.expect("somebody wants to know");
        self.input(Input::SendFailed { transaction });
    }

    /// When something is due in a gateway.
    pub fn due(&self) -> Option<Instant> {
        self.gateways.iter().filter_map(Gateway::poll_timeout).min()
    }

    /// Goes to that time, and fires what is due.
    pub fn fire(&mut self, at: Instant) {
        self.now = self.now.max(at);
        for gateway in &mut self.gateways {
            gateway.handle_timeout(self.now);
        }
        self.drain();
    }

    /// An agent, as its shard knows it.
    pub fn agent(&self, aor: AorId) -> Option<&Agent> {
        let shard = aor.shard(self.genesis.shards);
        self.gateways[usize::from(shard)].location().agent(aor)
    }

    pub fn close(&mut self, flow: Flow) {
        self.input(Input::FlowClosed {
            flow: flow.id,
            reason: CloseReason::Peer,
        });
    }

    /// The next message that the gateway sent, which must begin with this.
    #[track_caller]
    pub fn expect(&mut self, start: &str) -> Sent {
        let sent = self
            .sent
            .pop_front()
            .unwrap_or_else(|| panic!("nothing sent: {start}"));
        let line = sent.first_line();
        assert!(
            line.starts_with(start),
            "expected {start}, was {}",
            sent.text()
        );
        sent
    }

    #[track_caller]
    pub fn expect_nothing(&self) {
        let lines: Vec<_> = self.sent.iter().map(Sent::first_line).collect();
        assert!(lines.is_empty(), "sent {lines:?}");
    }

    /// Accepts the next push.
    #[track_caller]
    pub fn accept_push(&mut self) -> PushRequest {
        let push = self.pushes.pop_front().expect("a push");
        let verdict = Ok(PushAccepted {
            provider_id: "id".into(),
        });
        self.input(Input::Pushed {
            id: push.id,
            verdict,
        });
        push
    }

    pub fn refuse_push(&mut self, error: PushError) {
        let push = self.pushes.pop_front().expect("a push");
        self.input(Input::Pushed {
            id: push.id,
            verdict: Err(error),
        });
    }

    pub fn number(&mut self) -> u32 {
        self.next_number += 1;
        self.next_number
    }

    /// A phone registers, and Asterisk accepts it.
    pub fn register(&mut self, flow: Flow, user: &str, params: &str) {
        self.register_for(flow, user, params, "", 3600);
    }

    pub fn register_for(&mut self, flow: Flow, user: &str, params: &str, more: &str, expires: u32) {
        let number = self.number();
        self.receive(flow, register(flow, user, params, more, expires, number));
        let relayed = self.expect("REGISTER sip:pbx.example.com SIP/2.0");
        self.receive(pbx(), ok_to_register(&relayed));
        self.expect("SIP/2.0 200");
    }

    /// Everything that is in flight runs out: what must be left is nothing.
    #[track_caller]
    pub fn assert_quiet(&mut self) {
        self.advance(Duration::from_secs(80));
        let asked: usize = self.gateways.iter().map(Gateway::nodes_asked).sum();
        assert_eq!(self.in_flight(), [0, 0, asked, 0, 0, 0]);
        let late: Vec<_> = self
            .timers()
            .filter(|(_, timer)| match timer {
                Timer::Binding(_) | Timer::Resolve(_) | Timer::Health(_) => false,
                Timer::Client(..) => asked == 0,
                Timer::Context(..)
                | Timer::Early(..)
                | Timer::LateAnswer(_)
                | Timer::Server(..)
                | Timer::Unbind(_) => true,
            })
            .collect();
        assert!(late.is_empty(), "{late:?}");
    }
}

fn gateways(genesis: &Genesis) -> Vec<Gateway> {
    let shards = 0..genesis.shards;
    shards
        .map(|shard| {
            let mut genesis = genesis.clone();
            genesis.shard = shard;
            genesis.seed[1] = u8::try_from(shard).unwrap();
            Gateway::new(genesis)
        })
        .collect()
}

/// A Feature-Caps value without its PURR, which is another each time.
pub fn without_purr(caps: &str) -> String {
    match caps.split_once(";+sip.pnspurr=\"") {
        Some((before, _)) => before.to_owned(),
        None => caps.to_owned(),
    }
}

pub fn crlf(text: &str) -> String {
    text.trim_start()
        .replace("\r\n", "\n")
        .replace('\n', "\r\n")
}

pub fn via(flow: Flow, branch: &str) -> String {
    let transport = flow.transport.via_token();
    match flow.transport {
        Transport::Udp if flow.id == pbx().id => {
            format!("Via: SIP/2.0/UDP 192.0.2.80:5080;branch={branch};rport")
        }
        Transport::Tcp | Transport::Tls | Transport::Udp | Transport::Ws | Transport::Wss => {
            format!("Via: SIP/2.0/{transport} 10.0.0.5:5060;branch={branch};rport")
        }
    }
}

pub fn register(
    flow: Flow,
    user: &str,
    params: &str,
    more: &str,
    expires: u32,
    number: u32,
) -> String {
    let via = via(flow, &format!("z9hG4bKreg{number}"));
    let params = if params.is_empty() {
        String::new()
    } else {
        format!(";{params}")
    };
    crlf(&format!(
        "
REGISTER sip:pbx.example.com SIP/2.0
{via}
Max-Forwards: 70
From: <sip:{user}@pbx.example.com>;tag=f{number}
To: <sip:{user}@pbx.example.com>
Call-ID: reg-{user}
CSeq: {number} REGISTER
Contact: <sip:{user}@10.0.0.5:5060{params}>{more}
Expires: {expires}
Content-Length: 0

"
    ))
}

/// A response of Asterisk's or a phone's to a request that the gateway sent.
pub fn response(sent: &Sent, status: &str, more: &str) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for header in sent.message.headers() {
        let is_copied = matches!(
            header.name,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::RecordRoute
        );
        if is_copied {
            let name = String::from_utf8_lossy(header.raw_name);
            let value = String::from_utf8_lossy(header.value);
            let is_tagged = header.name != HeaderName::To
                || value.contains(";tag=")
                || status.starts_with("100");
            let tag = if is_tagged { "" } else { ";tag=remote" };
            text.push_str(&format!("{name}: {value}{tag}\r\n"));
        }
    }
    text.push_str(&crlf(more));
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

/// chan_sip's 200: the Contact with what it granted.
pub fn ok_to_register(relayed: &Sent) -> String {
    let contact = relayed.header(HeaderName::Contact);
    let expires = relayed.header(HeaderName::Expires);
    response(
        relayed,
        "200 OK",
        &format!("Contact: {contact};expires={expires}\nExpires: {expires}\n"),
    )
}

/// Asterisk's INVITE to the contact that it was given.
pub fn invite(user: &str, call: &str) -> String {
    invite_to(&contact_uri(user), call)
}

pub fn invite_to(uri: &str, call: &str) -> String {
    let via = via(pbx(), &format!("z9hG4bK{call}"));
    crlf(&format!(
        "
INVITE {uri} SIP/2.0
{via}
Max-Forwards: 70
From: \"Caller\" <sip:2001@192.0.2.80>;tag=as{call}
To: <{uri}>
Contact: <sip:2001@192.0.2.80:5080>
Call-ID: {call}
CSeq: 102 INVITE
Content-Type: application/sdp
Content-Length: 5

v=0
"
    ))
}

/// The Contact that Asterisk has of an agent in `contact = "agent"`.
pub fn contact_uri(user: &str) -> String {
    let aor = AorId::of(user.as_bytes(), b"pbx.example.com");
    format!("sip:{user}@192.0.2.1:5060;rouse={:016x}", aor.0)
}

/// A request of Asterisk's beside its INVITE: CANCEL, or the ACK of a refusal.
pub fn beside(method: &str, user: &str, call: &str, more: &str) -> String {
    let via = via(pbx(), &format!("z9hG4bK{call}"));
    let uri = contact_uri(user);
    crlf(&format!(
        "
{method} {uri} SIP/2.0
{via}
Max-Forwards: 70
From: \"Caller\" <sip:2001@192.0.2.80>;tag=as{call}
To: <{uri}>{tag}
Call-ID: {call}
CSeq: 102 {method}
{more}Content-Length: 0

",
        tag = if method == "ACK" { ";tag=x" } else { "" },
    ))
}
