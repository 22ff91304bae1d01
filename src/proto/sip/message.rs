//! One message: its bytes and where everything is in them.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};

use super::error::{ParseError, ParseErrorKind};
use super::header::{CSeq, Contact, Header, HeaderName, NameAddr, Via, ViaSpots};
use super::method::Method;
use super::parse::{self, Index, Line, MAX_HEADERS, Start, Strictness};
use super::scan;
use super::uri::{Uri, UriSpots};

/// One SIP message over the bytes it arrived in.
///
/// Two reference counts: a clone copies neither bytes nor positions.
#[derive(Clone, Debug)]
pub struct Message {
    pub(super) raw: Bytes,
    pub(super) index: Arc<Index>,
}

impl Message {
    /// Parses one whole message (a datagram, or what the framer cut out). Headers that are
    /// malformed beyond framing are kept: a proxy forwards what it need not understand.
    ///
    /// CRLFs before the message are skipped (RFC 3261 §7.5), bytes behind its Content-Length are
    /// discarded (§18.3). That a datagram has fewer bytes is for [`Self::validate`] to say.
    pub fn parse(raw: Bytes) -> Result<Self, ParseError> {
        let skipped = leading_lines(&raw);
        let index = parse::head(
            raw.get(skipped..).unwrap_or_default(),
            MAX_HEADERS,
            Strictness::Strict,
        )
        .map_err(|error| error.within(skipped))?;
        Ok(Self::with_index(raw, skipped, index))
    }

    /// Finds what an answer to a request needs (Via, From, To, Call-ID, CSeq) in bytes that
    /// [`Self::parse`] refuses; `None` if they are not all there, or if this may be a response.
    #[must_use]
    pub fn salvage(raw: Bytes) -> Option<Self> {
        let skipped = leading_lines(&raw);
        let rest = raw.get(skipped..)?;
        let index = parse::head(rest, MAX_HEADERS, Strictness::Lenient).ok()?;
        let found = |&name: &HeaderName| index.first(name).is_some();
        let is_answerable =
            matches!(index.start, Start::Request { .. }) && ANSWER_NEEDS.iter().all(found);
        is_answerable.then(|| Self::with_index(raw, skipped, index))
    }

    fn with_index(mut raw: Bytes, skipped: usize, mut index: Index) -> Self {
        raw.advance(skipped.min(raw.len()));
        let all = u32::try_from(raw.len()).unwrap_or(u32::MAX);
        index.end = match index.content_length {
            Some(length) => index.body.saturating_add(length).min(all),
            None => all,
        };
        raw.truncate(index.end as usize);
        Self::of_parts(raw, index)
    }

    /// The index must be of these bytes.
    pub(super) fn of_parts(raw: Bytes, index: Index) -> Self {
        Self {
            raw,
            index: Arc::new(index),
        }
    }

