//! Push notification services: a [`PushService`] turns a request into a provider's own and the
//! provider's answer into a verdict.
//!
//! `transport` keeps one HTTP/2 connection per provider; `delivery` is one push from the first
//! attempt to the verdict; `apns`, `fcm`, `webpush` and `webhook` are the dialects; `payload` is what apps read.
//! Every push has its verdict within five seconds, and only so many are under way at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::io::clock::Clock;
use crate::io::pns::apns::Apns;
use crate::io::pns::apns::environment::Environments;
use crate::io::pns::apns::token::ProviderToken;
use crate::io::pns::fcm::Fcm;
use crate::io::pns::fcm::oauth::OAuth;
use crate::io::pns::lane::Lane;
use crate::io::pns::origin::Roots;
use crate::io::pns::transport::{Fault, Transport, Urgency};
use crate::io::pns::webhook::Webhook;
use crate::io::pns::webpush::{WebPush, WebPushError};
use crate::proto::push::{Pns, PushAccepted, PushError, PushRequest, Reason};

pub mod apns;
mod breaker;
mod delivery;
mod dial;
mod fcm;
mod http1;
mod http_date;
mod lane;
mod origin;
mod payload;
mod settings;
mod transport;
mod webhook;
mod webpush;
mod withdrawal;

pub use apns::token::BadKey;
pub use fcm::oauth::BadServiceAccount;
pub use origin::OriginError;
pub use payload::Content;
pub use settings::{
    ApnsConfig, ApnsCredential, ApnsEnvironment, FcmConfig, WebPushConfig, WebhookConfig,
};
pub use webpush::vapid::{BadVapidKey, public_key as vapid_public_key};
pub use withdrawal::Withdrawal;

