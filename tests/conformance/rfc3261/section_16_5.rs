//! RFC 3261 §16.5, determining request targets.

use crate::scene::{ONE, answer, call, with_phone};
use crate::world::{contact_uri, invite, invite_to, pbx, register, response, udp};

/// > Targets can only be placed in the target set once.
///
/// Two flows of one device are one target (RFC 5626 §5.3).
#[test]
fn a_device_is_one_target_however_often_it_registered() {
    let mut world = with_phone(udp(1));
    world.register_for(udp(2), "1001", "", ONE, 7200);
    let sent = call(&mut world, "c1");
    assert_eq!(sent.len(), 1);
    assert_eq!(crate::scene::flow_of(&sent[0]), udp(2));
    answer(&mut world, &sent[0], "486 Busy Here", "");
    world.assert_quiet();
}

/// > If the Request-URI indicates a resource at this proxy that does not exist, the proxy MUST
/// > return a 404 (Not Found) response.
#[test]
fn an_agent_that_nobody_knows_is_404() {
    let mut world = with_phone(udp(1));
    world.receive(pbx(), invite_to("sip:4711@192.0.2.1", "c1"));
    world.expect("SIP/2.0 404");
    world.assert_quiet();
}

/// > If the target set remains empty after applying all of the above, the proxy MUST return an
/// > error response, which SHOULD be the 480 (Temporarily Unavailable) response.
#[test]
fn an_agent_whose_devices_have_all_left_is_480() {
    let mut world = with_phone(udp(1));
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 0, 50));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), invite_to(&contact_uri("1001"), "c1"));
    world.expect("SIP/2.0 480");
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

/// > the Request-URI MUST first be canonicalized as described in Section 10.3 before being used as
/// > an index.
#[test]
fn an_escaped_user_names_the_same_agent() {
    let mut world = with_phone(udp(1));
    for uri in ["sip:%31001@192.0.2.1", "sip:1001@192.0.2.1;user=phone"] {
        let sent = crate::scene::call_with(&mut world, invite_to(uri, uri));
        answer(&mut world, &sent[0], "486 Busy Here", "");
        world.expect("ACK");
        world.expect("SIP/2.0 486");
    }
    world.assert_quiet();
}
