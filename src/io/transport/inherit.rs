//! Listening sockets that somebody else has bound: the service manager (systemd's socket
//! activation, sd_listen_fds(3)), or the process that served before us.
//!
//! While that process still ends its calls, what arrives for them comes to us: [`Predecessor`]
//! knows it, and it is passed on.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;
use bytes::Bytes;
use listenfd::ListenFd;
use socket2::{Socket, Type};
use tokio::sync::mpsc;

use crate::proto::sip::Message;
use crate::proto::transaction::{ClientId, branch_number};

/// Bound sockets, until a listener takes the one with its address.
#[derive(Debug, Default)]
pub struct Inherited {
    streams: Vec<TcpListener>,
    datagrams: Vec<UdpSocket>,
}

impl Inherited {
    /// Takes those that the service manager hands over.
    ///
    /// # Errors
    ///
    /// Fails if one is neither a listening stream socket nor a datagram socket.
    pub fn from_environment() -> io::Result<Self> {
        let mut manager = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..manager.len() {
            match manager.take_udp_socket(index) {
                Ok(socket) => inherited.datagrams.extend(socket),
                Err(_) => inherited.streams.extend(manager.take_tcp_listener(index)?),
            }
        }
        Ok(inherited)
    }

    /// Adds one.
    ///
    /// # Errors
    ///
    /// Fails if it is no socket.
    pub fn add(&mut self, socket: OwnedFd) -> io::Result<()> {
        let socket = Socket::from(socket);
        if socket.r#type()? == Type::DGRAM {
            self.datagrams.push(socket.into());
        } else {
            self.streams.push(socket.into());
        }
        Ok(())
    }

    /// How many nobody has taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.streams.len() + self.datagrams.len()
    }

    pub(super) fn stream(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let is_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|at| at == address);
        let at = self.streams.iter().position(is_it)?;
        Some(self.streams.swap_remove(at))
    }

    pub(super) fn datagram(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        let is_it = |socket: &UdpSocket| socket.local_addr().is_ok_and(|at| at == address);
        let at = self.datagrams.iter().position(is_it)?;
        Some(self.datagrams.swap_remove(at))
    }
}

/// A datagram for the process that served before us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// The address that it came to.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What it says.
    pub bytes: Bytes,
}

/// The process that served before us, as long as it has calls.
#[derive(Debug)]
pub struct Predecessor {
    /// Whether its branches are odd: ours are the other ones.
    is_odd: bool,
    /// Its unanswered requests, by the number of their topmost branch.
    requests: HashSet<u64, RandomState>,
    strays: mpsc::Sender<Stray>,
    is_over: AtomicBool,
}

impl Predecessor {
    /// One with these unanswered requests; what is for it goes to `strays`.
    #[must_use]
    pub fn new(is_odd: bool, requests: Vec<u64>, strays: mpsc::Sender<Stray>) -> Self {
        Self {
            is_odd,
            requests: requests.into_iter().collect(),
            strays,
            is_over: AtomicBool::new(false),
        }
    }

    /// It has ended.
    pub fn is_gone(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether a message is for it: an answer to a request of its own, or beside one that it has
    /// not answered (CANCEL, ACK, the same once more).
    pub(super) fn owns(&self, message: &Message) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let Ok(via) = message.top_via() else {
            return false;
        };
        let Some(branch) = via.branch() else {
            return false;
        };
        if message.is_request() {
            return self.requests.contains(&branch_number(branch));
        }
        ClientId::from_branch(branch).is_some_and(|(_, id)| id.is_odd() == self.is_odd)
    }

    /// Passes a datagram on; false if there is no room.
    pub(super) fn pass(&self, stray: Stray) -> bool {
        match self.strays.try_send(stray) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => false,
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.is_gone();
                true
            }
        }
    }
}
