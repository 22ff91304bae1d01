//! What happens to bindings beside REGISTER: they come back from the store, lose their flow, end.
//!
//! Memory, store, transports' flows and the expiry timer change together here.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::proto::aor::Aor;
use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::Branch;
use crate::proto::push::{Notice, refresh};
use crate::proto::registration::asked::Asked;
use crate::proto::registration::binding::{Binding, NewBinding, StoredBinding, unpushed_apps};
use crate::proto::registration::keep;
use crate::proto::registration::location::{FlowChange, Replaced};
use crate::proto::timer::Timer;
use crate::proto::{
    AorId, BindingKey, Claim, CloseReason, Destination, Event, FlowId, Output, StoreWrite,
};

/// The wall clock counts milliseconds.
const ROUNDING: Duration = Duration::from_secs(1);

impl Proxy {
    pub(super) fn put_binding(
        &mut self,
        fx: &mut Effects<'_>,
        aor: &Aor,
        upstream: u16,
        binding: NewBinding,
    ) -> BindingKey {
        let key = BindingKey {
            aor: aor.id(),
            binding: binding.id,
        };
        let expires = binding.expires.saturating_duration_since(fx.now);
        let flow = binding.last_flow;
        let old = self.enter(fx, aor, upstream, binding);
        let is_new = old.is_none();
        let before = old.and_then(|old| old.flow);
        let is_moved = before.is_none_or(|old| old.id != flow.id);
        fx.event(Event::Registered {
            key,
            aor: aor.to_string().into(),
            flow,
            expires,
            is_new,
            is_moved,
        });
        key
    }

    /// Puts a binding into memory; returns what was there.
    fn enter(
        &mut self,
        fx: &mut Effects<'_>,
        aor: &Aor,
        upstream: u16,
        binding: NewBinding,
    ) -> Option<Replaced> {
        let key = BindingKey {
            aor: aor.id(),
            binding: binding.id,
        };
        self.guard.on_registered(&binding.last_flow);
        let flow = binding.last_flow.id;
        let (old, changes) = self.location.put(aor, upstream, binding);
        self.schedule_first(fx, key);
        self.report_left(fx, &changes);
        let left = old.as_ref().and_then(|old| old.flow);
        if let Some(left) = left.filter(|left| left.id != flow) {
            self.watch_calls(fx, key, left.id);
        }
        if old.is_some() {
            self.listen_again(fx, key);
        }
        old
    }

    /// Takes a binding out of memory.
    pub(super) fn drop_binding(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        if let Some((_, flow, change)) = self.location.remove(key) {
            self.report_left(fx, change.as_slice());
            self.watch_calls(fx, key, flow.id);
        }
    }

    /// Has a binding looked at when it is time.
    fn schedule(&mut self, fx: &Effects<'_>, key: BindingKey) {
        if let Some(binding) = self.location.binding(key) {
            let due = next_due(fx, binding);
            self.location.schedule(key, due);
        }
    }

    /// Tells the transports which flows have agents; one that its agent has left under a request
    /// only when that cannot be repeated any more: its copies, and its CANCEL and ACK, belong to
    /// this shard, and the flow may carry agents of others.
    fn report_left(&self, fx: &mut Effects<'_>, changes: &[FlowChange]) {
        for change in changes {
            match *change {
                // `unwatch` ends that.
                FlowChange::Unbound(flow) if self.moved.contains_key(&flow) => {}
                FlowChange::Unbound(flow) if self.contexts.has_sender(flow) => {
                    fx.arm(self.settings.timing.t1 * 64, Timer::Unbind(flow));
                }
                FlowChange::Bound(_) | FlowChange::Unbound(_) => report_flows(fx, &[*change]),
            }
        }
    }

    /// Nobody repeats a request any more on a flow that its agent has left.
    pub(super) fn on_unbind(&self, fx: &mut Effects<'_>, flow: FlowId) {
        if !self.location.is_bound(flow) && !self.moved.contains_key(&flow) {
            fx.output(Output::FlowUnbound { flow });
        }
    }

