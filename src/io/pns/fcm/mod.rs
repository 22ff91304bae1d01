//! Firebase Cloud Messaging's HTTP v1 interface: data messages, so that the app decides what to
//! show; `HIGH` only where somebody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::{Deserialize, Serialize};

use crate::io::pns::FcmConfig;
use crate::io::pns::WallClock;
use crate::io::pns::apns::collapse_key;
use crate::io::pns::delivery::{Authorization, Judgement, Parcel, Provider, deliver, retry_after};
use crate::io::pns::fcm::oauth::OAuth;
use crate::io::pns::origin::{Origin, OriginError, Protocol, Roots, client_config};
use crate::io::pns::payload::{self, Content};
use crate::io::pns::transport::{Answer, Profile, Transport, Urgency};
use crate::io::pns::withdrawal::Withdrawal;
use crate::proto::push::{Notice, PushAccepted, PushError, PushRequest, Reason};

pub(super) mod oauth;
mod verdict;

/// Google ends a connection after an hour; we leave before.
const MAX_AGE: Duration = Duration::from_secs(55 * 60);
/// Registration tokens are some 160 characters; Google names no limit.
const TOKEN_LIMIT: usize = 4096;
/// A topic that nobody subscribes to, for a dry run.
const CHECK_TOPIC: &str = "rouse-check";

/// One `[[push.fcm]]`.
#[derive(Debug)]
pub(super) struct Fcm {
    project: String,
    path: Uri,
    content: Content,
    oauth: Arc<OAuth>,
    transport: Arc<Transport>,
    clock: WallClock,
}

#[derive(Serialize)]
struct Envelope<'a> {
    #[serde(skip_serializing_if = "is_false")]
    validate_only: bool,
    message: Message<'a>,
}

#[derive(Serialize)]
struct Message<'a> {
    #[serde(flatten)]
    to: To<'a>,
    data: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    android: Option<Android>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum To<'a> {
    Token(&'a str),
    Topic(&'static str),
}

#[derive(Serialize)]
struct Android {
    priority: &'static str,
    ttl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    collapse_key: Option<String>,
}

#[derive(Default, Deserialize)]
struct Sent {
    #[serde(default)]
    name: String,
}

impl Fcm {
    /// A client that connects when it is first needed.
    pub(super) fn new(
        config: &FcmConfig,
        oauth: OAuth,
        roots: &Roots,
        clock: WallClock,
    ) -> Result<Self, OriginError> {
        let origin = Origin::parse(&config.url, config.server_name.as_deref(), false)?;
        let tls = client_config(roots, config.ca_file.as_deref(), None, Protocol::Http2)?;
        // Google answers a third PING without a request between them with GOAWAY too_many_pings.
        let profile = Profile {
            ping: None,
            max_age: Some(MAX_AGE),
            http1: false,
        };
        let path = format!("/v1/projects/{}/messages:send", config.project);
        let path = Uri::try_from(path).map_err(|_| OriginError::Url {
            url: config.project.clone(),
            wanted: "a project's id",
        })?;
        Ok(Self {
            project: config.project.clone(),
            path,
            content: config.content,
            oauth: Arc::new(oauth),
            transport: Arc::new(Transport::new(origin, tls, profile)),
            clock,
        })
    }

    /// The project's id.
    pub(super) fn project(&self) -> &str {
        &self.project
    }

    /// Fetches a bearer and connects, so that the first call need not.
    pub(super) fn warm(&self) -> impl Future<Output = ()> + Send + 'static {
        let (oauth, transport) = (Arc::clone(&self.oauth), Arc::clone(&self.transport));
        async move {
            // Both have logged what failed, and both are tried again by the first push.
            let (bearer, connection) =
                tokio::join!(oauth.bearer(), transport.connect(Urgency::Call));
            tracing::debug!(
                bearer = bearer.is_ok(),
                connection = connection.is_ok(),
                "FCM is warm"
            );
        }
    }

    /// Sends a push.
    pub(super) async fn send(
        &self,
        push: &PushRequest,
        gateway: &str,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let parcel = self.parcel(push, gateway)?;
        deliver(self, &parcel, withdrawal).await
    }

    /// Fetches a bearer and has FCM validate a message that it does not send.
    pub(super) async fn check(&self) -> Result<String, String> {
        let authority = &self.transport.origin().authority;
        let envelope = Envelope {
            validate_only: true,
            message: Message {
                to: To::Topic(CHECK_TOPIC),
                data: BTreeMap::new(),
                android: None,
            },
        };
        let parcel = self
            .enclose(&envelope, Urgency::Call)
            .map_err(|error| error.to_string())?;
        match deliver(self, &parcel, &Withdrawal::never()).await {
            Ok(_) => Ok(format!("{authority} takes our credentials")),
            Err(error) => Err(format!("{authority}: {error}")),
        }
    }

    /// Writes a push.
    fn parcel(&self, push: &PushRequest, gateway: &str) -> Result<Parcel, PushError> {
        let token = push.target.token.expose();
        if token.is_empty() || token.len() > TOKEN_LIMIT {
            return Err(PushError::WrongToken {
                reason: Reason::new("not a registration token; not sent"),
            });
        }
        let data =
            payload::fcm(&push.notice, gateway, self.content).map_err(|payload::TooLarge| {
                PushError::Refused {
                    reason: Reason::new("payload too large; not sent"),
                }
            })?;
        let now_ms = self.clock.unix().saturating_mul(1000);
        let (is_urgent, call) = match &push.notice {
            Notice::Call(call) => (true, Some(call)),
            // A phone that rings must hear at once that it is over; one that does not may sleep.
            Notice::Cancel(call) => (now_ms < call.expires_at_ms, Some(call)),
            Notice::Missed(call) => (false, Some(call)),
            // It waits for the phone, and shows; each one by itself.
            Notice::Message(_) => (true, None),
            Notice::Refresh => (false, None),
            Notice::Wake => (true, None),
        };
        let envelope = Envelope {
            validate_only: false,
            message: Message {
                to: To::Token(token),
                data,
                android: Some(Android {
                    priority: if is_urgent { "HIGH" } else { "NORMAL" },
                    ttl: format!("{}s", push.lifetime.as_secs()),
                    collapse_key: call.map(|call| collapse_key(&call.call_id)),
                }),
            },
        };
        self.enclose(&envelope, Urgency::of(&push.notice))
    }

    fn enclose(&self, envelope: &Envelope<'_>, urgency: Urgency) -> Result<Parcel, PushError> {
        let body = serde_json::to_vec(envelope).map_err(|error| PushError::Refused {
            reason: Reason::new(&error.to_string()),
        })?;
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Parcel {
            uri: self.path.clone(),
            headers,
            body: Bytes::from(body),
            urgency,
        })
    }
}

impl Provider for Fcm {
    fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    async fn authorization(&self) -> Result<Option<Authorization>, PushError> {
        self.oauth.bearer().await.map(Some)
    }

    async fn renew(&self, refused: u64, _verdict: PushError) -> Result<(), PushError> {
        self.oauth.renew(refused).await
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        if answer.status == StatusCode::OK {
            // A name that cannot be read costs only a line in the call's history.
            let sent: Sent = serde_json::from_slice(&answer.body).unwrap_or_default();
            return Judgement::Final(Ok(PushAccepted {
                provider_id: sent.name.into(),
            }));
        }
        let wait = retry_after(&answer.headers, self.clock.unix());
        verdict::refusal(answer.status, &answer.body, wait)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Judges a refusal without its headers.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Judgement {
    verdict::refusal(status, body, None)
}
