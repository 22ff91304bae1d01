//! What the schedules found: events that meet in an order that nobody thinks of.

use std::time::Duration;

use rouse::proto::push::{PushError, Reason};
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Flow, FlowId};

use crate::world::{
    APNS, Sent, World, beside, invite, ok_to_register, pbx, register, response, tcp, udp,
};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
const CONTACT: &str = "Contact: <sip:app@10.0.0.5:5060>\n";

fn second_app() -> String {
    APNS.replace("00aabb", "11aabb")
}

/// A phone that was called on one port has just registered from another, and is called there too.
fn called_twice() -> (World, Sent, Sent) {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    assert_eq!(first.to, Destination::Flow(udp(1).id));
    world.register_for(udp(2), "1001", APNS, ONE, 3600);
    let second = world.expect("INVITE");
    assert_eq!(second.to, Destination::Flow(udp(2).id));
    world.expect_nothing();
    (world, first, second)
}

fn hang_up(world: &mut World, flow: FlowId) {
    let ack = world.expect("ACK sip:app@10.0.0.5:5060");
    let bye = world.expect("BYE sip:app@10.0.0.5:5060");
    assert_eq!([&ack.to, &bye.to], [&Destination::Flow(flow); 2]);
    world.expect_nothing();
    let flow = if flow == udp(1).id { udp(1) } else { udp(2) };
    world.receive(flow, response(&bye, "200 OK", ""));
}

