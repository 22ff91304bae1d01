//! Driving a REGISTER (RFC 3261 §10, RFC 8599 §5.6): relayed to the upstream, made durable on its
//! 2xx, answered, and only then whoever waited for the device goes on.

use std::time::Duration;

use smallvec::{SmallVec, smallvec};

use crate::proto::aor::Aor;
use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::{
    Branch, Change, Granted, Hold, Kind, Phase, Registration, ResponseContext, Target,
};
use crate::proto::registration::asked::Asked;
use crate::proto::registration::binding::{Binding, NewBinding};
use crate::proto::registration::location::Agent;
use crate::proto::registration::outbound;
use crate::proto::registration::relay::{Ask, DeviceAsk, Relay};
use crate::proto::reject::Reject;
use crate::proto::settings::ContactMode;
use crate::proto::sip::{Decimal, Edit, HeaderName, Message};
use crate::proto::transaction::ServerId;
use crate::proto::{
    AorId, BindingId, BindingKey, Claim, Event, Flow, Output, StoreTicket, StoreWrite,
};

impl Proxy {
    /// Relays a REGISTER.
    pub(super) fn register(
        &mut self,
        fx: &mut Effects<'_>,
        flow: Flow,
        request: &Message,
        server: ServerId,
    ) -> Result<(), Reject> {
        self.preprocess(request)?;
        // None that it names is followed, and none is Asterisk's business.
        let own_routes = request.routes().count();
        let (relay, upstream) = self.read_register(&flow, request)?;
        self.admit_register(fx, &flow, request, &relay)?;
        self.check_device_limit(&relay)?;
        let hops = self.upstreams.hops(fx.now, upstream);
        if hops.is_empty() {
            return Err(Reject::NoUpstream);
        }
        let id = self.contexts.reserve();
        if relay.adds() {
            let under_way = self.registering.entry(relay.aor.id()).or_default();
            under_way.push(id);
        }
        let registration = Box::new(Registration {
            relay,
            granted: None,
        });
        let context = Box::new(ResponseContext {
            id,
            server,
            request: request.clone(),
            flow,
            started: fx.now,
            kind: Kind::Register(registration),
            phase: Phase::Open,
            branches: smallvec![Branch::new(Target::Upstream { hops, next: 0 }, 1000)],
            best: None,
            own_routes,
            strict_uri: None,
            is_in_dialog: false,
            hold: Hold::Brief { is_pushed: false },
            kept: 0,
            held: None,
            wake_by: None,
            is_elsewhere: false,
        });
        self.open(fx, context);
        Ok(())
    }

    fn check_device_limit(&self, relay: &Relay) -> Result<(), Reject> {
        let Ask::Devices(devices) = &relay.ask else {
            return Ok(());
        };
        let agent = self.location.agent(relay.aor.id());
        let known = |id: BindingId| agent.is_some_and(|agent| agent.binding(id).is_some());
        let new = devices
            .iter()
            .filter(|device| device.expires > 0 && !known(device.id))
            .count();
        let total = agent.map_or(0, |agent| agent.bindings.len()) + new;
        if new > 0 && total > self.settings.limits.devices_per_agent {
            return Err(Reject::TooManyDevices);
        }
        Ok(())
    }

    /// The REGISTER is over, one way or the other.
    pub(super) fn forget_registering(&mut self, fx: &mut Effects<'_>, context: &ResponseContext) {
        let Kind::Register(registration) = &context.kind else {
            return;
        };
        if !registration.relay.adds() {
            return;
        }
        let id = registration.relay.aor.id();
        if let Some(under_way) = self.registering.get_mut(&id) {
            under_way.retain(|other| *other != context.id);
            if under_way.is_empty() {
                self.registering.remove(&id);
                self.end_overtaking(fx, id);
            }
        }
    }

    /// Whether a context waits for the store.
    pub(super) fn awaits_store(&self, context: &ResponseContext) -> bool {
        match &context.kind {
            Kind::Register(registration) => registration.granted.is_some(),
            Kind::Invite | Kind::NonInvite => false,
        }
    }

