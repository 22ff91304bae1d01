//! Whatever happens in whatever order: phones that register, vanish and come back, calls in both
//! directions, answers from the right and the wrong side, push verdicts, a store that is slow or
//! broken, messages with bytes changed.
//!
//! Nothing panics; everything that leaves is valid SIP; an INVITE gets exactly one final response
//! (or 2xxs alone); a phone that rings gets no second INVITE of the same call; one that has answered
//! a MESSAGE or a NOTIFY gets it no more; and when everybody is silent nothing is in flight any more.
//!
//! A seed that fails is printed; `SIM_SEED=number` plays that one alone and tells what happens,
//! `SIM_CASES=number` plays as many.

#![expect(clippy::print_stderr, reason = "a failing seed is told on stderr")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rouse::proto::push::{PushError, Reason};
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::{HeaderName, Message, Method};
use rouse::proto::transaction::ClientId;
use rouse::proto::{Destination, Flow, FlowId, Input};

use crate::world::{
    APNS, Sent, World, crlf, invite_to, ok_to_register, pbx, register, response, settings, tcp,
    udp, via, with_shards,
};

const CASES: u64 = 120;
const STEPS: u64 = 150;
const AGENTS: u64 = 3;
const DEVICES: u64 = 3;

/// One play.
struct Play {
    is_alone: bool,
    shards: u16,
    rng: StdRng,
    world: World,
    number: u32,
    /// Where each device is or was.
    flows: BTreeMap<(u64, u64), Flow>,
    next_connection: u64,
    closed: BTreeSet<FlowId>,
    /// Contacts that Asterisk has of agents.
    contacts: BTreeMap<u64, String>,
    /// Requests of the gateway that wait for an answer.
    asked: Vec<(Flow, Sent)>,
    /// What was sent to the gateway, to send it again or changed.
    said: Vec<(Flow, String)>,
    /// Milliseconds since `said` was empty.
    since: u64,
    /// INVITEs by branch: unchanged ones are owed a final response.
    owed: BTreeMap<String, bool>,
    finals: BTreeMap<String, BTreeSet<(u16, String)>>,
    /// By the caller's branch and the device: the INVITEs that ring.
    ringing: BTreeMap<(String, String), Vec<(String, FlowId)>>,
    /// The newest INVITE of a call to a device.
    newest: BTreeMap<(String, String), String>,
    /// MESSAGEs and NOTIFYs that a device has answered: it gets them no more.
    taken: BTreeSet<(String, String)>,
    /// Answered calls: what a request in the dialog needs.
    dialogs: Vec<(String, String, Vec<String>)>,
}

impl Play {
    fn new(seed: u64, shards: u16, is_alone: bool) -> Self {
        let mode = match seed % 3 {
            0 => ContactMode::Agent,
            1 => ContactMode::Device,
            _ => ContactMode::Path,
        };
        Self {
            is_alone,
            shards,
            rng: StdRng::seed_from_u64(seed),
            world: World::with(settings(mode)),
            number: 0,
            flows: BTreeMap::new(),
            next_connection: 1,
            closed: BTreeSet::new(),
            contacts: BTreeMap::new(),
            asked: Vec::new(),
            said: Vec::new(),
            since: 0,
            owed: BTreeMap::new(),
            finals: BTreeMap::new(),
            ringing: BTreeMap::new(),
            newest: BTreeMap::new(),
            taken: BTreeSet::new(),
            dialogs: Vec::new(),
        }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.next_u64() % end.max(1)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.index(of.len());
        of[at].clone()
    }

    fn number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    // --- what happens ---

    fn step(&mut self) {
        match self.below(36) {
            0..4 => self.register(),
            4..9 => self.answer_upstream(),
            9..12 => self.call(),
            12..19 => self.answer_phone(),
            19 => self.cancel(),
            20 => self.acknowledge(),
            21 => self.in_dialog(),
            22 => self.other(),
            23 => self.call_out(),
            24 | 25 => self.close(),
            26 | 27 => self.push(),
            28 => self.store(),
            29 => self.fail_to_send(),
            30 => self.again(),
            31 => self.changed(),
            32 => self.heard(),
            _ => self.wait(),
        }
        self.look();
    }

    fn register(&mut self) {
        let (agent, device) = (self.below(AGENTS), self.below(DEVICES));
        let is_new = self.below(2) == 0;
        self.register_device(agent, device, is_new);
    }

