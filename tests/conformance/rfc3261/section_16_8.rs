//! RFC 3261 §16.8, processing Timer C.
//!
//! > If timer C should fire, the proxy MUST either reset the timer with any value it chooses, or
//! > terminate the client transaction. If the client transaction has received a provisional
//! > response, the proxy MUST generate a CANCEL request matching that transaction. If the client
//! > transaction has not received a provisional response, the proxy MUST behave as if the
//! > transaction received a 408 (Request Timeout) response.

use std::time::Duration;

use crate::scene::{answer, call, with_phone};
use crate::world::{World, settings, udp};
use rouse::proto::settings::ContactMode;

#[test]
fn a_phone_that_rang_is_cancelled_and_the_call_ends() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(185));
    let cancel = world.expect("CANCEL");
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent, "487 Request Terminated", "");
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

#[test]
fn a_phone_that_does_not_answer_its_cancel_is_given_up() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(185 + 33));
    let last = world
        .sent
        .drain(..)
        .find(|sent| sent.message.status().is_some());
    let status = last.and_then(|sent| sent.message.status());
    assert!(matches!(status, Some(408 | 487)), "{status:?}");
    world.assert_quiet();
}

/// With timers that let C fire before B.
#[test]
fn a_phone_that_said_nothing_is_408() {
    let mut settings = settings(ContactMode::Agent);
    settings.timing.timer_c = Duration::from_secs(20);
    let mut world = World::with(settings);
    world.register(udp(1), "1001", "");
    call(&mut world, "c1");
    world.advance(Duration::from_secs(20));
    let statuses: Vec<_> = world
        .sent
        .drain(..)
        .filter_map(|sent| sent.message.status())
        .collect();
    assert_eq!(statuses, [408]);
    world.assert_quiet();
}
