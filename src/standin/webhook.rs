//! A stand-in for an operator's own push service: it verifies the bearer and the signature, takes
//! any device, and answers as it is told.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::config::{Content, Secret, WebhookConfig};
use crate::io::pns::WallClock;
use crate::standin::push::{
    AcceptedPush, Act, Authority, Desk, Outcome, Peer, Received, Reply, Running, Service, answer,
    start, write_ca,
};

/// The path of its URL.
const PATH: &str = "/rouse/push";
/// The secrets that both sides know.
const BEARER: &str = "fedcba9876543210";
const SIGNING: &str = "0123456789abcdef0123456789abcdef";
/// How far clocks may differ, in seconds.
const LEEWAY: u64 = 300;
/// Streams that one connection may have open.
const MAX_STREAMS: u32 = 100;

/// A running stand-in; it ends when this is dropped.
pub struct WebhookStandin {
    running: Running,
    service: Arc<Own>,
}

impl WebhookStandin {
    /// Makes an authority and listens; without HTTP/2 if it shall have none.
    ///
    /// # Errors
    ///
    /// When it cannot listen or make certificates.
    pub async fn start(has_http2: bool) -> io::Result<Self> {
        let authority = Authority::new().map_err(io::Error::other)?;
        let service = Arc::new(Own {
            clock: WallClock::system(),
            desk: Desk::new(),
            gone: Mutex::default(),
            seen: Mutex::default(),
        });
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let streams = if has_http2 { MAX_STREAMS } else { 0 };
        Ok(Self {
            running: start(Arc::clone(&service), &authority, bind, streams).await?,
            service,
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.running.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}{PATH}", self.running.address)
    }

    /// The bearer that it wants.
    #[must_use]
    pub const fn bearer(&self) -> &'static str {
        BEARER
    }

    /// The key that it wants bodies to be signed with.
    #[must_use]
    pub const fn signing_key(&self) -> &'static str {
        SIGNING
    }

    /// Writes the root certificate into a folder, for `ca_file`.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_ca(&self, folder: &Path) -> io::Result<PathBuf> {
        write_ca(&self.running.ca_pem, folder, "webhook-ca.pem")
    }

    /// The configuration of a gateway that pushes here; the root goes into `folder`.
    ///
    /// # Errors
    ///
    /// When the root cannot be written.
    pub fn client_config(&self, folder: &Path) -> io::Result<WebhookConfig> {
        Ok(WebhookConfig {
            name: "standin".to_owned(),
            providers: vec!["hms".to_owned()],
            url: self.url(),
            bearer: Some(Secret::new(BEARER.to_owned())),
            signing: Some(Secret::new(SIGNING.to_owned())),
            ca_file: Some(self.write_ca(folder)?),
            server_name: None,
            content: Content::default(),
        })
    }

    /// Says what happens to the next push for a device (its `pn-prid`), or for any.
    pub fn script(&self, prid: Option<&str>, outcome: impl Into<Outcome>) {
        self.service.desk.script(prid, outcome.into());
    }

    /// Declares a device gone: 410.
    pub fn unregister(&self, prid: &str) {
        self.service.gone.lock().insert(prid.to_owned());
    }

    /// The pushes taken so far, oldest first; one that came twice is there once.
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

/// The service.
struct Own {
    clock: WallClock,
    desk: Desk,
    gone: Mutex<HashSet<String>>,
    /// The keys of pushes that were taken.
    seen: Mutex<HashSet<String>>,
}

impl Service for Own {
    fn desk(&self) -> &Desk {
        &self.desk
    }

    async fn answer(&self, peer: &Peer, received: Received) -> Reply {
        let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
        let prid = body.pointer("/device/prid").and_then(Value::as_str);
        let prid = prid.unwrap_or_default();
        let outcome = self.desk.outcome(prid);
        tokio::time::sleep(outcome.delay).await;
        let retry_after = outcome.retry_after.as_deref();
        match outcome.act {
            Act::Serve => Reply::Answer(self.serve(peer, &received, &body, prid)),
            Act::GoAwayAfter => Reply::AnswerThenGoAway(self.serve(peer, &received, &body, prid)),
            Act::DropAfter => {
                self.serve(peer, &received, &body, prid);
                Reply::Hangup
            }
            Act::GoAwayBefore => Reply::GoAway,
            Act::DropBefore => Reply::Hangup,
            Act::Silence => Reply::Silence,
            Act::Reset(code) => Reply::Reset(code),
            Act::Raw { status, body } => Reply::Answer(answer(status, body, retry_after)),
            Act::Refuse { status, reason, .. } => {
                let body = json!({"reason": reason}).to_string().into();
                Reply::Answer(answer(status, body, retry_after))
            }
        }
    }
}

impl Own {
    fn serve(&self, peer: &Peer, received: &Received, body: &Value, prid: &str) -> Response<Bytes> {
        if let Err((status, why)) = self.verify(received, prid) {
            let body = json!({"reason": why}).to_string().into();
            return answer(status, body, None);
        }
        let key = text(received.request.headers(), "idempotency-key").unwrap_or_default();
        if self.seen.lock().insert(key.to_owned()) {
            self.desk.accept(AcceptedPush {
                at: Instant::now(),
                connection: peer.number,
                token: prid.to_owned(),
                path: received.request.uri().path().to_owned(),
                headers: received.request.headers().clone(),
                payload: body.clone(),
                id: key.to_owned(),
            });
        }
        answer(200, json!({"id": key}).to_string().into(), None)
    }

    fn verify(&self, received: &Received, prid: &str) -> Result<(), (u16, &'static str)> {
        let headers = received.request.headers();
        if received.request.method() != Method::POST || received.request.uri().path() != PATH {
            return Err((404, "not here"));
        }
        if text(headers, "authorization") != Some(&format!("Bearer {BEARER}")) {
            return Err((401, "bearer"));
        }
        self.verify_signature(headers, &received.body)
            .ok_or((403, "signature"))?;
        if text(headers, "content-type") != Some("application/json") || prid.is_empty() {
            return Err((400, "form"));
        }
        if self.gone.lock().contains(prid) {
            return Err((410, "gone"));
        }
        Ok(())
    }

    fn verify_signature(&self, headers: &HeaderMap, body: &[u8]) -> Option<()> {
        let (time, hex) = text(headers, "rouse-signature")?.split_once(',')?;
        let time = time.strip_prefix("t=")?;
        let hex = hex.strip_prefix("v1=")?;
        if self.clock.unix().abs_diff(time.parse().ok()?) > LEEWAY {
            return None;
        }
        let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
        let tag: Option<Vec<u8>> = pairs
            .map(|pair| u8::from_str_radix(pair?, 16).ok())
            .collect();
        let signed = [time.as_bytes(), b".", body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING.as_bytes());
        hmac::verify(&key, &signed, &tag?).ok()
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
