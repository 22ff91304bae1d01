//! A stand-in for Apple's push service: it verifies what Apple verifies, in Apple's order, and
//! refuses with Apple's reasons.
//!
//! A token of zeros belongs to no device (`BadDeviceToken`); any other well-formed one is taken
//! until it is declared dead ([`ApnsStandin::unregister`]) or bound to another app
//! ([`ApnsStandin::assign`]).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use rcgen::KeyPair;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{ApnsConfig, ApnsCredential, ApnsEnvironment, Content, Secret};
use crate::io::pns::WallClock;
use crate::standin::push::{
    AcceptedPush, Act, Authority, Desk, Outcome, Peer, Received, Reply, Running, Service, answer,
    start, write_ca,
};

/// Streams that one connection may have open; Apple's own number.
const MAX_STREAMS: u32 = 1000;
/// The age at which Apple calls a token expired, in seconds.
const TOKEN_AGE: u64 = 3600;
/// The least time between two tokens of a key, in seconds.
const TOKEN_INTERVAL: u64 = 20 * 60;
/// How far a token may be dated ahead, in seconds.
const TOKEN_LEEWAY: u64 = 300;

/// What a stand-in for APNs knows.
#[derive(Clone, Debug)]
pub struct ApnsStandinConfig {
    /// Where it listens; port 0: any.
    pub bind: SocketAddr,
    /// The team.
    pub team_id: String,
    /// Its key's name.
    pub key_id: String,
    /// The team's bundle ids.
    pub topics: Vec<String>,
    /// Streams that one connection may have open.
    pub max_streams: u32,
    /// The clock that tokens are judged by.
    pub clock: WallClock,
}

impl Default for ApnsStandinConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            team_id: "ABCDE12345".to_owned(),
            key_id: "KEY1234567".to_owned(),
            topics: vec!["com.example.app".to_owned()],
            max_streams: MAX_STREAMS,
            clock: WallClock::system(),
        }
    }
}

/// A running stand-in for APNs; it ends when this is dropped.
pub struct ApnsStandin {
    running: Running,
    apple: Arc<Apple>,
    p8_pem: String,
    client_pem: String,
}

impl ApnsStandin {
    /// Makes an authority and a key, and listens.
    ///
    /// # Errors
    ///
    /// When it cannot listen or make certificates.
    pub async fn start(config: ApnsStandinConfig) -> io::Result<Self> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let public =
            DecodingKey::from_ec_pem(key.public_key_pem().as_bytes()).map_err(io::Error::other)?;
        let (bind, max_streams) = (config.bind, config.max_streams);
        let apple = Arc::new(Apple {
            config,
            public,
            desk: Desk::new(),
            devices: Mutex::default(),
            tokens: Mutex::default(),
        });
        Ok(Self {
            running: start(Arc::clone(&apple), &authority, bind, max_streams).await?,
            apple,
            p8_pem: key.serialize_pem(),
            client_pem: authority.client_pem().map_err(io::Error::other)?,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.running.address
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.running.address)
    }

