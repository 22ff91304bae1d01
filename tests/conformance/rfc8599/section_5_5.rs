//! RFC 8599 §5.5: asking a device to refresh its registration.

use std::time::Duration;

use rouse::proto::push::Notice;

use super::{FCM, INSTANCE, PNSREG, registered};
use crate::world::{World, tcp};

const TWO_MINUTES: u64 = 120;

/// A device registered for an hour; the world a second before `left` seconds of it.
fn before_the_end(more: &str, is_asleep: bool, left: u64) -> World {
    let mut world = World::new();
    registered(&mut world, FCM, more, 3600);
    if is_asleep {
        world.close(tcp(1));
    }
    world.advance(Duration::from_secs(3600 - left - 1));
    world
}

#[test]
fn a_sleeping_device_is_pushed_at_least_120_seconds_before_its_end() {
    let mut world = before_the_end(INSTANCE, true, TWO_MINUTES);
    let push = world.accept_push();
    assert_eq!(push.notice, Notice::Refresh);
    assert!(push.lifetime >= Duration::from_secs(TWO_MINUTES));
}

/// A device that knows of pushes waits for one even while its connection is open (§4.1.4).
#[test]
fn a_device_that_is_awake_is_pushed_in_time_if_it_did_not_refresh() {
    let mut world = before_the_end(INSTANCE, false, TWO_MINUTES);
    assert_eq!(world.accept_push().notice, Notice::Refresh);
    assert!(world.pushes.is_empty());
    // One that has refreshed is not.
    let mut world = before_the_end(INSTANCE, false, 400);
    registered(&mut world, FCM, INSTANCE, 3600);
    world.advance(Duration::from_secs(600));
    assert!(world.pushes.is_empty());
}

#[test]
fn a_device_with_pnsreg_is_pushed_only_when_it_did_not_refresh_by_itself() {
    for is_asleep in [true, false] {
        let mut world = before_the_end(PNSREG, is_asleep, 149);
        assert!(world.pushes.is_empty(), "its own time is not over");
        world.advance(Duration::from_secs(29));
        assert_eq!(world.accept_push().notice, Notice::Refresh);
    }
}

#[test]
fn a_lost_push_is_followed_by_others() {
    let mut world = before_the_end(INSTANCE, true, 20);
    assert_eq!(world.pushes.len(), 5);
    world.advance(Duration::from_secs(1));
}

#[test]
fn after_the_end_nothing_is_pushed() {
    let mut world = before_the_end(INSTANCE, true, 0);
    world.pushes.clear();
    world.advance(Duration::from_secs(7200));
    assert!(world.pushes.is_empty());
    world.receive(crate::world::pbx(), crate::world::invite("1001", "c1"));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
}

#[test]
fn a_device_that_has_left_is_not_pushed() {
    let mut world = World::new();
    registered(&mut world, FCM, INSTANCE, 3600);
    registered(&mut world, FCM, INSTANCE, 0);
    world.advance(Duration::from_secs(3600));
    assert!(world.pushes.is_empty());
}

/// RFC 8599 §4.1.2: a REGISTER without pn-prid ends the pushes.
#[test]
fn a_device_that_registers_without_its_token_is_not_pushed() {
    let mut world = World::new();
    registered(&mut world, FCM, INSTANCE, 3600);
    registered(&mut world, "", INSTANCE, 3600);
    world.advance(Duration::from_secs(3599));
    assert!(world.pushes.is_empty());
}
