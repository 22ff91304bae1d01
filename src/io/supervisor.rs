//! What the service manager is told (systemd's `sd_notify` protocol, sd_notify(3)): that we are
//! ready, that we reload, that we stop, and that we live. It also keeps our sockets for the next
//! start (`FDSTORE`), unless it has them already: whoever calls meanwhile waits in the kernel.
//!
//! One datagram of `KEY=value` lines to the socket in `NOTIFY_SOCKET`. Without it nobody wants to know.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix};

/// Sockets that are kept, at most.
const SOCKETS: usize = 128;

/// The service manager, or nobody.
#[derive(Debug)]
pub struct Supervisor {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// It has handed sockets over: those of a socket unit, or those that it kept.
    has_sockets: bool,
}

impl Supervisor {
    /// Finds it in the environment.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let manager = variable("NOTIFY_SOCKET").and_then(|name| {
            reach(&name)
                .inspect_err(|error| tracing::warn!(%error, "NOTIFY_SOCKET cannot be used"))
                .ok()
        });
        let pid = variable("WATCHDOG_PID");
        let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC")
            .filter(|_| is_ours)
            .and_then(|text| text.parse().ok())
            .map(Duration::from_micros);
        let has_sockets = variable("LISTEN_FDS").is_some();
        Self {
            manager,
            watchdog,
            has_sockets,
        }
    }

    /// Waits until it wants to hear that we live: twice in the time that it gives us. For ever if
    /// it does not.
    pub async fn beat(&self) {
        match self.watchdog {
            Some(time) => tokio::time::sleep(time / 2).await,
            None => std::future::pending().await,
        }
    }

    /// We serve.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// Whether sockets are to be kept for the next start.
    #[must_use]
    pub const fn wants_sockets(&self) -> bool {
        self.manager.is_some() && !self.has_sockets
    }

    /// Keeps these for the next start: that one finds them in `LISTEN_FDS`.
    pub fn keep(&self, sockets: &[OwnedFd]) {
        let Some((socket, manager)) = &self.manager else {
            return;
        };
        if let Err(error) = send_with(socket, manager, b"FDSTORE=1\nFDNAME=rouse", sockets) {
            tracing::warn!(%error, "the service manager does not keep our sockets");
        }
    }

    /// We read the configuration again; [`Self::ready`] follows.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// We end, and this is what we wait for.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Another process serves in our place from here on.
    pub fn successor(&self, pid: u32) {
        self.tell(&format!("MAINPID={pid}"));
    }

    /// We live.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    fn tell(&self, text: &str) {
        if let Some((socket, manager)) = &self.manager
            && let Err(error) = socket.send_to_addr(text.as_bytes(), manager)
        {
            tracing::warn!(%error, "the service manager does not listen");
        }
    }
}

fn reach(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// Sends a line and sockets.
fn send_with(
    from: &UnixDatagram,
    to: &SocketAddr,
    text: &[u8],
    sockets: &[OwnedFd],
) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = sockets.iter().take(SOCKETS).map(|s| s.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("too many sockets"));
    }
    let to = match (to.as_pathname(), to.as_abstract_name()) {
        (Some(path), _) => SocketAddrUnix::new(path)?,
        (None, Some(name)) => SocketAddrUnix::new_abstract_name(name)?,
        (None, None) => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg_addr(from, &to, &[IoSlice::new(text)], &mut control, flags)?;
    Ok(())
}
