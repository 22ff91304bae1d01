//! Whether a message is well formed enough to be worked on (RFC 3261 §16.3 step 1).
//!
//! A proxy need not judge what it does not need: Contact, Date, display names and bodies are not
//! looked at.

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
        self.validate_text()?;
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
            let uri = match self.parsed_uri() {
                Some(uri) => uri,
                None => Uri::parse(bytes).map_err(|error| self.at(bytes, error))?,
            };
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

    /// RFC 3261 §25.1: controls stand in headers only as quoted pairs; peers end strings at NUL.
    fn validate_text(&self) -> Result<(), ParseError> {
        let head = scan::cut(&self.raw, 0, self.index.lines_end as usize);
        if !scan::has(head, is_control) {
            return Ok(());
        }
        let mut before = 0;
        let bare = head.iter().position(|&byte| {
            let is_bare = is_control(byte) && before != b'\\';
            before = byte;
            is_bare
        });
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

/// A control character that is no white space. Without branches, for [`scan::has`].
#[inline]
const fn is_control(byte: u8) -> bool {
    let is_space = (byte == b'\t') | (byte == b'\r') | (byte == b'\n');
    ((byte < b' ') & !is_space) | (byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LINES: [&str; 7] = [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        "Max-Forwards: 70",
        "From: <sip:a@h>;tag=1",
        "To: <sip:b@h>",
        "Call-ID: c@h",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    ];

    fn verdict(start: &str, lines: &[&str]) -> Result<(), ParseErrorKind> {
        let text = format!("{start}\r\n{}\r\n\r\n", lines.join("\r\n"));
        let message = Message::parse(Bytes::from(text)).unwrap();
        message.validate().map_err(|error| error.kind)
    }

    /// The verdict when the line of that name is another.
    fn with(line: &str) -> Result<(), ParseErrorKind> {
        let (name, _) = line.split_once(':').unwrap();
        let mut lines = LINES.to_vec();
        match lines.iter_mut().find(|other| other.starts_with(name)) {
            Some(other) => *other = line,
            None => lines.push(line),
        }
        verdict("OPTIONS sip:b@h SIP/2.0", &lines)
    }

    #[test]
    fn the_headers_of_an_answer_must_be_there_and_be_there_once() {
        let start = "OPTIONS sip:b@h SIP/2.0";
        assert_eq!(verdict(start, &LINES), Ok(()));
        for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
            let is_other = |line: &&str| !line.starts_with(&format!("{name}:"));
            let without: Vec<_> = LINES.into_iter().filter(is_other).collect();
            assert_eq!(verdict(start, &without), Err(ParseErrorKind::Missing));
        }
        for line in [
            "f: <sip:a@h>;tag=1",
            "i: c@h",
            "Max-Forwards: 70",
            "CSeq: 1 OPTIONS",
        ] {
            let mut twice = LINES.to_vec();
            twice.push(line);
            assert_eq!(verdict(start, &twice), Err(ParseErrorKind::Duplicate));
        }
        let mut vias = LINES.to_vec();
        vias.push(LINES[0]);
        assert_eq!(verdict(start, &vias), Ok(()));
    }

    #[test]
    fn scalars_are_bounded_and_never_wrap() {
        for (line, is_good) in [
            ("Max-Forwards: 255", true),
            ("Max-Forwards: 256", false),
            ("Max-Forwards: -1", false),
            ("Max-Forwards: ", false),
            ("Max-Forwards: 18446744073709551686", false),
            ("CSeq: 2147483647 OPTIONS", true),
            ("CSeq: 2147483648 OPTIONS", false),
            ("CSeq: 4294967297 OPTIONS", false),
            ("CSeq: 18446744073709551617 OPTIONS", false),
            ("Via: SIP/2.0/UDP h:65535", true),
            ("Via: SIP/2.0/UDP h:65536", false),
            ("Via: SIP/2.0/UDP h:-1", false),
        ] {
            assert_eq!(with(line).is_ok(), is_good, "{line}");
        }
    }

    #[test]
    fn unclosed_quotes_and_lists_where_one_value_stands_are_refused() {
        for line in [
            "From: \"a <sip:a@h>;tag=1",
            "From: \"a\\",
            "From: \"a\\\" <sip:a@h>;tag=1",
            "To: <sip:a@h>, <sip:b@h>",
            "Call-ID: a b",
            "Call-ID: ",
        ] {
            assert_eq!(with(line), Err(ParseErrorKind::Value), "{line}");
        }
        assert_eq!(with("CSeq: 1 INVITE"), Err(ParseErrorKind::MethodMismatch));
    }

    #[test]
    fn controls_stand_only_in_quoted_pairs() {
        assert_eq!(with("To: \"\\\0 \\\x07\" <sip:b@h>"), Ok(()));
        for line in [
            "Subject: a\0b",
            "Subject: a\x0bb",
            "Subject: \x7f",
            "To: \"\0\" <sip:b@h>",
        ] {
            assert_eq!(with(line), Err(ParseErrorKind::Header), "{line:?}");
        }
    }

    #[test]
    fn request_lines_are_exact_and_their_version_comes_first() {
        let start = |start: &str| verdict(start, &LINES);
        assert_eq!(start("OPTIONS tel:+49301 sip/2.0"), Ok(()));
        assert_eq!(start("OPTIONS odd:x SIP/2.0"), Ok(()));
        for bad in [
            "OPTIONS  sip:h SIP/2.0",
            "OPTIONS sip:h SIP/2.0 ",
            "OPTIONS sip:h\t SIP/2.0",
        ] {
            assert_eq!(start(bad), Err(ParseErrorKind::StartLine), "{bad}");
        }
        for bad in [
            "OPTIONS <sip:h> SIP/2.0",
            "OPTIONS sip:h; lr SIP/2.0",
            "OPTIONS h SIP/2.0",
        ] {
            assert_eq!(start(bad), Err(ParseErrorKind::Value), "{bad}");
        }
        assert_eq!(
            start("OPTIONS  <h>  SIP/3.0 "),
            Err(ParseErrorKind::Version)
        );
        assert_eq!(start("SIP/2.1 200 OK"), Err(ParseErrorKind::Version));
    }

    #[test]
    fn a_datagram_holds_its_body_and_what_follows_is_discarded() {
        assert_eq!(
            with("Content-Length: 1"),
            Err(ParseErrorKind::ContentLength)
        );
        let text = format!(
            "\r\nOPTIONS sip:b@h SIP/2.0\r\n{}\r\n\r\nabc",
            LINES.join("\r\n")
        );
        let message = Message::parse(Bytes::from(text)).unwrap();
        assert_eq!(message.validate(), Ok(()));
        assert!(message.body().is_empty() && message.raw().ends_with(b"0\r\n\r\n"));
        assert!(message.raw().starts_with(b"OPTIONS"));
    }
}
