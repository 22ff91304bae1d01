//! The location service of one shard (RFC 3261 §10.2): agents, their bindings, and the flows that
//! those are reached on.
//!
//! Invariants: every open flow of a binding is in `flows`; every flow in `flows` has a binding;
//! every binding that has or had a push token is in `apps`; an agent without bindings is gone; a binding without a push token has an open flow.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use ahash::RandomState;
use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::proto::aor::{Aor, PackedAor, user_hash};
use crate::proto::push::params::PushParams;
use crate::proto::registration::binding::{Binding, NewBinding};
use crate::proto::registration::moment::Moment;
use crate::proto::registration::shape::Shapes;
use crate::proto::sip::{NameAddr, Uri};
use crate::proto::{AorId, AppId, BindingId, BindingKey, Flow, FlowId};

/// An agent with at least one binding.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Its number.
    pub id: AorId,
    /// Its name.
    pub aor: PackedAor,
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

    fn binding_mut(&mut self, id: BindingId) -> Option<&mut Binding> {
        self.bindings.iter_mut().find(|binding| binding.id == id)
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
        (contact, flow): (&[u8], FlowId),
    ) -> Option<BindingId> {
        let same_reg_id = || {
            let bindings = self.bindings.iter();
            bindings.filter(|binding| binding.reg_id() == reg_id)
        };
        // Nearly always.
        let same_contact = || {
            let is_named = instance.is_some() || push.is_some();
            same_reg_id().find(|b| is_named && b.is_named_by(contact))
        };
        let same_instance =
            || same_reg_id().find(|b| instance.is_some_and(|instance| b.is_instance(instance)));
        let same_token = || {
            let push = push?;
            same_reg_id().find(|b| b.push().is_some_and(|b| b.wakes_same_app(push)))
        };
        let same_place = || {
            let own = NameAddr::parse(contact).ok()?.parse_uri().ok()?;
            same_reg_id()
                .filter(|b| b.last_flow().id == flow)
                .find(|b| {
                    Uri::parse(&b.contact_uri()).is_ok_and(|uri| {
                        (uri.user, uri.host, uri.port) == (own.user, own.host, own.port)
                    })
                })
        };
        let same = same_contact().or_else(same_instance).or_else(same_token);
        Some(same.or_else(same_place)?.id)
    }
}

/// The place of an agent in the shard's memory; what the indexes hold instead of its number.
type Slot = u32;

/// The location service.
#[derive(Debug, Default)]
pub struct LocationService {
    agents: Slab<Agent>,
    /// Agents by their numbers.
    numbers: HashTable<Slot>,
    /// Agents by their users, for requests that name no number.
    users: HashTable<Slot>,
    /// Who has registered an app on a phone that can be pushed, by its token and by its instance:
    /// half of the app's number, and the agent, once for each binding.
    apps: HashTable<(u32, Slot)>,
    /// Who is reached on a flow.
    flows: HashMap<FlowId, OnFlow, RandomState>,
    /// When bindings have to be looked at; the second half of the binding's number tells those
    /// of an agent apart.
    due: BTreeSet<(Moment, Slot, u32)>,
    /// What Contacts have in common.
    shapes: Shapes,
    /// How many bindings there are.
    count: usize,
    /// How many entries `flows` has in all.
    awake: usize,
}

