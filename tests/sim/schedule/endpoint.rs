//! The transactions of a model (RFC 3261 §17, RFC 6026): what it says again until it is answered,
//! and what it answers again when it is asked again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::Flow;
use rouse::proto::sip::{HeaderName, Message};

use super::text::{self, Draft};

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
/// How long anything is said again. Less than 64*T1, so that no copy of a request comes to the
/// gateway after it has forgotten the first.
const PATIENCE: Duration = Duration::from_secs(29);
/// How long the far end of a CANCEL or a 2xx is awaited.
const WHOLE: Duration = Duration::from_secs(32);

/// How long a caller waits while it rings: longer than Timer C.
const RINGS: Duration = Duration::from_secs(400);

/// All transactions of one model.
#[derive(Debug)]
pub struct Endpoint {
    clients: Vec<Client>,
    servers: Vec<Server>,
}

/// A request that the model made.
#[derive(Debug)]
pub struct Client {
    pub branch: String,
    pub method: &'static str,
    pub call: String,
    pub flow: Flow,
    pub request: Bytes,
    stage: Stage,
    ack: Option<Bytes>,
    resend: Option<Again>,
    ends: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Calling,
    Proceeding,
    Over,
}

/// A request that the model got.
#[derive(Debug)]
struct Server {
    branch: String,
    method: &'static str,
    call: String,
    flow: Flow,
    /// The newest answer.
    last: Option<Bytes>,
    is_final: bool,
    resend: Option<Again>,
    ends: Option<Instant>,
}

#[derive(Debug)]
struct Again {
    at: Instant,
    pause: Duration,
    until: Instant,
}

/// What a response means.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// To nothing, or said before.
    Old,
    /// The request with this branch got a provisional answer.
    Provisional { call: String, is_first: bool },
    /// … or its final one.
    Final { call: String },
}

impl Client {
    /// A request beside an INVITE, with its branch: its CANCEL, or the ACK of its refusal, which has
    /// the To of that. chan_sip's have no Route.
    pub fn beside(
        &self,
        method: &'static str,
        to: Option<&str>,
        via: &str,
        has_routes: bool,
    ) -> Bytes {
        let invite = Message::parse(self.request.clone()).unwrap();
        let own_to = text::header(&invite, HeaderName::To);
        let routes = invite.values(HeaderName::Route);
        let routes: Vec<_> = routes
            .filter(|_| has_routes)
            .map(|route| String::from_utf8_lossy(route).into_owned())
            .collect();
        Draft {
            method,
            uri: &String::from_utf8_lossy(invite.request_uri().unwrap_or_default()),
            via,
            branch: &self.branch,
            routes: &routes,
            from: &text::header(&invite, HeaderName::From),
            to: to.unwrap_or(&own_to),
            call: &self.call,
            cseq: invite.cseq().map_or(1, |cseq| cseq.number),
            ..Draft::default()
        }
        .write()
    }
}

impl Again {
    fn new(now: Instant, flow: &Flow) -> Option<Self> {
        (!text::is_stream(flow)).then(|| Self {
            at: now + T1,
            pause: T1,
            until: now + PATIENCE,
        })
    }

    /// When it is to be said again after `now`, if at all.
    fn next(mut self, now: Instant, cap: Duration) -> Option<Self> {
        self.pause = (self.pause * 2).min(cap);
        self.at = now + self.pause;
        (self.at < self.until).then_some(self)
    }
}

impl Endpoint {
    pub const fn new() -> Self {
        Self {
            clients: Vec::new(),
            servers: Vec::new(),
        }
    }