    /// Returns the message's bytes, to the end of its body.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Returns whether this is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.index.start, Start::Request { .. })
    }

    /// `None` for a response.
    #[must_use]
    pub fn method(&self) -> Option<Method<'_>> {
        match self.index.start {
            Start::Request { method, .. } => Some(Method::parse(method.of(&self.raw))),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI's bytes; `None` for a response.
    #[must_use]
    pub fn request_uri(&self) -> Option<&[u8]> {
        match self.index.start {
            Start::Request { uri, .. } => Some(uri.of(&self.raw)),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI; `None` for a response, or if it is not well formed.
    #[must_use]
    pub fn parsed_uri(&self) -> Option<Uri<'_>> {
        let parse = || {
            let uri = Uri::parse(self.request_uri()?).ok()?;
            Some(UriSpots::of(&self.raw, &uri))
        };
        let spots = *self.index.uri.get_or_init(parse);
        spots.map(|spots| spots.read(&self.raw))
    }

    /// `None` for a request.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { status, .. } => Some(status),
        }
    }

    /// The reason phrase; `None` for a request.
    #[must_use]
    pub fn reason(&self) -> Option<&[u8]> {
        match self.index.start {
            Start::Request { .. } => None,
            Start::Response { reason, .. } => Some(reason.of(&self.raw)),
        }
    }

    /// The version, as written.
    #[must_use]
    pub fn version(&self) -> &[u8] {
        match self.index.start {
            Start::Request { version, .. } | Start::Response { version, .. } => {
                version.of(&self.raw)
            }
        }
    }

    /// All header lines in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> + '_ {
        self.index.lines.iter().map(|line| Header {
            name: line.name,
            raw_name: self.raw_name(line),
            value: line.value.of(&self.raw),
        })
    }

    /// First line of that name.
    #[must_use]
    pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
        let line = self.index.lines.get(self.index.first(name)?)?;
        Some(line.value.of(&self.raw))
    }

    /// First line whose name is this, any case: for names that [`HeaderName`] does not list.
    #[must_use]
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        let known = HeaderName::parse(name.as_bytes());
        if known != HeaderName::Other {
            return self.header(known);
        }
        self.index
            .lines
            .iter()
            .find(|line| self.raw_name(line).eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| line.value.of(&self.raw))
    }

    /// The values of a list header over all its lines, split at commas outside quotes and <>.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> + '_ {
        self.value_spots(name).map(|(_, value)| value)
    }

    /// The values with the number of the line that each stands on.
    pub(super) fn value_spots(
        &self,
        name: HeaderName,
    ) -> impl Iterator<Item = (usize, &[u8])> + '_ {
        let from = self.index.first(name).unwrap_or(self.index.lines.len());
        let lines = self.index.lines.iter().enumerate().skip(from);
        lines
            .filter(move |(_, line)| line.name == name)
            .flat_map(|(at, line)| {
                let mut rest = line.value.of(&self.raw);
                std::iter::from_fn(move || scan::next_in_list(&mut rest).map(|value| (at, value)))
            })
    }

    /// The body's bytes.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        scan::cut(&self.raw, self.index.body as usize, self.index.end as usize)
    }

    /// What Content-Length says, if it is there.
    #[must_use]
    pub fn content_length(&self) -> Option<u32> {
        self.index.content_length
    }

    /// The first Via value.
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        let parse = || {
            let mut values = self.needed(HeaderName::Via)?;
            let value = scan::next_in_list(&mut values).ok_or_else(|| self.missing())?;
            let via = Via::parse(value).map_err(|error| self.at(value, error))?;
            Ok(ViaSpots::of(&self.raw, &via))
        };
        let spots = *self.index.top_via.get_or_init(parse);
        spots.map(|spots| spots.read(&self.raw))
    }

    /// From.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        self.address(HeaderName::From)
    }

    /// To.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        self.address(HeaderName::To)
    }

    /// Call-ID.
    pub fn call_id(&self) -> Result<&[u8], ParseError> {
        let value = self.needed(HeaderName::CallId)?;
        if value.is_empty() || scan::has(value, |byte| (byte <= b' ') | (byte == 0x7f)) {
            return Err(self.at(value, ParseError::value(0)));
        }
        Ok(value)
    }

    /// CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, ParseError> {
        let value = self.needed(HeaderName::CSeq)?;
        CSeq::parse(value).map_err(|error| self.at(value, error))
    }

    /// Max-Forwards: 0 to 255 (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        let number = self.number(HeaderName::MaxForwards, u64::from(u8::MAX))?;
        Ok(number.and_then(|number| u8::try_from(number).ok()))
    }

    /// Expires: 0 to 2^32 - 1 (RFC 3261 §20.19).
    pub fn expires(&self) -> Result<Option<u32>, ParseError> {
        let number = self.number(HeaderName::Expires, u64::from(u32::MAX))?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// Contact values.
    pub fn contacts(&self) -> impl Iterator<Item = Result<Contact<'_>, ParseError>> + '_ {
        self.values(HeaderName::Contact)
            .map(|value| Contact::parse(value).map_err(|error| self.at(value, error)))
    }

    /// Route values (with the URI's and the header's parameters).
    pub fn routes(&self) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> + '_ {
        self.addresses(HeaderName::Route)
    }

    /// The values of a list of addresses: Route, Record-Route, Path, Service-Route.
    pub fn addresses(
        &self,
        name: HeaderName,
    ) -> impl Iterator<Item = Result<NameAddr<'_>, ParseError>> + '_ {
        self.values(name)
            .map(|value| NameAddr::parse(value).map_err(|error| self.at(value, error)))
    }

    /// Whether a token is listed in Supported / Require / Proxy-Require.
    #[must_use]
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.values(name)
            .any(|value| value.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The name as written.
    pub(super) fn raw_name(&self, line: &Line) -> &[u8] {
        let at = line.at as usize;
        scan::cut(&self.raw, at, at + usize::from(line.name_len))
    }

    /// A header that must be there.
    fn needed(&self, name: HeaderName) -> Result<&[u8], ParseError> {
        self.header(name).ok_or_else(|| self.missing())
    }

    pub(super) fn missing(&self) -> ParseError {
        ParseError::new(ParseErrorKind::Missing, self.index.lines_end as usize)
    }

    fn address(&self, name: HeaderName) -> Result<NameAddr<'_>, ParseError> {
        let value = self.needed(name)?;
        NameAddr::parse(value).map_err(|error| self.at(value, error))
    }

    fn number(&self, name: HeaderName, max: u64) -> Result<Option<u64>, ParseError> {
        self.header(name)
            .map(|value| {
                scan::number(value, max).ok_or_else(|| self.at(value, ParseError::value(0)))
            })
            .transpose()
    }

    /// The error of a part, counted from the message's start.
    pub(super) fn at(&self, part: &[u8], error: ParseError) -> ParseError {
        error.within(scan::offset_in(&self.raw, part))
    }
}

