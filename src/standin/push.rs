//! What the stand-ins for push services share: a TLS and HTTP/2 server on a port of the system's
//! choosing, with a certificate authority of its own, that does as it is told.
//!
//! It speaks HTTP/2 by frames, not by responses: it can reset a stream, send GOAWAY, stay silent
//! or hang up, which is what push services do to those who rely on them.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response, StatusCode};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::standin::push_frames::{Injected, Injector};

/// Accepted pushes that are remembered; older ones are forgotten and counted.
const REMEMBERED: usize = 65_536;
/// Outcomes that may be scripted ahead.
const SCRIPTED: usize = 65_536;
/// No push is longer; what is longer is cut here and refused as too large.
const BODY_LIMIT: usize = 64 * 1024;

/// What happens to one request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// First, this long nothing happens.
    pub delay: Duration,
    /// Then this.
    pub act: Act,
    /// The answer carries this Retry-After.
    pub retry_after: Option<String>,
}

/// What a stand-in does with a request.
#[derive(Clone, Debug, Default)]
pub enum Act {
    /// Verifies it and answers as the real service does.
    #[default]
    Serve,
    /// Refuses it with the service's own body.
    Refuse {
        /// The status.
        status: u16,
        /// The service's word.
        reason: String,
        /// APNs, 410: since when the token is dead, milliseconds since the Unix epoch.
        timestamp: Option<u64>,
    },
    /// Answers with any bytes.
    Raw {
        /// The status.
        status: u16,
        /// The body.
        body: Bytes,
    },
    /// Resets the stream with an error code (RFC 9113 §7).
    Reset(u32),
    /// Says that this request and those that came after it on its connection were not processed
    /// (GOAWAY); those before it are answered.
    GoAwayBefore,
    /// Verifies and answers it, then takes no new streams on this connection: GOAWAY.
    GoAwayAfter,
    /// Hangs up without having looked at it.
    DropBefore,
    /// Verifies and records it, then hangs up instead of answering.
    DropAfter,
    /// Never answers.
    Silence,
}

impl From<Act> for Outcome {
    fn from(act: Act) -> Self {
        Self {
            act,
            ..Self::default()
        }
    }
}

impl Act {
    /// Refuses with a status and the service's word.
    #[must_use]
    pub fn refuse(status: u16, reason: &str) -> Self {
        Self::Refuse {
            status,
            reason: reason.to_owned(),
            timestamp: None,
        }
    }
}

/// A push that the stand-in took.
#[derive(Clone, Debug)]
pub struct AcceptedPush {
    /// When.
    pub at: Instant,
    /// The number of its connection.
    pub connection: u64,
    /// The device's or registration token.
    pub token: String,
    /// The request's path.
    pub path: String,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body.
    pub payload: Value,
    /// What the stand-in named it: `apns-id`, or FCM's message name.
    pub id: String,
}

impl AcceptedPush {
    /// Returns a header's text, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

/// The certificates of a stand-in: an authority made at its start, and what it signed.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Rouse stand-in root");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)?,
        })
    }

    pub(super) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Signs a certificate for names and addresses.
    fn sign(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<(rcgen::Certificate, KeyPair), rcgen::Error> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }

    /// A client's certificate and key in one PEM text.
    pub(super) fn client_pem(&self) -> Result<String, rcgen::Error> {
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        let (certificate, key) = self.sign(&["client.test"], usage)?;
        Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
    }

    /// The server's side of TLS; a client's certificate of this authority is taken, none is needed.
    fn server_config(&self, names: &[&str]) -> io::Result<rustls::ServerConfig> {
        let (certificate, key) = self
            .sign(names, ExtendedKeyUsagePurpose::ServerAuth)
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(self.issuer.der().clone())
            .map_err(io::Error::other)?;
        let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        )
        .allow_unauthenticated()
        .build()
        .map_err(io::Error::other)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// What a stand-in was told to do and what it has seen.
pub(super) struct Desk {
    scripts: Mutex<Scripts>,
    accepted: Mutex<VecDeque<AcceptedPush>>,
    /// How many were accepted since the start.
    total: watch::Sender<u64>,
    /// Up to which `next_push` has returned them.
    taken: Mutex<u64>,
    requests: AtomicU64,
    connections: AtomicU64,
    /// Streams that are open on any connection, and the most that ever were.
    open: AtomicU64,
    most: AtomicU64,
}

