//! Who may ask: the holder of the token; and how often. What every answer carries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use subtle::ConstantTimeEq as _;

use super::problem::Refusal;
use super::server::Token;
use crate::io::clock::Clock;

/// How long a request may take; a stream's answer begins at once.
const PATIENCE: Duration = Duration::from_secs(20);
/// Scripts, styles and data from here alone; nothing inline, nobody may frame the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// Who may ask, and how often.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Token>,
    requests: Mutex<Bucket>,
    failures: Mutex<Bucket>,
}

/// So many at once, so many in a second.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    most: f64,
    left: f64,
    since: Instant,
}

impl Guard {
    pub(super) fn new(token: Option<Token>) -> Self {
        Self {
            token,
            requests: Mutex::new(Bucket::new(500.0, 1000.0)),
            failures: Mutex::new(Bucket::new(5.0, 20.0)),
        }
    }

    fn admit(&self, request: &Request) -> Result<(), Refusal> {
        let now = Clock::now();
        if !self.requests.lock().take(now) {
            return Err(Refusal::TooMany);
        }
        let path = request.uri().path();
        let Some(token) = &self.token else {
            return not_foreign(request);
        };
        // Nobody learns from these who calls whom; the page asks for the token itself.
        if !path.starts_with("/api/") && path != "/metrics" {
            return Ok(());
        }
        if bearer(request.headers()).is_some_and(|shown| token.is(shown)) {
            return Ok(());
        }
        // Whoever tries tokens does not get to try many.
        if !self.failures.lock().take(now) {
            return Err(Refusal::TooMany);
        }
        Err(Refusal::Unauthorized)
    }
}

impl Token {
    /// Whether these bytes are the token; takes as long whatever of them is right.
    fn is(&self, shown: &[u8]) -> bool {
        self.expose().as_bytes().ct_eq(shown).into()
    }
}

impl Bucket {
    fn new(per_second: f64, most: f64) -> Self {
        Self {
            per_second,
            most,
            left: most,
            since: Clock::now(),
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.left = (self.left + passed * self.per_second).min(self.most);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

/// Lets in who may ask, waits so long and no longer, and says how answers may be used.
pub(super) async fn watch(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let answer = match guard.admit(&request) {
        Ok(()) => tokio::time::timeout(PATIENCE, next.run(request))
            .await
            .unwrap_or_else(|_| Refusal::Timeout.into_response()),
        Err(refusal) => refusal.into_response(),
    };
    harden(answer)
}

fn harden(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then_some(token.trim_ascii())
}

/// Without a token everybody on this machine may ask, but no page of another site that a browser
/// on it shows: neither from its own origin, nor under a name of its own for this address.
fn not_foreign(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    let host = text(header::HOST).unwrap_or_default();
    let host = std::str::from_utf8(host).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let name = name.trim_matches(['[', ']']);
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    if !host.is_empty() && name != "localhost" && !is_address {
        return Err(Refusal::Foreign);
    }
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
    let origin = text(header::ORIGIN).and_then(|origin| std::str::from_utf8(origin).ok());
    let is_own = origin.is_none_or(|origin| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority == Some(host)
    });
    if !is_safe && !is_own {
        return Err(Refusal::Foreign);
    }
    Ok(())
}
