//! One POST of OTLP over HTTP (binary protobuf) to a collector of OpenTelemetry, on a connection of its
//! own: batches are few, and a collector that was away is found again without a word.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a post may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a collector has not got something.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Its address has no host.
    #[error("the address has no host")]
    Address,
    /// This machine trusts nobody.
    #[error("no root certificate is there to trust")]
    Trust,
    /// It is not reached.
    #[error("the collector is not reached: {0}")]
    Connect(#[from] io::Error),
    /// The connection ended in the middle.
    #[error("the collector ended the connection: {0}")]
    Broken(#[from] hyper::Error),
    /// It took too long.
    #[error("the collector does not answer in time")]
    Silent,
    /// It says no.
    #[error("the collector answers {0}")]
    Refused(StatusCode),
}

impl PostError {
    /// Whether the same may be taken a little later.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Broken(_) | Self::Silent => true,
            Self::Refused(status) => matches!(status.as_u16(), 429 | 502..=504),
            Self::Address | Self::Trust => false,
        }
    }
}

/// Where to, and how.
#[derive(Debug)]
pub struct Post {
    url: Uri,
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Post {
    /// Posts go to this URL; `https` trusts whom this machine trusts.
    ///
    /// # Errors
    /// Fails if the URL names no host, or nobody is trusted.
    pub fn new(url: Uri, header: Option<(HeaderName, HeaderValue)>) -> Result<Self, PostError> {
        let host = url.host().ok_or(PostError::Address)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let is_tls = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tls = if is_tls {
            let name = ServerName::try_from(host.clone()).map_err(|_| PostError::Address)?;
            Some((trust()?, name))
        } else {
            None
        };
        Ok(Self {
            url,
            host,
            port,
            tls,
            header,
        })
    }

    /// Posts a body.
    ///
    /// # Errors
    /// Fails if the collector does not say that it has it.
    pub async fn send(&self, body: Bytes) -> Result<(), PostError> {
        let sending = async {
            let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
            match &self.tls {
                Some((config, name)) => {
                    let connector = TlsConnector::from(Arc::clone(config));
                    let stream = connector.connect(name.clone(), stream).await?;
                    self.exchange(stream, body).await
                }
                None => self.exchange(stream, body).await,
            }
        };
        let status = tokio::time::timeout(PATIENCE, sending)
            .await
            .map_err(|_| PostError::Silent)??;
        if status.is_success() {
            Ok(())
        } else {
            Err(PostError::Refused(status))
        }
    }

    async fn exchange<S>(&self, stream: S, body: Bytes) -> Result<StatusCode, PostError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer: it is asked to close.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the collector's connection ended");
            }
        });
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .body(Full::new(body))
            .map_err(|_| PostError::Address)?;
        let headers = request.headers_mut();
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(CONTENT_TYPE, protobuf);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let authority = self.url.authority().ok_or(PostError::Address)?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| PostError::Address)?;
        headers.insert(HOST, host);
        if let Some((name, value)) = &self.header {
            headers.insert(name.clone(), value.clone());
        }
        Ok(sender.send_request(request).await?.status())
    }
}

fn trust() -> Result<Arc<ClientConfig>, PostError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(PostError::Trust);
    }
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
