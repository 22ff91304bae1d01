//! A call for a phone that sleeps (RFC 8599 §5.3).

use std::time::Duration;

use rouse::proto::push::params::NoPush;
use rouse::proto::push::{Notice, PushError, Reason};
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event};

use crate::world::{
    APNS, World, beside, contact_uri, invite, ok_to_register, pbx, register, response, tcp, udp,
};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";

fn asleep() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.close(tcp(1));
    world
}

#[test]
pub fn a_sleeping_phone_is_pushed_and_gets_exactly_one_invite_after_its_200() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect_nothing();
    let push = world.accept_push();
    let Notice::Call(notice) = &push.notice else {
        panic!("{:?}", push.notice)
    };
    assert_eq!(&*notice.call_id, "c1");
    assert_eq!(&*notice.from_uri, "sip:2001@192.0.2.80");
    assert_eq!(&*notice.display_name, "Caller");
    assert_eq!(&*notice.to, "1001@pbx.example.com");
    assert_eq!(notice.expires_at_ms - notice.sent_at_ms, 25_000);
    assert_eq!(&*push.target.app, "com.example.app");
    world.advance(Duration::from_secs(3));
    // The phone comes back on a new connection, first without credentials.
    world.receive(tcp(2), register(tcp(2), "1001", APNS, INSTANCE, 600, 50));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "401 Unauthorized", ""));
    world.expect("SIP/2.0 401");
    world.expect_nothing();
    world.receive(tcp(2), register(tcp(2), "1001", APNS, INSTANCE, 600, 51));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    let forwarded = world.expect("INVITE sip:1001@10.0.0.5:5060;pn-provider=apns");
    assert_eq!(forwarded.to, Destination::Flow(tcp(2).id));
    world.expect_nothing();
    // A refresh during ringing makes no second INVITE.
    world.receive(tcp(2), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    world.expect_nothing();
    world.receive(
        tcp(2),
        response(
            &forwarded,
            "200 OK",
            "Contact: <sip:1001@10.0.0.5:5060;pn-prid=x>\n",
        ),
    );
    let ok = world.expect("SIP/2.0 200");
    assert!(!ok.text().contains("pn-"));
    assert!(world.pushes.is_empty());
    assert!(world.events.iter().any(
        |event| matches!(event, Event::Woken { after, .. } if *after == Duration::from_secs(3))
    ));
    world.assert_quiet();
}

