//! Branches toward devices: is the device awake, how is it woken, when does it get the request
//! (RFC 8599 §5.3, RFC 5626 §5.3).
//!
//! A device that can be woken is never given up while its wake runs: a dead flow, a silent one or
//! a 408 only means that it has to be woken.

use bytes::Bytes;

use crate::proto::effects::Effects;
use crate::proto::event::{Asleep, Step};
use crate::proto::proxy::Proxy;
use crate::proto::proxy::branch::{calling, set_state};
use crate::proto::proxy::response_context::{
    BranchState, Hold, Leg, Phase, ResponseContext, Target,
};
use crate::proto::proxy::waking::report_step;
use crate::proto::push::wake::Waiter;
use crate::proto::reject::Reject;
use crate::proto::sip::{Message, Text};
use crate::proto::timer::{ContextTimer, Timer};
use crate::proto::{BindingKey, Destination, Flow, FlowId, Output};

impl Proxy {
    /// Starts the branches of the highest q that have not begun (RFC 3261 §16.6: q orders groups).
    pub(super) fn start_next_group(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let idle = |state: &BranchState| matches!(state, BranchState::Idle);
        // What is kept goes to every device once: there is nothing to try one after the other.
        let is_for_each = context.may_be_kept();
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
            if !idle(&branch.state) || (branch.q != q && !is_for_each) {
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
        let waiter = Waiter {
            context: context.id,
            branch: index,
        };
        self.by_device.entry(key).or_default().push(waiter);
        let Some(binding) = self.location.binding(key) else {
            // A dialog's device may be about to register again.
            if context.is_in_dialog {
                return self.wake(fx, context, index, key, Asleep::NoFlow);
            }
            return self.fail_branch(fx, context, index, Reject::NoDevice);
        };
        let can_wake = binding.has_push()
            && match context.hold {
                Hold::Call | Hold::Message => true,
                Hold::Notify(_) => false,
                Hold::Brief { is_pushed } => is_pushed,
            };
        let is_fresh = self.location.last_heard(binding).is_some_and(|heard| {
            fx.now.saturating_duration_since(heard) <= self.settings.wake.fresh
        });
        match binding.flow() {
            Some(flow) if context.may_be_kept() => {
                if self.has_kept(key) {
                    self.wake(fx, context, index, key, Asleep::NoFlow);
                    return self.deliver_next(fx, key);
                }
                self.send(fx, context, index, Leg::over(flow));
                self.arm_grace(fx, context, index);
            }
            Some(flow) if !can_wake => self.send(fx, context, index, Leg::over(flow)),
            Some(flow) if is_fresh => {
                self.send(fx, context, index, Leg::over(flow));
                self.arm_grace(fx, context, index);
            }
            Some(flow) => self.probe(fx, context, index, key, flow),
            None if can_wake || context.is_in_dialog || context.may_be_kept() => {
                self.wake(fx, context, index, key, Asleep::NoFlow);
            }
            None => self.fail_branch(fx, context, index, Reject::NoDevice),
        }
    }

    pub(super) fn arm_grace(
        &self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
    ) {
        let timer = Timer::Context(context.id, ContextTimer::Grace(index));
        if let Some(calling) = calling(context, index) {
            calling.grace = Some(fx.arm(self.settings.wake.grace, timer));
        }
    }

    /// Asks a flow whether it lives: by OPTIONS, which every user agent answers (RFC 3261 §11.2).
    ///
    /// Not by CRLF CRLF: phones send that and proxies answer it (RFC 5626 §3.5.1); liblinphone takes
    /// ours in silence. A browser does answer its WebSocket's ping, even with the app busy.
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
        report_step(fx, context, key, Step::Asked);
        if flow.transport.is_websocket() {
            fx.output(Output::Ping { flow: flow.id });
            return;
        }
        let client = self.transactions.reserve(fx);
        match self.write_probe(key, flow, &client.branch_bytes(self.shard), fx.random()) {
            Some(options) => {
                let to = Destination::Flow(flow.id);
                let is_reliable = flow.transport.is_reliable();
                self.transactions
                    .start(fx, client, &options, to, is_reliable);
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
        branch: &[u8],
        random: u64,
    ) -> Option<Message> {
        let uri = self.location.binding(key)?.contact_uri();
        let uri = std::str::from_utf8(&uri).ok()?;
        let via = Text::of(self.via(&Leg::over(flow), branch, 0)?);
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

    /// Notes on which flows a context's branches listen: those that asked whether a flow lives, or
    /// gave it up and may still hear of it.
    pub(super) fn listen(&mut self, context: &mut ResponseContext) {
        let id = context.id;
        for (branch, index) in context.branches.iter_mut().zip(0..) {
            let open = || self.location.binding(branch.device()?)?.flow();
            let wanted = match branch.state {
                BranchState::Probing { .. } => open(),
                // Of a datagram's answer it is not known whose life it is.
                BranchState::Waking { .. } => open().filter(|flow| flow.transport.is_reliable()),
                BranchState::Idle
                | BranchState::Calling(_)
                | BranchState::Late(_)
                | BranchState::Cancelling { .. }
                | BranchState::Final => None,
            };
            let wanted = wanted.map(|flow| flow.id);
            if branch.listens == wanted {
                continue;
            }
            let waiter = Waiter {
                context: id,
                branch: index,
            };
            if let Some(old) = std::mem::replace(&mut branch.listens, wanted)
                && let Some(waiters) = self.listening.get_mut(&old)
            {
                waiters.retain(|other| *other != waiter);
                if waiters.is_empty() {
                    self.listening.remove(&old);
                }
            }
            if let Some(flow) = wanted {
                self.listening.entry(flow).or_default().push(waiter);
            }
        }
    }

    /// A device may have another flow: its branches listen there.
    pub(super) fn listen_again(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
            self.with_context(fx, waiter.context, |_, _, _| {});
        }
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
        let (timer, is_pushed) = match branch.state {
            BranchState::Probing { timer } => (timer, false),
            BranchState::Waking { timer } => (timer, true),
            BranchState::Idle
            | BranchState::Calling(_)
            | BranchState::Late(_)
            | BranchState::Cancelling(_)
            | BranchState::Final => return,
        };
        let Some(key) = branch.device() else { return };
        // What is kept waits for a registration, and for its turn.
        if context.may_be_kept() {
            return;
        }
        // Whatever it says while its REGISTER is not answered: the call follows that answer.
        let registered = self.location.binding(key).filter(|b| !b.awaits_store);
        let Some(open) = registered.and_then(|binding| binding.flow()) else {
            return;
        };
        // A datagram may come from the app's next life, which has not registered yet; a connection
        // is the one that was asked, and only slow.
        let is_same_life = !is_pushed || open.transport.is_reliable();
        if open.id == flow && is_same_life {
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
            self.wake(fx, context, index, key, Asleep::Silent);
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
        if context.may_be_kept() {
            return self.on_grace_of_kept(fx, context, index, key);
        }
        let left = self.hold_left(fx.now, context);
        let Some(calling) = calling(context, index) else {
            return;
        };
        calling.grace = None;
        calling.is_pushed = true;
        let timer = Timer::Context(id, ContextTimer::Wake(index));
        calling.wake = Some(fx.arm(left, timer));
        match context.hold {
            Hold::Call => {
                report_step(fx, context, key, Step::Waits(Asleep::Unheard));
                self.push_for(fx, context, index, key);
            }
            Hold::Message | Hold::Notify(_) | Hold::Brief { .. } => {
                self.wait_for(fx, context, index, key);
            }
        }
    }

    /// The flow under a device is gone; `siblings` are the bindings of the same device.
    pub(super) fn on_flow_gone(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        index: u16,
        flow: FlowId,
        siblings: &[BindingKey],
    ) {
        let Some(branch) = context.branches.get(usize::from(index)) else {
            return;
        };
        let other = self.other_flow(context, siblings);
        match &branch.state {
            BranchState::Calling(calling) if calling.leg.to == Destination::Flow(flow) => {
                let client = calling.client;
                self.clients.remove(&client);
                self.transactions.abandon(fx, client);
                match other {
                    Some((_, flow)) if self.is_out_on(fx, context, index, flow.id) => {}
                    Some((key, flow)) => self.move_branch(fx, context, index, key, flow),
                    None => self.on_device_lost(fx, context, index, Reject::NoDevice),
                }
            }
            BranchState::Cancelling(cancelling) if cancelling.leg.to == Destination::Flow(flow) => {
                self.fail_branch(fx, context, index, Reject::Cancelled);
            }
            BranchState::Probing { timer } => {
                fx.cancel(*timer);
                match other {
                    Some((key, flow)) => self.move_branch(fx, context, index, key, flow),
                    None => self.on_device_lost(fx, context, index, Reject::NoDevice),
                }
            }
            BranchState::Idle
            | BranchState::Waking { .. }
            | BranchState::Calling(_)
            | BranchState::Cancelling(_)
            | BranchState::Late(_)
            | BranchState::Final => {}
        }
    }

    /// Another flow of a device whose flow is gone (RFC 5626 §5.3), for a request that may be sent
    /// twice.
    fn other_flow(
        &self,
        context: &ResponseContext,
        siblings: &[BindingKey],
    ) -> Option<(BindingKey, Flow)> {
        if !context.is_invite() || context.phase != Phase::Open {
            return None;
        }
        siblings
            .iter()
            .find_map(|key| Some((*key, self.location.binding(*key)?.flow()?)))
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
        let can_wake = match self.location.binding(key) {
            Some(binding) => binding.has_push(),
            // Its time was over, and it is about to be there again.
            None => self.registering.contains_key(&key.aor),
        };
        if context.may_be_kept() {
            return self.on_kept_lost(fx, context, index, key, reject);
        }
        if context.phase != Phase::Open {
            return self.fail_branch(fx, context, index, reject);
        }
        let can_wait = match context.hold {
            Hold::Call | Hold::Message | Hold::Notify(_) => can_wake,
            Hold::Brief { is_pushed } => {
                let is_awaited = context.is_in_dialog || (is_pushed && can_wake);
                is_awaited && !self.hold_left(fx.now, context).is_zero()
            }
        };
        let mut is_pushed = false;
        let pending = match calling(context, index) {
            Some(calling) => {
                is_pushed = calling.is_pushed && !calling.is_provisional;
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
            Some(timer) => {
                report_step(fx, context, key, Step::Waits(Asleep::Lost));
                set_state(context, index, BranchState::Waking { timer });
            }
            // The push beside it has had its time.
            None if is_pushed => {
                let reject = self.not_woken(context, key);
                self.fail_branch(fx, context, index, reject);
            }
            None if can_wait => self.wake(fx, context, index, key, Asleep::Lost),
            None => self.fail_branch(fx, context, index, reject),
        }
    }

    /// What is said of a device that was not woken in time: of a dialog's, what harms no more than
    /// this request.
    pub(super) fn not_woken(&self, context: &ResponseContext, key: BindingKey) -> Reject {
        match (context.is_in_dialog, self.location.binding(key)) {
            (false, _) => Reject::NotWoken,
            (true, Some(_)) => Reject::DialogAsleep,
            (true, None) => Reject::FlowFailed,
        }
    }
}
