//! Registrations of devices that sleep are refreshed by the gateway itself, with the agent's
//! credentials (RFC 3261 §10.2.4): a phone that slept for days is still called. What a device says
//! of itself always counts more.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use ahash::RandomState;
use bytes::Bytes;
use smallvec::smallvec;

use crate::proto::effects::Effects;
use crate::proto::proxy::Proxy;
use crate::proto::proxy::response_context::Leg;
use crate::proto::proxy::upstream::UpstreamHop;
use crate::proto::push::Notice;
use crate::proto::registration::binding::Binding;
use crate::proto::registration::flow::{FlowToken, NO_NODE};
use crate::proto::registration::keep::{KeepFailure, Next, Refresh};
use crate::proto::registration::location::Agent;
use crate::proto::registration::offer::Offer;
use crate::proto::registration::relay::{Ask, DeviceAsk, Relay, UpstreamContacts};
use crate::proto::settings::{ContactMode, Keep, Upstream};
use crate::proto::sip::{Message, Text};
use crate::proto::transaction::{ClientEvent, ClientId};
use crate::proto::{AorId, BindingId, BindingKey, Event, Output, StoreWrite};

/// So many registrations are refreshed at once by a shard; others wait for their turn.
const AT_ONCE: usize = 32;

/// The registrations that are being refreshed.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    running: HashMap<ClientId, Job, RandomState>,
    /// Devices that wait for their turn; each is in `active`, so there are no more than devices.
    waiting: VecDeque<BindingKey>,
    /// What is refreshed or waits for it: devices, or agents (number 0) whose devices share a Contact.
    active: HashSet<BindingKey, RandomState>,
    /// Agents whose refresh failed for good; no more than agents with credentials.
    stopped: HashSet<AorId, RandomState>,
}

/// One refresh under way.
#[derive(Debug)]
struct Job {
    key: BindingKey,
    begun: Instant,
    refresh: Refresh,
    hops: Vec<UpstreamHop>,
    next: usize,
    /// It takes a Contact away that is nobody's any more.
    is_removal: bool,
}

impl Keeping {
    /// How many are under way or wait, for invariant checks.
    pub(super) fn count(&self) -> usize {
        self.running.len() + self.waiting.len() + self.active.len()
    }

    /// The credentials are others perhaps.
    pub(super) fn try_again(&mut self) {
        self.stopped.clear();
    }
}

impl Proxy {
    /// The group of a binding whose registration the gateway may refresh, and how.
    pub(super) fn keep_of(
        &self,
        fx: &Effects<'_>,
        (user, aor, upstream): (&str, AorId, u16),
        binding: &Binding,
    ) -> Option<(&Upstream, &Keep)> {
        let group = self.settings.upstreams.get(usize::from(upstream))?;
        let keep = group.keep.as_ref()?;
        let silent = Duration::from_millis(fx.unix_ms.saturating_sub(binding.registered_ms));
        let is_kept = binding.has_push()
            && silent < keep.span
            && keep.secrets.has(user)
            && !self.keeping.stopped.contains(&aor);
        is_kept.then_some((group, keep))
    }

    fn may_keep(&self, fx: &Effects<'_>, agent: &Agent, binding: &Binding) -> bool {
        let whose = (agent.aor.user(), agent.id, agent.upstream);
        self.keep_of(fx, whose, binding).is_some()
    }

    /// Refreshes the registration of a device that sleeps; false if it may not.
    pub(super) fn refresh_itself(&mut self, fx: &mut Effects<'_>, key: BindingKey) -> bool {
        let Some(agent) = self.location.agent(key.aor) else {
            return false;
        };
        let may_keep = agent
            .binding(key.binding)
            .is_some_and(|binding| self.may_keep(fx, agent, binding));
        if self.is_draining || !may_keep {
            return false;
        }
        let subject = self.subject(key, agent.upstream);
        // A REGISTER of its own is under way, or ours is.
        if self.registering.contains_key(&key.aor) || !self.keeping.active.insert(subject) {
            return true;
        }
        self.keeping.waiting.push_back(key);
        self.keep_next(fx);
        true
    }

    /// Begins with as many of those that wait as may be under way.
    fn keep_next(&mut self, fx: &mut Effects<'_>) {
        while self.keeping.running.len() < AT_ONCE {
            let Some(key) = self.keeping.waiting.pop_front() else {
                return;
            };
            match self.job(fx, key) {
                Some(job) => self.send_refresh(fx, job),
                None => self.forget_active(key),
            }
        }
    }

    /// A device's Contact as the upstream knows it: in `agent` its agent's only one.
    fn subject(&self, key: BindingKey, upstream: u16) -> BindingKey {
        match self.mode(upstream) {
            ContactMode::Agent => BindingKey {
                aor: key.aor,
                binding: BindingId(0),
            },
            ContactMode::Device | ContactMode::Path => key,
        }
    }

    fn mode(&self, upstream: u16) -> ContactMode {
        let group = self.settings.upstreams.get(usize::from(upstream));
        group.map_or(ContactMode::Agent, |group| group.contact)
    }

