//! Waking a device for a call, and letting the call go on when the device has registered (RFC 8599
//! §5.3, §5.6.2): what a push says, what its provider's verdict means for the call, and when the
//! wait is over.

use std::time::Duration;

use crate::proto::effects::Effects;
use crate::proto::event::{Asleep, KeptOutcome, Step};
use crate::proto::proxy::Proxy;
use crate::proto::proxy::best_response::{Best, better};
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::missed::is_elsewhere;
use crate::proto::proxy::response_context::{
    Branch, BranchState, Hold, Leg, Phase, ResponseContext, Target,
};
use crate::proto::proxy::stamp;
use crate::proto::push::params::NoPush;
use crate::proto::push::wake::{Pushed, Waiter};
use crate::proto::push::{CallNotice, Notice};
use crate::proto::registration::binding::Binding;
use crate::proto::reject::Reject;
use crate::proto::settings::HoldResponse;
use crate::proto::sip::{Reply, unquote};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{BindingKey, Destination, Event, Flow, FlowId, Output};

/// Longest text of a caller that a push carries, in characters.
const LONGEST_CALLER: usize = 256;

impl Proxy {
    /// Waits for a device, and wakes it if the request does that.
    pub(super) fn wake(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        why: Asleep,
    ) {
        let after = self.hold_left(fx.now, context);
        let timer = fx.arm(after, Timer::Context(context.id, ContextTimer::Wake(index)));
        set_state(context, index, BranchState::Waking { timer });
        match context.hold {
            Hold::Call if after.is_zero() => {}
            Hold::Call => {
                report_step(fx, context, key, Step::Waits(why));
                self.push_for(fx, context, index, key);
                self.hold_response(fx, context);
            }
            Hold::Message | Hold::Notify(_) | Hold::Brief { .. } => {
                self.wait_for(fx, context, index, key);
            }
        }
    }

    pub(super) fn push_for(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        index: u16,
        key: BindingKey,
    ) {
        let Some(params) = self.location.binding(key).and_then(Binding::push) else {
            return;
        };
        // What is left of the wait: a later try must not outlive it.
        let deadline = context
            .branches
            .get(usize::from(index))
            .and_then(Branch::wake_deadline);
        let lifetime = deadline.map_or(self.settings.wake.timeout, |deadline| {
            deadline.saturating_duration_since(fx.now)
        });
        let notice = self.call_notice(fx, context, key, lifetime);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        match self.wakes.join(fx, key, waiter, &params, notice, lifetime) {
            Pushed::Sent => {
                let call_id = context.call_id();
                let pns = params.pns;
                let call = context.number();
                fx.event(Event::WakeStarted {
                    call,
                    call_id,
                    key,
                    pns,
                });
            }
            Pushed::Limited { after } => {
                self.report_no_push(fx, key, NoPush::RateLimited);
                report_step(fx, context, key, Step::Limited(after));
                self.wakes.retry(fx.now, key, after);
                arm_retry(fx, context, index, after);
            }
            Pushed::UnderWay => report_step(fx, context, key, Step::Joined),
            Pushed::NoToken => {}
        }
    }

    /// Describes a call to the app of a device of the called agent.
    pub(super) fn call_notice(
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
            answered_elsewhere: false,
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
        reply.to_tag(self.tags.of(&context.request));
        let reply = reply.finish();
        self.transactions.respond(fx, context.server, status, reply);
    }

