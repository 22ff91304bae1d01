//! RFC 8599 §5.2: the bucket of requests that wait for a device.

use std::time::Duration;

use rouse::proto::Destination;

use super::{called, wakes_and_is_told};
use crate::world::{APNS, invite, pbx, response, tcp};

use super::INSTANCE;

#[test]
fn a_request_waits_for_its_device_and_goes_out_once_after_the_2xx_of_the_register() {
    let mut world = called();
    world.advance(Duration::from_secs(3));
    world.expect_nothing();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    let sent = world.expect("INVITE sip:1001@10.0.0.5:5060");
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    world.expect_nothing();
    world.receive(tcp(2), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
fn the_timer_of_a_request_whose_device_never_comes_ends_it_with_480() {
    let mut world = called();
    world.advance(Duration::from_secs(24));
    world.expect_nothing();
    world.advance(Duration::from_secs(1));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
fn several_requests_wait_for_one_device_and_share_its_push() {
    let mut world = called();
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    world.expect("INVITE");
    world.expect("INVITE");
    world.expect_nothing();
}

#[test]
fn a_challenge_keeps_the_request_in_the_bucket() {
    let mut world = called();
    wakes_and_is_told(&mut world, "401 Unauthorized", "");
    world.expect_nothing();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    world.expect("INVITE");
}
