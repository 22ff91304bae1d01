//! RFC 3261 §16.6, request forwarding.
//!
//! Not claimed: the next hop is local policy's (steps 6 and 7): a phone is reached over its flow,
//! everything else goes to the configured upstream, and strict routers behind either are not
//! rewritten for.

use std::time::Duration;

use bytes::Bytes;
use rouse::proto::settings::{ContactMode, Node};
use rouse::proto::sip::{HeaderName, Message, Via};
use rouse::proto::timer::{ContextTimer, Timer};
use rouse::proto::{Destination, Transport};

use crate::scene::{answer, call, call_with, from_phone, values, with_phone, with_two_phones};
use crate::world::{self, World, invite, pbx, response, tcp, udp};

/// > Fields not detailed in the processing described below MUST NOT be removed. The copy SHOULD
/// > maintain the ordering of the header fields as in the received request. The proxy MUST NOT
/// > reorder field values with a common field name (See Section 7.3.1). The proxy MUST NOT add to,
/// > modify, or remove the message body.
#[test]
fn step_1_what_is_copied_is_not_touched() {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1").replacen(
        "Max-Forwards",
        "X-B: 2\r\nx-a :1\r\nX-B: 1, 3\r\nWarning: 399 a \"b, c\"\r\nMax-Forwards",
        1,
    );
    let body = b"v=0\r\n\x00\xffbinary";
    let text = text.replacen(
        "Content-Length: 5",
        &format!("Content-Length: {}", body.len()),
        1,
    );
    let (head, _) = text.split_once("\r\n\r\n").unwrap();
    let bytes = [head.as_bytes(), b"\r\n\r\n", body].concat();
    world.receive(pbx(), &bytes);
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    let came = Message::parse(Bytes::from(bytes)).unwrap();
    let lines = |message: &Message| -> Vec<String> {
        message
            .headers()
            .filter(|header| {
                !matches!(
                    header.name,
                    HeaderName::Via
                        | HeaderName::MaxForwards
                        | HeaderName::MaxBreadth
                        | HeaderName::RecordRoute
                )
            })
            .map(|header| String::from_utf8_lossy(header.value).into_owned())
            .collect()
    };
    assert_eq!(lines(&came), lines(&sent.message));
    assert_eq!(sent.message.body(), body);
    answer(&mut world, &sent, "486 Busy Here", "");
    world.assert_quiet();
}

/// > The Request-URI in the copy's start line MUST be replaced with the URI for this target.
#[test]
fn step_2_the_request_uri_is_the_targets() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1");
    assert_eq!(
        sent[0].first_line(),
        "INVITE sip:1001@10.0.0.5:5060 SIP/2.0"
    );
}

/// > If the copy contains a Max-Forwards header field, the proxy MUST decrement its value by one
/// > (1). If the copy does not contain a Max-Forwards header field, the proxy MUST add one with a
/// > field value, which SHOULD be 70.
#[test]
fn step_3_max_forwards_is_one_less_or_70() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1");
    assert_eq!(sent[0].header(HeaderName::MaxForwards), "69");
    let text = invite("1001", "c2").replacen("Max-Forwards: 70\r\n", "", 1);
    let sent = call_with(&mut world, text);
    assert_eq!(values(&sent[0], HeaderName::MaxForwards), ["70"]);
}

/// > it MUST insert a Record-Route header field value into the copy before any existing
/// > Record-Route header field values, even if a Route header field is already present. […] The URI
/// > placed in the Record-Route header field value MUST be a SIP or SIPS URI. This URI MUST contain
/// > an lr parameter
#[test]
fn step_4_our_record_route_is_the_first_and_has_lr() {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1").replacen(
        "Max-Forwards",
        "Record-Route: <sip:192.0.2.81;lr>\r\nMax-Forwards",
        1,
    );
    let sent = call_with(&mut world, text);
    let routes = values(&sent[0], HeaderName::RecordRoute);
    assert_eq!(routes.len(), 2);
    assert!(routes[0].starts_with("<sip:") && routes[0].ends_with("@192.0.2.1:5060;lr>"));
    assert_eq!(routes[1], "<sip:192.0.2.81;lr>");
}