    /// A device has registered: whoever waits for it, or sits on a dead flow of it, goes on.
    pub(super) fn release(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        for sibling in self.location.same_device(key) {
            let woken = self.wakes.answered(fx, sibling);
            for waiter in self.by_device.get(&sibling).cloned().unwrap_or_default() {
                let after = woken
                    .as_ref()
                    .filter(|(waiters, _)| waiters.contains(&waiter))
                    .map(|(_, after)| *after);
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    if let Some(after) = after {
                        let binding = proxy.location.binding(key);
                        fx.event(Event::Woken {
                            call: context.number(),
                            call_id: context.call_id(),
                            key,
                            after,
                            flow: binding.and_then(Binding::flow),
                        });
                    }
                    if !context.may_be_kept() {
                        proxy.redispatch(fx, context, waiter.branch, key);
                    }
                });
            }
        }
        self.deliver_next(fx, key);
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
            BranchState::Late(_) => {
                return self.on_late_device(fx, context, index, key, flow);
            }
            BranchState::Idle | BranchState::Cancelling(_) | BranchState::Final => false,
        };
        if !is_due || context.phase != Phase::Open {
            if let BranchState::Calling(calling) = &branch.state
                && !calling.is_provisional
            {
                // It is the datagram that found the phone asleep.
                self.transactions.send_again(fx, calling.client);
            }
            if let Some(calling) = calling(context, index) {
                // The push beside it has done its work: should the flow die now, another may.
                calling.is_pushed = false;
            }
            // A live INVITE stays; what waited beside it for the device need not.
            self.stop_waiting(fx, context, index);
            return;
        }
        self.move_branch(fx, context, index, key, flow);
    }

    /// Hears of the end of a flow on which a request is live, though its device has left it.
    pub(super) fn watch(&mut self, fx: &mut Effects<'_>, flow: FlowId, waiter: Waiter) {
        let waiters = self.moved.entry(flow).or_default();
        if !waiters.contains(&waiter) {
            waiters.push(waiter);
            fx.output(Output::FlowBound { flow });
        }
    }

    /// The branch has no request on a flow that its device has left.
    pub(super) fn unwatch(&mut self, fx: &mut Effects<'_>, waiter: Waiter) {
        let location = &self.location;
        self.moved.retain(|flow, waiters| {
            waiters.retain(|other| *other != waiter);
            if waiters.is_empty() && !location.is_bound(*flow) {
                fx.output(Output::FlowUnbound { flow: *flow });
            }
            !waiters.is_empty()
        });
    }

    /// Sends the request of a branch again, over another flow of its device.
    pub(super) fn move_branch(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        key: BindingKey,
        flow: Flow,
    ) {
        self.leave(fx, context, index);
        self.stop_branch(fx, context, index);
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        if let Some(branch) = context.branches.get_mut(usize::from(index)) {
            branch.target = Target::Device(key);
        }
        self.by_device.entry(key).or_default().push(waiter);
        self.send(fx, context, index, Leg::over(flow));
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
            BranchState::Waking { .. } if context.may_be_kept() => {
                self.end_kept(fx, context, index, KeptOutcome::Expired);
            }
            BranchState::Waking { .. } => {
                let after = fx.now.saturating_duration_since(context.started);
                fx.event(Event::WakeTimedOut {
                    call: context.number(),
                    call_id: context.call_id(),
                    key,
                    after,
                });
                let best = Best::Local(self.not_woken(context, key));
                context.best = Some(better(context.best.take(), best));
                let status = self.settings.wake.unreachable_status;
                let reason = format!("SIP;cause={status};text=\"{}\"", Reject::NotWoken.label());
                self.end_waking(fx, context, index, key, &[reason.as_bytes()]);
            }
            // The INVITE that is out has its own end.
            BranchState::Calling(_) => self.stop_waiting(fx, context, index),
            BranchState::Idle
            | BranchState::Probing { .. }
            | BranchState::Cancelling(_)
            | BranchState::Late(_)
            | BranchState::Final => {}
        }
    }

    /// A device that was woken may not register: the branch that waits for it ends.
    pub(super) fn on_refused_device(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let (BranchState::Waking { .. }, Some(key)) = (&branch.state, branch.device()) else {
            return;
        };
        let reject = if context.is_in_dialog {
            Reject::DialogAsleep
        } else {
            Reject::RegistrationRefused
        };
        report_step(fx, context, key, Step::Failed(reject));
        context.best = Some(better(context.best.take(), Best::Local(reject)));
        let status = self.settings.wake.unreachable_status;
        let reason = format!("SIP;cause={status};text=\"{}\"", reject.label());
        self.end_waking(fx, context, index, key, &[reason.as_bytes()]);
    }

    /// A device cannot be woken: a branch that only waits for it ends.
    pub(super) fn on_cannot_wake(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        if branch.is_kept {
            self.end_kept(fx, context, index, KeptOutcome::Lost);
        } else if is_waiting(&branch.state) {
            let reject = if context.is_in_dialog {
                Reject::DialogAsleep
            } else {
                Reject::PushFailed
            };
            self.fail_branch(fx, context, index, reject);
        } else if matches!(branch.state, BranchState::Late(_)) {
            self.finish_branch(fx, context, index);
        } else {
            self.stop_waiting(fx, context, index);
        }
    }

    /// Tells a device that the call it is being woken for is over; one whose push has made it show
    /// a call learns that when it comes (`late_wake`).
    pub(super) fn push_cancel(
        &mut self,
        fx: &mut Effects<'_>,
        context: &ResponseContext,
        key: BindingKey,
        reasons: &[&[u8]],
    ) {
        let binding = self.location.binding(key);
        let params = binding.and_then(Binding::push);
        // The push that says that the call was missed says this too.
        if params.is_none_or(|params| params.pns.shows_calls()) || self.will_be_missed(context) {
            return;
        }
        let lifetime = self.settings.wake.timeout;
        let mut notice = self.call_notice(fx, context, key, lifetime);
        notice.answered_elsewhere = reasons.iter().any(|reason| is_elsewhere(reason));
        let notice = Notice::Cancel(notice);
        if let Err(notice) = self.wakes.after_call(key, notice, lifetime) {
            self.notify(fx, key, notice, lifetime);
        }
    }

    /// Sends a push that wakes nobody for a call; whether there was one to send. A device with a
    /// token for calls alone gets none, which is counted.
    pub(super) fn notify(
        &mut self,
        fx: &mut Effects<'_>,
        key: BindingKey,
        notice: Notice,
        lifetime: Duration,
    ) -> bool {
        let binding = self.location.binding(key);
        let Some(params) = binding.and_then(Binding::push) else {
            return false;
        };
        let reason = match self.wakes.push(fx, key, &params, notice, lifetime) {
            Pushed::Sent => return true,
            Pushed::NoToken => NoPush::NoAlertToken,
            Pushed::Limited { .. } => NoPush::RateLimited,
            Pushed::UnderWay => return false,
        };
        self.report_no_push(fx, key, reason);
        false
    }

    /// Says that a device was not pushed, and why.
    fn report_no_push(&self, fx: &mut Effects<'_>, key: BindingKey, reason: NoPush) {
        let agent = self.location.agent(key.aor);
        let aor = agent.map_or_else(String::new, |agent| agent.aor.to_string());
        let aor = aor.into();
        fx.event(Event::NoPush { aor, reason });
    }
}

/// Notes a step of a call; of other requests none is told.
pub(super) fn report_step(
    fx: &mut Effects<'_>,
    context: &ResponseContext,
    key: BindingKey,
    step: Step,
) {
    if context.is_invite() && !context.is_in_dialog {
        let call = context.number();
        fx.event(Event::CallStep { call, key, step });
    }
}

/// Comes back to a branch whose device may be pushed later.
pub(super) fn arm_retry(
    fx: &mut Effects<'_>,
    context: &ResponseContext,
    index: u16,
    after: Duration,
) {
    fx.arm(
        after,
        Timer::Context(context.id, ContextTimer::Retry(index)),
    );
}

/// Whether a branch state waits for its device.
pub(super) const fn is_waiting(state: &BranchState) -> bool {
    matches!(
        state,
        BranchState::Probing { .. } | BranchState::Waking { .. }
    )
}
