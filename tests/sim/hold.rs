//! Requests other than a call for a phone that sleeps: MESSAGE and NOTIFY are kept for it, anything
//! else waits as briefly as its sender does (RFC 8599 §5.6.2, RFC 4320).

use std::time::Duration;

use rouse::proto::event::{Kept, KeptOutcome};
use rouse::proto::push::Notice;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event, Flow};

use crate::world::{
    APNS, Sent, World, crlf, invite, ok_to_register, pbx, register, response, settings, tcp, udp,
};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
/// An Android phone: it has a token for messages.
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:1";
const FCM_TWO: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:2";

/// A request of Asterisk's to an agent, outside a dialog.
pub fn to_agent(method: &str, user: &str, call: &str, more: &str) -> String {
    let text = invite(user, call).replace("INVITE", method);
    text.replacen("Max-Forwards", &format!("{}Max-Forwards", crlf(more)), 1)
}

fn message(call: &str) -> String {
    to_agent("MESSAGE", "1001", call, "")
}

fn asleep() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.close(tcp(1));
    world
}

fn come_back(world: &mut World, flow: Flow) {
    world.register_for(flow, "1001", FCM, ONE, 600);
}

fn call_id(sent: &Sent) -> String {
    sent.header(HeaderName::CallId)
}

fn outcomes(world: &World) -> Vec<(Kept, KeptOutcome)> {
    let mut outcomes = Vec::new();
    for event in &world.events {
        if let Event::KeptEnded(end) = event {
            outcomes.push((end.kind, end.outcome));
        }
    }
    outcomes
}

#[test]
pub fn messages_for_a_sleeping_phone_are_accepted_and_delivered_in_order_when_it_registers() {
    let mut world = asleep();
    for call in ["m1", "m2", "m3"] {
        world.receive(pbx(), message(call));
        let accepted = world.expect("SIP/2.0 202 Accepted");
        assert!(accepted.header(HeaderName::To).contains(";tag="));
        let push = world.accept_push();
        let Notice::Message(notice) = &push.notice else {
            panic!("{:?}", push.notice)
        };
        assert_eq!(&*notice.call_id, call);
        assert_eq!(&*notice.from_uri, "sip:2001@192.0.2.80");
        assert_eq!(&*notice.display_name, "Caller");
        assert_eq!(&*notice.to, "1001@pbx.example.com");
        assert_eq!(push.lifetime, Duration::from_secs(60));
        // Asterisk's copy of it gets the same answer.
        world.receive(pbx(), message(call));
        world.expect("SIP/2.0 202");
        world.expect_nothing();
    }
    world.advance(Duration::from_secs(40));
    world.receive(tcp(2), register(tcp(2), "1001", FCM, ONE, 600, 50));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "401 Unauthorized", ""));
    world.expect("SIP/2.0 401");
    world.expect_nothing();
    come_back(&mut world, tcp(2));
    for call in ["m1", "m2", "m3"] {
        let delivered = world.expect("MESSAGE sip:1001@10.0.0.5:5060;pn-provider=fcm");
        assert_eq!(call_id(&delivered), call);
        assert_eq!(delivered.to, Destination::Flow(tcp(2).id));
        assert_eq!(delivered.message.body(), b"v=0\r\n");
        // The next one waits for the answer to this one.
        world.expect_nothing();
        world.receive(tcp(2), response(&delivered, "200 OK", ""));
    }
    // Asterisk has had its answer, and each goes out once.
    world.expect_nothing();
    come_back(&mut world, tcp(2));
    world.expect_nothing();
    assert_eq!(
        outcomes(&world),
        [(Kept::Message, KeptOutcome::Delivered); 3]
    );
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_message_to_an_awake_phone_goes_at_once_and_its_answer_goes_up() {
    for (status, line) in [("200 OK", "SIP/2.0 200"), ("488 Not Here", "SIP/2.0 488")] {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", FCM, ONE, 600);
        world.advance(Duration::from_secs(60));
        world.receive(pbx(), message("m1"));
        let sent = world.expect("MESSAGE");
        world.advance(Duration::from_secs(1));
        world.expect_nothing();
        world.receive(tcp(1), response(&sent, status, ""));
        world.expect(line);
        world.advance(Duration::from_secs(10));
        world.expect_nothing();
        assert!(world.pushes.is_empty() && outcomes(&world).is_empty());
        world.assert_quiet();
    }
}

