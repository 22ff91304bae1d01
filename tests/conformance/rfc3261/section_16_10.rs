//! RFC 3261 §16.10, CANCEL processing (and §9.2, as the UAS of the CANCEL).
//!
//! Not claimed: a CANCEL without a response context is not forwarded statelessly. We forward no
//! INVITE without state, so it is nobody's: 481 (§9.2).

use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call, from_phone, values, with_phone, with_two_phones};
use crate::world::{beside, pbx, udp};

/// > If a matching response context is found, the element MUST immediately return a 200 (OK)
/// > response to the CANCEL request. […] Furthermore, the element MUST generate CANCEL requests for
/// > all pending client transactions in the context as described in Section 16.7 step 10.
#[test]
fn a_cancel_is_200_at_once_and_every_pending_branch_is_cancelled() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    for sent in &sent {
        answer(&mut world, sent, "180 Ringing", "");
        world.expect("SIP/2.0 180");
    }
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.header(HeaderName::CSeq), "102 CANCEL");
    for sent in &sent {
        let cancel = world.expect("CANCEL");
        assert_eq!(cancel.to, sent.to);
        answer(&mut world, &cancel, "200 OK", "");
    }
    world.expect_nothing();
    for sent in &sent {
        answer(&mut world, sent, "487 Request Terminated", "");
        world.expect("ACK");
    }
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

/// > subject to receiving a provisional response to that request as described in section 9.1
#[test]
fn a_branch_that_said_nothing_is_cancelled_with_its_first_1xx() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    answer(&mut world, &sent, "100 Trying", "");
    let cancel = world.expect("CANCEL");
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent, "487 Request Terminated", "");
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

#[test]
fn a_phone_that_answers_in_the_same_moment_is_not_lost() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("CANCEL");
    answer(&mut world, &sent, "200 OK", "");
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.header(HeaderName::CSeq), "102 INVITE");
    world.assert_quiet();
}

/// RFC 3261 §9.2:
///
/// > If the UAS did not find a matching transaction for the CANCEL according to the procedure above,
/// > it SHOULD respond to the CANCEL with a 481 (Call Leg/Transaction Does Not Exist).
#[test]
fn a_cancel_that_matches_nothing_is_481() {
    let mut world = with_phone(udp(1));
    world.receive(pbx(), beside("CANCEL", "1001", "c9", ""));
    world.expect("SIP/2.0 481");
    world.assert_quiet();
}

#[test]
fn a_cancel_after_the_final_response_is_200_and_changes_nothing() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
fn a_phone_cancels_its_own_call() {
    let mut world = with_phone(udp(1));
    let uri = "sip:600@pbx.example.com";
    let text = from_phone(udp(1), "INVITE", uri, "out", "");
    world.receive(udp(1), &text);
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.receive(udp(1), text.replace("INVITE", "CANCEL"));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL sip:600@pbx.example.com");
    assert_eq!(
        values(&cancel, HeaderName::Via)[..],
        values(&sent, HeaderName::Via)[..1]
    );
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent, "487 Request Terminated", "");
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}
