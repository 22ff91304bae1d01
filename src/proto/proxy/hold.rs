//! Requests other than a call for a device that sleeps (RFC 8599 §5.6.2, RFC 4320).
//!
//! A MESSAGE and a NOTIFY are *kept*: their sender is told at once that they were taken (202, 200),
//! and each device gets its copy when it has registered, oldest first, the next when the one before
//! has its answer. Of the NOTIFYs of one event package, or of one subscription, only the newest is
//! kept. A MESSAGE wakes the device by an alert push; a NOTIFY never does. Anything else waits only
//! as long as its sender's transaction does.
//!
//! What is kept is in memory alone: a restart loses it.
//! Invariant: what `Shelf` counts is the sum of the contexts whose `kept` is not zero.

use std::collections::HashMap;
use std::hash::Hasher;
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::proto::effects::Effects;
use crate::proto::event::{Kept, KeptEnd, KeptOutcome};
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::response_context::{Branch, BranchState, Hold, Phase, ResponseContext};
use crate::proto::proxy::{Proxy, stamp};
use crate::proto::push::wake::Waiter;
use crate::proto::push::{MessageNotice, Notice, PushError};
use crate::proto::reject::Reject;
use crate::proto::settings::Limits;
use crate::proto::sip::{HeaderName, Message, Method, Reply, unquote};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{AorId, BindingKey, Destination, Event};

/// What a kept request takes beside its bytes, roughly.
const OVERHEAD: usize = 1024;
/// Longest text of a sender that a push carries, in characters.
const LONGEST_SENDER: usize = 256;
/// How often a kept request goes out in vain before it is given up.
const ATTEMPTS: u8 = 3;

/// How much is kept, and for whom.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    agents: HashMap<AorId, usize, RandomState>,
    bytes: usize,
}

impl Shelf {
    /// Takes so many bytes for an agent, if they fit.
    fn take(&mut self, aor: AorId, bytes: usize, limits: &Limits) -> bool {
        let count = self.agents.get(&aor).copied().unwrap_or(0);
        if count >= limits.messages_per_agent || self.bytes + bytes > limits.messages_bytes {
            return false;
        }
        self.agents.insert(aor, count + 1);
        self.bytes += bytes;
        true
    }

    /// Gives them back.
    pub(super) fn give_back(&mut self, aor: AorId, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(count) = self.agents.get_mut(&aor) {
            *count -= 1;
            if *count == 0 {
                self.agents.remove(&aor);
            }
        }
    }

    /// How many agents have something here.
    pub(super) fn count(&self) -> usize {
        self.agents.len()
    }
}

impl Proxy {
    /// How a request waits for a device that sleeps. Inside a dialog it wakes the device whose PURR
    /// it carries (RFC 8599 §6.2.3).
    pub(super) fn hold_of(
        &self,
        request: &Message,
        is_in_dialog: bool,
        branch: Option<&Branch>,
    ) -> Hold {
        let device = branch.and_then(Branch::device);
        let has_purr = || device.is_some() && self.purrs.device_of(request) == device;
        // What would be kept now would be lost with us.
        let keeps = !self.settings.wake.message_hold.is_zero() && !self.is_draining;
        match (request.method(), is_in_dialog) {
            (Some(Method::Invite), false) => Hold::Call,
            (Some(Method::Message), false) if keeps => Hold::Message,
            (Some(Method::Notify), _) if keeps => Hold::Notify(mark(request, is_in_dialog)),
            (Some(Method::Notify), false) => Hold::Brief { is_pushed: false },
            (_, true) => Hold::Brief {
                is_pushed: has_purr(),
            },
            (_, false) => Hold::Brief { is_pushed: true },
        }
    }

    /// For how long a request may still wait for a device.
    pub(super) fn hold_left(&self, now: Instant, context: &ResponseContext) -> Duration {
        let wake = &self.settings.wake;
        let whole = match context.hold {
            Hold::Call => {
                let left = |by: Instant| by.saturating_duration_since(now);
                return context.wake_by.map_or(wake.timeout, left).min(wake.timeout);
            }
            Hold::Message | Hold::Notify(_) => wake.message_hold,
            Hold::Brief { is_pushed: true } if context.is_invite() => wake.timeout,
            // The answer must be there before Timer F of the sender (RFC 8599 §5.6.2).
            Hold::Brief { .. } => wake.timeout.min(self.settings.timing.t1 * 20),
        };
        whole.saturating_sub(now.saturating_duration_since(context.started))
    }

    /// Waits for a device with a request that is no call, and wakes it if the request does.
    pub(super) fn wait_for(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        match context.hold {
            Hold::Message | Hold::Notify(_) => {
                if !self.keep(fx, context, index, key) {
                    self.fail_branch(fx, context, index, Reject::TooMuchKept);
                }
            }
            Hold::Brief { is_pushed } => {
                let is_first = self.wakes.waiters(key).is_empty();
                self.wakes.wait(fx, key, waiter);
                if is_pushed && is_first {
                    let lifetime = self.hold_left(fx.now, context);
                    self.notify(fx, key, Notice::Wake, lifetime);
                }
            }
            Hold::Call => {}
        }
    }

