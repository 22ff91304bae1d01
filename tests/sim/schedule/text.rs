//! What the models say: requests and answers, written the quick way.

use std::fmt::Write as _;

use bytes::Bytes;
use rouse::proto::sip::{HeaderName, Message, Via};
use rouse::proto::{Flow, FlowId};

/// A request to be written.
#[derive(Clone, Debug, Default)]
pub struct Draft<'d> {
    pub method: &'d str,
    pub uri: &'d str,
    /// The Via without its branch.
    pub via: &'d str,
    pub branch: &'d str,
    pub routes: &'d [String],
    pub from: &'d str,
    pub to: &'d str,
    pub call: &'d str,
    pub cseq: u32,
    /// Whole lines.
    pub more: &'d str,
    pub body: &'d str,
}

impl Draft<'_> {
    pub fn write(&self) -> Bytes {
        let mut text = String::with_capacity(640);
        let Self {
            method,
            uri,
            via,
            branch,
            from,
            to,
            call,
            cseq,
            more,
            body,
            ..
        } = self;
        write!(
            text,
            "{method} {uri} SIP/2.0\r\nVia: {via};branch={branch};rport\r\n"
        )
        .unwrap();
        for route in self.routes {
            write!(text, "Route: {route}\r\n").unwrap();
        }
        write!(
            text,
            "Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\n\
             CSeq: {cseq} {method}\r\n{more}Content-Length: {length}\r\n\r\n{body}",
            length = body.len()
        )
        .unwrap();
        text.into()
    }
}

/// An answer to a request; `tag` goes to its To if that has none.
pub fn answer(request: &Message, status: &str, tag: &str, more: &str) -> Bytes {
    let mut text = Vec::with_capacity(640);
    text.extend_from_slice(b"SIP/2.0 ");
    text.extend_from_slice(status.as_bytes());
    text.extend_from_slice(b"\r\n");
    for header in request.headers() {
        let is_copied = matches!(
            header.name,
            HeaderName::Via
                | HeaderName::From
                | HeaderName::To
                | HeaderName::CallId
                | HeaderName::CSeq
                | HeaderName::RecordRoute
        );
        if !is_copied {
            continue;
        }
        text.extend_from_slice(header.raw_name);
        text.extend_from_slice(b": ");
        text.extend_from_slice(header.value);
        let wants_tag = header.name == HeaderName::To && !status.starts_with("100");
        if wants_tag && !has_tag(header.value) {
            text.extend_from_slice(b";tag=");
            text.extend_from_slice(tag.as_bytes());
        }
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(more.as_bytes());
    text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    text.into()
}

/// Whether a From or To has a tag.
pub fn has_tag(value: &[u8]) -> bool {
    let after = value.iter().rposition(|byte| *byte == b'>').unwrap_or(0);
    value[after..].windows(5).any(|part| part == b";tag=")
}

/// A header's value as text.
pub fn header(message: &Message, name: HeaderName) -> String {
    String::from_utf8_lossy(message.header(name).unwrap_or_default()).into_owned()
}

/// What stands between the brackets of an address.
pub fn uri_of(value: &str) -> String {
    let inner = value.split_once('<').map_or(value, |(_, rest)| rest);
    inner.split('>').next().unwrap_or_default().to_owned()
}

/// The branch of a message's Via, counted from the top.
pub fn branch(message: &Message, at: usize) -> String {
    let value = message.values(HeaderName::Via).nth(at).unwrap_or_default();
    let via = Via::parse(value).ok();
    let branch = via.and_then(|via| via.branch()).unwrap_or_default();
    String::from_utf8_lossy(branch).into_owned()
}

/// The method that a message is about.
pub fn method(message: &Message) -> &'static str {
    let cseq = message.cseq().ok();
    let name = cseq.map_or(&[][..], |cseq| cseq.method.as_bytes());
    const KNOWN: [&str; 10] = [
        "INVITE",
        "ACK",
        "CANCEL",
        "BYE",
        "REGISTER",
        "OPTIONS",
        "NOTIFY",
        "MESSAGE",
        "INFO",
        "SUBSCRIBE",
    ];
    let known = KNOWN.into_iter().find(|known| known.as_bytes() == name);
    known.unwrap_or("?")
}

/// Whether messages on a flow are kept, and kept in order.
pub const fn is_stream(flow: &Flow) -> bool {
    matches!(flow.id, FlowId::Stream(_))
}