#[test]
pub fn a_phone_that_moved_and_rings_where_it_was_called_first_rings_once() {
    let (mut world, first, second) = called_twice();
    world.receive(udp(1), response(&first, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    // Should the second ring as well, it is cancelled.
    world.receive(udp(2), response(&second, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, Destination::Flow(udp(2).id));
    world.receive(udp(2), response(&cancel, "200 OK", ""));
    world.receive(udp(2), response(&second, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect_nothing();
    world.receive(udp(1), response(&first, "200 OK", CONTACT));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_moved_and_rings_where_it_is_stops_ringing_where_it_was() {
    let (mut world, first, second) = called_twice();
    world.receive(udp(2), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(udp(1), response(&first, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, Destination::Flow(udp(1).id));
    world.receive(udp(1), response(&cancel, "200 OK", ""));
    world.receive(udp(1), response(&first, "487 Request Terminated", ""));
    world.expect("ACK");
    world.receive(udp(2), response(&second, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_refuses_the_second_invite_as_merged_keeps_the_first() {
    let (mut world, first, second) = called_twice();
    world.receive(udp(2), response(&second, "482 Loop Detected", ""));
    world.expect("ACK");
    world.expect_nothing();
    world.receive(udp(1), response(&first, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(udp(1), response(&first, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn an_answer_to_the_first_invite_of_a_phone_that_moved_is_the_calls() {
    let (mut world, first, second) = called_twice();
    world.receive(udp(1), response(&first, "200 OK", CONTACT));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    // The other has no 1xx yet: its CANCEL waits for one.
    world.receive(udp(2), response(&second, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    world.receive(udp(2), response(&cancel, "200 OK", ""));
    world.receive(udp(2), response(&second, "487 Request Terminated", ""));
    world.expect("ACK");
    world.assert_quiet();
}

#[test]
pub fn an_invite_that_was_left_behind_is_not_sent_again() {
    let (mut world, _, second) = called_twice();
    world.receive(udp(2), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(31));
    world.expect_nothing();
}

#[test]
pub fn a_phone_that_answers_without_ringing_after_its_caller_was_told_487_is_hung_up() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.advance(Duration::from_secs(2));
    world.accept_push();
    world.sent.clear();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(udp(1), response(&sent, "200 OK", CONTACT));
    hang_up(&mut world, udp(1).id);
    world.assert_quiet();
}

#[test]
pub fn phones_of_a_lower_q_do_not_wait_for_a_late_one() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.register_for(tcp(2), "1001", &second_app(), &format!("{TWO};q=0.5"), 3600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.advance(Duration::from_secs(25));
    let turn = world.expect("OPTIONS");
    assert_eq!(turn.to, Destination::Flow(tcp(2).id));
    world.receive(tcp(2), response(&turn, "200 OK", ""));
    let sent = world.expect("INVITE");
    world.receive(tcp(2), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_late_phone_that_changes_hands_is_forgotten_with_its_call() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.register_for(tcp(2), "1002", APNS, ONE, 3600);
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn a_phone_that_rang_after_its_push_and_lost_its_connection_is_woken_again() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.advance(Duration::from_secs(2));
    world.accept_push();
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.close(tcp(1));
    world.accept_push();
    world.register_for(tcp(2), "1001", APNS, ONE, 3600);
    let sent = world.expect("INVITE");
    world.receive(tcp(2), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_ringing_phone_whose_registration_ended_and_then_its_connection_rings_no_more() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", ONE, 60);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(70));
    assert_eq!(world.count().0, 0);
    world.expect_nothing();
    world.close(tcp(1));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn a_phone_without_push_that_came_back_as_another_instance_is_called_once() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", "", ONE, 3600);
    world.register_for(udp(1), "1001", "", TWO, 3600);
    assert_eq!(world.count().0, 1);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.expect_nothing();
    world.receive(udp(1), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    // Another socket is another phone.
    world.receive(udp(2), register(udp(2), "1001", "", TWO, 3600, 77));
    let relayed = world.expect("REGISTER");
    assert!(relayed.header(HeaderName::Contact).contains("rouse="));
}

#[test]
pub fn a_token_that_died_under_a_refresh_is_pushed_no_more() {
    let mut world = World::new();
    let fcm = "pn-provider=fcm;pn-param=project;pn-prid=abc";
    world.register_for(tcp(1), "1001", fcm, ONE, 3600);
    world.close(tcp(1));
    world.advance(Duration::from_secs(3240));
    assert_eq!(world.pushes.len(), 1);
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("UNREGISTERED"),
    });
    // Calls have no other token: the device is gone.
    assert_eq!(world.count().0, 0);
    world.advance(Duration::from_secs(359));
    assert!(world.pushes.is_empty());
    // Of two tokens the other one still wakes for calls.
    let two_tokens = format!("{}:voip&{}:remote", "0a".repeat(32), "0b".repeat(32));
    let apns = format!(
        "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip&remote;pn-prid={two_tokens}"
    );
    world.register_for(tcp(2), "1002", &apns, TWO, 3600);
    world.close(tcp(2));
    world.advance(Duration::from_secs(3240));
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("Unregistered"),
    });
    world.advance(Duration::from_secs(200));
    assert!(world.pushes.is_empty());
    world.receive(pbx(), invite("1002", "c2"));
    world.accept_push();
}

#[test]
pub fn a_phone_that_leaves_and_is_back_before_that_is_written_stays() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.is_store_slow = true;
    world.receive(tcp(1), register(tcp(1), "1001", APNS, ONE, 0, 50));
    let leaves = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&leaves));
    world.advance(Duration::from_millis(40));
    world.receive(tcp(2), register(tcp(2), "1001", APNS, ONE, 3600, 51));
    let returns = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&returns));
    world.store();
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
    world.is_store_slow = false;
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
}

#[test]
pub fn two_registers_of_one_device_that_meet_leave_one_binding() {
    let mut world = World::new();
    world.receive(udp(1), register(udp(1), "1001", APNS, ONE, 3600, 50));
    let first = world.expect("REGISTER");
    world.receive(udp(2), register(udp(2), "1001", APNS, TWO, 3600, 51));
    let second = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&first));
    world.receive(pbx(), ok_to_register(&second));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (1, 1));
}

/// An app that was installed anew while its first REGISTER was under way is still that phone.
#[test]
pub fn a_call_between_two_registers_of_one_device_reaches_it_where_it_is() {
    let mut world = World::new();
    world.receive(udp(1), register(udp(1), "1001", APNS, ONE, 3600, 50));
    let first = world.expect("REGISTER");
    world.receive(tcp(2), register(tcp(2), "1001", APNS, TWO, 3600, 51));
    let second = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&first));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(1).id));
    // It does not answer there, and is woken.
    world.advance(Duration::from_secs(3));
    world.accept_push();
    world.sent.clear();
    world.receive(pbx(), ok_to_register(&second));
    world.expect("SIP/2.0 200");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
    assert_eq!(world.count(), (1, 1));
}

/// What a REGISTER under way says of a device that has a binding counts only when it is granted.
#[test]
pub fn a_register_that_is_not_granted_yet_takes_no_binding_away() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", "", ONE, 3600);
    // From the same place, as another instance: not answered yet.
    world.receive(udp(1), register(udp(1), "1001", "", TWO, 3600, 51));
    world.expect("REGISTER");
    world.receive(udp(2), register(udp(2), "1001", "", TWO, 3600, 52));
    let third = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&third));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (2, 2));
}

