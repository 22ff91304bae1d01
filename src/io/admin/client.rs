//! The other end of the API, for the command line: asks one thing, or follows the events.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::server::Token;
use super::view::{Live, Problem};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer is larger, and no line of the events.
const LARGEST: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be one.
    #[error("\"{0}\" is no address of a gateway: write http://HOST:PORT")]
    Address(String),
    /// Nobody listens.
    #[error(
        "no gateway answers on {address} ({error}): is it running, with [admin] in its configuration? \
         --admin names another"
    )]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        error: io::Error,
    },
    /// It stopped in the middle.
    #[error("the gateway on {address} ended the connection ({error})")]
    Broken {
        /// Where.
        address: String,
        /// How.
        error: hyper::Error,
    },
    /// It took too long.
    #[error("the gateway on {0} does not answer in time")]
    Silent(String),
    /// The token is missing or wrong.
    #[error(
        "the gateway on {0} wants another token: name the file of its [admin] token_file with \
         --token-file, or its configuration with --config"
    )]
    Token(String),
    /// It says no.
    #[error("the gateway says: {0}")]
    Refused(String),
    /// It is no gateway, or another version's.
    #[error("the answer of {0} is not one of a gateway of this version")]
    Strange(String),
    /// A root certificate.
    #[error("cannot read {0}: no certificate in it")]
    Root(String),
}

/// A gateway to ask.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    token: Option<Token>,
}

impl Client {
    /// A client of the gateway at an address, `http://127.0.0.1:8060`; `root` is one more
    /// certificate to trust.
    ///
    /// # Errors
    /// Fails if the address is none, or the certificate cannot be read.
    pub fn new(
        address: &str,
        token: Option<Token>,
        root: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(address.to_owned());
        let uri: Uri = address.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']);
        let (default, tls) = match uri.scheme_str() {
            Some("https") => (443, Some(trust(root)?)),
            Some("http") => (80, None),
            Some(_) | None => return Err(wrong()),
        };
        Ok(Self {
            address: address.trim_end_matches('/').to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default),
            tls,
            token,
        })
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Asks for something.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(&self.ask(Method::GET, path, Bytes::new()).await?)
    }

    /// Has something done.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(&self.ask(Method::POST, path, Bytes::new()).await?)
    }

    /// Sends something.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn send_json<T: DeserializeOwned>(
        &self,
        path: &str,
        what: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(what).unwrap_or_default();
        self.read(&self.ask(Method::POST, path, body.into()).await?)
    }

    /// Has something done that has no answer but that it is taken.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn command(&self, path: &str) -> Result<(), ClientError> {
        self.ask(Method::POST, path, Bytes::new()).await.map(drop)
    }

    /// Has something removed.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.ask(Method::DELETE, path, Bytes::new()).await.map(drop)
    }

    /// Puts something.
    ///
    /// # Errors
    /// Fails if there is no answer, or another one.
    pub async fn put<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(&self.ask(Method::PUT, path, Bytes::new()).await?)
    }

    /// Reads a file that grows, piece by piece.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn pieces(&self, path: &str) -> Result<Pieces, ClientError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Pieces {
            body: response.into_body(),
            address: self.address.clone(),
        })
    }

    /// Follows the events.
    ///
    /// # Errors
    /// Fails if there is no answer.
    pub async fn follow(&self, path: &str) -> Result<Events, ClientError> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        Ok(Events {
            body: response.into_body(),
            address: self.address.clone(),
            waiting: BytesMut::new(),
        })
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|_| ClientError::Strange(self.address.clone()))
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let asking = async {
            let response = self.send(method, path, body).await?;
            let body = http_body_util::Limited::new(response.into_body(), LARGEST);
            let body = body.collect().await;
            let body = body.map_err(|_| ClientError::Strange(self.address.clone()))?;
            Ok(body.to_bytes())
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        answer.unwrap_or_else(|_| Err(ClientError::Silent(self.address.clone())))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = self.request(method, path, body)?;
        let connect = |error| ClientError::Connect {
            address: self.address.clone(),
            error,
        };
        let stream = TcpStream::connect((&*self.host, self.port))
            .await
            .map_err(connect)?;
        let response = match &self.tls {
            None => self.exchange(stream, request).await?,
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone());
                let name = name.map_err(|_| ClientError::Address(self.address.clone()))?;
                let tls = TlsConnector::from(Arc::clone(tls));
                let stream = tls.connect(name, stream).await.map_err(connect)?;
                self.exchange(stream, request).await?
            }
        };
        let status = response.status();
        if status.is_success() || path == "/readyz" {
            return Ok(response);
        }
        if status == hyper::StatusCode::UNAUTHORIZED {
            return Err(ClientError::Token(self.address.clone()));
        }
        let body = http_body_util::Limited::new(response.into_body(), LARGEST)
            .collect()
            .await;
        let body = body
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => ClientError::Refused(problem.detail),
            Err(_) => ClientError::Strange(self.address.clone()),
        })
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ClientError> {
        let broken = |error| ClientError::Broken {
            address: self.address.clone(),
            error,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(async move {
            // dropped: whoever reads the answer learns of it.
            connection.await.ok();
        });
        sender.send_request(request).await.map_err(broken)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, format!("{}:{}", self.host, self.port));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body));
        request.map_err(|_| ClientError::Address(path.to_owned()))
    }
}

/// The pieces of a file as they come.
#[derive(Debug)]
pub struct Pieces {
    body: Incoming,
    address: String,
}

impl Pieces {
    /// Returns the next piece; `None` when the gateway ends the file.
    ///
    /// # Errors
    /// Fails if the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| ClientError::Broken {
                address: self.address.clone(),
                error,
            })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// The events as they come.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    address: String,
    waiting: BytesMut,
}

impl Events {
    /// Returns the next event; `None` when the gateway ends the stream.
    ///
    /// # Errors
    /// Fails if the connection breaks.
    pub async fn next(&mut self) -> Result<Option<Live>, ClientError> {
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.waiting) {
                let line = self.waiting.split_to(end + 1);
                let data = line.strip_prefix(b"data: ").unwrap_or_default();
                if let Ok(live) = serde_json::from_slice(data) {
                    return Ok(Some(live));
                }
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| ClientError::Broken {
                address: self.address.clone(),
                error,
            })?;
            if let Ok(data) = frame.into_data() {
                self.waiting.extend_from_slice(&data);
            }
            if self.waiting.len() > LARGEST {
                return Err(ClientError::Strange(self.address.clone()));
            }
        }
    }
}

fn trust(root: Option<&Path>) -> Result<Arc<ClientConfig>, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = root {
        let wrong = || ClientError::Root(path.display().to_string());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|_| wrong())?;
        for certificate in certificates {
            let certificate = certificate.map_err(|_| wrong())?;
            roots.add(certificate).map_err(|_| wrong())?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Root(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
