//! Phones on one side, Asterisk on the other, and what goes through the server between them.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::message::{self, Kind, Method, Register};
use crate::net::{Net, Peer};
use crate::push::Pushes;
use crate::tally::{Pace, Tally, micros};

mod phones;
mod surge;

pub use surge::Second;

/// Where Asterisk is.
pub const ASTERISK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 5080);
/// Where the phones are.
const PHONES: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Agents per address of ours, on streams: ports are few.
const PER_ADDRESS: usize = 20_000;
/// A REGISTER that is not answered is sent again after this.
const RESEND: Duration = Duration::from_secs(1);
/// How long stragglers are waited for.
const DRAIN: Duration = Duration::from_secs(4);
/// How long a woken phone rings in a wake.
const RINGING: Duration = Duration::from_millis(5);

/// How phones reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
    /// Streams with TLS.
    Tls,
}

impl Wire {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// The server under load.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// UDP and TCP.
    pub plain: SocketAddrV4,
    /// TLS.
    pub tls: SocketAddrV4,
    /// Whether Asterisk calls agents by the Contact that it was registered; else by their address.
    pub is_relay: bool,
}

/// All that goes on.
pub struct Load {
    net: Net,
    server: Server,
    asterisk: usize,
    phones: Vec<Phone>,
    uris: Vec<Option<String>>,
    seed: u32,
    calls: Vec<Call>,
    registers: Vec<Pending>,
    ringing: VecDeque<(Instant, Peer, Vec<u8>)>,
    messages: Vec<(Peer, Vec<u8>)>,
    out: Vec<u8>,
    tally: Tally,
}

#[derive(Clone, Copy)]
struct Phone {
    peer: Peer,
    address: SocketAddrV4,
    wire: Wire,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Called,
    Ringing,
    Answered,
    Done,
    Failed,
}

struct Call {
    user: usize,
    started: Instant,
    pushed: Option<Instant>,
    stage: Stage,
    /// Whether its phone has got its INVITE.
    has_arrived: bool,
}

#[derive(Clone, Copy)]
struct Pending {
    user: usize,
    cseq: u32,
    sent: Option<Instant>,
    /// When Asterisk's 200 went out, and whose call waits for it.
    granted: Option<Instant>,
}