    /// It is neither under way nor waits any more.
    fn forget_active(&mut self, key: BindingKey) {
        let shared = BindingKey {
            aor: key.aor,
            binding: BindingId(0),
        };
        self.keeping.active.remove(&key);
        self.keeping.active.remove(&shared);
    }

    fn job(&self, fx: &mut Effects<'_>, key: BindingKey) -> Option<Job> {
        let agent = self.location.agent(key.aor)?;
        let binding = agent.binding(key.binding)?;
        let whose = (agent.aor.user(), key.aor, agent.upstream);
        let (group, _) = self.keep_of(fx, whose, binding)?;
        let device = DeviceAsk {
            id: binding.id,
            contact: binding.contact(),
            instance: binding.instance(),
            reg_id: binding.reg_id(),
            push: Ok(binding.push()?),
            is_entered: false,
            q: binding.q,
            expires: u32::try_from(group.expires.as_secs()).unwrap_or(u32::MAX),
        };
        let relay = Relay {
            aor: agent.aor.unpack(),
            upstream: agent.upstream,
            mode: group.contact,
            ask: Ask::Devices(smallvec![device]),
            offer: Offer::default(),
            is_outbound: false,
        };
        let hops = self.upstreams.hops(fx.now, agent.upstream);
        let listener = hops.first().map(|hop| hop.listener);
        let listener = listener.and_then(|id| self.upstreams.listener_settings(id));
        // Without an address of the upstream there is nobody to ask: that is told below.
        let host = listener.map_or("rouse", |listener| &listener.advertise_host);
        Some(Job {
            key,
            begun: fx.now,
            refresh: Refresh::new(relay, host, fx.unix_ms, fx.random()),
            hops,
            next: 0,
            is_removal: false,
        })
    }

    fn send_refresh(&mut self, fx: &mut Effects<'_>, job: Job) {
        let Some(leg) = job.hops.get(job.next).map(Leg::upstream) else {
            return self.end_refresh(fx, job, Next::Failed(KeepFailure::Unavailable));
        };
        let client = self.transactions.reserve(fx);
        let branch = client.branch_bytes(self.shard);
        match self.write_refresh(fx, &job.refresh, &leg, &branch) {
            Some(register) => {
                let is_reliable = leg.transport.is_reliable();
                self.transactions
                    .start(fx, client, &register, leg.to, is_reliable);
                self.keeping.running.insert(client, job);
            }
            None => {
                self.transactions.abandon(fx, client);
                self.end_refresh(fx, job, Next::Failed(KeepFailure::Unavailable));
            }
        }
    }

    /// What became of a REGISTER of ours; false if it was none.
    pub(super) fn on_refreshed(
        &mut self,
        fx: &mut Effects<'_>,
        client: ClientId,
        event: ClientEvent,
        response: Option<&Message>,
    ) -> bool {
        if event == ClientEvent::Provisional {
            return self.keeping.running.contains_key(&client);
        }
        let Some(mut job) = self.keeping.running.remove(&client) else {
            return false;
        };
        let node = job.hops.get(job.next).map(|hop| hop.node);
        let response = response.filter(|response| response.status() != Some(503));
        let Some(response) = response else {
            if let Some(node) = node {
                self.on_node_silent(fx, node);
            }
            job.next += 1;
            job.refresh.start_over();
            self.send_refresh(fx, job);
            self.keep_next(fx);
            return true;
        };
        if let Some(node) = node {
            self.upstreams.absolve(node);
        }
        let group = self
            .settings
            .upstreams
            .get(usize::from(job.refresh.relay.upstream));
        let secrets = group
            .and_then(|group| group.keep.as_ref())
            .map(|keep| &keep.secrets);
        let random = [fx.random(), fx.random()];
        let next = match secrets {
            Some(secrets) => job.refresh.on_answer(response, secrets, random),
            None => Next::Failed(KeepFailure::NoCredentials),
        };
        match next {
            Next::Again => self.send_refresh(fx, job),
            Next::Granted(_) | Next::Failed(_) => self.end_refresh(fx, job, next),
        }
        self.keep_next(fx);
        true
    }

    fn end_refresh(&mut self, fx: &mut Effects<'_>, mut job: Job, next: Next) {
        let is_there = self.location.binding(job.key).is_some();
        let is_shared = job.refresh.relay.mode == ContactMode::Agent;
        let is_held = is_shared && self.location.agent(job.key.aor).is_some();
        if let (Next::Granted(1..), false, false, false) = (next, is_there, is_held, job.is_removal)
        {
            // Its device has left while ours was on the way, which perhaps came after.
            if let Ask::Devices(devices) = &mut job.refresh.relay.ask {
                devices.iter_mut().for_each(|device| device.expires = 0);
            }
            job.is_removal = true;
            job.refresh.start_over();
            return self.send_refresh(fx, job);
        }
        self.forget_active(job.key);
        match next {
            _ if job.is_removal => {}
            Next::Granted(seconds @ 1..) => self.extend(fx, &job, seconds, is_shared),
            Next::Granted(0) | Next::Again => {
                self.on_not_refreshed(fx, &job, KeepFailure::Unavailable)
            }
            Next::Failed(failure) => self.on_not_refreshed(fx, &job, failure),
        }
    }

