//! Cutting a byte stream into messages and keep-alives (RFC 3261 §18.3, RFC 5626 §4.4.1).
//!
//! Each byte is looked at once, however the stream is cut: the framer remembers how far it has
//! searched, and a message's index once its headers are whole.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

use super::error::{ParseError, ParseErrorKind};
use super::message::Message;
use super::parse::{self, Index, Strictness};
use super::scan;

/// Cuts a byte stream into messages and keep-alives (RFC 3261 §18.3, RFC 5626 §4.4.1).
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    limits: FrameLimits,
    /// How far the buffer has been searched: a line's first byte.
    line: usize,
    /// How far that line has been searched for its end.
    searched: usize,
    /// How many lines there have been, the first one included.
    lines: usize,
    /// The message whose body is awaited.
    pending: Option<Box<Pending>>,
    /// Whether the last thing was a CRLF that may be half of a ping.
    half_ping: bool,
    /// Why the stream cannot be cut any further.
    failure: Option<ParseError>,
}

/// How much a stream may send before it is closed.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    /// The largest message in bytes, its body included.
    pub message_bytes: usize,
    /// The largest number of header lines in a message.
    pub headers: usize,
}

/// One thing found in the stream.
#[derive(Debug)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// A whole message by its lengths, but not a valid one: answer 400 if possible.
    Malformed(Bytes, ParseError),
    /// CRLF CRLF between messages: answer with CRLF.
    Ping,
    /// CRLF
    Pong,
}

#[derive(Debug)]
struct Pending {
    index: Result<Index, ParseError>,
    total: usize,
}

impl Framer {
    /// A framer at the start of a stream.
    #[must_use]
    pub fn new(limits: FrameLimits) -> Self {
        Self {
            buffer: BytesMut::new(),
            limits,
            line: 0,
            searched: 0,
            lines: 0,
            pending: None,
            half_ping: false,
            failure: None,
        }
    }