    /// A device has left a flow on which it may still ring: hears of the end of that.
    fn watch_calls(&mut self, fx: &mut Effects<'_>, key: BindingKey, flow: FlowId) {
        for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
            self.with_context(fx, waiter.context, |proxy, fx, context| {
                let branch = context.branches.get(usize::from(waiter.branch));
                let out = branch.and_then(Branch::leg).map(|leg| &leg.to);
                if out == Some(&Destination::Flow(flow)) {
                    proxy.watch(fx, flow, waiter);
                }
            });
        }
    }

    /// Takes a binding out of memory and out of the store.
    pub(super) fn remove_binding(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        self.drop_binding(fx, key);
        fx.output(Output::Store {
            ticket: None,
            write: StoreWrite::Remove(key),
        });
    }

    /// An app has another agent: it no longer rings for those who had it, unless it holds several
    /// accounts at once, on one flow.
    pub(in crate::proto) fn on_claimed(&mut self, fx: &mut Effects<'_>, claim: Claim) {
        let mut newer: SmallVec<[Claim; 1]> = SmallVec::new();
        for key in self.location.with_app(claim.app, claim.by.aor) {
            let Some(agent) = self.location.agent(key.aor) else {
                continue;
            };
            let Some(binding) = agent.binding(key.binding) else {
                continue;
            };
            let heard = self.location.last_heard(binding);
            let is_kept = claim.is_by_instance && binding.is_awake(fx.now, heard);
            let has_both = binding.flow().is_some_and(|flow| flow.id == claim.flow);
            if is_kept || has_both {
                continue;
            }
            if binding.asked().at > claim.asked && binding.flow().is_some() {
                newer.push(binding.claim(key.aor, claim.app));
                continue;
            }
            let aor = agent.aor.to_string().into();
            self.remove_binding(fx, key);
            fx.event(Event::ChangedHands { key, aor });
            for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    proxy.on_cannot_wake(fx, context, waiter.branch);
                });
            }
        }
        // Who claims it was there before those, and had its answer later.
        for claim in newer {
            self.claim(fx, claim);
        }
    }

    /// Takes an app for an agent, here and in the other shards.
    pub(super) fn claim(&mut self, fx: &mut Effects<'_>, claim: Claim) {
        self.on_claimed(fx, claim);
        fx.output(Output::Claim(claim));
    }

    /// A binding has to be looked at.
    pub(in crate::proto) fn on_bindings_due(&mut self, fx: &mut Effects<'_>) {
        if let Some(key) = self.location.pop_due(fx.now) {
            self.on_timer(fx, Timer::Binding(key));
        }
    }

    /// A binding's time is over, or its device must be asked to register again.
    pub(super) fn on_binding_due(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        let is_push_time = self.is_push_time(fx, key);
        let Some(binding) = self.location.binding(key) else {
            return;
        };
        if binding.expires() <= fx.now {
            self.on_expired(fx, key);
            return;
        }
        let left = binding.expires().saturating_duration_since(fx.now);
        let has_token = binding
            .push()
            .is_some_and(|push| push.alert_token.is_some());
        let heard = self.location.last_heard(binding);
        let is_awake = binding.is_awake(fx.now, heard);
        self.schedule(fx, key);
        if !is_awake && self.refresh_itself(fx, key) {
            return;
        }
        // It was looked at before its time, since the gateway could refresh it then.
        if !is_push_time {
            return;
        }
        // What is awake and was told that it is pushed may wait for the push all the same.
        if !is_awake || (has_token && refresh::is_last_call(left)) {
            self.notify(fx, key, Notice::Refresh, left);
        }
    }

    /// Has a binding whose time is new looked at when it is time.
    pub(super) fn schedule_first(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        if let Some(due) = self.due_of(fx, key) {
            self.location.schedule(key, due);
        }
    }

    /// When a binding that was granted just now is looked at first: while the gateway may refresh it
    /// itself, some time before a push is due.
    fn first_due(
        &self,
        fx: &mut Effects<'_>,
        whose: (&str, AorId, u16),
        binding: &Binding,
    ) -> Instant {
        let kept = self.keep_of(fx, whose, binding);
        let Some(time) = kept.map(|(group, _)| group.expires) else {
            return next_due(fx, binding);
        };
        let since = since(fx, binding, Some(time));
        let kept = keep::due(since, binding.expires(), fx.now, fx.random());
        kept.unwrap_or_else(|| next_due(fx, binding))
    }

    /// The same for a binding that is known.
    fn due_of(&self, fx: &mut Effects<'_>, key: BindingKey) -> Option<Instant> {
        let agent = self.location.agent(key.aor)?;
        let whose = (agent.aor.user(), key.aor, agent.upstream);
        Some(self.first_due(fx, whose, agent.binding(key.binding)?))
    }

    /// Whether it is near enough to the end of a binding to ask its device by a push.
    pub(super) fn is_push_time(&self, fx: &Effects<'_>, key: BindingKey) -> bool {
        let Some(agent) = self.location.agent(key.aor) else {
            return false;
        };
        let group = self.settings.upstreams.get(usize::from(agent.upstream));
        let kept = group.filter(|group| group.keep.is_some());
        agent.binding(key.binding).is_some_and(|binding| {
            let since = since(fx, binding, kept.map(|group| group.expires));
            let whole = binding.expires().saturating_duration_since(since);
            let left = binding.expires().saturating_duration_since(fx.now);
            refresh::first_before(whole).is_some_and(|first| left <= first + ROUNDING)
        })
    }

    /// An operator takes a device out.
    pub(in crate::proto) fn forget(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        let Some(agent) = self.location.agent(key.aor) else {
            return;
        };
        if agent.binding(key.binding).is_none() {
            return;
        }
        let aor = agent.aor.to_string().into();
        self.remove_binding(fx, key);
        fx.event(Event::Unregistered { key, aor });
        for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
            self.with_context(fx, waiter.context, |proxy, fx, context| {
                proxy.on_cannot_wake(fx, context, waiter.branch);
            });
        }
    }

    /// A binding's time is over.
    fn on_expired(&mut self, fx: &mut Effects<'_>, key: BindingKey) {
        let Some(agent) = self.location.agent(key.aor) else {
            return;
        };
        let aor = agent.aor.to_string().into();
        self.remove_binding(fx, key);
        fx.event(Event::Expired { key, aor });
    }

    /// A flow ended: a device that can be woken sleeps, another is gone.
    pub(in crate::proto) fn on_flow_closed(
        &mut self,
        fx: &mut Effects<'_>,
        flow: FlowId,
        _reason: CloseReason,
    ) {
        for key in self.location.on_flow(flow) {
            let Some(agent) = self.location.agent(key.aor) else {
                continue;
            };
            let aor: Box<str> = agent.aor.to_string().into();
            let siblings = self.location.same_device(key);
            if agent.binding(key.binding).is_some_and(Binding::has_push) {
                let change = self.location.close_flow(key);
                report_flows(fx, change.as_slice());
                fx.event(Event::Asleep { key, aor });
            } else {
                self.remove_binding(fx, key);
                fx.event(Event::Unregistered { key, aor });
            }
            for waiter in self.by_device.get(&key).cloned().unwrap_or_default() {
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    proxy.on_flow_gone(fx, context, waiter.branch, flow, &siblings);
                });
            }
        }
        let moved = self.moved.remove(&flow).unwrap_or_default();
        if !moved.is_empty() {
            fx.output(Output::FlowUnbound { flow });
        }
        for waiter in moved {
            self.with_context(fx, waiter.context, |proxy, fx, context| {
                let branch = context.branches.get(usize::from(waiter.branch));
                let key = branch.and_then(Branch::device);
                let siblings = key.map(|key| proxy.location.same_device(key));
                let siblings = siblings.unwrap_or_default();
                proxy.on_flow_gone(fx, context, waiter.branch, flow, &siblings);
            });
        }
    }

    /// A binding that the store kept.
    pub(in crate::proto) fn restore(&mut self, fx: &mut Effects<'_>, stored: StoredBinding) {
        let key = stored.key;
        let aor = Aor {
            user: stored.user,
            domain: stored.domain,
        };
        let upstream = self
            .settings
            .upstreams
            .iter()
            .position(|u| *u.name == *stored.upstream);
        let upstream = upstream.and_then(|index| u16::try_from(index).ok());
        let now_unix = fx.unix_ms / 1000;
        let left = stored.expires_unix.saturating_sub(now_unix);
        // A datagram flow may still be there; a connection is gone with the process that had it.
        let is_flow_open = matches!(stored.flow.id, FlowId::Datagram { .. });
        let is_reachable = is_flow_open || stored.push.is_some();
        let (Some(upstream), true, true) =
            (upstream, left > 0, is_reachable && aor.id() == key.aor)
        else {
            fx.output(Output::Store {
                ticket: None,
                write: StoreWrite::Remove(key),
            });
            return;
        };
        let is_unpushed = stored.push.is_none();
        let former_apps =
            is_unpushed.then(|| unpushed_apps(&stored.contact, stored.instance.as_deref()));
        let binding = NewBinding {
            id: key.binding,
            q: q_of(&stored.contact),
            contact: stored.contact,
            instance: stored.instance,
            reg_id: stored.reg_id,
            push: stored.push,
            is_as_said: false,
            former_apps: former_apps.unwrap_or_default(),
            last_flow: stored.flow,
            is_durable: true,
            awaits_store: false,
            is_flow_open,
            last_heard: None,
            expires: fx.now + Duration::from_secs(left),
            registered_ms: stored.registered_ms,
            asked: Asked {
                at: fx.now,
                number: None,
            },
        };
        // No event: half a million of them would be half a million lines of the log.
        self.enter(fx, &aor, upstream, binding);
    }

    /// A binding as the store keeps it.
    pub(super) fn stored(&self, key: BindingKey) -> Option<StoredBinding> {
        let agent = self.location.agent(key.aor)?;
        let binding = agent.binding(key.binding)?;
        let aor = agent.aor.unpack();
        Some(StoredBinding {
            key,
            user: aor.user,
            domain: aor.domain,
            upstream: self.upstream_name(agent.upstream),
            contact: binding.contact(),
            instance: binding.instance(),
            reg_id: binding.reg_id(),
            push: binding.push(),
            flow: binding.last_flow(),
            expires_unix: self.unix_seconds(binding.expires()),
            registered_ms: binding.registered_ms,
        })
    }

    pub(super) fn stored_of(
        &self,
        aor: &Aor,
        upstream: u16,
        binding: &NewBinding,
    ) -> StoredBinding {
        StoredBinding {
            key: BindingKey {
                aor: aor.id(),
                binding: binding.id,
            },
            user: aor.user.clone(),
            domain: aor.domain.clone(),
            upstream: self.upstream_name(upstream),
            contact: binding.contact.clone(),
            instance: binding.instance.clone(),
            reg_id: binding.reg_id,
            push: binding.push.clone(),
            flow: binding.last_flow,
            expires_unix: self.unix_seconds(binding.expires),
            registered_ms: binding.registered_ms,
        }
    }

    fn upstream_name(&self, upstream: u16) -> Box<str> {
        let group = self.settings.upstreams.get(usize::from(upstream));
        group.map_or_else(|| "".into(), |group| (*group.name).into())
    }

    pub(super) fn unix_seconds(&self, at: Instant) -> u64 {
        let after = at.saturating_duration_since(self.anchor.instant);
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        self.anchor.unix_ms.saturating_add(ms) / 1000
    }
}

