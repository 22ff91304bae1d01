//! What the operator's API is told: the recorders, the shards' bindings, the counters.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::config::{self, Entry};
use crate::io::admin::view::{
    CallBrief, CallQuery, CallStory, Check, DevicePage, DeviceQuery, DeviceState, DeviceStory,
    DeviceView, EnteredDevice, History, Live, NewDevice, PushReport, PushResult, PushView,
    Readiness, Summary, Watched,
};
use crate::io::admin::{Later, Operator, Unable};
use crate::io::clock::Clock;
use crate::io::pns::Withdrawal;
use crate::proto::push::params::PushParams;
use crate::proto::push::{CallNotice, Notice, PushId, PushRequest, PushTarget};
use crate::proto::registration::binding::Binding;
use crate::proto::registration::location::Agent;
use crate::proto::settings::ConfiguredDevice;
use crate::proto::{BindingKey, Command, Gateway, Input};
use crate::server::control::Control;
use crate::server::entered::{EnterError, number};
use crate::server::history::Samples;
use crate::server::shard::Ask;
use crate::server::world::World;
use crate::telemetry::timeline::{device_id, device_key, restored};

/// Followers of the event stream at a time.
const FOLLOWERS: usize = 32;
/// How long a shard may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many notes of a device are told.
const NOTES: usize = 200;
/// How long a test push is worth delivering.
const LIFETIME: Duration = Duration::from_secs(30);

/// The operator's view of a running gateway.
pub(super) struct Console {
    pub(super) world: Arc<World>,
    pub(super) control: Control,
    pub(super) shards: u16,
    pub(super) started_ms: u64,
    pub(super) upstreams: Vec<Arc<str>>,
    pub(super) gateway_id: String,
    pub(super) is_draining: AtomicBool,
    pub(super) samples: Samples,
}

impl Console {
    /// Whether new calls are refused, at an operator's wish or because the process was asked to end.
    fn is_draining(&self) -> bool {
        let unanswered = self.world.unanswered.borrow();
        self.is_draining.load(Ordering::Relaxed) || unanswered.iter().any(Option::is_some)
    }

