//! Sockets: UDP, TCP, TLS and WebSocket, for phones and toward Asterisk (RFC 3261 §18, RFC 5626 §4).
//!
//! [`bind`] takes the addresses, [`Listening::start`] begins to read, [`Network`] sends. What
//! arrives is framed and parsed in the connection's own task and handed to the shards through the
//! [`Inlet`]. The one table that all shards share is here: which connection is open.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::proto::Transport;
use crate::proto::sip::FrameLimits;

mod admission;
mod connection;
mod counts;
mod cutter;
mod hop;
mod inherit;
mod inlet;
mod listening;
mod network;
mod socket;
mod stream;
mod stun;
mod tcp;
mod tls;
mod udp;
mod upgrade;
mod wire;
mod ws;

pub use connection::{Report, SendError};
pub use counts::{Closed, Counts, Dropped, Refused};
pub use inherit::{Inherited, Predecessor, Stray};
pub use inlet::{Attend, Inlet, MAX_SHARDS, ShardQueues};
pub use listening::{BindError, Listening, Prepared, bind, bind_with};
pub use network::Network;
pub use tls::{TlsError, TlsFiles};
pub use wire::{Sight, Tap, Watch, redacted};

/// What comes out of a WebSocket client's bytes that arrive in these pieces, one text each, and the
/// code that ends the connection last if there is one: for fuzz targets.
#[must_use]
pub fn websocket_frames(pieces: &[&[u8]], limit: usize) -> Vec<String> {
    let mut assembler = ws::Assembler::new(bytes::BytesMut::new(), limit);
    let mut found = Vec::new();
    for piece in pieces {
        assembler.buffer().extend_from_slice(piece);
        loop {
            match assembler.next() {
                Ok(Some(piece)) => found.push(format!("{piece:?}")),
                Ok(None) => break,
                Err(code) => {
                    found.push(format!("{code:?}"));
                    return found;
                }
            }
        }
    }
    found
}

/// What the transports are told.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// Transport and address of each listener, in file order.
    pub listeners: Vec<(Transport, SocketAddr)>,
    /// Our certificate; needed if a listener is TLS.
    pub tls: Option<TlsFiles>,
    /// Roots to trust beside the system's, toward upstream.
    pub upstream_ca: Option<PathBuf>,
    /// How large a message may be.
    pub frames: FrameLimits,
    /// The number of the first connection: larger than any of an earlier process, so that an old
    /// flow token never names a new connection.
    pub first_connection: u64,
    /// Times and bounds.
    pub limits: TransportLimits,
}

/// Times and bounds of connections.
#[derive(Clone, Debug)]
pub struct TransportLimits {
    /// Connections that others may hold open, in all.
    pub connections: usize,
    /// From one address (IPv6: one /64), without a registered agent.
    pub connections_per_address: usize,
    /// Networks without a limit per address: upstream's.
    pub exempt: Vec<IpNet>,
    /// A TLS handshake must end within; and the request for a WebSocket.
    pub handshake: Duration,
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// A message must be whole within, from its first byte.
    pub message: Duration,
    /// A new connection must bring a message within.
    pub silent: Duration,
    /// A connection without a registered agent is closed when idle for; longer than a call rings.
    pub unbound: Duration,
    /// A connection toward upstream is closed when idle for.
    pub hop_idle: Duration,
    /// Opening a connection toward upstream, with its TLS handshake.
    pub connect: Duration,
    /// Bytes that may wait for a phone to read them.
    pub write_queue: usize,
    /// Bytes that may wait for upstream to read them.
    pub hop_write_queue: usize,
    /// How often the certificate's files are looked at.
    pub certificate_poll: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_address: 100,
            exempt: Vec::new(),
            handshake: Duration::from_secs(5),
            handshakes: 256,
            message: Duration::from_secs(5),
            silent: Duration::from_secs(60),
            unbound: Duration::from_secs(300),
            hop_idle: Duration::from_secs(600),
            connect: Duration::from_secs(2),
            write_queue: 256 * 1024,
            hop_write_queue: 4 * 1024 * 1024,
            certificate_poll: Duration::from_secs(2),
        }
    }
}
