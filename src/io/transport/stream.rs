//! The task of one stream connection: reads, frames, parses, delivers; writes what is queued.
//!
//! Reading and writing advance in one `poll`, so that a peer that does not read cannot stop us from
//! reading. An idle connection holds no read buffer: bytes arrive in a scratch buffer on the stack
//! and only then move to the framer. Times: a message must be whole `message` after its first byte
//! however its bytes trickle; a connection without a registered agent is closed when it is idle.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::io::clock::Clock;
use crate::io::transport::TransportLimits;
use crate::io::transport::connection::{Connection, Outgoing, Report, Standing};
use crate::io::transport::cutter::{Broken, Cut, Cutter};
use crate::io::transport::inlet::Inlet;
use crate::io::transport::wire::Sight;
use crate::io::transport::ws;
use crate::proto::CloseReason;
use crate::proto::sip::{Frame, FrameLimits, ParseErrorKind};

/// Bytes that one read may take.
const SCRATCH: usize = 16 * 1024;
/// Messages that one write may take.
const SLICES: usize = 32;
/// Requests toward upstream that are remembered until the peer says anything.
const UNANSWERED: usize = 256;
/// RFC 5626 §4.4.1 asks for a pong per ping; a flood gets one in this time.
const PONG_EVERY: Duration = Duration::from_secs(1);
/// How long a connection that we end may take to write what is queued.
const LEAVE: Duration = Duration::from_millis(500);

/// A connection's own state.
#[derive(Debug)]
pub(super) struct StreamTask<S> {
    stream: S,
    connection: Arc<Connection>,
    inlet: Arc<Inlet>,
    limits: Arc<TransportLimits>,
    cutter: Cutter,
    writing: VecDeque<Outgoing>,
    is_flushed: bool,
    /// Requests written since the peer was last heard: lost if the connection breaks.
    unanswered: VecDeque<Report>,
    clocks: Clocks,
    /// The shards that have something new in their queues.
    touched: u64,
    /// Set once the end is decided: nothing is read any more, what is queued is written.
    leaving: Option<Leaving>,
}

#[derive(Clone, Copy, Debug)]
struct Clocks {
    /// The last byte read, or written as far as the idle check knows.
    active: Instant,
    /// Something was written since the last idle check.
    has_written: bool,
    /// When a message that has begun must be whole.
    partial: Option<Instant>,
    pong: Option<Instant>,
    heard: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Leaving {
    reason: CloseReason,
    until: Instant,
    /// Whether to go as soon as the queue is empty (or to wait for a last answer).
    when_flushed: bool,
}

/// What one wait brought.
enum Step {
    Read,
    Deadline,
    Close(CloseReason),
}

impl<S: AsyncRead + AsyncWrite + Unpin> StreamTask<S> {
    pub(super) fn new(
        stream: S,
        connection: Arc<Connection>,
        inlet: Arc<Inlet>,
        limits: Arc<TransportLimits>,
        frames: FrameLimits,
    ) -> Self {
        let cutter = Cutter::new(connection.flow.transport, frames);
        Self {
            stream,
            connection,
            inlet,
            limits,
            cutter,
            writing: VecDeque::new(),
            is_flushed: true,
            unanswered: VecDeque::new(),
            clocks: Clocks {
                active: Clock::now(),
                has_written: false,
                partial: None,
                pong: None,
                heard: None,
            },
            touched: 0,
            leaving: None,
        }
    }

    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Runs the connection to its end, tells whom it concerns, and returns why it ended.
    pub(super) async fn run(&mut self) -> CloseReason {
        let reason = self.pump().await;
        let remains = self.connection.shut();
        let unsent = self.writing.drain(..).chain(remains.queue);
        let mut lost: Vec<Report> = self.unanswered.drain(..).collect();
        for message in unsent {
            self.inlet.counts.dropped.unsent.inc();
            lost.extend(message.report);
        }
        for report in lost {
            self.inlet.report(report).await;
        }
        let flow = self.connection.flow.id;
        self.inlet.closed(flow, remains.bound, reason).await;
        if reason != CloseReason::SlowReader
            && let Ok(Err(error)) = tokio::time::timeout(LEAVE, self.stream.shutdown()).await
        {
            tracing::trace!(%error, "peer was gone before the close");
        }
        reason
    }

