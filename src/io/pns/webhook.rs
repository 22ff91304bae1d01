//! A push service of the operator's own: each push is POSTed to a URL, and the answer's status is
//! the verdict. Whatever wakes the phone behind that URL (Huawei, a provider of one's own) is the
//! operator's; docs/push.md has the body and the signature.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use crate::io::pns::delivery::{Authorization, Judgement, Parcel, Provider, deliver, retry_after};
use crate::io::pns::origin::{Origin, OriginError, Protocol, Roots, client_config};
use crate::io::pns::payload::{self, Content, Device};
use crate::io::pns::transport::{Answer, Profile, Transport, Urgency};
use crate::io::pns::withdrawal::Withdrawal;
use crate::io::pns::{WallClock, WebhookConfig, apns};
use crate::proto::push::{PushAccepted, PushError, PushRequest, Reason};

/// The longest body: what any service behind takes.
const BODY_LIMIT: usize = 8192;
/// The pause after a throttled push if the service names none.
const THROTTLED_PAUSE: Duration = Duration::from_secs(5);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const SIGNATURE: HeaderName = HeaderName::from_static("rouse-signature");

/// One `[[push.webhook]]`.
pub(super) struct Webhook {
    name: String,
    providers: Vec<String>,
    path: Uri,
    bearer: Option<HeaderValue>,
    signing: Option<hmac::Key>,
    content: Content,
    transport: Arc<Transport>,
    clock: WallClock,
}

/// What may stand in an answer.
#[derive(Default, Deserialize)]
struct Said {
    #[serde(default)]
    id: String,
    #[serde(default)]
    reason: String,
}

impl Webhook {
    /// A client that connects when it is first needed.
    pub(super) fn new(
        config: &WebhookConfig,
        roots: &Roots,
        clock: WallClock,
    ) -> Result<Self, OriginError> {
        let mut origin = Origin::parse(&config.url, config.server_name.as_deref(), false)?;
        let wanted = "an https:// URL";
        let url = config.url.clone();
        let path = match std::mem::take(&mut origin.base) {
            base if base.is_empty() => Uri::from_static("/"),
            base => Uri::try_from(base).map_err(|_| OriginError::Url { url, wanted })?,
        };
        let tls = client_config(roots, config.ca_file.as_deref(), None, Protocol::Any)?;
        let bearer = config.bearer.as_ref().map(|secret| {
            let value = HeaderValue::try_from(format!("Bearer {}", secret.expose()));
            value.map(|mut value| {
                value.set_sensitive(true);
                value
            })
        });
        let bearer = bearer.transpose().map_err(|_| OriginError::Url {
            url: config.url.clone(),
            wanted: "to be asked with a bearer of printable characters",
        })?;
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let profile = Profile {
            ping: Some(Duration::from_secs(60)),
            max_age: None,
            http1: true,
        };
        Ok(Self {
            name: config.name.clone(),
            providers: config.providers.clone(),
            path,
            bearer,
            signing: config.signing.as_ref().map(|secret| key(secret.expose())),
            content: config.content,
            transport: Arc::new(Transport::new(origin, tls, profile)),
            clock,
        })
    }

    /// Its name in logs.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it serves a provider's name.
    pub(super) fn serves(&self, provider: &str) -> bool {
        self.providers.iter().any(|known| known == provider)
    }

    /// Sends a push.
    pub(super) async fn send(
        &self,
        push: &PushRequest,
        gateway: &str,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let device = Device {
            provider: &push.target.app,
            param: push.target.detail.as_deref(),
            prid: push.target.token.expose(),
            ttl: push.lifetime.as_secs(),
        };
        let body = payload::json(
            &push.notice,
            gateway,
            self.content,
            Some(device),
            BODY_LIMIT,
        )
        .map_err(|payload::TooLarge| PushError::Refused {
            reason: Reason::new("payload too large; not sent"),
        })?;
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(IDEMPOTENCY_KEY, apns::uuid());
        if let Some(signature) = self.sign(&body) {
            headers.insert(SIGNATURE, signature);
        }
        let parcel = Parcel {
            uri: self.path.clone(),
            headers,
            body,
            urgency: Urgency::of(&push.notice),
        };
        deliver(self, &parcel, withdrawal).await
    }

    /// `t=SECONDS,v1=HEX`: the HMAC of the seconds, a full stop and the body.
    fn sign(&self, body: &Bytes) -> Option<HeaderValue> {
        let key = self.signing.as_ref()?;
        let now = self.clock.unix();
        let mut context = hmac::Context::with_key(key);
        context.update(format!("{now}.").as_bytes());
        context.update(body);
        let tag = context.sign();
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        HeaderValue::try_from(format!("t={now},v1={hex}")).ok()
    }
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("name", &self.name)
            .field("providers", &self.providers)
            .finish_non_exhaustive()
    }
}

impl Provider for Webhook {
    fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    async fn authorization(&self) -> Result<Option<Authorization>, PushError> {
        Ok(self
            .bearer
            .clone()
            .map(|value| Authorization { value, edition: 0 }))
    }

    async fn renew(&self, _refused: u64, verdict: PushError) -> Result<(), PushError> {
        Err(verdict)
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        let status = answer.status.as_u16();
        // Only a word for the log: what is not JSON says nothing.
        let said: Said = serde_json::from_slice(&answer.body).unwrap_or_default();
        let reason = if said.reason.is_empty() {
            Reason::new(&format!("status {status}"))
        } else {
            Reason::new(&said.reason)
        };
        let retry_after = retry_after(&answer.headers, self.clock.unix());
        match status {
            200..=299 => Judgement::Final(Ok(PushAccepted {
                provider_id: Reason::new(&said.id).as_str().into(),
            })),
            404 | 410 => Judgement::Final(Err(PushError::Unregistered {
                since_ms: None,
                reason,
            })),
            401 | 403 => Judgement::Final(Err(PushError::BadCredentials { reason })),
            429 => Judgement::Final(Err(PushError::Throttled {
                retry_after: retry_after.unwrap_or(THROTTLED_PAUSE),
                reason,
            })),
            500..=599 => Judgement::Again(PushError::Unavailable {
                retry_after,
                reason,
            }),
            _ => Judgement::Final(Err(PushError::Refused { reason })),
        }
    }
}