#[test]
pub fn a_message_goes_to_every_device_once_whether_it_sleeps_or_not() {
    for q in ["", ";q=0.1"] {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", FCM, &format!("{ONE}{q}"), 600);
        world.register_for(tcp(2), "1001", FCM_TWO, TWO, 600);
        world.close(tcp(1));
        world.receive(pbx(), message("m1"));
        let awake = world.expect("MESSAGE");
        assert_eq!(awake.to, Destination::Flow(tcp(2).id));
        world.accept_push();
        world.expect_nothing();
        world.receive(tcp(2), response(&awake, "200 OK", ""));
        world.expect("SIP/2.0 200");
        world.register_for(tcp(3), "1001", FCM, &format!("{ONE}{q}"), 600);
        let later = world.expect("MESSAGE");
        assert_eq!(later.to, Destination::Flow(tcp(3).id));
        world.receive(tcp(3), response(&later, "200 OK", ""));
        world.expect_nothing();
        assert_eq!(outcomes(&world), [(Kept::Message, KeptOutcome::Delivered)]);
        world.assert_quiet();
    }
}

/// The one that is awake refuses it, the other one will have it: it was accepted.
#[test]
pub fn a_message_that_is_kept_for_one_device_is_accepted_whatever_the_other_says() {
    for refusal in ["488 Not Acceptable Here", "603 Decline", "480 Away"] {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", FCM, ONE, 600);
        world.register_for(tcp(2), "1001", FCM_TWO, TWO, 600);
        world.close(tcp(1));
        world.receive(pbx(), message("m1"));
        let awake = world.expect("MESSAGE");
        world.receive(tcp(2), response(&awake, refusal, ""));
        world.expect("SIP/2.0 202");
        come_back(&mut world, tcp(3));
        let later = world.expect("MESSAGE");
        world.receive(tcp(3), response(&later, "200 OK", ""));
        world.expect_nothing();
        world.assert_quiet();
    }
}

#[test]
pub fn a_delivery_that_the_phone_refuses_is_told_to_the_operator_and_the_next_goes_on() {
    let mut world = asleep();
    for call in ["m1", "m2"] {
        world.receive(pbx(), message(call));
        world.expect("SIP/2.0 202");
    }
    come_back(&mut world, tcp(2));
    let first = world.expect("MESSAGE");
    world.receive(tcp(2), response(&first, "488 Not Acceptable Here", ""));
    let second = world.expect("MESSAGE");
    assert_eq!(call_id(&second), "m2");
    world.receive(tcp(2), response(&second, "200 OK", ""));
    world.expect_nothing();
    assert_eq!(
        outcomes(&world),
        [
            (Kept::Message, KeptOutcome::Refused(488)),
            (Kept::Message, KeptOutcome::Delivered)
        ]
    );
    world.assert_quiet();
}

#[test]
pub fn a_connection_that_dies_under_the_delivery_keeps_the_message() {
    let mut world = asleep();
    for call in ["m1", "m2"] {
        world.receive(pbx(), message(call));
        world.expect("SIP/2.0 202");
    }
    for connection in 2..4 {
        come_back(&mut world, tcp(connection));
        assert_eq!(call_id(&world.expect("MESSAGE")), "m1");
        world.close(tcp(connection));
        world.expect_nothing();
    }
    // The third time was the last: the phone dies of it, or so it seems.
    come_back(&mut world, tcp(4));
    assert_eq!(call_id(&world.expect("MESSAGE")), "m1");
    world.close(tcp(4));
    come_back(&mut world, tcp(5));
    let second = world.expect("MESSAGE");
    assert_eq!(call_id(&second), "m2");
    world.receive(tcp(5), response(&second, "200 OK", ""));
    assert_eq!(
        outcomes(&world),
        [
            (Kept::Message, KeptOutcome::Unanswered),
            (Kept::Message, KeptOutcome::Delivered)
        ]
    );
    world.assert_quiet();
}