    /// Its root certificate, PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.running.ca_pem
    }

    /// The team's signing key, as Apple's .p8 file.
    #[must_use]
    pub fn p8_pem(&self) -> &str {
        &self.p8_pem
    }

    /// A client certificate with its key that is taken instead of a token, PEM.
    #[must_use]
    pub fn client_pem(&self) -> &str {
        &self.client_pem
    }

    /// Writes the root certificate into a folder, for `ca_file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_ca(&self, folder: &Path) -> io::Result<PathBuf> {
        write_ca(self.ca_pem(), folder, "apns-ca.pem")
    }

    /// The configuration of a gateway that pushes here; the root goes into `folder`.
    ///
    /// # Errors
    ///
    /// When the root cannot be written.
    pub fn client_config(&self, folder: &Path) -> io::Result<ApnsConfig> {
        let known = &self.apple.config;
        Ok(ApnsConfig {
            name: "standin".to_owned(),
            credential: ApnsCredential::Token {
                team_id: known.team_id.clone(),
                key_id: known.key_id.clone(),
                key: Secret::new(self.p8_pem.clone()),
            },
            topics: known.topics.clone(),
            environment: ApnsEnvironment::Production,
            url: self.url(),
            ca_file: Some(self.write_ca(folder)?),
            server_name: None,
            content: Content::default(),
        })
    }

    /// Says what happens to the next request for a token, or for any.
    pub fn script(&self, token: Option<&str>, outcome: impl Into<Outcome>) {
        self.apple.desk.script(token, outcome.into());
    }

    /// Says what happens to all requests for a token, or to all; `None`: what Apple would do.
    pub fn always(&self, token: Option<&str>, outcome: Option<Outcome>) {
        self.apple.desk.always(token, outcome);
    }

    /// Declares a token dead since a time (milliseconds since the Unix epoch): 410.
    pub fn unregister(&self, token: &str, since_ms: u64) {
        let mut devices = self.apple.devices.lock();
        devices.insert(token.to_owned(), Device::Dead { since_ms });
    }

    /// Says which app a token belongs to.
    pub fn assign(&self, token: &str, bundle: &str) {
        let mut devices = self.apple.devices.lock();
        devices.insert(token.to_owned(), Device::App(bundle.to_owned()));
    }

    /// The pushes taken so far, oldest first.
    #[must_use]
    pub fn accepted(&self) -> Vec<AcceptedPush> {
        self.apple.desk.accepted()
    }

    /// Waits for a push that this has not returned yet.
    pub async fn next_push(&self) -> AcceptedPush {
        self.apple.desk.next_push().await
    }

    /// How many requests have come, refused ones too.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.apple.desk.requests()
    }

    /// How many streams were open at once, at most.
    #[must_use]
    pub fn most_streams(&self) -> u64 {
        self.apple.desk.most_streams()
    }

    /// How many connections have come.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.apple.desk.connections()
    }

    /// The dates (`iat`) of the provider tokens that were taken, oldest first.
    #[must_use]
    pub fn provider_tokens(&self) -> Vec<u64> {
        self.apple.tokens.lock().dates.clone()
    }
}

/// What is known of a device token.
#[derive(Debug)]
enum Device {
    App(String),
    Dead { since_ms: u64 },
}

/// The service.
struct Apple {
    config: ApnsStandinConfig,
    public: DecodingKey,
    desk: Desk,
    devices: Mutex<HashMap<String, Device>>,
    tokens: Mutex<Tokens>,
}

/// The provider tokens of the key.
#[derive(Default)]
struct Tokens {
    dates: Vec<u64>,
    /// One was called expired: the next may come at once.
    renewal: bool,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    iat: u64,
}

/// A refusal in Apple's words.
struct Refusal {
    status: u16,
    reason: &'static str,
    timestamp: Option<u64>,
}

const fn refuse(status: u16, reason: &'static str) -> Refusal {
    Refusal {
        status,
        reason,
        timestamp: None,
    }
}

impl Service for Apple {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    async fn answer(&self, peer: &Peer, received: Received) -> Reply {
        let path = received.request.uri().path().to_owned();
        let token = path.strip_prefix("/3/device/").unwrap_or_default();
        let outcome = self.desk.outcome(token);
        tokio::time::sleep(outcome.delay).await;
        let retry_after = outcome.retry_after.as_deref();
        match outcome.act {
            Act::Serve => Reply::Answer(self.serve(peer, &received, token)),
            Act::GoAwayAfter => Reply::AnswerThenGoAway(self.serve(peer, &received, token)),
            Act::DropAfter => {
                self.serve(peer, &received, token);
                Reply::Hangup
            }
            Act::GoAwayBefore => Reply::GoAway,
            Act::DropBefore => Reply::Hangup,
            Act::Silence => Reply::Silence,
            Act::Reset(code) => Reply::Reset(code),
            Act::Raw { status, body } => Reply::Answer(answer(status, body, retry_after)),
            Act::Refuse {
                status,
                reason,
                timestamp,
            } => {
                if reason == "ExpiredProviderToken" {
                    self.tokens.lock().renewal = true;
                }
                Reply::Answer(refusal(status, &reason, timestamp, retry_after))
            }
        }
    }
}

