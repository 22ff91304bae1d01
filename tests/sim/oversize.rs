//! Requests too large for a datagram (RFC 3261 §18.1.1).

use std::time::Duration;

use rouse::proto::event::Oversize;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event, Hop, Transport};

use crate::world::{
    Sent, World, crlf, invite, ok_to_register, pbx, pbx_tcp, register, response, settings, tcp,
    udp, via,
};

/// Asterisk's address, by TCP.
fn hop() -> Destination {
    Destination::Hop(Hop {
        transport: Transport::Tcp,
        address: pbx().remote,
        server_name: None,
    })
}

/// A request of the phone's with a body of so many octets.
fn request(method: &str, call: &str, more: &str, octets: usize) -> String {
    let head = format!(
        "
{method} sip:600@pbx.example.com SIP/2.0
{}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p
To: <sip:600@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: {call}
CSeq: 1 {method}
{more}Content-Length: {octets}

",
        via(tcp(1), &format!("z9hG4bK{call}"))
    );
    crlf(&head) + &"v".repeat(octets)
}

/// A registered phone calls with a body of so many octets; the INVITE as it leaves.
fn calls(world: &mut World, call: &str, octets: usize) -> Sent {
    world.receive(tcp(1), request("INVITE", call, "", octets));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.expect_nothing();
    sent
}

fn phone() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", "", 7200);
    world
}

fn top_via(sent: &Sent) -> String {
    let top = sent.message.values(HeaderName::Via).next().unwrap();
    String::from_utf8_lossy(top).into_owned()
}

fn ways(world: &World) -> Vec<Oversize> {
    let mut ways = Vec::new();
    for event in &world.events {
        if let Event::Oversize { way, .. } = event {
            ways.push(*way);
        }
    }
    ways
}

/// How large a body may be.
fn largest_body() -> usize {
    let small = calls(&mut phone(), "size", 100);
    100 + 1300 - small.message.raw().len()
}