#[derive(Default)]
struct Scripts {
    once: HashMap<Option<String>, VecDeque<Outcome>>,
    always: HashMap<Option<String>, Outcome>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            scripts: Mutex::default(),
            accepted: Mutex::default(),
            total: watch::Sender::new(0),
            taken: Mutex::new(0),
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most: AtomicU64::new(0),
        }
    }

    pub(super) fn script(&self, token: Option<&str>, outcome: Outcome) {
        let mut scripts = self.scripts.lock();
        let queue = scripts.once.entry(token.map(str::to_owned)).or_default();
        if queue.len() < SCRIPTED {
            queue.push_back(outcome);
        }
    }

    pub(super) fn always(&self, token: Option<&str>, outcome: Option<Outcome>) {
        let mut scripts = self.scripts.lock();
        let key = token.map(str::to_owned);
        match outcome {
            Some(outcome) => scripts.always.insert(key, outcome),
            None => scripts.always.remove(&key),
        };
    }

    /// Returns what shall happen to a request for a token: what was scripted for it once, for any
    /// once, for it always, for any always.
    pub(super) fn outcome(&self, token: &str) -> Outcome {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut scripts = self.scripts.lock();
        let keys = [Some(token.to_owned()), None];
        keys.iter()
            .find_map(|key| scripts.once.get_mut(key)?.pop_front())
            .or_else(|| keys.iter().find_map(|key| scripts.always.get(key).cloned()))
            .unwrap_or_default()
    }

    pub(super) fn accept(&self, push: AcceptedPush) {
        let mut accepted = self.accepted.lock();
        if accepted.len() == REMEMBERED {
            accepted.pop_front();
        }
        accepted.push_back(push);
        self.total.send_modify(|total| *total += 1);
    }

    pub(super) fn accepted(&self) -> Vec<AcceptedPush> {
        self.accepted.lock().iter().cloned().collect()
    }

    pub(super) async fn next_push(&self) -> AcceptedPush {
        let mut total = self.total.subscribe();
        loop {
            let seen = *total.borrow_and_update();
            {
                let accepted = self.accepted.lock();
                let mut taken = self.taken.lock();
                let forgotten = seen.saturating_sub(accepted.len() as u64);
                let at = taken.max(forgotten);
                let index = usize::try_from(at - forgotten).unwrap_or(usize::MAX);
                if let Some(push) = accepted.get(index) {
                    *taken = at + 1;
                    return push.clone();
                }
            }
            if total.changed().await.is_err() {
                // The sender lives in self.
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn most_streams(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// Counts a stream for as long as the guard lives.
    fn open(&self) -> OpenStream<'_> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        OpenStream(&self.open)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A stream that is counted.
struct OpenStream<'d>(&'d AtomicU64);

impl Drop for OpenStream<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request as it came.
pub(super) struct Received {
    pub(super) request: Request<()>,
    pub(super) body: Bytes,
}

/// One connection, to a service.
pub(super) struct Peer {
    /// Its number, from 1.
    pub(super) number: u64,
    /// Whether it showed a certificate of ours.
    pub(super) has_certificate: bool,
    /// The team that it speaks for, once known.
    pub(super) team: Mutex<Option<String>>,
}

/// What a service does with a request.
pub(super) enum Reply {
    Answer(Response<Bytes>),
    AnswerThenGoAway(Response<Bytes>),
    GoAway,
    Reset(u32),
    Hangup,
    Silence,
}

/// A service's dialect.
pub(super) trait Service: Send + Sync + 'static {
    /// Returns the desk that requests are counted on.
    fn desk(&self) -> &Desk;

    /// Answers a request.
    fn answer(&self, peer: &Peer, received: Received) -> impl Future<Output = Reply> + Send;
}

/// A running server; it ends when this is dropped.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) ca_pem: String,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts a service on a loopback port; one without streams speaks HTTP/1.1 alone.
pub(super) async fn start<S: Service>(
    service: Arc<S>,
    authority: &Authority,
    bind: SocketAddr,
    max_streams: u32,
) -> io::Result<Running> {
    let listener = TcpListener::bind(bind).await?;
    let address = listener.local_addr()?;
    let mut config = authority.server_config(&["localhost", "127.0.0.1", "::1", "push.test"])?;
    if max_streams == 0 {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let task = tokio::spawn(listen(listener, acceptor, service, max_streams));
    Ok(Running {
        address,
        ca_pem: authority.pem(),
        task,
    })
}

async fn listen<S: Service>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    service: Arc<S>,
    max_streams: u32,
) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (acceptor, service) = (acceptor.clone(), Arc::clone(&service));
        connections.spawn(async move {
            if let Err(error) = serve(stream, acceptor, service, max_streams).await {
                tracing::debug!(%error, "stand-in connection ended");
            }
        });
    }
}

