//! Where a push service is: its base URL taken apart, and the TLS that proves it is the one.
//!
//! A `ca_file` is trusted *beside* the system's roots. The name that is verified and said in SNI is
//! the URL's host unless `server_name` overrides it; `:authority` is always the URL's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::io::pns::dial::{Endpoint, Reach};

/// Why a URL or its TLS cannot be used; each text names the cure.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Not a URL that we can ask.
    #[error("url {url:?} is not {wanted}")]
    Url {
        /// What was configured.
        url: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// Not a name that a certificate can carry.
    #[error("server_name {0:?} is neither a host name nor an address")]
    ServerName(String),
    /// The CA file cannot be used.
    #[error("ca_file {}: {cause}; it must hold one or more PEM certificates", .path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// Nobody to trust.
    #[error("no root certificates: install the ca-certificates package or set ca_file")]
    NoRoots,
    /// The client certificate cannot be used.
    #[error(
        "certificate: {0}; it must hold, in PEM, the certificate, its chain and its private key"
    )]
    ClientCertificate(String),
    /// The TLS library refused the settings.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where requests go.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// Whether TLS is spoken.
    pub(super) tls: bool,
    /// Where to connect.
    pub(super) endpoint: Endpoint,
    /// Host and port as in the URL: `:authority`.
    pub(super) authority: String,
    /// Path in front of the service's own, without a slash at its end.
    pub(super) base: String,
    /// The name in SNI and in the certificate.
    pub(super) name: ServerName<'static>,
}

impl Origin {
    /// Takes a base URL apart; `http` only where `plain` allows it.
    pub(super) fn parse(
        url: &str,
        server_name: Option<&str>,
        plain: bool,
    ) -> Result<Self, OriginError> {
        let wrong = || OriginError::Url {
            url: url.to_owned(),
            wanted: if plain {
                "an http:// or https:// URL"
            } else {
                "an https:// URL"
            },
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if plain => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let wanted = server_name.unwrap_or(&host).to_owned();
        let name =
            ServerName::try_from(wanted.clone()).map_err(|_| OriginError::ServerName(wanted))?;
        Ok(Self {
            tls,
            endpoint: Endpoint {
                reach: Reach::Any,
                host,
                port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            },
            authority: authority.as_str().to_owned(),
            base: uri.path().trim_end_matches('/').to_owned(),
            name,
        })
    }
}

/// The roots that everybody shares, read from the system once.
#[derive(Clone, Debug)]
pub(super) struct Roots(rustls::RootCertStore);

impl Roots {
    /// Reads the system's roots; unreadable ones are left out, as every TLS client does.
    pub(super) fn native() -> Self {
        let mut store = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, ignored) = store.add_parsable_certificates(found.certs);
        tracing::debug!(
            added,
            ignored,
            errors = found.errors.len(),
            "system roots read"
        );
        Self(store)
    }

    /// Returns these roots and those of a PEM file.
    fn with_file(&self, file: Option<&Path>) -> Result<rustls::RootCertStore, OriginError> {
        let mut store = self.0.clone();
        if let Some(path) = file {
            let wrong = |cause: String| OriginError::CaFile {
                path: path.to_owned(),
                cause,
            };
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            for certificate in certificates {
                store
                    .add(certificate)
                    .map_err(|error| wrong(error.to_string()))?;
            }
        }
        if store.is_empty() {
            return Err(OriginError::NoRoots);
        }
        Ok(store)
    }
}

/// What a connection offers in ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
    /// `h2`, or `http/1.1` if the peer has no better.
    Any,
}

/// Builds the client's side of TLS; `certificate` is PEM, certificates and key in one text.
pub(super) fn client_config(
    roots: &Roots,
    ca_file: Option<&Path>,
    certificate: Option<&str>,
    protocol: Protocol,
) -> Result<Arc<rustls::ClientConfig>, OriginError> {
    let store = roots.with_file(ca_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let (chain, key) = client_certificate(pem)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| OriginError::ClientCertificate(error.to_string()))?
        }
    };
    let (h2, http1) = (b"h2".to_vec(), b"http/1.1".to_vec());
    config.alpn_protocols = match protocol {
        Protocol::Http1 => vec![http1],
        Protocol::Http2 => vec![h2],
        Protocol::Any => vec![h2, http1],
    };
    Ok(Arc::new(config))
}

/// Reads a certificate chain and its key out of one PEM text.
fn client_certificate(
    pem: &str,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), OriginError> {
    let wrong = |cause: String| OriginError::ClientCertificate(cause);
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong("there is no certificate in it".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| wrong("there is no unencrypted private key in it".to_owned()))?;
    Ok((chain, key))
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn a_url_is_taken_apart() {
        let origin = Origin::parse("https://[::1]:2197/base/", Some("push.test"), false).unwrap();
        assert_eq!(origin.endpoint.host, "::1");
        assert_eq!(origin.endpoint.port, 2197);
        assert_eq!(origin.authority, "[::1]:2197");
        assert_eq!(origin.base, "/base");
        assert_eq!(origin.name.to_str(), "push.test");
        let plain = Origin::parse("https://api.push.apple.com", None, false).unwrap();
        assert_eq!((plain.endpoint.port, plain.base.as_str()), (443, ""));
    }

    #[test]
    fn what_is_no_https_url_is_refused_with_the_cure() {
        for url in [
            "http://x",
            "ftp://x",
            "x",
            "https://u@x",
            "https://x/?q=1",
            "",
        ] {
            let error = Origin::parse(url, None, false).unwrap_err();
            assert!(error.to_string().contains("https://"), "{error}");
        }
        assert!(
            !Origin::parse("http://x:8080/token", None, true)
                .unwrap()
                .tls
        );
        assert!(Origin::parse("https://x", Some("not a name"), false).is_err());
    }
}