/// What a refusal by APNs or FCM comes to, as the label of its verdict: for fuzz targets, which see
/// nothing else of what reads a stranger's answer.
#[must_use]
pub fn refusal(pns: Pns, status: http::StatusCode, body: &[u8]) -> &'static str {
    let judgement = match pns {
        Pns::Apns | Pns::ApnsSandbox => apns::refusal(status, body),
        Pns::Fcm | Pns::WebPush | Pns::Webhook => fcm::refusal(status, body),
    };
    match judgement {
        delivery::Judgement::Final(Ok(_)) => "accepted",
        delivery::Judgement::Final(Err(error))
        | delivery::Judgement::Renew(error)
        | delivery::Judgement::Reconnect(error)
        | delivery::Judgement::Again(error) => error.label(),
    }
}

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
#[derive(Clone, Debug, Default)]
pub struct PnsConfig {
    /// `[[push.apns]]`.
    pub apns: Vec<ApnsConfig>,
    /// `[[push.fcm]]`.
    pub fcm: Vec<FcmConfig>,
    /// `[[push.webpush]]`.
    pub webpush: Option<WebPushConfig>,
    /// `[[push.webhook]]`.
    pub webhook: Vec<WebhookConfig>,
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
    /// The VAPID key cannot be used.
    #[error(
        "push.webpush: key_file: {0}; make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"
    )]
    VapidKey(BadVapidKey),
    /// The service account cannot be used.
    #[error(
        "push.fcm {project:?}: service_account_file: {cause}; download it from \
         console.firebase.google.com, Project settings, Service accounts"
    )]
    ServiceAccount {
        /// Which project.
        project: String,
        /// What is wrong.
        cause: BadServiceAccount,
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
    /// Where tokens belong that were found in the other environment.
    environments: Environments,
    fcm: Vec<Lane<Fcm>>,
    webpush: Option<Lane<WebPush>>,
    webhook: Vec<Lane<Webhook>>,
    refused: AtomicU64,
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
        let mut fcm = Vec::new();
        for entry in &config.fcm {
            fcm.push(Lane::new(fcm_client(entry, &roots, &clock)?));
        }
        let webpush = config.webpush.as_ref();
        let webpush = webpush.map(|entry| web_push(entry, &roots, &clock));
        let mut webhook = Vec::new();
        for entry in &config.webhook {
            let built = Webhook::new(entry, &roots, clock.clone());
            webhook.push(Lane::new(built.map_err(|cause| PnsSetupError::Origin {
                section: "push.webhook",
                name: entry.name.clone(),
                cause,
            })?));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                gateway_id: config.gateway_id,
                apns,
                sandboxes,
                environments: Environments::default(),
                fcm,
                webpush: webpush.transpose()?,
                webhook,
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
        self.send_unless(request, &Withdrawal::never()).await
    }

    /// As [`PushService::send`], but a push that is withdrawn before it has left is not sent.
    ///
    /// # Errors
    ///
    /// Why the provider did not take it.
    pub async fn send_unless(
        &self,
        request: PushRequest,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let (pns, app) = (request.target.pns, &request.target.app);
        let gateway = &self.inner.gateway_id;
        let not_configured = || PushError::NotConfigured { pns };
        match pns {
            Pns::Apns => {
                let environment = ApnsEnvironment::Production;
                self.send_apns(&request, environment, withdrawal).await
            }
            Pns::ApnsSandbox => {
                let environment = ApnsEnvironment::Sandbox;
                self.send_apns(&request, environment, withdrawal).await
            }
            Pns::Fcm => {
                let lane = self.fcm(app).ok_or_else(not_configured)?;
                let _permit = self.permit(&lane.permits)?;
                let sent = || lane.provider.send(&request, gateway, withdrawal);
                lane.guarded(app, sent).await
            }
            Pns::WebPush => {
                let lane = self.inner.webpush.as_ref().ok_or_else(not_configured)?;
                let _permit = self.permit(&lane.permits)?;
                lane.provider.send(&request, gateway, withdrawal).await
            }
            Pns::Webhook => {
                let mut lanes = self.inner.webhook.iter();
                let lane = lanes.find(|lane| lane.provider.serves(app));
                let lane = lane.ok_or_else(not_configured)?;
                let _permit = self.permit(&lane.permits)?;
                let sent = || lane.provider.send(&request, gateway, withdrawal);
                lane.guarded("", sent).await
            }
        }
    }

    /// Sends a push to Apple; a token that is wrong while too many are is not condemned.
    async fn send_apns(
        &self,
        request: &PushRequest,
        named: ApnsEnvironment,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let verdict = self.ask_apns(request, named, withdrawal).await;
        match self.apns(named, &request.target.app) {
            Some(lane) => {
                let breaker = lane.breaker(&request.target.app);
                breaker.weigh(Instant::now(), verdict)
            }
            None => verdict,
        }
    }

    /// Sends a push to Apple's environment that the device names, or that its token was found to
    /// belong to; to the other one if the token is none of the first's.
    async fn ask_apns(
        &self,
        request: &PushRequest,
        named: ApnsEnvironment,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let (target, gateway) = (&request.target, &self.inner.gateway_id);
        let known = self.inner.environments.of(target);
        let first = known.unwrap_or(named);
        let lane = self.apns(first, &target.app);
        let lane = lane.ok_or(PushError::NotConfigured { pns: target.pns })?;
        let deadline = Instant::now() + delivery::BUDGET;
        let permit = self.permit(&lane.permits)?;
        let sent = || lane.provider.send(request, gateway, withdrawal);
        let verdict = lane.guarded(&target.app, sent).await;
        drop(permit);
        match &verdict {
            Err(PushError::WrongToken { reason }) if reason.as_str() == apns::BAD_DEVICE_TOKEN => {}
            Ok(_) | Err(_) => return verdict,
        }
        let Some(lane) = self.apns(first.other(), &target.app) else {
            return Err(unproven());
        };
        let _permit = self.permit(&lane.permits)?;
        let sent = || lane.provider.send(request, gateway, withdrawal);
        let retried = lane.guarded(&target.app, sent);
        match tokio::time::timeout_at(deadline, retried).await {
            Ok(Ok(accepted)) => {
                self.inner.environments.learn(target, first.other());
                tracing::warn!(
                    app = &*target.app,
                    named = named.label(),
                    belongs_to = first.other().label(),
                    "a device token belongs to APNs' other environment: let the app say \
                     pn-provider=apns.dev in builds from Xcode, apns in all others"
                );
                Ok(accepted)
            }
            // It is one of the other environment's, and says more there.
            Ok(Err(
                error @ (PushError::Unregistered { .. }
                | PushError::Throttled { .. }
                | PushError::Unavailable { .. }),
            )) => Err(error),
            // It is none of either.
            Ok(Err(PushError::WrongToken { .. })) => verdict,
            // Nobody can say.
            Ok(Err(
                PushError::BadCredentials { .. }
                | PushError::Refused { .. }
                | PushError::NotConfigured { .. }
                | PushError::Withdrawn,
            ))
            | Err(_) => Err(unproven()),
        }
    }

    /// Connects to the services and keeps the connections warm until the last clone is dropped.
    pub async fn warm(&self) {
        let mut connects = tokio::task::JoinSet::new();
        for lane in &self.inner.apns {
            let transport = Arc::clone(delivery::Provider::transport(&lane.provider));
            tokio::spawn(Transport::keep_warm(Arc::downgrade(&transport)));
            // A failure is logged where it happens, and `keep_warm` tries again in its time.
            connects.spawn(async move { drop(transport.connect(Urgency::Call).await) });
        }
        for lane in &self.inner.fcm {
            connects.spawn(lane.provider.warm());
        }
        for lane in &self.inner.webhook {
            let transport = Arc::clone(delivery::Provider::transport(&lane.provider));
            connects.spawn(async move { drop(transport.connect(Urgency::Call).await) });
        }
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
        for lane in &self.inner.fcm {
            let name = format!("push.fcm {:?}", lane.provider.project());
            verdicts.push((name, lane.provider.check().await));
        }
        for lane in &self.inner.webhook {
            let transport = delivery::Provider::transport(&lane.provider);
            let authority = &transport.origin().authority;
            let verdict = match transport.connect(Urgency::Call).await {
                Ok(()) => Ok(format!("{authority} answers; nothing was posted")),
                Err(error) if error.fault == Fault::NotProcessed => Ok(format!(
                    "{authority} answers, by HTTP/1.1; nothing was posted"
                )),
                Err(error) => Err(format!("{authority}: {error}")),
            };
            verdicts.push((format!("push.webhook {:?}", lane.provider.name()), verdict));
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
        if let Some(lane) = &self.inner.webpush {
            (sum.connects, sum.connect_failures) = lane.provider.counters();
        }
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

    /// Finds a project. A device that names none, or a sender id, means the only one; a device that
    /// names none of several means the first.
    fn fcm(&self, app: &str) -> Option<&Lane<Fcm>> {
        let lanes = &self.inner.fcm;
        lanes
            .iter()
            .find(|lane| lane.provider.project() == app)
            .or_else(|| lanes.first().filter(|_| app.is_empty() || lanes.len() == 1))
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
            .chain(
                self.fcm
                    .iter()
                    .map(|lane| delivery::Provider::transport(&lane.provider)),
            )
            .chain(
                self.webhook
                    .iter()
                    .map(|lane| delivery::Provider::transport(&lane.provider)),
            )
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

fn web_push(
    entry: &WebPushConfig,
    roots: &Roots,
    clock: &WallClock,
) -> Result<Lane<WebPush>, PnsSetupError> {
    let built = WebPush::new(entry, roots, clock.clone());
    built.map(Lane::new).map_err(|error| match error {
        WebPushError::Key(cause) => PnsSetupError::VapidKey(cause),
        WebPushError::Origin(cause) => PnsSetupError::Origin {
            section: "push.webpush",
            name: entry.subject.clone(),
            cause,
        },
    })
}

fn fcm_client(entry: &FcmConfig, roots: &Roots, clock: &WallClock) -> Result<Fcm, PnsSetupError> {
    let oauth = OAuth::new(
        entry.service_account.expose(),
        roots,
        entry.ca_file.as_deref(),
        clock.clone(),
    )
    .map_err(|cause| PnsSetupError::ServiceAccount {
        project: entry.project.clone(),
        cause,
    })?;
    Fcm::new(entry, oauth, roots, clock.clone()).map_err(|cause| PnsSetupError::Origin {
        section: "push.fcm",
        name: entry.project.clone(),
        cause,
    })
}

/// A token that one of Apple's environments does not know may be the other's, which could not be
/// asked: that condemns no token, and is the operator's to look at.
fn unproven() -> PushError {
    PushError::Refused {
        reason: Reason::new("BadDeviceToken, and the other environment could not be asked"),
    }
}