    /// Asks one shard.
    async fn ask<T: Send + 'static>(
        &self,
        shard: u16,
        question: impl FnOnce(&Gateway, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |gateway, now| {
            // dropped: whoever asked has gone.
            sender.send(question(gateway, now)).ok();
        });
        let queue = self.world.asks.get(usize::from(shard))?;
        // dropped: a shard with a full queue of questions, or one that has ended, does not answer.
        queue.try_send(ask).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok() // dropped: it did not answer
    }

    async fn list(&self, query: DeviceQuery) -> DevicePage {
        let limit = usize::from(query.limit.unwrap_or(1)).max(1);
        let query = Arc::new(query);
        let mut found: Vec<DeviceView> = Vec::new();
        for shard in 0..self.shards {
            let (wanted, groups) = (Arc::clone(&query), self.upstreams.clone());
            let answer = self.ask(shard, move |gateway, now| {
                select(gateway, now, &wanted, &groups, limit)
            });
            found.extend(answer.await.unwrap_or_default());
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        let is_more = found.len() > limit;
        found.truncate(limit);
        self.add_pushes(&mut found);
        let next = found
            .last()
            .filter(|_| is_more)
            .map(|device| device.id.clone());
        DevicePage {
            devices: found,
            next,
        }
    }

    /// Adds what is remembered of the devices' last pushes.
    fn add_pushes(&self, devices: &mut [DeviceView]) {
        for (shard, recorder) in (0..).zip(&self.world.recorders) {
            let mut own: Vec<(BindingKey, &mut DeviceView)> = devices
                .iter_mut()
                .filter_map(|device| Some((device_key(&device.id)?, device)))
                .filter(|(key, _)| key.aor.shard(self.shards) == shard)
                .collect();
            let keys: Vec<BindingKey> = own.iter().map(|(key, _)| *key).collect();
            let pushes = recorder.lock().last_pushes(&keys);
            for ((_, device), push) in own.iter_mut().zip(pushes) {
                device.last_push = push;
            }
        }
    }

    async fn tell(&self, id: &str) -> Option<DeviceStory> {
        let key = device_key(id)?;
        let shard = key.aor.shard(self.shards);
        let groups = self.upstreams.clone();
        let question = move |gateway: &Gateway, now: Instant| {
            let agent = gateway.location().agent(key.aor)?;
            let binding = agent.binding(key.binding)?;
            Some(view(agent, binding, now, &groups))
        };
        let mut device = self.ask(shard, question).await.flatten();
        if let Some(device) = &mut device {
            self.add_pushes(std::slice::from_mut(device));
        }
        let recorder = self.world.recorders.get(usize::from(shard))?;
        let (mut notes, has_all) = {
            let recorder = recorder.lock();
            (recorder.notes_of(key, NOTES), recorder.has_all_notes())
        };
        if let Some(device) = device.as_ref().filter(|_| has_all && notes.len() < NOTES)
            && let Some(first) = restored(device, &notes, self.started_ms)
        {
            notes.insert(0, first);
        }
        (device.is_some() || !notes.is_empty()).then_some(DeviceStory { device, notes })
    }

    async fn remove(&self, id: &str) -> bool {
        let Some(key) = device_key(id) else {
            return false;
        };
        let shard = key.aor.shard(self.shards);
        let is_there = self.ask(shard, move |gateway, _| {
            gateway.location().binding(key).is_some()
        });
        if is_there.await != Some(true) {
            return false;
        }
        let command = Input::Command(Command::Forget(key));
        self.world.inlet.answer(shard, command).await;
        true
    }

    async fn add(&self, new: NewDevice) -> Result<(EnteredDevice, bool), Unable> {
        let push = self.control.config().settings.push;
        let device = config::entered(
            Entry {
                agent: &new.agent,
                provider: &new.provider,
                param: new.param.as_deref(),
                prid: &new.prid,
                instance: new.instance.as_deref(),
                user_agent: new.user_agent.as_deref(),
            },
            &push,
        )
        .map_err(Unable::Senseless)?;
        let told = entered_view(&device);
        let is_new = self.control.enter(device).await.map_err(unable)?;
        tracing::info!(entry = told.id, is_new, "device entered");
        Ok((told, is_new))
    }

    async fn take_out(&self, name: u64) -> Result<bool, Unable> {
        let was_there = self.control.withdraw(name).await.map_err(unable)?;
        if was_there {
            tracing::info!(entry = format!("{name:016x}"), "entered device removed");
        }
        Ok(was_there)
    }

    async fn test(&self, agent: &str) -> Option<PushReport> {
        let mut targets = Vec::new();
        for shard in 0..self.shards {
            let agent = agent.to_owned();
            let question = move |gateway: &Gateway, _: Instant| targets_of(gateway, &agent);
            targets.extend(
                self.ask(shard, question)
                    .await
                    .flatten()
                    .into_iter()
                    .flatten(),
            );
        }
        if targets.is_empty() {
            return None;
        }
        let mut report = PushReport::default();
        for (number, (key, account, target)) in (0..).zip(targets) {
            let provider = target.pns.label().to_owned();
            let request = self.test_push(number, account, target);
            let began = Clock::now();
            let (_sender, withdrawal) = Withdrawal::new();
            let verdict = self
                .world
                .push
                .load_full()
                .send_unless(request, &withdrawal)
                .await;
            let after = Clock::now().saturating_duration_since(began);
            let (verdict, text) = match verdict {
                Ok(accepted) => (
                    "accepted",
                    format!("the push service took it ({})", accepted.provider_id),
                ),
                Err(error) => (error.label(), error.to_string()),
            };
            report.pushes.push(PushResult {
                device: device_id(key),
                provider,
                verdict: verdict.to_owned(),
                text,
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            });
        }
        Some(report)
    }

    /// A call's push, since that is what shall work, though no call comes of it.
    fn test_push(&self, number: u64, account: String, target: PushTarget) -> PushRequest {
        let now_ms = Clock::unix_ms();
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let notice = CallNotice {
            call_id: format!("test-{now_ms:x}-{number}").into(),
            from_uri: format!("sip:test@{}", self.gateway_id).into(),
            display_name: "Test of the push gateway".into(),
            to: account.into(),
            video: false,
            answered_elsewhere: false,
            sent_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(lifetime),
        };
        PushRequest {
            // No shard has this number: nobody there waits for the verdict.
            id: PushId {
                shard: u16::MAX,
                number,
            },
            target,
            notice: Notice::Call(notice),
            lifetime: LIFETIME,
        }
    }

    async fn look(&self) -> Readiness {
        let mut silent = Vec::new();
        for shard in 0..self.shards {
            if self.ask(shard, |_, _| ()).await.is_none() {
                silent.push(shard);
            }
        }
        let health = &self.world.health;
        let is_draining = self.is_draining();
        let shards = if silent.is_empty() {
            format!("all {} answer", self.shards)
        } else {
            format!("no answer from {silent:?}")
        };
        let checks = vec![
            check("shards", silent.is_empty(), shards),
            health.store(),
            health.upstreams(&self.world.nodes.load()),
            health.push(),
            check(
                "draining",
                !is_draining,
                if is_draining {
                    "new calls are refused"
                } else {
                    "no"
                }
                .to_owned(),
            ),
        ];
        Readiness {
            ready: checks.iter().all(|check| check.ok || check.name == "push"),
            checks,
        }
    }
}

