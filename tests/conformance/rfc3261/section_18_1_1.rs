//! RFC 3261 §18.1.1: sending requests: one above 1300 bytes goes to the upstream over TCP first.
//!
//! Not claimed: TCP toward a phone. Its flow is all there is; what is too large for it is counted.

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Transport};

use crate::scene::{ONE, from_phone, values, with_phone};
use crate::world::{Sent, World, pbx, pbx_tcp, response, udp};

/// A registered phone calls with a header of so many octets; the INVITE as it leaves.
fn calls(world: &mut World, call: &str, octets: usize) -> Sent {
    let padding = format!("User-Agent: {}\n", "x".repeat(octets));
    let text = from_phone(udp(1), "INVITE", "sip:600@pbx.example.com", call, &padding);
    world.receive(udp(1), text);
    world.expect("SIP/2.0 100");
    world.expect("INVITE")
}

fn is_by_tcp(sent: &Sent) -> bool {
    let via = values(sent, HeaderName::Via).remove(0);
    let is_tcp = matches!(&sent.to, Destination::Hop(hop) if hop.transport == Transport::Tcp);
    assert_eq!(is_tcp, via.starts_with("SIP/2.0/TCP "), "{via}");
    is_tcp || {
        assert_eq!(sent.to, Destination::Flow(pbx().id));
        assert!(via.starts_with("SIP/2.0/UDP "), "{via}");
        false
    }
}

#[test]
fn a_request_of_1300_bytes_goes_over_udp_and_a_larger_one_over_tcp_as_its_via_says() {
    let mut world = with_phone(udp(1));
    let rest = 1300 - calls(&mut world, "c0", 0).message.raw().len();
    let fits = calls(&mut world, "c1", rest);
    assert!(fits.message.raw().len() == 1300 && !is_by_tcp(&fits));
    assert!(is_by_tcp(&calls(&mut world, "c2", rest + 1)));
}

#[test]
fn over_tcp_the_answer_comes_back_on_the_connection() {
    let mut world = with_phone(udp(1));
    let large = calls(&mut world, "c1", 1300);
    world.receive(pbx_tcp(), response(&large, "404 Not Found", ""));
    assert!(is_by_tcp(&world.expect("ACK")));
    world.expect("SIP/2.0 404");
    world.assert_quiet();
}

#[test]
fn a_refused_connection_makes_it_udp_at_once_and_for_a_time() {
    let mut world = with_phone(udp(1));
    let large = calls(&mut world, "c1", 1300);
    world.fail(&large);
    assert!(!is_by_tcp(&world.expect("INVITE")));
    assert!(!is_by_tcp(&calls(&mut world, "c2", 1300)));
    world.advance(std::time::Duration::from_secs(601));
    world.sent.clear();
    world.register_for(udp(1), "1001", "", ONE, 7200);
    assert!(is_by_tcp(&calls(&mut world, "c3", 1300)));
}

#[test]
fn a_phone_gets_what_is_too_large_over_its_flow() {
    let mut world = with_phone(udp(1));
    let padding = format!("User-Agent: {}\r\nMax-", "x".repeat(1300));
    let text = crate::world::invite("1001", "c1").replacen("Max-", &padding, 1);
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    assert_eq!(world.expect("INVITE").to, Destination::Flow(udp(1).id));
}