/// Tells the transports which flows have agents.
fn report_flows(fx: &mut Effects<'_>, changes: &[FlowChange]) {
    for change in changes {
        fx.output(match *change {
            FlowChange::Bound(flow) => Output::FlowBound { flow },
            FlowChange::Unbound(flow) => Output::FlowUnbound { flow },
        });
    }
}

/// Since when a binding has the time that it has: since its device registered, or since the gateway
/// did so for it, for `kept`.
fn since(fx: &Effects<'_>, binding: &Binding, kept: Option<Duration>) -> Instant {
    let age = Duration::from_millis(fx.unix_ms.saturating_sub(binding.registered_ms));
    let since = fx.now.checked_sub(age).unwrap_or(fx.now);
    let kept = kept.and_then(|time| binding.expires().checked_sub(time));
    kept.map_or(since, |kept| since.max(kept))
}

/// When a binding has to be looked at next: to refresh it by a push, or at its end.
fn next_due(fx: &Effects<'_>, binding: &Binding) -> Instant {
    let expires = binding.expires();
    if !binding.has_push() {
        return expires;
    }
    let age = Duration::from_millis(fx.unix_ms.saturating_sub(binding.registered_ms));
    let since = fx.now.checked_sub(age).unwrap_or(fx.now);
    let refresh = refresh::next(since, expires, fx.now, binding.refreshes_itself);
    refresh.unwrap_or(expires)
}

fn q_of(contact: &[u8]) -> u16 {
    crate::proto::sip::NameAddr::parse(contact).map_or(1000, |a| {
        crate::proto::registration::relay::q_value(a.params.value("q"))
    })
}
