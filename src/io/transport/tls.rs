//! TLS: our certificate, which is read again when its files change, and trust in upstream's.
//!
//! A changed pair of files that does not load (half written, key of another certificate) leaves
//! the old one in use and is tried again at the next change.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::io::transport::counts::Counts;
use crate::proto::Hop;

/// The files of our certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// PEM: the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM: its private key.
    pub key: PathBuf,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read {}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: rustls::pki_types::pem::Error,
    },
    /// The file has no certificate.
    #[error("{} has no certificate", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// The certificate and key do not work, alone or together.
    #[error("cannot use the certificate: {0}")]
    Unusable(#[from] rustls::Error),
}

/// Our side of TLS connections that others open.
pub(super) struct TlsServer {
    files: TlsFiles,
    /// One for the life of the process: a new certificate does not end old tickets.
    ticketer: Arc<dyn ProducesTickets>,
    config: ArcSwap<ServerConfig>,
    /// The files as they were just before the first load.
    first: [Option<(SystemTime, u64)>; 2],
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl TlsServer {
    pub(super) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        let first = stamps(&files);
        let config = server_config(&files, &ticketer)?;
        Ok(Self {
            first,
            files,
            ticketer,
            config: ArcSwap::from(config),
        })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Looks at the files for ever and loads them when they have changed.
    pub(super) async fn watch(self: Arc<Self>, every: Duration, counts: Counts) {
        let mut last = self.first;
        let mut is_broken = false;
        loop {
            tokio::time::sleep(every).await;
            let stamp = stamps(&self.files);
            let has_changed = stamp != last;
            if !has_changed && !is_broken {
                continue;
            }
            last = stamp;
            let certificate = self.files.certificate.display();
            match server_config(&self.files, &self.ticketer) {
                Ok(config) => {
                    self.config.store(config);
                    is_broken = false;
                    counts.certificate_loads.inc();
                    tracing::info!(%certificate, "certificate loaded again");
                }
                Err(error) => {
                    // Tried again each time: the files may have been caught half written, within
                    // one tick of the file system's clock. Said once.
                    is_broken = true;
                    if has_changed {
                        counts.certificate_errors.inc();
                        tracing::warn!(%certificate, %error, "changed certificate is not usable");
                    }
                }
            }
        }
    }
}

/// Our side of TLS connections that we open toward upstream.
#[derive(Clone, Debug)]
pub(super) struct TlsClient {
    config: Arc<ClientConfig>,
}

impl TlsClient {
    /// Trusts the system's roots and those in `ca`.
    pub(super) fn load(ca: Option<&Path>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let native = rustls_native_certs::load_native_certs();
        for error in native.errors {
            tracing::debug!(%error, "system root not readable");
        }
        let (_, ignored) = roots.add_parsable_certificates(native.certs);
        if ignored > 0 {
            tracing::debug!(ignored, "system roots not usable");
        }
        if let Some(path) = ca {
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
        })
    }

    pub(super) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }
}

/// The name that the hop's certificate must carry; `None` if it cannot be one.
pub(super) fn server_name(hop: &Hop) -> Option<ServerName<'static>> {
    let address = || Some(ServerName::from(hop.address.ip()));
    let Some(name) = &hop.server_name else {
        return address();
    };
    match name.parse::<IpAddr>() {
        Ok(ip) => Some(ServerName::from(ip)),
        Err(_) => ServerName::try_from(name.to_string()).ok(),
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_config(
    files: &TlsFiles,
    ticketer: &Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        path: files.key.clone(),
        error,
    })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    // Tickets keep the session at the phone: ten thousand sessions cost us nothing.
    config.ticketer = Arc::clone(ticketer);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |error| TlsError::File {
        path: path.to_owned(),
        error,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(file)?
        .collect::<Result<_, _>>()
        .map_err(file)?;
    if chain.is_empty() {
        return Err(TlsError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

fn stamps(files: &TlsFiles) -> [Option<(SystemTime, u64)>; 2] {
    [&files.certificate, &files.key].map(|path| {
        // A file that is being replaced is missing for a moment: a change like any other.
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}
