//! Apple's push service over HTTP/2: what a push looks like to it, and who we are to it.
//!
//! A call is a VoIP push (topic `<bundle>.voip`, priority 10), a cancelled or missed call an alert
//! that collapses with its like, a message an alert of its own, a refresh a background push (priority 5). All carry an absolute
//! expiration and one `apns-id` for all attempts, so that a resent push is recognised.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use rand::Rng;

use crate::io::pns::WallClock;
use crate::io::pns::apns::token::ProviderToken;
use crate::io::pns::delivery::{Authorization, Judgement, Parcel, Provider, deliver, retry_after};
use crate::io::pns::origin::{Origin, OriginError, Protocol, Roots, client_config};
use crate::io::pns::payload::{self, Content};
use crate::io::pns::transport::{Answer, Profile, Transport, Urgency};
use crate::io::pns::withdrawal::Withdrawal;
use crate::io::pns::{ApnsConfig, ApnsCredential, ApnsEnvironment};
use crate::proto::push::{Notice, PushAccepted, PushError, PushRequest, Reason};

pub(super) mod environment;
pub(super) mod token;
mod verdict;

/// Apple's production service.
pub const PRODUCTION_URL: &str = "https://api.push.apple.com";
/// Apple's service for apps from Xcode.
pub const SANDBOX_URL: &str = "https://api.sandbox.push.apple.com";

/// Apple's word for a token that is none, or one of the other environment.
pub(super) const BAD_DEVICE_TOKEN: &str = "BadDeviceToken";

/// APNs' collapse identifiers are no longer than this.
const COLLAPSE_LIMIT: usize = 64;
/// Bytes of a token: 32 today, and Apple says not to count on it.
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 8..=100;

const APNS_COLLAPSE_ID: HeaderName = HeaderName::from_static("apns-collapse-id");
const APNS_EXPIRATION: HeaderName = HeaderName::from_static("apns-expiration");
const APNS_ID: HeaderName = HeaderName::from_static("apns-id");
const APNS_PRIORITY: HeaderName = HeaderName::from_static("apns-priority");
const APNS_PUSH_TYPE: HeaderName = HeaderName::from_static("apns-push-type");
const APNS_TOPIC: HeaderName = HeaderName::from_static("apns-topic");

/// One `[[push.apns]]` in one environment.
#[derive(Debug)]
pub(super) struct Apns {
    name: String,
    topics: Vec<String>,
    environment: ApnsEnvironment,
    content: Content,
    /// `None`: the connection's certificate says who we are.
    token: Option<Arc<ProviderToken>>,
    transport: Arc<Transport>,
    clock: WallClock,
}

impl Apns {
    /// A client that connects when it is first needed.
    pub(super) fn new(
        config: &ApnsConfig,
        environment: ApnsEnvironment,
        url: &str,
        token: Option<Arc<ProviderToken>>,
        roots: &Roots,
        clock: WallClock,
    ) -> Result<Self, OriginError> {
        let origin = Origin::parse(url, config.server_name.as_deref(), false)?;
        let certificate = match &config.credential {
            ApnsCredential::Certificate(pem) => Some(pem.expose().as_str()),
            ApnsCredential::Token { .. } => None,
        };
        let tls = client_config(
            roots,
            config.ca_file.as_deref(),
            certificate,
            Protocol::Http2,
        )?;
        let profile = Profile {
            ping: Some(Duration::from_secs(60)),
            max_age: None,
            http1: false,
        };
        Ok(Self {
            name: config.name.clone(),
            topics: config.topics.clone(),
            environment,
            content: config.content,
            token,
            transport: Arc::new(Transport::new(origin, tls, profile)),
            clock,
        })
    }