impl Load {
    /// Nobody is there yet.
    pub fn new(server: Server) -> Result<Self> {
        let mut net = Net::new()?;
        let asterisk = net.udp(ASTERISK).context("Asterisk's address")?;
        Ok(Self {
            net,
            server,
            asterisk,
            phones: Vec::new(),
            uris: Vec::new(),
            seed: std::process::id(),
            calls: Vec::new(),
            registers: Vec::new(),
            ringing: VecDeque::new(),
            messages: Vec::new(),
            out: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Wakes this load from another thread.
    pub fn waker(&self) -> Result<mio::Waker> {
        Ok(self.net.waker()?)
    }

    /// Registers agents, at a rate per second or with so many under way at once.
    pub fn register(
        &mut self,
        users: std::ops::Range<usize>,
        pace: Pace,
        has_push: bool,
        is_apns_only: bool,
    ) -> Result<Value> {
        self.begin();
        let total = users.len();
        let first = self.registers.len();
        let started = Instant::now();
        let own = crate::account::own_cpu();
        let mut checked = Instant::now();
        let patience = Duration::from_secs(30);
        let mut progress = (0, Instant::now());
        while (self.tally.done as usize) < total {
            let sent = self.tally.sent as usize;
            let due = pace.due(started, sent - self.tally.done as usize, sent);
            for user in users.clone().skip(sent).take(due.min(64)) {
                let number = self.registers.len();
                self.registers.push(Pending {
                    user,
                    cseq: 1,
                    sent: Some(Instant::now()),
                    granted: None,
                });
                self.send_register(number, has_push, is_apns_only);
                self.tally.sent += 1;
            }
            self.step(Duration::from_millis(1), None)?;
            if checked.elapsed() > RESEND / 2 {
                checked = Instant::now();
                self.resend(first, has_push, is_apns_only);
            }
            if progress.0 != self.tally.done {
                progress = (self.tally.done, Instant::now());
            }
            if progress.1.elapsed() > patience {
                bail!(
                    "only {} of {total} REGISTERs were answered",
                    self.tally.done
                );
            }
        }
        if self.tally.failed() > 0 {
            bail!("REGISTERs were refused, by status: {:?}", self.tally.codes);
        }
        Ok(self.report(started, own))
    }

    fn resend(&mut self, first: usize, has_push: bool, is_apns_only: bool) {
        for number in first..self.registers.len() {
            let pending = self.registers[number];
            let is_udp = self.phones[pending.user].wire == Wire::Udp;
            if is_udp && pending.sent.is_some_and(|at| at.elapsed() > RESEND) {
                self.registers[number].sent = Some(Instant::now());
                self.tally.resent += 1;
                self.send_register(number, has_push, is_apns_only);
            }
        }
    }

    fn send_register(&mut self, number: usize, has_push: bool, is_apns_only: bool) {
        let Pending { user, cseq, .. } = self.registers[number];
        let phone = self.phones[user];
        let push = if has_push {
            message::push_parameters(user, is_apns_only)
        } else {
            String::new()
        };
        Register {
            user,
            call: &format!("{number}-r{}", self.seed),
            cseq,
            transport: phone.wire.name(),
            from: phone.address,
            push: &push,
        }
        .write(&mut self.out);
        self.net.send(phone.peer, &self.out);
    }

    /// The rows of Kamailio's table of bindings, as its own REGISTERs would have made them.
    pub fn write_rows(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        // Times are days of the Julian calendar.
        writeln!(out, "PRAGMA synchronous=OFF; BEGIN;")?;
        for (user, phone) in self.phones.iter().enumerate() {
            let register = Register {
                user,
                call: "",
                cseq: 1,
                transport: phone.wire.name(),
                from: phone.address,
                push: &message::push_parameters(user, false),
            };
            let (uri, instance) = register.contact();
            writeln!(
                out,
                "INSERT INTO location (ruid, username, contact, expires, last_modified, q, callid, \
                 user_agent, socket, methods, instance, connection_id) VALUES \
                 ('uloc-bench-{user:x}', 'u{user:07}', '{uri}', 2470000.5, 2461367.0, -1, '{user}-r1@127.0.0.1', \
                 'ExamplePhone/4.2.1 (measurement on loopback)', 'udp:{}', 5951, '{instance}', -1);",
                self.server.plain
            )?;
        }
        writeln!(out, "COMMIT;")
    }

    /// Calls agents at a rate, for so long.
    pub fn call(
        &mut self,
        users: std::ops::Range<usize>,
        rate: f64,
        seconds: f64,
    ) -> Result<Value> {
        self.begin();
        let total = (rate * seconds) as u64;
        let started = Instant::now();
        let own = crate::account::own_cpu();
        let end = started + Duration::from_secs_f64(seconds) + DRAIN;
        let mut state = 88_172_645_463_325_252_u64;
        while Instant::now() < end && self.tally.done + self.tally.failed() < total {
            let due = (started.elapsed().as_secs_f64() * rate) as u64;
            for _ in self.tally.sent..due.min(total).min(self.tally.sent + 64) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let user = users.start + (state as usize) % users.len();
                self.start_call(user)?;
            }
            self.step(Duration::from_millis(1), None)?;
        }
        Ok(self.report(started, own))
    }

    fn start_call(&mut self, user: usize) -> Result<()> {
        let number = self.calls.len();
        self.calls.push(Call {
            user,
            started: Instant::now(),
            pushed: None,
            stage: Stage::Called,
            has_arrived: false,
        });
        let by_address = format!("sip:u{user:07}@{}", message::DOMAIN);
        let uri = if self.server.is_relay {
            let uri = self.uris[user].as_deref();
            uri.with_context(|| format!("agent {user} never registered"))?
        } else {
            &by_address
        };
        let call = format!("{number}-call{}", self.seed);
        message::invite(&mut self.out, &call, uri, &by_address, ASTERISK);
        let to = self.server.plain;
        let socket = self.asterisk;
        self.net.send(Peer { socket, to }, &self.out);
        self.tally.sent += 1;
        Ok(())
    }

    /// Calls sleeping agents, each once, and registers them as their pushes come.
    pub fn wake(
        &mut self,
        users: std::ops::Range<usize>,
        rate: f64,
        pushes: &Pushes,
    ) -> Result<Value> {
        self.begin();
        let started = Instant::now();
        let own = crate::account::own_cpu();
        let total = users.len() as u64;
        let end = started + Duration::from_secs_f64(total as f64 / rate) + DRAIN;
        while Instant::now() < end && self.tally.done + self.tally.failed() < total {
            let due = (started.elapsed().as_secs_f64() * rate) as u64;
            for _ in self.tally.sent..due.min(total) {
                self.start_call(users.start + self.tally.sent as usize)?;
            }
            self.step(Duration::from_millis(1), Some(pushes))?;
        }
        Ok(self.report(started, own))
    }

    /// Holds calls for sleeping agents, each once; returns when all are pushed.
    pub fn hold(
        &mut self,
        users: std::ops::Range<usize>,
        rate: f64,
        pushes: &Pushes,
    ) -> Result<Value> {
        self.begin();
        let started = Instant::now();
        let own = crate::account::own_cpu();
        let total = users.len() as u64;
        let mut pushed = 0;
        let end = started + Duration::from_secs_f64(total as f64 / rate) + DRAIN * 10;
        while Instant::now() < end && pushed < total {
            let due = (started.elapsed().as_secs_f64() * rate) as u64;
            for _ in self.tally.sent..due.min(total) {
                self.start_call(users.start + self.tally.sent as usize)?;
            }
            self.step(Duration::from_millis(1), None)?;
            pushed += pushes.drain().count() as u64;
        }
        self.tally.done = pushed;
        Ok(self.report(started, own))
    }

    /// Lets time pass.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step(Duration::from_millis(20), None)?;
        }
        Ok(())
    }

