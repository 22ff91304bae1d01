//! A stand-in for Firebase Cloud Messaging: a token endpoint that verifies a service account's
//! assertion, and `messages:send`, which verifies the bearer and the message and refuses with
//! Google's codes and bodies.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use jsonwebtoken::DecodingKey;
use parking_lot::Mutex;
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::config::{Content, FcmConfig, Secret};
use crate::io::pns::WallClock;
use crate::standin::fcm_rules::{self, Wrong};
use crate::standin::push::{
    AcceptedPush, Act, Authority, Desk, Outcome, Peer, Received, Reply, Running, Service, answer,
    start, write_ca,
};

/// Streams that one connection may have open; Google's own number.
const MAX_STREAMS: u32 = 100;
/// The scripts' name for requests to the token endpoint.
const TOKEN_ENDPOINT: &str = "/token";

/// What a stand-in for FCM knows.
#[derive(Clone, Debug)]
pub struct FcmStandinConfig {
    /// Where it listens; port 0: any.
    pub bind: SocketAddr,
    /// The project.
    pub project: String,
    /// The service account's address.
    pub client_email: String,
    /// How long a bearer is valid.
    pub bearer_lifetime: Duration,
    /// Streams that one connection may have open.
    pub max_streams: u32,
    /// The clock that assertions are judged by.
    pub clock: WallClock,
}

impl Default for FcmStandinConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            project: "my-project".to_owned(),
            client_email: "rouse@my-project.iam.gserviceaccount.com".to_owned(),
            bearer_lifetime: Duration::from_secs(3599),
            max_streams: MAX_STREAMS,
            clock: WallClock::system(),
        }
    }
}

/// A running stand-in for FCM; it ends when this is dropped.
pub struct FcmStandin {
    running: Running,
    google: Arc<Google>,
    account: String,
}

impl FcmStandin {
    /// Makes an authority and a service account, and listens.
    ///
    /// # Errors
    ///
    /// When it cannot listen or make certificates.
    pub async fn start(config: FcmStandinConfig) -> io::Result<Self> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).map_err(io::Error::other)?;
        let public =
            DecodingKey::from_rsa_pem(key.public_key_pem().as_bytes()).map_err(io::Error::other)?;
        let (bind, max_streams) = (config.bind, config.max_streams);
        let google = Arc::new(Google {
            config,
            public,
            token_uri: Mutex::default(),
            desk: Desk::new(),
            devices: Mutex::default(),
            bearers: Mutex::default(),
            issued: AtomicU64::new(0),
            sent: AtomicU64::new(0),
        });
        let running = start(Arc::clone(&google), &authority, bind, max_streams).await?;
        let token_uri = format!("https://{}{TOKEN_ENDPOINT}", running.address);
        google.token_uri.lock().clone_from(&token_uri);
        let account = json!({
            "type": "service_account",
            "project_id": google.config.project,
            "private_key_id": "standin",
            "private_key": key.serialize_pem(),
            "client_email": google.config.client_email,
            "token_uri": token_uri,
        });
        Ok(Self {
            running,
            google,
            account: account.to_string(),
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

    /// The service account, as Google's JSON file; its `token_uri` is this stand-in.
    #[must_use]
    pub fn service_account(&self) -> &str {
        &self.account
    }

    /// Writes the root certificate into a folder, for `ca_file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_ca(&self, folder: &Path) -> io::Result<PathBuf> {
        write_ca(self.ca_pem(), folder, "fcm-ca.pem")
    }

    /// The configuration of a gateway that pushes here; the root goes into `folder`.
    ///
    /// # Errors
    ///
    /// When the root cannot be written.
    pub fn client_config(&self, folder: &Path) -> io::Result<FcmConfig> {
        Ok(FcmConfig {
            project: self.google.config.project.clone(),
            service_account: Secret::new(self.account.clone()),
            url: self.url(),
            ca_file: Some(self.write_ca(folder)?),
            server_name: None,
            content: Content::default(),
        })
    }

    /// Says what happens to the next message for a token, or for any.
    pub fn script(&self, token: Option<&str>, outcome: impl Into<Outcome>) {
        self.google.desk.script(token, outcome.into());
    }

    /// Says what happens to all messages for a token, or to all; `None`: what Google would do.
    pub fn always(&self, token: Option<&str>, outcome: Option<Outcome>) {
        self.google.desk.always(token, outcome);
    }

    /// Says what happens to the next request for a bearer.
    pub fn script_bearer(&self, outcome: impl Into<Outcome>) {
        self.google
            .desk
            .script(Some(TOKEN_ENDPOINT), outcome.into());
    }

    /// Declares a registration token dead: 404 `UNREGISTERED`.
    pub fn unregister(&self, token: &str) {
        let mut devices = self.google.devices.lock();
        devices.insert(token.to_owned(), Device::Dead);
    }

    /// Says that a registration token belongs to another project: 403 `SENDER_ID_MISMATCH`.
    pub fn assign_elsewhere(&self, token: &str) {
        let mut devices = self.google.devices.lock();
        devices.insert(token.to_owned(), Device::Elsewhere);
    }

    /// Takes back every bearer that was issued: 401 until there is a new one.
    pub fn revoke_bearers(&self) {
        self.google.bearers.lock().clear();
    }

    /// How many bearers were issued.
    #[must_use]
    pub fn bearers_issued(&self) -> u64 {
        self.google.issued.load(Ordering::Relaxed)
    }

    /// The messages taken so far, oldest first.
    #[must_use]
    pub fn accepted(&self) -> Vec<AcceptedPush> {
        self.google.desk.accepted()
    }

    /// Waits for a message that this has not returned yet.
    pub async fn next_push(&self) -> AcceptedPush {
        self.google.desk.next_push().await
    }

    /// How many requests have come, refused ones and those for bearers too.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.google.desk.requests()
    }

    /// How many streams were open at once, at most.
    #[must_use]
    pub fn most_streams(&self) -> u64 {
        self.google.desk.most_streams()
    }

    /// How many connections have come, those for bearers too.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.google.desk.connections()
    }
}