    async fn pump(&mut self) -> CloseReason {
        let sleep = tokio::time::sleep_until(self.deadline().into());
        tokio::pin!(sleep);
        loop {
            match poll_fn(|cx| self.poll_step(cx, sleep.as_mut())).await {
                Step::Close(reason) => return reason,
                Step::Read => self.deliver().await,
                Step::Deadline => {
                    if let Some(reason) = self.overdue(Clock::now()) {
                        return reason;
                    }
                }
            }
            // A later deadline need not move the timer: it fires early and is set again.
            let deadline = self.deadline().into();
            if sleep.is_elapsed() || deadline < sleep.deadline() {
                sleep.as_mut().reset(deadline);
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Poll<Step> {
        match self.connection.take(cx, &mut self.writing) {
            Standing::Open => {}
            Standing::Closing(CloseReason::Local) => {
                let is_new = self.leaving.is_none();
                self.leave(CloseReason::Local, true);
                if is_new {
                    // The timer must be set to the new deadline before we wait for it.
                    return Poll::Ready(Step::Deadline);
                }
            }
            Standing::Closing(reason) => return Poll::Ready(Step::Close(reason)),
        }
        let written = self.poll_write(cx);
        if let Poll::Ready(Err(_)) = written {
            return Poll::Ready(Step::Close(CloseReason::Transport));
        }
        match self.leaving {
            Some(leaving) if leaving.when_flushed && written.is_ready() => {
                return Poll::Ready(Step::Close(leaving.reason));
            }
            Some(leaving) if leaving.until <= Clock::now() => {
                return Poll::Ready(Step::Close(leaving.reason));
            }
            Some(_) => {}
            None => match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Step::Close(CloseReason::Peer)),
                Poll::Ready(Ok(_)) => return Poll::Ready(Step::Read),
                Poll::Ready(Err(error)) => return Poll::Ready(Step::Close(reason_of(&error))),
                Poll::Pending => {}
            },
        }
        sleep.poll(cx).map(|()| Step::Deadline)
    }

    /// Reads once into the framer; 0 is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [const { MaybeUninit::<u8>::uninit() }; SCRATCH];
        let mut read = ReadBuf::uninit(&mut scratch);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        self.cutter.buffer().extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Writes all that is queued; ready when it has left for the operating system.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.writing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut count = 0;
            for (slice, message) in slices.iter_mut().zip(&self.writing) {
                *slice = IoSlice::new(&message.bytes);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.is_flushed = false;
            self.clocks.has_written = true;
            self.connection.written(written);
            self.advance(written);
        }
        if self.writing.capacity() > SLICES {
            self.writing = VecDeque::new();
        }
        if !self.is_flushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes written bytes off the queue.
    fn advance(&mut self, mut written: usize) {
        while let Some(message) = self.writing.front_mut() {
            if message.bytes.len() > written {
                message.bytes.advance(written);
                return;
            }
            written -= message.bytes.len();
            let report = message.report;
            self.writing.pop_front();
            if self.connection.is_hop
                && let Some(report) = report
            {
                if self.unanswered.len() == UNANSWERED {
                    self.unanswered.pop_front();
                }
                self.unanswered.push_back(report);
            }
        }
    }

    /// Cuts what has arrived and hands it on, then attends to the shards that got it.
    async fn deliver(&mut self) {
        self.cut().await;
        self.inlet.attend_all(std::mem::take(&mut self.touched));
    }

    /// Waits while a shard's queue is full.
    async fn cut(&mut self) {
        self.clocks.active = Clock::now();
        self.unanswered.clear();
        loop {
            match self.cutter.next() {
                Ok(Some(cut)) => {
                    if !self.cutter.is_inside() {
                        self.clocks.partial = None;
                    }
                    self.on_cut(cut).await;
                    if self.leaving.is_some() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(Broken::WebSocket(code)) => {
                    self.leave(CloseReason::Framing, true);
                    self.connection.end_websocket(code);
                    return;
                }
                Err(Broken::Sip(bytes, error)) => {
                    // What does not even begin like SIP has no answer coming.
                    let answered = error.kind != ParseErrorKind::StartLine && !bytes.is_empty();
                    self.leave(CloseReason::Framing, !answered);
                    let flow = self.connection.flow;
                    self.touched |= self.inlet.stream_malformed(flow, bytes, error).await;
                    return;
                }
            }
        }
        if self.cutter.is_partial() {
            let limit = self.limits.message;
            let partial = &mut self.clocks.partial;
            partial.get_or_insert_with(|| Clock::now() + limit);
        } else {
            self.clocks.partial = None;
            let buffer = self.cutter.buffer();
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    async fn on_cut(&mut self, cut: Cut) {
        match cut {
            Cut::Frame(frame) => self.on_frame(frame).await,
            Cut::Ping(payload) => {
                self.pong(ws::pong(&payload));
                self.heard(self.connection.bound()).await;
            }
            Cut::Pong => self.heard(self.connection.bound()).await,
            Cut::Close(code) => {
                self.leave(CloseReason::Peer, true);
                self.connection.end_websocket(code);
            }
        }
    }

    fn show(&self, bytes: &[u8]) {
        let flow = self.connection.flow;
        self.inlet.tap.see(Sight {
            is_in: true,
            listener: Some(flow.listener),
            remote: flow.remote,
            transport: flow.transport,
            bytes,
        });
    }

    async fn on_frame(&mut self, frame: Frame) {
        let flow = self.connection.flow;
        let bound = self.connection.bound();
        match frame {
            Frame::Message(message) => {
                self.connection.is_stranger.store(false, Ordering::Relaxed);
                self.show(message.raw());
                self.touched |= self.inlet.stream_message(flow, bound, message).await;
            }
            Frame::Malformed(bytes, error) => {
                self.show(&bytes);
                self.touched |= self.inlet.stream_malformed(flow, bytes, error).await;
            }
            Frame::Ping => {
                let pong = Bytes::from_static(b"\r\n");
                let is_framed = flow.transport.is_websocket();
                self.pong(if is_framed { ws::message(&pong) } else { pong });
                self.heard(bound).await;
            }
            Frame::Pong => self.heard(bound).await,
        }
    }

    fn pong(&mut self, bytes: Bytes) {
        let now = Clock::now();
        if self.clocks.pong.is_some_and(|last| now < last + PONG_EVERY) {
            self.inlet.counts.dropped.pong_withheld.inc();
            return;
        }
        self.clocks.pong = Some(now);
        // Dropped: a queue that is full is closing the connection already.
        if self.connection.queue(bytes, None).is_err() {
            self.inlet.counts.dropped.write_queue.inc();
        }
    }

    /// Tells the shards, at most once in a while: an answer to our own ping always.
    async fn heard(&mut self, bound: u64) {
        self.inlet.counts.keepalives.inc();
        let now = Clock::now();
        let is_new = self
            .clocks
            .heard
            .is_none_or(|last| now >= last + PONG_EVERY);
        if self.connection.take_pinged() || is_new {
            self.clocks.heard = Some(now);
            let flow = self.connection.flow.id;
            self.touched |= self.inlet.stream_heard(flow, bound).await;
        }
    }

    fn leave(&mut self, reason: CloseReason, when_flushed: bool) {
        let until = Clock::now() + LEAVE;
        let leaving = self.leaving.get_or_insert(Leaving {
            reason,
            until,
            when_flushed,
        });
        leaving.when_flushed |= when_flushed;
    }

    /// Why the connection must end for being late.
    fn overdue(&mut self, now: Instant) -> Option<CloseReason> {
        if let Some(leaving) = self.leaving {
            return (leaving.until <= now).then_some(leaving.reason);
        }
        if self.clocks.partial.is_some_and(|partial| partial <= now) {
            return Some(CloseReason::Idle);
        }
        let is_bound = self.connection.bound() != 0;
        if is_bound || std::mem::take(&mut self.clocks.has_written) {
            self.clocks.active = now;
        }
        (self.clocks.active + self.patience() <= now).then_some(CloseReason::Idle)
    }

    fn deadline(&self) -> Instant {
        if let Some(leaving) = self.leaving {
            return leaving.until;
        }
        let idle = self.clocks.active + self.patience();
        self.clocks
            .partial
            .map_or(idle, |partial| partial.min(idle))
    }

    fn patience(&self) -> Duration {
        if self.connection.is_hop {
            self.limits.hop_idle
        } else if self.connection.is_stranger.load(Ordering::Relaxed) {
            self.limits.silent
        } else {
            self.limits.unbound
        }
    }
}

/// A phone that the system puts to sleep neither says goodbye in TLS nor closes in order.
fn reason_of(error: &io::Error) -> CloseReason {
    if matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    ) {
        CloseReason::Peer
    } else {
        CloseReason::Transport
    }
}
