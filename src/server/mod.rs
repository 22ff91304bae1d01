//! The driver: joins `proto`, which decides, with `io`, which acts.
//!
//! Start: bind every address, restore the bindings into their shards, only then begin to read.
//! Stop: no new input, the store is flushed while the shards still answer, connections close.

#![expect(
    clippy::disallowed_methods,
    reason = "the driver starts the shards' tasks and arms their timers"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use crate::config::{AdminConfig, Config};
use crate::io::admin::{self, Admin, AdminError, Token};
use crate::io::clock::Clock;
#[cfg(feature = "otlp")]
use crate::io::export::otlp::PostError;
use crate::io::pns::{PnsConfig, PnsSetupError, PushService};
use crate::io::resolver::{ResolveError, Resolver};
use crate::io::store::{OpenedStore, Store, StoreError};
use crate::io::transport::{
    Attend, BindError, Inlet, Listening, MAX_SHARDS, Network, Predecessor, Prepared, ShardQueues,
    TlsFiles, TransportConfig, TransportLimits,
};
use crate::proto::gateway::Genesis;
use crate::proto::registration::purr::Purrs;
use crate::proto::settings::Settings;
use crate::proto::shard::{Shards, route};
use crate::proto::sip::{FrameLimits, Message};
use crate::proto::{Command, Gateway, Input, StoreTicket};
use crate::server::collector::Collector;
use crate::server::console::Console;
pub use crate::server::control::Control;
use crate::server::entered::Entered;
use crate::server::health::Health;
pub use crate::server::heritage::Heritage;
use crate::server::history::Samples;
use crate::server::lookout::Lookout;
use crate::server::shard::{Queues, Shard};
use crate::server::traffic::Traffic;
use crate::server::world::World;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timeline::{Keep, Recorder};

mod census;
mod collector;
mod console;
mod control;
mod entered;
mod health;
mod heritage;
mod history;
mod journal;
mod lookout;
mod shard;
mod summary;
#[cfg(feature = "otlp")]
mod traces;
mod traffic;
mod world;

/// Messages from peers that may wait for a shard.
const NETWORK_QUEUE: usize = 4096;
/// Answers that may wait for a shard: more than the store and the push services can owe.
const ANSWER_QUEUE: usize = 65_536;
/// Questions of an operator that may wait for a shard.
const ASK_QUEUE: usize = 64;
/// Events by which one who follows them may be behind.
const LIVE_QUEUE: usize = 1024;
/// How long a transaction may still hold a connection after Timer C.
const TIMER_C_MARGIN: Duration = Duration::from_secs(60);

