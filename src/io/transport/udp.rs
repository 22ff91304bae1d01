//! Datagrams: one socket and one receiving task per listener.
//!
//! A wake-up reads until the socket is empty. Parsing happens here. A shard that cannot keep up
//! loses datagrams, counted: their senders retransmit (RFC 3261 §17).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::io::transport::connection::SendError;
use crate::io::transport::counts::Counts;
use crate::io::transport::inlet::Inlet;
use crate::io::transport::socket::{canonical, for_family};
use crate::io::transport::stun;
use crate::io::transport::wire::Sight;
use crate::proto::sip::Message;
use crate::proto::{Flow, FlowId, ListenerId, Transport};

/// Larger than any datagram.
const DATAGRAM: usize = 65_536;
/// Datagrams that are read before others get their turn: more than a shard handles in its turn, so
/// that what waits does so where the shard sees it and can choose, not in the operating system.
const BATCH: usize = 1024;
/// Datagrams that may wait for the operating system to take them.
const BACKLOG: usize = 1024;
/// RFC 5626 §4.4.1's CRLF CRLF is the longest keep-alive; nothing so short is a message.
const KEEPALIVE: usize = 4;
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// A bound datagram listener.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    id: ListenerId,
    socket: UdpSocket,
    is_v6: bool,
    backlog: mpsc::Sender<(SocketAddr, Bytes)>,
}

/// The other end of a socket's backlog.
#[derive(Debug)]
pub(super) struct Backlog(mpsc::Receiver<(SocketAddr, Bytes)>);

impl DatagramSocket {
    pub(super) fn new(id: ListenerId, socket: UdpSocket, is_v6: bool) -> (Arc<Self>, Backlog) {
        let (backlog, waiting) = mpsc::channel(BACKLOG);
        let socket = Self {
            id,
            socket,
            is_v6,
            backlog,
        };
        (Arc::new(socket), Backlog(waiting))
    }

    /// A copy of its socket, for a process that takes over.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Sends at once, or as soon as the operating system has room.
    pub(super) fn send(
        &self,
        remote: SocketAddr,
        bytes: Bytes,
        counts: &Counts,
    ) -> Result<(), SendError> {
        match self
            .socket
            .try_send_to(&bytes, for_family(remote, self.is_v6))
        {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.backlog.try_send((remote, bytes)).is_err() {
                    counts.dropped.datagram_send.inc();
                }
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "datagram not sent");
                counts.dropped.datagram_send.inc();
                Err(SendError::Refused)
            }
        }
    }

    /// Sends what waits, for ever.
    pub(super) async fn drain(self: Arc<Self>, mut backlog: Backlog, counts: Counts) {
        while let Some((remote, bytes)) = backlog.0.recv().await {
            let remote = for_family(remote, self.is_v6);
            if let Err(error) = self.socket.send_to(&bytes, remote).await {
                tracing::debug!(%error, "datagram not sent");
                counts.dropped.datagram_send.inc();
            }
        }
    }

    /// Receives for ever.
    pub(super) async fn receive(self: Arc<Self>, inlet: Arc<Inlet>, limit: usize) {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            if let Err(error) = self.socket.readable().await {
                tracing::warn!(%error, "datagram socket fails");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
            let (mut touched, mut is_empty) = (0, false);
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, remote)) => {
                        let datagram = buffer.get(..length).unwrap_or_default();
                        touched |= self.handle(&inlet, limit, canonical(remote), datagram);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        is_empty = true;
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "datagram not received"),
                }
            }
            inlet.attend_all(touched);
            if !is_empty {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Hands a datagram on and returns the shards to attend to.
    fn handle(&self, inlet: &Inlet, limit: usize, remote: SocketAddr, datagram: &[u8]) -> u64 {
        let flow = Flow {
            id: FlowId::Datagram {
                listener: self.id,
                remote,
            },
            listener: self.id,
            remote,
            transport: Transport::Udp,
        };
        if datagram.len() > limit {
            inlet.counts.dropped.oversize.inc();
            return 0;
        }
        if datagram.len() <= KEEPALIVE {
            if datagram.iter().all(|byte| b"\r\n\0".contains(byte)) {
                inlet.counts.keepalives.inc();
                return inlet.datagram_heard(flow);
            }
            inlet.counts.dropped.garbage.inc();
            return 0;
        }
        if stun::is_stun(datagram) {
            return self.on_stun(inlet, flow, datagram);
        }
        inlet.tap.see(Sight {
            is_in: true,
            listener: Some(self.id),
            remote,
            transport: Transport::Udp,
            bytes: datagram,
        });
        let bytes = Bytes::copy_from_slice(datagram);
        match Message::parse(bytes.clone()) {
            Ok(message) => inlet.datagram_message(flow, message),
            Err(error) => inlet.datagram_malformed(flow, bytes, error),
        }
    }

    /// STUN beside SIP (RFC 5626 §8): a keep-alive, or of no use.
    fn on_stun(&self, inlet: &Inlet, flow: Flow, datagram: &[u8]) -> u64 {
        let Some(answer) = stun::answer(datagram, flow.remote) else {
            inlet.counts.dropped.garbage.inc();
            return 0;
        };
        inlet.counts.keepalives.inc();
        if let Err(error) = self.send(flow.remote, answer, &inlet.counts) {
            tracing::trace!(%error, "stun answer not sent");
        }
        inlet.datagram_heard(flow)
    }
}
