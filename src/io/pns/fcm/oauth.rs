//! FCM's credentials: a service account's signed assertion (RFC 7523) exchanged for a bearer token.
//!
//! One bearer for all pushes, one exchange at a time: who needs it meanwhile waits for that one and
//! shares its outcome. Near its end it is renewed behind the pushes' backs.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::io::pns::WallClock;
use crate::io::pns::delivery::Authorization;
use crate::io::pns::dial;
use crate::io::pns::origin::{Origin, OriginError, Protocol, Roots, client_config};
use crate::io::pns::transport::{CONNECT_TIMEOUT, REQUEST_TIMEOUT, chain};
use crate::proto::push::{PushError, Reason};

/// What the bearer may do: send messages.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Google takes no assertion that is valid for longer, in seconds.
const ASSERTION_LIFETIME: u64 = 3600;
/// A bearer is renewed when so much is left of it (at most a quarter).
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// A bearer is not used any more when so much is left of it (at most a tenth).
const DEAD_BEFORE: Duration = Duration::from_secs(30);
/// After a failed exchange its error is the answer for so long.
const PAUSE: Duration = Duration::from_secs(1);
const ANSWER_LIMIT: usize = 64 * 1024;

/// The service account cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadServiceAccount {
    /// It is not the JSON that Google hands out.
    #[error("it is not a service account's JSON ({0})")]
    Json(&'static str),
    /// Its key cannot sign.
    #[error("private_key is not an RSA key in PEM")]
    Key,
    /// Its token_uri cannot be asked.
    #[error("token_uri: {0}")]
    TokenUri(#[from] OriginError),
}

/// What is read of Google's file.
#[derive(Deserialize)]
struct ServiceAccount {
    client_email: String,
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    token_uri: String,
}

/// Exchanges assertions and keeps the bearer.
pub(in crate::io::pns) struct OAuth {
    email: String,
    key_id: Option<String>,
    key: EncodingKey,
    token_uri: String,
    origin: Origin,
    /// `None`: the token endpoint is asked without TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
    clock: WallClock,
    state: Mutex<State>,
    /// Held by the one who exchanges.
    exchanging: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    bearer: Option<Bearer>,
    editions: u64,
    /// Exchanges that have come to an end.
    attempts: u64,
    failure: Option<(Instant, PushError)>,
}

#[derive(Clone)]
struct Bearer {
    value: HeaderValue,
    edition: u64,
    renew_at: Instant,
    dead_at: Instant,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'static str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

#[derive(Default, Deserialize)]
struct Denied {
    #[serde(default)]
    error: String,
}

impl OAuth {
    /// Reads a service account's JSON.
    pub(in crate::io::pns) fn new(
        json: &str,
        roots: &Roots,
        ca_file: Option<&Path>,
        clock: WallClock,
    ) -> Result<Self, BadServiceAccount> {
        // Not serde's message: it would quote what it found, and that may be the key.
        let account: ServiceAccount = serde_json::from_str(json).map_err(|error| {
            BadServiceAccount::Json(if error.is_data() {
                "client_email, private_key or token_uri is missing"
            } else {
                "no JSON"
            })
        })?;
        let key = EncodingKey::from_rsa_pem(account.private_key.as_bytes())
            .map_err(|_| BadServiceAccount::Key)?;
        let origin = Origin::parse(&account.token_uri, None, true)?;
        let tls = match origin.tls {
            true => Some(client_config(roots, ca_file, None, Protocol::Http1)?),
            false => None,
        };
        let this = Self {
            origin,
            tls,
            email: account.client_email,
            key_id: account.private_key_id,
            key,
            token_uri: account.token_uri,
            clock,
            state: Mutex::default(),
            exchanging: tokio::sync::Mutex::new(()),
        };
        this.assertion()?;
        Ok(this)
    }

    /// Returns the bearer of this moment, exchanging if need be.
    pub(super) async fn bearer(self: &Arc<Self>) -> Result<Authorization, PushError> {
        let now = Instant::now();
        let bearer = self.state.lock().bearer.clone();
        if let Some(bearer) = bearer.filter(|bearer| now < bearer.dead_at) {
            if now >= bearer.renew_at
                && let Ok(turn) = self.exchanging.try_lock()
            {
                drop(turn);
                let this = Arc::clone(self);
                tokio::spawn(async move {
                    if let Err(error) = this.exchange(Some(bearer.edition)).await {
                        tracing::warn!(%error, "the FCM bearer is not renewed yet");
                    }
                });
            }
            return Ok(bearer.authorization());
        }
        self.exchange(None).await
    }

    /// Replaces a bearer that was refused, unless that has happened.
    pub(super) async fn renew(&self, refused: u64) -> Result<(), PushError> {
        self.exchange(Some(refused)).await.map(|_| ())
    }

    /// Exchanges an assertion for a bearer that is not the refused one; shares the outcome with
    /// all who wait for it.
    async fn exchange(&self, refused: Option<u64>) -> Result<Authorization, PushError> {
        let usable = |state: &State| {
            state
                .bearer
                .as_ref()
                .filter(|b| Some(b.edition) != refused && Instant::now() < b.dead_at)
                .map(Bearer::authorization)
        };
        let seen = self.state.lock().attempts;
        let _turn = self.exchanging.lock().await;
        {
            let state = self.state.lock();
            if let Some(authorization) = usable(&state) {
                return Ok(authorization);
            }
            if let Some((at, error)) = &state.failure
                && (state.attempts != seen || at.elapsed() < PAUSE)
            {
                return Err(error.clone());
            }
        }
        let outcome = match self.ask().await {
            Err(PushError::Unavailable {
                retry_after: None, ..
            }) => self.ask().await,
            outcome => outcome,
        };
        let mut state = self.state.lock();
        state.attempts += 1;
        match outcome {
            Ok(granted) => {
                state.editions += 1;
                let bearer = Bearer::new(&granted, state.editions)?;
                let authorization = bearer.authorization();
                state.failure = None;
                state.bearer = Some(bearer);
                Ok(authorization)
            }
            Err(error) => {
                tracing::warn!(host = self.origin.authority, %error, "no bearer for FCM");
                state.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Asks the token endpoint once.
    async fn ask(&self) -> Result<Granted, PushError> {
        let assertion = self
            .assertion()
            .map_err(|error| PushError::BadCredentials {
                reason: Reason::new(&error.to_string()),
            })?;
        // Both are made of characters that a form leaves as they are but the colons.
        let form = format!(
            "grant_type={}&assertion={assertion}",
            GRANT.replace(':', "%3A")
        );
        let path = if self.origin.base.is_empty() {
            "/"
        } else {
            &self.origin.base
        };
        let request = Request::post(path)
            .header(HOST, &self.origin.authority)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(form)))
            .map_err(|error| unavailable(&error.to_string()))?;
        let (status, body) = self.send(request).await?;
        read(status, &body)
    }

    /// Sends one request on a connection of its own.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), PushError> {
        let timed_out = |_| unavailable("the token endpoint does not answer in time");
        let failed = |error: std::io::Error| unavailable(&format!("token endpoint: {error}"));
        let endpoint = &self.origin.endpoint;
        if let Some(tls) = &self.tls {
            let connect = dial::connect_tls(endpoint, &self.origin.name, tls);
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
                .await
                .map_err(timed_out)?
                .map_err(failed)?;
            tokio::time::timeout(REQUEST_TIMEOUT, exchange(stream, request)).await
        } else {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, dial::connect_tcp(endpoint))
                .await
                .map_err(timed_out)?
                .map_err(failed)?;
            tokio::time::timeout(REQUEST_TIMEOUT, exchange(stream, request)).await
        }
        .map_err(timed_out)?
    }

    /// Signs an assertion of who we are.
    fn assertion(&self) -> Result<String, BadServiceAccount> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&self.key_id);
        let iat = self.clock.unix();
        let claims = Claims {
            iss: &self.email,
            scope: SCOPE,
            aud: &self.token_uri,
            iat,
            exp: iat + ASSERTION_LIFETIME,
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| BadServiceAccount::Key)
    }
}

