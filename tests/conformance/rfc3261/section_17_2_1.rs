//! RFC 3261 §17.2.1, the INVITE server transaction, but for what RFC 6026 changed.
//!
//! > The TU passes any number of provisional responses to the server transaction. So long as the
//! > server transaction is in the "Proceeding" state, each of these MUST be passed to the transport
//! > layer for transmission. […] If a request retransmission is received while in the "Proceeding"
//! > state, the most recent provisional response that was received from the TU MUST be passed to the
//! > transport layer for retransmission.
//!
//! > While in the "Proceeding" state, if the TU passes a response with status code from 300 to 699 to
//! > the server transaction, the response MUST be passed to the transport layer for transmission, and
//! > the state machine MUST enter the "Completed" state. For unreliable transports, timer G is set to
//! > fire in T1 seconds, and is not set to fire for reliable transports.
//!
//! > When the "Completed" state is entered, timer H MUST be set to fire in 64*T1 seconds for all
//! > transports. […] timer G is reset with a value that doubles, unless that value exceeds T2, in
//! > which case it is reset with the value of T2. […] while in the "Completed" state, if a request
//! > retransmission is received, the server SHOULD pass the response to the transport for
//! > retransmission.
//!
//! > If an ACK is received while the server transaction is in the "Completed" state, the server
//! > transaction MUST transition to the "Confirmed" state.
//!
//! > If timer H fires while in the "Completed" state, […] the server transaction MUST transition to
//! > the "Terminated" state
//!
//! > timer I is set to fire in T4 seconds for unreliable transports, and zero seconds for reliable
//! > transports. Once timer I fires, the server MUST transition to the "Terminated" state.

use rouse::proto::timer::Letter;
use rouse::proto::transaction::Received;

use crate::rig::{ASTERISK, Rig, incoming, reply, tcp, udp};

#[test]
fn every_provisional_response_is_sent_and_the_latest_answers_copies_of_the_invite() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("INVITE")),
        Received::Retransmission
    );
    assert_eq!(rig.sent(), [], "there is no response yet");
    for status in [100, 182, 180, 180] {
        rig.respond(id, status);
        assert_eq!(rig.sent_one().text, reply(status, "INVITE", ""));
        assert_eq!(
            rig.request(&udp(ASTERISK), &incoming("INVITE")),
            Received::Retransmission
        );
        assert_eq!(rig.sent_one().text, reply(status, "INVITE", ""));
    }
    assert_eq!(rig.armed(), []);
    assert!(rig.table.awaits_final(id));
}

#[test]
fn a_final_response_over_udp_is_sent_again_until_timer_h() {
    for status in [300, 480, 503, 699] {
        let mut rig = Rig::new();
        let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
        rig.respond(id, status);
        assert!(!rig.table.awaits_final(id));
        assert_eq!(rig.armed(), [(Letter::G, 500), (Letter::H, 32_000)]);
        rig.run_until(60_000);
        let sent = rig.sent();
        let times: Vec<u64> = sent.iter().map(|sent| sent.at).collect();
        assert_eq!(
            times,
            [
                0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
            ]
        );
        assert!(
            sent.iter()
                .all(|copy| copy.text == reply(status, "INVITE", ""))
        );
        rig.assert_quiet();
    }
}

#[test]
fn timer_h_ends_the_transaction_at_64_t1_and_not_before() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.run_until(7);
    rig.respond(id, 480);
    rig.run_until(32_006);
    assert_eq!(rig.table.count(), (1, 0));
    rig.run_until(32_007);
    rig.assert_quiet();
}

#[test]
fn a_final_response_over_tcp_is_sent_once_and_waits_for_its_ack() {
    let mut rig = Rig::new();
    let id = rig.new_request(&tcp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 480);
    assert_eq!(rig.armed(), [(Letter::H, 32_000)]);
    rig.run_until(60_000);
    assert_eq!(rig.sent().len(), 1);
    rig.assert_quiet();
}

#[test]
fn a_copy_of_the_invite_is_answered_with_the_final_response() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 180);
    rig.respond(id, 480);
    rig.sent();
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("INVITE")),
        Received::Retransmission
    );
    assert_eq!(rig.sent_one().text, reply(480, "INVITE", ""));
}

#[test]
fn an_ack_over_udp_stops_the_copies_and_its_own_copies_are_absorbed_for_t4() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 480);
    rig.run_until(600);
    rig.sent();
    for after in [600, 1_000, 5_599] {
        rig.run_until(after);
        assert_eq!(
            rig.request(&udp(ASTERISK), &incoming("ACK")),
            Received::Acked
        );
        assert_eq!(rig.armed(), [(Letter::I, 5_600 - after)]);
    }
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("INVITE")),
        Received::Retransmission,
        "a late copy of the INVITE is no new call"
    );
    assert_eq!(rig.sent(), []);
    rig.run_until(5_600);
    rig.assert_quiet();
}

#[test]
fn an_ack_over_tcp_ends_the_transaction() {
    let mut rig = Rig::new();
    let id = rig.new_request(&tcp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 480);
    assert_eq!(
        rig.request(&tcp(ASTERISK), &incoming("ACK")),
        Received::Acked
    );
    rig.assert_quiet();
}

#[test]
fn after_a_final_response_no_provisional_and_no_other_non_2xx_is_sent() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 480);
    rig.sent();
    for status in [180, 486, 603] {
        rig.respond(id, status);
    }
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_response_to_a_transaction_that_is_over_is_not_sent() {
    let mut rig = Rig::new();
    let id = rig.new_request(&tcp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 480);
    rig.request(&tcp(ASTERISK), &incoming("ACK"));
    let next = rig.new_request(&tcp(ASTERISK), &incoming("INVITE"));
    assert_eq!(next.slot, id.slot, "the slot is used again");
    rig.sent();
    rig.respond(id, 200);
    assert_eq!(rig.sent(), []);
    assert!(!rig.table.awaits_final(id));
    assert!(rig.table.awaits_final(next));
}

/// RFC 3261 §16.7 step 5:
///
/// > After a final response has been sent on the server transaction, the following responses MUST be
/// > forwarded immediately: - Any 2xx response to an INVITE request
#[test]
fn a_2xx_after_another_final_response_is_sent() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 408);
    rig.sent();
    rig.respond(id, 200);
    assert_eq!(rig.sent_one().text, reply(200, "INVITE", ""));
    assert_eq!(rig.armed(), [(Letter::G, 500), (Letter::H, 32_000)]);
}