/// Why the gateway cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address or a certificate.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store.
    #[error("cannot use the store: {0}")]
    Store(#[from] StoreError),
    /// A push service.
    #[error("cannot use a push service: {0}")]
    Push(#[from] PnsSetupError),
    /// The operator's API.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// DNS.
    #[error("cannot resolve names: {0}")]
    Resolver(#[from] ResolveError),
    /// The process that serves does not hand over.
    #[error("cannot take over: {0}")]
    Takeover(std::io::Error),
    /// The collector of traces.
    #[cfg(feature = "otlp")]
    #[error("cannot use [otlp]: {0}")]
    Otlp(#[from] PostError),
    /// A shard ended by itself: its agents could not be called any more.
    #[error("a shard has ended")]
    ShardEnded,
}

/// A running gateway.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: Option<Admin>,
    control: Control,
    metrics: Arc<Metrics>,
    world: Arc<World>,
    shards: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// Runs a gateway until `stop` is there.
///
/// # Errors
///
/// Fails if it cannot start, or if a shard ends by itself.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let mut running = start(config).await?;
    tokio::select! {
        () = stop => {}
        () = running.shard_ended() => {
            running.stop().await;
            return Err(ServeError::ShardEnded);
        }
    }
    running.stop().await;
    Ok(())
}

/// Starts a gateway within the runtime.
///
/// # Errors
///
/// Fails if an address, a certificate, the store or a push key cannot be used.
pub async fn start(config: Config) -> Result<Running, ServeError> {
    start_with(config, Heritage::default()).await
}

/// As [`start`], with sockets that are bound already.
///
/// # Errors
///
/// As [`start`].
pub async fn start_with(config: Config, mut heritage: Heritage) -> Result<Running, ServeError> {
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let metrics = Arc::new(Metrics::new());
    let push = PushService::new(push_config(&config))?;
    let resolver = Resolver::from_system()?;
    let prepared = Prepared::load(transport_config(&config))?;
    // Whoever served until now stops here: nothing slow may follow but the store.
    heritage.take().await.map_err(ServeError::Takeover)?;
    let listening = prepared.bind(&mut heritage.sockets)?;
    let unused = heritage.sockets.left();
    if unused > 0 {
        tracing::warn!(unused, "sockets that no [[listen]] names were handed over");
    }
    let is_odd = heritage.is_odd();
    let addresses = listening.addresses().to_vec();
    let settings = Arc::new(with_addresses(config.settings.clone(), &addresses));
    metrics.expect_pushes(settings.push.apps.iter().map(|app| app.pns));
    let store = config.store.clone();
    let shards = config.workers.clamp(1, MAX_SHARDS);
    if shards < config.workers {
        tracing::warn!(
            shards,
            workers = config.workers,
            "fewer shards than asked for"
        );
    }
    let for_shards = Arc::clone(&settings);
    // Reading half a million bindings blocks for a second.
    let (opened, gateways, entered) =
        tokio::task::spawn_blocking(move || restore(store, &for_shards, shards, is_odd))
            .await
            .map_err(|_| ServeError::ShardEnded)??;
    let parts = Parts {
        entered: Arc::new(entered),
        metrics,
        push,
        resolver,
        listening,
        keep: keep(&config, shards),
        predecessor: heritage.predecessor(),
        is_odd,
        config: Config {
            settings: Settings::clone(&settings),
            ..config
        },
    };
    let mut running = parts.join(opened, gateways, addresses)?;
    running.open(&settings, shards).await?;
    let push = running.world.push.load_full();
    tokio::spawn(async move { push.warm().await });
    tracing::info!(addresses = ?running.addresses, shards, "gateway started");
    Ok(running)
}

impl Running {
    /// Returns the addresses that are really bound, in the order of `[[listen]]`.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns how many follow the operator's event stream.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.world.live.receiver_count()
    }

    /// Returns where the operator's API listens.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Returns the metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the transports.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.world.network
    }

    /// Waits until a shard ends by itself, which none should.
    pub async fn shard_ended(&mut self) {
        if let Some(Err(error)) = self.shards.join_next().await {
            tracing::error!(%error, "a shard has ended");
        }
    }

    /// Lets operators ask.
    async fn open(&mut self, settings: &Settings, shards: u16) -> Result<(), AdminError> {
        if let Some(admin) = &self.control.config().admin {
            let console = Arc::new(console(self, settings, shards));
            tokio::spawn(history::keep(Arc::downgrade(&console)));
            self.admin = Some(Admin::start(api_settings(admin), console).await?);
        }
        Ok(())
    }

    /// Serves operators no more: another process is to have the address.
    pub async fn stop_admin(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.stop().await;
        }
    }

    /// Returns what steers it.
    #[must_use]
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Stops: no new input, what is stored is durable and answered, connections close.
    pub async fn stop(mut self) {
        self.stop_admin().await;
        self.world.network.stop_listening().await;
        let store = self.world.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store was not closed");
        }
        self.stop.send_replace(true);
        while self.shards.join_next().await.is_some() {}
        self.world.finish().await;
        self.world.network.stop().await;
        tracing::info!("gateway stopped");
    }
}

/// What is ready before the store is.
struct Parts {
    entered: Arc<Entered>,
    metrics: Arc<Metrics>,
    push: PushService,
    resolver: Resolver,
    listening: Listening,
    predecessor: Option<Arc<Predecessor>>,
    is_odd: bool,
    config: Config,
    keep: Keep,
}

