//! One HTTP/2 connection to one push service, replaced whenever it must be (RFC 9113).
//!
//! Invariants: at most one connection takes new requests; one attempt to connect at a time, whose
//! outcome all who waited for it share; a connection that was told to go away, grew too old or let
//! a request down takes no new ones, and those on it may finish. What an error says about the
//! request decides whether it may be resent: see [`Fault`].

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::Notify;

use crate::io::pns::dial;
use crate::io::pns::http1;
use crate::io::pns::origin::Origin;
use crate::proto::push::Notice;

/// TCP, TLS and HTTP/2's preface together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// From the request's first byte to the answer's headers.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// From the answer's headers to its end.
const BODY_TIMEOUT: Duration = Duration::from_millis(500);
/// Ceiling of the pause between attempts to connect.
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// First pause between attempts to connect.
const BACKOFF_START: Duration = Duration::from_millis(500);
/// A provider's answer is a line of JSON; a gateway's error page may be more.
const ANSWER_LIMIT: usize = 64 * 1024;
/// An unanswered PING for so long ends the connection.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection this old may be the reason for a provider's failure.
const SEASONED: Duration = Duration::from_secs(1);

/// What a service wants of its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Profile {
    /// PING after so long without a frame, idle or not; `None`: never.
    pub(super) ping: Option<Duration>,
    /// Take no new requests on a connection this old.
    pub(super) max_age: Option<Duration>,
    /// A peer without HTTP/2 is asked by HTTP/1.1, each request on a connection of its own.
    pub(super) http1: bool,
}

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// A call or a message waits: connects even while backing off.
    Call,
    /// Fails at once while backing off.
    Routine,
}

impl Urgency {
    /// How urgent a push is.
    pub(super) const fn of(notice: &Notice) -> Self {
        match notice {
            Notice::Call(_) | Notice::Cancel(_) | Notice::Message(_) | Notice::Wake => Self::Call,
            Notice::Missed(_) | Notice::Refresh => Self::Routine,
        }
    }
}

/// A provider's answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its body.
    pub(super) body: Bytes,
    /// The connection that it came on.
    pub(super) connection: u64,
}

impl Answer {
    /// Reads an answer to its end.
    pub(super) async fn read(response: Response<Incoming>, connection: u64) -> Self {
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_LIMIT).collect();
        // The status alone is a verdict: a body that breaks off, is too long or does not end only
        // loses the provider's word.
        let body = match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        Self {
            status: head.status,
            headers: head.headers,
            body,
            connection,
        }
    }
}

/// What is known about a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There is no connection; nothing was sent.
    Connect,
    /// We do not try to connect at this time; nothing was sent.
    BackingOff(Duration),
    /// The peer says that it did not process it (RFC 9113 §6.8, §8.7): resend at once.
    NotProcessed,
    /// The connection broke; the peer may have processed it.
    Broken,
    /// No answer in time; the peer may have processed it.
    TimedOut,
}

/// A request without an answer.
#[derive(Clone, Debug)]
pub(super) struct TransportError {
    /// What it means for the request.
    pub(super) fault: Fault,
    /// For the log: never a token.
    pub(super) detail: Arc<str>,
    /// The connection that it was sent on.
    pub(super) connection: Option<u64>,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// What happened to the connections, for metrics and tests.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connects: AtomicU64,
    pub(super) connect_failures: AtomicU64,
}

/// A push service's connection.
pub(super) struct Transport {
    origin: Origin,
    tls: Arc<rustls::ClientConfig>,
    profile: Profile,
    state: Mutex<State>,
    /// Held by the one who connects.
    connecting: tokio::sync::Mutex<()>,
    /// The peer has no HTTP/2.
    has_http1_only: AtomicBool,
    /// A connection ended.
    ended: Arc<Notify>,
    pub(super) counters: Counters,
}

#[derive(Default)]
struct State {
    current: Option<Connection>,
    next_number: u64,
    /// Attempts to connect that have come to an end.
    attempts: u64,
    /// The last attempt's failure, if it failed.
    failure: Option<TransportError>,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Clone)]
