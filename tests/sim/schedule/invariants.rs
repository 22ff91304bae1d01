//! What must be true after every step, and who looks.
//!
//! The onlooker stands at the gateway's door: it knows what went in and what came out, and nothing
//! of what the gateway thinks, except whether it is empty and whether it knows a binding.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rouse::proto::push::{Notice, PushError, PushRequest};
use rouse::proto::settings::Settings;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::timer::Timer;
use rouse::proto::{AorId, Destination, FlowId, Input};

use super::asterisk::PBX;
use super::network::{STRANGER, party};
use super::phone::phone_of;
use super::record::{Hold, Leg, Record, Request, WHOLE, is_in_dialog};
use super::text;
use crate::world::World;

/// Two clocks may differ so much: the gateway counts a registration in whole seconds.
const SLACK: Duration = Duration::from_secs(3);
/// How long a request other than INVITE may take.
const LONGEST: Duration = Duration::from_secs(150);

/// What is never broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Each request gets exactly one final response.
    OneFinal,
    /// No device gets two INVITEs for one call while one is live.
    OneRing,
    /// No branch outlives its call.
    NoOrphan,
    /// No timer or entry is left when nothing is in flight.
    NothingLeft,
    /// No push after the end of the binding, or of its token.
    NoPushAfterEnd,
    /// An acknowledged binding is never lost.
    BindingKept,
    /// Every held call ends by its deadline.
    HeldEnds,
    /// A phone that wakes for a call gets it with its registration.
    WokenGetsCall,
    /// A phone rings only for agents who are registered on it.
    RightPhone,
    /// What a phone answers reaches its caller, or is hung up.
    AnswerPasses,
    /// What leaves is SIP.
    ValidSip,
    /// Nothing panics.
    NoPanic,
}

/// One is broken.
#[derive(Clone, Debug)]
pub struct Broken {
    pub invariant: Invariant,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

/// Who looks.
#[derive(Debug)]
pub struct Onlooker {
    pub record: Record,
    /// The first that was broken.
    pub broken: Option<Broken>,
    /// INVITEs whose 2xx went in with this step, and has yet to come out.
    answers: Vec<String>,
    /// Calls that a phone must get with this step, and the phone.
    owed: Vec<(String, usize)>,
    /// Whether the step may have changed a binding.
    is_binding_step: bool,
}

impl Onlooker {
    pub const fn new(settings: Settings, now: Instant, groups: u32) -> Self {
        Self {
            record: Record::new(settings, now, groups),
            broken: None,
            answers: Vec::new(),
            owed: Vec::new(),
            is_binding_step: false,
        }
    }

    fn breaks(&mut self, invariant: Invariant, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some(Broken {
                invariant,
                what: what(),
            });
        }
    }

    /// Something went in.
    pub fn input(&mut self, now: Instant, input: &Input) {
        self.record.active = now;
        if let Input::Message { flow, .. } = input
            && party(flow.id) == STRANGER
        {
            return;
        }
        match input {
            Input::Message { flow, message } if message.is_request() => {
                self.record.request_in(now, flow, message);
            }
            Input::Message { flow, message } => {
                self.is_binding_step = true;
                let answer = self.record.response_in(now, flow, message);
                self.answers.extend(answer);
            }
            Input::FlowClosed { flow, .. } => {
                self.is_binding_step = true;
                self.record.closed(now, *flow);
            }
            Input::Stored { .. } | Input::Command(_) | Input::Claimed(_) => {
                self.is_binding_step = true;
            }
            Input::SendFailed { .. }
            | Input::Shed { .. }
            | Input::Pushed { .. }
            | Input::Malformed { .. }
            | Input::Heard { .. }
            | Input::Resolved { .. } => {}
        }
    }

    /// A timer fired.
    pub const fn timer_fired(&mut self) {
        self.is_binding_step = true;
    }

    /// The gateway's process died.
    pub fn restarted(&mut self, now: Instant) {
        self.record.restarted(now);
        self.answers.clear();
        self.owed.clear();
        self.is_binding_step = true;
    }

    /// A push service's verdict went in.
    pub fn verdict(&mut self, token: &str, at: Instant, error: Option<&PushError>) {
        let Some(phone) = phone_of(token) else { return };
        match error {
            None
            | Some(
                PushError::Throttled { .. } | PushError::Unavailable { .. } | PushError::Withdrawn,
            ) => {}
            // A token that is not for this app, or for nobody, is given up.
            Some(PushError::Unregistered { .. } | PushError::WrongToken { .. }) => {
                self.record.push_refused(phone, token, Some(at));
            }
            Some(
                PushError::BadCredentials { .. }
                | PushError::Refused { .. }
                | PushError::NotConfigured { .. },
            ) => self.record.push_refused(phone, token, None),
        }
    }

