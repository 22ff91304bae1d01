//! RFC 5626 §5.3: forwarding to a device with several flows, and keeping flows alive (§3.5.1, §4.4).
//!
//! Of the flows of one instance one gets a request; when it fails another does.

use std::time::Duration;

use rouse::proto::{CloseReason, Destination, Input};

use crate::scene::{answer, call};
use crate::world::{APNS, World, register, response, tcp, udp};

const FIRST: &str = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
const SECOND: &str = ";+sip.instance=\"<urn:uuid:1>\";reg-id=2";

fn two_flows() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", FIRST, 7200);
    world.advance(Duration::from_secs(1));
    world.register_for(tcp(2), "1001", "", SECOND, 7200);
    world
}

#[test]
fn one_of_several_flows_of_an_instance_gets_the_request() {
    let mut world = two_flows();
    assert_eq!(world.count(), (2, 2));
    let sent = call_any(&mut world, "c1");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        sent[0].to,
        Destination::Flow(tcp(2).id),
        "the one heard last"
    );
}

#[test]
fn the_other_flow_gets_it_when_the_first_is_gone() {
    let mut world = two_flows();
    world.close(tcp(2));
    let sent = call_any(&mut world, "c1");
    assert_eq!(sent[0].to, Destination::Flow(tcp(1).id));
}

#[test]
fn a_flow_that_dies_under_the_request_is_followed_by_the_other() {
    let mut world = two_flows();
    let sent = call_any(&mut world, "c1").remove(0);
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
    world.close(tcp(2));
    let again = world.expect("INVITE");
    assert_eq!(again.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&again, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
fn the_same_reg_id_replaces_its_flow() {
    let mut world = two_flows();
    world.register_for(tcp(3), "1001", "", SECOND, 7200);
    assert_eq!(world.count(), (2, 2));
    let sent = call_any(&mut world, "c1");
    assert_eq!(sent[0].to, Destination::Flow(tcp(3).id));
}

/// A phone that rings and registers from elsewhere keeps ringing where it rings; when that flow goes
/// the call follows.
#[test]
fn a_ringing_phone_that_moved_gets_its_call_again_when_the_old_flow_dies() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, FIRST, 7200);
    let sent = call_any(&mut world, "c1").remove(0);
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.register_for(tcp(3), "1001", APNS, FIRST, 7200);
    world.expect_nothing();
    world.close(tcp(1));
    let again = world.expect("INVITE");
    assert_eq!(again.to, Destination::Flow(tcp(3).id));
    assert!(world.pushes.is_empty());
    world.receive(tcp(3), response(&again, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// A phone that can be woken is asked before it is believed; a keep-alive is answer enough.
#[test]
fn a_quiet_connection_is_asked_and_what_it_says_counts() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, FIRST, 7200);
    world.advance(Duration::from_secs(60));
    world.receive(crate::world::pbx(), crate::world::invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS");
    world.expect_nothing();
    world.input(Input::Heard { flow: tcp(1).id });
    world.expect("INVITE");
}

/// A keep-alive that is no message keeps a UDP phone awake too.
#[test]
fn a_keep_alive_is_a_sign_of_life() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, FIRST, 7200);
    world.advance(Duration::from_secs(60));
    world.input(Input::Heard { flow: udp(1).id });
    let sent = call(&mut world, "c1");
    assert_eq!(sent.len(), 1);
    answer(&mut world, &sent[0], "486 Busy Here", "");
    world.assert_quiet();
}

/// A flow that the transport closed is no way to a phone any more.
#[test]
fn a_closed_flow_ends_the_binding_of_a_phone_that_cannot_be_woken() {
    let mut world = World::new();
    world.receive(tcp(1), register(tcp(1), "1001", "", FIRST, 7200, 1));
    let relayed = world.expect("REGISTER");
    world.receive(crate::world::pbx(), crate::world::ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.input(Input::FlowClosed {
        flow: tcp(1).id,
        reason: CloseReason::Peer,
    });
    assert_eq!(world.count(), (0, 0));
    world.assert_quiet();
}

fn call_any(world: &mut World, call: &str) -> Vec<crate::world::Sent> {
    world.receive(crate::world::pbx(), crate::world::invite("1001", call));
    world.expect("SIP/2.0 100");
    world.sent.drain(..).collect()
}
