//! A push service that takes every push: APNs over TLS and HTTP/2, or plain HTTP for Kamailio.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use memchr::memmem;
use tokio::net::TcpListener;

/// The pushes that came.
pub struct Pushes(Receiver<(Instant, usize)>);

impl Pushes {
    /// Those that came since: when, and the number of the call.
    pub fn drain(&self) -> impl Iterator<Item = (Instant, usize)> {
        self.0.try_iter()
    }
}

/// Where it listens, and the certificate that it shows (PEM).
pub struct Service {
    /// With TLS and HTTP/2.
    pub tls: SocketAddr,
    /// Without, HTTP/1.1.
    pub plain: SocketAddr,
    /// To be trusted.
    pub certificate: String,
}

/// Starts it on a thread of its own.
pub fn start(waker: mio::Waker) -> Result<(Service, Pushes)> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let certificate = own.cert.pem();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(own.signing_key.serialize_der().into());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (sender, receiver) = channel();
    let (addresses, started) = channel();
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        runtime.block_on(async {
            let tls = TcpListener::bind("127.0.0.1:0").await?;
            let plain = TcpListener::bind("127.0.0.1:0").await?;
            addresses.send((tls.local_addr()?, plain.local_addr()?))?;
            let waker = Arc::new(waker);
            loop {
                let (stream, is_tls) = tokio::select! {
                    one = tls.accept() => (one?.0, true),
                    one = plain.accept() => (one?.0, false),
                };
                stream.set_nodelay(true)?;
                let (sender, waker) = (sender.clone(), waker.clone());
                let acceptor = is_tls.then(|| acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, sender, waker).await,
                            Err(error) => eprintln!("push service: {error}"),
                        },
                        None => serve(stream, sender, waker).await,
                    }
                });
            }
        })
    });
    let (tls, plain) = started.recv().context("the push service did not start")?;
    let service = Service {
        tls,
        plain,
        certificate,
    };
    Ok((service, Pushes(receiver)))
}

async fn serve<S>(stream: S, sender: Sender<(Instant, usize)>, waker: Arc<mio::Waker>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (sender, waker) = (sender.clone(), waker.clone());
        async move {
            let body = request.into_body().collect().await?.to_bytes();
            if let Some(number) = number(&body) {
                sender.send((Instant::now(), number)).ok();
                waker.wake().ok();
            }
            let id = "6F1E3C2A-0000-4000-8000-000000000000";
            let answer = Response::builder().header("apns-id", id);
            Ok::<_, hyper::Error>(answer.body(Empty::<Bytes>::new()).unwrap_or_default())
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1000);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    // A server that is stopped hangs up; anything else would spoil what is measured.
    if let Err(error) = served.await {
        eprintln!("push service: {error}");
    }
}

/// The number of the call that a push names.
fn number(body: &[u8]) -> Option<usize> {
    let end = memmem::find(body, b"-call")?;
    let digits = body[..end].iter().rev().take_while(|b| b.is_ascii_digit());
    let start = end - digits.count();
    std::str::from_utf8(&body[start..end]).ok()?.parse().ok()
}
