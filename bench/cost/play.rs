//! Plays a call, a REGISTER and a wake through one gateway in virtual time, message by message as
//! an Asterisk and phones send them.
//!
//! Only [`work`] is counted: from the bytes of a message to the bytes that leave, with the metrics
//! and log lines between them. Writing the peers' messages is not.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rouse::proto::gateway::{Gateway, Genesis};
use rouse::proto::push::{Prid, PushAccepted, PushRequest};
use rouse::proto::registration::binding::StoredBinding;
use rouse::proto::registration::purr::Purrs;
use rouse::proto::shard;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::{
    AorId, BindingId, ClockAnchor, CloseReason, Command, ConnectionId, Flow, FlowId, Input,
    ListenerId, Output, StoreTicket, StoreWrite, Transport,
};
use rouse::telemetry::metrics::Metrics;
use rouse::telemetry::timeline::{Keep, Recorder};

use crate::settings::settings;

/// Times between two units of work: a transaction's 32 s hold 3,200 others.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a unit's transactions live.
pub(crate) const LIFE: usize = 3300;

const SDP: &str = "v=0\r\no=- 3724394400 3724394400 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n\
t=0 0\r\nm=audio 40000 RTP/AVP 96 9 8 0 101\r\na=rtpmap:96 opus/48000/2\r\na=fmtp:96 useinbandfec=1\r\n\
a=rtpmap:9 G722/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, NOTIFY, REFER, UPDATE, PRACK";

/// Counts what a piece of work costs while it runs.
pub(crate) trait Meter {
    /// Runs it.
    fn count(&mut self, work: &mut dyn FnMut());
}

/// How many are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowd {
    /// Registered agents, each with one phone.
    pub(crate) agents: usize,
    /// Datagram flows that they share.
    pub(crate) flows: usize,
}

/// A gateway and its peers.
pub(crate) struct Stage<M> {
    gateway: Gateway,
    metrics: Metrics,
    now: Instant,
    crowd: Crowd,
    meter: M,
    next: usize,
    sent: Vec<Bytes>,
    pushes: Vec<PushRequest>,
    tickets: Vec<StoreTicket>,
    stored: Option<StoredBinding>,
    outputs: Vec<Output>,
    /// What remembers the calls, if anybody does.
    recorder: Option<Mutex<Recorder>>,
}

/// What the way in reads PURRs with.
static PURRS: LazyLock<Purrs> = LazyLock::new(|| Purrs::new(&[9; 32]));

/// What is counted: one input and all that follows of it.
#[inline(never)]
pub(crate) fn work(
    gateway: &mut Gateway,
    (metrics, recorder): (&Metrics, Option<&Mutex<Recorder>>),
    now: Instant,
    input: Arrival,
    outputs: &mut Vec<Output>,
) {
    let input = match input {
        Arrival::Bytes(flow, bytes) => {
            let Ok(message) = Message::parse(bytes) else {
                return;
            };
            std::hint::black_box(shard::route(&message, 3, 2, &PURRS));
            Some(Input::Message { flow, message })
        }
        Arrival::Input(input) => Some(input),
        Arrival::Timeout => None,
    };
    match input {
        Some(input) => gateway.handle_input(now, input),
        None => gateway.handle_timeout(now),
    }
    while let Some(output) = gateway.poll_output() {
        if let Output::Event(event) = &output {
            metrics.record(event);
            if let Some(recorder) = recorder {
                recorder.lock().record(now, event);
            }
        } else {
            outputs.push(output);
        }
    }
}

/// What comes from outside.
pub(crate) enum Arrival {
    /// A message.
    Bytes(Flow, Bytes),
    /// Anything else.
    Input(Input),
    /// A timer is due.
    Timeout,
}

impl<M: Meter> Stage<M> {
    /// A gateway that knows so many agents, all awake.
    pub(crate) fn new(crowd: Crowd, meter: M) -> Self {
        let start = rouse::io::clock::Clock::now();
        let genesis = Genesis {
            settings: Arc::new(settings()),
            shard: 0,
            shards: 2,
            anchor: ClockAnchor {
                instant: start,
                unix_ms: 1_800_000_000_000,
            },
            seed: [7; 32],
            key: [9; 32],
        };
        let mut stage = Self {
            gateway: Gateway::new(genesis),
            metrics: Metrics::new(),
            now: start,
            crowd,
            meter,
            next: 0,
            sent: Vec::new(),
            pushes: Vec::new(),
            tickets: Vec::new(),
            stored: None,
            outputs: Vec::with_capacity(64),
            recorder: None,
        };
        stage.populate();
        stage
    }

    /// From here on calls are remembered, as many as by default.
    pub(crate) fn remember(&mut self) {
        let keep = Keep {
            calls: 1000,
            bytes: 16 << 20,
            notes: 16_384,
        };
        let anchor = ClockAnchor {
            instant: self.now,
            unix_ms: 1_800_000_000_000,
        };
        self.recorder = Some(Mutex::new(Recorder::new(0, keep, anchor)));
    }

