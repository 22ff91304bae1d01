//! The torture messages of RFC 4475 and RFC 5118 through the whole gateway: each from a registered
//! phone over UDP, from one over TCP (through the framing) and from Asterisk over UDP.
//!
//! What is forwarded leaves as it came but for what a proxy must change; what is refused is refused
//! with the status of the table; nothing is in flight afterwards.

use bytes::Bytes;
use rouse::proto::settings::{ContactMode, Settings};
use rouse::proto::sip::{Frame, FrameLimits, Framer, HeaderName, Message, Method};
use rouse::proto::{Destination, Event, Flow, Input, Transport};

use crate::torture::{self, Case, Verdict};
use crate::world::{self, Sent, World, pbx, response, tcp, udp};

/// What the sender, or whoever is behind us, sees of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// It leaves toward the other side.
    Forwarded,
    /// It is answered like this.
    Answered(u16),
    /// Nothing leaves.
    Silent,
}

use Wire::{Answered, Forwarded, Silent};

/// What becomes of a message that a proxy may forward when Asterisk sends it. `user@example.com`,
/// `1001@pbx.example.com` and `resource@example.com` are registered; of others nobody has heard.
/// REGISTER is relayed whoever sends it, OPTIONS is answered for the agent.
const FROM_ASTERISK: [(&str, Wire); 33] = [
    // A To tag and a Route that is not ours: a dialog of which we know nothing, and no agent.
    ("wsinv", Answered(404)),
    // RFC 4475 §3.1.1.2 wants 405, 501 or forwarding from an endpoint; to us the user is unknown.
    ("intmeth", Answered(404)),
    ("esc01", Answered(404)),
    // No agent's name has control characters: whoever keeps bindings may say so.
    ("escnull", Answered(400)),
    // Its method is not REGISTER, and a Request-URI without a user names no agent.
    ("esc02", Answered(404)),
    ("lwsdisp", Answered(200)),
    ("longreq", Forwarded),
    ("dblreq", Forwarded),
    ("semiuri", Answered(480)),
    ("transports", Answered(200)),
    ("mpart01", Answered(404)),
    ("baddate", Forwarded),
    // A user that one agent alone has names it, whatever the domain says.
    ("badaspec", Answered(200)),
    ("baddn", Answered(480)),
    ("badbranch", Answered(200)),
    ("invut", Forwarded),
    ("regaut01", Forwarded),
    ("cparam01", Forwarded),
    ("cparam02", Forwarded),
    ("regescrt", Forwarded),
    ("sdp01", Forwarded),
    ("inv2543", Answered(404)),
    ("ipv6-good", Forwarded),
    ("port-ambiguous", Forwarded),
    ("port-unambiguous", Forwarded),
    ("via-received-param-with-delim", Answered(404)),
    ("via-received-param-no-delim", Answered(480)),
    ("ipv6-in-sdp", Forwarded),
    ("mult-ip-in-header", Forwarded),
    ("mult-ip-in-sdp", Forwarded),
    ("ipv4-mapped-ipv6", Forwarded),
    ("ipv6-bug-abnf-3-colons", Answered(200)),
    ("ipv6-correct-abnf-2-colons", Answered(200)),
];

/// What becomes of a message that a proxy may forward when a phone sends it, if it is not
/// forwarded to Asterisk.
const FROM_A_PHONE: [(&str, Wire); 1] = [("escnull", Answered(400))];

/// The same over a connection.
const FROM_A_CONNECTION: [(&str, Wire); 2] = [
    FROM_A_PHONE[0],
    // RFC 2543 had no Content-Length; on a connection nobody can tell where it ends.
    ("inv2543", Answered(400)),
];

/// A gateway for any domain, with a phone on UDP, one on TCP and one of `user@example.com`.
fn gateway() -> World {
    let mut settings: Settings = world::settings(ContactMode::Agent);
    settings.upstreams[0].domains.push("*".into());
    let mut world = World::with(settings);
    world.register_for(udp(1), "1001", "", ";+sip.instance=\"<urn:uuid:1>\"", 7200);
    world.register_for(tcp(1), "1001", "", ";+sip.instance=\"<urn:uuid:2>\"", 7200);
    let register = world::register(tcp(2), "user", "", "", 7200, 900)
        .replace("pbx.example.com", "example.com");
    world.receive(tcp(2), register);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), world::ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world
}

fn expected(case: &Case, exceptions: &[(&str, Wire)]) -> Wire {
    let exception = exceptions.iter().find(|(name, _)| *name == case.name);
    match (case.verdict, exception) {
        (Verdict::Forward, Some((_, wire))) => *wire,
        (Verdict::Forward, None) => Forwarded,
        (_, Some(_)) => panic!("{}: only what may be forwarded has a choice", case.name),
        (Verdict::Answer(status), None) => Answered(status),
        (Verdict::Response | Verdict::Drop, None) => Silent,
    }
}

