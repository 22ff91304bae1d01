//! What an onlooker at the gateway's door has seen: requests that went in, INVITEs that came out,
//! and who is registered by what Asterisk granted and the gateway told the phone.

use std::time::{Duration, Instant};

use rouse::proto::push::PushRequest;
use rouse::proto::settings::Settings;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::{Flow, FlowId};

use super::asterisk::PBX;
use super::cast::Ask;
use super::network::party;
use super::text;

/// 64*T1.
pub const WHOLE: Duration = Duration::from_secs(32);

/// A request that went in.
#[derive(Debug)]
pub struct Request {
    pub branch: String,
    pub method: &'static str,
    pub party: usize,
    pub at: Instant,
    pub call: String,
    pub cseq: u32,
    /// Final answers that differ, by their first line.
    pub finals: Vec<(u16, Vec<u8>)>,
    pub answered: Option<Instant>,
    /// It was refused by somebody who keeps no record of it: a copy of it is new.
    pub is_refused: bool,
    /// The agent that an INVITE of Asterisk's outside a dialog calls.
    pub agent: Option<usize>,
    /// Its CANCEL has come before its answer.
    pub cancelled: Option<Instant>,
    /// A callee has declined for all.
    pub is_declined: bool,
    /// When something last happened to it.
    pub active: Instant,
    /// Devices that it waits for, until when.
    pub waits: Vec<Wait>,
    /// What a REGISTER asks, and whether Asterisk has granted it.
    pub ask: Option<Ask>,
    pub granted: Option<u32>,
}

/// A device that a call waits for.
#[derive(Debug)]
pub struct Wait {
    pub phone: usize,
    pub instance: String,
    pub until: Instant,
}

/// An INVITE that came out.
#[derive(Debug)]
pub struct Leg {
    pub branch: String,
    /// The request's branch.
    pub request: String,
    pub party: usize,
    pub flow: FlowId,
    pub at: Instant,
    /// The newest provisional answer.
    pub rung: Option<Instant>,
    pub cancelled: Option<Instant>,
    pub is_over: bool,
    /// Its flow is gone; the gateway may have left that one before.
    pub is_cut: bool,
}

/// A binding.
#[derive(Debug)]
pub struct Hold {
    pub agent: usize,
    pub phone: usize,
    pub instance: String,
    pub token: Option<String>,
    pub flow: Flow,
    /// Its REGISTER's Call-ID and number, and since when that counts: a restart forgets it.
    pub call: String,
    pub cseq: Option<u32>,
    /// When its REGISTER arrived, when Asterisk granted it, and until when.
    pub asked: Instant,
    pub since: Instant,
    pub until: Instant,
    /// The phone was told so, and may rely on it.
    pub is_acknowledged: bool,
}

/// All of it.
#[derive(Debug)]
pub struct Record {
    pub settings: Settings,
    /// How many values of q there are.
    pub groups: u32,
    pub requests: Vec<Request>,
    pub legs: Vec<Leg>,
    pub holds: Vec<Hold>,
    pub asked: Vec<(String, Ask)>,
    /// Tokens that their service has given up.
    pub dead: Vec<String>,
    /// Flows that the gateway knows to be over.
    pub closed: Vec<FlowId>,
    /// When something last went in or out.
    pub active: Instant,
}

impl Leg {
    /// Whether its phone may answer it: until when.
    pub fn lives_until(&self, timer_c: Duration) -> Option<Instant> {
        match (self.is_over, self.cancelled, self.rung) {
            (true, ..) => None,
            (false, Some(at), _) => Some(at + WHOLE),
            (false, None, Some(at)) => Some(at + timer_c),
            (false, None, None) => Some(self.at + WHOLE),
        }
    }

    pub fn is_live(&self, now: Instant, timer_c: Duration) -> bool {
        self.lives_until(timer_c).is_some_and(|until| now < until)
    }
}

impl Hold {
    /// Whether it counts more than a REGISTER that came at that time, of that Call-ID and number.
    fn came_after(&self, asked: Instant, (call, cseq): (&str, u32)) -> bool {
        let apart = self.asked.saturating_duration_since(asked)
            + asked.saturating_duration_since(self.asked);
        match self.cseq {
            Some(own) if self.call == call && own != cseq && apart < WHOLE => own > cseq,
            _ => self.asked > asked,
        }
    }
}