impl Parts {
    /// Joins all parts and begins to read.
    fn join(
        self,
        opened: OpenedStore,
        gateways: Vec<Gateway>,
        addresses: Vec<SocketAddr>,
    ) -> Result<Running, ServeError> {
        let (writers, readers): (Vec<_>, Vec<_>) = gateways.iter().map(|_| queues()).unzip();
        let (asks, asked): (Vec<_>, Vec<_>) =
            gateways.iter().map(|_| mpsc::channel(ASK_QUEUE)).unzip();
        let anchor = Clock::anchor();
        let recorders = (0..).zip(&gateways);
        let collectors = collectors(&self.config, &self.metrics)?;
        let recorders = recorders.map(|(shard, _)| {
            let mut recorder = Recorder::new(shard, self.keep, anchor);
            recorder.collect(!collectors.is_empty());
            recorder
        });
        let recorders = recorders.map(Mutex::new).collect();
        let key = opened.gateway_key();
        let inlet = Inlet::new(writers, &key, world::counts(&self.metrics));
        let inlet = Arc::new(inlet.succeeding(self.predecessor, &addresses));
        let store = opened.start(report_stored(Arc::clone(&inlet)))?;
        let nodes = self.config.settings.upstreams.iter();
        let nodes = nodes.flat_map(|group| group.nodes.clone()).collect();
        let lookout = Lookout::start(
            self.config.hep.as_ref(),
            &self.config.settings.listeners,
            &self.metrics,
            inlet.tap(),
        );
        let world = Arc::new(World {
            lookout,
            network: self.listening.start(Arc::clone(&inlet)),
            inlet,
            store,
            push: ArcSwap::from_pointee(self.push),
            pushes: Mutex::default(),
            resolver: self.resolver,
            health: Health::default(),
            nodes: ArcSwap::from_pointee(nodes),
            questions: Mutex::default(),
            metrics: Arc::clone(&self.metrics),
            traffic: Traffic::new(),
            unanswered: watch::Sender::new(vec![None; gateways.len()]),
            left: watch::Sender::new(vec![None; gateways.len()]),
            is_odd: self.is_odd,
            beats: Mutex::new(vec![Clock::now(); gateways.len()]),
            recorders,
            live: broadcast::Sender::new(LIVE_QUEUE),
            asks,
            collectors,
        });
        let (stop, stopped) = watch::channel(false);
        let all: Vec<_> = (0..)
            .zip(gateways.into_iter().zip(readers))
            .map(|(number, (gateway, queues))| {
                Arc::new(Shard::new(number, gateway, queues, Arc::clone(&world)))
            })
            .collect();
        let attendants = all.iter().map(|shard| {
            let shard: Arc<dyn Attend> = Arc::clone(shard) as _;
            Arc::downgrade(&shard)
        });
        world.inlet.attended_by(attendants.collect());
        let mut shards = JoinSet::new();
        for (shard, asks) in all.into_iter().zip(asked) {
            shards.spawn(shard.run(asks, stopped.clone()));
        }
        Ok(Running {
            addresses,
            admin: None,
            control: Control::new(Arc::clone(&world), self.config, self.entered),
            metrics: self.metrics,
            world,
            shards,
            stop,
        })
    }
}

/// Those who take the calls that are over, as far as the configuration names any.
#[cfg_attr(
    not(feature = "otlp"),
    expect(
        clippy::unnecessary_wraps,
        reason = "a file cannot fail here, a collector can"
    )
)]
fn collectors(config: &Config, metrics: &Metrics) -> Result<Vec<Collector>, ServeError> {
    let mut collectors = Vec::new();
    if let Some(file) = &config.calls.file {
        let dropped = metrics.dropped.of(["call-file"]);
        collectors.push(journal::start(file.clone(), dropped));
    }
    #[cfg(feature = "otlp")]
    if let Some(otlp) = &config.otlp {
        collectors.push(traces::start(otlp, metrics.dropped.of(["otlp"]))?);
    }
    Ok(collectors)
}

fn queues() -> (ShardQueues, Queues) {
    let (network, network_in) = mpsc::channel(NETWORK_QUEUE);
    let (answers, answers_in) = mpsc::channel(ANSWER_QUEUE);
    let writers = ShardQueues { network, answers };
    let readers = Queues {
        network: network_in,
        answers: answers_in,
    };
    (writers, readers)
}

/// What each of the shards keeps of what shall be kept.
fn keep(config: &Config, shards: u16) -> Keep {
    let each = |all: usize| all.div_ceil(usize::from(shards.max(1)));
    Keep {
        calls: each(config.calls.calls),
        bytes: each(config.calls.bytes),
        notes: each(config.calls.notes),
    }
}

fn api_settings(admin: &AdminConfig) -> admin::Settings {
    admin::Settings {
        address: admin.address,
        token: admin
            .token
            .as_ref()
            .map(|token| Token::new(token.expose().clone())),
        tls: admin.tls.clone(),
    }
}

fn console(running: &Running, settings: &Settings, shards: u16) -> Console {
    let groups = settings.upstreams.iter();
    Console {
        world: Arc::clone(&running.world),
        control: running.control.clone(),
        shards,
        started_ms: Clock::unix_ms(),
        upstreams: groups.map(|group| group.name.clone()).collect(),
        gateway_id: gateway_id(settings),
        is_draining: AtomicBool::new(false),
        samples: Samples::default(),
    }
}