/// Feeds a message as the transport would.
fn feed(world: &mut World, flow: Flow, bytes: &Bytes) {
    if flow.transport == Transport::Udp {
        world.receive(flow, bytes);
        return;
    }
    let mut framer = Framer::new(FrameLimits {
        message_bytes: 65_536,
        headers: 128,
    });
    framer.buffer().extend_from_slice(bytes);
    match framer.next() {
        Ok(Some(Frame::Message(message))) => world.input(Input::Message { flow, message }),
        Ok(Some(Frame::Malformed(bytes, error))) | Err((bytes, error)) => {
            world.input(Input::Malformed { flow, bytes, error });
        }
        // A body that never comes whole: the connection's deadline ends it.
        Ok(None) => {}
        Ok(Some(Frame::Ping | Frame::Pong)) => panic!("a message"),
    }
}

fn outcome(world: &mut World, flow: Flow, case: &Case) -> (Wire, Option<Sent>) {
    feed(world, flow, &case.bytes);
    let mut wire = Silent;
    let mut forwarded = None;
    while let Some(sent) = world.sent.pop_front() {
        match sent.message.status() {
            Some(100) => {}
            Some(status) => {
                assert_eq!(wire, Silent, "{}", case.name);
                wire = Answered(status);
            }
            None => {
                assert_eq!(wire, Silent, "{}", case.name);
                wire = Forwarded;
                forwarded = Some(sent);
            }
        }
    }
    (wire, forwarded)
}

/// The header lines that a proxy does not touch, as they stand, each on one line. Of a phone's way it
/// leaves nothing.
fn untouched(message: &Message, is_a_phones: bool) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let is_register = message.method() == Some(Method::Register);
    let is_ours = |name: HeaderName| {
        let in_register = matches!(
            name,
            HeaderName::Contact | HeaderName::Expires | HeaderName::Path | HeaderName::Supported
        );
        matches!(
            name,
            HeaderName::Via
                | HeaderName::MaxBreadth
                | HeaderName::MaxForwards
                | HeaderName::RecordRoute
        ) || (is_register && in_register)
            || (is_a_phones && name == HeaderName::Route)
    };
    message
        .headers()
        .filter(|header| !is_ours(header.name))
        .map(|header| {
            let value = text(header.value);
            let value = value.replace(r"\r\n ", "   ").replace(r"\r\n\t", r"  \t");
            (text(header.raw_name), value)
        })
        .collect()
}

fn on_one_line(value: &[u8]) -> Vec<u8> {
    let text = value.escape_ascii().to_string();
    let text = text.replace(r"\r\n", "  ");
    text.replace(r"\t", "\t").into_bytes()
}

/// What a proxy changes is changed, and nothing else (RFC 3261 §16.6).
fn assert_only_what_a_proxy_changes(case: &Case, from: Flow, sent: &Sent) {
    let name = case.name;
    let came = Message::parse(case.bytes.clone()).unwrap();
    let left = &sent.message;
    let is_a_phones = from.id != pbx().id;
    let [came_with, left_with] = [&came, left].map(|message| untouched(message, is_a_phones));
    assert_eq!(came_with, left_with, "{name}");
    if is_a_phones {
        assert_eq!(left.routes().count(), 0, "{name}");
    }
    assert_eq!(came.body(), left.body(), "{name}");
    assert_eq!(came.method(), left.method(), "{name}");
    if is_a_phones {
        assert_eq!(came.request_uri(), left.request_uri(), "{name}");
    }
    let max_forwards = came.max_forwards().unwrap().map_or(70, |value| value - 1);
    assert_eq!(left.max_forwards().unwrap(), Some(max_forwards), "{name}");
    let (old, new): (Vec<_>, Vec<_>) = (
        came.values(HeaderName::Via).collect(),
        left.values(HeaderName::Via).collect(),
    );
    assert_eq!(new.len(), old.len() + 1, "{name}");
    let old: Vec<_> = old.into_iter().map(on_one_line).collect();
    assert!(
        new[2..].iter().eq(&old[1..]),
        "{name}: only the top Via is stamped"
    );
    let stamped = rouse::proto::sip::Via::parse(new[1]).unwrap();
    let sender = came.top_via().unwrap();
    assert_eq!(stamped.host, sender.host, "{name}");
    assert_eq!(stamped.received(), Some(from.remote.ip()), "{name}");
}

/// The request is refused behind us; the refusal must reach its sender.
fn refuse(world: &mut World, sent: &Sent, from: Flow, name: &str) {
    let there = if from.id == pbx().id && sent.message.method() != Some(Method::Register) {
        tcp(2)
    } else if sent.to == Destination::Flow(pbx().id) {
        pbx()
    } else {
        world::pbx_tcp()
    };
    world.receive(there, response(sent, "404 Not Found", ""));
    let sent: Vec<_> = world.sent.drain(..).collect();
    let refusal = sent
        .iter()
        .find(|sent| sent.message.status() == Some(404))
        .unwrap_or_else(|| panic!("{name}: no answer"));
    assert!(
        sent.iter()
            .all(|other| matches!(other.message.method(), None | Some(Method::Ack))),
        "{name}"
    );
    assert!(refusal.message.top_via().is_ok(), "{name}");
}

