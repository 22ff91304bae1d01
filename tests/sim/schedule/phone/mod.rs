//! A phone: an app that registers, sleeps, is woken by pushes, rings, is answered or not, moves to
//! other addresses, dies, is installed anew and changes hands.

mod calls;

use bytes::Bytes;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::{Flow, FlowId};

use crate::schedule::cast::{Ask, Errand, Hands};
use crate::schedule::dialog::Dialog;
use crate::schedule::endpoint::{Client, Endpoint, Heard};
use crate::schedule::text::{self, Draft};
use crate::world::{tcp, udp};
use calls::{Outgoing, Ring};

/// How an app can be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// VoIP and remote token.
    Apns,
    Fcm,
    /// Not at all.
    Never,
}

#[derive(Debug)]
pub struct Phone {
    pub id: usize,
    pub agent: usize,
    pub wakes: Wakes,
    pub is_stream: bool,
    pub q: &'static str,
    /// How long it registers for, seconds.
    pub expires: u32,
    /// Where it is, or was.
    pub flow: Option<Flow>,
    /// Whether the app runs.
    pub is_awake: bool,
    /// Whether the phone has power.
    pub is_on: bool,
    /// A token that its service has given up.
    pub is_gone: bool,
    pub endpoint: Endpoint,
    instance: u32,
    token: u32,
    flows: u32,
    /// The number of its first flow in this life.
    first_flow: u32,
    cseq: u32,
    registering: Option<(String, u32)>,
    /// What to register next.
    again: Option<u32>,
    rings: Vec<Ring>,
    outgoing: Vec<Outgoing>,
    talks: Vec<Dialog>,
}

impl Phone {
    pub fn new(id: usize, agent: usize, wakes: Wakes, is_stream: bool) -> Self {
        Self {
            id,
            agent,
            wakes,
            is_stream,
            q: "",
            expires: 3600,
            flow: None,
            is_awake: false,
            is_on: true,
            is_gone: false,
            endpoint: Endpoint::new(),
            instance: 0,
            token: 0,
            flows: 0,
            first_flow: 0,
            cseq: 0,
            registering: None,
            again: None,
            rings: Vec::new(),
            outgoing: Vec::new(),
            talks: Vec::new(),
        }
    }

    /// Its token, whose first digits name it.
    pub fn token(&self) -> Option<String> {
        (self.wakes != Wakes::Never).then(|| token(self.id, self.token, 'a'))
    }

    /// Whether a token is one that it has now.
    pub fn has_token(&self, token: &str) -> bool {
        self.token().is_some_and(|own| token.starts_with(&own[..8]))
    }

    fn instance(&self) -> String {
        format!("urn:uuid:{}-{}", self.id, self.instance)
    }

    fn contact(&self) -> String {
        let (id, agent) = (self.id, self.agent);
        let (voip, remote) = (token(id, self.token, 'a'), token(id, self.token, 'b'));
        let push = match self.wakes {
            Wakes::Apns => format!(
                ";pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip&remote;\
                 pn-prid={voip}:voip&{remote}:remote"
            ),
            Wakes::Fcm => format!(";pn-provider=fcm;pn-param=project;pn-prid={voip}"),
            Wakes::Never => String::new(),
        };
        let transport = if self.is_stream { ";transport=tcp" } else { "" };
        format!("sip:100{agent}@10.0.0.{id}:5060{transport}{push}")
    }

    fn via(&self) -> String {
        let transport = if self.is_stream { "TCP" } else { "UDP" };
        format!("SIP/2.0/{transport} 10.0.0.{}:5060", self.id)
    }

    fn name(&self) -> String {
        format!("<sip:100{}@pbx.example.com>", self.agent)
    }

    // --- what it does by itself ---

    /// The app comes up, on a flow of its own.
    pub fn wake(&mut self, hands: &mut Hands<'_>) {
        if !self.is_on {
            return;
        }
        if !self.is_awake {
            hands.notes.push("wakes");
            self.is_awake = true;
            if std::mem::take(&mut self.is_gone) {
                self.token += 1;
            }
            let is_new_port = self.is_stream || hands.chance.percent(50);
            if self.flow.is_none() || is_new_port {
                self.connect();
            }
        }
        self.register(hands, self.expires);
    }

    fn connect(&mut self) {
        self.flows += 1;
        self.flow = Some(if self.is_stream {
            tcp(self.id as u64 * 1000 + u64::from(self.flows))
        } else {
            let port = 10_000 + self.id * 1000 + self.flows as usize % 1000;
            udp(u16::try_from(port).unwrap())
        });
    }

    /// The app is closed or suspended.
    pub fn sleep(&mut self, hands: &mut Hands<'_>) {
        if !self.is_awake {
            return;
        }
        hands.notes.push("sleeps");
        self.is_awake = false;
        self.stop();
        if self.is_stream {
            hands.closed.extend(self.flow.take());
        }
    }