    /// The meter, in the end.
    pub(crate) fn into_meter(self) -> M {
        self.meter
    }

    /// One call to an agent that is awake, from INVITE to the answer to BYE.
    pub(crate) fn call(&mut self) {
        let number = self.next();
        let agent = number.wrapping_mul(7919) % self.crowd.agents;
        let phone = self.phone(agent);
        self.arrive(pbx(), invite(number, agent));
        assert_eq!(self.sent.len(), 2, "100 and INVITE");
        let invite = self.parsed(1);
        self.finish_call(number, agent, phone, &invite);
    }

    fn finish_call(&mut self, number: usize, agent: usize, phone: Flow, invite: &Message) {
        self.arrive(phone, answer(invite, "180 Ringing", "", ""));
        assert_eq!(self.sent.len(), 1, "180");
        let contact = format!(
            "Contact: <{}>\r\nContent-Type: application/sdp\r\n",
            contact_of(agent, phone)
        );
        self.arrive(phone, answer(invite, "200 OK", &contact, SDP));
        let ok = self.parsed(0);
        self.arrive(pbx(), in_dialog(&ok, "ACK", 1, number));
        assert_eq!(self.sent.len(), 1, "ACK");
        self.arrive(pbx(), in_dialog(&ok, "BYE", 2, number));
        let bye = self.parsed(0);
        self.arrive(phone, answer(&bye, "200 OK", "", ""));
        assert_eq!(self.sent.len(), 1, "200 to BYE");
        self.pass();
    }

    /// One REGISTER of an agent that is not there yet, up to its durable 200.
    pub(crate) fn register(&mut self) {
        let number = self.next();
        let agent = self.crowd.agents + number;
        let phone = self.phone(agent);
        self.registers(number, agent, phone);
        self.pass();
    }

    /// One REGISTER of an agent that is there.
    pub(crate) fn refresh(&mut self) {
        let number = self.next();
        let agent = number % self.crowd.agents;
        let phone = self.phone(agent);
        self.registers(number, agent, phone);
        self.pass();
    }

    fn registers(&mut self, number: usize, agent: usize, phone: Flow) {
        self.arrive(phone, register(number, agent, phone));
        let relayed = self.parsed(0);
        let contact = relayed
            .header(HeaderName::Contact)
            .map(text)
            .unwrap_or_default();
        let granted = format!("Contact: {contact};expires=36000\r\n");
        self.arrive(pbx(), answer(&relayed, "200 OK", &granted, ""));
        let tickets = std::mem::take(&mut self.tickets);
        assert_eq!(tickets.len(), 1, "a write");
        let was = self.sent.len();
        for ticket in tickets {
            let durable = true;
            self.feed(Arrival::Input(Input::Stored { ticket, durable }));
        }
        assert!(self.sent.len() > was, "200 to REGISTER");
    }

    /// One call to an agent whose phone sleeps: push, REGISTER, and the call.
    pub(crate) fn wake(&mut self) {
        let number = self.next();
        let agent = number % self.crowd.agents;
        self.arrive(pbx(), invite(number, agent));
        let push = self.pushes.pop().expect("a push");
        let provider_id = "5F3A7C21-0000-4000-8000-000000000001".into();
        let verdict = Ok(PushAccepted { provider_id });
        let id = push.id;
        self.feed(Arrival::Input(Input::Pushed { id, verdict }));
        let phone = self.phone(agent);
        self.sent.clear();
        self.registers(number, agent, phone);
        let found = self
            .sent
            .iter()
            .rposition(|bytes| bytes.starts_with(b"INVITE"));
        let invite = self.parsed(found.expect("the INVITE"));
        self.finish_call(number, agent, phone, &invite);
    }

    /// Puts all phones to sleep, as streams that have gone.
    pub(crate) fn sleep(&mut self) {
        for agent in 0..self.crowd.agents {
            let flow = stream(agent);
            self.quietly(Arrival::Bytes(flow, register(agent, agent, flow)));
            let relayed = self.parsed(0);
            let contact = relayed
                .header(HeaderName::Contact)
                .map(text)
                .unwrap_or_default();
            let granted = format!("Contact: {contact};expires=36000\r\n");
            self.quietly(Arrival::Bytes(
                pbx(),
                answer(&relayed, "200 OK", &granted, ""),
            ));
            for ticket in std::mem::take(&mut self.tickets) {
                let durable = true;
                self.quietly(Arrival::Input(Input::Stored { ticket, durable }));
            }
            let reason = CloseReason::Peer;
            let flow = flow.id;
            self.quietly(Arrival::Input(Input::FlowClosed { flow, reason }));
            // They share an address, which has a rate.
            self.now += PAUSE;
        }
        self.now += Duration::from_secs(60);
        self.quietly(Arrival::Timeout);
    }

