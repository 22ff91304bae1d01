//! What Rouse writes toward Asterisk, read again by a second parser that was written for this: it
//! finds the method, Request-URI, headers and body that Rouse believes to have sent, however the
//! sender has spelt them; and what is hidden from Rouse is hidden from Asterisk too.

use std::collections::BTreeMap;

use rouse::proto::Destination;
use rouse::proto::sip::Message;

use crate::world::{World, contact_uri, crlf, invite, pbx, response, tcp, udp};

/// A message as the strict parser reads it.
#[derive(Debug)]
struct Strict<'m> {
    first: &'m str,
    /// Name, in lower case and long form, and value.
    headers: Vec<(String, &'m str)>,
    body: &'m [u8],
}

/// Reads a message by the narrowest reading of RFC 3261 §7: CRLF ends a line and stands nowhere else,
/// a name is a token with its colon behind it, nothing is folded, there is one length and it is that
/// of the body.
fn strict(bytes: &[u8], is_stream: bool) -> Result<Strict<'_>, String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or("no end of the headers")?;
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let head = std::str::from_utf8(head).map_err(|error| error.to_string())?;
    let mut lines = head.split("\r\n");
    let first = lines.next().ok_or("nothing")?;
    let mut headers = Vec::new();
    for line in lines {
        if line.contains(['\r', '\n', '\0', '\x0b', '\x0c']) {
            return Err(format!("a control byte in {line:?}"));
        }
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("no colon in {line:?}"))?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} is no name"));
        }
        headers.push((long(name), value.trim_matches([' ', '\t'])));
    }
    let lengths: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name == "content-length")
        .collect();
    match lengths[..] {
        [] if !is_stream => {}
        [(_, length)] if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length: usize = length.parse().map_err(|_| format!("length {length:?}"))?;
            if length != body.len() {
                return Err(format!("length {length} of {}", body.len()));
            }
        }
        _ => return Err(format!("lengths {lengths:?}")),
    }
    Ok(Strict {
        first,
        headers,
        body,
    })
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
}

/// The long form of a header's name (RFC 3261 §20, and the compact forms of RFC 3515, 3892, 4028, 6665).
fn long(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let long = match &*lower {
        "i" => "call-id",
        "m" => "contact",
        "e" => "content-encoding",
        "l" => "content-length",
        "c" => "content-type",
        "f" => "from",
        "s" => "subject",
        "k" => "supported",
        "t" => "to",
        "v" => "via",
        "r" => "refer-to",
        "b" => "referred-by",
        "x" => "session-expires",
        "o" => "event",
        _ => &lower,
    };
    long.to_owned()
}

/// Spellings of a line with a protected header in it: `N` is its name, `V` its value. Some are
/// legal, some are not, some are another header's business.
const SPELLINGS: [&str; 44] = [
    "N: V",
    "N:V",
    "N : V",
    "N\t: V",
    "N \t : V",
    "N\r\n : V",
    "N:\r\n V",
    "N:\r\n\tV",
    "N\x0b: V",
    "N\x0c: V",
    "N\0: V",
    "\0N: V",
    " N: V",
    "\tN: V",
    "X: y\nN: V",
    "X: y\rN: V",
    "X: y\n\rN: V",
    "X: y\r\r\nN: V",
    "X: y\n\nN: V",
    "X: y\x0bN: V",
    "X: y\x0cN: V",
    "X: y\u{85}N: V",
    "X: y\u{2028}N: V",
    "X: y\r\n N: V",
    "X: y\r\n\tN: V",
    "X: \"y\r\n N: V\"",
    "X: \"y\nN: V\"",
    "X: y\\\r\nN: V",
    "X: y%0d%0aN: V",
    "X: y\\r\\nN: V",
    "X\r\nN: V",
    "X:\r\nN: V",
    ":\r\nN: V",
    "N:: V",
    "N: V\r\nN: other",
    "N;x: V",
    "N\u{a0}: V",
    "\u{feff}N: V",
    "N\u{200b}: V",
    "N\u{ff1a} V",
    "U: V",
    "N=V",
    "\"N\": V",
    "N: V\0",
];

/// Headers that mean something to whoever believes them, with a value that would be believed.
const PROTECTED: [(&str, &str); 14] = [
    ("P-Asserted-Identity", "<sip:boss@pbx.example.com>"),
    ("P-Preferred-Identity", "<sip:boss@pbx.example.com>"),
    ("Remote-Party-ID", "<sip:boss@pbx.example.com>;screen=yes"),
    ("Diversion", "<sip:boss@pbx.example.com>"),
    ("Identity", "ey"),
    ("Route", "<sip:192.0.2.99;lr>"),
    ("Record-Route", "<sip:192.0.2.99;lr>"),
    ("Via", "SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKx"),
    ("Path", "<sip:192.0.2.99;lr>"),
    ("Content-Length", "0"),
    ("l", "0"),
    ("Authorization", "Digest username=\"1002\""),
    ("X-Internal", "yes"),
    ("Max-Forwards", "255"),
];

fn phones_request(line: &str) -> Vec<u8> {
    let text = crlf(
        "
INVITE sip:2001@pbx.example.com SIP/2.0
Via: SIP/2.0/TCP 10.0.0.5:5060;branch=z9hG4bKs;rport
HERE
From: <sip:1001@pbx.example.com>;tag=f
To: <sip:2001@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: smuggled
CSeq: 1 INVITE
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: 5

v=0
",
    );
    text.replacen("HERE", line, 1).into_bytes()
}