impl Apple {
    /// Verifies a request and takes it, or refuses it.
    fn serve(&self, peer: &Peer, received: &Received, token: &str) -> http::Response<Bytes> {
        let headers = received.request.headers();
        let (id, verdict) = match message_id(headers) {
            Ok(id) => (id, self.verify(peer, received, token)),
            Err(refusal) => (new_id(), Err(refusal)),
        };
        let mut response = match verdict {
            Ok(payload) => {
                self.desk.accept(AcceptedPush {
                    at: Instant::now(),
                    connection: peer.number,
                    token: token.to_owned(),
                    path: received.request.uri().path().to_owned(),
                    headers: headers.clone(),
                    payload,
                    id: id.clone(),
                });
                answer(200, Bytes::new(), None)
            }
            Err(why) => refusal(why.status, why.reason, why.timestamp, None),
        };
        if let Ok(id) = id.parse() {
            response.headers_mut().insert("apns-id", id);
        }
        response
    }

    /// Verifies a request in Apple's order.
    fn verify(&self, peer: &Peer, received: &Received, token: &str) -> Result<Value, Refusal> {
        let headers = received.request.headers();
        if received.request.method() != Method::POST {
            return Err(refuse(405, "MethodNotAllowed"));
        }
        let topic = text(headers, "apns-topic").ok_or(refuse(400, "MissingTopic"))?;
        verify_form(headers, topic)?;
        if !received.request.uri().path().starts_with("/3/device/") {
            return Err(refuse(404, "BadPath"));
        }
        if token.is_empty() {
            return Err(refuse(400, "MissingDeviceToken"));
        }
        if token.len() > 200 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(refuse(400, "BadDeviceToken"));
        }
        if !peer.has_certificate {
            self.verify_token(peer, headers)?;
        }
        let bundle = topic.strip_suffix(".voip").unwrap_or(topic);
        if !self.config.topics.iter().any(|known| known == bundle) {
            return Err(refuse(400, "TopicDisallowed"));
        }
        self.verify_device(token, bundle)?;
        let limit = if topic.ends_with(".voip") { 5120 } else { 4096 };
        if received.body.is_empty() {
            return Err(refuse(400, "PayloadEmpty"));
        }
        if received.body.len() > limit {
            return Err(refuse(413, "PayloadTooLarge"));
        }
        match serde_json::from_slice(&received.body) {
            Ok(Value::Object(payload)) if payload.contains_key("aps") => Ok(Value::Object(payload)),
            Ok(_) | Err(_) => Err(refuse(400, "PayloadEmpty")),
        }
    }

    fn verify_device(&self, token: &str, bundle: &str) -> Result<(), Refusal> {
        if token.bytes().all(|byte| byte == b'0') {
            return Err(refuse(400, "BadDeviceToken"));
        }
        match self.devices.lock().get(token) {
            Some(Device::Dead { since_ms }) => Err(Refusal {
                status: 410,
                reason: "Unregistered",
                timestamp: Some(*since_ms),
            }),
            Some(Device::App(app)) if app != bundle => Err(refuse(400, "DeviceTokenNotForTopic")),
            Some(Device::App(_)) | None => Ok(()),
        }
    }

    /// Verifies the provider's token.
    fn verify_token(&self, peer: &Peer, headers: &HeaderMap) -> Result<(), Refusal> {
        let invalid = || refuse(403, "InvalidProviderToken");
        let header = text(headers, "authorization").ok_or(refuse(403, "MissingProviderToken"))?;
        let (scheme, jwt) = header.split_once(' ').ok_or_else(invalid)?;
        let head = jsonwebtoken::decode_header(jwt).map_err(|_| invalid())?;
        if !scheme.eq_ignore_ascii_case("bearer")
            || head.kid.as_deref() != Some(&self.config.key_id)
        {
            return Err(invalid());
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        validation.set_issuer(&[&self.config.team_id]);
        let claims = jsonwebtoken::decode::<Claims>(jwt, &self.public, &validation)
            .map_err(|_| invalid())?
            .claims;
        let mut team = peer.team.lock();
        if team.get_or_insert_with(|| claims.iss.clone()) != &claims.iss {
            return Err(invalid());
        }
        self.note_token(claims.iat)
    }

    /// Judges a token's date, also beside those of the tokens before it.
    fn note_token(&self, iat: u64) -> Result<(), Refusal> {
        let now = self.config.clock.unix();
        let mut tokens = self.tokens.lock();
        if iat > now + TOKEN_LEEWAY {
            return Err(refuse(403, "InvalidProviderToken"));
        }
        if now.saturating_sub(iat) > TOKEN_AGE {
            tokens.renewal = true;
            return Err(refuse(403, "ExpiredProviderToken"));
        }
        if let Some(last) = tokens.dates.last()
            && *last != iat
            && last.abs_diff(iat) < TOKEN_INTERVAL
            && !tokens.renewal
        {
            return Err(refuse(429, "TooManyProviderTokenUpdates"));
        }
        if tokens.dates.last() != Some(&iat) {
            tokens.dates.push(iat);
            tokens.renewal = false;
        }
        Ok(())
    }
}