#[test]
pub fn an_app_that_wakes_with_another_instance_but_its_token_gets_the_call_and_stays_one_device() {
    const OTHER: &str = ";+sip.instance=\"<urn:uuid:2>\"";
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.register_for(tcp(2), "1001", APNS, OTHER, 600);
    let forwarded = world.expect("INVITE sip:1001@10.0.0.5:5060;pn-provider=apns");
    assert_eq!(forwarded.to, Destination::Flow(tcp(2).id));
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
    world.receive(tcp(2), response(&forwarded, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    // From here on it is known by its new instance, whatever its token becomes.
    let other_token = APNS.replace("00aabb", "99aabb");
    world.register_for(tcp(2), "1001", &other_token, OTHER, 600);
    assert_eq!(world.count(), (1, 1));
    // The instance that it had once is another device by now: so is its token.
    world.register_for(tcp(3), "1001", APNS, INSTANCE, 600);
    assert_eq!(world.count(), (2, 2));
    assert_eq!(world.stored.len(), 2);
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_never_wakes_gets_480_after_wake_timeout() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.advance(Duration::from_millis(24_999));
    world.expect_nothing();
    world.advance(Duration::from_millis(1));
    let refused = world.expect("SIP/2.0 480");
    assert_eq!(
        refused.header(HeaderName::Reason),
        "SIP;cause=480;text=\"not-woken\""
    );
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.assert_quiet();
}

#[test]
pub fn a_cancel_while_the_phone_sleeps_is_487_at_once_and_the_late_iphone_learns_that_the_call_is_over()
 {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(
        pbx(),
        beside("CANCEL", "1001", "c1", "Reason: Q.850;cause=16\n"),
    );
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.advance(Duration::from_secs(5));
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    world.expect_nothing();
    world.receive(tcp(2), response(&forwarded, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.header(HeaderName::Reason), "Q.850;cause=16");
    world.receive(tcp(2), response(&cancel, "200 OK", ""));
    world.receive(tcp(2), response(&forwarded, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_late_phone_that_answers_a_call_that_is_over_is_hung_up() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.sent.clear();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    world.receive(
        tcp(2),
        response(&forwarded, "200 OK", "Contact: <sip:1001@10.0.0.5:5060>\n"),
    );
    world.expect("ACK sip:1001@10.0.0.5:5060");
    let bye = world.expect("BYE sip:1001@10.0.0.5:5060");
    assert_eq!(bye.header(HeaderName::CSeq), "103 BYE");
    world.receive(tcp(2), response(&bye, "200 OK", ""));
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_late_phone_that_is_in_another_call_is_left_alone() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.receive(pbx(), invite("1001", "c2"));
    world.accept_push();
    world.sent.clear();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let only = world.expect("INVITE");
    assert_eq!(only.header(HeaderName::CallId), "c2");
    world.expect_nothing();
}

#[test]
pub fn a_notify_on_its_way_to_a_late_phone_is_no_other_call() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.sent.clear();
    world.is_store_slow = true;
    world.receive(tcp(2), register(tcp(2), "1001", APNS, INSTANCE, 600, 2));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.receive(pbx(), invite("1001", "n1").replace("INVITE", "NOTIFY"));
    let notify = world.expect("NOTIFY");
    world.store();
    world.expect("SIP/2.0 200");
    let late = world.expect("INVITE");
    world.receive(tcp(2), response(&notify, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.receive(tcp(2), response(&late, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    world.receive(tcp(2), response(&cancel, "200 OK", ""));
    world.receive(tcp(2), response(&late, "487 Request Terminated", ""));
    world.expect("ACK");
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_wakes_after_the_caller_was_told_480_learns_that_the_call_is_over() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.advance(Duration::from_secs(25));
    world.expect("SIP/2.0 480");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.advance(Duration::from_secs(2));
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    world.receive(tcp(2), response(&forwarded, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert!(cancel.header(HeaderName::Reason).contains("not-woken"));
    world.receive(tcp(2), response(&cancel, "200 OK", ""));
    world.receive(tcp(2), response(&forwarded, "487 Request Terminated", ""));
    world.expect("ACK");
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_comes_too_late_gets_nothing() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.advance(Duration::from_secs(31));
    world.sent.clear();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn an_android_phone_is_told_of_the_end_by_a_push_and_gets_no_late_call() {
    let mut world = World::new();
    let fcm = "pn-provider=fcm;pn-param=project;pn-prid=token:1";
    world.register_for(tcp(1), "1001", fcm, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    let push = world.accept_push();
    assert!(matches!(push.notice, Notice::Cancel(_)));
    world.sent.clear();
    world.register_for(tcp(2), "1001", fcm, INSTANCE, 600);
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_call_that_ends_before_its_push_left_sends_none_and_no_word_of_its_end() {
    for leaves in [false, true] {
        let mut world = World::new();
        let fcm = "pn-provider=fcm;pn-param=project;pn-prid=token:1";
        world.register_for(tcp(1), "1001", fcm, INSTANCE, 600);
        world.close(tcp(1));
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let reason = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n";
        world.receive(pbx(), beside("CANCEL", "1001", "c1", reason));
        assert_eq!(world.withdrawn, [world.pushes[0].id]);
        assert_eq!(world.pushes.len(), 1);
        if leaves {
            // It was on its way already: the word that the call is over follows it.
            world.accept_push();
            let Notice::Cancel(cancel) = world.accept_push().notice else {
                panic!("no cancel");
            };
            assert!(cancel.answered_elsewhere);
        } else {
            world.refuse_push(PushError::Withdrawn);
        }
        assert!(world.pushes.is_empty());
        world.receive(pbx(), beside("ACK", "1001", "c1", ""));
        // The next call wakes the phone as if nothing had been.
        world.receive(pbx(), invite("1001", "c2"));
        assert!(matches!(world.accept_push().notice, Notice::Call(_)));
        world.receive(pbx(), beside("CANCEL", "1001", "c2", ""));
        let Notice::Cancel(cancel) = world.accept_push().notice else {
            panic!("no cancel");
        };
        assert!(!cancel.answered_elsewhere);
        world.receive(pbx(), beside("ACK", "1001", "c2", ""));
        world.assert_quiet();
    }
}

#[test]
pub fn a_phone_that_comes_by_itself_has_its_push_withdrawn() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    assert_eq!(world.withdrawn, [world.pushes[0].id]);
    world.refuse_push(PushError::Withdrawn);
    let forwarded = world
        .sent
        .iter()
        .find(|sent| sent.first_line().starts_with("INVITE"));
    let forwarded = forwarded.unwrap().clone();
    world.receive(tcp(2), response(&forwarded, "200 OK", ""));
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.sent.clear();
    world.assert_quiet();
}

#[test]
pub fn a_dead_token_fails_its_branch_at_once_and_is_forgotten() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("Unregistered"),
    });
    let refused = world.expect("SIP/2.0 480");
    assert!(refused.header(HeaderName::Reason).contains("push-failed"));
    assert!(world.stored.is_empty());
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_token_that_died_before_it_was_registered_again_is_kept() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let since_ms = Some(1_700_000_000_000);
    world.refuse_push(PushError::Unregistered {
        since_ms,
        reason: Reason::new("Unregistered"),
    });
    world.expect_nothing();
    world.advance(Duration::from_secs(1));
    world.accept_push();
    assert_eq!(world.stored.len(), 1);
}

#[test]
pub fn a_throttled_push_is_tried_again_inside_the_calls_time() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let retry_after = Duration::from_secs(4);
    world.refuse_push(PushError::Throttled {
        retry_after,
        reason: Reason::new("TooManyRequests"),
    });
    world.advance(Duration::from_millis(3999));
    assert!(world.pushes.is_empty());
    world.advance(Duration::from_millis(1));
    // It is worth no more than what is left of the wait.
    assert_eq!(world.accept_push().lifetime, Duration::from_secs(21));
    world.expect_nothing();
}

#[test]
pub fn two_calls_at_once_share_one_wake_and_both_are_delivered() {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let one = world.expect("INVITE");
    let two = world.expect("INVITE");
    assert_ne!(
        one.header(HeaderName::CallId),
        two.header(HeaderName::CallId)
    );
    world.expect_nothing();
    for sent in [&one, &two] {
        world.receive(tcp(2), response(sent, "486 Busy Here", ""));
        world.expect("ACK");
        world.expect("SIP/2.0 486");
    }
    world.assert_quiet();
}

#[test]
pub fn a_restart_forgets_no_acknowledged_binding_and_the_call_wakes_it() {
    let mut world = asleep();
    world.restart();
    assert_eq!(world.count(), (1, 0));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.register_for(tcp(9), "1001", APNS, INSTANCE, 600);
    world.expect("INVITE");
}

/// liblinphone answers no CRLF CRLF, as RFC 5626 §3.5.1 does not ask it to.
#[test]
pub fn an_open_connection_is_asked_by_options_and_any_answer_saves_the_push() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let options = world.expect("OPTIONS sip:1001@10.0.0.5:5060");
    assert_eq!(options.to, Destination::Flow(tcp(1).id));
    world.expect_nothing();
    world.receive(tcp(1), response(&options, "405 Method Not Allowed", ""));
    world.expect("INVITE");
    world.expect_nothing();
    assert!(world.pushes.is_empty());
}

#[test]
pub fn a_phone_that_answers_on_its_connection_after_it_was_pushed_gets_the_call_there() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let options = world.expect("OPTIONS");
    world.advance(Duration::from_millis(400));
    world.accept_push();
    world.expect_nothing();
    world.receive(tcp(1), response(&options, "200 OK", ""));
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    // The push makes it register again, which changes nothing.
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.expect_nothing();
    world.receive(tcp(1), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_silent_udp_phone_is_asked_by_options_and_then_pushed() {
    let mut world = World::new();
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS sip:1001@10.0.0.5:5060");
    world.advance(Duration::from_millis(400));
    world.accept_push();
    world.sent.clear();
    world.register_for(udp(2000), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.to, Destination::Flow(udp(2000).id));
}

#[test]
pub fn an_invite_that_draws_no_1xx_is_helped_by_a_push_and_follows_the_phone() {
    let mut world = World::new();
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
    assert!(world.pushes.is_empty());
    world.advance(Duration::from_secs(2));
    world.accept_push();
    world.sent.clear();
    world.register_for(udp(2000), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.to, Destination::Flow(udp(2000).id));
    world.receive(udp(2000), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(60));
    // Neither the dead flow nor the wake's deadline ends a call that rings.
    world.expect_nothing();
    world.receive(udp(2000), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_wakes_where_its_invite_was_sent_need_not_wait_for_timer_a() {
    let mut world = World::new();
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    // Sent again at 0.5, 1.5, 3.5 and 7.5 s by Timer A alone.
    world.advance(Duration::from_secs(2));
    world.accept_push();
    world.advance(Duration::from_secs(2));
    world.sent.clear();
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    let again = world.expect("INVITE");
    assert_eq!(again.message.raw(), first.message.raw());
    world.expect_nothing();
    // A REGISTER right behind it changes nothing: Timer A is at T1 again.
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    world.expect_nothing();
    world.advance(Duration::from_millis(500));
    world.expect("INVITE");
    world.receive(udp(1000), response(&again, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.advance(Duration::from_secs(60));
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_cancel_while_the_invite_draws_no_1xx_and_the_phone_is_pushed_is_487_at_once() {
    let mut world = World::new();
    world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let silent = world.expect("INVITE");
    world.advance(Duration::from_secs(2));
    world.accept_push();
    world.sent.clear();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    // The first INVITE was on its way after all: its CANCEL follows.
    world.receive(udp(1000), response(&silent, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, Destination::Flow(udp(1000).id));
    world.receive(udp(1000), response(&cancel, "200 OK", ""));
    world.receive(udp(1000), response(&silent, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_was_silent_where_it_was_called_learns_elsewhere_that_the_call_is_over() {
    for port in [1000, 2000] {
        let mut world = World::new();
        world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let silent = world.expect("INVITE");
        world.advance(Duration::from_secs(2));
        world.accept_push();
        world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
        world.receive(pbx(), beside("ACK", "1001", "c1", ""));
        world.sent.clear();
        world.register_for(udp(port), "1001", APNS, INSTANCE, 600);
        // Where the INVITE is out already the same goes out again.
        let late = world.expect("INVITE");
        let is_same = late.message.raw() == silent.message.raw();
        assert_eq!(is_same, port == 1000);
        let phone = udp(port);
        assert_eq!(late.to, Destination::Flow(phone.id));
        world.receive(phone, response(&late, "180 Ringing", ""));
        let cancel = world.expect("CANCEL");
        world.receive(phone, response(&cancel, "200 OK", ""));
        world.receive(phone, response(&late, "487 Request Terminated", ""));
        world.expect("ACK");
        world.expect_nothing();
        world.assert_quiet();
    }
}

#[test]
pub fn a_connection_that_dies_under_the_invite_wakes_the_phone() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
    world.close(tcp(1));
    world.accept_push();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    world.receive(tcp(2), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_request_to_the_agent_by_its_bare_address_finds_it() {
    let mut world = asleep();
    let text = invite("1001", "c1").replace(&contact_uri("1001"), "sip:1001@192.0.2.1");
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    world.accept_push();
}

#[test]
pub fn a_lost_store_keeps_calls_going() {
    let mut world = World::new();
    world.is_store_working = false;
    world.receive(tcp(1), register(tcp(1), "1001", APNS, INSTANCE, 60, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 503");
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
}

#[test]
pub fn a_sleeping_phone_is_asked_to_register_again_before_its_end_and_never_by_a_voip_push() {
    let mut world = World::new();
    let two_tokens = format!("{}:voip&{}:remote", "0a".repeat(32), "0b".repeat(32));
    let params = format!(
        "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip&remote;pn-prid={two_tokens}"
    );
    world.register_for(tcp(1), "1001", &params, INSTANCE, 3600);
    // While its connection is open it registers by itself.
    world.advance(Duration::from_secs(3300));
    assert!(world.pushes.is_empty());
    world.register_for(tcp(1), "1001", &params, INSTANCE, 3600);
    world.close(tcp(1));
    world.advance(Duration::from_secs(3239));
    assert!(world.pushes.is_empty());
    world.advance(Duration::from_secs(1));
    let push = world.accept_push();
    assert_eq!(push.notice, Notice::Refresh);
    assert_eq!(push.target.token.expose(), "0b".repeat(32));
    // It was lost: another follows, until the end and not after it.
    world.advance(Duration::from_secs(180));
    assert_eq!(world.accept_push().notice, Notice::Refresh);
    world.advance(Duration::from_secs(180));
    let more = world.pushes.len();
    assert_eq!(more, 3);
    assert!(world.stored.is_empty());
    world.advance(Duration::from_secs(7200));
    assert_eq!(world.pushes.len(), more);
}

#[test]
pub fn a_phone_with_a_voip_token_alone_is_not_refreshed_and_the_operator_hears_why() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 3600);
    world.close(tcp(1));
    world.advance(Duration::from_secs(3600));
    assert!(world.pushes.is_empty());
    assert!(world.events.iter().any(
        |event| matches!(event, Event::NoPush { reason, .. } if *reason == NoPush::NoAlertToken)
    ));
}

#[test]
pub fn a_phone_that_neither_answers_nor_wakes_is_pushed_once_and_then_480() {
    for flow in [udp(1), tcp(1)] {
        let mut world = World::new();
        world.register_for(flow, "1001", APNS, INSTANCE, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        world.expect("INVITE");
        world.advance(Duration::from_secs(2));
        world.accept_push();
        world.advance(Duration::from_secs(30));
        assert!(world.pushes.is_empty());
        let last = world.sent.drain(..).next_back().unwrap();
        assert_eq!(last.message.status(), Some(480));
        world.assert_quiet();
    }
}
