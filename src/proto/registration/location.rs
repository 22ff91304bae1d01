//! The location service of one shard (RFC 3261 §10.2): agents, their bindings, and the flows that
//! those are reached on.
//!
//! Invariants: every open flow of a binding is in `flows`; every flow in `flows` has a binding;
//! every binding that has or had a push token is in `apps`; an agent without bindings is gone; a binding without a push token has an open flow.

use std::collections::HashMap;
use std::time::Instant;

use ahash::RandomState;
use smallvec::SmallVec;

use crate::proto::aor::Aor;
use crate::proto::push::params::PushParams;
use crate::proto::registration::binding::Binding;
use crate::proto::sip::Uri;
use crate::proto::{AorId, AppId, BindingId, BindingKey, FlowId};

/// An agent with at least one binding.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its name.
    pub aor: Aor,
    /// The upstream group it registers with, by its index.
    pub upstream: u16,
    /// Its devices, in the order in which they first registered.
    pub bindings: SmallVec<[Binding; 1]>,
}

impl Agent {
    /// The binding of that number.
    #[must_use]
    pub fn binding(&self, id: BindingId) -> Option<&Binding> {
        self.bindings.iter().find(|binding| binding.id == id)
    }

    /// The number of a known device: the same instance and reg-id (RFC 5626 §6), or else the same
    /// push token. An app whose instance is new, since it lost its files or never kept one, is
    /// still the one that the token wakes: as a second device it would be pushed and rung twice. And
    /// one whose token is new as well is the one that had that address on that flow: no two apps
    /// share a socket.
    #[must_use]
    pub fn number_of(
        &self,
        instance: Option<&str>,
        reg_id: Option<u32>,
        push: Option<&PushParams>,
        (contact_uri, flow): (&[u8], FlowId),
    ) -> Option<BindingId> {
        let same_reg_id = || {
            let bindings = self.bindings.iter();
            bindings.filter(|binding| binding.reg_id == reg_id)
        };
        let same_instance =
            same_reg_id().find(|b| instance.is_some() && b.instance.as_deref() == instance);
        let same_token = || {
            let push = push?;
            same_reg_id().find(|b| b.push.as_deref().is_some_and(|b| b.wakes_same_app(push)))
        };
        let same_place = || {
            let own = Uri::parse(contact_uri).ok()?;
            same_reg_id().filter(|b| b.last_flow.id == flow).find(|b| {
                Uri::parse(b.contact_uri()).is_ok_and(|uri| {
                    (uri.user, uri.host, uri.port) == (own.user, own.host, own.port)
                })
            })
        };
        Some(same_instance.or_else(same_token).or_else(same_place)?.id)
    }
}

/// The location service.
#[derive(Debug, Default)]
pub struct LocationService {
    agents: HashMap<AorId, Agent, RandomState>,
    /// Agents by the hash of their user, for requests that name no number.
    users: HashMap<u32, SmallVec<[AorId; 1]>, RandomState>,
    /// Who is reached on a flow.
    flows: HashMap<FlowId, OnFlow, RandomState>,
    /// Who has registered an app on a phone that can be pushed, by its token and by its instance.
    apps: HashMap<AppId, SmallVec<[BindingKey; 1]>, RandomState>,
}

/// Who is reached on a flow.
#[derive(Debug, Default)]
struct OnFlow {
    keys: SmallVec<[BindingKey; 1]>,
    /// When something was last heard on it.
    heard: Option<Instant>,
}

/// What a change of bindings did to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowChange {
    /// Its first binding.
    Bound(FlowId),
    /// Its last binding left.
    Unbound(FlowId),
}