    /// The calls that wait for a device, among all that waits for it.
    pub(super) fn calls_for(&self, key: BindingKey) -> SmallVec<[Waiter; 1]> {
        let mut waiters = self.wakes.waiters(key);
        waiters.retain(|waiter| {
            let context = self.contexts.peek(waiter.context);
            context.is_some_and(|context| context.hold == Hold::Call)
        });
        waiters
    }

    /// A push that shows nothing failed: a request that had it sent waits no longer, unless the
    /// service may take the next.
    pub(super) fn on_quiet_push_failed(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        error: &PushError,
    ) {
        if let PushError::Throttled { .. } | PushError::Unavailable { .. } = error {
            return;
        }
        for waiter in self.wakes.waiters(key) {
            let context = self.contexts.peek(waiter.context);
            if context.is_some_and(|context| context.hold == Hold::Brief { is_pushed: true }) {
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    proxy.on_cannot_wake(fx, context, waiter.branch);
                });
            }
        }
    }

    /// Keeps a request for a device; returns whether there was room.
    fn keep(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) -> bool {
        if let Hold::Notify(mark) = context.hold {
            self.replace_kept(fx, context.id, key, mark);
        }
        if context.kept == 0 {
            let bytes = context.request.raw().len() + OVERHEAD;
            if !self.shelf.take(key.aor, bytes, &self.settings.limits) {
                return false;
            }
            context.kept = bytes;
            // A copy: the bytes may be a small part of what a connection once read.
            if let Ok(copy) = Message::parse(Bytes::copy_from_slice(context.request.raw())) {
                context.request = copy;
            }
        }
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return false;
        };
        if !std::mem::replace(&mut branch.is_kept, true) {
            let (call_id, kind) = (context.call_id(), kind_of(context));
            fx.event(Event::Kept { call_id, key, kind });
            self.push_message(fx, context, key);
        }
        true
    }

    /// Tells the user of a device that a message waits.
    fn push_message(&mut self, fx: &mut Effects<'_>, context: &ResponseContext, key: BindingKey) {
        if context.hold != Hold::Message {
            return;
        }
        let text = |bytes: &[u8]| -> Box<str> {
            let text = String::from_utf8_lossy(bytes);
            text.chars().take(LONGEST_SENDER).collect()
        };
        let from = context.request.from().ok();
        let display = from.as_ref().and_then(|from| from.display);
        let aor = self.location.agent(key.aor).map(|a| a.aor.to_string());
        let lifetime = self.hold_left(fx.now, context);
        let held = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let notice = MessageNotice {
            call_id: context.call_id(),
            from_uri: text(from.as_ref().map_or(&[], |from| from.uri)),
            display_name: text(&unquote(display.unwrap_or_default())),
            to: aor.unwrap_or_default().into(),
            sent_at_ms: fx.unix_ms,
            expires_at_ms: fx.unix_ms.saturating_add(held),
        };
        self.notify(fx, key, Notice::Message(notice), lifetime);
    }

    /// A newer NOTIFY has come: those of the same mark that still wait go.
    fn replace_kept(&mut self, fx: &mut Effects<'_>, newer: u64, key: BindingKey, mark: u64) {
        for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
            let older = self.contexts.peek(waiter.context);
            let is_older = older.is_some_and(|older| {
                older.id != newer
                    && older.hold == Hold::Notify(mark)
                    && branch_of(older, waiter).is_some_and(waits)
            });
            if is_older {
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    proxy.end_kept(fx, context, waiter.branch, KeptOutcome::Replaced);
                });
            }
        }
    }

    /// Tells the sender that its request was taken, if all that is left of it is kept.
    pub(super) fn answer_kept(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let is_kept = |branch: &Branch| branch.is_kept && !branch.is_final();
        let rest_is_kept = |branch: &Branch| branch.is_final() || branch.is_kept;
        if context.phase != Phase::Open
            || !context.branches.iter().any(is_kept)
            || !context.branches.iter().all(rest_is_kept)
        {
            return;
        }
        let (status, phrase) = match kind_of(context) {
            Kept::Message => (202, "Accepted"),
            Kept::Notify => (200, "OK"),
        };
        let mut reply = Reply::new(&context.request, status, phrase);
        stamp(&mut reply, &context.flow, &context.request);
        reply.to_tag(self.tags.of(&context.request));
        let reply = reply.finish();
        self.transactions.respond(fx, context.server, status, reply);
        self.answered(fx, context, status);
    }

    /// Whether something is kept for a device: what comes later waits behind it.
    pub(super) fn has_kept(&self, key: BindingKey) -> bool {
        let waiters = self.by_device.get(&key);
        let mut waiters = waiters.into_iter().flatten();
        waiters.any(|waiter| {
            let context = self.contexts.peek(waiter.context);
            context
                .and_then(|context| branch_of(context, *waiter))
                .is_some_and(|branch| branch.is_kept)
        })
    }

    /// A device did not answer for so long that it may sleep: the request is kept beside.
    pub(super) fn on_grace_of_kept(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        if let Some(calling) = calling(context, index) {
            calling.grace = None;
        }
        if context.phase == Phase::Open {
            self.keep(fx, context, index, key);
        }
    }

    /// A device did not take a request that may be kept: it waits for the device.
    pub(super) fn on_kept_lost(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        reject: Reject,
    ) {
        let left = self.hold_left(fx.now, context);
        if let Some(calling) = calling(context, index)
            && let Some(timer) = calling.grace.take()
        {
            fx.cancel(timer);
        }
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        branch.attempts += 1;
        let is_over = branch.attempts >= ATTEMPTS || left.is_zero();
        match (branch.is_kept, is_over) {
            (true, true) => self.end_kept(fx, context, index, KeptOutcome::Unanswered),
            (true, false) => self.shelve(fx, context, index, left),
            (false, _) if context.phase == Phase::Open => {
                self.shelve(fx, context, index, left);
                self.wait_for(fx, context, index, key);
            }
            (false, _) => self.fail_branch(fx, context, index, reject),
        }
    }

    fn shelve(
        &self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        left: Duration,
    ) {
        let timer = fx.arm(left, Timer::Context(context.id, ContextTimer::Wake(index)));
        set_state(context, index, BranchState::Waking { timer });
    }

    /// A device has registered, or has answered what was kept: the next goes out.
    pub(super) fn deliver_next(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        let Some(flow) = self.location.binding(key).and_then(|b| b.flow()) else {
            return;
        };
        let mut next: Option<(Instant, u64, Waiter)> = None;
        for sibling in self.location.same_device(key) {
            for waiter in self.by_device.get(&sibling).into_iter().flatten() {
                let context = self.contexts.peek(waiter.context);
                let Some(context) = context.filter(|context| context.may_be_kept()) else {
                    continue;
                };
                let Some(branch) = branch_of(context, *waiter) else {
                    continue;
                };
                if let BranchState::Calling(calling) = &branch.state
                    && calling.leg.to == Destination::Flow(flow.id)
                {
                    // One is on its way there.
                    return;
                }
                let place = (context.started, context.id, *waiter);
                if next.is_none_or(|next| (place.0, place.1) < (next.0, next.1)) {
                    next = Some(place);
                }
            }
        }
        if let Some((_, context, waiter)) = next {
            self.with_context(fx, context, |proxy, fx, context| {
                proxy.move_branch(fx, context, waiter.branch, key, flow);
            });
        }
    }

    /// A device answered a request that may be kept.
    pub(super) fn on_kept_answered(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        index: u16,
        status: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let Some(key) = branch.device() else { return };
        if branch.is_kept {
            let outcome = match status {
                200..=299 => KeptOutcome::Delivered,
                _ => KeptOutcome::Refused(status),
            };
            report_end(fx, context, key, outcome);
        }
        self.deliver_next(fx, key);
    }

    /// A request is no longer kept for a device.
    pub(super) fn end_kept(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        outcome: KeptOutcome,
    ) {
        let branch = context.branches.get(usize::from(index));
        let Some(key) = branch.and_then(Branch::device) else {
            return;
        };
        report_end(fx, context, key, outcome);
        self.finish_branch(fx, context, index);
        if outcome == KeptOutcome::Unanswered {
            self.deliver_next(fx, key);
        }
    }
}