#[test]
pub fn a_phone_that_changed_hands_after_its_token_died_rings_for_its_new_agent_alone() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 3600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS");
    world.advance(Duration::from_millis(400));
    let reason = Reason::new("Unregistered");
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason,
    });
    world.expect("SIP/2.0 480");
    world.receive(pbx(), beside("ACK", "1001", "c1", ""));
    world.advance(Duration::from_secs(40));
    world.sent.clear();
    // It has no token any more, and its datagram flow is all that is known of it.
    assert_eq!(world.count(), (1, 1));
    world.register_for(udp(2), "1002", APNS, ONE, 3600);
    assert_eq!(world.count(), (1, 1));
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 480");
    world.expect_nothing();
}

#[test]
pub fn a_late_phone_that_does_not_answer_holds_up_no_cancelled_call() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.register_for(udp(2), "1001", "", TWO, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = [world.expect("INVITE"), world.expect("INVITE")];
    let on_stream = sent
        .iter()
        .find(|sent| sent.to == Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(on_stream.unwrap(), "180 Ringing", ""));
    world.close(tcp(1));
    world.accept_push();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.advance(Duration::from_secs(10));
    world.sent.clear();
    world.register_for(tcp(3), "1001", APNS, ONE, 3600);
    world.expect("INVITE");
    // The other phone never said a word: Timer B of its INVITE ends the call, not the late one's.
    world.advance(Duration::from_secs(22));
    let is_over = |sent: &Sent| sent.first_line().starts_with("SIP/2.0 487");
    assert!(world.sent.iter().any(is_over));
}

/// A phone that cannot be pushed, and whose caller has given up before it said a word.
fn cancelled_in_silence(flow: Flow) -> (World, Sent) {
    let mut world = World::new();
    world.register_for(flow, "1001", "", ONE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.advance(Duration::from_secs(5));
    world.sent.clear();
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    (world, sent)
}

#[test]
pub fn a_cancelled_phone_that_moved_ends_its_call_with_its_old_connection() {
    let (mut world, sent) = cancelled_in_silence(tcp(1));
    world.register_for(tcp(2), "1001", "", ONE, 3600);
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    world.expect("CANCEL");
    // The flow where the phone is says nothing of the one where it rings.
    world.close(tcp(2));
    world.expect_nothing();
    world.close(tcp(1));
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

#[test]
pub fn a_caller_waits_no_longer_for_a_late_ring_than_for_his_cancel() {
    let (mut world, sent) = cancelled_in_silence(udp(1));
    world.advance(Duration::from_secs(20));
    world.sent.clear();
    world.receive(udp(1), response(&sent, "180 Ringing", ""));
    world.expect("CANCEL");
    // The CANCEL gets lost, and every copy of it. The caller hears 64*T1 after his own.
    world.advance(Duration::from_millis(11_900));
    assert!(
        world
            .sent
            .iter()
            .all(|sent| sent.first_line().starts_with("CANCEL"))
    );
    world.advance(Duration::from_millis(200));
    let last = world.sent.pop_back().unwrap();
    assert!(last.first_line().starts_with("SIP/2.0 487"));
    world.sent.clear();
    // Should it answer after that, it is hung up.
    world.receive(udp(1), response(&sent, "200 OK", CONTACT));
    hang_up(&mut world, udp(1).id);
    world.assert_quiet();
}

/// REGISTERs that arrive one second after the other, and are relayed.
fn ask(world: &mut World, flow: Flow, user: &str, expires: u32) -> Sent {
    world.advance(Duration::from_secs(1));
    world.sent.clear();
    let number = world.number();
    world.receive(flow, register(flow, user, APNS, ONE, expires, number));
    world.expect("REGISTER")
}

/// The same, with a CSeq of its own.
fn ask_as(world: &mut World, flow: Flow, user: &str, number: u32) -> Sent {
    world.advance(Duration::from_secs(1));
    world.sent.clear();
    world.receive(flow, register(flow, user, APNS, ONE, 3600, number));
    world.expect("REGISTER")
}

fn grant(world: &mut World, relayed: &Sent) {
    world.receive(pbx(), ok_to_register(relayed));
    world.expect("SIP/2.0 200");
}

#[test]
pub fn of_two_registers_answered_in_the_wrong_order_the_last_to_arrive_counts() {
    let mut world = World::new();
    let first = ask(&mut world, udp(1), "1001", 3600);
    let second = ask(&mut world, udp(2), "1001", 3600);
    grant(&mut world, &second);
    grant(&mut world, &first);
    assert_eq!(world.count(), (1, 1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(2).id));
    world.receive(udp(2), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_register_whose_connection_is_gone_does_not_count_as_the_last() {
    let mut world = World::new();
    let first = ask(&mut world, udp(1), "1001", 3600);
    let second = ask(&mut world, tcp(2), "1001", 3600);
    world.close(tcp(2));
    grant(&mut world, &second);
    // Nobody is there: it would have been called in vain.
    assert_eq!(world.count(), (1, 0));
    grant(&mut world, &first);
    assert_eq!(world.count(), (1, 1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(1).id));
}

#[test]
pub fn a_phone_that_leaves_in_the_wrong_order_stays() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 3600);
    let leaves = ask(&mut world, udp(1), "1001", 0);
    let returns = ask(&mut world, udp(2), "1001", 3600);
    grant(&mut world, &returns);
    grant(&mut world, &leaves);
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
}

#[test]
pub fn a_phone_that_changed_hands_in_the_wrong_order_rings_for_its_new_agent_alone() {
    let mut world = World::new();
    let before = ask(&mut world, udp(1), "1001", 3600);
    let after = ask(&mut world, udp(2), "1002", 3600);
    grant(&mut world, &after);
    grant(&mut world, &before);
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
    world.receive(pbx(), invite("1002", "c2"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(2).id));
}

#[test]
pub fn a_phone_that_changed_hands_after_its_token_died_and_a_restart_rings_for_its_new_agent() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 3600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.advance(Duration::from_millis(400));
    let reason = Reason::new("Unregistered");
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason,
    });
    world.restart();
    world.sent.clear();
    assert_eq!(world.count(), (1, 1));
    world.register_for(udp(2), "1002", APNS, ONE, 3600);
    assert_eq!(world.count(), (1, 1));
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 480");
    world.expect_nothing();
}

