//! Branches toward devices: is the device awake, how is it woken, when does it get the request
//! (RFC 8599 §5.3, RFC 5626 §5.3).
//!
//! A device that can be woken is never given up while its wake runs: a dead flow, a silent one or
//! a 408 only means that it has to be woken.

use std::time::Duration;

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::best_response::{Best, better};
use crate::proto::proxy::response_context::{
    BranchState, Calling, Leg, Phase, ResponseContext, Target,
};
use crate::proto::proxy::{stamp, validate};
use crate::proto::push::params::PushParams;
use crate::proto::push::wake::Waiter;
use crate::proto::push::{CallNotice, Notice, Pns, PushAccepted, PushError, PushId};
use crate::proto::reject::Reject;
use crate::proto::settings::HoldResponse;
use crate::proto::sip::{Message, Reply, unquote};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{BindingKey, Destination, Event, Flow, FlowId, Output, StoreWrite};

/// Longest text of a caller that a push carries, in characters.
const LONGEST_CALLER: usize = 256;
/// Shortest wait before a provider that failed is asked again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Proxy {
    /// Starts the branches of the highest q that have not begun (RFC 3261 §16.6: q orders groups).
    pub(super) fn start_next_group(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let idle = |state: &BranchState| matches!(state, BranchState::Idle);
        let Some(q) = context
            .branches
            .iter()
            .filter(|b| idle(&b.state))
            .map(|b| b.q)
            .max()
        else {
            return;
        };
        for at in 0..context.branches.len() {
            let Ok(index) = u16::try_from(at) else { return };
            let Some(branch) = context.branches.get(at) else {
                return;
            };
            if !idle(&branch.state) || branch.q != q {
                continue;
            }
            match branch.target.clone() {
                Target::Device(key) => self.start_device(fx, context, index, key),
                Target::Upstream { .. } => self.try_next_hop(fx, context, index),
            }
        }
    }

    /// Reaches a device the way it can be reached now.
    fn start_device(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let Some(binding) = self.location.binding(key) else {
            return self.fail_branch(fx, context, index, Reject::NoDevice);
        };
        let flow = binding.flow();
        let can_wake = binding.push.is_some() && context.is_invite() && !context.is_in_dialog;
        let is_fresh = binding.last_heard.is_some_and(|heard| {
            fx.now.saturating_duration_since(heard) <= self.settings.wake.fresh
        });
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        self.by_device.entry(key).or_default().push(waiter);
        match (flow, can_wake) {
            (Some(flow), false) => self.send(fx, context, index, Leg::over(flow)),
            (Some(flow), true) if is_fresh => {
                self.send(fx, context, index, Leg::over(flow));
                self.arm_grace(fx, context, index);
            }
            (Some(flow), true) => self.probe(fx, context, index, key, flow),
            (None, true) => self.wake(fx, context, index, key),
            (None, false) if context.is_in_dialog => self.hold(fx, context, index, key),
            (None, false) => self.fail_branch(fx, context, index, Reject::NoDevice),
        }
    }

    fn arm_grace(&self, fx: &mut Effects<'_>, context: &mut ResponseContext, index: u16) {
        let timer = Timer::Context(context.id, ContextTimer::Grace(index));
        if let Some(calling) = calling(context, index) {
            calling.grace = Some(fx.arm(self.settings.wake.grace, timer));
        }
    }

    /// Asks a flow whether it lives: CRLF on a stream (RFC 5626 §4.4.1), OPTIONS on UDP.
    fn probe(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        flow: Flow,
    ) {
        let timer = Timer::Context(context.id, ContextTimer::Probe(index));
        let timer = fx.arm(self.settings.wake.probe, timer);
        set_state(context, index, BranchState::Probing { timer });
        if flow.transport.is_reliable() {
            fx.output(Output::Ping { flow: flow.id });
            return;
        }
        let client = self.transactions.reserve(fx);
        match self.write_probe(key, flow, &client.branch(self.shard), fx.random()) {
            Some(options) => {
                let to = Destination::Flow(flow.id);
                self.transactions.start(fx, client, &options, to, false);
                self.clients.insert(
                    client,
                    Waiter {
                        context: u64::MAX,
                        branch: 0,
                    },
                );
            }
            None => self.transactions.abandon(fx, client),
        }
    }

    fn write_probe(
        &self,
        key: BindingKey,
        flow: Flow,
        branch: &str,
        random: u64,
    ) -> Option<Message> {
        let uri = self.location.binding(key)?.contact_uri();
        let uri = std::str::from_utf8(uri).ok()?;
        let via = self.via(&Leg::over(flow), branch, 0)?;
        let host = &self
            .upstreams
            .listener_settings(flow.listener)?
            .advertise_host;
        let text = format!(
            "OPTIONS {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 1\r\n\
             From: <sip:{host}>;tag={random:016x}\r\nTo: <{uri}>\r\n\
             Call-ID: {random:016x}@{host}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).ok()
    }

    /// A flow was heard: a branch that asked whether it lives sends its request.
    pub(super) fn on_pong(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        flow: FlowId,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let BranchState::Probing { timer } = branch.state else {
            return;
        };
        let Some(key) = branch.device() else { return };
        let Some(open) = self
            .location
            .binding(key)
            .and_then(|binding| binding.flow())
        else {
            return;
        };
        if open.id == flow {
            fx.cancel(timer);
            self.send(fx, context, index, Leg::over(open));
            self.arm_grace(fx, context, index);
        }
    }

    /// A flow did not answer: the device sleeps.
    pub(super) fn on_probe_silent(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        if let (BranchState::Probing { .. }, Some(key)) = (&branch.state, branch.device()) {
            self.wake(fx, context, index, key);
        }
    }

    /// An INVITE drew no 1xx: the device is woken beside it.
    pub(super) fn on_grace(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let id = context.id;
        let Some(key) = context
            .branches
            .get(usize::from(index))
            .and_then(|b| b.device())
        else {
            return;
        };
        let Some(calling) = calling(context, index) else {
            return;
        };
        calling.grace = None;
        let timer = Timer::Context(id, ContextTimer::Wake(index));
        calling.wake = Some(fx.arm(self.settings.wake.timeout, timer));
        self.push_for(fx, context, index, key);
    }

    /// Wakes a device, and waits for it.
    fn wake(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let timer = Timer::Context(context.id, ContextTimer::Wake(index));
        let timer = fx.arm(self.settings.wake.timeout, timer);
        set_state(context, index, BranchState::Waking { timer });
        self.push_for(fx, context, index, key);
        self.hold_response(fx, context);
    }

    /// Waits for a device that is in a dialog, without a push: it has lost its flow and is about
    /// to come back.
    fn hold(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        // Shorter than Timer F of the sender (RFC 8599 §5.6.2 for requests other than INVITE).
        let after = self.settings.wake.timeout.min(self.settings.timing.t1 * 20);
        let timer = fx.arm(after, Timer::Context(context.id, ContextTimer::Wake(index)));
        set_state(context, index, BranchState::Waking { timer });
        self.wakes.wait(
            fx,
            key,
            Waiter {
                context: context.id,
                branch: index,
            },
        );
    }

    fn push_for(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let Some(params) = self.location.binding(key).and_then(|b| b.push.clone()) else {
            return;
        };
        let lifetime = self.settings.wake.timeout;
        let notice = self.call_notice(fx, context, key, lifetime);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        if self.wakes.join(fx, key, waiter, &params, notice, lifetime) {
            let call_id = context.call_id();
            fx.event(Event::WakeStarted {
                call_id,
                key,
                pns: params.pns,
            });
        }
    }

    fn call_notice(
        &self,
        fx: &Effects<'_>,
        context: &ResponseContext,
        key: BindingKey,
        lifetime: Duration,
    ) -> CallNotice {
        let text = |bytes: &[u8]| -> Box<str> {
            String::from_utf8_lossy(bytes)
                .chars()
                .take(LONGEST_CALLER)
                .collect()
        };
        let from = context.request.from().ok();
        let display = from
            .as_ref()
            .and_then(|from| from.display)
            .unwrap_or_default();
        let body = context.request.body();
        let held = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let aor = self
            .location
            .agent(key.aor)
            .map(|agent| agent.aor.to_string());
        CallNotice {
            call_id: context.call_id(),
            from_uri: text(from.map_or(&[], |from| from.uri)),
            display_name: text(&unquote(display)),
            to: aor.unwrap_or_default().into(),
            video: memchr::memmem::find(body, b"m=video").is_some(),
            sent_at_ms: fx.unix_ms,
            expires_at_ms: fx.unix_ms.saturating_add(held),
        }
    }

    /// Tells the caller's side that a device is being woken, if it is configured to.
    fn hold_response(&mut self, fx: &mut Effects<'_>, context: &ResponseContext) {
        let (status, phrase) = match self.settings.wake.hold_response {
            HoldResponse::None => return,
            HoldResponse::Ringing => (180, "Ringing"),
            HoldResponse::Queued => (182, "Queued"),
        };
        let mut reply = Reply::new(&context.request, status, phrase);
        stamp(&mut reply, &context.flow, &context.request);
        reply.to_tag(&validate::local_tag(&context.request));
        let reply = reply.finish();
        self.transactions.respond(fx, context.server, status, reply);
    }

    /// A device has registered: whoever waits for it, or sits on a dead flow of it, goes on.
    pub(super) fn release(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        for sibling in self.location.same_device(key) {
            let woken = self.wakes.answered(fx.now, sibling);
            for waiter in self.by_device.get(&sibling).cloned().unwrap_or_default() {
                let after = woken
                    .as_ref()
                    .filter(|(waiters, _)| waiters.contains(&waiter))
                    .map(|(_, after)| *after);
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    if let Some(after) = after {
                        fx.event(Event::Woken {
                            call_id: context.call_id(),
                            key,
                            after,
                        });
                    }
                    proxy.redispatch(fx, context, waiter.branch, key);
                });
            }
        }
    }

    /// Sends the request on the device's newest flow, unless it is live where it was sent.
    fn redispatch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let Some(flow) = self
            .location
            .binding(key)
            .and_then(|binding| binding.flow())
        else {
            return;
        };
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let is_due = match &branch.state {
            BranchState::Probing { .. } | BranchState::Waking { .. } => true,
            BranchState::Calling(calling) => {
                !calling.is_provisional && calling.leg.to != Destination::Flow(flow.id)
            }
            BranchState::Idle | BranchState::Cancelling { .. } | BranchState::Final => false,
        };
        let old = branch.device();
        if !is_due || context.phase != Phase::Open {
            // A live INVITE stays; what waited beside it for the device need not.
            self.stop_waiting(fx, context, index);
            return;
        }
        self.stop_branch(fx, context, index);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        if let Some(branch) = context.branches.get_mut(usize::from(index))
            && old != Some(key)
        {
            branch.target = Target::Device(key);
        }
        self.by_device.entry(key).or_default().push(waiter);
        self.send(fx, context, index, Leg::over(flow));
    }

    /// The flow under a device is gone.
    pub(super) fn on_flow_gone(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        flow: FlowId,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        match &branch.state {
            BranchState::Calling(calling) if calling.leg.to == Destination::Flow(flow) => {
                let client = calling.client;
                self.clients.remove(&client);
                self.transactions.abandon(fx, client);
                self.on_device_lost(fx, context, index, Reject::NoDevice);
            }
            BranchState::Cancelling { .. } => {
                self.fail_branch(fx, context, index, Reject::Cancelled);
            }
            BranchState::Probing { timer } => {
                fx.cancel(*timer);
                self.on_device_lost(fx, context, index, Reject::NoDevice);
            }
            BranchState::Idle
            | BranchState::Waking { .. }
            | BranchState::Calling(_)
            | BranchState::Final => {}
        }
    }

    /// A device did not take its request: if it can be woken it is, else the branch ends so.
    pub(super) fn on_device_lost(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        reject: Reject,
    ) {
        let Some(key) = context
            .branches
            .get(usize::from(index))
            .and_then(|b| b.device())
        else {
            return;
        };
        let can_wake = self
            .location
            .binding(key)
            .is_some_and(|binding| binding.push.is_some());
        if context.phase != Phase::Open || !context.is_invite() {
            return self.fail_branch(fx, context, index, reject);
        }
        let pending = match calling(context, index) {
            Some(calling) => {
                for timer in [calling.timer_c.take(), calling.grace.take()]
                    .into_iter()
                    .flatten()
                {
                    fx.cancel(timer);
                }
                calling.wake.take()
            }
            None => None,
        };
        match pending {
            Some(timer) => set_state(context, index, BranchState::Waking { timer }),
            None if context.is_in_dialog => self.hold(fx, context, index, key),
            None if can_wake => self.wake(fx, context, index, key),
            None => self.fail_branch(fx, context, index, reject),
        }
    }

    /// A device was not woken in time.
    pub(super) fn on_wake_timeout(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let Some(key) = branch.device() else { return };
        match &branch.state {
            BranchState::Waking { .. } => {
                let after = fx.now.saturating_duration_since(context.started);
                fx.event(Event::WakeTimedOut {
                    call_id: context.call_id(),
                    key,
                    after,
                });
                self.fail_branch(fx, context, index, Reject::NotWoken);
            }
            // The INVITE that is out has its own end.
            BranchState::Calling(_) => self.stop_waiting(fx, context, index),
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Cancelling { .. }
            | BranchState::Final => {}
        }
    }

    /// A push service answered.
    pub(in crate::proto) fn on_pushed(
        &mut self,
        fx: &mut Effects<'_>,
        id: PushId,
        verdict: Result<PushAccepted, PushError>,
    ) {
        let Some(sent) = self.wakes.take_push(id) else {
            return;
        };
        let (pns, notice) = (sent.pns, sent.notice);
        match verdict {
            Ok(PushAccepted { provider_id }) => {
                let after = fx.now.saturating_duration_since(sent.at);
                fx.event(Event::PushAccepted {
                    pns,
                    notice,
                    after,
                    provider_id,
                });
            }
            Err(error) => {
                fx.event(Event::PushFailed {
                    pns,
                    notice,
                    error: error.clone(),
                });
                if notice == "call" {
                    self.on_push_failed(fx, sent.key, &error);
                }
            }
        }
    }

    fn on_push_failed(&mut self, fx: &mut Effects<'_>, key: BindingKey, error: &PushError) {
        let retry = match error {
            PushError::Throttled { retry_after, .. } => Some(*retry_after),
            PushError::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or(RETRY_AFTER)),
            PushError::Unregistered { since_ms, .. } => {
                let registered = self.location.binding(key).map_or(0, |b| b.registered_ms);
                // A token that was registered after it died is another device's good word.
                if since_ms.is_some_and(|since| since < registered) {
                    Some(RETRY_AFTER)
                } else {
                    self.forget_token(fx, key);
                    None
                }
            }
            PushError::WrongToken { .. }
            | PushError::BadCredentials { .. }
            | PushError::Refused { .. }
            | PushError::NotConfigured { .. } => None,
        };
        for (at, waiter) in self.wakes.waiters(key).into_iter().enumerate() {
            self.with_context(fx, waiter.context, |proxy, fx, context| match retry {
                Some(after) if at == 0 => {
                    let timer = ContextTimer::Retry(waiter.branch);
                    fx.arm(after.max(RETRY_AFTER), Timer::Context(context.id, timer));
                }
                Some(_) => {}
                None => proxy.on_cannot_wake(fx, context, waiter.branch),
            });
        }
    }

    /// A device cannot be woken: a branch that only waits for it ends.
    fn on_cannot_wake(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext, index: u16) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        if is_waiting(&branch.state) {
            self.fail_branch(fx, context, index, Reject::PushFailed);
        } else {
            self.stop_waiting(fx, context, index);
        }
    }

    /// Another push may be tried, inside the call's time.
    pub(super) fn on_retry(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let (true, Some(key)) = (is_waiting(&branch.state), branch.device()) else {
            return;
        };
        self.wakes.rearm(key);
        self.push_for(fx, context, index, key);
    }

    /// A token is dead: its device cannot be woken any more, and without a flow it is gone.
    fn forget_token(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        let Some(binding) = self.location.binding_mut(key) else {
            return;
        };
        binding.push = None;
        if binding.is_flow_open {
            if let Some(stored) = self.stored(key) {
                let write = StoreWrite::Put(Box::new(stored));
                fx.output(Output::Store {
                    ticket: None,
                    write,
                });
            }
        } else {
            self.remove_binding(fx, key);
        }
    }

    /// Tells an Android device that the call it is being woken for is over.
    pub(super) fn push_cancel(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        key: BindingKey,
    ) {
        let params: Option<Box<PushParams>> = self
            .location
            .binding(key)
            .and_then(|binding| binding.push.clone());
        let Some(params) = params.filter(|params| params.pns == Pns::Fcm) else {
            return;
        };
        let lifetime = self.settings.wake.timeout;
        let notice = self.call_notice(fx, context, key, lifetime);
        self.wakes
            .push(fx, key, &params, Notice::Cancel(notice), lifetime);
    }

    /// Ends a branch with an answer of ours.
    pub(super) fn fail_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        reject: Reject,
    ) {
        context.best = Some(better(context.best.take(), Best::Local(reject)));
        self.finish_branch(fx, context, index);
    }

    /// Ends a branch.
    pub(super) fn finish_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        self.stop_branch(fx, context, index);
        set_state(context, index, BranchState::Final);
    }

    /// Stops whatever a branch does: its timers, its wait, its transaction's word to us.
    fn stop_branch(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext, index: u16) {
        self.stop_waiting(fx, context, index);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        if let Target::Device(key) = branch.target
            && let Some(waiters) = self.by_device.get_mut(&key)
        {
            waiters.retain(|other| *other != waiter);
            if waiters.is_empty() {
                self.by_device.remove(&key);
            }
        }
        match &mut branch.state {
            BranchState::Calling(calling) => {
                for timer in [calling.timer_c.take(), calling.grace.take()]
                    .into_iter()
                    .flatten()
                {
                    fx.cancel(timer);
                }
                // A transaction that is still live here is one that nobody waits for any more.
                if self.clients.remove(&calling.client).is_some() {
                    self.transactions.abandon(fx, calling.client);
                }
            }
            BranchState::Cancelling { client } => {
                if self.clients.remove(client).is_some() {
                    self.transactions.abandon(fx, *client);
                }
            }
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Waking { .. }
            | BranchState::Final => {}
        }
    }

    /// A branch waits for its device no more.
    pub(super) fn stop_waiting(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        let Some(branch) = context.branches.get_mut(usize::from(index)) else {
            return;
        };
        if let Target::Device(key) = branch.target {
            self.wakes.leave(key, waiter);
        }
        match &mut branch.state {
            BranchState::Probing { timer } | BranchState::Waking { timer } => fx.cancel(*timer),
            BranchState::Calling(calling) => {
                if let Some(timer) = calling.wake.take() {
                    fx.cancel(timer);
                }
            }
            BranchState::Idle | BranchState::Cancelling { .. } | BranchState::Final => {}
        }
    }
}

/// Sets a branch's state.
pub(super) fn set_state(context: &mut ResponseContext, index: u16, state: BranchState) {
    if let Some(branch) = context.branches.get_mut(usize::from(index)) {
        branch.state = state;
    }
}

/// The request that is out on a branch.
pub(super) fn calling(context: &mut ResponseContext, index: u16) -> Option<&mut Calling> {
    match &mut context.branches.get_mut(usize::from(index))?.state {
        BranchState::Calling(calling) => Some(calling),
        BranchState::Idle
        | BranchState::Probing { .. }
        | BranchState::Waking { .. }
        | BranchState::Cancelling { .. }
        | BranchState::Final => None,
    }
}

/// Whether a branch state waits for its device.
const fn is_waiting(state: &BranchState) -> bool {
    matches!(
        state,
        BranchState::Probing { .. } | BranchState::Waking { .. }
    )
}