impl Request {
    /// Whether somebody waits for its final answer.
    pub const fn is_owed(&self) -> bool {
        self.answered.is_none() && !self.is_refused
    }

    /// Whether it is a call to an agent that still goes on.
    pub fn is_open(&self) -> bool {
        self.answered.is_none() && self.cancelled.is_none() && !self.is_declined
    }
}

impl Record {
    pub const fn new(settings: Settings, now: Instant, groups: u32) -> Self {
        Self {
            settings,
            groups,
            requests: Vec::new(),
            legs: Vec::new(),
            holds: Vec::new(),
            asked: Vec::new(),
            dead: Vec::new(),
            closed: Vec::new(),
            active: now,
        }
    }

    pub fn request_mut(&mut self, branch: &str, method: &str) -> Option<&mut Request> {
        let mut requests = self.requests.iter_mut();
        requests.find(|request| request.branch == branch && request.method == method)
    }

    pub fn request(&self, branch: &str, method: &str) -> Option<&Request> {
        let mut requests = self.requests.iter();
        requests.find(|request| request.branch == branch && request.method == method)
    }

    /// A request goes in.
    pub fn request_in(&mut self, now: Instant, flow: &Flow, message: &Message) {
        let (branch, method) = (text::branch(message, 0), text::method(message));
        if method == "ACK" || self.request(&branch, method).is_some() {
            return;
        }
        let party = party(flow.id);
        let is_call = method == "INVITE" && party >= PBX && !is_in_dialog(message);
        let cancels = |request: &&mut Request| request.answered.is_none();
        if method == "CANCEL"
            && let Some(invite) = self.request_mut(&branch, "INVITE").filter(cancels)
        {
            invite.cancelled.get_or_insert(now);
        }
        let ask = self.asked.iter().find(|(of, _)| *of == branch);
        let ask = ask.map(|(_, ask)| ask.clone());
        self.requests.push(Request {
            branch,
            method,
            party,
            at: now,
            call: text::header(message, HeaderName::CallId),
            cseq: message.cseq().map_or(0, |cseq| cseq.number),
            finals: Vec::new(),
            answered: None,
            is_refused: false,
            agent: is_call.then(|| agent_of(message)).flatten(),
            cancelled: None,
            is_declined: false,
            active: now,
            waits: Vec::new(),
            ask,
            granted: None,
        });
    }

    /// A response goes in; returns the branch of the INVITE that it answers with a 2xx.
    pub fn response_in(&mut self, now: Instant, flow: &Flow, message: &Message) -> Option<String> {
        let (top, below) = (text::branch(message, 0), text::branch(message, 1));
        let status = message.status().unwrap_or(100);
        match text::method(message) {
            "REGISTER" if (200..300).contains(&status) => {
                self.granted(now, &below, message);
                None
            }
            "INVITE" => self.answered_leg(now, flow, (&top, &below), status),
            _ => None,
        }
    }

    fn answered_leg(
        &mut self,
        now: Instant,
        flow: &Flow,
        (top, below): (&str, &str),
        status: u16,
    ) -> Option<String> {
        let timer_c = self.settings.timing.timer_c;
        let leg = self.legs.iter_mut().find(|leg| leg.branch == *top)?;
        if leg.flow != flow.id || !leg.is_live(now, timer_c) {
            return None;
        }
        if status < 200 {
            leg.rung = Some(now);
        } else {
            leg.is_over = true;
        }
        let party = leg.party;
        let request = self.request_mut(below, "INVITE")?;
        request.active = now;
        if status >= 200 {
            request.waits.retain(|wait| wait.phone != party);
        }
        request.is_declined |= status >= 600;
        (200..300).contains(&status).then(|| top.to_owned())
    }