    /// The buffer to read into: append only.
    pub const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole frame. An error means that the stream cannot be cut any further: answer what
    /// the error's bytes allow ([`Message::salvage`]), close.
    ///
    /// CRLF CRLF is a [`Frame::Ping`]; when it comes in two halves, the first is a
    /// [`Frame::Pong`], for whether more follows cannot be known.
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: `None` means that more bytes are needed"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, (Bytes, ParseError)> {
        if let Some(error) = self.failure {
            return Err((Bytes::new(), error));
        }
        let result = match self.pending {
            Some(_) => Ok(self.take_pending()),
            None => self.next_head(),
        };
        result.map_err(|error| {
            self.failure = Some(error);
            (self.buffer.split().freeze(), error)
        })
    }

    /// Whether part of a message is waiting for its rest (for the slow-loris deadline).
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn next_head(&mut self) -> Result<Option<Frame>, ParseError> {
        if self.lines == 0 && self.searched == 0 {
            if let Some(frame) = self.keep_alive() {
                return Ok(Some(frame));
            }
            if matches!(&*self.buffer, [] | [b'\r']) {
                return Ok(None);
            }
        }
        self.half_ping = false;
        if !self.search()? {
            return self.check_start().map(|()| None);
        }
        self.pending = Some(Box::new(self.measure()?));
        Ok(self.take_pending())
    }

    /// Takes CRLFs between messages.
    fn keep_alive(&mut self) -> Option<Frame> {
        match &*self.buffer {
            [b'\r', b'\n', b'\r', b'\n', ..] if !self.half_ping => {
                self.discard(4);
                Some(Frame::Ping)
            }
            [b'\r', b'\n', ..] => {
                self.discard(2);
                self.half_ping = !self.half_ping;
                Some(if self.half_ping {
                    Frame::Pong
                } else {
                    Frame::Ping
                })
            }
            _ => None,
        }
    }

    fn discard(&mut self, len: usize) {
        drop(self.buffer.split_to(len.min(self.buffer.len())));
    }

    /// Looks for the empty line that ends the headers; `self.line` is then behind it.
    fn search(&mut self) -> Result<bool, ParseError> {
        let limit = self.limits.message_bytes;
        while let Some(at) = memchr(b'\n', self.buffer.get(self.searched..).unwrap_or_default()) {
            let end = self.searched + at;
            let line = scan::cut(&self.buffer, self.line, end);
            let [line @ .., b'\r'] = line else {
                let kind = match self.lines {
                    0 => ParseErrorKind::StartLine,
                    _ => ParseErrorKind::Header,
                };
                return Err(ParseError::new(kind, end));
            };
            let is_end = line.is_empty();
            if self.lines == 0 {
                // As if it had come in pieces.
                self.check_start()?;
                check_first_line(line)?;
            }
            self.lines += 1;
            self.line = end + 1;
            self.searched = self.line;
            if is_end {
                return Ok(true);
            }
            // Folds count here as lines of their own; the index counts headers.
            if self.lines > self.limits.headers.saturating_mul(8) {
                return Err(ParseError::new(ParseErrorKind::TooManyHeaders, end));
            }
        }
        self.searched = self.buffer.len();
        if self.buffer.len() > limit {
            return Err(ParseError::new(ParseErrorKind::TooLarge, limit));
        }
        Ok(false)
    }

    /// Refuses a first line that cannot become one of SIP's before it is whole.
    fn check_start(&self) -> Result<(), ParseError> {
        if self.lines > 0 {
            return Ok(());
        }
        let bad = |&byte: &u8| !scan::is_token_byte(byte);
        match self.buffer.iter().take(64).position(bad) {
            // The end of a method, or of `SIP` in `SIP/2.0`.
            Some(at) if matches!(self.buffer.get(at), Some(b' ' | b'/')) && at > 0 => Ok(()),
            None if self.buffer.len() < 64 => Ok(()),
            at => Err(ParseError::new(ParseErrorKind::StartLine, at.unwrap_or(64))),
        }
    }

    /// How long the message is whose headers end at `self.line`.
    fn measure(&self) -> Result<Pending, ParseError> {
        let head = scan::cut(&self.buffer, 0, self.line);
        let limit = self.limits.message_bytes;
        if head.len() > limit {
            return Err(ParseError::new(ParseErrorKind::TooLarge, limit));
        }
        let strict = parse::head(head, self.limits.headers, Strictness::Strict);
        let (index, length) = match strict {
            Ok(index) => {
                let length = index.content_length;
                (Ok(index), length)
            }
            // A bad name leaves the lengths as they are; anything else may hide a length.
            Err(error) => {
                let is_local = matches!(
                    error.kind,
                    ParseErrorKind::Header | ParseErrorKind::HeaderName
                );
                if !is_local {
                    return Err(error);
                }
                let length = self.trusted_length(head).ok_or(error)?;
                (Err(error), Some(length))
            }
        };
        // RFC 3261 §18.3: on a stream, Content-Length must be there.
        let length =
            length.ok_or_else(|| ParseError::new(ParseErrorKind::ContentLength, head.len()))?;
        let total = head.len().saturating_add(length as usize);
        if total > limit {
            return Err(ParseError::new(ParseErrorKind::TooLarge, limit));
        }
        Ok(Pending { index, total })
    }

    /// The length that a head with a bad line declares, if all its line ends are sound.
    fn trusted_length(&self, head: &[u8]) -> Option<u32> {
        let has_bare_cr =
            memchr::memchr_iter(b'\r', head).any(|at| head.get(at + 1) != Some(&b'\n'));
        let index = parse::head(head, self.limits.headers, Strictness::Lenient).ok()?;
        index.content_length.filter(|_| !has_bare_cr)
    }

    fn take_pending(&mut self) -> Option<Frame> {
        let total = self.pending.as_ref()?.total;
        if self.buffer.len() < total {
            return None;
        }
        let pending = self.pending.take()?;
        let raw = self.buffer.split_to(total).freeze();
        (self.line, self.searched, self.lines) = (0, 0, 0);
        Some(match pending.index {
            Ok(mut index) => {
                index.end = u32::try_from(total).unwrap_or(u32::MAX);
                Frame::Message(Message::of_parts(raw, index))
            }
            Err(error) => Frame::Malformed(raw, error),
        })
    }
}