#[test]
pub fn a_request_above_1300_bytes_goes_to_the_upstream_by_tcp() {
    let mut world = phone();
    let body = largest_body();
    let small = calls(&mut world, "full", body);
    assert_eq!(small.message.raw().len(), 1300);
    assert_eq!(small.to, Destination::Flow(pbx().id));
    assert!(ways(&world).is_empty());
    let large = calls(&mut world, "more", body + 1);
    assert_eq!(large.to, hop());
    assert!(top_via(&large).starts_with("SIP/2.0/TCP 192.0.2.1:5060;branch="));
    // In the dialog the upstream reaches us as ever.
    let recorded = large.header(HeaderName::RecordRoute);
    let far = recorded.split(',').next().unwrap();
    assert!(far.ends_with("@192.0.2.1:5060;lr>"), "{recorded}");
    assert_eq!(ways(&world), [Oversize::Stream]);
    world.receive(pbx_tcp(), response(&large, "180 Ringing", ""));
    assert_eq!(world.expect("SIP/2.0 180").to, Destination::Flow(tcp(1).id));
    world.receive(pbx_tcp(), response(&large, "486 Busy Here", ""));
    let ack = world.expect("ACK");
    assert_eq!((ack.to.clone(), top_via(&ack)), (hop(), top_via(&large)));
    world.expect("SIP/2.0 486");
    world.receive(pbx(), response(&small, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn where_tcp_is_refused_it_goes_as_a_datagram_and_that_is_remembered() {
    let mut world = phone();
    let first = calls(&mut world, "c1", 2000);
    assert_eq!(first.to, hop());
    world.fail(&first);
    let again = world.expect("INVITE");
    world.expect_nothing();
    assert_eq!(again.to, Destination::Flow(pbx().id));
    assert!(top_via(&again).starts_with("SIP/2.0/UDP 192.0.2.1:5060;branch="));
    assert_ne!(top_via(&again), top_via(&first), "a transaction of its own");
    world.receive(pbx(), response(&again, "404 Not Found", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 404");
    let next = calls(&mut world, "c2", 2000);
    assert_eq!(next.to, Destination::Flow(pbx().id));
    world.receive(pbx(), response(&next, "404 Not Found", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 404");
    assert_eq!(
        ways(&world),
        [Oversize::Stream, Oversize::Datagram, Oversize::Datagram]
    );
    world.advance(Duration::from_secs(600));
    assert_eq!(calls(&mut world, "c3", 2000).to, hop(), "it is tried again");
}

#[test]
pub fn a_caller_that_hangs_up_while_tcp_is_tried_gets_487_and_nobody_is_called() {
    let mut world = phone();
    let first = calls(&mut world, "c1", 2000);
    let cancel = request("CANCEL", "c1", "", 0);
    world.receive(tcp(1), cancel);
    world.expect("SIP/2.0 200");
    world.fail(&first);
    world.expect("SIP/2.0 487");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_large_register_goes_by_tcp_with_the_contact_that_it_has_otherwise() {
    for mode in [ContactMode::Agent, ContactMode::Device, ContactMode::Path] {
        let mut world = World::with(settings(mode));
        let text = register(tcp(1), "1001", "", "", 3600, 1);
        let padding = format!("User-Agent: {}\r\nExpires", "x".repeat(1300));
        world.receive(tcp(1), text.replace("Expires", &padding));
        let large = world.expect("REGISTER");
        assert_eq!(large.to, hop());
        for name in [HeaderName::Contact, HeaderName::Path] {
            assert!(!large.header(name).contains("tcp"), "{}", large.text());
        }
        world.receive(pbx_tcp(), ok_to_register(&large));
        world.expect("SIP/2.0 200");
        world.assert_quiet();
    }
}

/// Nobody answers an ACK: it takes a connection that is known to be there.
#[test]
pub fn a_large_ack_takes_the_connection_that_its_invite_had() {
    for is_tcp in [true, false] {
        let mut world = phone();
        let mut sent = calls(&mut world, "c1", 2000);
        let mut from = pbx_tcp();
        if !is_tcp {
            world.fail(&sent);
            sent = world.expect("INVITE");
            from = pbx();
        }
        let contact = "Contact: <sip:600@192.0.2.80:5080>\n";
        world.receive(from, response(&sent, "200 OK", contact));
        world.expect("SIP/2.0 200");
        let route = format!("Route: {}\n", sent.header(HeaderName::RecordRoute));
        let ack = request("ACK", "c1", &route, 2000)
            .replace(
                "To: <sip:600@pbx.example.com>",
                "To: <sip:600@pbx.example.com>;tag=remote",
            )
            .replacen("sip:600@pbx.example.com", "sip:600@192.0.2.80:5080", 1);
        world.receive(tcp(1), ack);
        let ack = world.expect("ACK");
        let (to, transport) = if is_tcp {
            (hop(), "SIP/2.0/TCP")
        } else {
            (Destination::Flow(pbx().id), "SIP/2.0/UDP")
        };
        assert_eq!(ack.to, to);
        assert!(top_via(&ack).starts_with(transport));
        world.assert_quiet();
    }
}

#[test]
pub fn a_phone_gets_a_large_request_over_its_flow_and_that_is_counted() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", "", "", 7200);
    let text = invite("1001", "c1").replace("Content-Length: 5\r\n\r\nv=0\r\n", "");
    world.receive(
        pbx(),
        format!("{text}Content-Length: 2000\r\n\r\n{}", "v".repeat(2000)),
    );
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(1).id));
    assert_eq!(ways(&world), [Oversize::Phone]);
}

#[test]
pub fn an_upstream_over_tcp_gets_every_request_by_it() {
    let mut by_tcp = settings(ContactMode::Agent);
    by_tcp.upstreams[0].nodes[0].transport = Some(Transport::Tcp);
    let mut world = World::with(by_tcp);
    world.receive(tcp(1), register(tcp(1), "1001", "", "", 3600, 1));
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.to, hop());
    world.receive(pbx_tcp(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    assert_eq!(calls(&mut world, "c1", 2000).to, hop());
    assert!(ways(&world).is_empty());
}
