//! RFC 3261 §17.2.3, matching requests to server transactions.
//!
//! > The request matches a transaction if:
//! >
//! > 1. the branch parameter in the request is equal to the one in the top Via header field of the
//! >    request that created the transaction, and
//! >
//! > 2. the sent-by value in the top Via of the request is equal to the one in the request that
//! >    created the transaction, and
//! >
//! > 3. the method of the request matches the one that created the transaction, except for ACK,
//! >    where the method of the request that created the transaction is INVITE.
//!
//! > If the branch parameter in the top Via header field is not present, or does not contain the
//! > magic cookie, the following procedures are used. […] The INVITE request matches a transaction
//! > if the Request-URI, To tag, From tag, Call-ID, CSeq, and top Via header field match […]. The ACK
//! > request matches a transaction if the Request-URI, From tag, Call-ID, CSeq number (not the
//! > method), and top Via header field match […], and the To tag of the ACK matches the To tag of the
//! > response sent by the server transaction.

use rouse::proto::event::Drop;
use rouse::proto::transaction::Received;

use crate::rig::{ASTERISK, Rig, incoming, incoming_via, reply, udp};

const OLD_VIA: &str = "SIP/2.0/UDP 198.51.100.7:5080";

#[test]
fn branch_sent_by_and_method_make_the_transaction() {
    let mut rig = Rig::new();
    let from = udp(ASTERISK);
    rig.new_request(&from, &incoming("OPTIONS"));
    assert_eq!(
        rig.request(&from, &incoming("OPTIONS")),
        Received::Retransmission
    );
    for via in [
        "SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7eedcd47;rport",
        "SIP/2.0/UDP 198.51.100.7:5081;branch=z9hG4bK7eedcd46;rport",
        "SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK7eedcd46;rport",
        "SIP/2.0/UDP 198.51.100.8:5080;branch=z9hG4bK7eedcd46;rport",
        "SIP/2.0/UDP pbx.example.com:5080;branch=z9hG4bK7eedcd46;rport",
    ] {
        rig.new_request(&from, &incoming_via("OPTIONS", via));
    }
    for method in ["INVITE", "NOTIFY", "FETCH", "options"] {
        rig.new_request(&from, &incoming(method));
    }
    assert_eq!(rig.table.count(), (10, 0));
}

#[test]
fn the_host_of_sent_by_has_no_case() {
    let mut rig = Rig::new();
    let via = |host| format!("SIP/2.0/UDP {host};branch=z9hG4bK1;rport");
    rig.new_request(
        &udp(ASTERISK),
        &incoming_via("OPTIONS", &via("pbx.example.com")),
    );
    assert_eq!(
        rig.request(
            &udp(ASTERISK),
            &incoming_via("OPTIONS", &via("PBX.example.COM"))
        ),
        Received::Retransmission
    );
}

/// chan_sip gives the ACK of a non-2xx another Request-URI than its INVITE had, and no Route.
#[test]
fn the_ack_of_a_non_2xx_matches_whatever_its_request_uri_and_route_are() {
    let mut rig = Rig::new();
    let invite = incoming("INVITE").replace("Max-Forwards", "Route: <sip:a;lr>\r\nMax-Forwards");
    let id = rig.new_request(&udp(ASTERISK), &invite);
    rig.respond_text(id, 486, &reply(486, "INVITE", ";tag=ours"));
    let ack = incoming("ACK")
        .replace("sip:1003@203.0.113.5 ", "sip:1003@192.0.2.10:5060 ")
        .replace(
            "To: <sip:1003@203.0.113.5>",
            "To: <sip:1003@203.0.113.5>;tag=ours",
        );
    assert_eq!(rig.request(&udp(ASTERISK), &ack), Received::Acked);
    assert_eq!(rig.table.count(), (1, 0));
}

/// chan_sip sends every NOTIFY of a subscription with one branch and rising CSeq.
#[test]
fn a_branch_that_comes_again_with_a_higher_cseq_is_a_new_transaction() {
    let mut rig = Rig::new();
    let first = incoming("NOTIFY");
    let second = first.replace("CSeq: 102", "CSeq: 103");
    let a = rig.new_request(&udp(ASTERISK), &first);
    rig.respond_text(a, 200, &reply(200, "NOTIFY", ""));
    let b = rig.new_request(&udp(ASTERISK), &second);
    rig.sent();
    assert_ne!(a, b);
    assert_eq!(
        rig.request(&udp(ASTERISK), &first),
        Received::Retransmission
    );
    assert_eq!(rig.sent_one().text, reply(200, "NOTIFY", ""));
    assert_eq!(
        rig.request(&udp(ASTERISK), &second),
        Received::Retransmission
    );
    assert_eq!(rig.sent(), [], "the second has no answer yet");
}