    /// The upstream answered a REGISTER.
    pub(super) fn on_register_answered(
        &mut self,
        fx: &mut Effects<'_>,
        context: &mut ResponseContext,
        status: u16,
        response: &Message,
    ) {
        if !(200..=299).contains(&status) {
            self.pass_on_refusal(fx, context, status, response);
            self.answered(fx, context, status);
            if !provokes_another(status, response) {
                self.on_register_refused(fx, context);
            }
            return;
        }
        let (flow, asked) = (context.flow, context.asked());
        let Kind::Register(registration) = &mut context.kind else {
            return;
        };
        let relay = &registration.relay;
        let granted = granted(relay, response);
        let purr = self.purr_for(fx, relay);
        let purr = purr.as_deref();
        let Some(bytes) = write_success(fx, relay, response, flow, &granted, purr) else {
            return;
        };
        report_shortened(fx, relay, &granted);
        let changes = self.changes(fx, relay, (flow, asked), &granted);
        let outstanding = changes.len();
        let (writes, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let is_awaited = self.is_awaited(relay);
        for write in writes {
            self.last_ticket += 1;
            let ticket = StoreTicket {
                shard: self.shard,
                number: self.last_ticket,
                is_awaited,
            };
            self.tickets.insert(self.last_ticket, context.id);
            fx.output(Output::Store {
                ticket: Some(ticket),
                write,
            });
        }
        // Asterisk has the contact from here on, and sends NOTIFY right behind its 200: the device
        // is known before the write is durable, only its phone's 200 waits.
        let (present, leaving) = self.put_present(fx, &relay.aor, relay.upstream, changes);
        registration.granted = Some(Granted {
            response: bytes,
            present,
            leaving,
            outstanding,
            is_durable: true,
        });
        if outstanding == 0 {
            self.grant(fx, context);
        }
    }

    /// Whether a call waits for a device of a REGISTER.
    fn is_awaited(&self, relay: &Relay) -> bool {
        let Ask::Devices(devices) = &relay.ask else {
            return false;
        };
        devices.iter().any(|device| {
            let key = BindingKey {
                aor: relay.aor.id(),
                binding: device.id,
            };
            self.by_device.contains_key(&key)
        })
    }

    /// A new PURR for the device of a REGISTER that is pushed.
    fn purr_for(&self, fx: &mut Effects<'_>, relay: &Relay) -> Option<String> {
        let Ask::Devices(devices) = &relay.ask else {
            return None;
        };
        let is_pushed = |device: &&DeviceAsk| device.expires > 0 && device.push.is_ok();
        let mut pushed = devices.iter().filter(is_pushed);
        let device = pushed.next()?;
        // It stands beside no Contact: of two it could name either.
        if pushed.next().is_some() {
            return None;
        }
        let key = BindingKey {
            aor: relay.aor.id(),
            binding: device.id,
        };
        Some(self.purrs.make(key, [fx.random(), fx.random()]))
    }

    /// The upstream refused a REGISTER for good: calls that wait for its device wait in vain (RFC
    /// 8599 §5.6.2). Anybody can send such a REGISTER; who knows the device's token is the device.
    fn on_register_refused(&mut self, fx: &mut Effects<'_>, context: &ResponseContext) {
        let Kind::Register(registration) = &context.kind else {
            return;
        };
        let Ask::Devices(devices) = &registration.relay.ask else {
            return;
        };
        for device in devices.iter().filter(|device| device.expires > 0) {
            let key = BindingKey {
                aor: registration.relay.aor.id(),
                binding: device.id,
            };
            let known = self.location.binding(key).and_then(Binding::push);
            let is_proven = device.push.as_ref().is_ok_and(|push| {
                known
                    .as_ref()
                    .is_some_and(|known| known.wakes_same_app(push))
            });
            if !is_proven {
                continue;
            }
            for waiter in self.wakes.waiters(key) {
                self.with_context(fx, waiter.context, |proxy, fx, context| {
                    proxy.on_refused_device(fx, context, waiter.branch);
                });
            }
        }
    }

    /// The claims to an app that this agent did not have before.
    fn claims(&self, aor: AorId, binding: &NewBinding) -> SmallVec<[Claim; 2]> {
        let by = BindingKey {
            aor,
            binding: binding.id,
        };
        let old = self.location.binding(by).map(Binding::apps);
        let old = old.unwrap_or_default();
        let apps = binding.apps().into_iter().filter(|app| !old.contains(app));
        apps.map(|app| binding.claim(aor, app)).collect()
    }

    /// Makes known the devices that are there; returns them, and those that go.
    fn put_present(
        &mut self,
        fx: &mut Effects<'_>,
        aor: &Aor,
        upstream: u16,
        changes: Vec<Change>,
    ) -> (Vec<BindingKey>, Vec<BindingId>) {
        let (mut present, mut leaving) = (Vec::new(), Vec::new());
        for change in changes {
            match change {
                Change::Put { binding, is_known } => {
                    let mut claims = SmallVec::new();
                    if !is_known {
                        self.drop_twin(fx, aor.id(), &binding);
                        claims = self.claims(aor.id(), &binding);
                    }
                    present.push(self.put_binding(fx, aor, upstream, *binding));
                    for claim in claims {
                        self.claim(fx, claim);
                    }
                }
                Change::Remove(binding) => leaving.push(binding),
                Change::Again => {}
            }
        }
        (present, leaving)
    }

    /// Takes away what the same device was granted as another by a REGISTER that was under way with
    /// this one: neither could know of the other.
    fn drop_twin(&mut self, fx: &mut Effects<'_>, aor: AorId, binding: &NewBinding) {
        let place = (&binding.contact[..], binding.last_flow.id);
        let (instance, push) = (binding.instance.as_deref(), binding.push.as_ref());
        let agent = self.location.agent(aor);
        let twin = agent.and_then(|a| a.number_of(instance, binding.reg_id, push, place));
        if let Some(twin) = twin.filter(|twin| *twin != binding.id) {
            self.remove_binding(fx, BindingKey { aor, binding: twin });
        }
    }

    /// What the upstream's 2xx changes, and how that is written down.
    fn changes(
        &self,
        fx: &Effects<'_>,
        relay: &Relay,
        (flow, asked): (Flow, Asked),
        granted: &[(BindingId, u32)],
    ) -> Vec<(StoreWrite, Change)> {
        let aor = relay.aor.id();
        let agent = self.location.agent(aor);
        let devices = match &relay.ask {
            Ask::Query => return Vec::new(),
            Ask::RemoveAll => {
                let bindings = agent
                    .map(|agent| agent.bindings.as_slice())
                    .unwrap_or_default();
                let leaving = bindings.iter();
                let leaving = leaving.filter(|binding| !binding.came_after(asked));
                return leaving.map(|binding| removal(aor, binding.id)).collect();
            }
            Ask::Devices(devices) => devices,
        };
        let mut changes = Vec::new();
        for (device, (_, expires)) in devices.iter().zip(granted) {
            if *expires == 0 {
                let known = agent.and_then(|agent| agent.binding(device.id));
                if known.is_some_and(|known| !known.came_after(asked)) {
                    changes.push(removal(aor, device.id));
                }
                continue;
            }
            let binding = binding_of(fx, device, (flow, asked), *expires);
            let known = agent.and_then(|agent| agent.binding(binding.id));
            let known = known.filter(|known| known.says_same(&binding));
            if let Some(later) = agent.and_then(|agent| overtaken_by(agent, &binding, known)) {
                if later.awaits_store {
                    let key = BindingKey {
                        aor,
                        binding: later.id,
                    };
                    let write = self
                        .stored(key)
                        .map(|stored| StoreWrite::Put(stored.into()));
                    changes.extend(write.map(|write| (write, Change::Again)));
                }
                continue;
            }
            let write = self.write_of(relay, &binding, known);
            let (binding, is_known) = (binding.into(), known.is_some());
            changes.push((write, Change::Put { binding, is_known }));
        }
        changes
    }

    /// The smallest write of a binding: only its times if nothing else changed.
    fn write_of(&self, relay: &Relay, binding: &NewBinding, known: Option<&Binding>) -> StoreWrite {
        let is_there = |old: &Binding| old.last_flow() == binding.last_flow;
        if known.is_some_and(|old| old.is_durable && is_there(old)) {
            return StoreWrite::Extend {
                key: BindingKey {
                    aor: relay.aor.id(),
                    binding: binding.id,
                },
                expires_unix: self.unix_seconds(binding.expires),
                registered_ms: binding.registered_ms,
            };
        }
        let stored = self.stored_of(&relay.aor, relay.upstream, binding);
        StoreWrite::Put(stored.into())
    }

    /// The store answered a write.
    pub(in crate::proto) fn on_stored(
        &mut self,
        fx: &mut Effects<'_>,
        ticket: StoreTicket,
        durable: bool,
    ) {
        let Some(context) = self.tickets.remove(&ticket.number) else {
            return;
        };
        self.with_context(fx, context, |proxy, fx, context| {
            let Kind::Register(registration) = &mut context.kind else {
                return;
            };
            let Some(granted) = &mut registration.granted else {
                return;
            };
            granted.outstanding = granted.outstanding.saturating_sub(1);
            granted.is_durable &= durable;
            if granted.outstanding == 0 {
                proxy.grant(fx, context);
            }
        });
    }

    /// Answers the phone, lets go those that leave, and lets go on who waited.
    fn grant(&mut self, fx: &mut Effects<'_>, context: &mut ResponseContext) {
        let asked = context.asked();
        let Kind::Register(registration) = &mut context.kind else {
            return;
        };
        let Some(granted) = registration.granted.take() else {
            return;
        };
        let aor = registration.relay.aor.clone();
        for binding in granted.leaving {
            let key = BindingKey {
                aor: aor.id(),
                binding,
            };
            // It has registered again while the store was writing this.
            let binding = self.location.binding(key);
            if binding.is_some_and(|binding| binding.came_after(asked)) {
                continue;
            }
            self.drop_binding(fx, key);
            fx.event(Event::Unregistered {
                key,
                aor: aor.to_string().into(),
            });
        }
        if let Ask::Devices(devices) = &registration.relay.ask {
            for reason in devices
                .iter()
                .filter_map(|device| device.push.as_ref().err())
            {
                fx.event(Event::NoPush {
                    aor: aor.to_string().into(),
                    reason: *reason,
                });
            }
        }
        for key in &granted.present {
            if let Some(binding) = self.location.binding_mut(*key) {
                binding.is_durable = granted.is_durable;
                binding.awaits_store = false;
            }
        }
        if granted.is_durable {
            self.transactions
                .respond(fx, context.server, 200, granted.response);
            self.answered(fx, context, 200);
        } else {
            // The device is known here, but a 2xx would promise what a restart may break.
            fx.event(Event::StoreFailed);
            let (flow, request) = (context.flow, context.request.clone());
            self.refuse(fx, &flow, &request, context.server, Reject::NotDurable);
            self.answered(fx, context, 503);
        }
        for key in granted.present {
            self.release(fx, key);
        }
    }
}

fn removal(aor: AorId, binding: BindingId) -> (StoreWrite, Change) {
    let key = BindingKey { aor, binding };
    (StoreWrite::Remove(key), Change::Remove(binding))
}

/// Whether an answer to a REGISTER makes its sender try again.
fn provokes_another(status: u16, response: &Message) -> bool {
    matches!(status, 300..=399 | 401 | 407 | 423 | 439)
        || response.header(HeaderName::RetryAfter).is_some()
}

/// What the upstream granted each device that the REGISTER names, in its order.
fn granted(relay: &Relay, response: &Message) -> Vec<(BindingId, u32)> {
    match &relay.ask {
        Ask::Query | Ask::RemoveAll => Vec::new(),
        Ask::Devices(devices) => devices
            .iter()
            .map(|device| (device.id, relay.granted(response, device)))
            .collect(),
    }
}

/// Says whose time the upstream cut.
fn report_shortened(fx: &mut Effects<'_>, relay: &Relay, granted: &[(BindingId, u32)]) {
    let Ask::Devices(devices) = &relay.ask else {
        return;
    };
    for (device, (_, granted)) in devices.iter().zip(granted) {
        if device.push.is_ok() && *granted < device.expires {
            fx.event(Event::Shortened {
                aor: relay.aor.to_string().into(),
                asked: device.expires,
                granted: *granted,
            });
        }
    }
}

/// The 2xx to the phone: its own Contacts, without our Path (RFC 3327 §5.3 leaves the echo to the
/// registrar's path; the phone is not on it).
fn write_success(
    fx: &mut Effects<'_>,
    relay: &Relay,
    response: &Message,
    flow: Flow,
    granted: &[(BindingId, u32)],
    purr: Option<&str>,
) -> Option<bytes::Bytes> {
    if response.values(HeaderName::Via).nth(1).is_none() {
        fx.event(Event::Dropped {
            place: crate::proto::event::Drop::NoNextVia,
            flow: None,
        });
        return None;
    }
    let mut edit = Edit::new(response);
    edit.remove_value(HeaderName::Via, 0);
    edit.remove(HeaderName::Contact);
    for contact in relay.phone_contacts(granted) {
        edit.append(HeaderName::Contact, contact);
    }
    let longest = granted.iter().map(|(_, expires)| *expires).max();
    if let (Some(longest), Ok(Some(_))) = (longest, response.expires()) {
        edit.replace(HeaderName::Expires, Decimal(longest));
    }
    for caps in relay.offer.to_device(longest.unwrap_or(u32::MAX), purr) {
        edit.append(HeaderName::FeatureCaps, caps);
    }
    if relay.is_outbound {
        outbound::promise(&mut edit, flow.transport);
    }
    if relay.mode == ContactMode::Path {
        edit.remove(HeaderName::Path);
    }
    Some(edit.finish())
}

fn binding_of(
    fx: &Effects<'_>,
    device: &DeviceAsk,
    (flow, asked): (Flow, Asked),
    expires: u32,
) -> NewBinding {
    NewBinding {
        id: device.id,
        contact: device.contact.clone(),
        instance: device.instance.clone(),
        reg_id: device.reg_id,
        push: device.push.clone().ok(),
        is_as_said: !device.is_entered,
        former_apps: SmallVec::new(),
        last_flow: flow,
        is_durable: false,
        awaits_store: true,
        is_flow_open: true,
        last_heard: Some(fx.now),
        expires: fx.now + Duration::from_secs(u64::from(expires)),
        registered_ms: fx.unix_ms,
        asked,
        q: device.q,
    }
}

/// The device's binding by a REGISTER that arrived later; `known` says the same of the device.
fn overtaken_by<'a>(
    agent: &'a Agent,
    binding: &NewBinding,
    known: Option<&'a Binding>,
) -> Option<&'a Binding> {
    let is_later = |known: &&Binding| known.flow().is_some() && known.came_after(binding.asked);
    if known.is_some() {
        return known.filter(is_later);
    }
    let place = (&binding.contact[..], binding.last_flow.id);
    let (instance, push) = (binding.instance.as_deref(), binding.push.as_ref());
    let same = agent.number_of(instance, binding.reg_id, push, place);
    [Some(binding.id), same]
        .into_iter()
        .flatten()
        .filter_map(|id| agent.binding(id))
        .find(is_later)
}