    /// Bytes came out.
    pub fn sent(&mut self, now: Instant, to: &Destination, bytes: &Bytes) -> Option<Message> {
        self.record.active = now;
        let message = match Message::parse(bytes.clone()) {
            Ok(message) => message,
            Err(error) => {
                self.breaks(Invariant::ValidSip, || format!("{error}"));
                return None;
            }
        };
        // A 400 quotes what was wrong with the request.
        if let (Err(error), false) = (
            message.validate(),
            matches!(message.status(), Some(400 | 505)),
        ) {
            self.breaks(Invariant::ValidSip, || {
                format!("{error}: {}", String::from_utf8_lossy(bytes))
            });
        }
        let Destination::Flow(flow) = *to else {
            return Some(message);
        };
        match message.status() {
            Some(status) => self.response_out(now, flow, &message, status),
            None => self.request_out(now, flow, &message),
        }
        Some(message)
    }

    fn response_out(&mut self, now: Instant, flow: FlowId, message: &Message, status: u16) {
        if status < 200 {
            return;
        }
        let (branch, method) = (text::branch(message, 0), text::method(message));
        let is_register = method == "REGISTER";
        let Some(request) = self.record.request_mut(&branch, method) else {
            return;
        };
        let is_new = request.answered.is_none();
        // Kept nowhere: a copy that comes when its sender is known is a new request.
        let is_stateless = status == 403 && party(flow) < PBX && !is_register;
        if is_stateless {
            request.is_refused = true;
        } else {
            request.answered.get_or_insert(now);
            let raw = message.raw();
            let is_known = request.finals.iter().any(|(_, known)| known == raw);
            if !is_known {
                request.finals.push((status, raw.to_vec()));
            }
        }
        let statuses: Vec<_> = request.finals.iter().map(|(status, _)| *status).collect();
        let is_invite = method == "INVITE";
        let is_success = |status: &u16| (200..300).contains(status);
        let is_fine = statuses.len() <= 1 || (is_invite && statuses.iter().all(is_success));
        if !is_fine {
            self.breaks(Invariant::OneFinal, || {
                format!("{method} {branch} was answered {statuses:?}")
            });
        }
        if is_invite && is_success(&status) {
            let legs = &self.record.legs;
            self.answers.retain(|leg| {
                let leg = legs.iter().find(|known| known.branch == *leg);
                leg.is_none_or(|leg| leg.request != branch)
            });
        }
        if is_register && is_new {
            self.registered(now, &branch, status);
        }
    }

    /// A phone was told how its REGISTER ended: who waits for it gets it now.
    fn registered(&mut self, now: Instant, branch: &str, status: u16) {
        self.record.registered(branch, status);
        let Some(request) = self.record.request(branch, "REGISTER") else {
            return;
        };
        let (Some(ask), Some(1..), 200..300) = (&request.ask, request.granted, status) else {
            return;
        };
        if self.record.closed.contains(&ask.flow.id) {
            return;
        }
        let (phone, agent) = (ask.phone, ask.agent);
        // By then it may have registered elsewhere, or for another agent, whose it is from there.
        let mut holds = self.record.holds.iter();
        if !holds.any(|hold| {
            (hold.agent, &hold.instance, hold.asked) == (agent, &ask.instance, request.at)
        }) {
            return;
        }
        let timer_c = self.record.settings.timing.timer_c;
        for call in &self.record.requests {
            let is_waiting = call.waits.iter().any(|wait| {
                wait.phone == phone && wait.instance == ask.instance && now < wait.until
            });
            let mut legs = self.record.legs.iter();
            let has_it = legs.any(|leg| {
                let is_there = leg.rung.is_some() || leg.flow == ask.flow.id;
                let is_this = leg.request == call.branch && leg.party == phone;
                is_this && is_there && leg.is_live(now, timer_c)
            });
            if call.agent == Some(agent) && call.is_open() && is_waiting && !has_it {
                self.owed.push((call.branch.clone(), phone));
            }
        }
    }

    fn request_out(&mut self, now: Instant, flow: FlowId, message: &Message) {
        let (top, below) = (text::branch(message, 0), text::branch(message, 1));
        let call_id = || text::header(message, HeaderName::CallId);
        match text::method(message) {
            "CANCEL" => {
                if let Some(leg) = self.record.legs.iter_mut().find(|leg| leg.branch == top) {
                    leg.cancelled.get_or_insert(now);
                }
            }
            // A phone that answers a call that is over is hung up.
            "BYE" | "ACK" if below.is_empty() => {
                let call = call_id();
                let record = &self.record;
                self.answers.retain(|leg| {
                    let leg = record.legs.iter().find(|known| known.branch == *leg);
                    let request = leg.and_then(|leg| record.request_of(leg));
                    request.is_none_or(|request| request.call != call)
                });
            }
            "INVITE" if !self.record.legs.iter().any(|leg| leg.branch == top) => {
                self.invite_out(now, flow, message, (top, below));
            }
            _ => {}
        }
    }

