//! One transaction table in virtual time, and what it sends, hears of and forgets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rouse::proto::effects::Effects;
use rouse::proto::event::Drop;
use rouse::proto::settings::Timing;
use rouse::proto::sip::Message;
use rouse::proto::timer::{Letter, Timer, TimerQueue};
use rouse::proto::transaction::{ClientEvent, ClientId, Received, ServerId, Transactions};
use rouse::proto::{
    ConnectionId, Destination, Event, Flow, FlowId, Hop, ListenerId, Output, Transport,
};

/// The phone's address.
pub(crate) const PHONE: &str = "192.0.2.10:49152";
/// Asterisk's address.
pub(crate) const ASTERISK: &str = "198.51.100.7:5080";

const SHARD: u16 = 3;

/// The table and its world.
pub(crate) struct Rig {
    start: Instant,
    now: Instant,
    timers: TimerQueue,
    rng: StdRng,
    outputs: VecDeque<Output>,
    pub(crate) table: Transactions,
    /// What was sent since it was last taken.
    sent: Vec<Sent>,
    /// What was dropped.
    pub(crate) drops: Vec<Drop>,
    /// What client timers told the user, with the time in milliseconds.
    pub(crate) told: Vec<(u64, ClientId, ClientEvent)>,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Milliseconds since the start.
    pub(crate) at: u64,
    pub(crate) to: Destination,
    pub(crate) text: String,
}