/// What a response copies from its request (RFC 3261 §8.2.6.2).
pub(super) const ANSWER_NEEDS: [HeaderName; 5] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
];

/// The length of the CRLFs at the start.
fn leading_lines(raw: &[u8]) -> usize {
    let mut rest = raw;
    while let [b'\r', b'\n', more @ ..] = rest {
        rest = more;
    }
    raw.len() - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:bob@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b\r\n\
        v: SIP/2.0/TCP c\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:bob@h>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
        X-One: 1\r\nRequire: path,\r\n Outbound\r\nExpires: 4294967296\r\n\r\nbody";

    fn parse(text: &str) -> Result<Message, ParseError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn everything_is_found() {
        let message = parse(INVITE).unwrap();
        assert_eq!(message.method(), Some(Method::Invite));
        assert_eq!(message.request_uri(), Some(&b"sip:bob@h"[..]));
        assert_eq!((message.status(), message.reason()), (None, None));
        assert_eq!(message.values(HeaderName::Via).count(), 3);
        assert_eq!(message.header_named("x-oNE"), Some(&b"1"[..]));
        assert_eq!(message.header_named("V"), message.header(HeaderName::Via));
        assert_eq!(message.header(HeaderName::Other), None);
        assert!(message.lists(HeaderName::Require, "outbound"));
        assert!(!message.lists(HeaderName::Require, "out"));
        assert_eq!(message.body(), b"body");
        assert_eq!(message.content_length(), None);
        assert_eq!(message.headers().count(), 9);
    }

    #[test]
    fn an_error_says_where_it_is() {
        let message = parse(INVITE).unwrap();
        let error = message.expires().unwrap_err();
        assert_eq!(error.kind, ParseErrorKind::Value);
        assert!(INVITE[error.offset..].starts_with("4294967296"));
        let bad = INVITE.replace("X-One:", "X One:");
        let error = parse(&bad).unwrap_err();
        assert!(bad[error.offset..].starts_with("X One:"));
        let error = parse(&format!("\r\n\r\n{bad}")).unwrap_err();
        assert!(bad[error.offset - 4..].starts_with("X One:"));
    }

    #[test]
    fn a_request_that_does_not_parse_can_be_answered_if_its_headers_are_there() {
        for (from, to) in [
            ("X-One:", "X One:"),
            ("X-One: 1", "l: 1\r\nl: 2"),
            ("X-One: 1", "X-One\0: 1"),
            ("X-One: 1\r\n", "X-One: 1\n"),
            ("X-One: 1\r\n", "X-One: 1\r"),
            (" SIP/2.0\r\n", " HTTP/1.1\r\n"),
            ("\r\n\r\nbody", "\r\nCut"),
            ("INVITE sip:bob@h SIP/2.0\r\n", "INVITE sip:bob@h SIP/2.0\n"),
        ] {
            let bad = INVITE.replacen(from, to, 1);
            assert!(parse(&bad).is_err(), "{from:?} {to:?}");
            let salvaged = Message::salvage(Bytes::from(bad)).unwrap();
            assert_eq!(salvaged.method(), Some(Method::Invite));
            assert_eq!(salvaged.to().unwrap().uri, b"sip:bob@h");
        }
        for hopeless in [
            INVITE.replace("Call-ID", "Call ID"),
            INVITE.replace("To: <sip:bob@h>", "To: <sip:bob@h>\rX"),
            INVITE.replace("INVITE sip:bob@h SIP/2.0", "SIP/2.0 20 OK"),
            INVITE.replace("INVITE sip", "\x16\x03 sip"),
            String::new(),
        ] {
            assert!(Message::salvage(Bytes::from(hopeless)).is_none());
        }
    }

    #[test]
    fn work_is_linear_in_the_bytes() {
        const MANY: usize = 1 << 16;
        for unit in [
            "\"", "<", ",", ";", "a,", "\\", "<,", "\r\n ,", "%", ":", "@", "[", "=", "\r\n a",
        ] {
            let value = unit.repeat(MANY / unit.len());
            let text = format!("OPTIONS sip:h SIP/2.0\r\nVia: {value}\r\nContact: {value}\r\n\r\n");
            let Ok(message) = parse(&text) else { continue };
            assert!(message.validate().is_err());
            assert!(message.values(HeaderName::Via).count() <= MANY);
            assert!(message.contacts().count() <= MANY);
            assert!(message.top_via().is_err());
        }
    }
}
