//! Frames that an HTTP/2 library does not send when asked: written between its own.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// RFC 9113 §4.1: every frame starts with so many bytes.
const HEADER: usize = 9;
/// RFC 9113 §6.8.
const GOAWAY: u8 = 7;

/// Frames to write, shared with the [`Injector`].
#[derive(Clone, Default)]
pub(super) struct Injected(Arc<Mutex<VecDeque<Bytes>>>);

impl Injected {
    /// Says that streams above `last` were not processed, with a body as Apple's (RFC 9113 §6.8).
    pub(super) fn go_away(&self, last: u32) {
        let reason = br#"{"reason":"Shutdown"}"#;
        let mut frame = BytesMut::with_capacity(HEADER + 8 + reason.len());
        let length = u32::try_from(8 + reason.len()).unwrap_or(8);
        frame.put_uint(length.into(), 3);
        frame.put_u8(GOAWAY);
        frame.put_u8(0);
        frame.put_u32(0);
        frame.put_u32(last);
        frame.put_u32(0);
        frame.put_slice(reason);
        self.0.lock().push_back(frame.freeze());
    }
}

/// A stream of whole frames into which others can be put.
pub(super) struct Injector<S> {
    inner: S,
    injected: Injected,
    /// What of a frame's header has been written.
    header: [u8; HEADER],
    filled: usize,
    /// What of a frame's payload has not been written.
    left: usize,
}

impl<S> Injector<S> {
    pub(super) const fn new(inner: S, injected: Injected) -> Self {
        Self {
            inner,
            injected,
            header: [0; HEADER],
            filled: 0,
            left: 0,
        }
    }

    /// Follows what was written, to know where frames end.
    fn follow(&mut self, mut written: &[u8]) {
        while !written.is_empty() {
            if self.left > 0 {
                let step = self.left.min(written.len());
                self.left -= step;
                written.advance(step);
            } else {
                if let Some(slot) = self.header.get_mut(self.filled) {
                    *slot = written.get_u8();
                }
                self.filled += 1;
                if self.filled == HEADER {
                    self.filled = 0;
                    let [a, b, c, ..] = self.header;
                    self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Injector<S> {
    /// Writes the injected frames if a frame has just ended.
    fn poll_inject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.left > 0 || self.filled > 0 {
            return Poll::Ready(Ok(()));
        }
        let mut frames = self.injected.0.lock();
        let mut wrote = false;
        while let Some(frame) = frames.front_mut() {
            match Pin::new(&mut self.inner).poll_write(cx, frame)? {
                Poll::Ready(count) => {
                    wrote = true;
                    frame.advance(count);
                    if frame.is_empty() {
                        frames.pop_front();
                    }
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if wrote {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Injector<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection reads whenever it is woken: the moment for frames of nobody's making.
        if let Poll::Ready(Err(error)) = self.poll_inject(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Injector<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.poll_inject(cx))?;
        let count = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.follow(buf.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