    /// Asterisk granted a REGISTER.
    fn granted(&mut self, now: Instant, branch: &str, success: &Message) {
        let Some(request) = self.request_mut(branch, "REGISTER") else {
            return;
        };
        let (Some(ask), None, None) = (request.ask.clone(), request.answered, request.granted)
        else {
            return;
        };
        let granted = if ask.expires == 0 {
            0
        } else {
            granted_in(success)
        };
        request.granted = Some(granted);
        let (asked, call, cseq) = (request.at, request.call.clone(), request.cseq);
        // REGISTERs count in the order in which they arrive, those of one Call-ID in that of their
        // numbers (RFC 3261 §10.3), whichever Asterisk answers first.
        let came_after = |hold: &Hold| hold.came_after(asked, (&call, cseq));
        // The same instance, or the same token, or without one the same place.
        let of_device = |hold: &Hold| {
            let is_same_app = hold.token.is_some() && hold.token == ask.token;
            let is_same_place = hold.flow.id == ask.flow.id;
            let is_same = hold.instance == ask.instance || is_same_app || is_same_place;
            hold.agent == ask.agent && is_same
        };
        if granted == 0 {
            let left = self.holds.iter_mut().filter(|hold| !came_after(hold));
            for hold in left.filter(|hold| of_device(hold)) {
                hold.is_acknowledged = false;
            }
            return;
        }
        // Where the later one came from there must still be somebody.
        let is_open = |hold: &Hold| hold.until > now && !self.closed.contains(&hold.flow.id);
        let is_newer = |hold: &Hold| came_after(hold) && is_open(hold);
        if self
            .holds
            .iter()
            .any(|hold| of_device(hold) && is_newer(hold))
        {
            return;
        }
        let is_of_app = |hold: &Hold| hold.token.is_some() && hold.token == ask.token;
        let is_elsewhere =
            |hold: &Hold| hold.agent != ask.agent && is_of_app(hold) && hold.flow.id != ask.flow.id;
        let mut holds = self.holds.iter();
        let is_taken = holds.any(|hold| is_elsewhere(hold) && hold.asked > asked && is_open(hold));
        // By its token a device is known though its instance is new.
        let replaced = self
            .holds
            .iter()
            .filter(|hold| of_device(hold) && hold.until > now);
        let replaced: Vec<_> = replaced.map(|hold| hold.instance.clone()).collect();
        let requests = self.requests.iter_mut();
        for wait in requests.flat_map(|request| &mut request.waits) {
            if replaced.contains(&wait.instance) {
                wait.instance.clone_from(&ask.instance);
            }
        }
        // The phone rings for its new agent alone, unless one connection serves both.
        self.holds.retain(|hold| {
            !of_device(hold) && (!is_elsewhere(hold) || hold.asked > asked && is_open(hold))
        });
        // Without a token it is no more than its connection.
        let is_gone = ask.token.is_none() && self.closed.contains(&ask.flow.id);
        if is_taken || is_gone {
            return;
        }
        // An app that registers says that its tokens live.
        let name = ask.token.as_ref().map(|token| &token[..8]);
        self.dead.retain(|token| Some(&token[..8]) != name);
        let granted = if ask.token.is_some() {
            granted
        } else {
            granted.min(ask.expires)
        };
        self.holds.push(Hold {
            agent: ask.agent,
            phone: ask.phone,
            instance: ask.instance,
            token: ask.token,
            flow: ask.flow,
            call,
            cseq: Some(cseq),
            asked,
            since: now,
            until: now + Duration::from_secs(granted.into()),
            is_acknowledged: false,
        });
    }

    /// The gateway tells a phone how its REGISTER ended.
    pub fn registered(&mut self, branch: &str, status: u16) {
        let Some(request) = self.request(branch, "REGISTER") else {
            return;
        };
        let (Some(ask), granted) = (request.ask.clone(), request.granted) else {
            return;
        };
        let (asked, call, cseq) = (request.at, request.call.clone(), request.cseq);
        if !(200..300).contains(&status) {
            // A device that is refused is given up (RFC 8599 §5.6.2), unless it is to try again.
            if !matches!(status, 300..=399 | 401 | 407 | 423) {
                for request in &mut self.requests {
                    request.waits.retain(|wait| wait.phone != ask.phone);
                }
            }
            return;
        }
        let is_same = |hold: &Hold| hold.agent == ask.agent && hold.instance == ask.instance;
        if granted == Some(0) {
            self.holds
                .retain(|hold| !is_same(hold) || hold.came_after(asked, (&call, cseq)));
            // What it wakes up as next may be another device.
            for request in &mut self.requests {
                request.waits.retain(|wait| wait.phone != ask.phone);
            }
        } else if let Some(hold) = self
            .holds
            .iter_mut()
            .find(|hold| is_same(hold) && hold.asked == asked)
        {
            let is_dead = self
                .dead
                .iter()
                .any(|dead| Some(dead) == hold.token.as_ref());
            hold.is_acknowledged = !is_dead;
        }
    }