fn play(flow: Flow, exceptions: &[(&str, Wire)]) {
    let mut wrong = Vec::new();
    for case in torture::cases() {
        let mut world = gateway();
        let (wire, forwarded) = outcome(&mut world, flow, &case);
        let is_unframed = case.name == "clerr" && flow.transport != Transport::Udp;
        let wanted = match is_unframed {
            // Shorter than its Content-Length: on a stream the rest is awaited (RFC 3261 §18.3).
            true => Silent,
            false => expected(&case, exceptions),
        };
        if wire != wanted {
            wrong.push(format!(
                "{} §{}: {wire:?}, not {wanted:?}",
                case.name, case.section
            ));
        }
        if let Some(sent) = forwarded {
            assert_only_what_a_proxy_changes(&case, flow, &sent);
            refuse(&mut world, &sent, flow, case.name);
        }
        world.assert_quiet();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn from_a_phone_over_udp() {
    play(udp(1), &FROM_A_PHONE);
}

#[test]
fn from_a_phone_over_tcp() {
    play(tcp(1), &FROM_A_CONNECTION);
}

#[test]
fn from_asterisk_over_udp() {
    play(pbx(), &FROM_ASTERISK);
}

/// A stranger gets nothing through but REGISTER.
#[test]
fn from_a_stranger() {
    for case in torture::cases() {
        let mut world = gateway();
        let (wire, forwarded) = outcome(&mut world, udp(6666), &case);
        let is_register = case.bytes.starts_with(b"REGISTER");
        assert_eq!(forwarded.is_some(), wire == Forwarded);
        assert!(is_register || wire != Forwarded, "{}", case.name);
        if let Some(sent) = forwarded {
            refuse(&mut world, &sent, udp(6666), case.name);
        }
        world.assert_quiet();
    }
}

/// The responses of RFC 4475 as answers to a request of ours: passed on as they stand, or dropped.
#[test]
fn responses_to_a_request_of_ours() {
    for (name, status) in [
        ("unreason", Some(200)),
        ("noreason", None),
        ("scalarlg", None),
        ("bigcode", None),
        ("bcast", Some(200)),
    ] {
        let case = torture::cases()
            .into_iter()
            .find(|case| case.name == name)
            .unwrap();
        let mut world = gateway();
        let invite = torture::cases()
            .into_iter()
            .find(|case| case.name == "invut")
            .unwrap();
        let (_, forwarded) = outcome(&mut world, udp(1), &invite);
        let forwarded = forwarded.unwrap();
        world.receive(pbx(), as_answer(&case, &forwarded));
        let answer = world.sent.pop_front();
        assert_eq!(
            answer.as_ref().and_then(|sent| sent.message.status()),
            status,
            "{name}"
        );
        if let Some(answer) = answer {
            let came = Message::parse(case.bytes.clone()).unwrap();
            assert_eq!(answer.message.reason(), came.reason(), "{name}");
            assert_eq!(
                answer.header(HeaderName::Contact).as_bytes(),
                came.header(HeaderName::Contact).unwrap(),
                "{name}"
            );
        }
        world.advance(std::time::Duration::from_secs(300));
        world.assert_quiet();
    }
}

/// The response with the Vias and the CSeq of the request that it answers.
fn as_answer(case: &Case, request: &Sent) -> Vec<u8> {
    let text = case.bytes.to_vec();
    let end = text.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let mut out = Vec::new();
    let mut is_first = true;
    for line in text[..end].split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_replaced = line.starts_with(b"Via:") || line.starts_with(b"v:");
        if !(is_replaced || name_is(line, "CSeq") && case.name != "scalarlg") {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
        if is_first {
            is_first = false;
            for via in request.message.values(HeaderName::Via) {
                out.extend_from_slice(b"Via: ");
                out.extend_from_slice(via);
                out.extend_from_slice(b"\r\n");
            }
            if case.name != "scalarlg" {
                out.extend_from_slice(b"CSeq: ");
                out.extend_from_slice(request.message.header(HeaderName::CSeq).unwrap());
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&text[end + 4..]);
    out
}

fn name_is(line: &[u8], name: &str) -> bool {
    line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
}

#[test]
fn whatever_is_dropped_is_counted() {
    for name in ["scalarlg", "bigcode", "bcast"] {
        let case = torture::cases()
            .into_iter()
            .find(|case| case.name == name)
            .unwrap();
        let mut world = gateway();
        world.events.clear();
        assert_eq!(outcome(&mut world, pbx(), &case).0, Silent);
        assert!(
            world
                .events
                .iter()
                .any(|event| matches!(event, Event::Dropped { .. })),
            "{name}"
        );
    }
}
