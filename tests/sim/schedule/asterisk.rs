//! An Asterisk, of one node or two that share their registrations: it challenges and registers,
//! calls and hangs up, qualifies, notifies, and answers the calls of phones.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::{Flow, FlowId};

use super::cast::{Errand, Hands, tag};
use super::dialog::Dialog;
use super::endpoint::{Client, Endpoint, Heard};
use super::text::{self, Draft};
use crate::world::pbx;

/// The number of Asterisk among the parties.
pub const PBX: usize = 99;

#[derive(Debug)]
pub struct Asterisk {
    pub endpoint: Endpoint,
    mode: ContactMode,
    /// Whether it is PJSIP, which writes its route into CANCEL and ACK too.
    is_pjsip: bool,
    has_passwords: bool,
    /// The longest registration that it grants, seconds.
    longest: u32,
    contacts: BTreeMap<usize, Vec<Contact>>,
    calls: Vec<Call>,
    talks: Vec<Dialog>,
    /// Calls of phones that ring here.
    rings: Vec<(String, Message, Flow)>,
}

#[derive(Debug)]
struct Contact {
    uri: String,
    path: Option<String>,
    until: Instant,
}

#[derive(Debug)]
struct Call {
    call: String,
    branch: String,
}

/// A node's flow.
pub fn node(index: usize) -> Flow {
    let last = u8::try_from(80 + index).unwrap();
    let remote = SocketAddr::from(([192, 0, 2, last], 5080));
    let listener = pbx().listener;
    Flow {
        id: FlowId::Datagram { listener, remote },
        remote,
        ..pbx()
    }
}

const fn via() -> &'static str {
    "SIP/2.0/UDP 192.0.2.80:5080"
}

impl Asterisk {
    pub const fn new(mode: ContactMode, is_pjsip: bool, has_passwords: bool, longest: u32) -> Self {
        Self {
            endpoint: Endpoint::new(),
            mode,
            is_pjsip,
            has_passwords,
            longest,
            contacts: BTreeMap::new(),
            calls: Vec::new(),
            talks: Vec::new(),
            rings: Vec::new(),
        }
    }

    /// A message arrived at a node.
    pub fn receive(&mut self, hands: &mut Hands<'_>, flow: Flow, message: &Message) {
        if !message.is_request() {
            self.on_response(hands, flow, message);
        } else if self.endpoint.heard_request(message, &mut hands.out) {
            self.on_request(hands, flow, message);
        }
    }

    fn on_request(&mut self, hands: &mut Hands<'_>, flow: Flow, request: &Message) {
        let has_dialog = text::has_tag(request.header(HeaderName::To).unwrap_or_default());
        let branch = text::branch(request, 0);
        match text::method(request) {
            "REGISTER" => self.on_register(hands, flow, request),
            "ACK" => self.on_ack(request),
            "INVITE" if !has_dialog => self.on_invite(hands, flow, request, branch),
            "CANCEL" => self.on_cancel(hands, flow, request, &branch),
            "BYE" => {
                let call = text::header(request, HeaderName::CallId);
                let talks = self.talks.len();
                self.talks.retain(|talk| talk.call != call);
                let is_known = self.talks.len() < talks;
                let status = if is_known { "200 OK" } else { "481 Gone" };
                self.respond(hands, flow, (request, status), "x", "");
            }
            _ => self.respond(hands, flow, (request, "200 OK"), "x", ""),
        }
    }

    // --- registrar ---

