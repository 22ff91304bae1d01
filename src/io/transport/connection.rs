//! One stream connection as the others see it: a bounded write queue and the shards that it
//! belongs to. The connection's task (see `stream`) holds the other end.
//!
//! Invariant: whoever sees the connection open under the lock has its message written, or its
//! report answered; a shard that binds is told of the end exactly once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::io::transport::admission::Share;
use crate::io::transport::ws;
use crate::proto::shard::bit;
use crate::proto::transaction::ClientId;
use crate::proto::{CloseReason, Flow};

/// Who wants to know that a message could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The shard.
    pub shard: u16,
    /// Its client transaction.
    pub transaction: ClientId,
}

/// Why a message cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The flow is gone.
    #[error("the flow is gone")]
    FlowGone,
    /// The peer reads too slowly.
    #[error("the write queue is full")]
    QueueFull,
    /// The operating system refused the datagram.
    #[error("the datagram was refused")]
    Refused,
}

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) bytes: Bytes,
    pub(super) report: Option<Report>,
}

/// What a closed connection leaves behind.
#[derive(Debug)]
pub(super) struct Remains {
    /// Messages that no write has seen.
    pub(super) queue: VecDeque<Outgoing>,
    /// The shards that must hear of the end.
    pub(super) bound: u64,
}

/// What the connection's task finds when it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Go on.
    Open,
    /// Somebody wants it closed.
    Closing(CloseReason),
}

/// A stream connection, open or being opened.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) flow: Flow,
    /// Whether we opened it, toward upstream.
    pub(super) is_hop: bool,
    /// Whether no whole message has come yet: the first to go when there are too many.
    pub(super) is_stranger: AtomicBool,
    limit: usize,
    bound: AtomicU64,
    outbox: Mutex<Outbox>,
}

#[derive(Debug)]
struct Outbox {
    queue: VecDeque<Outgoing>,
    /// Bytes in `queue` and bytes that the task has taken and not yet written.
    bytes: usize,
    standing: Standing,
    is_closed: bool,
    /// Its share of what its address may hold open, until an agent registers over it.
    share: Option<Share>,
    /// A ping of ours is unanswered.
    pinged: bool,
    waker: Option<Waker>,
}

impl Connection {
    pub(super) const fn new(flow: Flow, is_hop: bool, limit: usize, share: Option<Share>) -> Self {
        Self {
            flow,
            is_hop,
            is_stranger: AtomicBool::new(!is_hop),
            limit,
            bound: AtomicU64::new(0),
            outbox: Mutex::new(Outbox {
                queue: VecDeque::new(),
                bytes: 0,
                standing: Standing::Open,
                is_closed: false,
                share,
                pinged: false,
                waker: None,
            }),
        }
    }

    // --- for those who send ---

    /// Queues a message; a queue that overflows closes the connection.
    pub(super) fn send(&self, bytes: Bytes, report: Option<Report>) -> Result<(), SendError> {
        if self.flow.transport.is_websocket() {
            self.queue(ws::message(&bytes), report)
        } else {
            self.queue(bytes, report)
        }
    }

    /// Queues bytes as they are.
    pub(super) fn queue(&self, bytes: Bytes, report: Option<Report>) -> Result<(), SendError> {
        let mut outbox = self.outbox.lock();
        if outbox.is_closed || outbox.standing != Standing::Open {
            return Err(SendError::FlowGone);
        }
        let total = outbox.bytes + bytes.len();
        let result = if total > self.limit {
            outbox.standing = Standing::Closing(CloseReason::SlowReader);
            Err(SendError::QueueFull)
        } else {
            outbox.bytes = total;
            outbox.queue.push_back(Outgoing { bytes, report });
            Ok(())
        };
        let waker = outbox.waker.take();
        drop(outbox);
        wake(waker);
        result
    }

    /// Sends a WebSocket ping, which browsers answer by themselves (RFC 7118 §6).
    pub(super) fn ping(&self) -> Result<(), SendError> {
        self.outbox.lock().pinged = true;
        self.queue(ws::ping(), None)
    }