impl Sent {
    /// Returns the start line.
    pub(crate) fn start_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_limit(1_000)
    }

    pub(crate) fn with_limit(limit: usize) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "virtual time has to start somewhere"
        )]
        let start = Instant::now();
        Self {
            start,
            now: start,
            timers: TimerQueue::default(),
            rng: StdRng::seed_from_u64(7),
            outputs: VecDeque::new(),
            table: Transactions::new(Timing::default(), SHARD, limit, [1, 2]),
            sent: Vec::new(),
            drops: Vec::new(),
            told: Vec::new(),
        }
    }

    // --- time ---

    /// Milliseconds since the start.
    pub(crate) fn millis(&self) -> u64 {
        u64::try_from((self.now - self.start).as_millis()).expect("less than a million years")
    }

    /// Goes on to this time, firing what is due at its own instant.
    pub(crate) fn run_until(&mut self, millis: u64) {
        let end = self.start + Duration::from_millis(millis);
        while let Some(at) = self.timers.next().filter(|at| *at <= end) {
            self.now = at;
            let Some(timer) = self.timers.pop_due(at) else {
                break;
            };
            match timer {
                Timer::Client(id, letter) => {
                    let told = self.with(|table, fx| table.handle_client_timer(fx, id, letter));
                    let at = self.millis();
                    self.told.extend(told.map(|event| (at, id, event)));
                }
                Timer::Server(id, letter) => {
                    self.with(|table, fx| table.handle_server_timer(fx, id, letter));
                }
                other => panic!("not a transaction's timer: {other:?}"),
            }
        }
        self.now = end;
    }

    /// The letters that are armed, and in how many milliseconds each fires.
    pub(crate) fn armed(&self) -> Vec<(Letter, u64)> {
        let mut armed: Vec<_> = self
            .timers
            .iter()
            .map(|(at, timer)| {
                let (Timer::Client(_, letter) | Timer::Server(_, letter)) = timer else {
                    panic!("not a transaction's timer: {timer:?}");
                };
                let after = (at - self.now).as_millis();
                (letter, u64::try_from(after).expect("a short time"))
            })
            .collect();
        armed.sort_unstable();
        armed
    }

    /// Nothing is live and nothing is armed.
    pub(crate) fn assert_quiet(&self) {
        assert_eq!(self.table.count(), (0, 0), "server and client transactions");
        assert_eq!(self.armed(), [], "timers");
    }

    // --- what came out ---

    /// Takes what was sent.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// Takes the one message that was sent.
    pub(crate) fn sent_one(&mut self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "one message: {sent:#?}");
        sent.remove(0)
    }

    /// Takes what was sent, as time and first word.
    pub(crate) fn sent_at(&mut self) -> Vec<(u64, String)> {
        self.sent()
            .iter()
            .map(|sent| {
                let line = sent.start_line();
                let line = line.strip_prefix("SIP/2.0 ").unwrap_or(line);
                let word = line.split(' ').next().unwrap_or_default();
                (sent.at, word.to_owned())
            })
            .collect()
    }

    // --- client side ---

    /// Starts a client transaction with the request that `text` writes around the branch.
    pub(crate) fn start(
        &mut self,
        to: Destination,
        reliable: bool,
        text: impl FnOnce(&str) -> String,
    ) -> ClientId {
        self.with(|table, fx| {
            let id = table.reserve(fx);
            let request = message(&text(&id.branch(SHARD)));
            table.start(fx, id, &request, to, reliable);
            id
        })
    }

    /// Starts an INVITE to the phone over UDP.
    pub(crate) fn invite_udp(&mut self) -> ClientId {
        let to = Destination::Flow(udp(PHONE).id);
        self.start(to, false, |branch| outgoing("INVITE", branch))
    }

    /// Starts an INVITE to the phone over TCP.
    pub(crate) fn invite_tcp(&mut self) -> ClientId {
        let to = Destination::Flow(tcp(PHONE).id);
        self.start(to, true, |branch| outgoing("INVITE", branch))
    }

    /// A response to the client transaction over UDP from the phone.
    pub(crate) fn answer_udp(
        &mut self,
        id: ClientId,
        status: u16,
        method: &str,
    ) -> Option<ClientEvent> {
        self.answer(&udp(PHONE), &answer(id, status, method))
    }

    /// A response to the client transaction over TCP from the phone.
    pub(crate) fn answer_tcp(
        &mut self,
        id: ClientId,
        status: u16,
        method: &str,
    ) -> Option<ClientEvent> {
        self.answer(&tcp(PHONE), &answer(id, status, method))
    }

    /// A response.
    pub(crate) fn answer(&mut self, flow: &Flow, text: &str) -> Option<ClientEvent> {
        let response = message(text);
        self.with(|table, fx| table.handle_response(fx, flow, &response))
            .map(|(_, event)| event)
    }

    pub(crate) fn cancel(&mut self, id: ClientId, reasons: &[&[u8]]) {
        self.with(|table, fx| table.cancel(fx, id, reasons));
    }

    pub(crate) fn send_failed(&mut self, id: ClientId) -> Option<ClientEvent> {
        self.with(|table, fx| table.handle_send_failed(fx, id))
    }

    // --- server side ---

    /// A request.
    pub(crate) fn request(&mut self, flow: &Flow, text: &str) -> Received {
        let request = message(text);
        self.with(|table, fx| table.handle_request(fx, flow, &request))
    }

    /// A request that begins a transaction.
    pub(crate) fn new_request(&mut self, flow: &Flow, text: &str) -> ServerId {
        match self.request(flow, text) {
            Received::New(id) => id,
            other => panic!("not a new transaction: {other:?}"),
        }
    }

    /// A response of the core.
    pub(crate) fn respond(&mut self, id: ServerId, status: u16) {
        self.respond_text(id, status, &reply(status, "INVITE", ""));
    }

    /// A response of the core, written like this.
    pub(crate) fn respond_text(&mut self, id: ServerId, status: u16, text: &str) {
        let response = Bytes::copy_from_slice(text.as_bytes());
        self.with(|table, fx| table.respond(fx, id, status, response));
    }

    /// Lends the effects, and sorts what came out.
    pub(crate) fn with<T>(
        &mut self,
        act: impl FnOnce(&mut Transactions, &mut Effects<'_>) -> T,
    ) -> T {
        let mut fx = Effects {
            now: self.now,
            unix_ms: 0,
            timers: &mut self.timers,
            rng: &mut self.rng,
            outputs: &mut self.outputs,
        };
        let result = act(&mut self.table, &mut fx);
        let at = self.millis();
        while let Some(output) = self.outputs.pop_front() {
            match output {
                Output::Send { to, message, .. } => {
                    let text = String::from_utf8(message.to_vec()).expect("text");
                    self.sent.push(Sent { at, to, text });
                }
                Output::Event(Event::Dropped { place, .. }) => self.drops.push(place),
                other => panic!("not a transaction's output: {other:?}"),
            }
        }
        result
    }
}