/// > If a proxy needs to be in the path of any type of dialog (such as one straddling a firewall),
/// > it SHOULD add a Record-Route header field value to every request with a method it does not
/// > understand since that method may have dialog semantics.
#[test]
fn step_4_what_may_open_a_dialog_is_record_routed_and_nothing_else_is() {
    let mut world = with_phone(udp(1));
    for (method, is_routed) in [
        ("SUBSCRIBE", true),
        ("REFER", true),
        ("FROBNICATE", true),
        ("MESSAGE", false),
        ("NOTIFY", false),
        ("PUBLISH", false),
    ] {
        let uri = "sip:600@pbx.example.com";
        world.receive(udp(1), from_phone(udp(1), method, uri, method, ""));
        let sent = world.expect(method);
        let is_there = !values(&sent, HeaderName::RecordRoute).is_empty();
        assert_eq!(is_there, is_routed, "{method}");
        answer(&mut world, &sent, "200 OK", "");
        world.expect("SIP/2.0 200");
    }
    world.assert_quiet();
}

/// > Otherwise, the proxy MUST apply the procedures to the first value in the Route header field,
/// > if present, else the Request-URI.
///
/// For a dialog's upstream side, as far as the upstream group vouches for the address.
#[test]
fn step_7_a_dialogs_request_follows_the_route_behind_ours() {
    for (more, to) in [
        (", <sip:192.0.2.81:5090;lr>", ([192, 0, 2, 81], 5090)),
        ("", ([192, 0, 2, 80], 5080)),
        // An address for which nobody vouches is not followed.
        (", <sip:203.0.113.9;lr>", ([192, 0, 2, 80], 5080)),
    ] {
        let mut world = with_phone(udp(1));
        let sent = call(&mut world, "c1").remove(0);
        answer(&mut world, &sent, "200 OK", "");
        world.expect("SIP/2.0 200");
        let route = format!(
            "Route: {}{more}\n",
            values(&sent, HeaderName::RecordRoute)[0]
        );
        let bye = from_phone(udp(1), "BYE", "sip:2001@192.0.2.80:5080", "c1", &route).replacen(
            "To: <sip:2001@192.0.2.80:5080>",
            "To: <sip:a@x>;tag=asc1",
            1,
        );
        world.receive(udp(1), bye);
        let sent = world.expect("BYE");
        let Destination::Flow(rouse::proto::FlowId::Datagram { remote, .. }) = sent.to else {
            panic!("UDP");
        };
        assert_eq!(remote, to.into(), "{more}");
    }
}

/// > As described in [4], the proxy MUST attempt to deliver the message to the first tuple in that
/// > set, and proceed through the set in order until the delivery attempt succeeds. […] Thus, the
/// > branch parameter provided with the Via header field inserted in step 8 MUST be different for
/// > each attempt.
#[test]
fn step_7_hops_are_tried_in_order_each_with_its_own_branch() {
    let mut settings = world::settings(ContactMode::Agent);
    let mut second = settings.upstreams[0].nodes[0].clone();
    second = Node {
        index: 1,
        host: "192.0.2.81".into(),
        ..second
    };
    settings.upstreams[0].nodes.push(second);
    let mut world = World::with(settings);
    world.register(udp(1), "1001", "");
    let uri = "sip:600@pbx.example.com";
    world.receive(udp(1), from_phone(udp(1), "MESSAGE", uri, "m1", ""));
    let first = world.expect("MESSAGE");
    assert_eq!(first.to, Destination::Flow(pbx().id));
    world.advance(Duration::from_secs(32));
    let sent: Vec<_> = world.sent.drain(..).collect();
    let second = sent.iter().find(|sent| sent.to != first.to).unwrap();
    let branch = |sent: &world::Sent| sent.message.top_via().unwrap().branch().unwrap().to_vec();
    assert_ne!(branch(&first), branch(second));
    assert_eq!(
        values(second, HeaderName::Via).len(),
        2,
        "a new copy of the request"
    );
}

