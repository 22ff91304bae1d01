//! A stand-in's sockets: a phone's one connection or datagram socket, an Asterisk's listeners.
//!
//! Datagrams go out from the one bound socket, so that the far side sees one address (RFC 3581).
//! A stream is known by its remote address; for an unknown one a connection is opened.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::proto::Transport;
use crate::proto::sip::{Frame, FrameLimits, Framer, Message};

const QUEUE: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LIMITS: FrameLimits = FrameLimits {
    message_bytes: 65_536,
    headers: 256,
};

/// Where a message came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
}

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) from: Peer,
    pub(crate) message: Message,
}

/// How a phone connects.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    pub(crate) local_ip: IpAddr,
    pub(crate) remote: Peer,
    pub(crate) ca_pem: Option<String>,
    pub(crate) server_name: String,
}

type Writer = Arc<tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>>;

struct Inner {
    local: SocketAddr,
    datagrams: Option<Arc<UdpSocket>>,
    streams: Mutex<HashMap<SocketAddr, Writer>>,
    arrivals: Mutex<Option<mpsc::Sender<Arrived>>>,
    tasks: Mutex<JoinSet<()>>,
    frozen: watch::Sender<bool>,
}

/// The sockets; clones share them.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.0.local)
    }
}

impl Link {
    /// Opens a phone's socket toward its gateway.
    pub(crate) async fn connect(dial: &Dial) -> io::Result<(Self, mpsc::Receiver<Arrived>)> {
        match dial.remote.transport {
            Transport::Udp => {
                let socket = UdpSocket::bind((dial.local_ip, 0)).await?;
                let (link, arrivals) = Self::new(socket.local_addr()?, Some(socket));
                link.read_datagrams();
                Ok((link, arrivals))
            }
            Transport::Tcp | Transport::Tls => {
                let (stream, local) =
                    tokio::time::timeout(CONNECT_TIMEOUT, open_stream(dial)).await??;
                let (link, arrivals) = Self::new(local, None);
                link.add_stream(dial.remote, stream);
                // The connection's reader holds the only sender: its end is the link's end.
                link.0.arrivals.lock().take();
                Ok((link, arrivals))
            }
            Transport::Ws | Transport::Wss => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the phone speaks UDP, TCP and TLS",
            )),
        }
    }

    /// Opens UDP and TCP at the same port.
    pub(crate) async fn bind(ip: IpAddr, port: u16) -> io::Result<(Self, mpsc::Receiver<Arrived>)> {
        let (socket, listener) = bind_both(ip, port).await?;
        let (link, arrivals) = Self::new(socket.local_addr()?, Some(socket));
        link.read_datagrams();
        link.accept_streams(listener);
        Ok((link, arrivals))
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.0.local
    }

    /// Returns whether both are the same sockets.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// While frozen nothing is read: the system buffers it, as for a suspended app.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.0.frozen.send_replace(frozen);
    }

    /// Sends a message; over a stream that is not open a connection is opened first.
    pub(crate) async fn send(&self, to: Peer, bytes: &Bytes) -> io::Result<()> {
        if to.transport == Transport::Udp {
            let Some(socket) = &self.0.datagrams else {
                return Err(io::ErrorKind::NotConnected.into());
            };
            socket.send_to(bytes, to.address).await?;
            return Ok(());
        }
        let known = self.0.streams.lock().get(&to.address).cloned();
        let writer = match known {
            Some(writer) => writer,
            None => self.open(to).await?,
        };
        let mut writer = writer.lock().await;
        writer.write_all(bytes).await?;
        writer.flush().await
    }

    /// Closes everything at once, without a word.
    pub(crate) fn close(&self) {
        self.0.arrivals.lock().take();
        self.0.tasks.lock().abort_all();
        self.0.streams.lock().clear();
    }

    fn new(local: SocketAddr, datagrams: Option<UdpSocket>) -> (Self, mpsc::Receiver<Arrived>) {
        let (sender, arrivals) = mpsc::channel(QUEUE);
        let inner = Inner {
            local,
            datagrams: datagrams.map(Arc::new),
            streams: Mutex::default(),
            arrivals: Mutex::new(Some(sender)),
            tasks: Mutex::default(),
            frozen: watch::Sender::new(false),
        };
        (Self(Arc::new(inner)), arrivals)
    }

    async fn open(&self, to: Peer) -> io::Result<Writer> {
        // A phone has one connection; only listeners open further ones, and over TCP alone.
        if self.0.datagrams.is_none() || to.transport != Transport::Tcp {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let connect = TcpStream::connect(to.address);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect).await??;
        stream.set_nodelay(true)?;
        self.add_stream(to, Box::new(stream))
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn add_stream(&self, peer: Peer, stream: BoxStream) -> Option<Writer> {
        let arrivals = self.0.arrivals.lock().clone()?;
        let (reader, writer) = tokio::io::split(stream);
        let writer: Writer = Arc::new(tokio::sync::Mutex::new(Box::new(writer)));
        self.0
            .streams
            .lock()
            .insert(peer.address, Arc::clone(&writer));
        let inner = Arc::downgrade(&self.0);
        let frozen = self.0.frozen.subscribe();
        let pong = Arc::clone(&writer);
        self.spawn(async move {
            read_stream(reader, pong, peer, &arrivals, frozen).await;
            if let Some(inner) = inner.upgrade() {
                inner.streams.lock().remove(&peer.address);
            }
        });
        Some(writer)
    }

    fn read_datagrams(&self) {
        let Some(socket) = self.0.datagrams.clone() else {
            return;
        };
        let Some(arrivals) = self.0.arrivals.lock().clone() else {
            return;
        };
        let mut frozen = self.0.frozen.subscribe();
        self.spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok((length, address)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                if frozen.wait_for(|frozen| !frozen).await.is_err() {
                    return;
                }
                let datagram = buffer.get(..length).unwrap_or_default();
                if datagram.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                // dropped: a stand-in has nobody to tell of bytes that are no message.
                let Ok(message) = Message::parse(Bytes::copy_from_slice(datagram)) else {
                    continue;
                };
                let from = Peer {
                    transport: Transport::Udp,
                    address,
                };
                if arrivals.send(Arrived { from, message }).await.is_err() {
                    return;
                }
            }
        });
    }

    fn accept_streams(&self, listener: TcpListener) {
        let weak = Arc::downgrade(&self.0);
        self.spawn(async move {
            loop {
                let Ok((stream, address)) = listener.accept().await else {
                    continue;
                };
                let Some(inner) = weak.upgrade() else {
                    return;
                };
                // dropped: only latency is lost when the option is not to be had.
                stream.set_nodelay(true).ok();
                let peer = Peer {
                    transport: Transport::Tcp,
                    address,
                };
                Self(inner).add_stream(peer, Box::new(stream));
            }
        });
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
type BoxStream = Box<dyn Stream>;

async fn open_stream(dial: &Dial) -> io::Result<(BoxStream, SocketAddr)> {
    let socket = if dial.remote.address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.bind(SocketAddr::new(dial.local_ip, 0))?;
    let stream = socket.connect(dial.remote.address).await?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    if dial.remote.transport != Transport::Tls {
        return Ok((Box::new(stream), local));
    }
    let connector = TlsConnector::from(Arc::new(tls_config(dial.ca_pem.as_deref())?));
    let name = ServerName::try_from(dial.server_name.clone())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let stream = connector.connect(name, stream).await?;
    Ok((Box::new(stream), local))
}

fn tls_config(ca_pem: Option<&str>) -> io::Result<ClientConfig> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidInput, error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.unwrap_or_default().as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

async fn bind_both(ip: IpAddr, port: u16) -> io::Result<(UdpSocket, TcpListener)> {
    // The port that the system picks for UDP may be taken for TCP: try another one.
    let mut attempts = 0;
    loop {
        let socket = UdpSocket::bind((ip, port)).await?;
        match TcpListener::bind(socket.local_addr()?).await {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) if port != 0 || attempts == 20 => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}

async fn read_stream(
    mut reader: impl AsyncRead + Unpin,
    pong: Writer,
    from: Peer,
    arrivals: &mpsc::Sender<Arrived>,
    mut frozen: watch::Receiver<bool>,
) {
    let mut framer = Framer::new(LIMITS);
    loop {
        match reader.read_buf(framer.buffer()).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if frozen.wait_for(|frozen| !frozen).await.is_err() {
            return;
        }
        loop {
            match framer.next() {
                Ok(Some(Frame::Message(message))) => {
                    if arrivals.send(Arrived { from, message }).await.is_err() {
                        return;
                    }
                }
                // RFC 5626 §4.4.1: a double CRLF is answered with a single one.
                Ok(Some(Frame::Ping)) => {
                    let mut pong = pong.lock().await;
                    if pong.write_all(b"\r\n").await.is_err() || pong.flush().await.is_err() {
                        return;
                    }
                }
                Ok(Some(Frame::Pong | Frame::Malformed(..))) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
