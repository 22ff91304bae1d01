//! Sockets of the load: one thread, epoll, batches of datagrams, streams with and without TLS.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use memchr::memmem;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// Datagrams in one system call.
const BATCH: usize = 64;
/// The largest message of this load, in bytes.
const LARGEST: usize = 4096;
/// The token of the waker.
const WAKER: Token = Token(usize::MAX);

/// Where a message came from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which of our sockets.
    pub socket: usize,
    /// The other end; of no meaning for a stream.
    pub to: SocketAddrV4,
}

/// All sockets.
pub struct Net {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    dirty: Vec<usize>,
    buffers: Vec<Vec<u8>>,
    tls: Arc<ClientConfig>,
    /// Streams that are not ready yet.
    opening: usize,
    /// Streams that ended though nobody closed them.
    pub lost: usize,
}

enum Socket {
    Udp {
        socket: mio::net::UdpSocket,
        queue: Vec<(SocketAddrV4, Vec<u8>)>,
        is_dirty: bool,
    },
    Stream(Box<Stream>),
    /// A stream that we closed: its descriptor is free again.
    Closed,
}

struct Stream {
    socket: mio::net::TcpStream,
    tls: Option<ClientConnection>,
    received: Vec<u8>,
    queue: VecDeque<u8>,
    peer: SocketAddrV4,
    is_ready: bool,
    is_connected: bool,
    is_dead: bool,
    is_dirty: bool,
}

impl Net {
    /// No sockets.
    pub fn new() -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            sockets: Vec::new(),
            dirty: Vec::new(),
            buffers: vec![vec![0; LARGEST]; BATCH],
            tls: Arc::new(tls),
            opening: 0,
            lost: 0,
        })
    }

    /// Wakes a poll from another thread.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// A datagram socket.
    pub fn udp(&mut self, address: SocketAddrV4) -> io::Result<usize> {
        use socket2::{Domain, Protocol, Type};
        let raw = socket2::Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        raw.set_nonblocking(true)?;
        // As large as the system lets it be: a full buffer here would be counted as the server's.
        for size in [8 << 20, 1 << 20] {
            if raw.set_recv_buffer_size(size).is_ok() && raw.set_send_buffer_size(size).is_ok() {
                break;
            }
        }
        raw.bind(&SocketAddr::V4(address).into())?;
        let mut socket = mio::net::UdpSocket::from_std(raw.into());
        let number = self.sockets.len();
        self.poll
            .registry()
            .register(&mut socket, Token(number), Interest::READABLE)?;
        self.sockets.push(Socket::Udp {
            socket,
            queue: Vec::new(),
            is_dirty: false,
        });
        Ok(number)
    }

    /// A stream to a server, from this address of ours.
    pub fn connect(&mut self, to: SocketAddrV4, from: IpAddr, tls: bool) -> io::Result<Peer> {
        use socket2::{Domain, Protocol, Type};
        let raw = socket2::Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        raw.set_nonblocking(true)?;
        raw.set_reuse_address(true)?;
        raw.set_tcp_nodelay(true)?;
        raw.bind(&SocketAddr::new(from, 0).into())?;
        match raw.connect(&SocketAddr::V4(to).into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let mut socket = mio::net::TcpStream::from_std(raw.into());
        let number = self.sockets.len();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut socket, Token(number), both)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let tls = if tls {
            let session = ClientConnection::new(self.tls.clone(), name);
            Some(session.map_err(io::Error::other)?)
        } else {
            None
        };
        self.opening += 1;
        self.sockets.push(Socket::Stream(Box::new(Stream {
            socket,
            tls,
            received: Vec::new(),
            queue: VecDeque::new(),
            peer: to,
            is_ready: false,
            is_connected: false,
            is_dead: false,
            is_dirty: false,
        })));
        Ok(Peer { socket: number, to })
    }

    /// Our own address of a stream.
    pub fn local(&self, peer: Peer) -> Option<SocketAddrV4> {
        match self.sockets.get(peer.socket)? {
            Socket::Udp { .. } | Socket::Closed => None,
            Socket::Stream(stream) => match stream.socket.local_addr().ok()? {
                SocketAddr::V4(address) => Some(address),
                SocketAddr::V6(_) => None,
            },
        }
    }

    /// Whether every stream is ready.
    pub fn is_ready(&self) -> bool {
        self.opening == 0
    }

    /// Closes a stream.
    pub fn close(&mut self, peer: Peer) {
        let Some(socket) = self.sockets.get_mut(peer.socket) else {
            return;
        };
        if let Socket::Stream(stream) = socket {
            if !stream.is_dead {
                self.poll.registry().deregister(&mut stream.socket).ok();
            }
            *socket = Socket::Closed;
        }
    }

    /// Queues a message.
    pub fn send(&mut self, peer: Peer, message: &[u8]) {
        let mut is_full = false;
        let is_dirty = match &mut self.sockets[peer.socket] {
            Socket::Closed => return,
            Socket::Udp {
                queue, is_dirty, ..
            } => {
                queue.push((peer.to, message.to_vec()));
                is_full = queue.len() >= BATCH;
                is_dirty
            }
            Socket::Stream(stream) => {
                if stream.is_dead {
                    return;
                }
                match &mut stream.tls {
                    Some(tls) => {
                        tls.writer().write_all(message).ok();
                    }
                    None => stream.queue.extend(message),
                }
                &mut stream.is_dirty
            }
        };
        if !std::mem::replace(is_dirty, true) {
            self.dirty.push(peer.socket);
        }
        if is_full {
            self.flush();
        }
    }

    /// Writes what is queued.
    pub fn flush(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            match &mut self.sockets[number] {
                Socket::Udp {
                    socket,
                    queue,
                    is_dirty,
                } => {
                    *is_dirty = false;
                    send_batches(socket, queue);
                }
                Socket::Closed => {}
                Socket::Stream(stream) => {
                    stream.is_dirty = false;
                    stream.write(&mut self.opening);
                }
            }
        }
    }

    /// Waits for messages at most so long, and appends what came.
    pub fn poll(
        &mut self,
        timeout: Duration,
        messages: &mut Vec<(Peer, Vec<u8>)>,
    ) -> io::Result<()> {
        self.flush();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) | Err(_) => {}
        }
        for event in &self.events {
            let Some(socket) = self.sockets.get_mut(event.token().0) else {
                continue;
            };
            match socket {
                Socket::Udp { socket, .. } => {
                    receive_batches(socket, event.token().0, &mut self.buffers, messages);
                }
                Socket::Closed => {}
                Socket::Stream(stream) => {
                    if stream.is_dead {
                        continue;
                    }
                    if event.is_writable() {
                        stream.is_connected = true;
                        stream.write(&mut self.opening);
                    }
                    if event.is_readable() || event.is_read_closed() {
                        stream.read(&mut self.buffers[0]);
                        // A handshake goes on by writing.
                        stream.write(&mut self.opening);
                        stream.frames(event.token().0, messages);
                    }
                    if stream.is_dead {
                        self.lost += 1;
                        if !stream.is_ready {
                            self.opening -= 1;
                        }
                        self.poll.registry().deregister(&mut stream.socket).ok();
                    }
                }
            }
        }
        Ok(())
    }
}

