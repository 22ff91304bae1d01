//! RFC 3261 §17.1.3, matching responses to client transactions.
//!
//! > A response matches a client transaction under two conditions:
//! >
//! > 1. If the response has the same value of the branch parameter in the top Via header field as
//! >    the branch parameter in the top Via header field of the request that created the transaction.
//! >
//! > 2. If the method parameter in the CSeq header field matches the method of the request that
//! >    created the transaction.
//!
//! We ask for a third: that it comes from where the request went.

use rouse::proto::event::Drop;
use rouse::proto::transaction::{ClientEvent, ClientId};
use rouse::proto::{ConnectionId, Destination, FlowId, Transport};

use crate::rig::{ASTERISK, PHONE, Rig, answer, hop, outgoing, tcp, udp};

#[test]
fn another_branch_matches_nothing() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    let other_nonce = ClientId {
        nonce: id.nonce ^ 1,
        ..id
    };
    let other_slot = ClientId {
        slot: id.slot + 1,
        ..id
    };
    for wrong in [other_nonce, other_slot] {
        assert_eq!(rig.answer_udp(wrong, 200, "INVITE"), None);
    }
    let foreign = answer(id, 200, "INVITE").replace(&id.branch(3), "z9hG4bK7eedcd46");
    assert_eq!(rig.answer(&udp(PHONE), &foreign), None);
    let other_shard = answer(id, 200, "INVITE").replace(&id.branch(3), &id.branch(4));
    assert_eq!(rig.answer(&udp(PHONE), &other_shard), None);
    assert_eq!(rig.drops, [Drop::StrayResponse; 4]);
    assert_eq!(
        rig.answer_udp(id, 180, "INVITE"),
        Some(ClientEvent::Provisional)
    );
}

#[test]
fn another_method_matches_nothing() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    for method in ["CANCEL", "BYE", "invite"] {
        assert_eq!(rig.answer_udp(id, 200, method), None, "{method}");
    }
    assert_eq!(rig.drops, [Drop::StrayResponse; 3]);
    let to = Destination::Flow(udp(PHONE).id);
    let id = rig.start(to, false, |branch| outgoing("FETCH", branch));
    assert_eq!(rig.answer_udp(id, 200, "FETCHED"), None);
    assert_eq!(rig.answer_udp(id, 200, "FETCH"), Some(ClientEvent::Final));
}

#[test]
fn the_200_of_a_cancel_is_not_the_200_of_the_invite() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 180, "INVITE");
    rig.cancel(id, &[]);
    assert_eq!(rig.answer_udp(id, 200, "CANCEL"), None);
    assert_eq!(rig.answer_udp(id, 487, "INVITE"), Some(ClientEvent::Final));
    assert_eq!(rig.drops, []);
}

#[test]
fn a_response_from_elsewhere_is_forged() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    let text = answer(id, 486, "INVITE");
    rig.sent();
    for elsewhere in [udp("192.0.2.10:49153"), udp("192.0.2.11:49152"), tcp(PHONE)] {
        assert_eq!(rig.answer(&elsewhere, &text), None);
    }
    assert_eq!(rig.drops, [Drop::ForgedResponse; 3]);
    assert_eq!(rig.sent(), [], "no ACK");
    assert_eq!(rig.answer(&udp(PHONE), &text), Some(ClientEvent::Final));
}

#[test]
fn a_response_on_another_connection_is_forged() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    let mut other = tcp(PHONE);
    other.id = FlowId::Stream(ConnectionId(1));
    assert_eq!(rig.answer(&other, &answer(id, 200, "INVITE")), None);
    assert_eq!(rig.drops, [Drop::ForgedResponse]);
}

#[test]
fn a_hop_answers_on_any_connection_from_its_address_and_transport() {
    let mut rig = Rig::new();
    let id = rig.start(hop(ASTERISK), true, |branch| outgoing("REGISTER", branch));
    let text = answer(id, 200, "REGISTER");
    let mut tls = tcp(ASTERISK);
    tls.transport = Transport::Tls;
    for elsewhere in [tls, tcp("198.51.100.7:5081"), udp(ASTERISK)] {
        assert_eq!(rig.answer(&elsewhere, &text), None);
    }
    assert_eq!(rig.drops, [Drop::ForgedResponse; 3]);
    assert_eq!(rig.answer(&tcp(ASTERISK), &text), Some(ClientEvent::Final));
}

#[test]
fn a_slot_that_is_only_reserved_takes_no_response() {
    let mut rig = Rig::new();
    let id = rig.with(|table, fx| table.reserve(fx));
    assert_eq!(rig.answer_udp(id, 200, "INVITE"), None);
    assert_eq!(rig.drops, [Drop::StrayResponse]);
    rig.with(|table, fx| table.abandon(fx, id));
    rig.assert_quiet();
}

#[test]
fn the_branch_of_a_transaction_that_is_over_matches_nothing() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    rig.answer_tcp(id, 486, "INVITE");
    let next = rig.invite_tcp();
    assert_eq!(next.slot, id.slot, "the slot is used again");
    assert_eq!(rig.answer_tcp(id, 200, "INVITE"), None);
    assert_eq!(rig.drops, [Drop::StrayResponse]);
    rig.with(|table, fx| table.abandon(fx, id));
    assert_eq!(rig.table.count(), (0, 1), "the old name ends nothing");
}