    fn stop(&mut self) {
        self.endpoint.die();
        // No connection outlives the app.
        self.first_flow = self.flows + 1;
        self.registering = None;
        self.again = None;
        self.rings.clear();
        self.outgoing.clear();
        self.talks.clear();
    }

    /// The battery is empty: nobody hears of it.
    pub fn die(&mut self, hands: &mut Hands<'_>) {
        hands.notes.push("dies");
        self.is_on = false;
        self.is_awake = false;
        self.stop();
        if hands.chance.percent(60) {
            hands.after(2_000, 40_000, Errand::SwitchOn { phone: self.id });
        }
    }

    /// It has power again.
    pub fn switch_on(&mut self, hands: &mut Hands<'_>) {
        self.is_on = true;
        self.wake(hands);
    }

    /// Another address, in the middle of whatever it does.
    pub fn move_away(&mut self, hands: &mut Hands<'_>) {
        if !self.is_awake {
            return;
        }
        hands.notes.push("moves");
        if let Some(old) = self.flow
            && self.is_stream
            && hands.chance.percent(70)
        {
            self.endpoint.lost(&old);
            hands.closed.push(old);
        }
        if hands.chance.percent(20) {
            self.is_stream = !self.is_stream;
        }
        // RFC 3261 §10.2: no new registration while one is under way.
        if let Some((branch, _)) = self.registering.take() {
            self.endpoint.give_up(&branch);
        }
        self.connect();
        self.register(hands, self.expires);
    }

    /// Whether a connection is one that it left half-open in this life.
    pub fn has_left(&self, flow: FlowId) -> bool {
        match flow {
            FlowId::Stream(connection) => {
                self.is_awake && connection.0 % 1000 >= u64::from(self.first_flow)
            }
            FlowId::Datagram { .. } => false,
        }
    }

    /// Installed anew: nothing is left but the token.
    pub fn reinstall(&mut self, hands: &mut Hands<'_>) {
        self.sleep(hands);
        hands.notes.push("is installed anew");
        self.instance += 1;
        self.is_on = true;
        self.wake(hands);
    }

    /// Another agent logs in.
    pub fn change_hands(&mut self, hands: &mut Hands<'_>, agent: usize) {
        self.sleep(hands);
        hands.notes.push("changes hands");
        self.agent = agent;
        self.is_on = true;
        // Even by a datagram it is another life: another port.
        self.connect();
        self.is_awake = true;
        self.register(hands, self.expires);
    }

    /// Its flow was closed by the other side.
    pub fn on_closed(&mut self, hands: &mut Hands<'_>, flow: Flow) {
        self.endpoint.lost(&flow);
        if self.flow.is_some_and(|own| own.id == flow.id) {
            self.flow = None;
            self.registering = None;
            if self.is_awake {
                self.is_awake = false;
                hands.after(100, 3000, Errand::Wake { phone: self.id });
            }
        }
    }

    // --- REGISTER ---

    pub fn register(&mut self, hands: &mut Hands<'_>, expires: u32) {
        if !self.is_awake {
            return;
        }
        if self.registering.is_some() {
            self.again = Some(expires);
        } else {
            self.send_register(hands, expires, "");
        }
    }

    fn send_register(&mut self, hands: &mut Hands<'_>, expires: u32, more: &str) {
        let Some(flow) = self.flow else { return };
        self.cseq += 1;
        let branch = hands.branch();
        let (name, instance) = (self.name(), self.instance());
        let contact = format!(
            "Contact: <{}>;+sip.instance=\"<{instance}>\"{}\r\nExpires: {expires}\r\n{more}",
            self.contact(),
            self.q,
        );
        let request = Draft {
            method: "REGISTER",
            uri: "sip:pbx.example.com",
            via: &self.via(),
            branch: &branch,
            from: &format!("{name};tag=r{}", self.cseq),
            to: &name,
            call: &format!("reg-{}-{}-{}", self.id, self.instance, self.agent),
            cseq: self.cseq,
            more: &contact,
            ..Draft::default()
        }
        .write();
        let ask = Ask {
            phone: self.id,
            agent: self.agent,
            instance,
            token: self.token(),
            expires,
            flow,
        };
        hands.asked.push((branch.clone(), ask));
        self.registering = Some((branch.clone(), expires));
        self.send(hands, flow, ("REGISTER", &branch, "register"), request);
    }

