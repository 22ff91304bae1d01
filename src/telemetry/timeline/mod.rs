//! Timelines: what happened to each of the last calls, and to each device lately.
//!
//! One recorder per shard, written by that shard as it hands out events and read when an operator
//! asks. Writing must cost next to nothing beside the call itself: entries are small, kept in rings
//! whose memory is used again, and put into words only when somebody reads them.
//! Invariants: no more calls, bytes and notes than [`Keep`] says, the oldest go first; a call found
//! by its number is in the ring; tokens are never kept.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ahash::RandomState;
use smallvec::SmallVec;

use crate::io::admin::view::{CallBrief, CallQuery, CallStory, DeviceNote, LastPush, Live};
use crate::proto::event::{CallNumber, Step};
use crate::proto::{BindingKey, ClockAnchor, Event};

mod call;
mod device;
mod step;

use call::Call;
pub use device::restored;
use device::{Happened, Note};
use step::What;
pub use step::{device_id, device_key};

/// Of this process alone: nobody outside can make Call-IDs that meet.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// A call whose end nobody saw is told as it is after that long, with the next call that comes.
const LONGEST_TALK: Duration = Duration::from_secs(4 * 3600);

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Calls.
    pub calls: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Notes about devices.
    pub notes: usize,
}

/// What one shard remembers.
#[derive(Debug)]
pub struct Recorder {
    shard: u16,
    keep: Keep,
    anchor: ClockAnchor,
    calls: VecDeque<Call>,
    /// How many calls have gone out of the ring: the place of its first one, counted from the start.
    gone: u64,
    bytes: usize,
    by_number: HashMap<CallNumber, u64, RandomState>,
    /// The calls that were answered and whose end has not been seen, by the hash of their Call-ID:
    /// their places.
    talking: HashMap<u64, u64, RandomState>,
    /// The calls that a push without a verdict is for.
    pushed: HashMap<BindingKey, SmallVec<[u64; 1]>, RandomState>,
    notes: VecDeque<Note>,
    /// Whether a note has gone out of the ring.
    has_forgotten: bool,
    last_id: u64,
    /// Whether somebody follows.
    is_followed: bool,
    live: Vec<Live>,
    /// Whether somebody takes the calls that are over.
    is_collected: bool,
    ended: Vec<CallStory>,
    /// Up to which place every call has been told, or had its time to end.
    seen: u64,
}

impl Recorder {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new(shard: u16, keep: Keep, anchor: ClockAnchor) -> Self {
        Self {
            shard,
            keep,
            anchor,
            calls: VecDeque::with_capacity(keep.calls.min(1024)),
            gone: 0,
            bytes: 0,
            by_number: HashMap::default(),
            talking: HashMap::default(),
            pushed: HashMap::default(),
            notes: VecDeque::with_capacity(keep.notes.min(1024)),
            has_forgotten: false,
            last_id: 0,
            is_followed: false,
            live: Vec::new(),
            is_collected: false,
            ended: Vec::new(),
            seen: 0,
        }
    }

    /// Says whether anybody follows: only then [`Self::take_live`] has something to give.
    pub const fn follow(&mut self, is_followed: bool) {
        self.is_followed = is_followed;
    }

