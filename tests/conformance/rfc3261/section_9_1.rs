//! RFC 3261 §9.1, sending CANCEL.
//!
//! > The Request-URI, Call-ID, To, the numeric part of CSeq, and From header fields in the CANCEL
//! > request MUST be identical to those in the request being cancelled, including tags. A CANCEL
//! > constructed by a client MUST have only a single Via header field value matching the top Via
//! > value in the request being cancelled.
//!
//! > the method part of the CSeq header field MUST have a value of CANCEL.
//!
//! > If the request being cancelled contains a Route header field, the CANCEL request MUST include
//! > that Route header field's values.
//!
//! > The CANCEL request MUST NOT contain any Require or Proxy-Require header fields.
//!
//! > If no provisional response has been received, the CANCEL request MUST NOT be sent; rather, the
//! > client MUST wait for the arrival of a provisional response before sending the request.
//!
//! > The destination address, port, and transport for the CANCEL MUST be identical to those used to
//! > send the original request.
//!
//! > If there is no final response for the original request in 64*T1 seconds […], the client SHOULD
//! > then consider the original transaction cancelled and SHOULD destroy the client transaction
//! > handling the original request.

use rouse::proto::Destination;
use rouse::proto::timer::Letter;
use rouse::proto::transaction::ClientEvent;

use crate::rig::{ASTERISK, PHONE, Rig, answer, hop, outgoing, tcp, udp};

const ELSEWHERE: &[u8] = b"SIP;cause=200;text=\"Call completed elsewhere\"";

#[test]
fn a_cancel_is_made_of_the_invite_and_the_reasons() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.sent();
    rig.cancel(id, &[ELSEWHERE, b"Q.850;cause=26"]);
    let expected = format!(
        "CANCEL sip:1003@192.0.2.10:49152;ob SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.5:5060;rport;branch={}\r\n\
         Route: <sip:edge.example.com;lr>\r\n\
         Route: <sip:inner.example.com;lr>\r\n\
         Route: <sip:last.example.com;lr>\r\n\
         Max-Forwards: 70\r\n\
         From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=as4a9390d5\r\n\
         Call-ID: 4c939bbe@198.51.100.7:5080\r\n\
         CSeq: 102 CANCEL\r\n\
         To: <sip:1003@192.0.2.10>\r\n\
         Reason: SIP;cause=200;text=\"Call completed elsewhere\"\r\n\
         Reason: Q.850;cause=26\r\n\
         Content-Length: 0\r\n\r\n",
        id.branch(3)
    );
    assert_eq!(rig.sent_one().text, expected);
}

#[test]
fn a_cancel_waits_for_a_provisional_response() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.run_until(100);
    rig.cancel(id, &[ELSEWHERE]);
    rig.run_until(1_600);
    assert_eq!(
        rig.sent_at(),
        [0, 500, 1_500].map(|at| (at, "INVITE".to_owned()))
    );
    assert_eq!(
        rig.answer_udp(id, 100, "INVITE"),
        Some(ClientEvent::Provisional)
    );
    let cancel = rig.sent_one();
    assert!(cancel.start_line().starts_with("CANCEL "));
    assert!(cancel.text.contains("Call completed elsewhere"));
    assert_eq!(
        rig.answer_udp(id, 180, "INVITE"),
        Some(ClientEvent::Provisional)
    );
    assert_eq!(rig.sent(), [], "one CANCEL");
}

#[test]
fn without_a_provisional_response_no_cancel_is_ever_sent() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    rig.cancel(id, &[]);
    rig.run_until(60_000);
    assert_eq!(rig.sent_at(), [(0, "INVITE".to_owned())]);
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn after_a_final_response_no_cancel_is_sent() {
    for status in [200, 486] {
        let mut rig = Rig::new();
        let early = rig.invite_udp();
        rig.cancel(early, &[]);
        rig.answer_udp(early, status, "INVITE");
        let late = rig.invite_udp();
        rig.answer_udp(late, status, "INVITE");
        rig.cancel(late, &[]);
        let sent = rig.sent();
        assert!(
            !sent
                .iter()
                .any(|sent| sent.start_line().starts_with("CANCEL"))
        );
        rig.run_until(32_000);
        rig.assert_quiet();
    }
}

