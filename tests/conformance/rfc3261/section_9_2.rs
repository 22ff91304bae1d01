//! RFC 3261 §9.2, receiving CANCEL.
//!
//! > The TU determines the transaction to be cancelled by taking the CANCEL request, and then
//! > assuming that the request method is anything but CANCEL or ACK and applying the transaction
//! > matching procedures of Section 17.2.3. The matching transaction is the one to be cancelled.

use rouse::proto::transaction::{Received, ServerId};

use crate::rig::{ASTERISK, Rig, incoming, incoming_via, reply, tcp, udp};

fn cancelled(rig: &mut Rig, text: &str) -> (ServerId, Option<ServerId>) {
    match rig.request(&udp(ASTERISK), text) {
        Received::Cancel { cancel, invite } => (cancel, invite),
        other => panic!("not a CANCEL: {other:?}"),
    }
}

/// chan_sip's CANCEL has no Route where its INVITE had some; PJSIP's has every Route twice.
#[test]
fn a_cancel_matches_its_invite_whatever_its_route_is() {
    let route = "Route: <sip:a.example.com;lr>\r\nMax-Forwards";
    let twice = "Route: <sip:a.example.com;lr>\r\nRoute: <sip:a.example.com;lr>\r\nMax-Forwards";
    for cancel_route in ["Max-Forwards", route, twice] {
        let mut rig = Rig::new();
        let invite = rig.new_request(
            &udp(ASTERISK),
            &incoming("INVITE").replace("Max-Forwards", route),
        );
        let cancel = incoming("CANCEL").replace("Max-Forwards", cancel_route);
        let (_, matched) = cancelled(&mut rig, &cancel);
        assert_eq!(matched, Some(invite));
    }
}

#[test]
fn a_cancel_is_a_transaction_of_its_own() {
    let mut rig = Rig::new();
    let invite = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(invite, 100);
    let (cancel, _) = cancelled(&mut rig, &incoming("CANCEL"));
    assert!(rig.table.awaits_final(invite));
    assert!(rig.table.awaits_final(cancel));
    rig.sent();
    rig.respond_text(cancel, 200, &reply(200, "CANCEL", ""));
    rig.respond(invite, 487);
    rig.sent();
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("CANCEL")),
        Received::Retransmission
    );
    assert_eq!(rig.sent_one().text, reply(200, "CANCEL", ""));
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("ACK")),
        Received::Acked
    );
    rig.run_until(32_000);
    rig.assert_quiet();
}

#[test]
fn a_cancel_finds_an_invite_that_is_answered_already() {
    for status in [200, 486] {
        let mut rig = Rig::new();
        let invite = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
        rig.respond(invite, status);
        let (_, matched) = cancelled(&mut rig, &incoming("CANCEL"));
        assert_eq!(matched, Some(invite));
        assert!(!rig.table.awaits_final(invite));
    }
}

#[test]
fn a_cancel_of_another_branch_cseq_or_method_matches_nothing() {
    let mut rig = Rig::new();
    rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.new_request(
        &udp(ASTERISK),
        &incoming("OPTIONS").replace("7eedcd46", "7eedcd47"),
    );
    let cancel = incoming("CANCEL");
    for other in [
        cancel.replace("7eedcd46", "7eedcd47"),
        cancel.replace("CSeq: 102", "CSeq: 103"),
        incoming_via("CANCEL", "SIP/2.0/UDP 198.51.100.7:5080"),
    ] {
        assert_eq!(cancelled(&mut rig, &other).1, None);
    }
}

/// Beyond the RFC: whoever guesses a branch cannot end other people's calls.
#[test]
fn a_cancel_from_another_address_matches_nothing() {
    let mut rig = Rig::new();
    let invite = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    let received = rig.request(&udp("192.0.2.66:5080"), &incoming("CANCEL"));
    assert!(
        matches!(received, Received::Cancel { invite: None, .. }),
        "{received:?}"
    );
    assert!(rig.table.awaits_final(invite));
}

#[test]
fn a_cancel_may_come_on_another_connection_from_the_same_address() {
    let mut rig = Rig::new();
    let invite = rig.new_request(&tcp(ASTERISK), &incoming("INVITE"));
    let received = rig.request(&tcp("198.51.100.7:40001"), &incoming("CANCEL"));
    let Received::Cancel {
        invite: matched, ..
    } = received
    else {
        panic!("not a CANCEL: {received:?}");
    };
    assert_eq!(matched, Some(invite));
}

#[test]
fn an_old_peers_cancel_is_matched_by_what_it_says() {
    let mut rig = Rig::new();
    let via = "SIP/2.0/UDP 198.51.100.7:5080";
    let invite = rig.new_request(&udp(ASTERISK), &incoming_via("INVITE", via));
    let (_, matched) = cancelled(&mut rig, &incoming_via("CANCEL", via));
    assert_eq!(matched, Some(invite));
}