impl LocationService {
    /// The agent of that number.
    #[must_use]
    pub fn agent(&self, id: AorId) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// All agents, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> + '_ {
        self.agents.values()
    }

    /// The agents of an upstream with that user, whatever their domain.
    pub fn agents_of_user<'l>(
        &'l self,
        upstream: u16,
        user: &'l str,
    ) -> impl Iterator<Item = AorId> + 'l {
        self.users
            .get(&crate::proto::aor::user_hash(user.as_bytes()))
            .into_iter()
            .flatten()
            .copied()
            .filter(move |id| {
                self.agent(*id)
                    .is_some_and(|a| a.upstream == upstream && *a.aor.user == *user)
            })
    }

    /// The binding of that name.
    #[must_use]
    pub fn binding(&self, key: BindingKey) -> Option<&Binding> {
        self.agent(key.aor)?.binding(key.binding)
    }

    /// The binding of that name, to change what is not indexed: not its flow.
    pub fn binding_mut(&mut self, key: BindingKey) -> Option<&mut Binding> {
        self.agents
            .get_mut(&key.aor)?
            .bindings
            .iter_mut()
            .find(|binding| binding.id == key.binding)
    }

    /// The bindings reached on a flow.
    #[must_use]
    pub fn on_flow(&self, flow: FlowId) -> SmallVec<[BindingKey; 1]> {
        self.flows
            .get(&flow)
            .map(|on| on.keys.clone())
            .unwrap_or_default()
    }

    /// Whether a binding is reached on a flow.
    #[must_use]
    pub fn is_bound(&self, flow: FlowId) -> bool {
        self.flows.contains_key(&flow)
    }

    /// Something was heard on a flow: of all devices that are reached there, however many.
    pub fn hear(&mut self, flow: FlowId, now: Instant) {
        if let Some(on) = self.flows.get_mut(&flow) {
            on.heard = Some(now);
        }
    }

    /// When something was last heard from a device; `None` since a restart.
    #[must_use]
    pub fn last_heard(&self, binding: &Binding) -> Option<Instant> {
        let flow = binding.flow().and_then(|flow| self.flows.get(&flow.id));
        binding.last_heard.max(flow.and_then(|on| on.heard))
    }

    /// The bindings of the same device: those that share its instance-id (RFC 5626 §4.1), itself
    /// included.
    #[must_use]
    pub fn same_device(&self, key: BindingKey) -> SmallVec<[BindingKey; 2]> {
        let Some(agent) = self.agent(key.aor) else {
            return SmallVec::new();
        };
        let instance = agent
            .binding(key.binding)
            .and_then(|binding| binding.instance.as_deref());
        agent
            .bindings
            .iter()
            .filter(|b| {
                b.id == key.binding || (instance.is_some() && b.instance.as_deref() == instance)
            })
            .map(|binding| BindingKey {
                aor: key.aor,
                binding: binding.id,
            })
            .collect()
    }

    /// Adds a binding or replaces the one of the same number.
    pub fn put(
        &mut self,
        aor: &Aor,
        upstream: u16,
        binding: Binding,
    ) -> (Option<Binding>, SmallVec<[FlowChange; 2]>) {
        let id = aor.id();
        let key = BindingKey {
            aor: id,
            binding: binding.id,
        };
        let agent = self.agents.entry(id).or_insert_with(|| {
            self.users.entry((id.0 >> 32) as u32).or_default().push(id);
            Agent {
                aor: aor.clone(),
                upstream,
                bindings: SmallVec::new(),
            }
        });
        agent.upstream = upstream;
        let new_apps = binding.apps();
        let new_flow = binding.flow().map(|flow| flow.id);
        let old = match agent.bindings.iter_mut().find(|old| old.id == binding.id) {
            Some(place) => Some(std::mem::replace(place, binding)),
            None => {
                agent.bindings.push(binding);
                None
            }
        };
        let old_apps = old.as_ref().map(Binding::apps).unwrap_or_default();
        self.move_apps(key, &old_apps, &new_apps);
        let old_flow = old.as_ref().and_then(Binding::flow).map(|flow| flow.id);
        (old, self.move_flow(key, old_flow, new_flow))
    }

    /// Takes a binding out.
    pub fn remove(&mut self, key: BindingKey) -> Option<(Aor, Binding, Option<FlowChange>)> {
        let agent = self.agents.get_mut(&key.aor)?;
        let at = agent
            .bindings
            .iter()
            .position(|binding| binding.id == key.binding)?;
        let binding = agent.bindings.remove(at);
        let aor = agent.aor.clone();
        if agent.bindings.is_empty() {
            self.agents.remove(&key.aor);
            let hash = (key.aor.0 >> 32) as u32;
            if let Some(ids) = self.users.get_mut(&hash) {
                ids.retain(|id| *id != key.aor);
                if ids.is_empty() {
                    self.users.remove(&hash);
                }
            }
        }
        self.move_apps(key, &binding.apps(), &[]);
        let change = self
            .move_flow(key, binding.flow().map(|flow| flow.id), None)
            .pop();
        Some((aor, binding, change))
    }

    /// The bindings that have an app on a phone, by its token or by its instance.
    #[must_use]
    pub fn with_app(&self, app: AppId) -> SmallVec<[BindingKey; 1]> {
        self.apps.get(&app).cloned().unwrap_or_default()
    }

    /// Forgets how to wake a device.
    pub fn forget_push(&mut self, key: BindingKey) {
        let Some(binding) = self.binding_mut(key) else {
            return;
        };
        let apps = binding.apps();
        if binding.push.take().is_some() {
            binding.former_apps = Some(apps.as_slice().into());
        }
    }

    /// Marks the binding's flow as gone.
    pub fn close_flow(&mut self, key: BindingKey) -> Option<FlowChange> {
        let flow = self.binding(key)?.flow()?.id;
        let heard = self.flows.get(&flow).and_then(|on| on.heard);
        let binding = self.binding_mut(key)?;
        binding.last_heard = binding.last_heard.max(heard);
        binding.is_flow_open = false;
        self.move_flow(key, Some(flow), None).pop()
    }

    /// How many bindings there are, and how many of them have an open flow.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let all = self.agents.values().map(|agent| agent.bindings.len()).sum();
        let awake = self.flows.values().map(|on| on.keys.len()).sum();
        (all, awake)
    }

    fn move_apps(&mut self, key: BindingKey, old: &[AppId], new: &[AppId]) {
        for app in new.iter().filter(|app| !old.contains(app)) {
            self.apps.entry(*app).or_default().push(key);
        }
        for app in old.iter().filter(|app| !new.contains(app)) {
            if let Some(keys) = self.apps.get_mut(app) {
                keys.retain(|other| *other != key);
                if keys.is_empty() {
                    self.apps.remove(app);
                }
            }
        }
    }

    fn move_flow(
        &mut self,
        key: BindingKey,
        old: Option<FlowId>,
        new: Option<FlowId>,
    ) -> SmallVec<[FlowChange; 2]> {
        let mut changes = SmallVec::new();
        if old == new {
            return changes;
        }
        if let Some(new) = new {
            let keys = &mut self.flows.entry(new).or_default().keys;
            if keys.is_empty() {
                changes.push(FlowChange::Bound(new));
            }
            keys.push(key);
        }
        if let Some(old) = old
            && let Some(OnFlow { keys, .. }) = self.flows.get_mut(&old)
        {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.flows.remove(&old);
                changes.push(FlowChange::Unbound(old));
            }
        }
        changes
    }
}
