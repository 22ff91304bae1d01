//! A call as it is kept, and what is said of it.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::step::{Kept, What, answer, hung_up_by, lasting, named, refusal, seconds};
use crate::io::admin::view::{CallBrief, CallStory, Outcome};
use crate::proto::BindingKey;
use crate::proto::event::CallNumber;
use crate::proto::reject::Reject;

/// More steps than any sane call takes; beyond it they are only counted.
const MOST_STEPS: usize = 96;
/// Longer names than that are cut.
const LONGEST_NAME: usize = 256;
/// What a step's own text may add.
pub(super) const STEP: usize = size_of::<Kept>() + 48;

/// One call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) number: CallNumber,
    pub(super) began: Instant,
    pub(super) began_ms: u64,
    pub(super) call_id: String,
    pub(super) agent: String,
    pub(super) caller: String,
    pub(super) count: u32,
    pub(super) asleep: u32,
    pub(super) devices: SmallVec<[BindingKey; 2]>,
    pub(super) steps: Vec<Kept>,
    pub(super) omitted: u32,
    /// Its final answer, and when.
    pub(super) end: Option<(u16, u32)>,
    /// When one side hung up.
    pub(super) over: Option<u32>,
    /// Whether those have it who take the calls that are over.
    pub(super) is_told: bool,
}

/// What the place of a call that goes on takes beside it.
const PLACE: usize = 24;

