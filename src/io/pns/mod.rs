//! Push notification services: a [`PushService`] turns a request into a provider's own and the
//! provider's answer into a verdict.
//!
//! `transport` keeps one HTTP/2 connection per provider; `delivery` is one push from the first
//! attempt to the verdict; `apns` and `fcm` are the dialects; `payload` is what apps read.
//! Every push has its verdict within five seconds, and only so many are under way at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;

use crate::config::{ApnsConfig, ApnsCredential, ApnsEnvironment, FcmConfig};
use crate::io::clock::Clock;
use crate::io::pns::apns::Apns;
use crate::io::pns::apns::token::ProviderToken;
use crate::io::pns::origin::Roots;
use crate::io::pns::transport::{Transport, Urgency};
use crate::proto::push::{Pns, PushAccepted, PushError, PushRequest, Reason};

pub mod apns;
mod delivery;
mod dial;
mod http_date;
mod origin;
mod payload;
mod transport;

pub use apns::token::BadKey;
pub use origin::OriginError;

/// Pushes under way at once, per provider: 5 s at 800 pushes a second.
const IN_FLIGHT: usize = 4096;

/// The wall clock that dates credentials and expirations.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl WallClock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| Clock::unix_ms() / 1000)
    }

    /// One that returns seconds since the Unix epoch.
    pub fn new(seconds: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(seconds))
    }

    /// Returns seconds since the Unix epoch.
    #[must_use]
    pub fn unix(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WallClock({})", self.unix())
    }
}

/// The push services of a gateway.
#[derive(Clone, Debug)]
pub struct PnsConfig {
    /// `[[push.apns]]`.
    pub apns: Vec<ApnsConfig>,
    /// `[[push.fcm]]`.
    pub fcm: Vec<FcmConfig>,
    /// What apps know this gateway by: `gateway` in the payload.
    pub gateway_id: String,
}

/// Why the push services cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum PnsSetupError {
    /// The URL, the CA file or the certificate cannot be used.
    #[error("{section} {name:?}: {cause}")]
    Origin {
        /// The section of the configuration.
        section: &'static str,
        /// Which one.
        name: String,
        /// What is wrong.
        cause: OriginError,
    },
    /// The .p8 key cannot be used.
    #[error("push.apns {name:?}: key_file: {cause}; download it from developer.apple.com, Keys")]
    ApnsKey {
        /// Which one.
        name: String,
        /// What is wrong.
        cause: BadKey,
    },
}

/// Sends pushes; cheap to clone.
#[derive(Clone)]
pub struct PushService {
    inner: Arc<Inner>,
}

struct Inner {
    gateway_id: String,
    apns: Vec<Lane<Apns>>,
    /// Apple's sandbox for entries that name production only: same key, same topics.
    sandboxes: Vec<Lane<Apns>>,
    refused: AtomicU64,
}

/// A provider and how many pushes may be under way to it.
struct Lane<P> {
    provider: P,
    permits: Semaphore,
}

/// What the push services' connections have been through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PnsCounters {
    /// Connections made.
    pub connects: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Pushes refused because too many were under way.
    pub refused: u64,
}

impl PushService {
    /// Reads keys and certificates; connects nowhere yet.
    ///
    /// # Errors
    ///
    /// The first entry that cannot be used, and why.
    pub fn new(config: PnsConfig) -> Result<Self, PnsSetupError> {
        Self::with_clock(config, WallClock::system())
    }

    /// As [`PushService::new`], with a clock for credentials and expirations.
    ///
    /// # Errors
    ///
    /// The first entry that cannot be used, and why.
    pub fn with_clock(config: PnsConfig, clock: WallClock) -> Result<Self, PnsSetupError> {
        let roots = Roots::native();
        let mut tokens = HashMap::new();
        let (mut apns, mut sandboxes) = (Vec::new(), Vec::new());
        for entry in &config.apns {
            let token = provider_token(entry, &mut tokens)?;
            let build = |environment, url: &str| {
                Apns::new(
                    entry,
                    environment,
                    url,
                    token.clone(),
                    &roots,
                    clock.clone(),
                )
                .map(Lane::new)
                .map_err(|cause| PnsSetupError::Origin {
                    section: "push.apns",
                    name: entry.name.clone(),
                    cause,
                })
            };
            apns.push(build(entry.environment, &entry.url)?);
            if entry.environment == ApnsEnvironment::Production
                && entry.url.trim_end_matches('/') == apns::PRODUCTION_URL
            {
                sandboxes.push(build(ApnsEnvironment::Sandbox, apns::SANDBOX_URL)?);
            }
        }
        Ok(Self {
            inner: Arc::new(Inner {
                gateway_id: config.gateway_id,
                apns,
                sandboxes,
                refused: AtomicU64::new(0),
            }),
        })
    }