    /// Restores agents from a pattern, and hears their flows.
    fn populate(&mut self) {
        let flow = self.phone(0);
        self.quietly(Arrival::Bytes(flow, register(0, 0, flow)));
        let relayed = self.parsed(0);
        let contact = relayed
            .header(HeaderName::Contact)
            .map(text)
            .unwrap_or_default();
        let granted = format!("Contact: {contact};expires=36000\r\n");
        self.quietly(Arrival::Bytes(
            pbx(),
            answer(&relayed, "200 OK", &granted, ""),
        ));
        for ticket in std::mem::take(&mut self.tickets) {
            let durable = true;
            self.quietly(Arrival::Input(Input::Stored { ticket, durable }));
        }
        let pattern = self.stored.clone().expect("a stored binding");
        for agent in 1..self.crowd.agents {
            let binding = Box::new(self.stored_like(&pattern, agent));
            self.quietly(Arrival::Input(Input::Command(Command::Restore(binding))));
        }
        for index in 0..self.crowd.flows {
            let flow = self.phone(index).id;
            self.quietly(Arrival::Input(Input::Heard { flow }));
        }
        self.sent.clear();
    }

    fn stored_like(&self, pattern: &StoredBinding, agent: usize) -> StoredBinding {
        let mut stored = pattern.clone();
        let flow = self.phone(agent);
        stored.user = user(agent).into();
        stored.key.aor = aor(agent);
        stored.key.binding = BindingId(agent as u64);
        stored.contact = contact(agent, flow).into();
        stored.instance = Some(instance(agent).trim_matches(['<', '>']).into());
        if let Some(push) = &mut stored.push {
            push.call_token = Prid::new(&format!("{agent:064x}"));
        }
        stored.flow = flow;
        stored
    }

    fn next(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    /// The flow of an agent's phone.
    fn phone(&self, agent: usize) -> Flow {
        let index = agent % self.crowd.flows;
        let port = 1024 + u16::try_from(index % 60_000).unwrap_or(0);
        let host = u8::try_from(index / 60_000).unwrap_or(0);
        datagram(SocketAddr::from(([198, 51, 100, host], port)))
    }

    fn parsed(&mut self, at: usize) -> Message {
        let bytes = self.sent.get(at).cloned().expect("something was sent");
        self.sent.clear();
        Message::parse(bytes).expect("the gateway writes SIP")
    }

    fn arrive(&mut self, flow: Flow, bytes: Bytes) {
        self.sent.clear();
        self.feed(Arrival::Bytes(flow, bytes));
    }

    /// Time goes on, and what is due fires.
    fn pass(&mut self) {
        self.now += PAUSE;
        while self
            .gateway
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.feed(Arrival::Timeout);
        }
        self.sent.clear();
    }

    fn feed(&mut self, arrival: Arrival) {
        let mut arrival = Some(arrival);
        let gateway = &mut self.gateway;
        let told = (&self.metrics, self.recorder.as_ref());
        let (outputs, now) = (&mut self.outputs, self.now);
        self.meter.count(&mut || {
            if let Some(arrival) = arrival.take() {
                work(gateway, told, now, arrival, outputs);
            }
        });
        self.sort_out();
    }

    fn quietly(&mut self, arrival: Arrival) {
        self.sent.clear();
        self.pushes.clear();
        let mut outputs = std::mem::take(&mut self.outputs);
        match arrival {
            Arrival::Bytes(flow, bytes) => {
                let message = Message::parse(bytes).expect("SIP");
                self.gateway
                    .handle_input(self.now, Input::Message { flow, message });
            }
            Arrival::Input(input) => self.gateway.handle_input(self.now, input),
            Arrival::Timeout => self.gateway.handle_timeout(self.now),
        }
        outputs.extend(std::iter::from_fn(|| self.gateway.poll_output()));
        self.outputs = outputs;
        self.sort_out();
    }

    fn sort_out(&mut self) {
        for output in self.outputs.drain(..) {
            match output {
                Output::Send { message, .. } => self.sent.push(message),
                Output::Push(push) => self.pushes.push(*push),
                Output::Store { ticket, write } => {
                    self.tickets.extend(ticket);
                    if let StoreWrite::Put(binding) = write {
                        self.stored.get_or_insert(*binding);
                    }
                }
                Output::Ping { .. }
                | Output::Close { .. }
                | Output::FlowBound { .. }
                | Output::FlowUnbound { .. }
                | Output::Resolve { .. }
                | Output::Withdraw(_)
                | Output::Claim(_)
                | Output::Event(_)
                | Output::HandedOver(_) => {}
            }
        }
    }
}