/// What is known of a registration token.
#[derive(Clone, Copy, Debug)]
enum Device {
    Dead,
    Elsewhere,
}

/// The service.
struct Google {
    config: FcmStandinConfig,
    public: DecodingKey,
    /// What assertions must name as their audience.
    token_uri: Mutex<String>,
    desk: Desk,
    devices: Mutex<HashMap<String, Device>>,
    /// Valid bearers and when they end.
    bearers: Mutex<HashMap<String, Instant>>,
    issued: AtomicU64,
    sent: AtomicU64,
}

impl Service for Google {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    async fn answer(&self, peer: &Peer, received: Received) -> Reply {
        let path = received.request.uri().path();
        let body = if path == TOKEN_ENDPOINT {
            Value::Null
        } else {
            serde_json::from_slice(&received.body).unwrap_or_default()
        };
        let token = body.pointer("/message/token").and_then(Value::as_str);
        let name = token.unwrap_or(path);
        let outcome = self.desk.outcome(name);
        tokio::time::sleep(outcome.delay).await;
        let retry_after = outcome.retry_after.as_deref();
        match outcome.act {
            Act::Serve => Reply::Answer(self.serve(peer, &received, &body)),
            Act::GoAwayAfter => Reply::AnswerThenGoAway(self.serve(peer, &received, &body)),
            Act::DropAfter => {
                self.serve(peer, &received, &body);
                Reply::Hangup
            }
            Act::GoAwayBefore => Reply::GoAway,
            Act::DropBefore => Reply::Hangup,
            Act::Silence => Reply::Silence,
            Act::Reset(code) => Reply::Reset(code),
            Act::Raw { status, body } => Reply::Answer(answer(status, body, retry_after)),
            Act::Refuse { status, reason, .. } if path == TOKEN_ENDPOINT => {
                let body = json!({"error": reason, "error_description": "as scripted"});
                Reply::Answer(answer(status, body.to_string().into(), retry_after))
            }
            Act::Refuse { status, reason, .. } => {
                let wrong = Wrong::new(status, &reason);
                Reply::Answer(answer(status, wrong.body(), retry_after))
            }
        }
    }
}

