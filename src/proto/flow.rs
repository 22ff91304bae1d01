//! Flows and hops: where a message came from and where one goes (RFC 5626 §3, RFC 3261 §18).
//!
//! A flow is a datagram pair (our listener, their address) or one stream connection. Requests
//! toward a phone only ever go over a flow; requests toward Asterisk go over a datagram flow or to
//! a [`Hop`], for which `io` keeps or opens a connection.

use std::net::SocketAddr;
use std::sync::Arc;

/// A transport protocol for SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP (RFC 3261 §18).
    Tcp,
    /// TLS over TCP.
    Tls,
    /// UDP.
    Udp,
    /// WebSocket (RFC 7118).
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// The token of the Via header's sent-protocol (RFC 3261 §20.42, RFC 7118 §5.2).
    #[must_use]
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
            Self::Ws => "WS",
            Self::Wss => "WSS",
        }
    }

    /// The value of a URI's `transport` parameter: `ws` with and without TLS (RFC 7118 §5.2).
    #[must_use]
    pub const fn uri_value(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Ws | Self::Wss => "ws",
        }
    }

    /// The name in the configuration, in logs and in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether the transport retransmits by itself (RFC 3261 §17).
    #[must_use]
    pub const fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls | Self::Ws | Self::Wss => true,
        }
    }

    /// Whether it is TLS, or runs over it.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        match self {
            Self::Tls | Self::Wss => true,
            Self::Tcp | Self::Udp | Self::Ws => false,
        }
    }

    /// Whether messages travel in WebSocket frames (RFC 7118).
    #[must_use]
    pub const fn is_websocket(self) -> bool {
        match self {
            Self::Tcp | Self::Tls | Self::Udp => false,
            Self::Ws | Self::Wss => true,
        }
    }

    /// The default port (RFC 3261 §19.1.2; 80 and 443 for WebSocket, RFC 7118 §5.5).
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Tcp | Self::Udp => 5060,
            Self::Tls => 5061,
            Self::Ws => 80,
            Self::Wss => 443,
        }
    }
}

/// Index of a `[[listen]]` entry of the configuration, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

/// One stream connection; unique for the life of the process and unlike any of the last process's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FlowId {
    /// UDP between our listener and this remote address.
    Datagram {
        /// Our socket.
        listener: ListenerId,
        /// Their address.
        remote: SocketAddr,
    },
    /// A TCP, TLS or WebSocket connection.
    Stream(ConnectionId),
}

/// A flow with what the proxy needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Its name.
    pub id: FlowId,
    /// The listener that it came in on; for a connection that we opened, the listener whose
    /// address stands for us on that transport.
    pub listener: ListenerId,
    /// Their address.
    pub remote: SocketAddr,
    /// Its transport.
    pub transport: Transport,
}

/// A next hop over a stream transport after DNS (RFC 3263): `io` reuses or opens a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// TCP or TLS.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
    /// The name that a TLS certificate must carry: the host of the configured URI.
    pub server_name: Option<Arc<str>>,
}

/// Where an output message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Over this flow or not at all.
    Flow(FlowId),
    /// Over a connection to this hop, opened on demand.
    Hop(Hop),
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// The peer sent what cannot be framed.
    Framing,
    /// Nothing complete arrived in time.
    Idle,
    /// The peer read too slowly: its write queue was full.
    SlowReader,
    /// The operating system reported an error.
    Transport,
    /// We asked for it.
    Local,
}
