//! Finding a message's lines: one pass over the bytes, which yields positions only.
//!
//! Lines end in CRLF; a bare CR or LF is an error (RFC 3261 §25.1 has neither outside quoted
//! pairs), for what one parser takes as a line end and another does not is how headers are
//! smuggled. White space before a header's colon is in the grammar (HCOLON) and is remembered, so
//! that the writer can leave it out.

use std::sync::OnceLock;

use memchr::{memchr, memchr2};
use smallvec::SmallVec;

use super::error::{ParseError, ParseErrorKind};
use super::header::{HeaderName, ViaSpots};
use super::uri::UriSpots;
use super::{scan, status};

/// How many header lines a message may have unless a [`super::Framer`] is told otherwise.
pub(super) const MAX_HEADERS: usize = 256;

/// How many header lines are indexed without a second allocation.
const USUAL_HEADERS: usize = 24;

/// The longest header name.
const MAX_NAME: usize = 255;

/// No header of that name.
const NONE: u16 = u16::MAX;

/// Part of the message's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) from: u32,
    pub(super) to: u32,
}

/// Where one header line is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// The name's first byte, which is the line's.
    pub(super) at: u32,
    /// The value, without white space around it.
    pub(super) value: Span,
    pub(super) name_len: u8,
    pub(super) name: HeaderName,
}

/// The first line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Start {
    Request {
        method: Span,
        uri: Span,
        version: Span,
    },
    Response {
        version: Span,
        status: u16,
        reason: Span,
    },
}

/// Where everything is in a message.
#[derive(Clone, Debug)]
pub(super) struct Index {
    pub(super) start: Start,
    /// Whether the first line has exactly one space between its parts and none elsewhere.
    pub(super) start_is_clean: bool,
    /// Whether a line has white space before its colon.
    pub(super) has_spaced_colon: bool,
    /// Whether a line is continued by another.
    pub(super) has_fold: bool,
    pub(super) lines: SmallVec<[Line; USUAL_HEADERS]>,
    /// The first line of each name, as an index of `lines`.
    first: [u16; HeaderName::COUNT],
    /// The names that have more than one line.
    pub(super) repeated: u64,
    /// The empty line's first byte.
    pub(super) lines_end: u32,
    pub(super) body: u32,
    /// What Content-Length says.
    pub(super) content_length: Option<u32>,
    /// The body's end.
    pub(super) end: u32,
    /// The first Via value, once somebody has asked for it: it is asked for again and again.
    pub(super) top_via: OnceLock<Result<ViaSpots, ParseError>>,
    /// The Request-URI, likewise; `None` if it is not well formed.
    pub(super) uri: OnceLock<Option<UriSpots>>,
}

/// What to do with a bad header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// It is an error.
    Strict,
    /// It is left out, and so is a Content-Length that cannot be trusted: to answer 400.
    Lenient,
}

impl Span {
    #[inline]
    pub(super) fn of(self, raw: &[u8]) -> &[u8] {
        scan::cut(raw, self.from as usize, self.to as usize)
    }

    /// Where a part of the message is.
    #[inline]
    pub(super) fn within(raw: &[u8], part: &[u8]) -> Self {
        let from = scan::offset_in(raw, part);
        Self::new(from, from + part.len())
    }

    /// Positions of a message of at most `u32::MAX` bytes, which [`head`] checks first.
    #[inline]
    fn new(from: usize, to: usize) -> Self {
        Self {
            from: short(from),
            to: short(to),
        }
    }
}

impl Index {
    fn new(start: Start, start_is_clean: bool) -> Self {
        Self {
            start,
            start_is_clean,
            has_spaced_colon: false,
            has_fold: false,
            lines: SmallVec::new(),
            first: [NONE; HeaderName::COUNT],
            repeated: 0,
            lines_end: 0,
            body: 0,
            content_length: None,
            end: 0,
            top_via: OnceLock::new(),
            uri: OnceLock::new(),
        }
    }

    /// The first line of that name.
    #[inline]
    pub(super) fn first(&self, name: HeaderName) -> Option<usize> {
        self.first
            .get(name as usize)
            .filter(|&&at| at != NONE)
            .map(|&at| usize::from(at))
    }

    /// Where the line ends, its CRLF included.
    #[inline]
    pub(super) fn line_end(&self, line: usize) -> usize {
        self.lines
            .get(line + 1)
            .map_or(self.lines_end, |next| next.at) as usize
    }

