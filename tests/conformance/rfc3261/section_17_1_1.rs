//! RFC 3261 §17.1.1, the INVITE client transaction, but for what RFC 6026 changed.
//!
//! > If an unreliable transport is being used, the client transaction MUST start timer A with a
//! > value of T1. […] For any transport, the client transaction MUST start timer B with a value of
//! > 64*T1 seconds
//!
//! > This process MUST continue so that the request is retransmitted with intervals that double
//! > after each transmission.
//!
//! > Whatever the value of T1, the exponential backoffs on retransmissions described in this
//! > section MUST be used.
//!
//! > The client transaction MUST NOT generate an ACK. [when timer B fires]
//!
//! > Furthermore, the provisional response MUST be passed to the TU. Any further provisional
//! > responses MUST be passed up to the TU while in the "Proceeding" state.
//!
//! > The client transaction MUST pass the received response up to the TU, and the client
//! > transaction MUST generate an ACK request, even if the transport is reliable […] The ACK MUST be
//! > sent to the same address, port, and transport to which the original request was sent.
//!
//! > Any retransmissions of the final response that are received while in the "Completed" state MUST
//! > cause the ACK to be re-passed to the transport layer for retransmission, but the newly received
//! > response MUST NOT be passed up to the TU.
//!
//! > If timer D fires while the client transaction is in the "Completed" state, the client
//! > transaction MUST move to the terminated state.

use rouse::proto::Destination;
use rouse::proto::timer::Letter;
use rouse::proto::transaction::ClientEvent;

use crate::rig::{ASTERISK, PHONE, Rig, hop, outgoing, tcp, udp};

#[test]
fn an_invite_over_udp_is_sent_seven_times_and_times_out_after_64_t1() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    assert_eq!(rig.armed(), [(Letter::A, 500), (Letter::B, 32_000)]);
    rig.run_until(60_000);
    let sent: Vec<u64> = rig.sent().iter().map(|sent| sent.at).collect();
    assert_eq!(sent, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn each_copy_of_an_invite_is_the_invite() {
    let mut rig = Rig::new();
    rig.invite_udp();
    rig.run_until(31_999);
    let sent = rig.sent();
    for copy in &sent {
        assert_eq!(copy.text, sent[0].text);
        assert_eq!(copy.to, Destination::Flow(udp(PHONE).id));
    }
}

#[test]
fn an_invite_over_tcp_is_sent_once_and_times_out_after_64_t1() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    assert_eq!(rig.armed(), [(Letter::B, 32_000)]);
    rig.run_until(60_000);
    assert_eq!(rig.sent_at(), [(0, "INVITE".to_owned())]);
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn a_provisional_response_stops_timers_a_and_b() {
    for status in [100, 180, 199] {
        let mut rig = Rig::new();
        let id = rig.invite_udp();
        rig.run_until(600);
        assert_eq!(
            rig.answer_udp(id, status, "INVITE"),
            Some(ClientEvent::Provisional)
        );
        assert_eq!(rig.armed(), []);
        rig.run_until(200_000);
        assert_eq!(rig.sent().len(), 2, "the INVITE and one copy");
        assert_eq!(rig.table.count(), (0, 1), "Timer C is the proxy's");
    }
}

#[test]
fn every_provisional_response_is_passed_to_the_user() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    for status in [100, 180, 180, 183] {
        assert_eq!(
            rig.answer_tcp(id, status, "INVITE"),
            Some(ClientEvent::Provisional)
        );
    }
}

#[test]
fn a_non_2xx_over_udp_is_acknowledged_and_reported_once() {
    for provisional in [false, true] {
        for status in [300, 404, 487, 503, 699] {
            let mut rig = Rig::new();
            let id = rig.invite_udp();
            if provisional {
                rig.answer_udp(id, 180, "INVITE");
            }
            rig.sent();
            assert_eq!(
                rig.answer_udp(id, status, "INVITE"),
                Some(ClientEvent::Final)
            );
            let first = rig.sent_one();
            assert!(first.start_line().starts_with("ACK "), "{first:?}");
            assert_eq!(rig.armed(), [(Letter::D, 32_000)]);
            rig.run_until(10_000);
            assert_eq!(rig.answer_udp(id, status, "INVITE"), None);
            let second = rig.sent_one();
            assert_eq!(second.text, first.text);
            rig.run_until(31_999);
            assert_eq!(rig.table.count(), (0, 1));
            rig.run_until(32_000);
            rig.assert_quiet();
            assert_eq!(rig.told, []);
            assert_eq!(rig.drops, []);
        }
    }
}

#[test]
fn a_non_2xx_over_tcp_is_acknowledged_and_ends_the_transaction() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    rig.sent();
    assert_eq!(rig.answer_tcp(id, 486, "INVITE"), Some(ClientEvent::Final));
    let ack = rig.sent_one();
    assert_eq!(ack.to, Destination::Flow(tcp(PHONE).id));
    rig.assert_quiet();
}

#[test]
fn the_ack_goes_where_the_invite_went() {
    let mut rig = Rig::new();
    let to = hop(ASTERISK);
    let id = rig.start(to.clone(), true, |branch| outgoing("INVITE", branch));
    rig.sent();
    let text = crate::rig::answer(id, 404, "INVITE");
    assert_eq!(rig.answer(&tcp(ASTERISK), &text), Some(ClientEvent::Final));
    assert_eq!(rig.sent_one().to, to);
}

/// > The ACK request constructed by the client transaction MUST contain values for the Call-ID,
/// > From, and Request-URI that are equal to the values of those header fields in the request […].
/// > The To header field in the ACK MUST equal the To header field in the response being
/// > acknowledged […]. The ACK MUST contain a single Via header field, and this MUST be equal to the
/// > top Via header field of the original request. The CSeq header field in the ACK MUST contain the
/// > same value for the sequence number as was present in the original request, but the method
/// > parameter MUST be equal to "ACK".
/// >
/// > If the INVITE request whose response is being acknowledged had Route header fields, those
/// > header fields MUST appear in the ACK.
#[test]
fn the_ack_of_a_non_2xx_is_made_of_the_invite_and_the_response() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.sent();
    rig.answer_udp(id, 480, "INVITE");
    let expected = format!(
        "ACK sip:1003@192.0.2.10:49152;ob SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.5:5060;rport;branch={}\r\n\
         Route: <sip:edge.example.com;lr>\r\n\
         Route: <sip:inner.example.com;lr>\r\n\
         Route: <sip:last.example.com;lr>\r\n\
         Max-Forwards: 70\r\n\
         From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=as4a9390d5\r\n\
         Call-ID: 4c939bbe@198.51.100.7:5080\r\n\
         CSeq: 102 ACK\r\n\
         To: <sip:1003@192.0.2.10>;tag=6G3claj\r\n\
         Content-Length: 0\r\n\r\n",
        id.branch(3)
    );
    assert_eq!(rig.sent_one().text, expected);
}

#[test]
fn a_provisional_response_after_the_final_one_is_absorbed() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 486, "INVITE");
    rig.sent();
    assert_eq!(rig.answer_udp(id, 180, "INVITE"), None);
    assert_eq!(rig.sent(), []);
}
