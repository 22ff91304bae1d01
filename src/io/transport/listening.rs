//! Taking the addresses, before anything is read: a busy port is found out at start.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use crate::io::transport::inherit::Inherited;
use crate::io::transport::inlet::Inlet;
use crate::io::transport::network::Network;
use crate::io::transport::tcp::{self, StreamListener};
use crate::io::transport::tls::{TlsClient, TlsError, TlsServer};
use crate::io::transport::udp::{Backlog, DatagramSocket};
use crate::io::transport::{TransportConfig, socket};
use crate::proto::{ListenerId, Transport};

/// Why the transports cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// An address cannot be listened on.
    #[error("cannot listen on {} {address}: {error}", transport.label())]
    Listen {
        /// Its transport.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// A TLS listener without a certificate.
    #[error("a tls or wss listener needs a certificate and its key")]
    NoCertificate,
    /// The certificate, its key, or the roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Bound sockets that nobody reads yet.
#[derive(Debug)]
pub struct Listening {
    pub(super) config: TransportConfig,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) tls: Option<Arc<TlsServer>>,
    pub(super) upstream_tls: TlsClient,
    /// By listener; `None` for a stream listener.
    pub(super) datagrams: Vec<Option<Arc<DatagramSocket>>>,
    streams: Vec<StreamListener>,
    /// Copies of the stream listeners' sockets, for a process that takes over.
    pub(super) copies: Vec<OwnedFd>,
    backlogs: Vec<(Arc<DatagramSocket>, Backlog)>,
}

/// Binds every listener; must be called within the runtime.
///
/// # Errors
///
/// Fails if an address cannot be bound or a certificate is not usable.
pub fn bind(config: TransportConfig) -> Result<Listening, BindError> {
    bind_with(config, &mut Inherited::default())
}

/// As [`bind`], but takes what is bound already.
///
/// # Errors
///
/// As [`bind`].
pub fn bind_with(
    config: TransportConfig,
    inherited: &mut Inherited,
) -> Result<Listening, BindError> {
    Prepared::load(config)?.bind(inherited)
}

/// Certificates and roots that are read, before anything is bound.
#[derive(Debug)]
pub struct Prepared {
    config: TransportConfig,
    tls: Option<Arc<TlsServer>>,
    upstream_tls: TlsClient,
}

impl Prepared {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// Fails if one is not usable.
    pub fn load(config: TransportConfig) -> Result<Self, BindError> {
        let tls = match config.tls.clone() {
            Some(files) => Some(Arc::new(TlsServer::load(files)?)),
            None => None,
        };
        let upstream_tls = TlsClient::load(config.upstream_ca.as_deref())?;
        Ok(Self {
            config,
            tls,
            upstream_tls,
        })
    }

    /// As [`bind_with`].
    ///
    /// # Errors
    ///
    /// As [`bind`].
    pub fn bind(self, inherited: &mut Inherited) -> Result<Listening, BindError> {
        let Self {
            config,
            tls,
            upstream_tls,
        } = self;
        bind_prepared(config, tls, upstream_tls, inherited)
    }
}

fn bind_prepared(
    config: TransportConfig,
    tls: Option<Arc<TlsServer>>,
    upstream_tls: TlsClient,
    inherited: &mut Inherited,
) -> Result<Listening, BindError> {
    let mut listening = Listening {
        addresses: Vec::new(),
        tls,
        upstream_tls,
        datagrams: Vec::new(),
        streams: Vec::new(),
        copies: Vec::new(),
        backlogs: Vec::new(),
        config,
    };
    for (id, (transport, address)) in (0..).zip(listening.config.listeners.clone()) {
        listening.add(ListenerId(id), transport, address, inherited)?;
    }
    Ok(listening)
}

impl Listening {
    /// The addresses that are really bound, in file order.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Begins to accept and to read.
    #[must_use]
    pub fn start(mut self, inlet: Arc<Inlet>) -> Arc<Network> {
        let streams = std::mem::take(&mut self.streams);
        let backlogs = std::mem::take(&mut self.backlogs);
        let every = self.config.limits.certificate_poll;
        let limit = self.config.frames.message_bytes;
        let tls = self.tls.clone();
        let counts = inlet.counts.clone();
        let network = Arc::new(Network::new(self, Arc::clone(&inlet)));
        for listener in streams {
            network.spawn(tcp::accept(Arc::clone(&network), listener));
        }
        for (socket, backlog) in backlogs {
            network.spawn_sender(Arc::clone(&socket).drain(backlog, counts.clone()));
            network.spawn(socket.receive(Arc::clone(&inlet), limit));
        }
        if let Some(tls) = tls {
            network.spawn(tls.watch(every, counts));
        }
        network
    }

    fn add(
        &mut self,
        id: ListenerId,
        transport: Transport,
        address: SocketAddr,
        inherited: &mut Inherited,
    ) -> Result<(), BindError> {
        let v6_only = socket::is_v6_only(&self.config.listeners, (transport, address));
        let refused = |error| BindError::Listen {
            transport,
            address,
            error,
        };
        match transport {
            Transport::Tls | Transport::Wss if self.tls.is_none() => {
                return Err(BindError::NoCertificate);
            }
            Transport::Udp => {
                let socket = match inherited.datagram(address) {
                    Some(socket) => socket::adopt_datagram(socket),
                    None => socket::listen_datagram(address, v6_only),
                };
                let socket = socket.map_err(refused)?;
                self.addresses.push(socket.local_addr().map_err(refused)?);
                let (socket, backlog) = DatagramSocket::new(id, socket, address.is_ipv6());
                self.datagrams.push(Some(Arc::clone(&socket)));
                self.backlogs.push((socket, backlog));
            }
            Transport::Tcp | Transport::Tls | Transport::Ws | Transport::Wss => {
                let listener = match inherited.stream(address) {
                    Some(listener) => socket::adopt_stream(listener),
                    None => socket::listen_stream(address, v6_only),
                };
                let listener = listener.map_err(refused)?;
                let copy = listener.as_fd().try_clone_to_owned();
                self.copies.push(copy.map_err(refused)?);
                self.addresses.push(listener.local_addr().map_err(refused)?);
                self.datagrams.push(None);
                self.streams.push(StreamListener {
                    id,
                    transport,
                    listener,
                });
            }
        }
        Ok(())
    }
}
