//! The listener: HTTP/1.1, optionally over TLS, as many connections as are sane and no more.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::api;
use super::operator::Operator;

/// Connections at a time: an operator, his scripts, and a Prometheus.
const CONNECTIONS: usize = 128;
/// How long a client may take for a TLS handshake, and for the head of a request.
const HASTE: Duration = Duration::from_secs(10);
/// How long to wait after the system would give us no connection.
const RECOVERY: Duration = Duration::from_millis(100);

/// Where and for whom to listen.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address.
    pub address: SocketAddr,
    /// Who holds it may ask; without one only this machine may.
    pub token: Option<Token>,
    /// Certificate with its chain, and key: PEM files.
    pub tls: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// Whether these may be listened with.
    ///
    /// # Errors
    /// Fails if others could ask without a token.
    pub fn check(&self) -> Result<(), AdminError> {
        if self.token.is_none() && !self.address.ip().is_loopback() {
            return Err(AdminError::Open(self.address));
        }
        Ok(())
    }
}

/// What an operator shows; never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// Wraps a token.
    #[must_use]
    pub const fn new(token: String) -> Self {
        Self(token)
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Anybody could ask who calls whom.
    #[error(
        "[admin] address {0} can be reached from other machines: add token_file, or take 127.0.0.1"
    )]
    Open(SocketAddr),
    /// The address.
    #[error("cannot listen on [admin] address {address}: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A file of the certificate.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// The certificate and the key do not work.
    #[error("cannot use the certificate of [admin]: {0}")]
    Certificate(#[from] rustls::Error),
}

/// The API's listener.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Admin {
    /// Begins to listen and to answer.
    ///
    /// # Errors
    /// Fails if others could ask without a token, or if the address or the certificate cannot be used.
    pub async fn start(
        settings: Settings,
        operator: Arc<dyn Operator>,
    ) -> Result<Self, AdminError> {
        settings.check()?;
        let tls = settings
            .tls
            .as_ref()
            .map(|(certificate, key)| acceptor(certificate, key));
        let tls = tls.transpose()?;
        let listen = |error| AdminError::Listen {
            address: settings.address,
            error,
        };
        let listener = TcpListener::bind(settings.address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (stop, stopped) = watch::channel(false);
        let router = api::router(operator, settings.token);
        let task = tokio::spawn(accept(listener, tls, router, stopped));
        Ok(Self {
            address,
            stop,
            task,
        })
    }

    /// Returns the address that is really bound.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and ends what is open.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the API ended badly");
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            permit = Arc::clone(&room).acquire_owned() => permit,
        };
        let Ok(permit) = permit else { break };
        let accepted = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection for the API");
                tokio::time::sleep(RECOVERY).await;
                continue;
            }
        };
        let (router, tls) = (router.clone(), tls.clone());
        connections.spawn(async move {
            serve(stream, tls, router).await;
            drop(permit);
        });
    }
    connections.shutdown().await;
}

async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let Some(tls) = tls else {
        return answer(stream, router).await;
    };
    match tokio::time::timeout(HASTE, tls.accept(stream)).await {
        Ok(Ok(stream)) => answer(stream, router).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client of the API"),
        Err(_) => tracing::debug!("a client of the API did not end its handshake"),
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send, router: Router) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HASTE)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection of the API ended early");
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor, AdminError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |error| AdminError::File { path, error }
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(certificate))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