/// UDP: the address is there, the phone behind it is not.
#[test]
pub fn a_message_that_an_open_flow_does_not_answer_is_accepted_and_follows_the_phone() {
    for port in [1000, 2000] {
        let mut world = World::new();
        world.register_for(udp(1000), "1001", FCM, ONE, 600);
        world.advance(Duration::from_secs(60));
        world.receive(pbx(), message("m1"));
        let first = world.expect("MESSAGE");
        world.advance(Duration::from_secs(2));
        let copies: Vec<_> = world.sent.drain(..).collect();
        let last = copies.last().unwrap();
        assert_eq!(last.message.status(), Some(202), "{}", last.first_line());
        assert!(matches!(world.accept_push().notice, Notice::Message(_)));
        // A second one waits behind it.
        world.receive(pbx(), message("m2"));
        world.expect("SIP/2.0 202");
        come_back(&mut world, udp(port));
        let again = if port == 1000 {
            // There it is out already, and sent again by itself.
            world.expect_nothing();
            first
        } else {
            world.expect("MESSAGE")
        };
        world.receive(udp(port), response(&again, "200 OK", ""));
        let second = world.expect("MESSAGE");
        assert_eq!(call_id(&second), "m2");
        world.receive(udp(port), response(&second, "200 OK", ""));
        world.expect_nothing();
        assert_eq!(
            outcomes(&world),
            [(Kept::Message, KeptOutcome::Delivered); 2]
        );
        world.assert_quiet();
    }
}

#[test]
pub fn a_message_that_nobody_fetches_expires_and_leaves_nothing() {
    let mut world = asleep();
    world.receive(pbx(), message("m1"));
    world.expect("SIP/2.0 202");
    world.advance(Duration::from_secs(60));
    assert_eq!(outcomes(&world), [(Kept::Message, KeptOutcome::Expired)]);
    come_back(&mut world, tcp(2));
    world.expect_nothing();
    world.assert_quiet();
}

/// An iPhone with a VoIP token alone: such a push would end the app.
#[test]
pub fn a_message_never_makes_a_voip_push() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    world.receive(pbx(), message("m1"));
    world.expect("SIP/2.0 202");
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", APNS, ONE, 600);
    world.expect("MESSAGE");
}