    fn on_registered(&mut self, hands: &mut Hands<'_>, branch: &str, status: u16) {
        let Some((_, expires)) = self.registering.take_if(|(own, _)| own == branch) else {
            return;
        };
        if status == 401 {
            self.send_register(hands, expires, "Authorization: Digest username=\"1\"\r\n");
        } else if let Some(expires) = self.again.take() {
            self.send_register(hands, expires, "");
        } else if status >= 300 && hands.chance.percent(50) {
            let (phone, expires) = (self.id, self.expires);
            hands.after(1000, 9000, Errand::Register { phone, expires });
        }
    }

    // --- what comes ---

    /// A push arrived at the phone.
    pub fn pushed(&self, hands: &mut Hands<'_>, notice: &str) {
        if !self.is_on || self.is_gone || notice == "cancel" {
            return;
        }
        let phone = self.id;
        match hands.chance.below(10) {
            0 => {}
            1 => hands.after(8_000, 45_000, Errand::Wake { phone }),
            _ => hands.after(100, 4_000, Errand::Wake { phone }),
        }
    }

    /// A message arrived.
    pub fn receive(&mut self, hands: &mut Hands<'_>, flow: Flow, message: &Message) {
        if !self.is_awake {
            return;
        }
        if message.is_request() {
            self.on_request(hands, flow, message);
        } else {
            self.on_response(hands, message);
        }
    }

    fn on_request(&mut self, hands: &mut Hands<'_>, flow: Flow, request: &Message) {
        if !self.endpoint.heard_request(request, &mut hands.out) {
            return;
        }
        let branch = text::branch(request, 0);
        let has_dialog = text::has_tag(request.header(HeaderName::To).unwrap_or_default());
        match text::method(request) {
            "ACK" => self.on_ack(request),
            "INVITE" if has_dialog => self.respond(hands, flow, (request, "200 OK"), "x"),
            "INVITE" => self.on_invite(hands, flow, request, branch),
            "CANCEL" => self.on_cancel(hands, flow, request, &branch),
            "BYE" => {
                let call = text::header(request, HeaderName::CallId);
                let talks = self.talks.len();
                self.talks.retain(|talk| talk.call != call);
                let is_known = self.talks.len() < talks;
                let status = if is_known { "200 OK" } else { "481 Gone" };
                self.respond(hands, flow, (request, status), "x");
            }
            _ => self.respond(hands, flow, (request, "200 OK"), "x"),
        }
    }

    fn respond(&mut self, hands: &mut Hands<'_>, flow: Flow, what: (&Message, &str), tag: &str) {
        let (request, status) = what;
        let code = status[..3].parse().unwrap();
        let contact = format!("Contact: <sip:app@10.0.0.{}:5060>\r\n", self.id);
        let response = text::answer(request, status, tag, &contact);
        self.endpoint
            .respond(hands.now, flow, (request, code), response, &mut hands.out);
    }

    fn on_response(&mut self, hands: &mut Hands<'_>, response: &Message) {
        let (branch, method) = (text::branch(response, 0), text::method(response));
        let status = response.status().unwrap_or(100);
        let via = self.via();
        let to = text::header(response, HeaderName::To);
        let ack = |client: &Client| client.beside("ACK", Some(&to), &via, true);
        let heard = self
            .endpoint
            .response(hands.now, response, ack, &mut hands.out);
        match (method, heard) {
            ("REGISTER", Heard::Final { .. }) => self.on_registered(hands, &branch, status),
            ("INVITE", Heard::Final { call }) => {
                self.outgoing.retain(|own| own.call != call);
                if status < 300 {
                    self.acknowledge(hands, response, true);
                }
            }
            ("INVITE", Heard::Old) if (200..300).contains(&status) => {
                self.acknowledge(hands, response, false);
            }
            (
                "INVITE",
                Heard::Provisional {
                    call,
                    is_first: true,
                },
            ) if hands.chance.percent(25) => {
                hands.after(100, 9_000, Errand::Cancel { call });
            }
            _ => {}
        }
    }

    /// Says again what is due.
    pub fn fire(&mut self, hands: &mut Hands<'_>) {
        for client in self.endpoint.fire(hands.now, &mut hands.out) {
            if client.method == "REGISTER" {
                self.on_registered(hands, &client.branch, 408);
            }
        }
    }

    fn send(
        &mut self,
        hands: &mut Hands<'_>,
        flow: Flow,
        names: (&'static str, &str, &str),
        request: Bytes,
    ) {
        hands.out.push((flow, request.clone()));
        self.endpoint.request(hands.now, flow, names, request);
    }
}

/// 64 hexadecimal digits: the phone, the number of the token, and what it is for.
fn token(phone: usize, number: u32, kind: char) -> String {
    let rest: String = std::iter::repeat_n(kind, 56).collect();
    format!("{phone:04x}{number:04x}{rest}")
}

/// The phone whose token this is.
pub fn phone_of(token: &str) -> Option<usize> {
    usize::from_str_radix(token.get(..4)?, 16).ok()
}