    fn on_register(&mut self, hands: &mut Hands<'_>, flow: Flow, request: &Message) {
        if self.has_passwords && request.header(HeaderName::Authorization).is_none() {
            let challenge = "WWW-Authenticate: Digest realm=\"asterisk\", nonce=\"1\"\r\n";
            return self.respond(hands, flow, (request, "401 Unauthorized"), "r", challenge);
        }
        match hands.chance.below(50) {
            0 => return self.respond(hands, flow, (request, "403 Forbidden"), "r", ""),
            1 => return self.respond(hands, flow, (request, "503 Unavailable"), "r", ""),
            // It says nothing at all.
            2 => return,
            _ => {}
        }
        let to = text::uri_of(&text::header(request, HeaderName::To));
        let Some(agent) = to.get(7..8).and_then(|digit| digit.parse().ok()) else {
            return self.respond(hands, flow, (request, "404 Not Found"), "r", "");
        };
        let path = request.header(HeaderName::Path);
        let path = path.map(|path| String::from_utf8_lossy(path).into_owned());
        let general = text::header(request, HeaderName::Expires)
            .trim()
            .parse()
            .unwrap_or(3600);
        let contacts = self.contacts.entry(agent).or_default();
        contacts.retain(|contact| contact.until > hands.now);
        let mut more = String::new();
        for value in request.values(HeaderName::Contact) {
            let value = String::from_utf8_lossy(value).into_owned();
            let uri = text::uri_of(&value);
            let own = value.split_once(";expires=").map(|(_, rest)| rest);
            let own = own.and_then(|rest| rest.split(';').next()?.parse().ok());
            let granted: u32 = own.unwrap_or(general).min(self.longest);
            if self.mode == ContactMode::Agent {
                contacts.clear();
            }
            contacts.retain(|contact| contact.uri != uri);
            if granted > 0 {
                more.push_str(&format!("Contact: <{uri}>;expires={granted}\r\n"));
                contacts.push(Contact {
                    uri,
                    path: path.clone(),
                    until: hands.now + Duration::from_secs(granted.into()),
                });
            }
        }
        self.respond(hands, flow, (request, "200 OK"), "r", &more);
    }

    // --- its own calls and questions ---

    fn contacts_of(&self, now: Instant, agent: usize) -> Vec<(String, Vec<String>)> {
        let all = self.contacts.get(&agent).into_iter().flatten();
        all.filter(|contact| contact.until > now)
            .map(|contact| {
                (
                    contact.uri.clone(),
                    contact.path.clone().into_iter().collect(),
                )
            })
            .collect()
    }

    /// Calls an agent: each contact of its own.
    pub fn call(&mut self, hands: &mut Hands<'_>, flow: Flow, agent: usize) {
        for (uri, routes) in self.contacts_of(hands.now, agent) {
            let (branch, invite) = self.outside(hands, "INVITE", &uri, &routes);
            let call = format!("c{}", hands.number);
            self.calls.push(Call {
                call: call.clone(),
                branch: branch.clone(),
            });
            match hands.chance.below(10) {
                0..2 => hands.after(10, 2_500, Errand::Cancel { call: call.clone() }),
                2..6 => hands.after(2_500, 40_000, Errand::Cancel { call: call.clone() }),
                _ => {}
            }
            self.send(hands, flow, ("INVITE", &branch, &call), invite);
        }
    }

    /// Sends another request to an agent.
    pub fn ask(&mut self, hands: &mut Hands<'_>, flow: Flow, agent: usize, method: &'static str) {
        for (uri, routes) in self.contacts_of(hands.now, agent) {
            let (branch, request) = self.outside(hands, method, &uri, &routes);
            let call = format!("c{}", hands.number);
            self.send(hands, flow, (method, &branch, &call), request);
        }
    }

    fn outside(
        &self,
        hands: &mut Hands<'_>,
        method: &'static str,
        uri: &str,
        routes: &[String],
    ) -> (String, Bytes) {
        let branch = hands.branch();
        let number = *hands.number;
        let more = match method {
            "NOTIFY" => "Event: message-summary\r\nSubscription-State: active\r\n",
            _ => "Contact: <sip:2001@192.0.2.80:5080>\r\n",
        };
        let request = Draft {
            method,
            uri,
            via: via(),
            branch: &branch,
            routes,
            from: &format!("\"Caller\" <sip:2001@192.0.2.80>;tag=as{number}"),
            to: &format!("<{uri}>"),
            call: &format!("c{number}"),
            cseq: 102,
            more,
            body: if method == "INVITE" { "v=0\r\n" } else { "" },
        }
        .write();
        (branch, request)
    }

    /// Gives up a call; returns whether it is one of its own.
    pub fn cancel(&mut self, hands: &mut Hands<'_>, call: &str) -> bool {
        let Some(known) = self.calls.iter().find(|own| own.call == call) else {
            return false;
        };
        let branch = known.branch.clone();
        match self.endpoint.cancel_of(&branch, via(), self.is_pjsip) {
            Some((flow, cancel)) => self.send(hands, flow, ("CANCEL", &branch, call), cancel),
            None if self.endpoint.awaits(&branch) => {
                // Without a 1xx there is nothing to cancel yet.
                let call = call.to_owned();
                hands.after(500, 500, Errand::Cancel { call });
            }
            None => {}
        }
        true
    }