impl Operator for Console {
    fn summary(&self) -> Summary {
        Summary {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ms: self.started_ms,
            now_ms: Clock::unix_ms(),
            shards: self.shards,
            draining: self.is_draining(),
            ..super::summary::of(&self.world.metrics.encode())
        }
    }

    fn history(&self) -> History {
        History {
            samples: self.samples.all(),
        }
    }

    fn calls(&self, query: &CallQuery, before: u64, limit: usize) -> Vec<CallBrief> {
        let mut calls: Vec<CallBrief> = Vec::new();
        for recorder in &self.world.recorders {
            calls.extend(recorder.lock().calls(query, before, limit));
        }
        calls.sort_by(|a, b| b.id.cmp(&a.id));
        calls.truncate(limit);
        calls
    }

    fn call(&self, id: u64) -> Option<CallStory> {
        let mut recorders = self.world.recorders.iter();
        recorders.find_map(|recorder| recorder.lock().call(id))
    }

    fn devices(&self, query: DeviceQuery) -> Later<'_, DevicePage> {
        Box::pin(self.list(query))
    }

    fn device<'a>(&'a self, id: &'a str) -> Later<'a, Option<DeviceStory>> {
        Box::pin(self.tell(id))
    }

    fn remove_device<'a>(&'a self, id: &'a str) -> Later<'a, bool> {
        Box::pin(self.remove(id))
    }

    fn enter(&self, device: NewDevice) -> Later<'_, Result<(EnteredDevice, bool), Unable>> {
        Box::pin(self.add(device))
    }

    fn entered(&self, agent: Option<&str>) -> Vec<EnteredDevice> {
        let devices = self.control.entered();
        let devices = devices.iter().map(entered_view);
        devices
            .filter(|device| agent.is_none_or(|agent| device.agent.contains(agent)))
            .collect()
    }

    fn withdraw(&self, name: u64) -> Later<'_, Result<bool, Unable>> {
        Box::pin(self.take_out(name))
    }

    fn push<'a>(&'a self, agent: &'a str) -> Later<'a, Option<PushReport>> {
        Box::pin(self.test(agent))
    }

    fn reload(&self) {
        self.control.wish_reload();
    }

    fn drain(&self) -> Later<'_, ()> {
        Box::pin(async {
            self.is_draining.store(true, Ordering::Relaxed);
            // Nobody waits here for the calls under way.
            self.control.drain(Duration::ZERO).await;
        })
    }

    fn readiness(&self) -> Later<'_, Readiness> {
        Box::pin(self.look())
    }

    fn metrics(&self) -> String {
        self.world.metrics.encode()
    }

    fn follow(&self) -> Option<broadcast::Receiver<Arc<Live>>> {
        let live = &self.world.live;
        (live.receiver_count() < FOLLOWERS).then(|| live.subscribe())
    }

    fn capture(&self, agent: &str) -> Option<mpsc::Receiver<Bytes>> {
        self.world.lookout.capture(agent)
    }

    fn watch(&self, agent: &str, minutes: u16) -> Option<Watched> {
        let until_ms = Clock::unix_ms().saturating_add(u64::from(minutes) * 60_000);
        let is_watched = self.world.lookout.watch(agent, until_ms);
        let agent = agent.to_owned();
        is_watched.then_some(Watched { agent, until_ms })
    }

    fn unwatch(&self, agent: &str) -> bool {
        self.world.lookout.unwatch(agent)
    }

    fn watched(&self) -> Vec<Watched> {
        self.world.lookout.watched()
    }

    fn lost_follower(&self) {
        self.world.metrics.dropped.of(["event-stream"]).inc();
    }
}

fn check(name: &str, ok: bool, text: String) -> Check {
    Check {
        name: name.to_owned(),
        ok,
        text,
    }
}

