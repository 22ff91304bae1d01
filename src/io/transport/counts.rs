//! What the transports count. The driver hands in counters that are registered as metrics; tests
//! use the default ones. Every drop and every refusal of this folder has its counter here.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::proto::{CloseReason, Transport};

/// The transports' counters and gauges; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Open TCP connections.
    pub open_tcp: Gauge,
    /// Open TLS connections.
    pub open_tls: Gauge,
    /// Open WebSocket connections.
    pub open_ws: Gauge,
    /// Open WebSocket connections over TLS.
    pub open_wss: Gauge,
    /// Connections that ended, by reason.
    pub closed: Closed,
    /// What was dropped, by place.
    pub dropped: Dropped,
    /// Connections that were not taken, by reason.
    pub refused: Refused,
    /// Keep-alives heard, on all transports.
    pub keepalives: Counter,
    /// Loads of a changed TLS certificate.
    pub certificate_loads: Counter,
    /// Changed TLS certificates that could not be used.
    pub certificate_errors: Counter,
}

/// Connections that ended, by reason.
#[derive(Clone, Debug, Default)]
pub struct Closed {
    /// The peer closed.
    pub peer: Counter,
    /// The peer sent what cannot be framed.
    pub framing: Counter,
    /// Nothing complete came in time.
    pub idle: Counter,
    /// The write queue was full.
    pub slow_reader: Counter,
    /// The operating system or TLS reported an error.
    pub transport: Counter,
    /// We closed.
    pub local: Counter,
}

/// Messages that were dropped, by place.
#[derive(Clone, Debug, Default)]
pub struct Dropped {
    /// A datagram larger than a message may be.
    pub oversize: Counter,
    /// A datagram too short to be a message, and no keep-alive; STUN that has no answer.
    pub garbage: Counter,
    /// A datagram for a shard whose queue was full.
    pub input_queue: Counter,
    /// A message to send on a flow that is gone.
    pub flow_gone: Counter,
    /// A message to send whose connection's write queue was full.
    pub write_queue: Counter,
    /// A datagram that the operating system did not take.
    pub datagram_send: Counter,
    /// A message queued on a connection that ended before it was written.
    pub unsent: Counter,
    /// A ping that was not answered because one was a moment ago.
    pub pong_withheld: Counter,
    /// A ping to send on a flow that is no WebSocket, and has none.
    pub no_ping: Counter,
}

/// Connections that were not taken, by reason.
#[derive(Clone, Debug, Default)]
pub struct Refused {
    /// The operating system could not accept (no file descriptors).
    pub accept: Counter,
    /// Too many connections.
    pub total: Counter,
    /// Too many connections from one address.
    pub address: Counter,
    /// The TLS handshake failed or took too long.
    pub handshake: Counter,
    /// The request for a WebSocket was refused or took too long.
    pub upgrade: Counter,
    /// A connection toward upstream could not be opened.
    pub connect: Counter,
}

impl Counts {
    pub(super) fn close(&self, reason: CloseReason) {
        let counter = match reason {
            CloseReason::Peer => &self.closed.peer,
            CloseReason::Framing => &self.closed.framing,
            CloseReason::Idle => &self.closed.idle,
            CloseReason::SlowReader => &self.closed.slow_reader,
            CloseReason::Transport => &self.closed.transport,
            CloseReason::Local => &self.closed.local,
        };
        counter.inc();
    }

    pub(super) const fn open(&self, transport: Transport) -> &Gauge {
        match transport {
            Transport::Tls => &self.open_tls,
            Transport::Tcp | Transport::Udp => &self.open_tcp,
            Transport::Ws => &self.open_ws,
            Transport::Wss => &self.open_wss,
        }
    }
}