    fn register_device(&mut self, agent: u64, device: u64, is_new: bool) {
        let known = self.flows.get(&(agent, device)).copied();
        let flow = match known {
            Some(flow) if !is_new && !self.closed.contains(&flow.id) => flow,
            _ if device == 0 => udp(5000 + u16::try_from(self.below(6)).unwrap()),
            _ => {
                self.next_connection += 1;
                tcp(self.next_connection)
            }
        };
        self.flows.insert((agent, device), flow);
        let push = if device == 2 { "" } else { APNS };
        let push = push.replace("00aabb", &format!("{agent}{device}aabb"));
        let instance = format!(";+sip.instance=\"<urn:uuid:{agent}-{device}>\"");
        let expires = self.pick(&[0, 60, 600, 3600, 3600, 3600]);
        let number = self.number();
        let text = register(
            flow,
            &format!("100{agent}"),
            &push,
            &instance,
            expires,
            number,
        )
        .replace("10.0.0.5", &format!("10.0.0.{device}"));
        self.say(flow, text);
    }

    /// Asterisk answers one of the requests that it got.
    fn answer_upstream(&mut self) {
        let Some((flow, sent)) = self.take(|flow| flow.id == pbx().id) else {
            return;
        };
        let method = sent.message.method();
        if method == Some(Method::Register) {
            let contact = sent.header(HeaderName::Contact);
            let user = sent.message.to().unwrap();
            let user = user.parse_uri().unwrap().user.unwrap();
            let agent = user.get(3).unwrap_or(&b'0').saturating_sub(b'0');
            let text = match self.below(8) {
                0 => response(
                    &sent,
                    "401 Unauthorized",
                    "WWW-Authenticate: Digest x=\"y\"\n",
                ),
                1 => response(&sent, "403 Forbidden", ""),
                2 => return,
                _ => ok_to_register(&sent),
            };
            if text.starts_with("SIP/2.0 200") && contact.starts_with('<') {
                let uri = contact[1..contact.find('>').unwrap()].to_owned();
                self.contacts.insert(u64::from(agent), uri);
            }
            self.feed(flow, text);
            return;
        }
        self.answer(flow, sent);
    }

    fn answer_phone(&mut self) {
        if let Some((flow, sent)) = self.take(|flow| flow.id != pbx().id) {
            // Now and then somebody else answers.
            let flow = if self.below(20) == 0 { udp(6666) } else { flow };
            self.answer(flow, sent);
        }
    }

    fn answer(&mut self, flow: Flow, sent: Sent) {
        let is_invite = sent.message.method() == Some(Method::Invite);
        let status = if is_invite {
            self.pick(&[
                "100 Trying",
                "180 Ringing",
                "180 Ringing",
                "183 Session Progress",
                "200 OK",
                "200 OK",
                "302 Moved",
                "486 Busy Here",
                "408 Request Timeout",
                "487 Request Terminated",
                "503 Service Unavailable",
                "603 Decline",
            ])
        } else {
            self.pick(&[
                "200 OK",
                "200 OK",
                "200 OK",
                "481 Gone",
                "408 Late",
                "100 Trying",
            ])
        };
        let text = response(&sent, status, "Contact: <sip:uas@10.0.0.5:5060>\n");
        let is_right = self.world_flow(&sent) == Some(flow.id);
        let (code, _) = status.split_once(' ').unwrap();
        let code: u16 = code.parse().unwrap();
        if is_invite && is_right {
            self.note_answer(&sent, code);
        }
        if is_kept(&sent) && is_right && code >= 200 {
            let key = self.key(&sent);
            let is_newest = self.newest.get(&key) == Some(&branch_of(&sent.message, 0));
            let is_late = self.world.now > sent.at + Duration::from_secs(31);
            if is_newest && !is_late {
                self.taken.insert(key);
            }
        }
        if is_invite && code < 200 {
            self.asked.push((flow, sent.clone()));
        }
        if is_invite && code == 200 && is_right && flow.id != pbx().id {
            let routes = sent.message.values(HeaderName::RecordRoute);
            let routes: Vec<_> = routes
                .map(|route| String::from_utf8_lossy(route).into_owned())
                .collect();
            let to = sent.header(HeaderName::To);
            self.dialogs
                .push((sent.header(HeaderName::CallId), to, routes));
        }
        self.feed(flow, text);
    }