impl Google {
    fn serve(&self, peer: &Peer, received: &Received, body: &Value) -> Response<Bytes> {
        if received.request.uri().path() == TOKEN_ENDPOINT {
            return self.grant(received);
        }
        match self.verify(received, body) {
            Ok(token) => {
                let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
                let project = &self.config.project;
                let id = format!("projects/{project}/messages/0:{number}%standin");
                if let Some(token) = token {
                    self.desk.accept(AcceptedPush {
                        at: Instant::now(),
                        connection: peer.number,
                        token,
                        path: received.request.uri().path().to_owned(),
                        headers: received.request.headers().clone(),
                        payload: body.clone(),
                        id: id.clone(),
                    });
                }
                answer(200, json!({"name": id}).to_string().into(), None)
            }
            Err(wrong) => answer(wrong.status, wrong.body(), None),
        }
    }

    /// Verifies a message; returns the token that it goes to, `None` for a dry run.
    fn verify(&self, received: &Received, body: &Value) -> Result<Option<String>, Wrong> {
        let request = &received.request;
        let project = request
            .uri()
            .path()
            .strip_prefix("/v1/projects/")
            .and_then(|rest| rest.strip_suffix("/messages:send"));
        let Some(project) = project.filter(|_| request.method() == Method::POST) else {
            return Err(Wrong::new(404, "NOT_FOUND"));
        };
        self.verify_bearer(request.headers())?;
        if project != self.config.project {
            return Err(Wrong::new(403, "PERMISSION_DENIED"));
        }
        let token = fcm_rules::verify_message(body)?;
        match token.and_then(|token| self.devices.lock().get(token).copied()) {
            Some(Device::Dead) => return Err(Wrong::new(404, "UNREGISTERED")),
            Some(Device::Elsewhere) => return Err(Wrong::new(403, "SENDER_ID_MISMATCH")),
            None => {}
        }
        let dry = body.get("validate_only").and_then(Value::as_bool) == Some(true);
        Ok(token.filter(|_| !dry).map(str::to_owned))
    }

    fn verify_bearer(&self, headers: &http::HeaderMap) -> Result<(), Wrong> {
        let bearer = headers
            .get(http::header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let bearers = self.bearers.lock();
        match bearer.and_then(|bearer| bearers.get(bearer)) {
            Some(end) if Instant::now() < *end => Ok(()),
            Some(_) | None => Err(Wrong::new(401, "UNAUTHENTICATED")),
        }
    }

    /// The token endpoint (RFC 7523).
    fn grant(&self, received: &Received) -> Response<Bytes> {
        let denied = |error: &str, why: &str| {
            let body = json!({"error": error, "error_description": why});
            answer(400, body.to_string().into(), None)
        };
        if received.request.method() != Method::POST {
            return answer(405, Bytes::new(), None);
        }
        let verdict = fcm_rules::verify_assertion(
            &received.body,
            &self.public,
            &self.config.client_email,
            &self.token_uri.lock(),
            self.config.clock.unix(),
        );
        if let Err((error, why)) = verdict {
            return denied(error, why);
        }
        let number = self.issued.fetch_add(1, Ordering::Relaxed) + 1;
        let bearer = format!("ya29.standin-{number}");
        let lifetime = self.config.bearer_lifetime;
        let mut bearers = self.bearers.lock();
        bearers.retain(|_, end| Instant::now() < *end);
        bearers.insert(bearer.clone(), Instant::now() + lifetime);
        let body = json!({
            "access_token": bearer,
            "expires_in": lifetime.as_secs(),
            "token_type": "Bearer",
        });
        answer(200, body.to_string().into(), None)
    }
}