/// One more than asked for of a shard's devices, those with the least names; the one more says
/// that there are more.
fn select(
    gateway: &Gateway,
    now: Instant,
    query: &DeviceQuery,
    groups: &[Arc<str>],
    limit: usize,
) -> Vec<DeviceView> {
    let after = query.after.as_deref().and_then(device_key);
    let mut least: BinaryHeap<BindingKey> = BinaryHeap::with_capacity(limit + 2);
    for agent in gateway.location().agents() {
        let is_wanted = query
            .agent
            .as_deref()
            .is_none_or(|wanted| is_named(agent, wanted));
        if !is_wanted {
            continue;
        }
        for binding in &agent.bindings {
            let key = BindingKey {
                aor: agent.id,
                binding: binding.id,
            };
            let is_after = after.is_none_or(|after| key > after);
            let is_in_state = query.state.is_none_or(|state| state == state_of(binding));
            if is_after && is_in_state && binding.expires() > now {
                least.push(key);
            }
            if least.len() > limit + 1 {
                least.pop();
            }
        }
    }
    let location = gateway.location();
    let keys = least.into_sorted_vec().into_iter();
    keys.filter_map(|key| {
        let agent = location.agent(key.aor)?;
        Some(view(agent, agent.binding(key.binding)?, now, groups))
    })
    .collect()
}

/// Whether an agent's name contains this.
fn is_named(agent: &Agent, wanted: &str) -> bool {
    match wanted.split_once('@') {
        Some(_) => agent.aor.to_string().contains(wanted),
        None => agent.aor.user().contains(wanted) || agent.aor.domain().contains(wanted),
    }
}

fn state_of(binding: &Binding) -> DeviceState {
    if binding.flow().is_some() {
        DeviceState::Awake
    } else {
        DeviceState::Asleep
    }
}

fn view(agent: &Agent, binding: &Binding, now: Instant, groups: &[Arc<str>]) -> DeviceView {
    let key = BindingKey {
        aor: agent.id,
        binding: binding.id,
    };
    let left = binding.expires().saturating_duration_since(now);
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let upstream = groups.get(usize::from(agent.upstream));
    DeviceView {
        id: device_id(key),
        agent: agent.aor.to_string(),
        upstream: upstream.map_or_else(String::new, |name| name.to_string()),
        state: state_of(binding),
        instance: binding.instance().map(String::from),
        transport: binding.last_flow().transport.label().to_owned(),
        address: binding.last_flow().remote.to_string(),
        registered_ms: binding.registered_ms,
        expires_ms: Clock::unix_ms().saturating_add(left),
        push: binding.push().as_ref().map(push_view),
        last_push: None,
    }
}

fn push_view(push: &PushParams) -> PushView {
    PushView {
        provider: push.pns.label().to_owned(),
        app: push.app.to_string(),
        token: masked(push.call_token.expose()),
    }
}

fn entered_view(device: &ConfiguredDevice) -> EnteredDevice {
    EnteredDevice {
        id: format!("{:016x}", number(device)),
        agent: match &device.domain {
            Some(domain) => format!("{}@{domain}", device.user),
            None => device.user.to_string(),
        },
        instance: device.instance.as_deref().map(str::to_owned),
        user_agent: device.user_agent.as_deref().map(str::to_owned),
        push: push_view(&device.params),
    }
}

fn unable(error: EnterError) -> Unable {
    match error {
        EnterError::Full => Unable::Senseless(error.to_string()),
        EnterError::Store(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "what was entered is not durable"
            );
            Unable::NotDurable
        }
        EnterError::Stopping => Unable::NotDurable,
    }
}

/// What tells tokens apart and is of no use to anybody.
fn masked(token: &str) -> String {
    let count = token.chars().count();
    if count < 16 {
        return "…".to_owned();
    }
    let end: String = token.chars().skip(count - 4).collect();
    format!("…{end}")
}

/// Where an agent's devices are pushed; `None` if there is no such agent here.
fn targets_of(gateway: &Gateway, agent: &str) -> Option<Vec<(BindingKey, String, PushTarget)>> {
    let (user, domain) = agent
        .split_once('@')
        .map_or((agent, None), |(u, d)| (u, Some(d)));
    let agents = gateway.location().agents().filter(|agent| {
        agent.aor.user() == user && domain.is_none_or(|domain| agent.aor.domain() == domain)
    });
    let mut targets = Vec::new();
    let mut is_known = false;
    for agent in agents {
        is_known = true;
        for binding in &agent.bindings {
            let Some(push) = binding.push() else {
                continue;
            };
            let key = BindingKey {
                aor: agent.id,
                binding: binding.id,
            };
            let target = PushTarget {
                pns: push.pns,
                app: push.app,
                detail: push.detail,
                token: push.call_token,
            };
            targets.push((key, agent.aor.to_string(), target));
        }
    }
    is_known.then_some(targets)
}
