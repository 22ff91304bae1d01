//! What a push service's verdict does to the running call and to the device (RFC 8599 §5.6.2), and
//! how often a device is pushed (RFC 8599 §13).

use std::time::Duration;

use rouse::proto::Event;
use rouse::proto::push::params::NoPush;
use rouse::proto::push::{Notice, Pns, PushError, Reason};
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use crate::world::{World, beside, invite, pbx, response, settings, tcp};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
const APNS: &str = "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip&remote;pn-prid=0a0a:voip&0b0b:remote";
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:1";

fn dead() -> PushError {
    PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("UNREGISTERED"),
    }
}

fn wrong() -> PushError {
    PushError::WrongToken {
        reason: Reason::new("DeviceTokenNotForTopic"),
    }
}

fn unavailable() -> PushError {
    PushError::Unavailable {
        retry_after: None,
        reason: Reason::new("ServiceUnavailable"),
    }
}

fn asleep(params: &str) -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", params, ONE, 600);
    world.close(tcp(1));
    world
}

fn call(world: &mut World, call: &str) {
    world.receive(pbx(), invite("1001", call));
    world.expect("SIP/2.0 100");
}

#[test]
pub fn a_dead_or_wrong_token_ends_its_branch_while_another_phone_is_still_woken_and_answers() {
    for verdict in [dead(), wrong()] {
        let mut world = asleep(APNS);
        world.register_for(tcp(2), "1001", FCM, TWO, 600);
        world.close(tcp(2));
        call(&mut world, "c1");
        // The order of the pushes is the devices' own.
        let is_apple_first = world.pushes[0].target.pns == Pns::Apns;
        world.refuse_push(verdict.clone());
        world.accept_push();
        world.expect_nothing();
        assert_eq!(world.stored.len(), 1, "it is gone, in the store too");
        let params = if is_apple_first { FCM } else { APNS };
        let instance = if is_apple_first { TWO } else { ONE };
        world.register_for(tcp(3), "1001", params, instance, 600);
        let forwarded = world.expect("INVITE");
        world.receive(tcp(3), response(&forwarded, "200 OK", ""));
        world.expect("SIP/2.0 200");
        // It registers again: it is pushed again.
        let (params, instance) = if is_apple_first {
            (APNS, ONE)
        } else {
            (FCM, TWO)
        };
        world.register_for(tcp(4), "1001", params, instance, 600);
        assert_eq!(world.stored.len(), 2);
    }
}

#[test]
pub fn a_phone_with_an_open_connection_loses_only_its_token() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.advance(Duration::from_secs(60));
    call(&mut world, "c1");
    world.expect("OPTIONS");
    world.advance(Duration::from_secs(1));
    world.refuse_push(dead());
    world.expect("SIP/2.0 480");
    assert_eq!(world.stored.len(), 1);
    assert!(world.stored[0].push.is_none());
}

#[test]
pub fn a_dead_token_for_alerts_goes_and_calls_still_wake() {
    let mut world = asleep(APNS);
    // Its refresh push is the first to hear of it.
    world.advance(Duration::from_secs(3240));
    assert_eq!(world.pushes[0].notice, Notice::Refresh);
    world.refuse_push(dead());
    let push = world.stored[0].push.as_ref().unwrap();
    assert!(push.alert_token.is_none());
    assert_eq!(push.call_token.expose(), "0a0a");
    call(&mut world, "c1");
    assert_eq!(world.accept_push().target.token.expose(), "0a0a");
}

#[test]
pub fn a_refresh_that_finds_the_only_token_dead_ends_the_binding() {
    let mut world = asleep(FCM);
    world.advance(Duration::from_secs(3240));
    world.refuse_push(dead());
    assert!(world.stored.is_empty());
    call_is_refused(&mut world);
}

fn call_is_refused(world: &mut World) {
    world.receive(pbx(), invite("1001", "late"));
    world.expect("SIP/2.0 480");
}