/// Verifies what the headers say, each and together.
fn verify_form(headers: &HeaderMap, topic: &str) -> Result<(), Refusal> {
    for name in headers.keys() {
        if name.as_str().starts_with("apns-") && headers.get_all(name).iter().count() > 1 {
            return Err(refuse(400, "DuplicateHeaders"));
        }
    }
    if text(headers, "apns-collapse-id").is_some_and(|id| id.len() > 64) {
        return Err(refuse(400, "BadCollapseId"));
    }
    let priority = text(headers, "apns-priority").unwrap_or("10");
    if !matches!(priority, "1" | "5" | "10") {
        return Err(refuse(400, "BadPriority"));
    }
    if text(headers, "apns-expiration").is_some_and(|at| at.parse::<u32>().is_err()) {
        return Err(refuse(400, "BadExpirationDate"));
    }
    match (text(headers, "apns-push-type"), topic.ends_with(".voip")) {
        (Some("voip"), true) | (Some("alert"), false) => Ok(()),
        (Some("background"), false) if priority != "10" => Ok(()),
        (Some("background"), false) => Err(refuse(400, "BadPriority")),
        (Some("voip" | "alert" | "background"), _) => Err(refuse(400, "BadTopic")),
        (Some(_) | None, _) => Err(refuse(400, "InvalidPushType")),
    }
}

/// Returns the push's name, a new one if it has none.
fn message_id(headers: &HeaderMap) -> Result<String, Refusal> {
    let Some(id) = headers.get("apns-id") else {
        return Ok(new_id());
    };
    let id = id.to_str().unwrap_or_default();
    let is_uuid = id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    if is_uuid {
        Ok(id.to_owned())
    } else {
        Err(refuse(400, "BadMessageId"))
    }
}

/// Names a push that did not name itself.
fn new_id() -> String {
    use rand::Rng;
    let (high, low) = (rand::rng().next_u64(), rand::rng().next_u64());
    format!(
        "{:08X}-{:04X}-4{:03X}-8{:03X}-{:012X}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn refusal(
    status: u16,
    reason: &str,
    timestamp: Option<u64>,
    retry_after: Option<&str>,
) -> http::Response<Bytes> {
    let body = match timestamp {
        Some(timestamp) => json!({"reason": reason, "timestamp": timestamp}),
        None => json!({"reason": reason}),
    };
    answer(status, body.to_string().into(), retry_after)
}