impl Call {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            id: 0,
            number: CallNumber(0),
            began: now,
            began_ms: 0,
            call_id: String::new(),
            agent: String::new(),
            caller: String::new(),
            count: 0,
            asleep: 0,
            devices: SmallVec::new(),
            steps: Vec::new(),
            omitted: 0,
            end: None,
            over: None,
            is_told: false,
        }
    }

    /// Forgets all but the memory it took.
    pub(super) fn clear(&mut self) {
        self.call_id.clear();
        self.agent.clear();
        self.caller.clear();
        self.devices.clear();
        self.steps.clear();
        self.omitted = 0;
        self.end = None;
        self.over = None;
        self.is_told = false;
    }

    /// Whether it was answered, and nobody has hung up yet as far as we know.
    pub(super) fn is_talking(&self) -> bool {
        self.over.is_none() && self.end.is_some_and(|(status, _)| status < 300)
    }

    /// The device that took it.
    pub(super) fn taker(&self) -> Option<BindingKey> {
        let took = |step: &&Kept| matches!(step.what, What::Answered(200..=299));
        let device = self.steps.iter().rev().find(took)?.device?;
        self.devices.get(usize::from(device)).copied()
    }

    pub(super) fn name(&mut self, call_id: &str, agent: &str, caller: &[u8]) {
        self.call_id.push_str(cut(call_id));
        self.agent.push_str(cut(agent));
        let caller = caller.get(..LONGEST_NAME).unwrap_or(caller);
        match std::str::from_utf8(caller) {
            Ok(caller) => self.caller.push_str(caller),
            Err(_) => self.caller.push_str(&String::from_utf8_lossy(caller)),
        }
    }

    /// Adds a step.
    pub(super) fn step(&mut self, now: Instant, key: Option<BindingKey>, what: What) {
        if self.steps.len() >= MOST_STEPS {
            self.omitted = self.omitted.saturating_add(1);
            return;
        }
        let device = key.and_then(|key| {
            let known = self.devices.iter().position(|other| *other == key);
            let at = known.unwrap_or_else(|| {
                self.devices.push(key);
                self.devices.len() - 1
            });
            u8::try_from(at).ok() // a device beyond the 256th has no name here
        });
        let at_ms = self.ms_at(now);
        self.steps.push(Kept {
            at_ms,
            device,
            what,
        });
    }

    pub(super) fn ms_at(&self, now: Instant) -> u32 {
        let after = now.saturating_duration_since(self.began);
        u32::try_from(after.as_millis()).unwrap_or(u32::MAX)
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + PLACE
            + self.call_id.capacity()
            + self.agent.capacity()
            + self.caller.capacity()
            + self.steps.capacity() * STEP
    }

    /// Whether it is one of those asked for.
    pub(super) fn matches(&self, agent: Option<&str>, number: Option<&str>) -> bool {
        agent.is_none_or(|agent| self.agent.contains(agent))
            && number
                .is_none_or(|number| self.caller.contains(number) || self.agent.contains(number))
    }

    /// The steps up to its final answer: what comes late changes nothing any more.
    fn course(&self) -> &[Kept] {
        let end = self
            .steps
            .iter()
            .position(|step| matches!(step.what, What::Ended(_)));
        end.and_then(|end| self.steps.get(..end))
            .unwrap_or(&self.steps)
    }

    fn refusal(&self) -> Option<Reject> {
        self.steps.iter().take(2).find_map(|step| {
            let What::Refused(reject) = step.what else {
                return None;
            };
            Some(reject)
        })
    }

    /// What became of it.
    pub(super) fn outcome(&self) -> Outcome {
        if self.refusal().is_some() {
            return Outcome::Refused;
        }
        let Some((status, _)) = self.end else {
            return Outcome::UnderWay;
        };
        let any = |is: fn(&What) -> bool| self.course().iter().any(|step| is(&step.what));
        if (200..300).contains(&status) {
            Outcome::Answered
        } else if any(|what| matches!(what, What::Cancelled(true))) {
            Outcome::AnsweredElsewhere
        } else if any(|what| matches!(what, What::Cancelled(false))) {
            Outcome::Cancelled
        } else if any(|what| matches!(what, What::Answered(300..))) {
            Outcome::Declined
        } else if any(|what| matches!(what, What::Ringing(_))) {
            Outcome::Unanswered
        } else {
            Outcome::Unreachable
        }
    }

    pub(super) fn brief(&self) -> CallBrief {
        CallBrief {
            id: format!("{:016x}", self.id),
            call_id: self.call_id.clone(),
            agent: self.agent.clone(),
            caller: self.caller.clone(),
            began_ms: self.began_ms,
            outcome: self.outcome(),
            status: self.end.map(|(status, _)| status),
            after_ms: self.end.map(|(_, after)| u64::from(after)),
            lasted_ms: self.talked().map(ms),
            wake_ms: self.wake().map(|(_, after)| ms(after)),
            devices: self.count,
            asleep: self.asleep,
            summary: self.summary(),
        }
    }

    pub(super) fn story(&self) -> CallStory {
        CallStory {
            call: self.brief(),
            steps: self
                .steps
                .iter()
                .map(|step| step.view(&self.devices))
                .collect(),
            omitted: self.omitted,
        }
    }

    fn wake(&self) -> Option<(Option<u8>, Duration)> {
        self.steps.iter().find_map(|step| {
            let What::Woken { after, .. } = step.what else {
                return None;
            };
            Some((step.device, after))
        })
    }

    /// What became of it and why, in one sentence.
    fn summary(&self) -> String {
        match self.outcome() {
            Outcome::UnderWay => self.standing(),
            Outcome::Answered => self.answered(),
            Outcome::AnsweredElsewhere => {
                format!(
                    "somebody else answered after {}, {}",
                    self.lasted(),
                    self.meanwhile()
                )
            }
            Outcome::Cancelled => {
                format!(
                    "the caller hung up after {}, {}",
                    self.lasted(),
                    self.meanwhile()
                )
            }
            Outcome::Declined => self.declined(),
            Outcome::Unanswered => format!("nobody answered within {}", self.lasted()),
            Outcome::Unreachable => self.unreachable(),
            Outcome::Refused => self.refusal().map_or_else(String::new, refusal),
        }
    }

    fn lasted(&self) -> String {
        let after = self.end.map_or(0, |(_, after)| after);
        seconds(Duration::from_millis(u64::from(after)))
    }

    fn device(&self, at: Option<u8>) -> String {
        at.and_then(|at| self.devices.get(usize::from(at)))
            .map_or_else(|| "a device".to_owned(), |key| named(*key))
    }

    fn answered(&self) -> String {
        let by = self.taker().map_or_else(|| "a device".to_owned(), named);
        let mut told = format!("{by} answered after {}", self.lasted());
        if let Some((_, after)) = self.wake() {
            told.push_str(&format!("; it was woken in {}", seconds(after)));
        }
        let end = self.steps.iter().rev().find_map(|step| {
            let What::HungUp(is_phone) = step.what else {
                return None;
            };
            Some(is_phone)
        });
        if let (Some(talked), Some(is_phone)) = (self.talked(), end) {
            let by = hung_up_by(is_phone);
            told.push_str(&format!("; ended after {} by {by}", lasting(talked)));
        }
        told
    }

    /// How long it lasted, from its answer to its end.
    fn talked(&self) -> Option<Duration> {
        let (_, answered) = self.end?;
        let over = self.over?.saturating_sub(answered);
        Some(Duration::from_millis(u64::from(over)))
    }

    fn declined(&self) -> String {
        let last = self.course().iter().rev().find_map(|step| {
            let What::Answered(status @ 300..) = step.what else {
                return None;
            };
            Some((step.device, status))
        });
        let (device, status) = last.unwrap_or((None, 0));
        format!(
            "{} answered {} after {}",
            self.device(device),
            answer(status),
            self.lasted()
        )
    }

    fn unreachable(&self) -> String {
        let mut reasons: Vec<String> = Vec::new();
        for (at, key) in self.devices.iter().enumerate() {
            let own = |step: &&Kept| step.device.map(usize::from) == Some(at);
            let steps: SmallVec<[&Kept; 16]> = self.course().iter().filter(own).collect();
            reasons.extend(why_not(&named(*key), &steps));
        }
        if reasons.is_empty() {
            return "no device could be reached".to_owned();
        }
        reasons.join("; ")
    }

    fn standing(&self) -> String {
        match self
            .steps
            .last()
            .map(|step| (&step.what, self.device(step.device)))
        {
            Some((What::Ringing(_), device)) => format!("{device} rings"),
            Some((What::Forwarded, device)) => format!("the INVITE is out to {device}"),
            Some((What::Received, _)) | None => "under way".to_owned(),
            Some((What::Accepted { pns, after, .. }, device)) => format!(
                "{device} is being woken: {} took the push after {}",
                pns.label(),
                seconds(*after)
            ),
            Some((what, device)) => what.text(&device),
        }
    }

    fn meanwhile(&self) -> &'static str {
        let any = |is: fn(&What) -> bool| self.course().iter().any(|step| is(&step.what));
        if any(|what| matches!(what, What::Ringing(_))) {
            "while a device rang"
        } else if any(|what| matches!(what, What::Forwarded)) {
            "before any device rang"
        } else {
            "while its devices were being woken"
        }
    }
}

/// Why a device was not reached: its last push's verdict, and what came of it.
fn why_not(device: &str, steps: &[&Kept]) -> Option<String> {
    let find = |is: fn(&What) -> bool| steps.iter().rev().find(|step| is(&step.what));
    let failed = find(|what| matches!(what, What::PushFailed { .. }));
    let accepted = find(|what| matches!(what, What::Accepted { .. }));
    let end = find(|what| matches!(what, What::TimedOut(_) | What::Failed(_)))?;
    Some(match (&end.what, failed.map(|step| &step.what), accepted) {
        (What::TimedOut(_) | What::Failed(Reject::PushFailed), Some(failed), None) => {
            format!("{device} could not be woken: {}", failed.text(device))
        }
        (What::TimedOut(after), _, Some(_)) => format!(
            "{device} was pushed, the push service took the push, but the app did not register within {}",
            seconds(*after)
        ),
        (what, _, _) => what.text(device),
    })
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The text, cut where a character ends.
pub(super) fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