    fn call(&mut self) {
        let Some(agent) = self.contacts.keys().copied().nth(0) else {
            return;
        };
        let agent = (agent + self.below(AGENTS)) % AGENTS;
        let is_exact = self.below(4) > 0;
        let uri = match self.contacts.get(&agent) {
            Some(uri) if is_exact => uri.clone(),
            _ => format!("sip:100{agent}@192.0.2.1"),
        };
        let number = self.number();
        self.say(pbx(), invite_to(&uri, &format!("c{number}")));
    }

    /// CANCEL of a call that Asterisk or a phone made.
    fn cancel(&mut self) {
        let invites: Vec<_> = self.said_with("INVITE").collect();
        if invites.is_empty() {
            return;
        }
        let at = self.index(invites.len());
        let (flow, text) = invites[at].clone();
        let text =
            text.replace("INVITE", "CANCEL")
                .replacen("Content-Length: 5", "Content-Length: 0", 1);
        self.feed(flow, text);
    }

    fn acknowledge(&mut self) {
        let invites: Vec<_> = self.said_with("INVITE").collect();
        if invites.is_empty() {
            return;
        }
        let at = self.index(invites.len());
        let (flow, text) = invites[at].clone();
        self.feed(flow, text.replace("INVITE", "ACK"));
        // T4 after it a copy of the INVITE is a new one.
        self.said.retain(|(_, other)| *other != text);
    }

    fn in_dialog(&mut self) {
        if self.dialogs.is_empty() {
            return;
        }
        let dialogs = self.dialogs.clone();
        let (call, to, mut routes) = self.pick(&dialogs);
        let method = self.pick(&["ACK", "BYE", "INVITE", "INFO"]);
        let number = self.number();
        let is_up = self.below(3) == 0;
        if !is_up {
            routes.reverse();
        }
        let flow = if is_up { self.any_flow() } else { pbx() };
        let uri = if is_up {
            "sip:2001@192.0.2.80:5080"
        } else {
            "sip:uas@10.0.0.5:5060"
        };
        let via = via(flow, &format!("z9hG4bKd{number}"));
        self.say(
            flow,
            crlf(&format!(
                "
{method} {uri} SIP/2.0
{via}
Route: {}
Max-Forwards: 70
From: <sip:a@x>;tag=f
To: {to};tag=remote
Call-ID: {call}
CSeq: {number} {method}
Content-Length: 0

",
                routes.join(", ")
            )),
        );
    }

    fn other(&mut self) {
        let agent = self.below(AGENTS);
        let method = self.pick(&["NOTIFY", "MESSAGE", "OPTIONS", "SUBSCRIBE", "FROBNICATE"]);
        let uri = self.contacts.get(&agent).cloned();
        let uri = uri.unwrap_or_else(|| format!("sip:100{agent}@pbx.example.com"));
        let number = self.number();
        let text = invite_to(&uri, &format!("o{number}")).replace("INVITE", method);
        self.say(pbx(), text);
    }

    fn call_out(&mut self) {
        let flow = self.any_flow();
        let (number, agent) = (self.number(), self.below(AGENTS));
        let text = invite_to("sip:600@pbx.example.com", &format!("p{number}"))
            .replace("2001@192.0.2.80", &format!("100{agent}@10.0.0.5"))
            .replace(&via(pbx(), ""), &via(flow, ""))
            .replace(
                &via(pbx(), &format!("z9hG4bKp{number}")),
                &via(flow, &format!("z9hG4bKp{number}")),
            );
        self.say(flow, text);
    }

    fn close(&mut self) {
        let flow = self.any_flow();
        if let FlowId::Stream(_) = flow.id {
            self.note(|| format!("{:?} closes", flow.id));
            self.closed.insert(flow.id);
            self.world.close(flow);
            self.asked.retain(|(other, _)| other.id != flow.id);
        }
    }

    fn push(&mut self) {
        if self.world.pushes.is_empty() {
            return;
        }
        let reason = Reason::new("x");
        match self.below(6) {
            0 => self.world.refuse_push(PushError::Unregistered {
                since_ms: None,
                reason,
            }),
            1 => {
                let retry_after = Duration::from_secs(self.below(9));
                self.world.refuse_push(PushError::Throttled {
                    retry_after,
                    reason,
                });
            }
            2 => self.world.refuse_push(PushError::WrongToken { reason }),
            _ => {
                let push = self.world.accept_push();
                let token = push.target.token.expose().as_bytes();
                let digit = |at: usize| u64::from(token[at].saturating_sub(b'0'));
                let device = (digit(0) % AGENTS, digit(1) % DEVICES);
                if self.below(2) == 0 {
                    self.register_device(device.0, device.1, true);
                }
            }
        }
    }