fn report_end(
    fx: &mut Effects<'_>,
    context: &ResponseContext,
    key: BindingKey,
    outcome: KeptOutcome,
) {
    let after = fx.now.saturating_duration_since(context.started);
    fx.event(Event::KeptEnded(KeptEnd {
        call_id: context.call_id(),
        key,
        kind: kind_of(context),
        outcome,
        after,
    }));
}

fn kind_of(context: &ResponseContext) -> Kept {
    match context.hold {
        Hold::Message => Kept::Message,
        Hold::Notify(_) | Hold::Call | Hold::Brief { .. } => Kept::Notify,
    }
}

fn branch_of(context: &ResponseContext, waiter: Waiter) -> Option<&Branch> {
    context.branches.get(usize::from(waiter.branch))
}

const fn waits(branch: &Branch) -> bool {
    matches!(branch.state, BranchState::Waking { .. })
}

/// What NOTIFYs have in common of which only the newest counts: the event package, and inside a
/// dialog the subscription (RFC 6665 §4.4.1).
fn mark(request: &Message, is_in_dialog: bool) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x726f_7573_6e6f_7469, 0);
    let mut add = |part: &[u8]| {
        hasher.write(&part.to_ascii_lowercase());
        hasher.write_u8(0);
    };
    add(request.header(HeaderName::Event).unwrap_or_default());
    if is_in_dialog {
        add(request.call_id().unwrap_or_default());
        for address in [request.from(), request.to()].into_iter().flatten() {
            add(address.tag().unwrap_or_default());
        }
    }
    hasher.finish()
}