    #[inline]
    fn push(&mut self, line: Line) {
        let at = u16::try_from(self.lines.len()).unwrap_or(NONE);
        let first = self.first.get_mut(line.name as usize);
        if let Some(first) = first.filter(|_| line.name != HeaderName::Other) {
            if *first == NONE {
                *first = at;
            } else {
                self.repeated |= line.name.bit();
            }
        }
        self.lines.push(line);
    }
}

/// Finds the start line and the header lines. `raw` may go on behind the empty line that ends
/// them; it must not begin with the CRLFs that may stand before a message.
pub(super) fn head(
    raw: &[u8],
    max_headers: usize,
    strictness: Strictness,
) -> Result<Index, ParseError> {
    if u32::try_from(raw.len()).is_err() {
        return Err(ParseError::new(ParseErrorKind::TooLarge, 0));
    }
    let (end, mut at) = match line_end(raw, 0) {
        Ok(found) => found,
        Err(error) if strictness == Strictness::Lenient => loose_end(raw, 0).ok_or(error)?,
        Err(error) => return Err(error),
    };
    let mut index = start_line(raw, end, strictness)?;
    loop {
        if is_empty_line(raw, at, strictness) {
            index.lines_end = short(at);
            let body = raw.get(at..).map_or(0, |rest| match rest {
                [b'\r', b'\n', ..] => 2,
                [] => 0,
                _ => 1,
            });
            index.body = short(at + body);
            index.end = index.body;
            return Ok(index);
        }
        if index.lines.len() >= max_headers.min(usize::from(NONE)) {
            return Err(ParseError::new(ParseErrorKind::TooManyHeaders, at));
        }
        let (end, next) = match whole_line(raw, at) {
            Ok((end, next, is_folded)) => {
                index.has_fold |= is_folded;
                (end, next)
            }
            Err(_) if strictness == Strictness::Lenient => {
                at = loose_end(raw, at).map_or(raw.len(), |(_, next)| next);
                continue;
            }
            Err(error) => return Err(error),
        };
        match header_line(raw, at, end) {
            Ok((line, spaced)) => {
                index.has_spaced_colon |= spaced;
                if line.name == HeaderName::ContentLength {
                    content_length(raw, &mut index, line, strictness)?;
                }
                index.push(line);
            }
            Err(error) if strictness == Strictness::Strict => return Err(error),
            Err(_) => {}
        }
        at = next;
    }
}

/// Whether the headers end here. When lenient, they also end where the bytes do.
#[inline]
fn is_empty_line(raw: &[u8], at: usize, strictness: Strictness) -> bool {
    match raw.get(at..) {
        Some([b'\r', b'\n', ..]) => true,
        Some([b'\n', ..] | []) | None => strictness == Strictness::Lenient,
        Some(_) => false,
    }
}

/// The end of the line that begins at `at`, without and with its CRLF.
fn line_end(raw: &[u8], at: usize) -> Result<(usize, usize), ParseError> {
    let rest = raw.get(at..).unwrap_or_default();
    let Some(end) = memchr2(b'\r', b'\n', rest) else {
        return Err(ParseError::new(ParseErrorKind::Truncated, raw.len()));
    };
    match rest.get(end..) {
        Some([b'\r', b'\n', ..]) => Ok((at + end, at + end + 2)),
        Some([b'\r']) => Err(ParseError::new(ParseErrorKind::Truncated, raw.len())),
        _ => Err(ParseError::new(ParseErrorKind::Header, at + end)),
    }
}

/// The same with the lines that continue it. One of white space only is in the grammar, but others
/// may take it for the empty line that ends the headers. Says whether there are such lines.
fn whole_line(raw: &[u8], at: usize) -> Result<(usize, usize, bool), ParseError> {
    let mut found = line_end(raw, at)?;
    let first = found.1;
    while let Some(b' ' | b'\t') = raw.get(found.1) {
        let from = found.1;
        found = line_end(raw, from)?;
        if scan::trim(scan::cut(raw, from, found.0)).is_empty() {
            return Err(ParseError::new(ParseErrorKind::Header, from));
        }
    }
    Ok((found.0, found.1, found.1 > first))
}

/// The end of a line that ends in LF, whatever stands before it.
fn loose_end(raw: &[u8], at: usize) -> Option<(usize, usize)> {
    let end = at + memchr(b'\n', raw.get(at..)?)?;
    let before = scan::cut(raw, at, end);
    let len = before.strip_suffix(b"\r").unwrap_or(before).len();
    Some((at + len, end + 1))
}