/// > The proxy MUST insert a Via header field value into the copy before the existing Via header
/// > field values. […] This implies that the proxy will compute its own branch parameter, which will
/// > be globally unique for that branch, and contain the requisite magic cookie.
#[test]
fn step_8_our_via_is_the_first_and_its_branch_is_new() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    let mut branches = Vec::new();
    for sent in &sent {
        let vias = values(sent, HeaderName::Via);
        assert_eq!(vias.len(), 2);
        let ours = Via::parse(vias[0].as_bytes()).unwrap();
        assert_eq!((ours.transport, ours.port), (&b"UDP"[..], Some(5060)));
        let branch = ours.branch().unwrap().to_vec();
        assert!(branch.starts_with(b"z9hG4bK"));
        branches.push(branch);
    }
    assert_ne!(branches[0], branches[1]);
}

/// > The request method MUST NOT be included in the calculation of the branch parameter. In
/// > particular, CANCEL and ACK requests (for non-2xx responses) MUST have the same branch value as
/// > the corresponding request they cancel or acknowledge.
#[test]
fn step_8_cancel_and_ack_have_the_branch_of_their_invite() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.receive(pbx(), world::beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent, "487 Request Terminated", "");
    let ack = world.expect("ACK");
    let via = |sent: &world::Sent| values(sent, HeaderName::Via)[0].clone();
    assert_eq!((via(&cancel), via(&ack)), (via(&sent), via(&sent)));
    assert_eq!(values(&cancel, HeaderName::Via).len(), 1);
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

/// > If the request will be sent to the next hop using a stream-based transport and the copy
/// > contains no Content-Length header field, the proxy MUST insert one with the correct value for
/// > the body of the request (see Section 20.14).
#[test]
fn step_9_a_stream_gets_content_length() {
    let mut world = with_phone(tcp(1));
    let text = invite("1001", "c1").replacen("Content-Length: 5\r\n", "", 1);
    let sent = call_with(&mut world, text).remove(0);
    assert_eq!(values(&sent, HeaderName::ContentLength), ["5"]);
    let text = response(&sent, "200 OK", "").replacen("Content-Length: 0\r\n", "", 1);
    world.receive(tcp(1), text);
    world.expect("SIP/2.0 200");
    // Back toward a stream the same holds for responses (§18.3).
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "MESSAGE", uri, "m1", ""));
    let sent = world.expect("MESSAGE");
    let text = response(&sent, "202 Accepted", "").replacen("Content-Length: 0\r\n", "", 1);
    world.receive(pbx(), text + "hello");
    let reply = world.expect("SIP/2.0 202");
    assert_eq!(values(&reply, HeaderName::ContentLength), ["5"]);
    assert_eq!(reply.message.body(), b"hello");
    world.assert_quiet();
}

/// > Timer C MUST be set for each client transaction when an INVITE request is proxied. The timer
/// > MUST be larger than 3 minutes.
#[test]
fn step_11_each_branch_of_an_invite_has_timer_c() {
    let mut world = with_two_phones();
    call(&mut world, "c1");
    let armed: Vec<_> = world
        .timers()
        .filter(|(_, timer)| matches!(timer, Timer::Context(_, ContextTimer::C(_))))
        .collect();
    assert_eq!(armed.len(), 2);
    for (at, _) in armed {
        assert!(at > world.now + Duration::from_secs(180));
    }
    let uri = "sip:600@pbx.example.com";
    world.receive(udp(1), from_phone(udp(1), "INVITE", uri, "out", ""));
    world.expect("SIP/2.0 100");
    assert_eq!(
        world.expect("INVITE").message.top_via().unwrap().transport,
        Transport::Udp.via_token().as_bytes()
    );
    let count = world
        .timers()
        .filter(|(_, timer)| matches!(timer, Timer::Context(_, ContextTimer::C(_))))
        .count();
    assert_eq!(count, 3);
}
