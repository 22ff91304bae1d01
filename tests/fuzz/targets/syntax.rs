//! SIP's syntax: messages, streams of them, URIs and the views of headers.

use bytes::Bytes;
use rouse::proto::push::params::{PushParams, is_push_param};
use rouse::proto::sip::{
    CSeq, Contact, Edit, Frame, FrameLimits, Framer, HeaderName, Message, NameAddr, Params, Reply,
    Uri, Via, unescape, unquote,
};

use super::cut;

/// Each header's name and value.
type Lines = Vec<(Vec<u8>, Vec<u8>)>;

fn lines(message: &Message) -> Lines {
    let lines = message.headers();
    lines
        .map(|line| (line.raw_name.to_vec(), unfolded(line.value)))
        .collect()
}

/// A value on one line.
fn unfolded(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    for end in 2..value.len() {
        if matches!(value[end - 2..=end], [b'\r', b'\n', b' ' | b'\t']) {
            value[end - 2..end].fill(b' ');
        }
    }
    value
}

/// Reading, writing and reading again says the same; an answer to what was read can be read.
pub(crate) fn message(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok(message) = Message::parse(bytes.clone()) else {
        if let Some(request) = Message::salvage(bytes) {
            let reply = Reply::new(&request, 400, "Bad Request").finish();
            Message::parse(reply).expect("an answer is a message");
        }
        return;
    };
    look_at(&message);
    let mut changed = Edit::new(&message);
    changed.append_named("X-Mark", "1");
    let written = changed.finish();
    let read = Message::parse(written.clone()).expect("what is written can be read");
    let mut expected = lines(&message);
    expected.push((b"X-Mark".to_vec(), b"1".to_vec()));
    assert_eq!(lines(&read), expected);
    assert_eq!(read.body(), message.body());
    assert!(
        written
            .windows(3)
            .take(written.len() - read.body().len() - 2)
            .all(|three| !matches!(three, b"\r\n " | b"\r\n\t"))
    );
    assert_eq!(read.method(), message.method());
    assert_eq!(read.request_uri(), message.request_uri());
    assert_eq!(read.status(), message.status());
    let kind = |message: &Message| message.validate().map_err(|error| error.kind);
    assert_eq!(kind(&read), kind(&message));
    // And once written it stays as it is.
    let mut again = Edit::new(&read);
    again.remove_named("X-Mark");
    again.append_named("X-Mark", "1");
    assert_eq!(again.finish(), written);
    if message.is_request() {
        let mut reply = Reply::new(&message, 200, "OK");
        reply.to_tag("t").header(HeaderName::Server, "rouse");
        Message::parse(reply.finish()).expect("an answer is a message");
    }
}

/// All that is ever asked of a message has an answer.
fn look_at(message: &Message) {
    for header in message.headers() {
        assert!(!header.raw_name.is_empty());
        message.values(header.name).count();
    }
    let found = [
        message.top_via().is_ok(),
        message.from().is_ok(),
        message.to().is_ok(),
        message.cseq().is_ok(),
        message.max_forwards().is_ok(),
        message.expires().is_ok(),
        message.contacts().all(|contact| contact.is_ok()),
        message.routes().all(|route| route.is_ok()),
        message.lists(HeaderName::Supported, "outbound"),
        message.content_length().is_some(),
    ];
    std::hint::black_box(found);
}

/// The same messages come out of a stream however it is cut, and each of them ends.
pub(crate) fn framing(data: &[u8]) {
    let (whole, pieces) = cut(data);
    assert_eq!(frames(&pieces), frames(&[&whole]));
}

/// What comes out of a stream, and whether it goes on. A ping that came in halves has been a pong.
fn frames(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut framer = Framer::new(FrameLimits {
        message_bytes: 4096,
        headers: 64,
    });
    let mut found: Vec<String> = Vec::new();
    for piece in pieces {
        framer.buffer().extend_from_slice(piece);
        loop {
            match framer.next() {
                Ok(None) => break,
                Ok(Some(Frame::Message(message))) => {
                    assert!(message.raw().len() <= 4096);
                    found.push(format!("{:?}", message.raw()));
                }
                Ok(Some(Frame::Malformed(bytes, error))) => {
                    found.push(format!("{bytes:?} {error}"));
                }
                Ok(Some(Frame::Ping)) => {
                    found.pop_if(|last| last == "pong");
                    found.push("ping".into());
                }
                Ok(Some(Frame::Pong)) => found.push("pong".into()),
                Err(_) => return (found, false),
            }
        }
    }
    (found, true)
}

/// A URI without any of its parameters taken away is itself; push parameters are read of any.
pub(crate) fn uri(data: &[u8]) {
    let Ok(uri) = Uri::parse(data) else { return };
    let written = uri.without_params(|_| false);
    let again = Uri::parse(&written).expect("what is written can be read");
    assert_eq!(again.without_params(|_| false), written);
    assert_eq!(again.user_unescaped(), uri.user_unescaped());
    let bare = uri.without_params(is_push_param);
    let bare = Uri::parse(&bare).expect("what is written can be read");
    assert!(bare.params.iter().all(|(name, _)| !is_push_param(name)));
    std::hint::black_box(PushParams::read(uri.params).is_ok());
}

/// The views of a header's value: of any bytes they say something or nothing.
pub(crate) fn header(data: &[u8]) {
    if let Ok(via) = Via::parse(data) {
        let source = std::net::SocketAddr::from(([192, 0, 2, 1], 5060));
        std::hint::black_box((via.branch(), via.received(), via.rport()));
        std::hint::black_box(via.stamped(source).is_some());
    }
    if let Ok(address) = NameAddr::parse(data) {
        std::hint::black_box((address.tag(), address.parse_uri().is_ok()));
    }
    std::hint::black_box((Contact::parse(data).is_ok(), CSeq::parse(data).is_ok()));
    let params = Params::new(data);
    for (name, value) in params.iter() {
        let name = String::from_utf8_lossy(name);
        std::hint::black_box((params.get(&name), value.map(unquote)));
    }
    assert!(unescape(data).len() <= data.len());
    assert!(unquote(data).len() <= data.len());
    assert_eq!(
        HeaderName::parse(data),
        HeaderName::parse(&data.to_ascii_lowercase())
    );
    // As one line of a message, and as a list.
    let text = [b"OPTIONS sip:h SIP/2.0\r\nVia: ", data, b"\r\n\r\n"].concat();
    if let Ok(message) = Message::parse(text.into()) {
        let joint: usize = message.values(HeaderName::Via).map(<[u8]>::len).sum();
        assert!(joint <= data.len());
    }
}