/// Tells a shard what became of its write, on the store's thread, which then runs the shard: a
/// phone that waits for its 200 need not wait for another thread to wake up.
fn report_stored(inlet: Arc<Inlet>) -> impl FnMut(StoreTicket, bool) + Send + 'static {
    let runtime = tokio::runtime::Handle::current();
    move |ticket, durable| {
        let _entered = runtime.enter();
        // The queue holds more than the store can owe; should it be full after all, waiting is
        // right: an answer must not be lost, and the shard never waits for the store.
        inlet.answer_blocking(ticket.shard, Input::Stored { ticket, durable });
    }
}

/// A shard's seed; its lowest bit says which branches are ours.
fn seed(is_odd: bool) -> [u8; 32] {
    let mut seed: [u8; 32] = rand::random();
    seed[0] = seed[0] & !1 | u8::from(is_odd);
    seed
}

/// Makes the gateways and gives each its bindings.
fn restore(
    store: crate::io::store::StoreConfig,
    settings: &Arc<Settings>,
    shards: u16,
    is_odd: bool,
) -> Result<(OpenedStore, Vec<Gateway>, Entered), StoreError> {
    let opened = Store::open(store)?;
    let entered = Entered::load(&opened)?;
    let settings = Arc::new(entered.lay_over(settings));
    let anchor = Clock::anchor();
    let mut gateways: Vec<Gateway> = (0..shards)
        .map(|shard| {
            Gateway::new(Genesis {
                settings: Arc::clone(&settings),
                shard,
                shards,
                anchor,
                seed: seed(is_odd),
                key: opened.gateway_key(),
            })
        })
        .collect();
    let mut takers: Vec<_> = gateways
        .iter_mut()
        .map(|gateway| {
            move |binding| {
                let command = Command::Restore(Box::new(binding));
                gateway.handle_input(anchor.instant, Input::Command(command));
            }
        })
        .collect();
    let loaded = opened.load_shards(anchor.unix_ms / 1000, &mut takers)?;
    drop(takers);
    let purrs = Purrs::new(&opened.gateway_key());
    let mut calls = 0_usize;
    opened.calls(|call| {
        calls += 1;
        // One that cannot be read is every shard's: each drops it.
        let shard = match Message::parse(call.request.clone()) {
            Ok(message) => match route(&message, 0, shards, &purrs) {
                Shards::One(shard) => shard,
                Shards::All => 0,
            },
            Err(_) => 0,
        };
        if let Some(gateway) = gateways.get_mut(usize::from(shard)) {
            let command = Command::Resume(Box::new(call));
            gateway.handle_input(anchor.instant, Input::Command(command));
        }
    })?;
    tracing::info!(
        calls,
        live = loaded.live,
        expired = loaded.expired,
        "bindings restored"
    );
    Ok((opened, gateways, entered))
}

fn transport_config(config: &Config) -> TransportConfig {
    let settings = &config.settings;
    let listeners = settings.listeners.iter();
    let trusted = settings.upstreams.iter();
    TransportConfig {
        listeners: listeners
            .map(|listener| (listener.transport, listener.address))
            .collect(),
        tls: config.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
        }),
        upstream_ca: config.upstream_ca.clone(),
        frames: FrameLimits {
            message_bytes: settings.limits.message_bytes,
            headers: settings.limits.headers,
        },
        // A million connections a millisecond until two processes could meet.
        first_connection: Clock::unix_ms() << 20,
        limits: TransportLimits {
            connections: settings.limits.connections,
            connections_per_address: settings.limits.connections_per_address,
            exempt: trusted.flat_map(|group| group.trust.clone()).collect(),
            unbound: settings.timing.timer_c + settings.wake.timeout + TIMER_C_MARGIN,
            ..TransportLimits::default()
        },
    }
}

/// The settings with the ports that the operating system chose.
fn with_addresses(mut settings: Settings, addresses: &[SocketAddr]) -> Settings {
    for (listener, address) in settings.listeners.iter_mut().zip(addresses) {
        listener.address = *address;
        if listener.advertise_port == 0 {
            listener.advertise_port = address.port();
        }
    }
    settings
}

fn push_config(config: &Config) -> PnsConfig {
    PnsConfig {
        apns: config.push.apns.clone(),
        fcm: config.push.fcm.clone(),
        webpush: config.push.webpush.clone(),
        webhook: config.push.webhook.clone(),
        gateway_id: gateway_id(&config.settings),
    }
}

/// What apps know this gateway by: what it advertises first.
fn gateway_id(settings: &Settings) -> String {
    let first = settings.listeners.first();
    first.map_or_else(String::new, |listener| listener.advertise_host.to_string())
}