/// Reads a message.
pub(crate) fn message(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).expect("a message")
}

/// A datagram flow.
pub(crate) fn udp(remote: &str) -> Flow {
    let remote = address(remote);
    Flow {
        id: FlowId::Datagram {
            listener: ListenerId(0),
            remote,
        },
        listener: ListenerId(0),
        remote,
        transport: Transport::Udp,
    }
}

/// A connection; its number is the remote port.
pub(crate) fn tcp(remote: &str) -> Flow {
    let remote = address(remote);
    Flow {
        id: FlowId::Stream(ConnectionId(u64::from(remote.port()))),
        listener: ListenerId(1),
        remote,
        transport: Transport::Tcp,
    }
}

/// A hop over TCP.
pub(crate) fn hop(remote: &str) -> Destination {
    Destination::Hop(Hop {
        transport: Transport::Tcp,
        address: address(remote),
        server_name: None,
    })
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A request that the gateway sends to the phone.
pub(crate) fn outgoing(method: &str, branch: &str) -> String {
    format!(
        "{method} sip:1003@192.0.2.10:49152;ob SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.5:5060;rport;branch={branch}\r\n\
         Via: SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7eedcd46;rport=5080\r\n\
         Max-Forwards: 69\r\n\
         Route: <sip:edge.example.com;lr>, <sip:inner.example.com;lr>\r\n\
         Route: <sip:last.example.com;lr>\r\n\
         Require: 100rel\r\n\
         Proxy-Require: foo\r\n\
         From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=as4a9390d5\r\n\
         To: <sip:1003@192.0.2.10>\r\n\
         Call-ID: 4c939bbe@198.51.100.7:5080\r\n\
         CSeq: 102 {method}\r\n\
         Content-Type: application/sdp\r\n\
         Content-Length: 5\r\n\r\nv=0\r\n"
    )
}

/// The phone's response to that.
pub(crate) fn answer(id: ClientId, status: u16, method: &str) -> String {
    format!(
        "SIP/2.0 {status} Whatever\r\n\
         Via: SIP/2.0/UDP 203.0.113.5:5060;rport=5060;branch={}\r\n\
         Via: SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7eedcd46;rport=5080\r\n\
         From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=as4a9390d5\r\n\
         To: <sip:1003@192.0.2.10>;tag=6G3claj\r\n\
         Call-ID: 4c939bbe@198.51.100.7:5080\r\n\
         CSeq: 102 {method}\r\n\
         Content-Length: 0\r\n\r\n",
        id.branch(SHARD)
    )
}

/// A request of Asterisk's: chan_sip's INVITE and what belongs to it.
pub(crate) fn incoming(method: &str) -> String {
    incoming_via(
        method,
        "SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7eedcd46;rport",
    )
}

/// The same with another Via.
pub(crate) fn incoming_via(method: &str, via: &str) -> String {
    format!(
        "{method} sip:1003@203.0.113.5 SIP/2.0\r\n\
         Via: {via}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:1002@198.51.100.7>;tag=as2240b4cd\r\n\
         To: <sip:1003@203.0.113.5>\r\n\
         Call-ID: 3a4639b6@198.51.100.7:5080\r\n\
         CSeq: 102 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

/// The core's response to a request of Asterisk's.
pub(crate) fn reply(status: u16, method: &str, to_params: &str) -> String {
    format!(
        "SIP/2.0 {status} Whatever\r\n\
         Via: SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7eedcd46;rport=5080\r\n\
         From: <sip:1002@198.51.100.7>;tag=as2240b4cd\r\n\
         To: <sip:1003@203.0.113.5>{to_params}\r\n\
         Call-ID: 3a4639b6@198.51.100.7:5080\r\n\
         CSeq: 102 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
