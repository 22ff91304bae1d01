//! RFC 4320 §4.2: no 408 to a request other than INVITE.
//!
//! Not claimed: silence where a device has not answered within Timer F; that sender gets 504, late.

use std::time::Duration;

use crate::scene::with_phone;
use crate::world::{APNS, World, invite, pbx, response, udp};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";

fn other(method: &str) -> String {
    invite("1001", method).replace("INVITE", method)
}

#[test]
fn a_devices_408_is_not_passed_on() {
    let mut world = with_phone(udp(1));
    for method in ["INFO", "SUBSCRIBE", "REFER"] {
        world.receive(pbx(), other(method));
        let sent = world.expect(method);
        world.receive(udp(1), response(&sent, "408 Request Timeout", ""));
        world.expect("SIP/2.0 504");
    }
    world.assert_quiet();
}

/// What is held for a device that sleeps is answered well within Timer F of its sender.
#[test]
fn a_request_for_a_device_that_does_not_wake_is_answered_in_time_and_not_with_408() {
    for method in ["INFO", "SUBSCRIBE", "MESSAGE", "NOTIFY", "PUBLISH"] {
        let mut world = World::new();
        world.register_for(crate::world::tcp(1), "1001", APNS, INSTANCE, 3600);
        world.close(crate::world::tcp(1));
        world.receive(pbx(), other(method));
        world.advance(Duration::from_secs(10));
        let answer = world.expect("SIP/2.0");
        assert_ne!(answer.message.status(), Some(408));
        assert!(answer.message.status() >= Some(200));
        world.assert_quiet();
    }
}