    /// Its name in logs.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it pushes to an app in an environment.
    pub(super) fn serves(&self, environment: ApnsEnvironment, app: &str) -> bool {
        self.environment == environment && self.topics.iter().any(|topic| topic == app)
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

    /// Asks APNs about a token that no device has: an answer about the token means that it took
    /// our credentials and our topic, and nobody was pushed.
    pub(super) async fn check(&self) -> Result<String, String> {
        let Some(topic) = self.topics.first() else {
            return Err("no topics".to_owned());
        };
        let mut headers = headers(topic, "background", "5", 0);
        headers.insert(APNS_ID, uuid());
        let parcel = Parcel {
            uri: Uri::try_from(format!("/3/device/{}", "0".repeat(64)))
                .map_err(|error| error.to_string())?,
            headers,
            body: bytes::Bytes::from_static(br#"{"aps":{"content-available":1}}"#),
            urgency: Urgency::Call,
        };
        let authority = &self.transport.origin().authority;
        match deliver(self, &parcel, &Withdrawal::never()).await {
            Ok(_) | Err(PushError::WrongToken { .. } | PushError::Unregistered { .. }) => {
                Ok(format!("{authority} takes our credentials"))
            }
            Err(error) => Err(format!("{authority}: {error}")),
        }
    }

    /// Writes a push.
    fn parcel(&self, push: &PushRequest, gateway: &str) -> Result<Parcel, PushError> {
        let refused = |word: &str| PushError::Refused {
            reason: Reason::new(word),
        };
        let token = push.target.token.expose();
        if !is_token(token) {
            return Err(PushError::WrongToken {
                reason: Reason::new("not a hexadecimal token; not sent"),
            });
        }
        let app = &push.target.app;
        let expiration = self.clock.unix() + push.lifetime.as_secs();
        let voip;
        let (topic, kind, priority) = match push.notice {
            Notice::Call(_) => {
                voip = format!("{app}.voip");
                (voip.as_str(), "voip", "10")
            }
            Notice::Cancel(_) | Notice::Missed(_) | Notice::Message(_) => (&**app, "alert", "10"),
            Notice::Refresh | Notice::Wake => (&**app, "background", "5"),
        };
        let mut headers = headers(topic, kind, priority, expiration);
        headers.insert(APNS_ID, uuid());
        if let Notice::Cancel(call) | Notice::Missed(call) = &push.notice {
            headers.insert(APNS_COLLAPSE_ID, collapse_id(&call.call_id));
        }
        Ok(Parcel {
            uri: Uri::try_from(format!("/3/device/{token}")).map_err(|_| refused("BadPath"))?,
            headers,
            body: payload::apns(&push.notice, gateway, self.content)
                .map_err(|payload::TooLarge| refused("PayloadTooLarge; not sent"))?,
            urgency: Urgency::of(&push.notice),
        })
    }
}

impl Provider for Apns {
    fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    async fn authorization(&self) -> Result<Option<Authorization>, PushError> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        token
            .bearer(self.clock.unix())
            .map(Some)
            .map_err(|error| PushError::BadCredentials {
                reason: Reason::new(&error.to_string()),
            })
    }

    async fn renew(&self, refused: u64, verdict: PushError) -> Result<(), PushError> {
        let Some(token) = &self.token else {
            return Err(verdict);
        };
        match token.renew(refused, self.clock.unix()) {
            Ok(true) => Ok(()),
            Ok(false) | Err(token::BadKey) => Err(verdict),
        }
    }

    fn judge(&self, answer: &Answer) -> Judgement {
        if answer.status == StatusCode::OK {
            let id = answer
                .headers
                .get(APNS_ID)
                .and_then(|id| id.to_str().ok())
                .unwrap_or_default();
            return Judgement::Final(Ok(PushAccepted {
                provider_id: id.into(),
            }));
        }
        let wait = retry_after(&answer.headers, self.clock.unix());
        verdict::refusal(answer.status, &answer.body, wait)
    }
}

/// The headers that every push has.
fn headers(topic: &str, kind: &'static str, priority: &'static str, expiration: u64) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(APNS_PUSH_TYPE, HeaderValue::from_static(kind));
    headers.insert(APNS_PRIORITY, HeaderValue::from_static(priority));
    headers.insert(APNS_EXPIRATION, HeaderValue::from(expiration));
    // The topic is one that was configured: `serves` compared it.
    if let Ok(topic) = HeaderValue::try_from(topic) {
        headers.insert(APNS_TOPIC, topic);
    }
    headers
}

/// Whether a token may go into a path.
fn is_token(token: &str) -> bool {
    token.len().is_multiple_of(2)
        && TOKEN_BYTES.contains(&(token.len() / 2))
        && token.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Names a call in at most 64 bytes: its Call-ID, or the Call-ID's digest.
pub(super) fn collapse_key(call_id: &str) -> String {
    if call_id.len() <= COLLAPSE_LIMIT && call_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return call_id.to_owned();
    }
    digest::digest(&digest::SHA256, call_id.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn collapse_id(call_id: &str) -> HeaderValue {
    HeaderValue::try_from(collapse_key(call_id)).unwrap_or(HeaderValue::from_static("call"))
}

/// A random UUID (RFC 9562 §5.4), as APNs wants it.
pub(super) fn uuid() -> HeaderValue {
    let random = (u128::from(rand::rng().next_u64()) << 64) | u128::from(rand::rng().next_u64());
    let text = payload::uuid(random, 4);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Judges a refusal without its headers.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> Judgement {
    verdict::refusal(status, body, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hexadecimal_goes_into_a_path() {
        assert!(is_token(&"a1".repeat(32)));
        assert!(is_token(&"F0".repeat(100)));
        for token in [
            String::new(),
            "a1".to_owned(),
            "a1".repeat(101),
            "a".repeat(63),
            format!("{}/../x", "a1".repeat(29)),
            format!("{}?x=", "a1".repeat(30)),
            format!("{}é", "a1".repeat(31)),
        ] {
            assert!(!is_token(&token), "{token}");
        }
    }

    #[test]
    fn a_uuid_has_version_4_and_is_new_each_time() {
        let (one, other) = (uuid(), uuid());
        let text = one.to_str().unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        assert_ne!(one, other);
    }

    #[test]
    fn a_long_or_strange_call_id_collapses_by_its_digest() {
        assert_eq!(collapse_key("a@b"), "a@b");
        assert_eq!(collapse_key(&"x".repeat(64)).len(), 64);
        assert_eq!(collapse_key(&"x".repeat(65)).len(), 64);
        assert_ne!(collapse_key(&"x".repeat(65)), collapse_key(&"x".repeat(66)));
        assert_eq!(collapse_key("é").len(), 64);
    }
}
