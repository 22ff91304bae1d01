//! What an operator asks of the running process: other settings, and an end that ends no call.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::config::{self, Config};
use crate::io::clock::Clock;
use crate::io::pns::PushService;
use crate::io::takeover::{Note, Passed, Successor};
use crate::io::transport::{MAX_SHARDS, Stray};
use crate::proto::settings::ConfiguredDevice;
use crate::proto::{Command, Input};
use crate::server::entered::{EnterError, Entered};
use crate::server::world::World;
use crate::server::{ServeError, push_config};

/// How often it is looked whether the last pushes have left.
const LOOK: Duration = Duration::from_millis(20);
/// How long a shard has for one more turn.
const TURN: Duration = Duration::from_millis(1);
/// Whoever takes over waits no longer for us.
const HAND_OVER: Duration = Duration::from_secs(5);
/// A shard that has not shown itself for so long hangs: it does so every five seconds.
const SILENT: Duration = Duration::from_secs(15);

/// Steers a running gateway; cheap to clone.
#[derive(Clone)]
pub struct Control {
    world: Arc<World>,
    /// What it runs by.
    config: Arc<Mutex<Config>>,
    /// What operators have entered beside it.
    entered: Arc<Entered>,
    /// Who changes the settings does so one after another.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// An operator has asked for the configuration to be read again.
    wish: Arc<Notify>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    pub(super) fn new(world: Arc<World>, config: Config, entered: Arc<Entered>) -> Self {
        let config = Arc::new(Mutex::new(config));
        let (turn, wish) = (Arc::default(), Arc::default());
        Self {
            world,
            config,
            entered,
            turn,
            wish,
        }
    }

    /// Asks whoever has the configuration's file to read it again.
    pub(super) fn wish_reload(&self) {
        self.wish.notify_one();
    }

    /// Waits until an operator asks for the configuration to be read again.
    pub async fn reload_wished(&self) {
        self.wish.notified().await;
    }