fn pbx() -> Flow {
    datagram(SocketAddr::from(([127, 0, 0, 2], 5080)))
}

fn datagram(remote: SocketAddr) -> Flow {
    let listener = ListenerId(0);
    Flow {
        id: FlowId::Datagram { listener, remote },
        listener,
        remote,
        transport: Transport::Udp,
    }
}

fn stream(agent: usize) -> Flow {
    Flow {
        id: FlowId::Stream(ConnectionId(agent as u64)),
        listener: ListenerId(1),
        remote: SocketAddr::from(([198, 51, 100, 250], 9)),
        transport: Transport::Tcp,
    }
}

fn user(agent: usize) -> String {
    format!("u{agent:07}")
}

fn aor(agent: usize) -> AorId {
    AorId::of(user(agent).as_bytes(), b"example.test")
}

fn instance(agent: usize) -> String {
    format!("<urn:uuid:00000000-0000-4000-8000-{agent:012x}>")
}

fn contact_of(agent: usize, flow: Flow) -> String {
    format!("sip:{}@{}", user(agent), flow.remote)
}

/// The Contact that a phone registers.
fn contact(agent: usize, flow: Flow) -> String {
    format!(
        "<{};pn-provider=apns;pn-param=A1B2C3D4E5.com.example.phone.voip;pn-prid={agent:064x}:voip>\
         ;+sip.instance=\"{}\"",
        contact_of(agent, flow),
        instance(agent)
    )
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn invite(number: usize, agent: usize) -> Bytes {
    let (user, aor, length) = (user(agent), aor(agent).0, SDP.len());
    format!(
        "INVITE sip:{user}@127.0.0.1:5960;rouse={aor:016x} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.2:5080;branch=z9hG4bKi{number}-call4711;rport\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice Example\" <sip:alice@example.test>;tag=f{number}-call4711\r\n\
         To: <sip:{user}@example.test>\r\nCall-ID: {number}-call4711@127.0.0.1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:alice@127.0.0.2:5080>\r\nAllow: {ALLOW}\r\n\
         Supported: replaces, 100rel, timer, outbound, path\r\nSession-Expires: 1800\r\n\
         Min-SE: 90\r\nUser-Agent: load/1 (measurement on loopback)\r\n\
         Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"
    )
    .into()
}

fn register(number: usize, agent: usize, flow: Flow) -> Bytes {
    let (user, transport, remote) = (user(agent), flow.transport.via_token(), flow.remote);
    format!(
        "REGISTER sip:example.test SIP/2.0\r\n\
         Via: SIP/2.0/{transport} {remote};branch=z9hG4bKr{number}-r4711;rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@example.test>;tag=r{number}\r\n\
         To: <sip:{user}@example.test>\r\nCall-ID: {agent}-r4711@127.0.0.1\r\nCSeq: {number} REGISTER\r\n\
         Contact: {}\r\n\
         Expires: 36000\r\nAllow: {ALLOW}\r\nSupported: path, gruu\r\n\
         User-Agent: ExamplePhone/4.2.1 (measurement on loopback)\r\nContent-Length: 0\r\n\r\n",
        contact(agent, flow)
    )
    .into()
}

/// An answer with what RFC 3261 §8.2.6 has it copy.
fn answer(request: &Message, line: &str, more: &str, body: &str) -> Bytes {
    let mut out = format!("SIP/2.0 {line}\r\n");
    for header in request.headers() {
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
            let value = text(header.value);
            let is_tagged = header.name != HeaderName::To || value.contains(";tag=");
            let tag = if is_tagged { "" } else { ";tag=answer" };
            out += &format!("{}: {value}{tag}\r\n", text(header.raw_name));
        }
    }
    out += &format!("{more}Content-Length: {}\r\n\r\n{body}", body.len());
    out.into()
}

/// A request inside the dialog that a 2xx opened.
fn in_dialog(ok: &Message, method: &str, cseq: u32, number: usize) -> Bytes {
    let contact = ok.header(HeaderName::Contact).map(text).unwrap_or_default();
    let target = contact.trim_start_matches('<').trim_end_matches('>');
    let mut routes = String::new();
    for route in ok.values(HeaderName::RecordRoute) {
        routes = format!("Route: {}\r\n{routes}", text(route));
    }
    let of = |name| ok.header(name).map(text).unwrap_or_default();
    let (from, to, id) = (
        of(HeaderName::From),
        of(HeaderName::To),
        of(HeaderName::CallId),
    );
    format!(
        "{method} {target} SIP/2.0\r\n\
         Via: SIP/2.0/UDP 127.0.0.2:5080;branch=z9hG4bK{method}{number}-call4711;rport\r\n\
         Max-Forwards: 70\r\n{routes}From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\n\
         CSeq: {cseq} {method}\r\nUser-Agent: load/1 (measurement on loopback)\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into()
}