/// What a request's task asks of its connection.
enum Order {
    /// Take no new streams; answer those that are here.
    GoAway,
    /// Streams above this one are not processed.
    Refuse(u32),
    Hangup,
}

async fn serve<S: Service>(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    service: Arc<S>,
    max_streams: u32,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let number = service.desk().connections.fetch_add(1, Ordering::Relaxed) + 1;
    let peer = Arc::new(Peer {
        number,
        has_certificate: stream.get_ref().1.peer_certificates().is_some(),
        team: Mutex::new(None),
    });
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return super::push_http1::serve(stream, peer, service).await;
    }
    let injected = Injected::default();
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(max_streams)
        .handshake::<_, Bytes>(Injector::new(stream, injected.clone()))
        .await?;
    let (orders, mut ordered) = mpsc::channel(16);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            incoming = connection.accept() => {
                let Some(incoming) = incoming else { break };
                let (request, respond) = incoming?;
                let (peer, service, orders) =
                    (Arc::clone(&peer), Arc::clone(&service), orders.clone());
                streams.spawn(async move {
                    if let Err(error) = exchange(&peer, &*service, request, respond, &orders).await {
                        tracing::debug!(%error, "stand-in stream ended");
                    }
                });
                while streams.try_join_next().is_some() {}
            }
            order = ordered.recv() => match order {
                Some(Order::Refuse(last)) => injected.go_away(last),
                Some(Order::GoAway) => connection.graceful_shutdown(),
                Some(Order::Hangup) | None => return Ok(()),
            },
        }
    }
    Ok(())
}

/// Takes one request to its end.
async fn exchange<S: Service>(
    peer: &Peer,
    service: &S,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    orders: &mpsc::Sender<Order>,
) -> Result<(), h2::Error> {
    let _open = service.desk().open();
    let stream_id = u32::from(respond.stream_id());
    let (parts, mut stream) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        if body.len() < BODY_LIMIT {
            body.extend_from_slice(&data);
        }
    }
    let received = Received {
        request: Request::from_parts(parts, ()),
        body: body.freeze(),
    };
    let order = match service.answer(peer, received).await {
        Reply::Answer(response) => {
            write(&mut respond, response)?;
            None
        }
        Reply::AnswerThenGoAway(response) => {
            write(&mut respond, response)?;
            Some(Order::GoAway)
        }
        Reply::Reset(code) => {
            respond.send_reset(code.into());
            None
        }
        // A client's streams have odd numbers (RFC 9113 §5.1.1).
        Reply::GoAway => Some(Order::Refuse(stream_id.saturating_sub(2))),
        Reply::Hangup => Some(Order::Hangup),
        Reply::Silence => std::future::pending().await,
    };
    if let Some(order) = order
        && orders.send(order).await.is_err()
    {
        tracing::debug!("the connection is gone already");
    }
    Ok(())
}

fn write(respond: &mut SendResponse<Bytes>, response: Response<Bytes>) -> Result<(), h2::Error> {
    let (head, body) = response.into_parts();
    let head = Response::from_parts(head, ());
    let mut stream = respond.send_response(head, body.is_empty())?;
    if !body.is_empty() {
        stream.send_data(body, true)?;
    }
    Ok(())
}

/// Writes an answer with a body of JSON or of nothing.
pub(super) fn answer(status: u16, body: Bytes, retry_after: Option<&str>) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(value) = retry_after.and_then(|text| text.parse().ok()) {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, value);
    }
    response
}

/// Writes a root certificate where a client's `ca_file` can point to.
pub(super) fn write_ca(pem: &str, folder: &Path, name: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, pem)?;
    Ok(path)
}
