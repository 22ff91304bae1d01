//! Calls that nobody answered, and calls that one device declines.

use std::time::Duration;

use rouse::proto::push::{CallNotice, Notice, PushRequest};
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use crate::world::{APNS, World, beside, invite, pbx, response, settings, tcp};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:1";
/// An iPhone with a token for calls and one for alerts.
const TOKENS: &str = "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip&remote;\
    pn-prid=0a0a:voip&0b0b:remote";

fn world(tells: bool) -> World {
    let mut all = settings(ContactMode::Agent);
    all.wake.missed_call_push = tells;
    World::with(all)
}

/// A phone that sleeps is called and pushed.
fn called(params: &str, tells: bool) -> World {
    let mut world = world(tells);
    world.register_for(tcp(1), "1001", params, ONE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    world
}

fn cancel(world: &mut World, more: &str) {
    world.receive(pbx(), beside("CANCEL", "1001", "c1", more));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
}

#[track_caller]
fn missed(push: PushRequest) -> CallNotice {
    let Notice::Missed(call) = push.notice else {
        panic!("{:?}", push.notice)
    };
    call
}

#[test]
pub fn a_phone_that_a_call_did_not_reach_is_told_that_it_was_missed_and_never_by_a_voip_push() {
    for params in [FCM, TOKENS] {
        for is_cancelled in [true, false] {
            let mut world = called(params, true);
            if is_cancelled {
                world.advance(Duration::from_secs(7));
                cancel(&mut world, "Reason: Q.850;cause=16\n");
            } else {
                world.advance(Duration::from_secs(25));
                world.expect("SIP/2.0 480");
                world.receive(pbx(), beside("ACK", "1001", "c1", ""));
            }
            let push = world.accept_push();
            assert_ne!(push.target.token.expose(), "0a0a");
            assert_eq!(push.lifetime, Duration::from_secs(86_400));
            let call = missed(push);
            assert_eq!((&*call.call_id, &*call.display_name), ("c1", "Caller"));
            let took = if is_cancelled { 7_000 } else { 25_000 };
            assert_eq!(call.expires_at_ms - call.sent_at_ms, took);
            assert!(world.pushes.is_empty(), "one is enough");
            world.assert_quiet();
        }
    }
}

#[test]
pub fn without_missed_call_push_a_sleeping_android_phone_is_told_that_the_call_is_over() {
    let mut world = called(FCM, false);
    cancel(&mut world, "");
    assert!(matches!(world.accept_push().notice, Notice::Cancel(_)));
    assert!(world.pushes.is_empty());
    let mut world = called(TOKENS, false);
    cancel(&mut world, "");
    assert!(world.pushes.is_empty());
}

#[test]
pub fn a_call_that_was_answered_elsewhere_is_not_missed() {
    for reason in [
        "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\n",
        "Reason: Q.850;cause=26\n",
        "Reason: Q.850;cause=16, SIP;cause=200\n",
    ] {
        let mut world = called(FCM, true);
        cancel(&mut world, reason);
        assert!(matches!(world.accept_push().notice, Notice::Cancel(_)));
        assert!(world.pushes.is_empty());
        let mut world = called(TOKENS, true);
        cancel(&mut world, reason);
        assert!(world.pushes.is_empty());
    }
    // Another device of the agent's answers.
    let mut world = world(true);
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.close(tcp(1));
    world.register_for(tcp(2), "1001", "", TWO, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    let sent = world.expect("INVITE");
    world.receive(tcp(2), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    assert!(matches!(world.accept_push().notice, Notice::Cancel(_)));
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_rang_or_declined_knows_of_the_call_itself() {
    for answer in ["180 Ringing", "486 Busy Here", "603 Decline"] {
        let mut world = world(true);
        world.register_for(tcp(1), "1001", FCM, ONE, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let sent = world.expect("INVITE");
        world.receive(tcp(1), response(&sent, answer, ""));
        if answer.starts_with("180") {
            world.expect("SIP/2.0 180");
            world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
            world.expect("SIP/2.0 200");
            let cancel = world.expect("CANCEL");
            world.receive(tcp(1), response(&cancel, "200 OK", ""));
            world.receive(tcp(1), response(&sent, "487 Request Terminated", ""));
        }
        assert!(world.pushes.is_empty());
        world.assert_quiet();
    }
}

/// The user is busy on one phone: the other one, which sleeps, is told. A decline for all is an
/// answer.
#[test]
pub fn what_one_phone_says_decides_whether_the_other_is_told() {
    for (answer, is_told) in [("486 Busy Here", true), ("603 Decline", false)] {
        let mut world = world(true);
        world.register_for(tcp(1), "1001", TOKENS, ONE, 600);
        world.close(tcp(1));
        world.register_for(tcp(2), "1001", "", TWO, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        world.accept_push();
        let sent = world.expect("INVITE");
        world.receive(tcp(2), response(&sent, answer, ""));
        world.advance(Duration::from_secs(25));
        assert_eq!(world.pushes.len(), usize::from(is_told));
        if is_told {
            missed(world.accept_push());
        }
        world.assert_quiet();
    }
}

#[test]
pub fn a_decline_ends_the_other_phones_unless_it_speaks_for_one_alone() {
    for alone in [false, true] {
        let mut all = settings(ContactMode::Agent);
        all.wake.no_global_decline = alone;
        let mut world = World::with(all);
        world.register_for(tcp(1), "1001", APNS, ONE, 600);
        world.register_for(tcp(2), "1001", "", TWO, 600);
        world.close(tcp(1));
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        world.accept_push();
        let sent = world.expect("INVITE");
        world.receive(tcp(2), response(&sent, "603 Decline", ""));
        world.expect("ACK");
        if alone {
            world.expect_nothing();
            world.register_for(tcp(3), "1001", APNS, ONE, 600);
            let other = world.expect("INVITE");
            world.receive(tcp(3), response(&other, "200 OK", ""));
            world.expect("SIP/2.0 200");
        } else {
            world.expect("SIP/2.0 603");
        }
        world.assert_quiet();
    }
}

/// As one of many it is no better than what the others say, and passes if nobody says more.
#[test]
pub fn a_decline_that_speaks_for_one_alone_competes_as_a_4xx() {
    for (other, best) in [
        ("302 Moved", "302"),
        ("407 Proxy Authentication Required", "407"),
        ("480 Away", "603"),
        ("500 Broken", "603"),
    ] {
        let mut all = settings(ContactMode::Agent);
        all.wake.no_global_decline = true;
        let mut world = World::with(all);
        world.register_for(tcp(1), "1001", "", ONE, 600);
        world.register_for(tcp(2), "1001", "", TWO, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let first = world.expect("INVITE");
        let second = world.expect("INVITE");
        let flow_of = |sent: &crate::world::Sent| {
            let is_first = sent.to == rouse::proto::Destination::Flow(tcp(1).id);
            if is_first { tcp(1) } else { tcp(2) }
        };
        world.receive(flow_of(&first), response(&first, "603 Decline", ""));
        world.expect("ACK");
        world.expect_nothing();
        world.receive(flow_of(&second), response(&second, other, ""));
        world.expect("ACK");
        let answer = world.expect(&format!("SIP/2.0 {best}"));
        assert!(!answer.header(HeaderName::To).is_empty());
        world.assert_quiet();
    }
}
