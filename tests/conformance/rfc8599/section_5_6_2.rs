//! RFC 8599 §5.6.2: a request for a device that sleeps.

use std::time::Duration;

use rouse::proto::Input;
use rouse::proto::push::{PushError, Reason};

use super::{INSTANCE, asleep, called, wakes_and_is_told};
use crate::world::{APNS, TOKEN, invite, pbx, register, response, tcp};

#[test]
fn the_2xx_of_its_register_sends_the_request_on() {
    let mut world = called();
    wakes_and_is_told(&mut world, "200 OK", "");
    world.expect("INVITE");
    world.expect_nothing();
}

#[test]
fn a_refused_register_ends_the_request_with_480() {
    for status in [
        "403 Forbidden",
        "404 Not Found",
        "500 Server Error",
        "603 Decline",
    ] {
        let mut world = called();
        wakes_and_is_told(&mut world, status, "");
        world.expect("SIP/2.0 480");
        world.expect_nothing();
        world.assert_quiet();
    }
}

#[test]
fn an_answer_that_provokes_another_register_does_not() {
    for (status, more) in [
        ("401 Unauthorized", ""),
        ("407 Proxy Authentication Required", ""),
        ("423 Interval Too Brief", "Min-Expires: 7200\n"),
        ("302 Moved Temporarily", "Contact: <sip:192.0.2.81>\n"),
        ("500 Server Error", "Retry-After: 1\n"),
    ] {
        let mut world = called();
        wakes_and_is_told(&mut world, status, more);
        world.expect_nothing();
        world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
        world.expect("INVITE");
    }
}

/// Anybody may send a REGISTER, and have it refused.
#[test]
fn a_refused_register_of_somebody_without_the_devices_token_ends_nothing() {
    let other = APNS.replace(TOKEN, &"0b".repeat(32));
    for params in ["", &other] {
        let mut world = called();
        world.receive(tcp(9), register(tcp(9), "1001", params, INSTANCE, 600, 70));
        let relayed = world.expect("REGISTER");
        world.receive(pbx(), response(&relayed, "403 Forbidden", ""));
        world.expect("SIP/2.0 403");
        world.expect_nothing();
    }
}

#[test]
fn a_push_that_fails_ends_the_request_at_once() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.refuse_push(PushError::BadCredentials {
        reason: Reason::new("InvalidProviderToken"),
    });
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
fn a_device_with_an_open_flow_gets_the_request_without_a_push() {
    let mut world = asleep();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
    assert!(world.pushes.is_empty());
    // An older one is asked first.
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    world.advance(Duration::from_secs(60));
    world.sent.clear();
    world.pushes.clear();
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS");
    world.input(Input::Heard { flow: tcp(2).id });
    world.expect("INVITE");
    assert!(world.pushes.is_empty());
}

/// Such a request is held no longer than its sender would wait (Timer F).
#[test]
fn a_request_other_than_invite_waits_only_as_long_as_timer_f_allows() {
    let mut world = asleep();
    let info = invite("1001", "i1").replace("INVITE", "INFO");
    world.receive(pbx(), info);
    world.advance(Duration::from_secs(31));
    let status = world.sent.drain(..).find_map(|sent| sent.message.status());
    assert_eq!(status, Some(480));
    world.assert_quiet();
}