#[test]
fn an_ack_that_matches_nothing_is_the_cores() {
    let mut rig = Rig::new();
    assert_eq!(rig.request(&udp(ASTERISK), &incoming("ACK")), Received::Ack);
    rig.new_request(&udp(ASTERISK), &incoming("OPTIONS"));
    assert_eq!(
        rig.request(&udp(ASTERISK), &incoming("ACK")),
        Received::Ack,
        "an OPTIONS takes no ACK"
    );
}

#[test]
fn an_old_peers_request_is_matched_by_what_it_says() {
    let mut rig = Rig::new();
    let from = udp(ASTERISK);
    for via in [OLD_VIA, "SIP/2.0/UDP 198.51.100.7:5080;branch=1"] {
        let text = incoming_via("OPTIONS", via);
        rig.new_request(&from, &text);
        assert_eq!(rig.request(&from, &text), Received::Retransmission);
        let others = [
            ("OPTIONS sip:1003@", "OPTIONS sip:1004@"),
            (
                "To: <sip:1003@203.0.113.5>",
                "To: <sip:1003@203.0.113.5>;tag=x",
            ),
            ("tag=as2240b4cd", "tag=as2240b4ce"),
            ("Call-ID: 3", "Call-ID: 4"),
            ("CSeq: 102", "CSeq: 103"),
            (via, "SIP/2.0/UDP 198.51.100.7:5081"),
        ];
        for (is, becomes) in others {
            let other = text.replace(is, becomes);
            assert_ne!(other, text);
            assert!(
                matches!(
                    rig.request(&from, &other),
                    Received::New(_) | Received::Retransmission
                ),
                "{becomes}"
            );
        }
    }
    // Each of the six once, but the other Via is the same for both.
    assert_eq!(rig.table.count(), (13, 0));
}

#[test]
fn an_old_peers_ack_is_matched_by_the_tag_of_our_response() {
    let mut rig = Rig::new();
    let from = udp(ASTERISK);
    let id = rig.new_request(&from, &incoming_via("INVITE", OLD_VIA));
    rig.respond_text(id, 180, &reply(180, "INVITE", ";tag=ours"));
    rig.respond_text(id, 486, &reply(486, "INVITE", ";tag=ours"));
    let ack = |tag: &str| {
        incoming_via("ACK", OLD_VIA).replace(
            "To: <sip:1003@203.0.113.5>",
            &format!("To: <sip:1003@203.0.113.5>;tag={tag}"),
        )
    };
    assert_eq!(rig.request(&from, &ack("theirs")), Received::Ack);
    assert_eq!(rig.request(&from, &ack("ours")), Received::Acked);
    assert_eq!(
        rig.request(&from, &ack("ours")),
        Received::Acked,
        "a copy is absorbed"
    );
    rig.run_until(5_000);
    rig.assert_quiet();
    assert_eq!(rig.request(&from, &ack("ours")), Received::Ack);
    let next = rig.new_request(&from, &incoming("INVITE"));
    assert_eq!(next.slot, id.slot, "the slot is used again");
    rig.respond(next, 486);
    assert_eq!(
        rig.request(&from, &ack("ours")),
        Received::Ack,
        "it leads to nobody else's transaction"
    );
}

#[test]
fn a_request_without_a_cseq_is_dropped_and_counted() {
    let mut rig = Rig::new();
    let text = incoming("OPTIONS").replace("CSeq: 102 OPTIONS", "CSeq: none");
    assert_eq!(
        rig.request(&udp(ASTERISK), &text),
        Received::Retransmission,
        "nothing is left to do"
    );
    assert_eq!(rig.drops, [Drop::Malformed]);
    rig.assert_quiet();
}

#[test]
fn a_full_table_takes_no_request_but_the_cancel_of_a_call() {
    let mut rig = Rig::with_limit(1);
    let from = udp(ASTERISK);
    let invite = rig.new_request(&from, &incoming("INVITE"));
    let other = incoming_via(
        "INVITE",
        "SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK2;rport",
    );
    assert_eq!(rig.request(&from, &other), Received::Full);
    assert_eq!(
        rig.request(&from, &other.replace("INVITE", "CANCEL")),
        Received::Full
    );
    assert_eq!(
        rig.request(&from, &incoming("INVITE")),
        Received::Retransmission
    );
    let Received::Cancel {
        invite: matched, ..
    } = rig.request(&from, &incoming("CANCEL"))
    else {
        panic!("the CANCEL is taken");
    };
    assert_eq!(matched, Some(invite));
    assert_eq!(rig.table.count(), (2, 0));
}
