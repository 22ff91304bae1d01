//! RFC 3261 §16.11, stateless forwarding: what we forward so is the ACK of a 2xx, and nothing else.

use rouse::proto::Destination;
use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call, values, with_phone};
use crate::world::{World, crlf, pbx, udp, via};

fn answered() -> (World, String) {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    let route = values(&sent, HeaderName::RecordRoute).remove(0);
    (world, route)
}

fn ack(route: &str) -> String {
    let via = via(pbx(), "z9hG4bKack");
    crlf(&format!(
        "
ACK sip:1001@10.0.0.5:5060 SIP/2.0
{via}
Route: {route}
Max-Forwards: 70
From: <sip:2001@192.0.2.80>;tag=asc1
To: <sip:1001@pbx.example.com>;tag=remote
Call-ID: c1
CSeq: 102 ACK
Content-Length: 0

"
    ))
}

/// > In particular, a retransmitted request MUST be forwarded to the same
/// > destination each time it is processed.
///
/// And with the same branch, so that the phone knows it again.
#[test]
fn an_ack_and_its_copies_are_forwarded_alike() {
    let (mut world, route) = answered();
    let sent: Vec<_> = (0..3)
        .map(|_| {
            world.receive(pbx(), ack(&route));
            world.expect("ACK sip:1001@10.0.0.5:5060")
        })
        .collect();
    assert_eq!(sent[0].to, Destination::Flow(udp(1).id));
    assert_eq!(sent[0].text(), sent[1].text());
    assert_eq!(sent[0].text(), sent[2].text());
    assert_eq!(values(&sent[0], HeaderName::Route), [""; 0]);
    assert_eq!(sent[0].header(HeaderName::MaxForwards), "69");
    assert_eq!(values(&sent[0], HeaderName::Via).len(), 2);
    world.assert_quiet();
}

#[test]
fn an_ack_to_a_device_that_is_gone_is_dropped() {
    let (mut world, route) = answered();
    world.register_for(udp(1), "1002", "", "", 600);
    let leave = crate::world::register(udp(1), "1001", "", crate::scene::ONE, 0, 99);
    world.receive(udp(1), leave);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), crate::world::response(&relayed, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), ack(&route));
    world.expect_nothing();
    world.assert_quiet();
}
