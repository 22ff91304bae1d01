//! A stand-in for a browser and its push service: it subscribes, verifies what a push service
//! verifies (RFC 8030, RFC 8292), and decrypts what only the browser can (RFC 8291).

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, LOCATION};
use http::{HeaderMap, Method, Response};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use rand::Rng;
use rcgen::KeyPair;
use serde::Deserialize;
use serde_json::Value;

use crate::config::{Content, Secret, WebPushConfig};
use crate::io::pns::{WallClock, vapid_public_key};
use crate::standin::push::{
    AcceptedPush, Act, Authority, Desk, Outcome, Peer, Received, Reply, Running, Service, answer,
    start, write_ca,
};

/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 100;
/// A token may be valid for so long (RFC 8292 §2), in seconds.
const LONGEST: u64 = 24 * 3600;
/// The longest body that every service takes (RFC 8030 §7.2).
const BODY_LIMIT: usize = 4096;

/// A running stand-in; it ends when this is dropped.
pub struct WebPushStandin {
    running: Running,
    service: Arc<Browsers>,
    vapid: KeyPair,
}

/// What a browser tells its page when it subscribes.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Where pushes are POSTed to.
    pub endpoint: String,
    /// The browser's public key, base64url.
    pub p256dh: String,
    /// The secret that it shares with the page, base64url.
    pub auth: String,
}

impl Subscription {
    /// What the phone puts into its Contact (docs/push.md).
    #[must_use]
    pub fn params(&self) -> String {
        format!(
            "{};pn-keys={}.{}",
            self.bare_params(),
            self.p256dh,
            self.auth
        )
    }

    /// The same without keys, as RFC 8599 §12 has it.
    #[must_use]
    pub fn bare_params(&self) -> String {
        let endpoint = self.endpoint.replace('?', "%3F").replace('=', "%3D");
        format!("pn-provider=webpush;pn-prid={endpoint}")
    }
}

impl WebPushStandin {
    /// Makes an authority and a VAPID key, and listens.
    ///
    /// # Errors
    ///
    /// When it cannot listen or make certificates.
    pub async fn start(clock: WallClock) -> io::Result<Self> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let vapid = KeyPair::generate().map_err(io::Error::other)?;
        let public_key = vapid_public_key(&vapid.serialize_pem()).map_err(io::Error::other)?;
        let service = Arc::new(Browsers {
            clock,
            public_key,
            origin: Mutex::default(),
            desk: Desk::new(),
            browsers: Mutex::default(),
        });
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let running = start(Arc::clone(&service), &authority, bind, MAX_STREAMS).await?;
        *service.origin.lock() = format!("https://{}", running.address);
        Ok(Self {
            running,
            service,
            vapid,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.running.address
    }

    /// The gateway's VAPID key, PEM.
    #[must_use]
    pub fn vapid_pem(&self) -> String {
        self.vapid.serialize_pem()
    }

    /// Writes the root certificate into a folder, for `ca_file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_ca(&self, folder: &Path) -> io::Result<PathBuf> {
        write_ca(&self.running.ca_pem, folder, "webpush-ca.pem")
    }

    /// The configuration of a gateway that may push here; the root goes into `folder`.
    ///
    /// # Errors
    ///
    /// When the root cannot be written.
    pub fn client_config(&self, folder: &Path) -> io::Result<WebPushConfig> {
        Ok(WebPushConfig {
            key: Secret::new(self.vapid_pem()),
            public_key: self.service.public_key.clone(),
            subject: "mailto:ops@example.com".to_owned(),
            hosts: vec![self.running.address.to_string()],
            private_networks: vec![self.running.address.ip().into()],
            ca_file: Some(self.write_ca(folder)?),
            content: Content::default(),
        })
    }

    /// A new browser subscribes, for the gateway's VAPID key.
    ///
    /// # Errors
    ///
    /// When no key can be made.
    pub fn subscribe(&self) -> io::Result<Subscription> {
        let key = PrivateKey::generate(&ECDH_P256).map_err(io::Error::other)?;
        let public = key.compute_public_key().map_err(io::Error::other)?;
        let p256dh = BASE64.encode(public.as_ref());
        let mut secret = [0; 16];
        rand::rng().fill_bytes(&mut secret);
        let path = format!("/push/{:016x}?v=1", rand::rng().next_u64());
        let browser = Browser {
            key,
            public: public.as_ref().to_vec(),
            secret,
            is_gone: false,
        };
        self.service.browsers.lock().insert(path.clone(), browser);
        Ok(Subscription {
            endpoint: format!("https://{}{path}", self.running.address),
            p256dh,
            auth: BASE64.encode(secret),
        })
    }