    fn invite_out(
        &mut self,
        now: Instant,
        flow: FlowId,
        message: &Message,
        (top, below): (String, String),
    ) {
        let party = party(flow);
        let timer_c = self.record.settings.timing.timer_c;
        let is_call = party < PBX && !is_in_dialog(message);
        let mut legs = self.record.legs.iter();
        let second = legs.any(|leg| {
            leg.request == below
                && leg.party == party
                && leg.cancelled.is_none()
                && (leg.rung.is_some() || leg.flow == flow)
                && leg.is_live(now, timer_c)
        });
        if is_call && second {
            self.breaks(Invariant::OneRing, || {
                format!("phone {party} gets a second INVITE of {below}")
            });
        }
        self.owed
            .retain(|(call, phone)| *call != below || *phone != party);
        self.record.legs.push(Leg {
            branch: top,
            request: below.clone(),
            party,
            flow,
            at: now,
            rung: None,
            cancelled: None,
            is_over: false,
            is_cut: false,
        });
        let Some(request) = self.record.request_mut(&below, "INVITE") else {
            return;
        };
        request.active = now;
        let agent = request.agent;
        let mut holds = self.record.holds.iter();
        let is_held = holds.any(|hold| hold.phone == party && Some(hold.agent) == agent);
        if is_call && !is_held {
            self.breaks(Invariant::RightPhone, || {
                format!("phone {party} rings for agent {agent:?}, who is not there")
            });
        }
    }

    /// A push came out.
    pub fn pushed(&mut self, now: Instant, push: &PushRequest) {
        self.record.active = now;
        let token = push.target.token.expose();
        let Some(phone) = phone_of(token) else { return };
        let name = |hold: &Hold| hold.token.as_ref().map(|token| token[..8].to_owned());
        let mut holds = self.record.holds.iter();
        let is_bound = holds.any(|hold| {
            name(hold).is_some_and(|name| token.starts_with(&name)) && now <= hold.until + SLACK
        });
        let is_dead = self.record.dead.iter().any(|dead| dead == token);
        if !is_bound || is_dead {
            let notice = push.notice.label();
            self.breaks(Invariant::NoPushAfterEnd, || {
                format!("a push ({notice}) to phone {phone}, bound: {is_bound}, dead: {is_dead}")
            });
        }
        if let Notice::Call(notice) = &push.notice {
            self.record.pushed_for(now, phone, push, &notice.call_id);
        }
    }

    /// The step is over: looks at everything.
    pub fn look(&mut self, world: &World) {
        let now = world.now;
        if let Some(leg) = self.answers.pop() {
            self.breaks(Invariant::AnswerPasses, || {
                format!("the 2xx of {leg} went nowhere")
            });
        }
        if let Some((call, phone)) = self.owed.pop() {
            self.breaks(Invariant::WokenGetsCall, || {
                format!("phone {phone} registered, and did not get {call}")
            });
        }
        self.look_at_legs(now);
        self.look_at_requests(now);
        if std::mem::take(&mut self.is_binding_step) {
            self.look_at_bindings(world);
        }
        self.look_for_leftovers(world);
    }

    fn look_at_legs(&mut self, now: Instant) {
        let orphan = self.record.legs.iter().find(|leg| {
            let is_ringing = !leg.is_over && leg.cancelled.is_none() && leg.rung.is_some();
            is_ringing
                && self.record.request_of(leg).is_some_and(|request| {
                    request.answered.is_some() || request.cancelled.is_some() || request.is_declined
                })
        });
        let timer_c = self.record.settings.timing.timer_c;
        let rings =
            |leg: &Leg| leg.rung.is_some() && leg.cancelled.is_none() && leg.is_live(now, timer_c);
        let twice = self.record.legs.iter().enumerate().find(|(at, leg)| {
            let mut others = self.record.legs.iter().skip(at + 1);
            leg.party < PBX
                && rings(leg)
                && others.any(|other| {
                    other.request == leg.request && other.party == leg.party && rings(other)
                })
        });
        if let Some((_, leg)) = twice {
            let what = format!("phone {} rings twice for {}", leg.party, leg.request);
            self.breaks(Invariant::OneRing, || what);
            return;
        }
        if let Some(leg) = orphan {
            let what = format!("{} rings on, though its call is over", leg.branch);
            self.breaks(Invariant::NoOrphan, || what);
        }
    }

