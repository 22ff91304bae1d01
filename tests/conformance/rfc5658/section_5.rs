//! RFC 5658 §5: double record-routing. One value where both sides reach us at the same address and
//! transport, else two, the far side's on top; both go when a request of the dialog comes by.

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Flow};

use crate::scene::{from_phone, values, with_phone};
use crate::world::{Sent, World, invite, pbx, response, tcp, udp};

fn called(flow: Flow) -> (World, Sent) {
    let mut world = with_phone(flow);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.receive(flow, response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    (world, sent)
}

#[test]
fn one_address_one_value() {
    let (_, sent) = called(udp(1));
    assert_eq!(values(&sent, HeaderName::RecordRoute).len(), 1);
}

#[test]
fn two_transports_two_values_the_far_sides_on_top() {
    let (_, sent) = called(tcp(1));
    let routes = values(&sent, HeaderName::RecordRoute);
    assert_eq!(routes.len(), 2);
    assert!(routes[0].contains("transport=tcp;lr>"), "{routes:?}");
    assert!(routes[1].ends_with(":5060;lr>"), "{routes:?}");
}

#[test]
fn both_values_are_consumed_in_either_direction() {
    let (mut world, sent) = called(tcp(1));
    let routes = values(&sent, HeaderName::RecordRoute);
    let down: Vec<_> = routes.iter().rev().cloned().collect();
    let bye = invite("1001", "c1")
        .replace("INVITE", "BYE")
        .replacen("CSeq: 102", "CSeq: 103", 1)
        .replacen("branch=z9hG4bKc1", "branch=z9hG4bKbye", 1)
        .replacen(">\r\nContact", ">;tag=remote\r\nContact", 1)
        .replacen("Max-", &format!("Route: {}\r\nMax-", down.join(", ")), 1);
    world.receive(pbx(), bye);
    let sent = world.expect("BYE");
    assert_eq!(sent.to, Destination::Flow(tcp(1).id));
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    world.receive(tcp(1), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let up = format!("Route: {}\nRoute: {}\n", routes[0], routes[1]);
    let bye = from_phone(tcp(1), "BYE", "sip:2001@192.0.2.80:5080", "c1", &up).replacen(
        "To: <sip:2001@192.0.2.80:5080>",
        "To: <sip:a@x>;tag=asc1",
        1,
    );
    world.receive(tcp(1), bye);
    let sent = world.expect("BYE");
    assert_eq!(sent.to, Destination::Flow(pbx().id));
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    world.receive(pbx(), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
fn a_phones_own_call_is_recorded_for_both_sides_too() {
    let mut world = with_phone(tcp(1));
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "out", ""));
    world.expect("SIP/2.0 100");
    let routes = values(&world.expect("INVITE"), HeaderName::RecordRoute);
    assert_eq!(routes.len(), 2);
    assert!(
        !routes[0].contains("transport"),
        "Asterisk's side: {routes:?}"
    );
    assert!(routes[1].contains("transport=tcp"), "{routes:?}");
}