struct Connection {
    number: u64,
    born: Instant,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Transport {
    /// A transport that connects when it is first needed.
    pub(super) fn new(origin: Origin, tls: Arc<rustls::ClientConfig>, profile: Profile) -> Self {
        Self {
            origin,
            tls,
            profile,
            state: Mutex::new(State::default()),
            connecting: tokio::sync::Mutex::new(()),
            has_http1_only: AtomicBool::new(false),
            ended: Arc::new(Notify::new()),
            counters: Counters::default(),
        }
    }

    /// Where it goes.
    pub(super) const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Connects if there is no usable connection.
    pub(super) async fn connect(self: &Arc<Self>, urgency: Urgency) -> Result<(), TransportError> {
        self.connection(urgency).await.map(|_| ())
    }

    /// Is ready for a request: connected, unless each request has a connection of its own.
    pub(super) async fn ready(self: &Arc<Self>, urgency: Urgency) -> Result<(), TransportError> {
        if self.has_http1_only.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.connect(urgency).await
    }

    /// Sends a request and reads its answer.
    pub(super) async fn exchange(
        self: &Arc<Self>,
        request: Request<Full<Bytes>>,
        urgency: Urgency,
    ) -> Result<Answer, TransportError> {
        if self.has_http1_only.load(Ordering::Relaxed) {
            return http1::exchange(&self.origin, &self.tls, request).await;
        }
        let mut connection = self.connection(urgency).await?;
        let number = connection.number;
        let response = connection.sender.send_request(request);
        let response = match tokio::time::timeout(REQUEST_TIMEOUT, response).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unanswered(&error, number)),
            Err(_) => return Err(failed(Fault::TimedOut, "no answer in time", Some(number))),
        };
        Ok(Answer::read(response, number).await)
    }

    /// Sends no new requests on this connection; those on it may finish.
    pub(super) fn retire(&self, number: u64) {
        let mut state = self.state.lock();
        if state.current.as_ref().is_some_and(|c| c.number == number) {
            state.current = None;
        }
    }

    /// As [`Transport::retire`], for a provider that fails on it; spares a connection that is new, or
    /// a failing provider would see a connection for each push, which it takes for an attack.
    pub(super) fn retire_if_seasoned(&self, number: u64) {
        let mut state = self.state.lock();
        let seasoned = |c: &Connection| c.number == number && c.born.elapsed() >= SEASONED;
        if state.current.as_ref().is_some_and(seasoned) {
            state.current = None;
        }
    }

    /// Keeps a connection open until the last owner of the transport is gone.
    pub(super) async fn keep_warm(transport: std::sync::Weak<Self>) {
        loop {
            let Some(this) = transport.upgrade() else {
                return;
            };
            let pause = match this.connect(Urgency::Routine).await {
                Ok(()) => None,
                Err(TransportError {
                    fault: Fault::BackingOff(pause),
                    ..
                }) => Some(pause),
                Err(_) => Some(BACKOFF_START),
            };
            // Only the bell is kept, not the transport: its owners may let it go meanwhile.
            let ended = Arc::clone(&this.ended);
            drop(this);
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    if tokio::time::timeout(BACKOFF_CAP, ended.notified())
                        .await
                        .is_ok()
                    {
                        tokio::time::sleep(jittered(BACKOFF_START)).await;
                    }
                }
            }
        }
    }

    /// Returns the connection for new requests, connecting if need be.
    async fn connection(self: &Arc<Self>, urgency: Urgency) -> Result<Connection, TransportError> {
        let seen = {
            let mut state = self.state.lock();
            if let Some(connection) = self.usable(&mut state) {
                return Ok(connection);
            }
            if urgency == Urgency::Routine
                && let Some(pause) = state
                    .not_before
                    .and_then(|at| at.checked_duration_since(Instant::now()))
            {
                let why = state.failure.as_ref().map_or("backing off", |f| &f.detail);
                return Err(failed(Fault::BackingOff(pause), why, None));
            }
            state.attempts
        };
        let _turn = self.connecting.lock().await;
        if self.has_http1_only.load(Ordering::Relaxed) {
            return Err(failed(Fault::NotProcessed, "no HTTP/2", None));
        }
        {
            let mut state = self.state.lock();
            if let Some(connection) = self.usable(&mut state) {
                return Ok(connection);
            }
            // Somebody's attempt ended while we waited for our turn: its failure is ours as well,
            // or a thousand waiting pushes would make a thousand attempts one after the other.
            if state.attempts != seen
                && let Some(failure) = &state.failure
            {
                return Err(failure.clone());
            }
        }
        let outcome = self.dial().await;
        self.note(outcome)
    }

    /// Returns the current connection unless it may not take new requests.
    fn usable(&self, state: &mut State) -> Option<Connection> {
        let current = state.current.as_ref()?;
        let old = self
            .profile
            .max_age
            .is_some_and(|age| current.born.elapsed() >= age);
        if old || current.sender.is_closed() {
            state.current = None;
            return None;
        }
        Some(current.clone())
    }

    /// Makes one attempt to connect.
    async fn dial(self: &Arc<Self>) -> Result<http2::SendRequest<Full<Bytes>>, TransportError> {
        let attempt = async {
            let origin = &self.origin;
            let stream = dial::connect_tls(&origin.endpoint, &origin.name, &self.tls)
                .await
                .map_err(|error| failed(Fault::Connect, &error.to_string(), None))?;
            if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                if self.profile.http1 {
                    self.has_http1_only.store(true, Ordering::Relaxed);
                    return Err(failed(Fault::NotProcessed, "no HTTP/2", None));
                }
                return Err(failed(Fault::Connect, "the peer does not speak h2", None));
            }
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                // APNs lets one stream through until it has seen valid credentials; until the
                // peer's SETTINGS say more, one is all that is safe anywhere.
                .initial_max_send_streams(1)
                .max_header_list_size(16 * 1024);
            if let Some(ping) = self.profile.ping {
                builder
                    .keep_alive_interval(ping)
                    .keep_alive_timeout(PING_TIMEOUT)
                    .keep_alive_while_idle(true);
            }
            builder
                .handshake(TokioIo::new(stream))
                .await
                .map_err(|error| failed(Fault::Connect, &chain(&error), None))
        };
        let (sender, connection) = match tokio::time::timeout(CONNECT_TIMEOUT, attempt).await {
            Ok(outcome) => outcome?,
            Err(_) => return Err(failed(Fault::Connect, "no connection in time", None)),
        };
        let transport = Arc::downgrade(self);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = chain(&error), "push connection ended");
            }
            if let Some(transport) = transport.upgrade() {
                transport.ended.notify_one();
            }
        });
        Ok(sender)
    }

    /// Writes down how an attempt to connect ended.
    fn note(
        &self,
        outcome: Result<http2::SendRequest<Full<Bytes>>, TransportError>,
    ) -> Result<Connection, TransportError> {
        let mut state = self.state.lock();
        state.attempts += 1;
        match outcome {
            Ok(sender) => {
                self.counters.connects.fetch_add(1, Ordering::Relaxed);
                state.next_number += 1;
                let connection = Connection {
                    number: state.next_number,
                    born: Instant::now(),
                    sender,
                };
                state.failure = None;
                state.failures = 0;
                state.not_before = None;
                state.current = Some(connection.clone());
                Ok(connection)
            }
            // Nothing is wrong with it: it is asked another way from here on.
            Err(failure) if failure.fault == Fault::NotProcessed => Err(failure),
            Err(failure) => {
                self.counters
                    .connect_failures
                    .fetch_add(1, Ordering::Relaxed);
                let pause = BACKOFF_START
                    .saturating_mul(1 << state.failures.min(10))
                    .min(BACKOFF_CAP);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + jittered(pause));
                state.failure = Some(failure.clone());
                tracing::warn!(
                    host = self.origin.authority,
                    error = %failure,
                    "push service cannot be reached"
                );
                Err(failure)
            }
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("origin", &self.origin)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Says what an HTTP/2 error means for the request.
fn unanswered(error: &hyper::Error, connection: u64) -> TransportError {
    let mut source = error.source();
    let mut fault = if error.is_canceled() {
        // hyper never wrote it: the connection was closing.
        Fault::NotProcessed
    } else {
        Fault::Broken
    };
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<h2::Error>() {
            let refused = cause.is_reset() && cause.reason() == Some(h2::Reason::REFUSED_STREAM);
            // A stream at or below GOAWAY's last identifier is not failed by it but by what
            // follows, so a remote GOAWAY as a stream's error means: above, not processed.
            let above = cause.is_go_away() && cause.is_remote();
            if refused || above {
                fault = Fault::NotProcessed;
            }
        }
        source = cause.source();
    }
    failed(fault, &chain(error), Some(connection))
}

pub(super) fn failed(fault: Fault, detail: &str, connection: Option<u64>) -> TransportError {
    TransportError {
        fault,
        detail: detail.into(),
        connection,
    }
}

/// Prints an error and its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Half to all of a pause, so that those who lost a peer together do not return together.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