    pub fn look_at_requests(&mut self, now: Instant) {
        let record = &self.record;
        let late = record.requests.iter().find(|request| {
            let deadline = match request.method {
                "INVITE" => deadline(record, request),
                // A CANCEL that names nobody is answered by whose it is, and by nobody else.
                "CANCEL" => None,
                _ => Some(request.at + LONGEST),
            };
            request.is_owed() && deadline.is_some_and(|deadline| now > deadline)
        });
        if let Some(request) = late {
            let is_held = request.agent.is_some();
            let what = format!(
                "{} {} of {} waits",
                request.method, request.branch, request.party
            );
            let invariant = if is_held {
                Invariant::HeldEnds
            } else {
                Invariant::OneFinal
            };
            self.breaks(invariant, || what);
        }
    }

    fn look_at_bindings(&mut self, world: &World) {
        let lost = self.record.holds.iter().find(|hold| {
            if !hold.is_acknowledged || world.now + SLACK >= hold.until {
                return false;
            }
            let user = format!("100{}", hold.agent);
            let aor = AorId::of(user.as_bytes(), b"pbx.example.com");
            let is_known = world.agent(aor).is_some_and(|agent| {
                let mut bindings = agent.bindings.iter();
                bindings.any(|binding| binding.is_instance(&hold.instance))
            });
            let is_stored = world.stored.iter().any(|stored| {
                *stored.user == *user && stored.instance.as_deref() == Some(&*hold.instance)
            });
            !is_known || !is_stored
        });
        if let Some(hold) = lost {
            let what = format!("phone {} of agent {} is forgotten", hold.phone, hold.agent);
            self.breaks(Invariant::BindingKept, || what);
        }
    }

    fn look_for_leftovers(&mut self, world: &World) {
        let now = world.now;
        let idle = now.saturating_duration_since(self.record.active);
        let kept_for = self.record.settings.wake.message_hold + WHOLE * 2;
        let may_be_kept = |request: &Request| {
            matches!(request.method, "MESSAGE" | "NOTIFY") && now < request.at + kept_for
        };
        if idle <= WHOLE + SLACK || self.record.requests.iter().any(may_be_kept) {
            return;
        }
        let timer_c = self.record.settings.timing.timer_c;
        let mut legs = self.record.legs.iter();
        if legs.any(|leg| leg.is_live(now, timer_c + SLACK)) {
            return;
        }
        let left: Vec<_> = world
            .timers()
            .filter(|(_, timer)| !is_lasting(timer))
            .collect();
        let entries = world.in_flight();
        if !left.is_empty() || entries != [0; 6] {
            let timers: Vec<_> = left.into_iter().map(|(_, timer)| timer).collect();
            self.breaks(Invariant::NothingLeft, || format!("{entries:?} {timers:?}"));
        }
    }

    /// Everything is over: what is still owed?
    pub fn end(&mut self) {
        let unanswered = self
            .record
            .requests
            .iter()
            .find(|request| request.is_owed() && request.method != "CANCEL");
        if let Some(request) = unanswered {
            let what = format!(
                "{} {} got no final response",
                request.method, request.branch
            );
            self.breaks(Invariant::OneFinal, || what);
        }
    }
}

/// Whether a timer may stay when nothing is in flight.
pub const fn is_lasting(timer: &Timer) -> bool {
    matches!(timer, Timer::Binding(_) | Timer::Resolve(_))
}

/// When a call must have ended, as things are.
fn deadline(record: &Record, request: &Request) -> Option<Instant> {
    let timing = &record.settings.timing;
    let wake = &record.settings.wake;
    let legs = record
        .legs
        .iter()
        .filter(|leg| leg.request == request.branch);
    let is_closing = !request.is_open();
    let live = legs.filter_map(|leg| {
        // The gateway need not hear of the end of a flow that the phone has left.
        let is_left = is_closing && leg.is_cut;
        let until = leg.cancelled.unwrap_or(leg.at) + WHOLE;
        leg.lives_until(timing.timer_c)
            .or_else(|| is_left.then_some(until))
    });
    let live = live.max();
    let held = wake.probe + wake.grace + wake.timeout;
    // Phones of a lower q get their turn after the others.
    let whole_wait =
        request.active.max(live.unwrap_or(request.active)) + held * record.groups + SLACK;
    if request.agent.is_none() {
        // Toward Asterisk, or in a dialog: each node has its time.
        let nodes = u32::try_from(record.settings.upstreams[0].nodes.len()).unwrap();
        let own = request.active + WHOLE * (nodes + 1) + SLACK;
        return Some(live.map_or(own, |live| (live + WHOLE * 2).max(own)));
    }
    let ended = request.is_declined.then_some(request.active);
    match (request.cancelled.or(ended), live) {
        (Some(at), None) => Some(at),
        (Some(at), Some(live)) => Some(live.min(at + WHOLE + SLACK).max(at)),
        (None, _) => Some(whole_wait),
    }
}