impl Stream {
    fn write(&mut self, opening: &mut usize) {
        if !self.is_connected || self.is_dead {
            return;
        }
        let written = match &mut self.tls {
            Some(tls) => {
                let mut result = Ok(());
                while tls.wants_write() && result.is_ok() {
                    result = tls.write_tls(&mut self.socket).map(|_| ());
                }
                result
            }
            None => {
                let mut result = Ok(());
                while !self.queue.is_empty() && result.is_ok() {
                    let (front, _) = self.queue.as_slices();
                    match self.socket.write(front) {
                        Ok(count) => drop(self.queue.drain(..count)),
                        Err(error) => result = Err(error),
                    }
                }
                result
            }
        };
        if let Err(error) = written
            && error.kind() != ErrorKind::WouldBlock
        {
            self.is_dead = true;
        }
        let is_handshaking = self.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        if !self.is_ready && !is_handshaking && !self.is_dead {
            self.is_ready = true;
            *opening -= 1;
        }
    }

    fn read(&mut self, buffer: &mut [u8]) {
        loop {
            let count = match &mut self.tls {
                Some(tls) => match tls.read_tls(&mut self.socket) {
                    Ok(count) => {
                        if tls.process_new_packets().is_err() {
                            self.is_dead = true;
                            return;
                        }
                        while let Ok(count @ 1..) = tls.reader().read(buffer) {
                            self.received.extend_from_slice(&buffer[..count]);
                        }
                        Ok(count)
                    }
                    Err(error) => Err(error),
                },
                None => self.socket.read(buffer).inspect(|count| {
                    self.received.extend_from_slice(&buffer[..*count]);
                }),
            };
            match count {
                Ok(0) => {
                    self.is_dead = true;
                    return;
                }
                Ok(_) => {}
                Err(error) => {
                    self.is_dead = error.kind() != ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    /// Cuts what was received into messages (RFC 3261 §18.3).
    fn frames(&mut self, number: usize, messages: &mut Vec<(Peer, Vec<u8>)>) {
        let peer = Peer {
            socket: number,
            to: self.peer,
        };
        let mut start = 0;
        loop {
            let rest = &self.received[start..];
            if rest.starts_with(b"\r\n") {
                start += 2;
                continue;
            }
            let Some(end) = memmem::find(rest, b"\r\n\r\n") else {
                break;
            };
            let whole = end + 4 + crate::message::content_length(&rest[..end]);
            if rest.len() < whole {
                break;
            }
            messages.push((peer, rest[..whole].to_vec()));
            start += whole;
        }
        self.received.drain(..start);
        if self.received.is_empty() {
            // Ten thousand of them must not hold what one burst needed.
            self.received = Vec::new();
        }
    }
}

fn send_batches(socket: &mio::net::UdpSocket, queue: &mut Vec<(SocketAddrV4, Vec<u8>)>) {
    let mut sent = 0;
    while sent < queue.len() {
        let batch = &queue[sent..queue.len().min(sent + BATCH)];
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(batch.len(), None);
        let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|(_, m)| [IoSlice::new(m)]).collect();
        let to: Vec<Option<SockaddrIn>> = batch.iter().map(|(to, _)| Some((*to).into())).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &to, [], flags) {
            Ok(results) => sent += results.count(),
            Err(nix::errno::Errno::EAGAIN) => std::thread::yield_now(),
            // One that nobody takes must not hold up the others.
            Err(_) => sent += 1,
        }
    }
    queue.clear();
}

fn receive_batches(
    socket: &mio::net::UdpSocket,
    number: usize,
    buffers: &mut [Vec<u8>],
    messages: &mut Vec<(Peer, Vec<u8>)>,
) {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    loop {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> = buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let received: Vec<(Option<SockaddrIn>, usize)> =
            match recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None) {
                Ok(results) => results.map(|one| (one.address, one.bytes)).collect(),
                Err(_) => return,
            };
        let count = received.len();
        for ((from, length), buffer) in received.into_iter().zip(buffers.iter()) {
            if let Some(from) = from {
                let to = SocketAddrV4::new(from.ip(), from.port());
                messages.push((Peer { socket: number, to }, buffer[..length].to_vec()));
            }
        }
        if count < BATCH {
            return;
        }
    }
}

/// Takes any certificate: the load measures, it does not trust.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