/// Whether a whole first line is one of SIP's, roughly: `SIP/` at its start, or ` SIP/` near its
/// end. Nothing behind another protocol's first line is looked at.
fn check_first_line(line: &[u8]) -> Result<(), ParseError> {
    let starts = |part: &[u8]| {
        part.get(..4)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"))
    };
    let last = scan::trim(line)
        .rsplit(|&byte| byte == b' ')
        .next()
        .unwrap_or_default();
    if starts(line) || starts(last) {
        Ok(())
    } else {
        Err(ParseError::new(ParseErrorKind::StartLine, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits {
        message_bytes: 4096,
        headers: 64,
    };
    const OPTIONS: &[u8] = b"OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/TCP a\r\nl: 3\r\n\r\nabc";

    /// What comes out when the bytes come in pieces of this size.
    fn frames(bytes: &[u8], piece: usize) -> (Vec<String>, Option<ParseErrorKind>) {
        let mut framer = Framer::new(LIMITS);
        let mut found = Vec::new();
        for part in bytes.chunks(piece) {
            framer.buffer().extend_from_slice(part);
            loop {
                match framer.next() {
                    Ok(None) => break,
                    Ok(Some(Frame::Message(message))) => {
                        found.push(message.raw().escape_ascii().to_string());
                    }
                    Ok(Some(Frame::Malformed(bytes, _))) => {
                        found.push(format!("malformed {}", bytes.escape_ascii()));
                    }
                    Ok(Some(Frame::Ping)) => {
                        found.pop_if(|last| last == "pong");
                        found.push("ping".into());
                    }
                    Ok(Some(Frame::Pong)) => found.push("pong".into()),
                    Err((_, error)) => return (found, Some(error.kind)),
                }
            }
        }
        (found, None)
    }

    fn all_cuts(bytes: &[u8]) -> (Vec<String>, Option<ParseErrorKind>) {
        let whole = frames(bytes, bytes.len());
        for piece in 1..bytes.len().min(40) {
            assert_eq!(frames(bytes, piece), whole, "pieces of {piece}");
        }
        whole
    }

    #[test]
    fn any_cut_gives_the_same_messages_and_keep_alives() {
        let mut stream = b"\r\n\r\n".to_vec();
        stream.extend_from_slice(OPTIONS);
        stream.extend_from_slice(OPTIONS);
        stream.extend_from_slice(b"\r\n");
        stream.extend_from_slice(OPTIONS);
        stream.extend_from_slice(b"\r\n\r\n\r\n\r\n");
        let text = OPTIONS.escape_ascii().to_string();
        let expected = ["ping", &text, &text, "pong", &text, "ping", "ping"];
        assert_eq!(
            all_cuts(&stream),
            (expected.map(String::from).to_vec(), None)
        );
    }

    #[test]
    fn a_length_that_cannot_be_trusted_is_never_waited_for() {
        for length in [
            "-1",
            "+0",
            "0x0",
            "1e3",
            "",
            "2147483647",
            "2147483648",
            "4294967296",
            "4294967328",
            "18446744073709551616",
            "1234567890123456789012345678901234567890",
            "0\r\nContent-Length: 0",
            "0\r\nl: 0",
            "0\r\nContent-Length : 5",
            "0, 0",
            "5000",
            "\x0b3",
        ] {
            let head = format!("OPTIONS sip:h SIP/2.0\r\nContent-Length: {length}\r\n\r\n");
            let mut stream = head.into_bytes();
            stream.extend_from_slice(OPTIONS);
            let (found, error) = all_cuts(&stream);
            assert!(found.is_empty(), "{length}: {found:?}");
            assert!(
                matches!(
                    error,
                    Some(ParseErrorKind::ContentLength | ParseErrorKind::TooLarge)
                ),
                "{length}: {error:?}"
            );
        }
    }

    #[test]
    fn a_message_without_a_length_is_an_error_on_a_stream() {
        let (_, error) = all_cuts(b"OPTIONS sip:h SIP/2.0\r\nVia: x\r\n\r\n");
        assert_eq!(error, Some(ParseErrorKind::ContentLength));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_line() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: h\r\n"[..],
            b"\x16\x03\x01\x02\x00\x01",
            b"\x00\x01\x00\x00\x21\x12\xa4\x42",
            b"POST /x HTTP/1.1\r\n\r\nREGISTER sip:h SIP/2.0\r\nl: 0\r\n\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
            b"HEP3\x00",
            b"OPTIONS sip:h SIP/2.0\nl: 0\n\n",
            b"REGIS=:5080 SIP/2.0\r\nl: 0\r\n\r\n",
            b" OPTIONS sip:h SIP/2.0\r\nl: 0\r\n\r\n",
            &[b'a'; 70],
        ] {
            let (found, error) = all_cuts(bytes);
            assert!(found.is_empty());
            assert_eq!(
                error,
                Some(ParseErrorKind::StartLine),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_bad_name_does_not_end_the_stream_but_a_bare_line_end_does() {
        let bad = b"OPTIONS sip:h SIP/2.0\r\nBad Name: x\r\nl: 0\r\n\r\n";
        let mut stream = bad.to_vec();
        stream.extend_from_slice(OPTIONS);
        let (found, error) = all_cuts(&stream);
        assert_eq!(error, None);
        assert_eq!(found.first().map(|first| &first[..9]), Some("malformed"));
        assert_eq!(found.len(), 2);
        for bad in [&b"\rX: y"[..], b"\nX: y"] {
            let mut stream = b"OPTIONS sip:h SIP/2.0\r\nl: 0".to_vec();
            stream.extend_from_slice(bad);
            stream.extend_from_slice(b"\r\n\r\n");
            let (found, error) = all_cuts(&stream);
            assert!(found.is_empty());
            assert_eq!(error, Some(ParseErrorKind::Header));
        }
    }

    #[test]
    fn limits_hold_before_the_end_is_seen() {
        let mut long = b"OPTIONS sip:h SIP/2.0\r\nX: ".to_vec();
        long.resize(8000, b'a');
        assert_eq!(frames(&long, 100).1, Some(ParseErrorKind::TooLarge));
        let mut many = b"OPTIONS sip:h SIP/2.0\r\n".to_vec();
        for _ in 0..100 {
            many.extend_from_slice(b"a: b\r\n");
        }
        many.extend_from_slice(b"\r\n");
        assert_eq!(frames(&many, 100).1, Some(ParseErrorKind::TooManyHeaders));
    }

    #[test]
    fn a_part_of_a_message_is_noticed() {
        let mut framer = Framer::new(LIMITS);
        assert!(!framer.is_partial());
        framer.buffer().extend_from_slice(b"OPT");
        assert!(matches!(framer.next(), Ok(None)));
        assert!(framer.is_partial());
    }
}
