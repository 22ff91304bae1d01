//! The door by which a new process takes over from the one that serves: a Unix socket beside the
//! store.
//!
//! The new one connects. The old one stops reading, closes the store, and answers with its
//! listening sockets (SCM_RIGHTS) and a note; from then on the new one sends it each datagram
//! that is for one of its calls. Every frame is a length of four bytes and that many bytes; the
//! sockets travel with the first byte. Only a process of the same user is let in.

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};

/// Sockets that are handed over, at most; the kernel's own limit is 253.
const SOCKETS: usize = 128;
/// A frame is no longer: a note with a million requests.
const FRAME: usize = 32 << 20;

/// What the old process says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Note {
    /// Whether its branches are odd.
    pub is_odd: bool,
    /// Its unanswered requests, by the number of their topmost branch.
    pub requests: Vec<u64>,
}

/// A datagram for the old process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The address that it came to.
    pub local: SocketAddr,
    /// Where it came from.
    pub remote: SocketAddr,
    /// What it says.
    pub bytes: Bytes,
}

/// The old process's end.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
}

/// The new process, as the old one sees it.
#[derive(Debug)]
pub struct Successor {
    stream: UnixStream,
    /// Its process.
    pub pid: u32,
}

/// What the new process gets.
#[derive(Debug)]
pub struct Taken {
    /// The old one's listening sockets.
    pub sockets: Vec<OwnedFd>,
    /// What it says.
    pub note: Note,
    /// Where datagrams for it go.
    pub passage: Passage,
}

/// The way for datagrams to the old process.
#[derive(Debug)]
pub struct Passage {
    out: OwnedWriteHalf,
    back: OwnedReadHalf,
}

/// The name of the socket of a store.
#[must_use]
pub fn socket_of(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".takeover");
    name.into()
}

impl Door {
    /// Opens it; what an earlier process left there goes.
    ///
    /// # Errors
    ///
    /// Fails if the socket cannot be made.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = through_folder(path, |short| UnixListener::bind(short))?;
        Ok(Self { listener })
    }

    /// Waits for a process of our own user.
    pub async fn knock(&self) -> Successor {
        loop {
            let knocked = self.listener.accept().await;
            let known = knocked.and_then(|(stream, _)| {
                let credentials = stream.peer_cred()?;
                Ok((stream, credentials))
            });
            match known {
                Ok((stream, who)) if who.uid() == rustix::process::geteuid().as_raw() => {
                    let pid = who.pid().unwrap_or_default();
                    let pid = u32::try_from(pid).unwrap_or_default();
                    return Successor { stream, pid };
                }
                Ok(_) => tracing::warn!("a stranger asked to take over"),
                Err(error) => {
                    tracing::warn!(%error, "nobody can take over");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
}

impl Successor {
    /// Hands over the sockets.
    ///
    /// # Errors
    ///
    /// Fails if the new process is gone.
    pub async fn give(&mut self, sockets: &[OwnedFd], note: &Note) -> io::Result<()> {
        let sockets: Vec<BorrowedFd<'_>> =
            sockets.iter().take(SOCKETS).map(|s| s.as_fd()).collect();
        let stream = &self.stream;
        let sent = stream.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other("too many sockets"));
            }
            let first = [IoSlice::new(b"1")];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(rustix::net::sendmsg(stream, &first, &mut control, flags)?)
        });
        sent.await?;
        let note = serde_json::to_vec(note).map_err(io::Error::other)?;
        write_frame(&mut self.stream, &note).await
    }

    /// Waits for a datagram that came to the new process and is ours.
    ///
    /// # Errors
    ///
    /// Fails if the new process is gone.
    pub async fn passed(&mut self) -> io::Result<Passed> {
        let frame = read_frame(&mut self.stream).await?;
        Passed::read(&frame).ok_or_else(|| io::Error::other("a datagram without addresses"))
    }
}

impl Passed {
    fn write(&self) -> Vec<u8> {
        let mut frame = format!("{} {}\n", self.local, self.remote).into_bytes();
        frame.extend_from_slice(&self.bytes);
        frame
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b'\n', frame)?;
        let (addresses, bytes) = frame.split_at_checked(end)?;
        let (local, remote) = std::str::from_utf8(addresses).ok()?.split_once(' ')?;
        Some(Self {
            local: local.parse().ok()?,
            remote: remote.parse().ok()?,
            bytes: Bytes::copy_from_slice(bytes.get(1..)?),
        })
    }
}

impl Passage {
    /// Passes a datagram on.
    ///
    /// # Errors
    ///
    /// Fails if the old process is gone.
    pub async fn pass(&mut self, datagram: &Passed) -> io::Result<()> {
        write_frame(&mut self.out, &datagram.write()).await
    }

    /// Waits until the old process is gone; it says nothing any more.
    pub async fn closed(&mut self) {
        // dropped: whatever comes, it is the end.
        drop(self.back.read_u8().await);
    }
}

/// Asks the process that serves for all that it has; `None` if nobody serves.
///
/// # Errors
///
/// Fails if it does not answer as it should.
pub async fn take(path: &Path) -> io::Result<Option<Taken>> {
    let connected = through_folder(path, |short| std::os::unix::net::UnixStream::connect(short));
    let stream = match connected {
        Ok(stream) => stream,
        Err(error) => {
            let kind = error.kind();
            let is_nobody =
                kind == io::ErrorKind::NotFound || kind == io::ErrorKind::ConnectionRefused;
            return if is_nobody { Ok(None) } else { Err(error) };
        }
    };
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let sockets = receive_sockets(&stream).await?;
    let note = read_frame(&mut stream).await?;
    let note = serde_json::from_slice(&note).map_err(io::Error::other)?;
    let (back, out) = stream.into_split();
    let passage = Passage { out, back };
    Ok(Some(Taken {
        sockets,
        note,
        passage,
    }))
}

async fn receive_sockets(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let received = stream.async_io(Interest::READABLE, || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut first = [0];
        let mut into = [IoSliceMut::new(&mut first)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = rustix::net::recvmsg(stream, &mut into, &mut control, flags)?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        Ok(sockets)
    });
    received.await
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(frame).await
}

async fn read_frame(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).map_err(io::Error::other)?;
    if length > FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Uses the name of a socket by way of its folder: the name itself may be longer than the 108
/// bytes that a socket's name may have (unix(7)).
fn through_folder<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default();
    let folder = File::open(folder)?;
    act(&Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name))
}