    /// Sends a push; the verdict is there within five seconds.
    ///
    /// # Errors
    ///
    /// Why the provider did not take it.
    pub async fn send(&self, request: PushRequest) -> Result<PushAccepted, PushError> {
        let pns = request.target.pns;
        let lane = match pns {
            Pns::Apns => self.apns(ApnsEnvironment::Production, &request.target.app),
            Pns::ApnsSandbox => self.apns(ApnsEnvironment::Sandbox, &request.target.app),
            Pns::Fcm => None,
        };
        let Some(lane) = lane else {
            return Err(PushError::NotConfigured { pns });
        };
        let _permit = self.permit(&lane.permits)?;
        lane.provider.send(&request, &self.inner.gateway_id).await
    }

    /// Connects to the services and keeps the connections warm until the last clone is dropped.
    pub async fn warm(&self) {
        let mut connects = tokio::task::JoinSet::new();
        for lane in &self.inner.apns {
            let transport = Arc::clone(delivery::Provider::transport(&lane.provider));
            tokio::spawn(Transport::keep_warm(Arc::downgrade(&transport)));
            connects.spawn(async move { transport.connect(Urgency::Call).await.is_ok() });
        }
        // A service that is down at start is logged where it failed and tried again in its time.
        connects.join_all().await;
    }

    /// Asks every service whether it takes our credentials, without a push to any device: the
    /// entry's name, then what it said or what is wrong.
    pub async fn check(&self) -> Vec<(String, Result<String, String>)> {
        let mut verdicts = Vec::new();
        for lane in &self.inner.apns {
            let name = format!("push.apns {:?}", lane.provider.name());
            verdicts.push((name, lane.provider.check().await));
        }
        verdicts
    }

    /// What the connections have been through, all services together.
    #[must_use]
    pub fn counters(&self) -> PnsCounters {
        let mut sum = PnsCounters {
            refused: self.inner.refused.load(Ordering::Relaxed),
            ..PnsCounters::default()
        };
        for transport in self.inner.transports() {
            let counters = &transport.counters;
            sum.connects += counters.connects.load(Ordering::Relaxed);
            sum.connect_failures += counters.connect_failures.load(Ordering::Relaxed);
        }
        sum
    }

    fn apns(&self, environment: ApnsEnvironment, app: &str) -> Option<&Lane<Apns>> {
        self.inner
            .apns
            .iter()
            .chain(&self.inner.sandboxes)
            .find(|lane| lane.provider.serves(environment, app))
    }

    fn permit<'s>(
        &self,
        permits: &'s Semaphore,
    ) -> Result<tokio::sync::SemaphorePermit<'s>, PushError> {
        permits.try_acquire().map_err(|_| {
            self.inner.refused.fetch_add(1, Ordering::Relaxed);
            PushError::Unavailable {
                retry_after: None,
                reason: Reason::new("too many pushes under way"),
            }
        })
    }
}

impl fmt::Debug for PushService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushService")
            .field("gateway_id", &self.inner.gateway_id)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn transports(&self) -> impl Iterator<Item = &Arc<Transport>> {
        self.apns
            .iter()
            .chain(&self.sandboxes)
            .map(|lane| delivery::Provider::transport(&lane.provider))
    }
}

impl<P> Lane<P> {
    fn new(provider: P) -> Self {
        Self {
            provider,
            permits: Semaphore::new(IN_FLIGHT),
        }
    }
}

/// Returns the token of an entry's key: one for all entries with that key, as Apple counts.
fn provider_token(
    entry: &ApnsConfig,
    tokens: &mut HashMap<(String, String), Arc<ProviderToken>>,
) -> Result<Option<Arc<ProviderToken>>, PnsSetupError> {
    let ApnsCredential::Token {
        team_id,
        key_id,
        key,
    } = &entry.credential
    else {
        return Ok(None);
    };
    let name = (team_id.clone(), key_id.clone());
    if let Some(token) = tokens.get(&name) {
        return Ok(Some(Arc::clone(token)));
    }
    let token = ProviderToken::new(team_id, key_id, key.expose()).map_err(|cause| {
        PnsSetupError::ApnsKey {
            name: entry.name.clone(),
            cause,
        }
    })?;
    let token = Arc::new(token);
    tokens.insert(name, Arc::clone(&token));
    Ok(Some(token))
}