    fn store(&mut self) {
        match self.below(6) {
            0 => self.world.is_store_slow = true,
            1 => self.world.is_store_working = !self.world.is_store_working,
            _ => {
                self.world.is_store_slow = false;
                self.world.is_store_working = true;
            }
        }
        self.world.store();
    }

    fn fail_to_send(&mut self) {
        let is_any = |_: &Flow| true;
        if let Some((_, sent)) = self.take(is_any) {
            self.fail(&sent);
        }
    }

    fn fail(&mut self, sent: &Sent) {
        let via = sent.message.top_via().unwrap();
        if let Some((_, transaction)) = via.branch().and_then(ClientId::from_branch) {
            self.note_end(sent);
            self.note(|| format!("cannot send {}", sent.first_line()));
            self.world.input(Input::SendFailed { transaction });
        }
    }

    fn again(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let at = self.index(self.said.len());
        let (flow, text) = self.said[at].clone();
        if self.is_current(flow) {
            self.feed(flow, text);
        }
    }

    /// Whether a copy of a request finds its shard: a phone's does by who is registered on its flow,
    /// and that may have changed.
    fn is_current(&self, flow: Flow) -> bool {
        let is_phone = flow.id != pbx().id;
        let is_alone = self.shards == 1 && self.world.bound.contains(&flow.id);
        !self.closed.contains(&flow.id) && (!is_phone || is_alone)
    }

