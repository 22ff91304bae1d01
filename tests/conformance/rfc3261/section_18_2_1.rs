//! RFC 3261 §18.2.1, receiving requests.
//!
//! > When the server transport receives a request over any transport, it MUST examine the value of
//! > the "sent-by" parameter in the top Via header field value. If the host portion of the "sent-by"
//! > parameter contains a domain name, or if it contains an IP address that differs from the packet
//! > source address, the server MUST add a "received" parameter to that Via header field value. This
//! > parameter MUST contain the source address from which the packet was received.

use rouse::proto::Flow;
use rouse::proto::sip::{HeaderName, Via};

use crate::scene::{from_phone, values, with_phone};
use crate::world::{tcp, udp};

fn forwarded_via(flow: Flow, via: &str) -> String {
    let mut world = with_phone(flow);
    let uri = "sip:600@pbx.example.com";
    let text = from_phone(flow, "MESSAGE", uri, "m", "").replacen(
        "10.0.0.5:5060;branch=z9hG4bKm;rport",
        via,
        1,
    );
    world.receive(flow, text);
    values(&world.expect("MESSAGE"), HeaderName::Via).remove(1)
}

#[test]
fn another_address_or_a_name_gets_received() {
    for flow in [udp(7777), tcp(1)] {
        for host in ["10.0.0.5:5060", "phone.example.com", "10.0.0.5"] {
            let value = forwarded_via(flow, &format!("{host};branch=z9hG4bKm"));
            let via = Via::parse(value.as_bytes()).unwrap();
            assert_eq!(via.received(), Some(flow.remote.ip()), "{value}");
            assert!(value.contains(host), "sent-by stays: {value}");
        }
    }
}

#[test]
fn a_received_that_the_sender_wrote_is_replaced() {
    let value = forwarded_via(udp(7777), "10.0.0.5;branch=z9hG4bKm;received=203.0.113.1");
    let via = Via::parse(value.as_bytes()).unwrap();
    assert_eq!(via.received(), Some(udp(7777).remote.ip()), "{value}");
    assert!(!value.contains("203.0.113.1"), "{value}");
}

#[test]
fn the_address_that_it_came_from_needs_none() {
    let value = forwarded_via(udp(7777), "198.51.100.7:7777;branch=z9hG4bKm");
    assert_eq!(value, "SIP/2.0/UDP 198.51.100.7:7777;branch=z9hG4bKm");
}