    /// The registrar knows the device for longer.
    fn extend(&mut self, fx: &mut Effects<'_>, job: &Job, seconds: u32, is_shared: bool) {
        let Some(agent) = self.location.agent(job.key.aor) else {
            return;
        };
        let until = fx.now + Duration::from_secs(seconds.into());
        let is_meant = |binding: &&Binding| {
            let is_own = binding.id == job.key.binding;
            let is_asleep = !binding.is_awake(fx.now, self.location.last_heard(binding));
            // Who registered since has his own time.
            let has_come = binding.asked().at > job.begun;
            let is_kept = is_own || (is_shared && is_asleep && self.may_keep(fx, agent, binding));
            is_kept && !has_come && binding.expires() < until
        };
        let meant: Vec<BindingId> = agent
            .bindings
            .iter()
            .filter(is_meant)
            .map(|binding| binding.id)
            .collect();
        let aor: Box<str> = agent.aor.to_string().into();
        for binding in meant {
            let key = BindingKey {
                aor: job.key.aor,
                binding,
            };
            self.set_expiry(fx, key, until);
            let expires = until.saturating_duration_since(fx.now);
            fx.event(Event::Refreshed {
                key,
                aor: aor.clone(),
                expires,
            });
        }
    }

    fn set_expiry(&mut self, fx: &mut Effects<'_>, key: BindingKey, until: Instant) {
        let Some(binding) = self.location.binding_mut(key) else {
            return;
        };
        binding.set_expires(until);
        let is_durable = binding.is_durable;
        self.schedule_first(fx, key);
        let Some(stored) = self.stored(key) else {
            return;
        };
        let write = if is_durable {
            StoreWrite::Extend {
                key,
                expires_unix: stored.expires_unix,
                registered_ms: stored.registered_ms,
            }
        } else {
            StoreWrite::Put(Box::new(stored))
        };
        fx.output(Output::Store {
            ticket: None,
            write,
        });
    }

    /// The device has to be asked itself: by a push, as without credentials.
    fn on_not_refreshed(&mut self, fx: &mut Effects<'_>, job: &Job, failure: KeepFailure) {
        let aor = job.refresh.relay.aor.to_string().into();
        let key = job.key;
        fx.event(Event::RefreshFailed { key, aor, failure });
        if failure.is_final() {
            self.keeping.stopped.insert(key.aor);
        }
        let Some(binding) = self.location.binding(key) else {
            return;
        };
        let heard = self.location.last_heard(binding);
        let left = binding.expires().saturating_duration_since(fx.now);
        let is_asleep = !binding.is_awake(fx.now, heard);
        let is_time = self.is_push_time(fx, key);
        if is_time && is_asleep && binding.asked().at <= job.begun {
            self.notify(fx, key, Notice::Refresh, left);
        }
    }

    /// The REGISTER: the Contact that the upstream knows, and the Path to it.
    fn write_refresh(
        &self,
        fx: &Effects<'_>,
        refresh: &Refresh,
        leg: &Leg,
        branch: &[u8],
    ) -> Option<Message> {
        let relay = &refresh.relay;
        let our = (leg.listener, leg.transport);
        let address = Text::of(self.our_address(our.0, our.1)?).to_string();
        let agent = self.location.agent(relay.aor.id());
        let others = relay.others_stay(agent, fx.now);
        let UpstreamContacts::Ours { values, expires } =
            relay.upstream_contacts(&address, Duration::ZERO, others)
        else {
            return None;
        };
        let via = Text::of(self.via(leg, branch, 0)?);
        let Refresh {
            uri,
            address,
            call_id,
            tag,
            cseq,
            ..
        } = refresh;
        let mut text = format!(
            "REGISTER {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
             From: <{address}>;tag={tag:016x}\r\nTo: <{address}>\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n"
        );
        if let Some((name, value)) = &refresh.credentials {
            text.push_str(&format!("{}: {value}\r\n", name.as_str()));
        }
        if let (ContactMode::Path, Ask::Devices(devices)) = (relay.mode, &relay.ask) {
            let key = BindingKey {
                aor: relay.aor.id(),
                binding: devices.first()?.id,
            };
            let node = leg.node.unwrap_or(NO_NODE);
            let token = self.signer.sign(FlowToken { key, node });
            let path = Text::of(self.route_uri("sip", &token, our)?);
            text.push_str(&format!("Path: {path}\r\nSupported: path\r\n"));
        }
        let contact = values.join(", ");
        text.push_str(&format!(
            "Contact: {contact}\r\nExpires: {expires}\r\nContent-Length: 0\r\n\r\n"
        ));
        Message::parse(Bytes::from(text)).ok()
    }
}