#[test]
fn the_second_cancel_of_an_invite_is_not_sent() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.sent();
    rig.cancel(id, &[]);
    rig.cancel(id, &[ELSEWHERE]);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn only_an_invite_is_cancelled() {
    let mut rig = Rig::new();
    let to = Destination::Flow(udp(PHONE).id);
    let id = rig.start(to, false, |branch| outgoing("REGISTER", branch));
    rig.answer_udp(id, 100, "REGISTER");
    rig.sent();
    rig.cancel(id, &[]);
    assert_eq!(rig.sent(), []);
}

#[test]
fn the_cancel_goes_where_the_invite_went() {
    let mut rig = Rig::new();
    let id = rig.start(hop(ASTERISK), true, |branch| outgoing("INVITE", branch));
    rig.answer(&tcp(ASTERISK), &answer(id, 100, "INVITE"));
    rig.sent();
    rig.cancel(id, &[]);
    assert_eq!(rig.sent_one().to, hop(ASTERISK));
}

#[test]
fn a_cancel_over_udp_is_a_transaction_of_its_own() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.sent();
    rig.cancel(id, &[]);
    assert_eq!(
        rig.armed(),
        [(Letter::B, 32_000), (Letter::E, 500), (Letter::F, 32_000)]
    );
    rig.run_until(1_600);
    assert_eq!(
        rig.sent_at(),
        [0, 500, 1_500].map(|at| (at, "CANCEL".to_owned()))
    );
    assert_eq!(rig.answer_udp(id, 200, "CANCEL"), None);
    assert_eq!(rig.armed(), [(Letter::B, 30_400), (Letter::K, 5_000)]);
    assert_eq!(rig.answer_udp(id, 487, "INVITE"), Some(ClientEvent::Final));
    assert_eq!(rig.armed(), [(Letter::D, 32_000), (Letter::K, 5_000)]);
    rig.run_until(33_600);
    assert_eq!(rig.sent_at(), [(1_600, "ACK".to_owned())]);
    assert_eq!(rig.told, []);
    rig.assert_quiet();
}

/// chan_sip sends the 487 of the INVITE before the 200 of the CANCEL.
#[test]
fn the_487_may_come_before_the_200_of_the_cancel() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    rig.answer_tcp(id, 180, "INVITE");
    rig.cancel(id, &[]);
    rig.sent();
    assert_eq!(rig.answer_tcp(id, 487, "INVITE"), Some(ClientEvent::Final));
    assert_eq!(rig.sent_at(), [(0, "ACK".to_owned())]);
    assert_eq!(rig.table.count(), (0, 1), "the CANCEL's");
    assert_eq!(rig.answer_tcp(id, 200, "CANCEL"), None);
    assert_eq!(rig.drops, []);
    rig.assert_quiet();
}

#[test]
fn a_2xx_may_come_in_spite_of_the_cancel() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.cancel(id, &[]);
    assert_eq!(rig.answer_udp(id, 200, "INVITE"), Some(ClientEvent::Final));
    assert_eq!(rig.answer_udp(id, 200, "CANCEL"), None);
    assert_eq!(rig.armed(), [(Letter::K, 5_000), (Letter::M, 32_000)]);
}

#[test]
fn a_cancelled_invite_without_a_final_response_ends_after_64_t1() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.run_until(10_000);
    rig.cancel(id, &[]);
    rig.answer_udp(id, 200, "CANCEL");
    rig.answer_udp(id, 180, "INVITE");
    rig.run_until(41_999);
    assert_eq!(rig.told, []);
    rig.run_until(42_000);
    assert_eq!(rig.told, [(42_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn a_cancel_that_nobody_answers_ends_with_its_invite() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    rig.answer_tcp(id, 180, "INVITE");
    rig.cancel(id, &[]);
    rig.run_until(32_000);
    assert_eq!(rig.told, [(32_000, id, ClientEvent::Timeout)]);
    rig.assert_quiet();
}

#[test]
fn an_abandoned_invite_takes_its_cancel_along() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.cancel(id, &[]);
    rig.with(|table, fx| table.abandon(fx, id));
    rig.assert_quiet();
}