#[test]
pub fn a_verdict_on_a_token_that_was_replaced_meanwhile_condemns_nobody() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    // The app has a new token, and sleeps again before the verdict on the old one is there.
    let new = FCM.replace("token:1", "token:2");
    world.register_for(tcp(2), "1001", &new, ONE, 600);
    world.expect("INVITE");
    world.close(tcp(2));
    world.refuse_push(dead());
    assert_eq!(world.stored.len(), 1);
    let push = world.stored[0].push.as_ref().unwrap();
    assert_eq!(push.call_token.expose(), "token:2");
}

#[test]
pub fn a_token_that_was_registered_again_after_the_push_is_kept() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    world.advance(Duration::from_millis(500));
    world.register_for(tcp(2), "1001", FCM, ONE, 600);
    world.expect("INVITE");
    world.refuse_push(dead());
    assert!(world.stored[0].push.is_some());
}

#[test]
pub fn our_own_faults_end_the_branch_and_condemn_no_token() {
    let reason = || Reason::new("because");
    for verdict in [
        PushError::BadCredentials { reason: reason() },
        PushError::Refused { reason: reason() },
        PushError::NotConfigured { pns: Pns::Fcm },
    ] {
        let mut world = asleep(FCM);
        call(&mut world, "c1");
        world.refuse_push(verdict);
        let refused = world.expect("SIP/2.0 480");
        assert!(refused.header(HeaderName::Reason).contains("push-failed"));
        assert_eq!(world.stored.len(), 1);
        assert!(world.stored[0].push.is_some());
        world.assert_quiet();
    }
}

#[test]
pub fn a_failing_service_is_asked_ever_later_and_only_inside_the_calls_time() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    let mut tries = Vec::new();
    let start = world.now;
    for _ in 0..30 {
        if !world.pushes.is_empty() {
            tries.push(world.now.duration_since(start).as_secs());
            world.refuse_push(unavailable());
        }
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 23]);
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn a_service_that_wants_longer_than_the_call_lasts_is_not_asked_again() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    world.refuse_push(PushError::Throttled {
        retry_after: Duration::from_secs(60),
        reason: Reason::new("QUOTA_EXCEEDED"),
    });
    world.advance(Duration::from_secs(26));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn the_second_call_pushes_when_the_first_hung_up_before_the_next_try() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    call(&mut world, "c2");
    world.refuse_push(unavailable());
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.pushes.clear();
    world.advance(Duration::from_secs(1));
    let push = world.accept_push();
    let Notice::Call(notice) = push.notice else {
        panic!("{push:?}")
    };
    assert_eq!(&*notice.call_id, "c2");
    assert!(world.pushes.is_empty(), "one for all who wait");
}

#[test]
pub fn two_calls_that_wait_for_a_failing_service_try_again_by_one_push() {
    let mut world = asleep(FCM);
    call(&mut world, "c1");
    call(&mut world, "c2");
    world.refuse_push(unavailable());
    world.advance(Duration::from_secs(5));
    assert_eq!(world.pushes.len(), 1);
}

#[test]
pub fn a_phone_that_is_called_without_end_is_pushed_so_often_and_no_call_is_lost_by_it() {
    let mut settings = settings(ContactMode::Agent);
    settings.limits.pushes_per_device = 4;
    let mut world = World::with(settings);
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    for number in 0..4 {
        let name = format!("c{number}");
        call(&mut world, &name);
        world.accept_push();
        world.receive(pbx(), beside("CANCEL", "1001", &name, ""));
        world.expect("SIP/2.0 200");
        world.expect("SIP/2.0 487");
    }
    // The fifth of the minute waits for its turn, and is told so.
    call(&mut world, "c5");
    assert!(world.pushes.is_empty());
    let is_said = world.events.iter().any(|event| {
        matches!(
            event,
            Event::NoPush {
                reason: NoPush::RateLimited,
                ..
            }
        )
    });
    assert!(is_said);
    world.advance(Duration::from_secs(14));
    assert!(world.pushes.is_empty());
    world.advance(Duration::from_secs(1));
    let push = world.accept_push();
    assert_eq!(push.lifetime, Duration::from_secs(10));
    // The 487s that nobody has acknowledged.
    world.sent.clear();
    world.register_for(tcp(2), "1001", APNS, ONE, 600);
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.message.call_id().ok(), Some(&b"c5"[..]));
}