    /// Hangs up.
    pub fn hang_up(&mut self, hands: &mut Hands<'_>, flow: Flow, call: &str) {
        if let Some(at) = self.talks.iter().position(|talk| talk.call == call) {
            let mut dialog = self.talks.remove(at);
            let branch = hands.branch();
            let bye = dialog.request("BYE", via(), &branch);
            self.send(hands, flow, ("BYE", &branch, call), bye);
        }
    }

    /// Asks anew for the session of a call.
    pub fn reinvite(&mut self, hands: &mut Hands<'_>, flow: Flow, call: &str) {
        if let Some(talk) = self.talks.iter_mut().find(|talk| talk.call == call) {
            let branch = hands.branch();
            let invite = talk.request("INVITE", via(), &branch);
            self.send(hands, flow, ("INVITE", &branch, call), invite);
        }
    }

    fn on_response(&mut self, hands: &mut Hands<'_>, flow: Flow, response: &Message) {
        let status = response.status().unwrap_or(100);
        let (to, is_pjsip) = (text::header(response, HeaderName::To), self.is_pjsip);
        let ack = |client: &Client| client.beside("ACK", Some(&to), via(), is_pjsip);
        let heard = self
            .endpoint
            .response(hands.now, response, ack, &mut hands.out);
        let is_success = text::method(response) == "INVITE" && (200..300).contains(&status);
        if !is_success {
            return;
        }
        let mut dialog = Dialog::of_caller(response);
        let branch = hands.branch();
        hands
            .out
            .push((flow, dialog.request("ACK", via(), &branch)));
        if let Heard::Final { call } = heard
            && self.calls.iter().any(|own| own.call == call)
            && !self.talks.iter().any(|talk| talk.call == call)
        {
            self.talks.push(dialog);
            if hands.chance.percent(20) {
                let call = call.clone();
                hands.after(200, 9_000, Errand::Reinvite { call });
            }
            if hands.chance.percent(60) {
                let phone = None;
                hands.after(1_000, 30_000, Errand::HangUp { phone, call });
            }
        }
    }

    // --- phones' calls ---

    fn on_invite(&mut self, hands: &mut Hands<'_>, flow: Flow, invite: &Message, branch: String) {
        self.respond(hands, flow, (invite, "100 Trying"), "x", "");
        self.respond(hands, flow, (invite, "180 Ringing"), "x", "");
        let (phone, ring) = (PBX, branch.clone());
        self.rings.push((branch, invite.clone(), flow));
        hands.after(
            50,
            20_000,
            Errand::Decide {
                phone,
                branch: ring,
            },
        );
    }

    /// Whom a phone calls decides.
    pub fn decide(&mut self, hands: &mut Hands<'_>, branch: &str) {
        let Some(at) = self.rings.iter().position(|(own, ..)| own == branch) else {
            return;
        };
        let (_, invite, flow) = self.rings.remove(at);
        if hands.chance.percent(25) {
            return self.respond(hands, flow, (&invite, "486 Busy Here"), "x", "");
        }
        *hands.number += 1;
        let tag = tag(*hands.number);
        let dialog = Dialog::of_callee(&invite, &tag);
        let call = dialog.call.clone();
        self.talks.push(dialog);
        if hands.chance.percent(40) {
            let phone = None;
            hands.after(500, 20_000, Errand::HangUp { phone, call });
        }
        self.respond(hands, flow, (&invite, "200 OK"), &tag, "");
    }

    fn on_cancel(&mut self, hands: &mut Hands<'_>, flow: Flow, cancel: &Message, branch: &str) {
        let at = self.rings.iter().position(|(own, ..)| own == branch);
        let Some(at) = at else {
            return self.respond(hands, flow, (cancel, "481 Unknown"), "x", "");
        };
        let (_, invite, back) = self.rings.remove(at);
        self.respond(hands, flow, (cancel, "200 OK"), "x", "");
        self.respond(hands, back, (&invite, "487 Request Terminated"), "x", "");
    }

    fn on_ack(&mut self, ack: &Message) {
        let call = text::header(ack, HeaderName::CallId);
        self.endpoint.established_call(&call);
    }

    fn respond(
        &mut self,
        hands: &mut Hands<'_>,
        flow: Flow,
        (request, status): (&Message, &str),
        tag: &str,
        more: &str,
    ) {
        let code = status[..3].parse().unwrap();
        let more = if more.is_empty() && text::method(request) == "INVITE" {
            "Contact: <sip:600@192.0.2.80:5080>\r\n"
        } else {
            more
        };
        let response = text::answer(request, status, tag, more);
        self.endpoint
            .respond(hands.now, flow, (request, code), response, &mut hands.out);
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