/// What was sent to Asterisk, as the strict parser and Rouse itself read it.
fn same_for_both(sent: &[u8], is_stream: bool, what: &str) -> BTreeMap<String, usize> {
    let strictly = strict(sent, is_stream).unwrap_or_else(|error| {
        panic!("{what}: {error} in\n{}", sent.escape_ascii());
    });
    let ours = Message::parse(sent.to_vec().into()).expect("the gateway writes SIP");
    let mut counts = BTreeMap::new();
    for (name, _) in &strictly.headers {
        *counts.entry(name.clone()).or_default() += 1;
    }
    let known: Vec<_> = ours
        .headers()
        .map(|header| {
            let name = long(&String::from_utf8_lossy(header.raw_name));
            (name, String::from_utf8_lossy(header.value).into_owned())
        })
        .collect();
    let read: Vec<_> = strictly
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), (*value).to_owned()))
        .collect();
    assert_eq!(read, known, "{what}: two readings");
    assert_eq!(strictly.body, ours.body(), "{what}: two bodies");
    if let (Some(method), Some(uri)) = (ours.method(), ours.request_uri()) {
        let first = format!(
            "{} {} SIP/2.0",
            String::from_utf8_lossy(method.as_bytes()),
            String::from_utf8_lossy(uri)
        );
        assert_eq!(strictly.first, first, "{what}: two first lines");
    }
    counts
}

/// The spelling of a protected header's line.
fn spelt(spelling: &str, name: &str, value: &str) -> String {
    spelling
        .replace('U', &name.replace('-', "_"))
        .replace('N', name)
        .replace('V', value)
}

#[test]
pub fn what_asterisk_reads_is_what_rouse_has_read() {
    for (name, value) in PROTECTED {
        for spelling in SPELLINGS {
            let line = spelt(spelling, name, value);
            let what = format!("{line:?}");
            let mut world = World::new();
            world.register(tcp(1), "1001", "");
            let bytes = phones_request(&line);
            // What Rouse has read, if it has read it at all.
            let before = Message::parse(bytes.clone().into()).ok();
            world.receive(tcp(1), &bytes);
            let sent = world
                .sent
                .drain(..)
                .filter(|sent| sent.to == Destination::Flow(pbx().id));
            for sent in sent.collect::<Vec<_>>() {
                let counts = same_for_both(sent.message.raw(), false, &what);
                let before = before
                    .as_ref()
                    .unwrap_or_else(|| panic!("{what} was not read, and sent"));
                let believed = before
                    .headers()
                    .filter(|header| long(&String::from_utf8_lossy(header.raw_name)) == long(name))
                    .count();
                let found = counts.get(&long(name)).copied().unwrap_or(0);
                // Ours stand above: a Via, and a Record-Route for either side.
                let own = match name {
                    "Via" => 1,
                    "Record-Route" => 2,
                    _ => 0,
                };
                assert!(found <= believed + own, "{what}: {found} of {believed}");
            }
        }
    }
}

#[test]
pub fn nothing_of_a_strangers_reaches_asterisk_however_it_is_spelt() {
    for (name, value) in PROTECTED {
        for spelling in SPELLINGS {
            let line = spelt(spelling, name, value);
            for flow in [tcp(7), udp(40_007)] {
                let mut world = World::new();
                world.receive(flow, phones_request(&line));
                let to_pbx = world
                    .sent
                    .iter()
                    .any(|sent| sent.to == Destination::Flow(pbx().id));
                assert!(!to_pbx, "{line:?}");
            }
        }
    }
}

#[test]
pub fn both_directions_of_a_call_read_the_same_to_both() {
    let mut world = World::new();
    world.register(udp(40_001), "1001", "");
    world.receive(pbx(), invite("1001", "both"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    same_for_both(forwarded.message.raw(), false, "the INVITE");
    let ok = response(
        &forwarded,
        "200 OK",
        "Contact : <sip:1001@10.0.0.5:5060>\nX :y\n",
    );
    world.receive(udp(40_001), ok);
    let ok = world.expect("SIP/2.0 200");
    let counts = same_for_both(ok.message.raw(), false, "the 200");
    assert_eq!(counts.get("via"), Some(&1), "{}", ok.text());
    assert!(!ok.text().contains(" :"), "{}", ok.text());
    let uri = contact_uri("1001");
    assert!(!ok.text().contains("pn-"), "{uri}");
}

#[test]
fn the_second_parser_refuses_what_can_be_read_in_two_ways() {
    let of = |line: &str| format!("OPTIONS sip:h SIP/2.0\r\n{line}\r\nContent-Length: 2\r\n\r\nab");
    assert!(strict(of("A: b").as_bytes(), true).is_ok());
    for line in [
        "A : b",
        "A\0: b",
        "A: b\n",
        "A: b\r\n c",
        "l: 2",
        "A",
        ": b",
        "A: b\r",
    ] {
        let text = of(line);
        assert!(strict(text.as_bytes(), true).is_err(), "{line:?}");
    }
    for text in [
        "",
        "OPTIONS sip:h SIP/2.0\r\nContent-Length: 3\r\n\r\nab",
        "X\r\nA: b\r\n\r\nab",
    ] {
        assert!(strict(text.as_bytes(), true).is_err(), "{text:?}");
    }
}
