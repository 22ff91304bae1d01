//! Calls that wait for a phone when the process dies.

use std::time::Duration;

use rouse::proto::push::Notice;
use rouse::proto::sip::HeaderName;

use crate::world::{APNS, World, beside, invite, pbx, response, tcp};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";

/// A call has waited for three seconds when the process dies and another one starts.
fn restarted() -> World {
    let mut world = World::new();
    world.resumes_calls = true;
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    assert_eq!(world.held.len(), 1);
    world.advance(Duration::from_secs(3));
    world.restart();
    world
}

#[test]
pub fn a_call_that_waits_goes_on_in_the_next_process() {
    let mut world = restarted();
    world.expect("SIP/2.0 100");
    let push = world.accept_push();
    let Notice::Call(notice) = &push.notice else {
        panic!("{:?}", push.notice)
    };
    assert_eq!(&*notice.call_id, "c1");
    assert_eq!(notice.expires_at_ms - notice.sent_at_ms, 22_000);
    assert_eq!(world.held.len(), 1, "it may be taken up once more");
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    assert!(world.held.is_empty(), "it is out");
    world.receive(tcp(2), response(&forwarded, "180 Ringing", ""));
    let ringing = world.expect("SIP/2.0 180");
    assert!(ringing.text().contains("z9hG4bKc1"));
    world.receive(tcp(2), response(&forwarded, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_caller_that_hangs_up_after_the_restart_is_answered() {
    let mut world = restarted();
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    assert!(world.held.is_empty());
}

#[test]
pub fn a_call_whose_time_is_over_gets_its_answer_and_wakes_nobody() {
    let mut world = World::new();
    world.resumes_calls = true;
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    let held = world.held.clone();
    world.advance(Duration::from_secs(26));
    world.expect("SIP/2.0 480");
    assert!(world.held.is_empty());
    // As if the process had been dead all the while.
    world.held = held;
    world.sent.clear();
    world.restart();
    world.expect("SIP/2.0 100");
    world.advance(Duration::from_millis(1));
    let answer = world.expect("SIP/2.0 480");
    assert!(!answer.header(HeaderName::Reason).is_empty());
    assert!(world.pushes.is_empty());
    assert!(world.held.is_empty());
}

#[test]
pub fn a_call_that_rings_is_not_begun_again() {
    let mut world = World::new();
    world.resumes_calls = true;
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
    assert!(world.held.is_empty());
    world.restart();
    world.expect_nothing();
}