    /// What has happened since it was last asked, for those who follow.
    pub fn take_live(&mut self) -> std::vec::Drain<'_, Live> {
        self.live.drain(..)
    }

    /// Says whether somebody takes the calls that are over: only then [`Self::take_ended`] has any.
    pub const fn collect(&mut self, is_collected: bool) {
        self.is_collected = is_collected;
    }

    /// The calls that are over, each once: it was not answered, somebody has hung up, or its end
    /// is waited for no longer.
    pub fn take_ended(&mut self) -> std::vec::Drain<'_, CallStory> {
        self.ended.drain(..)
    }

    /// The calls that go on, as they are: before the process ends.
    pub fn take_talking(&mut self) -> Vec<CallStory> {
        let places = self.gone..self.gone + self.calls.len() as u64;
        for at in places {
            self.tell_talking(at);
        }
        std::mem::take(&mut self.ended)
    }

    /// Remembers an event.
    pub fn record(&mut self, now: Instant, event: &Event) {
        if self.keep.calls > 0 {
            self.record_call(now, event);
        }
        if self.keep.notes > 0
            && let Some((key, aor, happened)) = Happened::of(event)
        {
            self.note(now, key, aor, happened);
        }
    }

    /// The calls asked for, the latest first.
    #[must_use]
    pub fn calls(&self, query: &CallQuery, before: u64, limit: usize) -> Vec<CallBrief> {
        let (agent, number) = (query.agent.as_deref(), query.number.as_deref());
        self.calls
            .iter()
            .rev()
            .filter(|call| call.id < before && call.matches(agent, number))
            .filter(|call| {
                query
                    .outcome
                    .is_none_or(|outcome| outcome == call.outcome())
            })
            .take(limit)
            .map(Call::brief)
            .collect()
    }

    /// A call with its steps.
    #[must_use]
    pub fn call(&self, id: u64) -> Option<CallStory> {
        let call = self.calls.iter().rev().find(|call| call.id == id)?;
        Some(call.story())
    }

    /// What happened to a device lately, oldest first.
    #[must_use]
    pub fn notes_of(&self, key: BindingKey, limit: usize) -> Vec<DeviceNote> {
        let notes = self.notes.iter().rev().filter(|note| note.key == key);
        let mut notes: Vec<DeviceNote> = notes.take(limit).map(Note::view).collect();
        notes.reverse();
        notes
    }

    /// Whether every note since the process began is still there.
    #[must_use]
    pub const fn has_all_notes(&self) -> bool {
        !self.has_forgotten && self.keep.notes > 0
    }

    /// The verdicts on the last push of each of these devices, as far as they are remembered.
    #[must_use]
    pub fn last_pushes(&self, keys: &[BindingKey]) -> Vec<Option<LastPush>> {
        let mut found = vec![None; keys.len()];
        let mut missing = keys.len();
        for note in self.notes.iter().rev() {
            if missing == 0 {
                break;
            }
            let Some(place) = keys.iter().position(|key| *key == note.key) else {
                continue;
            };
            if let Some(slot @ None) = found.get_mut(place)
                && let Some(push) = note.push()
            {
                *slot = Some(push);
                missing -= 1;
            }
        }
        found
    }

    #[expect(clippy::too_many_lines, reason = "one arm per event, nothing else")]
    fn record_call(&mut self, now: Instant, event: &Event) {
        match event {
            Event::CallReceived {
                call,
                caller,
                call_id,
                aor,
                devices,
                asleep,
            } => {
                let counts = (count(*devices), count(*asleep));
                self.begin(now, *call, (call_id, aor, caller), counts);
            }
            Event::CallRefused {
                call_id,
                user,
                caller,
                reject,
            } => self.refused(now, (call_id, user, caller), *reject),
            Event::WakeStarted { call, key, pns, .. } => {
                if let Some(at) = self.step(now, *call, Some(*key), What::Pushed(*pns)) {
                    self.pushed.insert(*key, SmallVec::from_slice(&[at]));
                }
            }
            Event::PushAccepted {
                key,
                pns,
                notice: "call",
                after,
                provider_id,
            } => self.verdict(now, *key, || What::Accepted {
                pns: *pns,
                after: *after,
                id: provider_id.clone(),
            }),
            Event::PushFailed {
                key,
                pns,
                notice: "call",
                error,
            } => self.verdict(now, *key, || What::PushFailed {
                pns: *pns,
                error: Box::new(error.clone()),
            }),
            Event::Woken {
                call,
                key,
                after,
                flow,
                ..
            } => {
                let from = flow.map(|flow| (flow.remote, flow.transport));
                let after = *after;
                self.step(now, *call, Some(*key), What::Woken { after, from });
            }
            Event::WakeTimedOut {
                call, key, after, ..
            } => {
                self.step(now, *call, Some(*key), What::TimedOut(*after));
            }
            Event::CallForwarded { call, key, .. } => {
                self.step(now, *call, Some(*key), What::Forwarded);
            }
            Event::CallStep { call, key, step } => self.call_step(now, *call, *key, *step),
            Event::CallCancelled { call, is_elsewhere } => {
                self.step(now, *call, None, What::Cancelled(*is_elsewhere));
            }
            Event::CallEnded { call_id, is_phone } => self.hung_up(now, call_id, *is_phone),
            Event::CallAnswered { call, status, .. } => self.answered(now, *call, *status),
            Event::Registered { .. }
            | Event::Shortened { .. }
            | Event::ChangedHands { .. }
            | Event::Unregistered { .. }
            | Event::Expired { .. }
            | Event::Refreshed { .. }
            | Event::RefreshFailed { .. }
            | Event::Asleep { .. }
            | Event::NoPush { .. }
            | Event::PushAccepted { .. }
            | Event::PushFailed { .. }
            | Event::Kept { .. }
            | Event::KeptEnded(_)
            | Event::Rejected { .. }
            | Event::Dropped { .. }
            | Event::Oversize { .. }
            | Event::StoreFailed
            | Event::NodeResolved { .. }
            | Event::Offence { .. } => {}
        }
    }

    fn call_step(&mut self, now: Instant, call: CallNumber, key: BindingKey, step: Step) {
        let what = match step {
            Step::Asked => What::Asked,
            Step::Waits(why) => What::Waits(why),
            Step::Joined => What::Joined,
            Step::Limited(after) => What::Limited(after),
            Step::Ringing(status) => What::Ringing(status),
            Step::Answered(status) => What::Answered(status),
            Step::Failed(reject) => What::Failed(reject),
            Step::CameLate => What::CameLate,
        };
        let at = self.step(now, call, Some(key), what);
        if let (Step::Joined, Some(at)) = (step, at)
            && let Some(calls) = self.pushed.get_mut(&key)
        {
            calls.push(at);
        }
    }

    /// A call begins.
    fn begin(
        &mut self,
        now: Instant,
        number: CallNumber,
        (call_id, agent, caller): (&str, &str, &[u8]),
        (devices, asleep): (u32, u32),
    ) {
        self.tell_longest(now);
        let mut call = self.room(now);
        call.clear();
        call.number = number;
        call.began = now;
        call.began_ms = self.unix_ms(now);
        call.id = self.next_id(call.began_ms);
        (call.count, call.asleep) = (devices, asleep);
        call.name(call_id, agent, caller);
        call.step(now, None, What::Received);
        self.bytes += call.bytes();
        self.calls.push_back(call);
        let at = self.gone + self.calls.len() as u64 - 1;
        self.by_number.insert(number, at);
        self.tell(at);
    }

    /// An entry to write into: the oldest one's, when as many are kept as may be.
    fn room(&mut self, now: Instant) -> Call {
        let mut spare = None;
        while self.calls.len() >= self.keep.calls
            || (self.bytes > self.keep.bytes && !self.calls.is_empty())
        {
            self.tell_talking(self.gone);
            // What goes for want of memory gives its memory back.
            let is_for_bytes = self.bytes > self.keep.bytes;
            let Some(old) = self.calls.pop_front() else {
                break;
            };
            if self.by_number.get(&old.number) == Some(&self.gone) {
                self.by_number.remove(&old.number);
            }
            if old.is_talking() {
                self.stop_talking(&old.call_id, self.gone);
            }
            self.gone += 1;
            self.bytes = self.bytes.saturating_sub(old.bytes());
            spare = (!is_for_bytes).then_some(old);
        }
        spare.unwrap_or_else(|| Call::new(now))
    }

    fn refused(
        &mut self,
        now: Instant,
        names: (&str, &str, &[u8]),
        reject: crate::proto::reject::Reject,
    ) {
        // No context has this number.
        let number = CallNumber(u64::MAX);
        self.begin(now, number, names, (0, 0));
        if let Some(call) = self.calls.back_mut() {
            call.end = Some((reject.status().0, 0));
        }
        self.step(now, number, None, What::Refused(reject));
        if let Some(at) = self.by_number.remove(&number) {
            self.tell_ended(at);
        }
    }

    fn answered(&mut self, now: Instant, call: CallNumber, status: u16) {
        let Some(at) = self.by_number.get(&call).copied() else {
            return;
        };
        if let Some(entry) = self.at_mut(at) {
            entry.end = Some((status, entry.ms_at(now)));
            if entry.is_talking() {
                let name = hash_of(&entry.call_id);
                self.talking.insert(name, at);
            }
        }
        self.step(now, call, None, What::Ended(status));
        if status >= 300 {
            self.tell_ended(at);
        }
    }

    /// One side of a call hung up; most of these calls are not ours to tell.
    fn hung_up(&mut self, now: Instant, call_id: &str, is_phone: bool) {
        let call_id = call::cut(call_id);
        let Some(at) = self.talking.get(&hash_of(call_id)).copied() else {
            return;
        };
        let Some(call) = self.at_mut(at).filter(|call| call.call_id == call_id) else {
            return;
        };
        call.over = Some(call.ms_at(now));
        let key = call.taker();
        self.talking.remove(&hash_of(call_id));
        self.step_at(now, at, key, What::HungUp(is_phone));
        self.tell_ended(at);
    }

    /// A call is over: whoever takes them gets it, once.
    fn tell_ended(&mut self, at: u64) {
        if !self.is_collected {
            return;
        }
        let Some(call) = self.at_mut(at) else {
            return;
        };
        if !std::mem::replace(&mut call.is_told, true) {
            let story = call.story();
            self.ended.push(story);
        }
    }

    /// The same for a call that was answered and goes on, if it does.
    fn tell_talking(&mut self, at: u64) {
        if self.at(at).is_some_and(Call::is_talking) {
            self.tell_ended(at);
        }
    }

    /// Tells those whose end is not waited for any longer; each place is looked at once.
    fn tell_longest(&mut self, now: Instant) {
        if !self.is_collected {
            return;
        }
        self.seen = self.seen.max(self.gone);
        let is_old = |call: &Call| now.saturating_duration_since(call.began) >= LONGEST_TALK;
        while self.at(self.seen).is_some_and(is_old) {
            self.tell_talking(self.seen);
            self.seen += 1;
        }
    }

    /// A call that goes out of the ring is not waited for; another may have taken its name.
    fn stop_talking(&mut self, call_id: &str, at: u64) {
        let name = hash_of(call_id);
        if self.talking.get(&name) == Some(&at) {
            self.talking.remove(&name);
        }
    }

    /// A push service has said something about a push that calls wait for.
    fn verdict(&mut self, now: Instant, key: BindingKey, what: impl Fn() -> What) {
        for at in self.pushed.remove(&key).unwrap_or_default() {
            self.step_at(now, at, Some(key), what());
        }
    }

    fn step(
        &mut self,
        now: Instant,
        call: CallNumber,
        key: Option<BindingKey>,
        what: What,
    ) -> Option<u64> {
        let at = *self.by_number.get(&call)?;
        self.step_at(now, at, key, what);
        Some(at)
    }

    fn step_at(&mut self, now: Instant, at: u64, key: Option<BindingKey>, what: What) {
        let Some(call) = self.at_mut(at) else {
            return;
        };
        let before = call.steps.capacity();
        call.step(now, key, what);
        if call.steps.capacity() != before {
            let grown = call.steps.capacity() - before;
            self.bytes += grown * call::STEP;
        }
        self.tell(at);
    }

    fn note(&mut self, now: Instant, key: BindingKey, aor: Option<&str>, happened: Happened) {
        while self.notes.len() >= self.keep.notes {
            self.notes.pop_front();
            self.has_forgotten = true;
        }
        let at_ms = self.unix_ms(now);
        let note = Note {
            at_ms,
            key,
            happened,
        };
        if self.is_followed {
            self.live.push(Live::Device {
                device: device_id(key),
                agent: aor.map(str::to_owned),
                note: note.view(),
            });
        }
        self.notes.push_back(note);
    }

    /// Tells those who follow of a call's last step.
    fn tell(&mut self, at: u64) {
        if !self.is_followed {
            return;
        }
        if let Some(call) = self.at(at)
            && let Some(step) = call.steps.last()
        {
            let step = Box::new(step.view(&call.devices));
            let call = Box::new(call.brief());
            self.live.push(Live::Call { call, step });
        }
    }

    fn at(&self, at: u64) -> Option<&Call> {
        let place = usize::try_from(at.checked_sub(self.gone)?).ok()?;
        self.calls.get(place)
    }

    fn at_mut(&mut self, at: u64) -> Option<&mut Call> {
        let place = usize::try_from(at.checked_sub(self.gone)?).ok()?;
        self.calls.get_mut(place)
    }

    fn unix_ms(&self, now: Instant) -> u64 {
        let after = now.saturating_duration_since(self.anchor.instant);
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.anchor.unix_ms.saturating_add(after)
    }

    /// A name that is greater than all before it, and no other shard's: the time, the shard, and a
    /// number among those of one millisecond.
    fn next_id(&mut self, unix_ms: u64) -> u64 {
        let shard = u64::from(self.shard & 0xff) << 8;
        let id = unix_ms << 16 | shard;
        let after_last = self.last_id + 1;
        self.last_id = if id >= after_last {
            id
        } else if after_last & 0xff == 0 {
            // More than 256 in one millisecond: from the next one's.
            ((self.last_id >> 16) + 1) << 16 | shard
        } else {
            after_last
        };
        self.last_id
    }
}

/// What a call that goes on is found by.
fn hash_of(call_id: &str) -> u64 {
    KEYS.hash_one(call_id)
}

fn count(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