    /// The gateway hears that a flow ended.
    pub fn closed(&mut self, now: Instant, flow: FlowId) {
        self.closed.push(flow);
        self.holds
            .retain(|hold| hold.flow.id != flow || hold.token.is_some());
        let mut touched = Vec::new();
        for leg in self
            .legs
            .iter_mut()
            .filter(|leg| leg.flow == flow && !leg.is_over)
        {
            leg.is_over = true;
            leg.is_cut = true;
            touched.push(leg.request.clone());
        }
        for branch in touched {
            if let Some(request) = self.request_mut(&branch, "INVITE") {
                request.active = now;
            }
        }
    }

    /// It hears that a request could not be sent.
    pub fn send_failed(&mut self, now: Instant, branch: &str) {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.branch == branch) else {
            return;
        };
        leg.is_over |= leg.rung.is_none();
        let request = leg.request.clone();
        if let Some(request) = self.request_mut(&request, "INVITE") {
            request.active = now;
        }
    }

    /// A push service said that a token is dead, or that it cannot push it.
    pub fn push_refused(&mut self, phone: usize, token: &str, died: Option<Instant>) {
        for request in &mut self.requests {
            request.waits.retain(|wait| wait.phone != phone);
        }
        // Who has registered since the push was sent has said that the token lives; with another
        // token, installed anew, it has said nothing of this one.
        let mut holds = self.holds.iter();
        let is_known = |hold: &Hold, sent| {
            let name = hold.token.as_ref().map(|token| &token[..8]);
            name == token.get(..8) && hold.since > sent
        };
        let Some(sent) = died else { return };
        if !holds.any(|hold| is_known(hold, sent)) {
            self.dead.push(token.to_owned());
            for hold in &mut self.holds {
                hold.is_acknowledged &= hold.token.as_deref() != Some(token);
            }
        }
    }

    /// A push for a call came out.
    pub fn pushed_for(&mut self, now: Instant, phone: usize, push: &PushRequest, call: &str) {
        let until = now + push.lifetime.min(self.settings.wake.timeout);
        let token = push.target.token.expose();
        let holds = self.holds.iter();
        let mut held = holds.filter(|hold| hold.token.as_deref() == Some(token));
        let Some(instance) = held.next().map(|hold| hold.instance.clone()) else {
            return;
        };
        for request in &mut self.requests {
            if request.call == call && request.method == "INVITE" && request.is_open() {
                let instance = instance.clone();
                request.waits.push(Wait {
                    phone,
                    instance,
                    until,
                });
            }
        }
    }

    /// The gateway's process died: what was in flight is forgiven, bindings are not.
    pub fn restarted(&mut self, now: Instant) {
        self.requests.clear();
        self.legs.clear();
        // That they are dead may not have been written yet.
        self.dead.clear();
        self.holds.retain(|hold| {
            let is_stream = matches!(hold.flow.id, FlowId::Stream(_));
            hold.token.is_some() || !is_stream
        });
        for hold in &mut self.holds {
            hold.cseq = None;
        }
        self.active = now;
    }

    /// The INVITE of a leg.
    pub fn request_of(&self, leg: &Leg) -> Option<&Request> {
        self.request(&leg.request, "INVITE")
    }
}

/// Whether a request is inside a dialog.
pub fn is_in_dialog(message: &Message) -> bool {
    text::has_tag(message.header(HeaderName::To).unwrap_or_default())
}

/// The agent that a request of Asterisk's is for: the digit in `sip:100N@`.
fn agent_of(message: &Message) -> Option<usize> {
    let uri = message.request_uri()?;
    let digit = uri.strip_prefix(b"sip:100")?.first()?;
    Some(usize::from(digit.checked_sub(b'0')?))
}

/// The longest time that a 2xx to a REGISTER grants.
fn granted_in(success: &Message) -> u32 {
    let mut longest = 0;
    for value in success.values(HeaderName::Contact) {
        let value = String::from_utf8_lossy(value);
        let expires = value.split_once(";expires=").map(|(_, rest)| rest);
        let expires = expires.and_then(|rest| rest.split(';').next()?.parse().ok());
        longest = longest.max(expires.unwrap_or(0));
    }
    longest
}