/// A binding that another took the place of.
#[derive(Clone, Copy, Debug)]
pub struct Replaced {
    /// The flow on which it could be reached.
    pub flow: Option<Flow>,
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
        self.at(self.slot(id)?)
    }

    fn agent_mut(&mut self, id: AorId) -> Option<&mut Agent> {
        let slot = self.slot(id)?;
        self.agents.get_mut(slot as usize)
    }

    fn slot(&self, id: AorId) -> Option<Slot> {
        let is_it = |slot: &Slot| self.at(*slot).is_some_and(|agent| agent.id == id);
        self.numbers.find(id.0, is_it).copied()
    }

    fn at(&self, slot: Slot) -> Option<&Agent> {
        self.agents.get(slot as usize)
    }

    /// All agents, in no order.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> + '_ {
        self.agents.iter().map(|(_, agent)| agent)
    }

    /// The agents of an upstream with that user, whatever their domain.
    pub fn agents_of_user<'l>(
        &'l self,
        upstream: u16,
        user: &'l str,
    ) -> impl Iterator<Item = AorId> + 'l {
        self.users
            .iter_hash(spread(user_hash(user.as_bytes())))
            .filter_map(|slot| self.at(*slot))
            .filter(move |agent| agent.upstream == upstream && agent.aor.user() == user)
            .map(|agent| agent.id)
    }

    /// The binding of that name.
    #[must_use]
    pub fn binding(&self, key: BindingKey) -> Option<&Binding> {
        self.agent(key.aor)?.binding(key.binding)
    }

    /// The binding of that name, to change what is not indexed: not its flow.
    pub fn binding_mut(&mut self, key: BindingKey) -> Option<&mut Binding> {
        self.agent_mut(key.aor)?.binding_mut(key.binding)
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
        binding.last_heard().max(flow.and_then(|on| on.heard))
    }

    /// The bindings of the same device: those that share its instance-id (RFC 5626 §4.1), itself
    /// included.
    #[must_use]
    pub fn same_device(&self, key: BindingKey) -> SmallVec<[BindingKey; 2]> {
        let Some(agent) = self.agent(key.aor) else {
            return SmallVec::new();
        };
        let is_it = |b: &&Binding| b.id == key.binding;
        let of = |binding: &Binding| BindingKey {
            aor: key.aor,
            binding: binding.id,
        };
        if let [_] = agent.bindings.as_slice() {
            return agent.bindings.iter().filter(is_it).map(of).collect();
        }
        let instance = agent.binding(key.binding).and_then(Binding::instance);
        let is_same = |b: &&Binding| instance.as_ref().is_some_and(|own| b.is_instance(own));
        agent
            .bindings
            .iter()
            .filter(|b| is_it(b) || is_same(b))
            .map(of)
            .collect()
    }

    /// Adds a binding or replaces the one of the same number; returns what was there, and
    /// what has changed about flows.
    pub fn put(
        &mut self,
        aor: &Aor,
        upstream: u16,
        new: NewBinding,
    ) -> (Option<Replaced>, SmallVec<[FlowChange; 2]>) {
        let id = aor.id();
        let key = BindingKey {
            aor: id,
            binding: new.id,
        };
        let slot = self.slot(id).unwrap_or_else(|| self.enter(aor, upstream));
        let old = self.at(slot).and_then(|agent| agent.binding(new.id));
        let new_flow = new.is_flow_open.then_some(new.last_flow.id);
        if old.is_some_and(|old| old.says_same(&new)) {
            return self.renew(slot, key, upstream, (&new, new_flow));
        }
        let (old_apps, new_apps) = (old.map(Binding::apps).unwrap_or_default(), new.apps());
        let mut binding = Binding::pack(new, &mut self.shapes);
        let Some(agent) = self.agents.get_mut(slot as usize) else {
            return (None, SmallVec::new());
        };
        agent.upstream = upstream;
        let old = match agent.binding_mut(binding.id) {
            Some(place) => {
                binding.set_last_call(place.last_call());
                binding.set_due(place.due());
                Some(std::mem::replace(place, binding))
            }
            None => {
                agent.bindings.push(binding);
                self.count += 1;
                None
            }
        };
        self.move_apps(slot, &old_apps, &new_apps);
        if let Some(old) = &old {
            self.shapes.release(old.packed());
        }
        let old_flow = old.as_ref().and_then(Binding::flow).map(|flow| flow.id);
        let changes = self.move_flow(key, old_flow, new_flow);
        let old = old.map(|old| Replaced { flow: old.flow() });
        (old, changes)
    }

    /// A REGISTER of a device that said the same of itself before.
    fn renew(
        &mut self,
        slot: Slot,
        key: BindingKey,
        upstream: u16,
        (new, new_flow): (&NewBinding, Option<FlowId>),
    ) -> (Option<Replaced>, SmallVec<[FlowChange; 2]>) {
        let Some(agent) = self.agents.get_mut(slot as usize) else {
            return (None, SmallVec::new());
        };
        agent.upstream = upstream;
        let Some(binding) = agent.binding_mut(new.id) else {
            return (None, SmallVec::new());
        };
        let flow = binding.flow();
        let left = binding.renew(new, &mut self.shapes);
        if let Some(left) = left {
            self.shapes.release(&left);
        }
        let changes = self.move_flow(key, flow.map(|flow| flow.id), new_flow);
        (Some(Replaced { flow }), changes)
    }

    /// Makes room for an agent.
    fn enter(&mut self, aor: &Aor, upstream: u16) -> Slot {
        let id = aor.id();
        let slot = self.agents.insert(Agent {
            id,
            aor: aor.into(),
            upstream,
            bindings: SmallVec::new(),
        });
        // Four thousand million agents do not fit into memory.
        let slot = Slot::try_from(slot).unwrap_or(Slot::MAX);
        let agents = &self.agents;
        let number = |slot: &Slot| agents.get(*slot as usize).map_or(0, |agent| agent.id.0);
        self.numbers.insert_unique(id.0, slot, number);
        let user = |slot: &Slot| spread(high(number(slot)));
        self.users.insert_unique(spread(high(id.0)), slot, user);
        slot
    }

    /// Takes a binding out.
    pub fn remove(&mut self, key: BindingKey) -> Option<(Aor, Flow, Option<FlowChange>)> {
        let slot = self.slot(key.aor)?;
        let agent = self.agents.get_mut(slot as usize)?;
        let is_it = |binding: &Binding| binding.id == key.binding;
        let at = agent.bindings.iter().position(is_it)?;
        let binding = agent.bindings.remove(at);
        let aor = agent.aor.unpack();
        self.count -= 1;
        if let Some(due) = binding.due() {
            self.due.remove(&(due, slot, low(key.binding)));
        }
        self.move_apps(slot, &binding.apps(), &[]);
        if agent_is_empty(&self.agents, slot) {
            self.leave(key.aor, slot);
        }
        self.shapes.release(binding.packed());
        let flow = binding.flow().map(|flow| flow.id);
        let change = self.move_flow(key, flow, None).pop();
        Some((aor, binding.last_flow(), change))
    }

    fn leave(&mut self, id: AorId, slot: Slot) {
        for (table, hash) in [
            (&mut self.numbers, id.0),
            (&mut self.users, spread(high(id.0))),
        ] {
            if let Ok(entry) = table.find_entry(hash, |other| *other == slot) {
                entry.remove();
            }
        }
        self.agents.try_remove(slot as usize);
    }

    /// The bindings of others than an agent that have an app on a phone, by its token or by its
    /// instance.
    #[must_use]
    pub fn with_app(&self, app: AppId, but: AorId) -> SmallVec<[BindingKey; 1]> {
        let mut keys = SmallVec::new();
        for (_, slot) in self
            .apps
            .iter_hash(spread(high(app.0)))
            .filter(|(a, _)| *a == high(app.0))
        {
            let Some(agent) = self.at(*slot).filter(|agent| agent.id != but) else {
                continue;
            };
            let has_it = |binding: &&Binding| binding.apps().contains(&app);
            keys.extend(
                agent
                    .bindings
                    .iter()
                    .filter(has_it)
                    .map(|binding| BindingKey {
                        aor: agent.id,
                        binding: binding.id,
                    }),
            );
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Forgets how to wake a device.
    pub fn forget_push(&mut self, key: BindingKey) {
        if let Some(binding) = self.binding_mut(key) {
            binding.forget_push();
        }
    }

    /// Marks the binding's flow as gone.
    pub fn close_flow(&mut self, key: BindingKey) -> Option<FlowChange> {
        let flow = self.binding(key)?.flow()?.id;
        let heard = self.flows.get(&flow).and_then(|on| on.heard);
        let binding = self.binding_mut(key)?;
        binding.set_last_heard(binding.last_heard().max(heard));
        binding.is_flow_open = false;
        self.move_flow(key, Some(flow), None).pop()
    }

    /// How many bindings there are, and how many of them have an open flow.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        (self.count, self.awake)
    }

    /// Has a binding looked at then, and not before.
    pub fn schedule(&mut self, key: BindingKey, at: Instant) {
        let Some(slot) = self.slot(key.aor) else {
            return;
        };
        let Some(binding) = self.binding_mut(key) else {
            return;
        };
        let (new, old) = (Moment::from(at), binding.due());
        binding.set_due(Some(new));
        let entry = |at| (at, slot, low(key.binding));
        if let Some(old) = old.filter(|old| *old != new) {
            self.due.remove(&entry(old));
        }
        if old != Some(new) {
            self.due.insert(entry(new));
        }
    }

    /// When the first binding has to be looked at.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| (*at).into())
    }

    /// Takes the first binding that has to be looked at by now.
    pub fn pop_due(&mut self, now: Instant) -> Option<BindingKey> {
        let (at, slot, half) = *self.due.first()?;
        if Instant::from(at) > now {
            return None;
        }
        self.due.pop_first();
        let agent = self.agents.get_mut(slot as usize)?;
        let is_it = |binding: &&mut Binding| low(binding.id) == half && binding.due() == Some(at);
        let binding = agent.bindings.iter_mut().find(is_it)?;
        binding.set_due(None);
        Some(BindingKey {
            aor: agent.id,
            binding: binding.id,
        })
    }

    /// When each binding has to be looked at: for invariant checks.
    pub fn dues(&self) -> impl Iterator<Item = (Instant, BindingKey)> + '_ {
        self.agents.iter().flat_map(|(_, agent)| {
            agent.bindings.iter().filter_map(|binding| {
                let key = BindingKey {
                    aor: agent.id,
                    binding: binding.id,
                };
                Some((binding.due()?.into(), key))
            })
        })
    }

    fn move_apps(&mut self, slot: Slot, old: &[AppId], new: &[AppId]) {
        for app in new.iter().filter(|app| !old.contains(app)) {
            let entry = (high(app.0), slot);
            self.apps
                .insert_unique(spread(high(app.0)), entry, |(app, _)| spread(*app));
        }
        for app in old.iter().filter(|app| !new.contains(app)) {
            let entry = (high(app.0), slot);
            if let Ok(found) = self
                .apps
                .find_entry(spread(high(app.0)), |other| *other == entry)
            {
                found.remove();
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
            self.awake += 1;
        }
        if let Some(old) = old
            && let Some(OnFlow { keys, .. }) = self.flows.get_mut(&old)
        {
            let before = keys.len();
            keys.retain(|other| *other != key);
            self.awake -= before - keys.len();
            if keys.is_empty() {
                self.flows.remove(&old);
                changes.push(FlowChange::Unbound(old));
            }
        }
        changes
    }
}

fn agent_is_empty(agents: &Slab<Agent>, slot: Slot) -> bool {
    let agent = agents.get(slot as usize);
    agent.is_none_or(|agent| agent.bindings.is_empty())
}

const fn high(number: u64) -> u32 {
    (number >> 32) as u32
}

const fn low(binding: BindingId) -> u32 {
    (binding.0 & 0xffff_ffff) as u32
}

/// A hash for a table of half a number.
const fn spread(half: u32) -> u64 {
    (half as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