    /// Asks the task to end the connection.
    pub(super) fn close(&self, reason: CloseReason) {
        if reason == CloseReason::Local && self.flow.transport.is_websocket() {
            self.end_websocket(CloseCode::Away);
            return;
        }
        let mut outbox = self.outbox.lock();
        if outbox.standing == Standing::Open {
            outbox.standing = Standing::Closing(reason);
        }
        let waker = outbox.waker.take();
        drop(outbox);
        wake(waker);
    }

    /// Says goodbye after what is queued, and asks the task to write that and end: nothing may
    /// follow a close frame (RFC 6455 §5.5.1).
    pub(super) fn end_websocket(&self, code: CloseCode) {
        let mut outbox = self.outbox.lock();
        if outbox.standing == Standing::Open {
            let bytes = ws::close(code);
            outbox.bytes += bytes.len();
            let report = None;
            outbox.queue.push_back(Outgoing { bytes, report });
            outbox.standing = Standing::Closing(CloseReason::Local);
        }
        let waker = outbox.waker.take();
        drop(outbox);
        wake(waker);
    }

    /// Adds a shard; false if the connection has ended and nobody will tell the shard.
    pub(super) fn bind(&self, shard: u16) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.is_closed {
            return false;
        }
        self.bound.fetch_or(bit(shard), Ordering::Relaxed);
        let share = outbox.share.take();
        drop(outbox);
        drop(share);
        true
    }

    pub(super) fn unbind(&self, shard: u16) {
        self.bound.fetch_and(!bit(shard), Ordering::Relaxed);
    }

    pub(super) fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    // --- for the connection's task ---

    /// Moves queued messages to `writing` and remembers whom to wake for the next one.
    pub(super) fn take(&self, cx: &Context<'_>, writing: &mut VecDeque<Outgoing>) -> Standing {
        let mut outbox = self.outbox.lock();
        if writing.is_empty() {
            std::mem::swap(&mut outbox.queue, writing);
        } else {
            writing.append(&mut outbox.queue);
        }
        match &mut outbox.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            empty @ None => *empty = Some(cx.waker().clone()),
        }
        outbox.standing
    }

    /// So many bytes have left.
    pub(super) fn written(&self, bytes: usize) {
        let mut outbox = self.outbox.lock();
        outbox.bytes = outbox.bytes.saturating_sub(bytes);
    }

    /// Whether a ping waited for an answer, which has come.
    pub(super) fn take_pinged(&self) -> bool {
        std::mem::take(&mut self.outbox.lock().pinged)
    }

    /// Ends it: nothing can be sent any more. Only the first call returns what it leaves.
    pub(super) fn shut(&self) -> Remains {
        let mut outbox = self.outbox.lock();
        outbox.is_closed = true;
        outbox.share = None;
        Remains {
            queue: std::mem::take(&mut outbox.queue),
            bound: self.bound.swap(0, Ordering::Relaxed),
        }
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::proto::{ConnectionId, FlowId, ListenerId, Transport};

    fn connection() -> Connection {
        let flow = Flow {
            id: FlowId::Stream(ConnectionId(7)),
            listener: ListenerId(0),
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            transport: Transport::Tcp,
        };
        Connection::new(flow, false, 10, None)
    }

    #[test]
    fn a_full_queue_closes_the_connection() {
        let connection = connection();
        let message = Bytes::from_static(b"123456");
        assert_eq!(connection.send(message.clone(), None), Ok(()));
        let full = connection.send(message.clone(), None);
        assert_eq!(full, Err(SendError::QueueFull));
        assert_eq!(connection.send(message, None), Err(SendError::FlowGone));
        let mut writing = VecDeque::new();
        let cx = Context::from_waker(Waker::noop());
        let standing = connection.take(&cx, &mut writing);
        assert_eq!(standing, Standing::Closing(CloseReason::SlowReader));
        assert_eq!(writing.len(), 1);
    }

    #[test]
    fn what_is_written_makes_room() {
        let connection = connection();
        let message = Bytes::from_static(b"123456");
        assert_eq!(connection.send(message.clone(), None), Ok(()));
        connection.written(6);
        assert_eq!(connection.send(message, None), Ok(()));
    }

    #[test]
    fn a_shard_cannot_bind_to_a_connection_that_has_ended() {
        let connection = connection();
        assert!(connection.bind(3));
        assert_eq!(connection.shut().bound, bit(3));
        assert!(!connection.bind(3));
        assert_eq!(connection.shut().bound, 0);
    }
}
