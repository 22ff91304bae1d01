//! RFC 3261 §18.2.2, where responses go.
//!
//! > If the "sent-protocol" is a reliable transport protocol such as TCP or SCTP, or TLS over those,
//! > the response MUST be sent using the existing connection to the source of the original request
//!
//! > if the top Via has a "received" parameter, the response MUST be sent to the address in the
//! > "received" parameter, using the port indicated in the "sent-by" value, or using port 5060 if
//! > none is specified explicitly.
//!
//! Not claimed: `maddr`. A response sent where a stranger's `maddr` says is a reflector.

use rouse::proto::Destination;

use crate::rig::{ASTERISK, Rig, incoming_via, tcp, udp};

fn response_goes_to(rig: &mut Rig, from: &str, via: &str) -> Destination {
    let id = rig.new_request(&udp(from), &incoming_via("OPTIONS", via));
    rig.respond(id, 200);
    rig.sent_one().to
}

#[test]
fn over_a_connection_it_goes_back_over_that_connection() {
    let mut rig = Rig::new();
    let via = "SIP/2.0/TCP 10.0.0.1:5060;branch=z9hG4bK1";
    let id = rig.new_request(&tcp(ASTERISK), &incoming_via("OPTIONS", via));
    rig.respond(id, 200);
    assert_eq!(rig.sent_one().to, Destination::Flow(tcp(ASTERISK).id));
}

#[test]
fn over_udp_it_goes_to_the_source_address_and_the_port_of_sent_by() {
    let mut rig = Rig::new();
    for (sent_by, port) in [
        ("10.0.0.1:5062", 5062),
        ("10.0.0.1", 5060),
        ("pbx.example.com", 5060),
        ("198.51.100.7:5090", 5090),
    ] {
        let via = format!("SIP/2.0/UDP {sent_by};branch=z9hG4bK1");
        assert_eq!(
            response_goes_to(&mut rig, "198.51.100.7:40000", &via),
            Destination::Flow(udp(&format!("198.51.100.7:{port}")).id),
            "{via}"
        );
    }
}

#[test]
fn maddr_and_received_of_the_peer_are_not_followed() {
    let mut rig = Rig::new();
    let via = "SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;maddr=192.0.2.99;received=192.0.2.98";
    assert_eq!(
        response_goes_to(&mut rig, "198.51.100.7:40000", via),
        Destination::Flow(udp("198.51.100.7:5062").id)
    );
}

/// Refusals for which no transaction was opened go the same way.
#[test]
fn a_refusal_without_state_goes_there_too() {
    use crate::world;
    let mut world = world::World::new();
    let far = world::udp(40_000);
    for (via, port) in [
        ("10.0.0.1:5062;branch=z9hG4bK1", 5062),
        ("10.0.0.1;branch=z9hG4bK1", 5060),
        ("10.0.0.1:5062;branch=z9hG4bK1;rport", 40_000),
        // What cannot be read goes back to where it came from.
        ("10.0.0.1:5062;;;branch", 40_000),
    ] {
        let text = world::invite("1001", "x")
            .replacen("192.0.2.80:5080;branch=z9hG4bKx;rport", via, 1)
            .replacen("Max-Forwards: 70", "Max-Forwards: 0", 1);
        world.receive(far, text);
        let sent = world.sent.pop_front().unwrap();
        assert_eq!(sent.to, Destination::Flow(world::udp(port).id), "{via}");
    }
}