impl fmt::Debug for OAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth")
            .field("email", &self.email)
            .field("token_uri", &self.token_uri)
            .finish_non_exhaustive()
    }
}

impl Bearer {
    fn new(granted: &Granted, edition: u64) -> Result<Self, PushError> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", granted.access_token))
            .map_err(|_| unavailable("the token endpoint's token is no header"))?;
        value.set_sensitive(true);
        let lifetime = Duration::from_secs(granted.expires_in);
        let now = Instant::now();
        Ok(Self {
            value,
            edition,
            renew_at: now + (lifetime - RENEW_BEFORE.min(lifetime / 4)),
            dead_at: now + (lifetime - DEAD_BEFORE.min(lifetime / 10)),
        })
    }

    fn authorization(&self) -> Authorization {
        Authorization {
            value: self.value.clone(),
            edition: self.edition,
        }
    }
}

/// One request over HTTP/1.1.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), PushError> {
    let failed = |error: hyper::Error| unavailable(&format!("token endpoint: {}", chain(&error)));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with the sender, at the end of this function.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "token endpoint's connection ended");
        }
    });
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT)
        .collect()
        .await
        .map_err(|error| unavailable(&format!("token endpoint: {error}")))?;
    Ok((status, body.to_bytes()))
}

/// Reads the token endpoint's answer (RFC 6749 §5).
fn read(status: StatusCode, body: &[u8]) -> Result<Granted, PushError> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body)
            .map_err(|_| unavailable("the token endpoint's answer is no token"));
    }
    let denied: Denied = serde_json::from_slice(body).unwrap_or_default();
    let word = if denied.error.is_empty() {
        format!("token endpoint: status {}", status.as_u16())
    } else {
        denied.error
    };
    let reason = Reason::new(&word);
    Err(match status.as_u16() {
        400 | 401 | 403 | 404 => PushError::BadCredentials { reason },
        _ => PushError::Unavailable {
            retry_after: None,
            reason,
        },
    })
}

fn unavailable(reason: &str) -> PushError {
    PushError::Unavailable {
        retry_after: None,
        reason: Reason::new(reason),
    }
}