    /// Something that was said, with a few bytes changed.
    fn changed(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let at = self.index(self.said.len());
        let (flow, text) = self.said[at].clone();
        // What such a copy of it is answered counts for nothing.
        let message = Message::parse(Bytes::from(text.clone())).unwrap();
        self.owed.insert(branch_of(&message, 0), false);
        let mut bytes = text.into_bytes();
        for _ in 0..=self.below(3) {
            let at = self.index(bytes.len());
            match self.below(4) {
                0 => bytes[at] = u8::try_from(self.below(256)).unwrap(),
                1 => {
                    bytes.remove(at);
                }
                2 => bytes.truncate(at.max(1)),
                _ => {
                    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                    let line = lines[at % lines.len()].to_vec();
                    let before: usize = lines[..at % lines.len()].iter().map(|l| l.len()).sum();
                    bytes.splice(before..before, line);
                }
            }
            if bytes.is_empty() {
                return;
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((_, after)) = text.split_once("branch=") {
            let branch = after.split([';', '\r', ',']).next().unwrap();
            self.owed.insert(branch.trim().to_owned(), false);
        }
        let flow = if self.below(4) == 0 { udp(6666) } else { flow };
        if !self.closed.contains(&flow.id) {
            self.feed(flow, bytes);
        }
    }

    fn heard(&mut self) {
        let flow = self.any_flow().id;
        if !self.closed.contains(&flow) {
            self.world.input(Input::Heard { flow });
        }
    }

    fn wait(&mut self) {
        let millis = self.pick(&[1, 50, 400, 500, 2_000, 5_000, 30_000, 200_000]);
        let millis = 1 + self.below(millis);
        self.world.advance(Duration::from_millis(millis));
        // A copy that comes after 64*T1 is a new request.
        self.since += millis;
        if self.since > 10_000 {
            self.since = 0;
            self.said.clear();
        }
    }

    // --- what comes of it ---

    fn feed(&mut self, flow: Flow, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let line = String::from_utf8_lossy(text.split(|byte| *byte == b'\r').next().unwrap());
        let via = Message::parse(Bytes::copy_from_slice(text));
        let branch = via
            .map(|message| branch_of(&message, 0))
            .unwrap_or_default();
        self.note(|| format!("{:?} ---> {line} [{branch}]", flow.id));
        self.world.receive(flow, text);
    }

    /// One line of what happens, for the seed that is played alone.
    fn note(&self, line: impl FnOnce() -> String) {
        if self.is_alone {
            let after = self.world.now.duration_since(self.world.start);
            eprintln!("{:>10.3} {}", after.as_secs_f64(), line());
        }
    }

    fn any_flow(&mut self) -> Flow {
        let flows: Vec<_> = self.flows.values().copied().collect();
        if flows.is_empty() {
            udp(6666)
        } else {
            self.pick(&flows)
        }
    }

    fn say(&mut self, flow: Flow, text: String) {
        if self.closed.contains(&flow.id) {
            return;
        }
        if text.starts_with("INVITE") {
            let message = Message::parse(Bytes::from(text.clone())).unwrap();
            self.owed.insert(branch_of(&message, 0), true);
        }
        self.said.push((flow, text.clone()));
        self.feed(flow, text);
    }

    fn said_with(&self, method: &str) -> impl Iterator<Item = (Flow, String)> {
        let found: Vec<_> = self
            .said
            .iter()
            .filter(|(flow, text)| text.starts_with(method) && self.is_current(*flow))
            .cloned()
            .collect();
        found.into_iter()
    }

    fn take(&mut self, fits: impl Fn(&Flow) -> bool) -> Option<(Flow, Sent)> {
        let fitting: Vec<_> = (0..self.asked.len())
            .filter(|at| fits(&self.asked[*at].0))
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let at = self.pick(&fitting);
        Some(self.asked.remove(at))
    }

    fn world_flow(&self, sent: &Sent) -> Option<FlowId> {
        match &sent.to {
            Destination::Flow(flow) => Some(*flow),
            Destination::Hop(_) => None,
        }
    }

    /// Looks at all that was sent.
    fn look(&mut self) {
        while let Some(sent) = self.world.sent.pop_front() {
            let Some(flow) = self.world_flow(&sent) else {
                panic!("no stream hop is configured");
            };
            self.note(|| {
                let (line, via) = (sent.first_line(), branch_of(&sent.message, 0));
                let below = branch_of(&sent.message, 1);
                format!("      {flow:?} <--- {line} [{via}] [{below}]")
            });
            match sent.message.status() {
                Some(status) => self.look_at_answer(&sent, status),
                None => self.look_at_request(flow, sent),
            }
        }
    }

    fn look_at_answer(&mut self, sent: &Sent, status: u16) {
        let is_invite = sent.header(HeaderName::CSeq).ends_with("INVITE");
        if status < 200 || !is_invite || sent.message.top_via().is_err() {
            return;
        }
        let branch = branch_of(&sent.message, 0);
        if self.owed.get(&branch) != Some(&true) {
            return;
        }
        if status == 403 {
            // Kept nowhere: a copy that comes when its sender has registered is a new request.
            self.said
                .retain(|(_, text)| !text.contains(&format!("branch={branch};")));
        }
        let finals = self.finals.entry(branch.clone()).or_default();
        finals.insert((status, sent.text()));
        let is_success = |(status, _): &(u16, String)| (200..300).contains(status);
        assert!(
            finals.len() == 1 || finals.iter().all(is_success),
            "{branch}: {:?}",
            finals.iter().map(|(status, _)| status).collect::<Vec<_>>()
        );
    }

    fn look_at_request(&mut self, flow: FlowId, sent: Sent) {
        let method = sent.message.method();
        if method == Some(Method::Ack) {
            return;
        }
        if method == Some(Method::Cancel) {
            self.note_end(&sent);
        }
        let is_initial = !sent.header(HeaderName::To).contains(";tag=");
        let is_unchanged = self.owed.get(&branch_of(&sent.message, 1)) == Some(&true);
        let is_call = method == Some(Method::Invite) && flow != pbx().id && is_initial;
        if is_kept(&sent) && flow != pbx().id && is_initial {
            let key = self.key(&sent);
            // A changed copy is another request.
            let is_changed = self.owed.get(&key.0) == Some(&false);
            let is_twice = self.taken.contains(&key) && !is_changed;
            assert!(!is_twice, "twice to a device: {key:?}");
            self.newest.insert(key, branch_of(&sent.message, 0));
        }
        if is_call && is_unchanged {
            let key = self.key(&sent);
            let branch = branch_of(&sent.message, 0);
            self.newest.insert(key.clone(), branch.clone());
            let others = self.ringing.entry(key.clone()).or_default();
            others.retain(|(_, on)| !self.closed.contains(on));
            let second = others.iter().find(|(other, _)| *other != branch);
            assert!(
                second.is_none(),
                "a second INVITE to a phone that rings: {key:?}"
            );
        }
        if self.closed.contains(&flow) {
            // The transport would say so.
            self.fail(&sent);
            return;
        }
        let flows = self.flows.values().copied().chain([pbx(), udp(6666)]);
        let known = flows.into_iter().find(|known| known.id == flow);
        let known = known.or_else(|| match flow {
            FlowId::Datagram { remote, .. } => Some(udp(remote.port())),
            FlowId::Stream(connection) => Some(tcp(connection.0)),
        });
        let branch = branch_of(&sent.message, 0);
        let is_copy = |(_, other): &(Flow, Sent)| {
            branch_of(&other.message, 0) == branch && other.message.method() == method
        };
        if let Some(known) = known
            && !self.asked.iter().any(is_copy)
        {
            self.asked.push((known, sent));
        }
    }

    /// The call's branch at the caller, and the device.
    fn key(&self, sent: &Sent) -> (String, String) {
        let uri = sent.message.request_uri().unwrap();
        (
            branch_of(&sent.message, 1),
            String::from_utf8_lossy(uri).into_owned(),
        )
    }

    fn note_answer(&mut self, sent: &Sent, status: u16) {
        let Some(flow) = self.world_flow(sent) else {
            return;
        };
        let key = self.key(sent);
        let branch = branch_of(&sent.message, 0);
        let is_newest = self.newest.get(&key) == Some(&branch);
        let ringing = self.ringing.entry(key).or_default();
        let is_new = !ringing.iter().any(|(other, _)| *other == branch);
        // After 64*T1 without any answer the transaction is over.
        let is_late = self.world.now > sent.at + Duration::from_secs(32);
        ringing.retain(|(other, _)| *other != branch);
        if (100..200).contains(&status) && is_newest && !(is_new && is_late) {
            ringing.push((branch, flow));
        }
    }

    /// No answer counts any more.
    fn note_end(&mut self, sent: &Sent) {
        let branch = branch_of(&sent.message, 0);
        for ringing in self.ringing.values_mut() {
            ringing.retain(|(other, _)| *other != branch);
        }
    }

    /// Everybody is silent.
    fn end(&mut self) {
        self.world.is_store_slow = false;
        self.world.is_store_working = true;
        self.world.store();
        for _ in 0..8 {
            while !self.world.pushes.is_empty() {
                self.world.accept_push();
            }
            self.world.advance(Duration::from_secs(100));
            self.look();
        }
        self.world.assert_quiet();
        for (branch, is_owed) in &self.owed {
            let has_one = self
                .finals
                .get(branch)
                .is_some_and(|finals| !finals.is_empty());
            assert!(has_one || !is_owed, "no final response for {branch}");
        }
    }
}

/// Whether it is kept for a device that sleeps.
fn is_kept(sent: &Sent) -> bool {
    let method = sent.message.method();
    method == Some(Method::Message) || method == Some(Method::Notify)
}

fn branch_of(message: &Message, at: usize) -> String {
    let value = message.values(HeaderName::Via).nth(at).unwrap_or_default();
    let via = rouse::proto::sip::Via::parse(value);
    let branch = via.ok().and_then(|via| via.branch()).unwrap_or_default();
    String::from_utf8_lossy(branch).into_owned()
}

fn play(seed: u64, shards: u16, is_alone: bool) {
    let mut play = Play::new(seed, shards, is_alone);
    for _ in 0..STEPS {
        play.step();
    }
    play.end();
}

fn play_all(seeds: std::ops::Range<u64>, is_alone: bool) {
    for seed in seeds {
        let shards = if seed % 2 == 0 { 1 } else { 3 };
        let result =
            std::panic::catch_unwind(|| with_shards(shards, || play(seed, shards, is_alone)));
        if let Err(panic) = result {
            eprintln!("the failing seed is {seed}: SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn whatever_happens_every_call_ends_once_and_nothing_is_left() {
    match (number("SIM_SEED"), number("SIM_CASES")) {
        (Some(seed), _) => play_all(seed..seed + 1, true),
        (None, cases) => play_all(0..cases.unwrap_or(CASES), false),
    }
}

/// The same for as many others, beside it.
#[test]
fn whatever_else_happens_every_call_ends_once_and_nothing_is_left() {
    play_all(1_000_000..1_000_000 + CASES, false);
}