fn start_line(raw: &[u8], end: usize, strictness: Strictness) -> Result<Index, ParseError> {
    let line = scan::cut(raw, 0, end);
    let bad = ParseError::new(ParseErrorKind::StartLine, 0);
    let is_response = line
        .get(..4)
        .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"));
    let space = memchr(b' ', line).ok_or(bad)?;
    if is_response {
        let (status, reason) =
            status::parse(line.get(space + 1..).unwrap_or_default()).ok_or(bad)?;
        let start = Start::Response {
            version: Span::new(0, space),
            status,
            reason: Span::new(end - reason.len(), end),
        };
        return Ok(Index::new(start, true));
    }
    if !scan::is_token(scan::cut(line, 0, space)) {
        return Err(bad);
    }
    request_line(line, space, strictness).ok_or(bad)
}

/// `space` is where the method ends. Too much white space is remembered, not refused: the framing
/// of such a message is sound, so that it can be answered with 400.
fn request_line(line: &[u8], space: usize, strictness: Strictness) -> Option<Index> {
    let trimmed = scan::trim(line);
    let last = memchr::memrchr(b' ', trimmed).filter(|&at| at > space);
    let version = last
        .map(|at| Span::new(at + 1, trimmed.len()))
        .filter(|version| {
            version
                .of(line)
                .get(..4)
                .is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"))
        });
    let (Some(last), Some(version)) = (last, version) else {
        let start = Start::Request {
            method: Span::new(0, space),
            uri: Span::new(space + 1, line.len()),
            version: Span::new(line.len(), line.len()),
        };
        return (strictness == Strictness::Lenient).then(|| Index::new(start, false));
    };
    let between = scan::cut(line, space + 1, last);
    let uri = scan::trim(between);
    let from = scan::offset_in(line, uri);
    let start = Start::Request {
        method: Span::new(0, space),
        uri: Span::new(from, from + uri.len()),
        version,
    };
    let is_clean = trimmed.len() == line.len() && uri.len() == between.len() && !uri.is_empty();
    Some(Index::new(start, is_clean))
}

/// One header line, and whether white space stands before its colon.
fn header_line(raw: &[u8], at: usize, end: usize) -> Result<(Line, bool), ParseError> {
    let line = scan::cut(raw, at, end);
    let bad = ParseError::new(ParseErrorKind::Header, at);
    let Some(colon) = memchr(b':', line) else {
        return Err(bad);
    };
    let mut name = scan::cut(line, 0, colon);
    let mut known = HeaderName::parse(name);
    let mut spaced = false;
    if known == HeaderName::Other {
        while let [rest @ .., b' ' | b'\t'] = name {
            name = rest;
            spaced = true;
        }
        if name.len() > MAX_NAME {
            return Err(ParseError::new(ParseErrorKind::HeaderName, at));
        }
        if !scan::is_token(name) {
            return Err(bad);
        }
        if spaced {
            known = HeaderName::parse(name);
        }
    }
    let value = scan::trim(line.get(colon + 1..).unwrap_or_default());
    let from = if value.is_empty() {
        at + colon + 1
    } else {
        at + scan::offset_in(line, value)
    };
    let line = Line {
        at: short(at),
        value: Span::new(from, from + value.len()),
        name_len: u8::try_from(name.len()).map_err(|_| bad)?,
        name: known,
    };
    Ok((line, spaced))
}

/// A second Content-Length is never weighed against the first (not even an equal one).
fn content_length(
    raw: &[u8],
    index: &mut Index,
    line: Line,
    strictness: Strictness,
) -> Result<(), ParseError> {
    let again = index.first(HeaderName::ContentLength).is_some();
    let length = scan::number(line.value.of(raw), u64::from(u32::MAX))
        .and_then(|length| u32::try_from(length).ok())
        .filter(|_| !again);
    if length.is_none() && strictness == Strictness::Strict {
        let at = line.value.from as usize;
        return Err(ParseError::new(ParseErrorKind::ContentLength, at));
    }
    index.content_length = length;
    Ok(())
}