    fn until(&mut self, patience: Duration, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let end = Instant::now() + patience;
        while !is_so(self) {
            if Instant::now() > end {
                bail!("the server did not take all streams");
            }
            self.step(Duration::from_millis(2), None)?;
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.tally = Tally::default();
        self.calls.clear();
        self.registers.clear();
        self.seed = self.seed.wrapping_add(1);
    }

    fn step(&mut self, timeout: Duration, pushes: Option<&Pushes>) -> Result<()> {
        let now = Instant::now();
        while self.ringing.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, peer, request)) = self.ringing.pop_front() {
                self.pick_up(peer, &request);
            }
        }
        let mut messages = std::mem::take(&mut self.messages);
        self.net.poll(timeout, &mut messages)?;
        for (peer, message) in messages.drain(..) {
            if peer.socket == self.asterisk {
                self.on_asterisk(peer, &message);
            } else {
                self.on_phone(peer, &message, pushes.is_some());
            }
        }
        self.messages = messages;
        if let Some(pushes) = pushes {
            for (at, number) in pushes.drain() {
                self.on_push(at, number);
            }
        }
        self.net.flush();
        Ok(())
    }

    /// A push wakes the phone, which registers.
    fn on_push(&mut self, at: Instant, number: usize) {
        let Some(call) = self.calls.get_mut(number) else {
            return;
        };
        if call.pushed.is_some() {
            return;
        }
        call.pushed = Some(at);
        let (user, started) = (call.user, call.started);
        self.tally.to_push.push(micros(at - started));
        // The REGISTER has the number of its call, so that its 200 finds the call.
        let idle = Pending {
            user,
            cseq: 2,
            sent: None,
            granted: None,
        };
        if self.registers.len() <= number {
            self.registers.resize(number + 1, idle);
        }
        let sent = Instant::now();
        self.registers[number] = Pending {
            sent: Some(sent),
            granted: (!self.server.is_relay).then_some(sent),
            ..idle
        };
        self.send_register(number, true, true);
    }

    fn on_asterisk(&mut self, peer: Peer, message: &[u8]) {
        match message::kind(message) {
            Kind::Request(Method::Register) => self.grant(peer, message),
            Kind::Request(Method::Ack) => {}
            Kind::Request(Method::Invite | Method::Bye | Method::Other) => {
                message::answer(&mut self.out, message, "200 OK", "", false);
                self.net.send(peer, &self.out);
            }
            Kind::Response(..180, _) => {}
            Kind::Response(status, Method::Invite) => self.on_invite_answered(status, message),
            Kind::Response(status, Method::Bye) => self.on_bye_answered(status, message),
            Kind::Response(_, Method::Ack | Method::Register | Method::Other) => {}
        }
    }

    /// Asterisk takes every registration.
    fn grant(&mut self, peer: Peer, request: &[u8]) {
        let mut contacts = String::new();
        for contact in message::headers(request, b"Contact") {
            let text = String::from_utf8_lossy(contact);
            contacts += &format!("Contact: {text};expires=36000\r\n");
        }
        message::answer(&mut self.out, request, "200 OK", &contacts, false);
        self.net.send(peer, &self.out);
        let Some(pending) = message::number(request).and_then(|n| self.registers.get_mut(n)) else {
            return;
        };
        pending.granted.get_or_insert_with(Instant::now);
        let contact = message::header(request, b"Contact").and_then(message::uri_of);
        if let (Some(uri), Some(known)) = (contact, self.uris.get_mut(pending.user))
            && known.as_deref() != Some(uri)
        {
            *known = Some(uri.to_owned());
        }
    }

    fn on_invite_answered(&mut self, status: u16, message: &[u8]) {
        let Some(number) = message::number(message) else {
            return;
        };
        let Some(call) = self.calls.get_mut(number) else {
            return;
        };
        match (status, call.stage) {
            (180..200, Stage::Called) => call.stage = Stage::Ringing,
            (200..300, Stage::Called | Stage::Ringing) => {
                call.stage = Stage::Answered;
                self.tally.answer.push(micros(call.started.elapsed()));
                let id = format!("{number}-call{}", self.seed);
                let to = self.server.plain;
                let socket = self.asterisk;
                for step in [("ACK", 1), ("BYE", 2)] {
                    if message::in_dialog(&mut self.out, message, step, &id, ASTERISK).is_some() {
                        self.net.send(Peer { socket, to }, &self.out);
                    }
                }
            }
            (300.., Stage::Called | Stage::Ringing) => {
                call.stage = Stage::Failed;
                *self.tally.codes.entry(status).or_default() += 1;
                let id = format!("{number}-call{}", self.seed);
                let uri = self.uris.get(call.user).and_then(Option::as_deref);
                let uri = uri.unwrap_or("sip:nobody@localhost");
                if message::ack_of_refusal(&mut self.out, message, uri, &id, ASTERISK).is_some() {
                    let (socket, to) = (self.asterisk, self.server.plain);
                    self.net.send(Peer { socket, to }, &self.out);
                }
            }
            _ => {}
        }
    }

    fn on_bye_answered(&mut self, status: u16, message: &[u8]) {
        let call = message::number(message).and_then(|number| self.calls.get_mut(number));
        let Some(call) = call.filter(|call| call.stage == Stage::Answered) else {
            return;
        };
        if status < 300 {
            call.stage = Stage::Done;
            self.tally.done += 1;
        } else {
            call.stage = Stage::Failed;
            *self.tally.codes.entry(status).or_default() += 1;
        }
    }

    fn on_phone(&mut self, peer: Peer, message: &[u8], is_waking: bool) {
        match message::kind(message) {
            Kind::Request(Method::Invite) => {
                self.note_invite(message);
                message::answer(&mut self.out, message, "180 Ringing", "", false);
                self.net.send(peer, &self.out);
                if is_waking {
                    let at = Instant::now() + RINGING;
                    self.ringing.push_back((at, peer, message.to_vec()));
                } else {
                    self.pick_up(peer, message);
                }
            }
            Kind::Request(Method::Ack) => {}
            Kind::Request(Method::Bye | Method::Register | Method::Other) => {
                message::answer(&mut self.out, message, "200 OK", "", false);
                self.net.send(peer, &self.out);
            }
            Kind::Response(status @ 200.., Method::Register) => {
                self.on_registered(status, message);
            }
            Kind::Response(..) => {}
        }
    }

    fn note_invite(&mut self, message: &[u8]) {
        let Some(number) = message::number(message) else {
            return;
        };
        if let Some(call) = self.calls.get_mut(number)
            && std::mem::replace(&mut call.has_arrived, true)
        {
            self.tally.repeated += 1;
            return;
        }
        let pending = self.registers.get(number);
        if let Some(granted) = pending.and_then(|pending| pending.granted) {
            self.tally.to_invite.push(micros(granted.elapsed()));
        }
        if let Some(sent) = pending.and_then(|pending| pending.sent) {
            self.tally.from_register.push(micros(sent.elapsed()));
        }
    }

    fn pick_up(&mut self, peer: Peer, request: &[u8]) {
        let user = message::number(request)
            .and_then(|number| self.calls.get(number))
            .map(|call| call.user);
        let Some(phone) = user.and_then(|user| self.phones.get(user)) else {
            return;
        };
        let parameter = match phone.wire {
            Wire::Udp => "",
            Wire::Tcp => ";transport=tcp",
            Wire::Tls => ";transport=tls",
        };
        let contact = format!(
            "Contact: <sip:u{:07}@{}{parameter}>\r\n",
            user.unwrap_or_default(),
            phone.address
        );
        message::answer(&mut self.out, request, "200 OK", &contact, true);
        self.net.send(peer, &self.out);
    }

    fn on_registered(&mut self, status: u16, message: &[u8]) {
        let Some(number) = message::number(message) else {
            return;
        };
        let Some(pending) = self.registers.get_mut(number) else {
            return;
        };
        let Some(sent) = pending.sent else { return };
        // A wake's REGISTER is no unit of its own.
        if pending.cseq > 1 {
            let granted = pending.granted.map(|granted| micros(granted.elapsed()));
            self.tally.to_grant.extend(granted);
        } else {
            pending.sent = None;
            self.tally.done += 1;
            self.tally.answer.push(micros(sent.elapsed()));
            if status >= 300 {
                *self.tally.codes.entry(status).or_default() += 1;
            }
        }
    }

    fn report(&mut self, started: Instant, own: f64) -> Value {
        let own = crate::account::own_cpu() - own;
        self.tally.report(started.elapsed(), own, self.net.lost)
    }
}