    /// What the gateway runs by.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.lock().clone()
    }

    /// Goes on by another configuration. Returns the keys whose change needs a restart; all others
    /// hold from here on.
    ///
    /// # Errors
    ///
    /// Fails if a push service cannot be set up by it; then nothing has changed.
    pub async fn reload(&self, new: Config) -> Result<Vec<&'static str>, ServeError> {
        let _turn = self.turn.lock().await;
        let known = self.world.nodes.load_full();
        let highest = known.iter().map(|node| node.index).max();
        let next = highest.map_or(0, |index| index.saturating_add(1));
        let running = self.config();
        let (config, fixed) = config::reload(&running, new, next);
        let push = if config.push == running.push {
            None
        } else {
            Some(PushService::new(push_config(&config))?)
        };
        // Nothing fails from here on.
        for warning in &config.warnings {
            tracing::warn!(warning, "configuration");
        }
        if let Some(push) = push {
            // Pushes under way end on the connections that they have.
            self.world.push.store(Arc::new(push.clone()));
            push.warm().await;
            let apps = config.settings.push.apps.iter();
            self.world.metrics.expect_pushes(apps.map(|app| app.pns));
        }
        let mut nodes = known.to_vec();
        let groups = config.settings.upstreams.iter();
        for node in groups.flat_map(|group| &group.nodes) {
            if node.index >= next {
                nodes.push(node.clone());
            }
        }
        self.world.nodes.store(Arc::new(nodes));
        let limits = &config.settings.limits;
        let trusted = config.settings.upstreams.iter();
        self.world.network.change_limits(
            limits.connections,
            limits.connections_per_address,
            trusted.flat_map(|group| group.trust.clone()).collect(),
        );
        *self.config.lock() = config;
        self.tell_settings().await;
        Ok(fixed)
    }

    /// What operators have entered.
    pub(super) fn entered(&self) -> Arc<Vec<ConfiguredDevice>> {
        self.entered.list()
    }

    /// Enters a device, or another token for it, for whoever registers from here on; whether it
    /// was not there before.
    pub(super) async fn enter(&self, device: ConfiguredDevice) -> Result<bool, EnterError> {
        let _turn = self.turn.lock().await;
        let is_new = Arc::clone(&self.entered).add(device).await?;
        self.tell_settings().await;
        Ok(is_new)
    }

    /// Removes what was entered under a name; whether it was there.
    pub(super) async fn withdraw(&self, name: u64) -> Result<bool, EnterError> {
        let _turn = self.turn.lock().await;
        let was_there = Arc::clone(&self.entered).remove(name).await?;
        if was_there {
            self.tell_settings().await;
        }
        Ok(was_there)
    }

    async fn tell_settings(&self) {
        let settings = self.entered.lay_over(&self.config.lock().settings);
        let settings = Arc::new(settings);
        self.tell(|| Command::Reload(Arc::clone(&settings))).await;
    }

    /// Refuses new calls from here on and waits for those that have no answer yet, but not longer
    /// than `grace`. Returns how many have none even then.
    pub async fn drain(&self, grace: Duration) -> usize {
        let mut unanswered = self.world.unanswered.subscribe();
        self.tell(|| Command::Drain).await;
        let quiet = async {
            let none = |shards: &Vec<Option<usize>>| shards.iter().all(|shard| *shard == Some(0));
            // An error: the shards have ended, nobody is left to wait for.
            drop(unanswered.wait_for(none).await);
            while !self.world.pushes.lock().is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(grace, quiet).await.is_ok() {
            return 0;
        }
        self.unanswered()
    }

    /// Leaves the sockets, the store and the calls that wait for phones to another process. What
    /// else is under way goes on here: [`Self::drain`] waits for it.
    ///
    /// # Errors
    ///
    /// Fails if the sockets cannot be copied; then nothing has changed.
    pub async fn hand_over(&self) -> io::Result<(Vec<OwnedFd>, Note)> {
        let world = &self.world;
        let sockets = world.network.sockets()?;
        world.network.stop_listening().await;
        let mut left = world.left.subscribe();
        let handed = async {
            // What has arrived is ours.
            while !world.inlet.is_idle() {
                tokio::time::sleep(TURN).await;
            }
            self.tell(|| Command::HandOver).await;
            // An error: the shards have ended, nothing is left.
            drop(
                left.wait_for(|shards| shards.iter().all(Option::is_some))
                    .await,
            );
        };
        if tokio::time::timeout(HAND_OVER, handed).await.is_err() {
            tracing::warn!("a shard is too busy to hand over");
        }
        let left = world.left.borrow().clone();
        let requests = left.into_iter().flatten().flatten().collect();
        let store = world.store.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!(%error, "the store was not closed");
        }
        let is_odd = world.is_odd;
        Ok((sockets, Note { is_odd, requests }))
    }

    /// Takes what is for us from the process that has taken over, until it is gone.
    #[must_use]
    pub fn listen_to(&self, mut successor: Successor) -> AbortHandle {
        let control = self.clone();
        let task = tokio::spawn(async move {
            while let Ok(datagram) = successor.passed().await {
                control.take_stray(datagram);
            }
        });
        task.abort_handle()
    }

    /// A datagram of ours that came to the process that took over.
    fn take_stray(&self, passed: Passed) {
        let Passed {
            local,
            remote,
            bytes,
        } = passed;
        self.world.network.take_stray(Stray {
            local,
            remote,
            bytes,
        });
    }

    /// How many requests had no answer when the shards last said so; they do while they drain.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let shards = self.world.unanswered.borrow();
        shards.iter().map(|shard| shard.unwrap_or_default()).sum()
    }

    /// Whether every shard has shown itself lately.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let now = Clock::now();
        let beats = self.world.beats.lock();
        beats
            .iter()
            .all(|beat| now.saturating_duration_since(*beat) < SILENT)
    }

    async fn tell(&self, command: impl Fn() -> Command) {
        for shard in (0..MAX_SHARDS).take_while(|shard| self.world.inlet.has(*shard)) {
            let input = Input::Command(command());
            self.world.inlet.answer(shard, input).await;
        }
    }
}
