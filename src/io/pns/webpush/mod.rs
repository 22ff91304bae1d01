//! Browsers' push services (RFC 8030): the subscription names the service, the operator the hosts.
//!
//! A subscription comes from a phone, so its endpoint is a URL that a stranger may have chosen: only
//! `https`, only at the hosts that are allowed, only at public addresses unless others are allowed.
//! A push to a subscription with keys is encrypted for it (RFC 8291); to one without it is empty,
//! and only wakes.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use parking_lot::Mutex;

use crate::io::pns::delivery::{Authorization, Judgement, Parcel, Provider, deliver, retry_after};
use crate::io::pns::dial::Reach;
use crate::io::pns::origin::{Origin, OriginError, Protocol, Roots, client_config};
use crate::io::pns::payload::{self, Content};
use crate::io::pns::transport::{Answer, Profile, Transport, Urgency};
use crate::io::pns::withdrawal::Withdrawal;
use crate::io::pns::{WallClock, WebPushConfig};
use crate::proto::push::params::allows_host;
use crate::proto::push::{Notice, Pns, PushAccepted, PushError, PushRequest, Reason};

mod encrypt;
pub(super) mod vapid;

use encrypt::{PLAINTEXT_LIMIT, Subscriber};
use vapid::{BadVapidKey, Vapid};

/// Services that are kept connected; the one that came first leaves.
const MOST_SERVICES: usize = 64;
/// As for FCM, which is one of them.
const MAX_AGE: Duration = Duration::from_secs(55 * 60);
/// The pause after a throttled push if the service names none.
const THROTTLED_PAUSE: Duration = Duration::from_secs(5);

const TOPIC: HeaderName = HeaderName::from_static("topic");
const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");

/// `[[push.webpush]]`.
pub(super) struct WebPush {
    hosts: Vec<String>,
    reach: Reach,
    tls: Arc<rustls::ClientConfig>,
    vapid: Arc<Vapid>,
    content: Content,
    clock: WallClock,
    services: Mutex<Services>,
}

/// The services that were pushed to lately.
#[derive(Default)]
struct Services {
    by_authority: HashMap<String, Arc<PushHost>>,
    /// Oldest first.
    order: VecDeque<String>,
    /// What those that left have counted.
    past: (u64, u64),
}

/// One push service.
struct PushHost {
    /// The audience of its tokens.
    origin: String,
    transport: Arc<Transport>,
    vapid: Arc<Vapid>,
    clock: WallClock,
}