/// A position in a message of at most `u32::MAX` bytes.
#[inline]
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &[u8]) -> Result<usize, ParseErrorKind> {
        head(text, MAX_HEADERS, Strictness::Strict)
            .map(|index| index.lines.len())
            .map_err(|error| error.kind)
    }

    fn with(line: &[u8]) -> Vec<u8> {
        [b"OPTIONS sip:h SIP/2.0\r\n", line, b"\r\nTo: x\r\n\r\n"].concat()
    }

    #[test]
    fn line_ends_are_crlf_and_nothing_else() {
        assert_eq!(kind(&with(b"A: b\r\n c")), Ok(2));
        for bad in [
            &b"A: b\nB: c"[..],
            b"A: b\rB: c",
            b"A: b\r\r",
            b"A: b\n",
            b"A: b\n c",
            b"A: b\r\n \r\nB: c",
            b" A: b",
        ] {
            assert_eq!(kind(&with(bad)), Err(ParseErrorKind::Header), "{bad:?}");
        }
        for cut in [
            &b""[..],
            b"OPTIONS sip:h SIP/2.0",
            b"OPTIONS sip:h SIP/2.0\r\nA: b\r\n",
        ] {
            assert_eq!(kind(cut), Err(ParseErrorKind::Truncated), "{cut:?}");
        }
    }

    #[test]
    fn names_are_tokens_of_at_most_255_bytes() {
        let name = |len: usize| with(&[&vec![b'n'; len][..], b": v"].concat());
        assert_eq!(kind(&name(255)), Ok(2));
        assert_eq!(kind(&name(256)), Err(ParseErrorKind::HeaderName));
        for bad in [
            &b"no colon"[..],
            b": v",
            b"a b: v",
            b"a\0: v",
            b"Via\0: v",
            b"a\x0b: v",
            b"\xc3\xa9: v",
            b"Vi\xd0\xb0: v",
            b"a\r\n : v",
            b"(a): v",
        ] {
            assert_eq!(kind(&with(bad)), Err(ParseErrorKind::Header), "{bad:?}");
        }
    }

    #[test]
    fn white_space_before_a_colon_is_remembered() {
        for line in [&b"Via : v"[..], b"v\t:v", b"X-Other  :v"] {
            let index = head(&with(line), MAX_HEADERS, Strictness::Strict).unwrap();
            assert!(index.has_spaced_colon);
        }
        let index = head(&with(b"Via: v"), MAX_HEADERS, Strictness::Strict).unwrap();
        assert!(!index.has_spaced_colon);
    }

    #[test]
    fn header_lines_are_counted() {
        let mut text = b"OPTIONS sip:h SIP/2.0\r\n".to_vec();
        text.extend_from_slice(&b"A: b\r\n".repeat(MAX_HEADERS));
        assert_eq!(kind(&[&text[..], b"\r\n"].concat()), Ok(MAX_HEADERS));
        assert_eq!(
            kind(&[&text[..], b"A: b\r\n\r\n"].concat()),
            Err(ParseErrorKind::TooManyHeaders)
        );
    }

    #[test]
    fn lengths_are_digits_given_once() {
        for good in [
            "Content-Length: 0",
            "l:4294967295",
            "CONTENT-LENGTH :\r\n 007",
        ] {
            assert_eq!(kind(&with(good.as_bytes())), Ok(2), "{good}");
        }
        for bad in [
            "-1",
            "+0",
            "0x0",
            "1e3",
            "",
            "4294967296",
            "18446744073709551616",
            "1 2",
            "1,1",
            "1;a",
            "0\r\nl: 0",
            "1\r\nContent-Length : 2",
        ] {
            let line = format!("Content-Length: {bad}");
            let found = kind(&with(line.as_bytes()));
            assert_eq!(found, Err(ParseErrorKind::ContentLength), "{bad}");
        }
    }

    #[test]
    fn the_first_line_is_one_of_sips() {
        let line = |line: &str| kind(format!("{line}\r\n\r\n").as_bytes());
        for good in [
            "FOO-bar x:y SIP/2.0",
            "OPTIONS  sip:h  sip/2.0 ",
            "OPTIONS sip:h SIP/7.0",
            "SIP/2.0 200 OK",
            "sip/2.0 200",
        ] {
            assert_eq!(line(good), Ok(0), "{good}");
        }
        for bad in [
            "GET / HTTP/1.1",
            "OPTIONS sip:h",
            "OPTIONS SIP/2.0",
            "(OPTIONS) sip:h SIP/2.0",
            " OPTIONS sip:h SIP/2.0",
            "SIP/2.0 2000 OK",
            "SIP/2.0",
            "SIP/2.0  200 OK",
            "",
        ] {
            assert_eq!(line(bad), Err(ParseErrorKind::StartLine), "{bad}");
        }
    }
}