    /// The browser has unsubscribed: 410.
    pub fn unsubscribe(&self, endpoint: &str) {
        let path = path_of(endpoint);
        if let Some(browser) = self.service.browsers.lock().get_mut(path) {
            browser.is_gone = true;
        }
    }

    /// Says what happens to the next push to an endpoint, or to any.
    pub fn script(&self, endpoint: Option<&str>, outcome: impl Into<Outcome>) {
        self.service.desk.script(endpoint, outcome.into());
    }

    /// The pushes taken so far, oldest first; the payload is what the browser decrypted, null if
    /// there was none.
    #[must_use]
    pub fn accepted(&self) -> Vec<AcceptedPush> {
        self.service.desk.accepted()
    }

    /// Waits for a push that this has not returned yet.
    pub async fn next_push(&self) -> AcceptedPush {
        self.service.desk.next_push().await
    }

    /// How many requests have come, refused ones too.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.service.desk.requests()
    }

    /// How many connections have come.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.service.desk.connections()
    }
}

fn path_of(endpoint: &str) -> &str {
    let rest = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    rest.get(rest.find('/').unwrap_or(rest.len())..)
        .unwrap_or_default()
}

/// A browser that has subscribed.
struct Browser {
    key: PrivateKey,
    public: Vec<u8>,
    secret: [u8; 16],
    is_gone: bool,
}

/// The service and its browsers, by the paths of their endpoints.
struct Browsers {
    clock: WallClock,
    /// The key that subscriptions are restricted to (RFC 8292 §4).
    public_key: String,
    origin: Mutex<String>,
    desk: Desk,
    browsers: Mutex<HashMap<String, Browser>>,
}

#[derive(Deserialize)]
struct Claims {
    exp: u64,
}

impl Service for Browsers {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    async fn answer(&self, peer: &Peer, received: Received) -> Reply {
        let uri = received.request.uri();
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let endpoint = format!("{}{path}", self.origin.lock());
        let outcome = self.desk.outcome(&endpoint);
        tokio::time::sleep(outcome.delay).await;
        let retry_after = outcome.retry_after.as_deref();
        match outcome.act {
            Act::Serve => Reply::Answer(self.serve(peer, &received, path, &endpoint)),
            Act::GoAwayAfter => {
                Reply::AnswerThenGoAway(self.serve(peer, &received, path, &endpoint))
            }
            Act::DropAfter => {
                self.serve(peer, &received, path, &endpoint);
                Reply::Hangup
            }
            Act::GoAwayBefore => Reply::GoAway,
            Act::DropBefore => Reply::Hangup,
            Act::Silence => Reply::Silence,
            Act::Reset(code) => Reply::Reset(code),
            Act::Raw { status, body } => Reply::Answer(answer(status, body, retry_after)),
            Act::Refuse { status, .. } => Reply::Answer(answer(status, Bytes::new(), retry_after)),
        }
    }
}

impl Browsers {
    fn serve(
        &self,
        peer: &Peer,
        received: &Received,
        path: &str,
        endpoint: &str,
    ) -> Response<Bytes> {
        match self.verify(received, path) {
            Ok(payload) => {
                let id = format!(
                    "{}/message/{:016x}",
                    self.origin.lock(),
                    rand::rng().next_u64()
                );
                self.desk.accept(AcceptedPush {
                    at: Instant::now(),
                    connection: peer.number,
                    token: endpoint.to_owned(),
                    path: path.to_owned(),
                    headers: received.request.headers().clone(),
                    payload,
                    id: id.clone(),
                });
                let mut created = answer(201, Bytes::new(), None);
                if let Ok(location) = id.parse() {
                    created.headers_mut().insert(LOCATION, location);
                }
                created
            }
            Err((status, why)) => answer(status, Bytes::from_static(why.as_bytes()), None),
        }
    }