#[test]
pub fn what_is_kept_for_an_agent_is_bounded() {
    let mut bounds = settings(ContactMode::Agent);
    bounds.limits.messages_per_agent = 2;
    let mut world = World::with(bounds);
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.close(tcp(1));
    for call in ["m1", "m2"] {
        world.receive(pbx(), message(call));
        world.expect("SIP/2.0 202");
    }
    world.receive(pbx(), message("m3"));
    world.expect("SIP/2.0 480");
    come_back(&mut world, tcp(2));
    let first = world.expect("MESSAGE");
    world.receive(tcp(2), response(&first, "200 OK", ""));
    world.expect("MESSAGE");
    world.close(tcp(2));
    // There is room again.
    world.receive(pbx(), message("m4"));
    world.expect("SIP/2.0 202");
    world.assert_quiet();
    let mut bounds = settings(ContactMode::Agent);
    bounds.limits.messages_bytes = 2000;
    let mut world = World::with(bounds);
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.close(tcp(1));
    world.receive(pbx(), message("m1"));
    world.expect("SIP/2.0 202");
    world.receive(pbx(), message("m2"));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn without_message_hold_a_message_waits_as_long_as_its_sender() {
    let mut off = settings(ContactMode::Agent);
    off.wake.message_hold = Duration::ZERO;
    let mut world = World::with(off);
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    world.close(tcp(1));
    world.receive(pbx(), message("m1"));
    world.expect_nothing();
    assert_eq!(world.accept_push().notice, Notice::Wake);
    come_back(&mut world, tcp(2));
    let sent = world.expect("MESSAGE");
    world.receive(tcp(2), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

fn notify(call: &str, event: &str, state: &str) -> String {
    let text = to_agent("NOTIFY", "1001", call, &format!("Event: {event}\n"));
    text.replace("v=0", state)
}

#[test]
pub fn of_the_notifies_for_a_sleeping_phone_the_newest_of_each_event_package_is_delivered() {
    let mut world = asleep();
    for (call, event, state) in [
        ("n1", "message-summary", "a=1"),
        ("n2", "dialog", "b=1"),
        ("n3", "message-summary", "a=2"),
        ("n4", "Message-Summary", "a=3"),
        ("n5", "dialog", "b=2"),
    ] {
        world.receive(pbx(), notify(call, event, state));
        world.expect("SIP/2.0 200 OK");
        world.expect_nothing();
    }
    assert!(world.pushes.is_empty(), "a lamp wakes nobody");
    come_back(&mut world, tcp(2));
    for (call, body) in [("n4", b"a=3\r\n"), ("n5", b"b=2\r\n")] {
        let sent = world.expect("NOTIFY");
        assert_eq!(call_id(&sent), call);
        assert_eq!(sent.message.body(), body);
        world.expect_nothing();
        world.receive(tcp(2), response(&sent, "200 OK", ""));
    }
    world.expect_nothing();
    let replaced = (Kept::Notify, KeptOutcome::Replaced);
    let delivered = (Kept::Notify, KeptOutcome::Delivered);
    assert_eq!(
        outcomes(&world),
        [replaced, replaced, replaced, delivered, delivered]
    );
    world.assert_quiet();
}

#[test]
pub fn what_another_agents_phone_waits_for_is_its_own() {
    let mut world = asleep();
    world.register_for(tcp(5), "1002", FCM_TWO, TWO, 600);
    world.close(tcp(5));
    world.receive(pbx(), message("m1"));
    world.expect("SIP/2.0 202");
    // The phone changes hands: its new agent gets nothing of the old one's.
    world.register_for(tcp(2), "1002", FCM, ONE, 600);
    world.expect_nothing();
    assert_eq!(outcomes(&world), [(Kept::Message, KeptOutcome::Lost)]);
    world.assert_quiet();
}

/// Anything else outside a dialog: the phone is woken, and its sender is answered in time.
#[test]
pub fn another_request_waits_for_a_woken_phone_as_long_as_its_sender_does() {
    for method in ["SUBSCRIBE", "REFER", "INFO", "FROBNICATE"] {
        let mut world = asleep();
        world.receive(pbx(), to_agent(method, "1001", "x1", ""));
        world.expect_nothing();
        assert_eq!(world.accept_push().notice, Notice::Wake);
        world.advance(Duration::from_secs(3));
        come_back(&mut world, tcp(2));
        let sent = world.expect(method);
        assert_eq!(sent.to, Destination::Flow(tcp(2).id));
        world.receive(tcp(2), response(&sent, "200 OK", ""));
        world.expect("SIP/2.0 200");
        world.close(tcp(2));
        // Before Timer F of the sender, and never 408 (RFC 4320 §4.2).
        world.receive(pbx(), to_agent(method, "1001", "x2", ""));
        world.accept_push();
        world.advance(Duration::from_millis(9_999));
        world.expect_nothing();
        world.advance(Duration::from_millis(1));
        world.expect("SIP/2.0 480");
        world.assert_quiet();
    }
}

#[test]
pub fn what_is_kept_waits_for_a_2xx_of_the_register_that_is_durable() {
    let mut world = asleep();
    world.receive(pbx(), message("m1"));
    world.expect("SIP/2.0 202");
    world.is_store_slow = true;
    world.receive(tcp(2), register(tcp(2), "1001", FCM, ONE, 600, 9));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect_nothing();
    world.store();
    world.expect("SIP/2.0 200");
    world.expect("MESSAGE");
    world.expect_nothing();
}