    /// Sends a request.
    pub fn request(
        &mut self,
        now: Instant,
        flow: Flow,
        (method, branch, call): (&'static str, &str, &str),
        request: Bytes,
    ) {
        self.clients.push(Client {
            branch: branch.to_owned(),
            method,
            call: call.to_owned(),
            flow,
            request,
            stage: Stage::Calling,
            ack: None,
            resend: Again::new(now, &flow),
            ends: now + WHOLE,
        });
    }

    /// Takes a response; `ack` writes the ACK of one that is not a success.
    pub fn response(
        &mut self,
        now: Instant,
        response: &Message,
        ack: impl FnOnce(&Client) -> Bytes,
        out: &mut Vec<(Flow, Bytes)>,
    ) -> Heard {
        let (branch, method) = (text::branch(response, 0), text::method(response));
        let status = response.status().unwrap_or(100);
        let mut clients = self.clients.iter_mut();
        let found = clients.find(|c| c.branch == branch && c.method == method);
        let Some(client) = found else {
            return Heard::Old;
        };
        if client.stage == Stage::Over {
            if let (Some(ack), 300..) = (&client.ack, status) {
                out.push((client.flow, ack.clone()));
            }
            return Heard::Old;
        }
        let call = client.call.clone();
        if status < 200 {
            let is_first = client.stage == Stage::Calling;
            client.stage = Stage::Proceeding;
            if client.method == "INVITE" {
                client.resend = None;
                client.ends = now + RINGS;
            }
            return Heard::Provisional { call, is_first };
        }
        client.stage = Stage::Over;
        client.resend = None;
        client.ends = now + WHOLE;
        if client.method == "INVITE" && status >= 300 {
            let ack = ack(client);
            out.push((client.flow, ack.clone()));
            client.ack = Some(ack);
        }
        Heard::Final { call }
    }

    /// Takes a request; returns whether it is new.
    pub fn heard_request(&mut self, request: &Message, out: &mut Vec<(Flow, Bytes)>) -> bool {
        let (branch, method) = (text::branch(request, 0), text::method(request));
        if method == "ACK" {
            self.acknowledged(&branch);
            return true;
        }
        let mut servers = self.servers.iter();
        let known = servers.find(|s| s.branch == branch && s.method == method);
        match known {
            None => true,
            Some(server) => {
                if let Some(last) = &server.last {
                    out.push((server.flow, last.clone()));
                }
                false
            }
        }
    }

    fn acknowledged(&mut self, branch: &str) {
        for server in &mut self.servers {
            if server.method == "INVITE" && server.branch == branch {
                server.resend = None;
            }
        }
    }

    /// The 2xx of a call was acknowledged: its ACK has a branch of its own.
    pub fn established_call(&mut self, call: &str) {
        for server in &mut self.servers {
            if server.method == "INVITE" && server.call == call {
                server.resend = None;
            }
        }
    }

    /// Answers a request.
    pub fn respond(
        &mut self,
        now: Instant,
        flow: Flow,
        (request, status): (&Message, u16),
        response: Bytes,
        out: &mut Vec<(Flow, Bytes)>,
    ) {
        let (branch, method) = (text::branch(request, 0), text::method(request));
        out.push((flow, response.clone()));
        let known = self
            .servers
            .iter()
            .position(|s| s.branch == branch && s.method == method);
        let at = known.unwrap_or_else(|| {
            self.servers.push(Server {
                branch,
                method,
                call: text::header(request, HeaderName::CallId),
                flow,
                last: None,
                is_final: false,
                resend: None,
                ends: None,
            });
            self.servers.len() - 1
        });
        let server = &mut self.servers[at];
        server.last = Some(response);
        if status >= 200 && !server.is_final {
            server.is_final = true;
            server.ends = Some(now + WHOLE + T2 * 2);
            if server.method == "INVITE" {
                server.resend = Again::new(now, &flow);
            }
        }
    }

    /// Whether nothing more is to be said.
    pub fn due(&self) -> Option<Instant> {
        let clients = self.clients.iter().map(|client| {
            let end = client.ends;
            client
                .resend
                .as_ref()
                .map_or(end, |again| again.at.min(end))
        });
        let servers = self.servers.iter().filter_map(|server| {
            let again = server.resend.as_ref().map(|again| again.at);
            again.into_iter().chain(server.ends).min()
        });
        clients.chain(servers).min()
    }

    /// Says again what is due; returns the requests that nobody answered.
    pub fn fire(&mut self, now: Instant, out: &mut Vec<(Flow, Bytes)>) -> Vec<Client> {
        for client in &mut self.clients {
            if let Some(again) = client.resend.take_if(|again| again.at <= now) {
                out.push((client.flow, client.request.clone()));
                let is_invite = client.method == "INVITE";
                let cap = if is_invite { WHOLE } else { T2 };
                client.resend = again.next(now, cap);
            }
        }
        for server in &mut self.servers {
            if let Some(again) = server.resend.take_if(|again| again.at <= now) {
                out.extend(server.last.clone().map(|last| (server.flow, last)));
                server.resend = again.next(now, T2);
            }
        }
        self.servers
            .retain(|server| server.ends.is_none_or(|ends| ends > now));
        let mut gone = Vec::new();
        let mut at = 0;
        while at < self.clients.len() {
            let client = &self.clients[at];
            if client.ends > now {
                at += 1;
            } else {
                let client = self.clients.remove(at);
                if client.stage != Stage::Over {
                    gone.push(client);
                }
            }
        }
        gone
    }

    /// The CANCEL of an INVITE that rings, and where it goes.
    pub fn cancel_of(&self, branch: &str, via: &str, has_routes: bool) -> Option<(Flow, Bytes)> {
        let mut clients = self.clients.iter();
        let client = clients
            .find(|c| c.branch == branch && c.method == "INVITE" && c.stage == Stage::Proceeding)?;
        Some((client.flow, client.beside("CANCEL", None, via, has_routes)))
    }

    /// Whether a request waits for its final answer.
    pub fn awaits(&self, branch: &str) -> bool {
        self.clients
            .iter()
            .any(|c| c.branch == branch && c.stage != Stage::Over)
    }

    /// Asks no more for an answer.
    pub fn give_up(&mut self, branch: &str) {
        self.clients.retain(|client| client.branch != branch);
    }

    /// Forgets everything: the process died.
    pub fn die(&mut self) {
        self.clients.clear();
        self.servers.clear();
    }

    /// Says nothing more on a flow that is gone.
    pub fn lost(&mut self, flow: &Flow) {
        self.clients.retain(|client| client.flow.id != flow.id);
        self.servers.retain(|server| server.flow.id != flow.id);
    }
}
