//! Writing the stand-ins' own messages, apart from the gateway's writer: a mistake there shall not
//! hide itself here.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::proto::sip::{HeaderName, Message, Text};

/// A message being written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    head: Vec<u8>,
    body: Vec<u8>,
}

/// Header lines and a body of a test's own, beside what every message has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Content<'c> {
    /// Names and values.
    pub lines: &'c [(&'c str, &'c str)],
    /// Content-Type.
    pub kind: &'c str,
    /// The body.
    pub body: &'c str,
}

impl<'c> Content<'c> {
    /// A session description.
    #[must_use]
    pub const fn sdp(body: &'c str) -> Self {
        Self {
            lines: &[],
            kind: "application/sdp",
            body,
        }
    }

    /// The same with header lines.
    #[must_use]
    pub const fn with(self, lines: &'c [(&'c str, &'c str)]) -> Self {
        Self { lines, ..self }
    }

    pub(crate) fn write(self, draft: Draft) -> Draft {
        let draft = self
            .lines
            .iter()
            .fold(draft, |draft, (name, value)| draft.line(name, value));
        draft.body(self.kind, self.body)
    }
}

impl Draft {
    /// Begins a request with its topmost Via.
    pub(crate) fn request(method: &str, uri: &str, via: &str) -> Self {
        let head = format!("{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n");
        Self {
            head: head.into_bytes(),
            body: Vec::new(),
        }
    }

    /// Begins a response to a request from `source` (RFC 3261 §8.2.6, RFC 3581 §4).
    pub(crate) fn response(request: &Message, source: SocketAddr, status: u16, tag: &str) -> Self {
        let reason = reason_phrase(status);
        let mut draft = Self {
            head: format!("SIP/2.0 {status} {reason}\r\n").into_bytes(),
            body: Vec::new(),
        };
        let stamped = request.top_via().ok().and_then(|via| via.stamped(source));
        let stamped = stamped.map(Text::of);
        for (index, via) in request.values(HeaderName::Via).enumerate() {
            match &stamped {
                Some(stamped) if index == 0 => draft.push("Via", stamped.as_slice()),
                Some(_) | None => draft.push("Via", via),
            }
        }
        if (101..300).contains(&status) {
            for route in request.values(HeaderName::RecordRoute) {
                draft.push("Record-Route", route);
            }
        }
        draft.copy(request, HeaderName::From, "From");
        let to = request.header(HeaderName::To).unwrap_or_default();
        let tagged = request.to().is_ok_and(|to| to.tag().is_some());
        if status > 100 && !tagged {
            draft.push("To", &[to, b";tag=", tag.as_bytes()].concat());
        } else {
            draft.push("To", to);
        }
        draft.copy(request, HeaderName::CallId, "Call-ID");
        draft.copy(request, HeaderName::CSeq, "CSeq");
        draft
    }

    /// Appends a header line.
    pub(crate) fn line(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.push(name, value.as_ref());
        self
    }

    /// Appends one line per value.
    pub(crate) fn lines<V: AsRef<[u8]>>(
        mut self,
        name: &str,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        for value in values {
            self.push(name, value.as_ref());
        }
        self
    }

    /// Appends lines of any name.
    pub(crate) fn lines_named<V: AsRef<[u8]>>(
        mut self,
        lines: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Self {
        for (name, value) in lines {
            self.push(name, value.as_ref());
        }
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, content_type: &str, body: &str) -> Self {
        if !body.is_empty() {
            self.push("Content-Type", content_type.as_bytes());
            self.body = body.as_bytes().to_vec();
        }
        self
    }

    /// Ends the message with its Content-Length.
    pub(crate) fn finish(mut self) -> Bytes {
        let length = format!("Content-Length: {}\r\n\r\n", self.body.len());
        self.head.extend_from_slice(length.as_bytes());
        self.head.append(&mut self.body);
        self.head.into()
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
        self.head.extend_from_slice(value);
        self.head.extend_from_slice(b"\r\n");
    }

    fn copy(&mut self, from: &Message, name: HeaderName, written: &str) {
        if let Some(value) = from.header(name) {
            self.push(written, value);
        }
    }
}

/// Returns bytes as text, what is not UTF-8 replaced.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a header's first value as text, empty if it is missing.
pub(crate) fn header_text(message: &Message, name: HeaderName) -> String {
    text(message.header(name).unwrap_or_default())
}

/// Returns all values of a list header as text.
pub(crate) fn value_texts(message: &Message, name: HeaderName) -> Vec<String> {
    message.values(name).map(text).collect()
}

/// Returns a message in a few words, as a ladder shows it.
pub(crate) fn label(message: &Message) -> String {
    let Some(status) = message.status() else {
        let method = message
            .method()
            .map(|method| text(method.as_bytes()))
            .unwrap_or_default();
        let digest = message.header(HeaderName::Authorization).is_some()
            || message.header(HeaderName::ProxyAuthorization).is_some();
        let leaving = method == "REGISTER" && header_text(message, HeaderName::Expires) == "0";
        return match (digest, leaving) {
            (_, true) => format!("{method} (expires 0)"),
            (true, false) => format!("{method} (with digest)"),
            (false, false) => method,
        };
    };
    let reason = text(message.reason().unwrap_or_default());
    let method = message
        .cseq()
        .map(|cseq| text(cseq.method.as_bytes()))
        .unwrap_or_default();
    format!("{status} {reason} ({method})")
}

/// Returns the reason phrase of a status (RFC 3261 §21).
pub(crate) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        183 => "Session Progress",
        200 => "OK",
        202 => "Accepted",
        302 => "Moved Temporarily",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        420 => "Bad Extension",
        423 => "Interval Too Brief",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        486 => "Busy Here",
        487 => "Request Terminated",
        500 => "Server Internal Error",
        503 => "Service Unavailable",
        600 => "Busy Everywhere",
        603 => "Decline",
        _ => "Answer",
    }
}