/// Why `[[push.webpush]]` cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum WebPushError {
    #[error(transparent)]
    Key(#[from] BadVapidKey),
    #[error(transparent)]
    Origin(#[from] OriginError),
}

impl WebPush {
    /// A client that connects to nobody yet.
    pub(super) fn new(
        config: &WebPushConfig,
        roots: &Roots,
        clock: WallClock,
    ) -> Result<Self, WebPushError> {
        Ok(Self {
            hosts: config.hosts.clone(),
            reach: Reach::Public(config.private_networks.as_slice().into()),
            tls: client_config(roots, config.ca_file.as_deref(), None, Protocol::Http2)?,
            vapid: Arc::new(Vapid::new(config.key.expose(), &config.subject)?),
            content: config.content,
            clock,
            services: Mutex::default(),
        })
    }

    /// Sends a push.
    pub(super) async fn send(
        &self,
        push: &PushRequest,
        gateway: &str,
        withdrawal: &Withdrawal,
    ) -> Result<PushAccepted, PushError> {
        let (host, parcel) = self.address(push, gateway)?;
        deliver(&*host, &parcel, withdrawal).await
    }

    /// Connections made and failed, of all services.
    pub(super) fn counters(&self) -> (u64, u64) {
        let services = self.services.lock();
        services.by_authority.values().fold(services.past, add)
    }

    /// Finds the service of a subscription and writes the push.
    fn address(
        &self,
        push: &PushRequest,
        gateway: &str,
    ) -> Result<(Arc<PushHost>, Parcel), PushError> {
        let wrong = |word: &str| PushError::WrongToken {
            reason: Reason::new(word),
        };
        let (endpoint, keys) = match push.target.token.expose().split_once('#') {
            Some((endpoint, keys)) => (endpoint, Some(keys)),
            None => (push.target.token.expose(), None),
        };
        let uri: Uri = endpoint
            .parse()
            .map_err(|_| wrong("not an endpoint; not sent"))?;
        let authority = uri.authority().map_or("", |a| a.as_str());
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(":443").unwrap_or(&authority);
        let is_allowed = self.hosts.iter().any(|host| allows_host(host, authority));
        if uri.scheme_str() != Some("https") || !is_allowed {
            return Err(PushError::NotConfigured { pns: Pns::WebPush });
        }
        let host = self
            .host(authority)
            .map_err(|error| wrong(&error.to_string()))?;
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut headers = headers(&push.notice, push.lifetime);
        let body = match keys {
            None => Bytes::new(),
            Some(keys) => {
                let subscriber =
                    Subscriber::read(keys).ok_or_else(|| wrong("no keys; not sent"))?;
                let plain =
                    payload::json(&push.notice, gateway, self.content, None, PLAINTEXT_LIMIT)
                        .map_err(|payload::TooLarge| PushError::Refused {
                            reason: Reason::new("payload too large; not sent"),
                        })?;
                let aes128gcm = HeaderValue::from_static("aes128gcm");
                headers.insert(CONTENT_ENCODING, aes128gcm);
                let binary = HeaderValue::from_static("application/octet-stream");
                headers.insert(CONTENT_TYPE, binary);
                let body = subscriber.encrypt(&plain);
                Bytes::from(body.map_err(|_| wrong("keys of no use; not sent"))?)
            }
        };
        let parcel = Parcel {
            uri: Uri::try_from(path).map_err(|_| wrong("not a path; not sent"))?,
            headers,
            body,
            urgency: Urgency::of(&push.notice),
        };
        Ok((host, parcel))
    }

    /// The service at an authority.
    fn host(&self, authority: &str) -> Result<Arc<PushHost>, OriginError> {
        let mut services = self.services.lock();
        if let Some(host) = services.by_authority.get(authority) {
            return Ok(Arc::clone(host));
        }
        let origin = format!("https://{authority}");
        let mut parsed = Origin::parse(&origin, None, false)?;
        parsed.endpoint.reach = self.reach.clone();
        let profile = Profile {
            // Google's answers PINGs that no request came between with GOAWAY.
            ping: None,
            max_age: Some(MAX_AGE),
            http1: false,
        };
        let host = Arc::new(PushHost {
            origin,
            transport: Arc::new(Transport::new(parsed, Arc::clone(&self.tls), profile)),
            vapid: Arc::clone(&self.vapid),
            clock: self.clock.clone(),
        });
        if services.order.len() >= MOST_SERVICES
            && let Some(oldest) = services.order.pop_front()
            && let Some(gone) = services.by_authority.remove(&oldest)
        {
            services.past = add(services.past, &gone);
            self.vapid.forget(&gone.origin);
        }
        services.order.push_back(authority.to_owned());
        services
            .by_authority
            .insert(authority.to_owned(), Arc::clone(&host));
        Ok(host)
    }
}

fn add((made, failed): (u64, u64), host: &Arc<PushHost>) -> (u64, u64) {
    let counters = &host.transport.counters;
    (
        made + counters.connects.load(Ordering::Relaxed),
        failed + counters.connect_failures.load(Ordering::Relaxed),
    )
}

impl fmt::Debug for WebPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebPush")
            .field("hosts", &self.hosts)
            .field("vapid", &self.vapid)
            .finish_non_exhaustive()
    }
}

impl Provider for PushHost {
    fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    async fn authorization(&self) -> Result<Option<Authorization>, PushError> {
        self.vapid
            .bearer(&self.origin, self.clock.unix())
            .map(Some)
            .map_err(|error| PushError::BadCredentials {
                reason: Reason::new(&error.to_string()),
            })
    }

    async fn renew(&self, refused: u64, verdict: PushError) -> Result<(), PushError> {
        if self.vapid.renew(&self.origin, refused, self.clock.unix()) {
            Ok(())
        } else {
            Err(verdict)
        }
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        judge(answer, self.clock.unix())
    }
}

/// What a status means (RFC 8030 §5, §7.3, §8.4; RFC 8292 §4.2).
fn judge(answer: &Answer, unix_now: u64) -> Judgement {
    let status = answer.status.as_u16();
    let reason = Reason::new(&format!("status {status}"));
    let retry_after = retry_after(&answer.headers, unix_now);
    match status {
        // Its Location is the message's own resource, a capability: not for logs.
        200..=299 => Judgement::Final(Ok(PushAccepted {
            provider_id: "".into(),
        })),
        404 | 410 => Judgement::Final(Err(PushError::Unregistered {
            since_ms: None,
            reason,
        })),
        401 | 403 => Judgement::Renew(PushError::BadCredentials { reason }),
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

/// The headers that every push has (RFC 8030 §5.2 to §5.4).
fn headers(notice: &Notice, lifetime: Duration) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(TTL, HeaderValue::from(lifetime.as_secs()));
    let (urgency, call) = match notice {
        Notice::Call(call) | Notice::Cancel(call) => ("high", Some(call)),
        Notice::Missed(call) => ("normal", Some(call)),
        Notice::Message(_) | Notice::Wake => ("high", None),
        Notice::Refresh => ("low", None),
    };
    headers.insert(URGENCY, HeaderValue::from_static(urgency));
    // A cancel replaces its call where that was not delivered yet.
    if let Some(Ok(topic)) = call.map(|call| HeaderValue::try_from(topic(&call.call_id))) {
        headers.insert(TOPIC, topic);
    }
    headers
}

/// Names a call in 32 characters of base64url (RFC 8030 §5.4).
fn topic(call_id: &str) -> String {
    let digest = digest::digest(&digest::SHA256, call_id.as_bytes());
    let mut name = BASE64.encode(digest);
    name.truncate(32);
    name
}