#[test]
pub fn a_phone_installed_anew_whose_registration_ended_while_it_was_woken_gets_its_call() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 60);
    world.register_for(tcp(2), "1001", APNS, TWO, 60);
    world.close(tcp(2));
    // Asterisk grants at least an hour.
    world.advance(Duration::from_secs(3590));
    world.pushes.clear();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.advance(Duration::from_secs(15));
    assert_eq!(world.count(), (0, 0));
    world.register_for(tcp(3), "1001", APNS, TWO, 3600);
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(tcp(3).id));
    world.receive(tcp(3), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_copy_of_an_older_register_that_arrives_last_does_not_count() {
    let mut world = World::new();
    let newer = ask_as(&mut world, udp(2), "1001", 60);
    let older = ask_as(&mut world, udp(1), "1001", 59);
    grant(&mut world, &newer);
    grant(&mut world, &older);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(2).id));
    world.receive(udp(2), response(&sent, "486 Busy Here", ""));
    world.advance(Duration::from_secs(40));
    // An app that counts anew is no copy.
    let anew = ask_as(&mut world, udp(3), "1001", 1);
    grant(&mut world, &anew);
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(udp(3).id));
}

#[test]
pub fn a_phone_that_declines_where_it_was_called_first_declines_the_call() {
    let (mut world, first, second) = called_twice();
    world.receive(udp(2), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(udp(1), response(&first, "603 Decline", ""));
    world.expect("ACK");
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, Destination::Flow(udp(2).id));
    world.receive(udp(2), response(&cancel, "200 OK", ""));
    world.receive(udp(2), response(&second, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 603");
    world.assert_quiet();
}

#[test]
pub fn a_phone_whose_first_invite_ends_with_its_connection_keeps_the_second() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    world.register_for(tcp(2), "1001", APNS, ONE, 3600);
    let second = world.expect("INVITE");
    world.receive(tcp(1), response(&first, "100 Trying", ""));
    world.close(tcp(1));
    world.expect_nothing();
    world.receive(tcp(2), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(tcp(2), response(&second, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_ringing_phone_whose_registration_ended_gets_its_call_where_it_registers() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 3600);
    world.advance(Duration::from_secs(3590));
    world.pushes.clear();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let asked = world.expect("OPTIONS");
    world.receive(tcp(1), response(&asked, "200 OK", ""));
    let first = world.expect("INVITE");
    world.receive(tcp(1), response(&first, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(15));
    assert_eq!(world.count(), (0, 0));
    let relayed = ask(&mut world, tcp(2), "1001", 3600);
    world.close(tcp(1));
    world.expect_nothing();
    grant(&mut world, &relayed);
    let second = world.expect("INVITE");
    assert_eq!(second.to, Destination::Flow(tcp(2).id));
    world.receive(tcp(2), response(&second, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}