    /// Verifies a push and returns what the browser reads.
    fn verify(&self, received: &Received, path: &str) -> Result<Value, (u16, &'static str)> {
        let headers = received.request.headers();
        if received.request.method() != Method::POST {
            return Err((405, "method"));
        }
        let browsers = self.browsers.lock();
        let browser = browsers.get(path).ok_or((404, "no such subscription"))?;
        self.verify_vapid(headers)?;
        if browser.is_gone {
            return Err((410, "unsubscribed"));
        }
        let ttl = text(headers, "ttl").and_then(|ttl| ttl.parse::<u32>().ok());
        ttl.ok_or((400, "no TTL"))?;
        let urgency = text(headers, "urgency").unwrap_or("normal");
        if !matches!(urgency, "very-low" | "low" | "normal" | "high") {
            return Err((400, "urgency"));
        }
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text(headers, "topic").is_some_and(|t| t.len() > 32 || !t.bytes().all(is_name)) {
            return Err((400, "topic"));
        }
        if received.body.len() > BODY_LIMIT {
            return Err((413, "too large"));
        }
        if received.body.is_empty() {
            return Ok(Value::Null);
        }
        if text(headers, CONTENT_ENCODING.as_str()) != Some("aes128gcm") {
            return Err((415, "not encrypted"));
        }
        // A real service takes what its browser cannot read; this one is both.
        let plain = browser.decrypt(&received.body).ok_or((400, "unreadable"))?;
        serde_json::from_slice(&plain).map_err(|_| (400, "not JSON"))
    }

    /// RFC 8292 §2, §3, §4.2.
    fn verify_vapid(&self, headers: &HeaderMap) -> Result<(), (u16, &'static str)> {
        let header = text(headers, "authorization").ok_or((401, "no authorization"))?;
        let params = header.strip_prefix("vapid ").ok_or((401, "not vapid"))?;
        let part = |name: &str| {
            let mut parts = params.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let (token, key) = part("t").zip(part("k")).ok_or((401, "no t or k"))?;
        if key != self.public_key {
            return Err((403, "another key's subscription"));
        }
        let point = BASE64.decode(key).map_err(|_| (403, "k"))?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_exp = false;
        validation.set_audience(&[&*self.origin.lock()]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let key = DecodingKey::from_ec_der(&point);
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation);
        let exp = claims.map_err(|_| (403, "token"))?.claims.exp;
        let now = self.clock.unix();
        if exp <= now || exp > now + LONGEST {
            return Err((403, "exp"));
        }
        Ok(())
    }
}

impl Browser {
    /// The other side of RFC 8291 §3.4, for one record.
    fn decrypt(&self, body: &[u8]) -> Option<Vec<u8>> {
        let (salt, rest) = body.split_at_checked(16)?;
        let (size, rest) = rest.split_at_checked(4)?;
        let (length, rest) = rest.split_first()?;
        let (theirs, record) = rest.split_at_checked(usize::from(*length))?;
        let size = u32::from_be_bytes(size.try_into().ok()?);
        if usize::try_from(size).ok()? < record.len() {
            return None;
        }
        let peer = UnparsedPublicKey::new(&ECDH_P256, theirs);
        let prk = agreement::agree(&self.key, peer, (), |ecdh| {
            Ok(Salt::new(HKDF_SHA256, &self.secret).extract(ecdh))
        });
        let info: [&[u8]; 3] = [b"WebPush: info\0", &self.public, theirs];
        let ikm = derive(&prk.ok()?, &info, 32)?;
        let prk = Salt::new(HKDF_SHA256, salt).extract(&ikm);
        let key = derive(&prk, &[b"Content-Encoding: aes128gcm\0"], 16)?;
        let nonce = derive(&prk, &[b"Content-Encoding: nonce\0"], 12)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let mut record = record.to_vec();
        let plain = key.open_in_place(nonce, Aad::empty(), &mut record).ok()?;
        // Padding is zeros behind the delimiter; a last record's delimiter is 2.
        let end = plain.iter().rposition(|byte| *byte != 0)?;
        let (plain, rest) = plain.split_at_checked(end)?;
        (rest.first() == Some(&2)).then(|| plain.to_vec())
    }
}

/// A length of key material.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn derive(prk: &Prk, info: &[&[u8]], length: usize) -> Option<Vec<u8>> {
    let mut key = vec![0; length];
    prk.expand(info, Length(length)).ok()?.fill(&mut key).ok()?;
    Some(key)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
