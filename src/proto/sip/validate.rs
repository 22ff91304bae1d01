//! Whether a message is well formed enough to be worked on (RFC 3261 §16.3 step 1).
//!
//! A proxy need not judge what it does not need: Contact, Date, display names and bodies are not
//! looked at.

use memchr::memchr_iter;

use super::error::{ParseError, ParseErrorKind};
use super::header::HeaderName;
use super::message::{ANSWER_NEEDS, Message};
use super::parse::Start;
use super::scan;
use super::uri::Uri;

/// Headers that have one value and one line.
const SINGLE: u64 = HeaderName::CallId.bit()
    | HeaderName::ContentLength.bit()
    | HeaderName::ContentType.bit()
    | HeaderName::CSeq.bit()
    | HeaderName::Date.bit()
    | HeaderName::Event.bit()
    | HeaderName::Expires.bit()
    | HeaderName::FlowTimer.bit()
    | HeaderName::From.bit()
    | HeaderName::MaxBreadth.bit()
    | HeaderName::MaxForwards.bit()
    | HeaderName::MinExpires.bit()
    | HeaderName::ReferTo.bit()
    | HeaderName::ReferredBy.bit()
    | HeaderName::Replaces.bit()
    | HeaderName::RetryAfter.bit()
    | HeaderName::SessionExpires.bit()
    | HeaderName::SubscriptionState.bit()
    | HeaderName::Timestamp.bit()
    | HeaderName::To.bit();

impl Message {
    /// Checks what a proxy relies on: the version ([`ParseErrorKind::Version`], answer 505), then
    /// the start line, the headers that must be there once, their grammar, CSeq's method, and that
    /// the body is whole (answer 400; a response with an error is dropped).
    pub fn validate(&self) -> Result<(), ParseError> {
        self.validate_start()?;
        for name in ANSWER_NEEDS {
            self.header(name).ok_or_else(|| self.missing())?;
        }
        self.validate_counts()?;
        self.validate_nul()?;
        self.top_via()?;
        self.from()?;
        self.to()?;
        self.call_id()?;
        let cseq = self.cseq()?;
        if self.method().is_some_and(|method| method != cseq.method) {
            let at = self.header(HeaderName::CSeq).unwrap_or_default();
            return Err(self.at(at, ParseError::new(ParseErrorKind::MethodMismatch, 0)));
        }
        if self.is_request() {
            self.max_forwards()?;
        }
        self.validate_body()
    }

    fn validate_start(&self) -> Result<(), ParseError> {
        // RFC 3261 §7.1: compared without case.
        if !self.version().eq_ignore_ascii_case(b"SIP/2.0") {
            let kind = match self.version() {
                [] => ParseErrorKind::StartLine,
                _ => ParseErrorKind::Version,
            };
            return Err(self.at(self.version(), ParseError::new(kind, 0)));
        }
        if !self.index.start_is_clean {
            return Err(ParseError::new(ParseErrorKind::StartLine, 0));
        }
        if let Start::Request { uri, .. } = self.index.start {
            let bytes = uri.of(&self.raw);
            let uri = Uri::parse(bytes).map_err(|error| self.at(bytes, error))?;
            // RFC 3261 §19.1.1: no headers in a Request-URI.
            if uri.headers.is_some() {
                return Err(self.at(bytes, ParseError::value(0)));
            }
        }
        Ok(())
    }

    fn validate_counts(&self) -> Result<(), ParseError> {
        let twice = self.index.repeated & SINGLE;
        if twice == 0 {
            return Ok(());
        }
        let mut seen = 0;
        let second = self.index.lines.iter().find(|line| {
            let again = seen & twice & line.name.bit() != 0;
            seen |= line.name.bit();
            again
        });
        let at = second.map_or(0, |line| line.at as usize);
        Err(ParseError::new(ParseErrorKind::Duplicate, at))
    }

    /// RFC 3261 §25.1: NUL stands in headers only as a quoted pair. Others may end a string there.
    fn validate_nul(&self) -> Result<(), ParseError> {
        let head = scan::cut(&self.raw, 0, self.index.lines_end as usize);
        let bare = memchr_iter(0, head)
            .find(|&at| at == 0 || head.get(at - 1).is_none_or(|&before| before != b'\\'));
        match bare {
            Some(at) => Err(ParseError::new(ParseErrorKind::Header, at)),
            None => Ok(()),
        }
    }

    /// RFC 3261 §18.3: a datagram that ends within its body is malformed.
    fn validate_body(&self) -> Result<(), ParseError> {
        match self.index.content_length {
            Some(length) if length as usize > self.body().len() => Err(ParseError::new(
                ParseErrorKind::ContentLength,
                self.raw.len(),
            )),
            _ => Ok(()),
        }
    }
}
