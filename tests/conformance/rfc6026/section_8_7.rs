//! RFC 6026 §8.7 and §7.1, the INVITE server transaction in the Accepted state.
//!
//! > While in the "Accepted" state, any retransmissions of the INVITE received will match this
//! > transaction state machine and will be absorbed by the machine without changing its state.
//!
//! > While in the "Accepted" state, if the TU passes a 2xx response, the server transaction MUST pass
//! > the response to the transport layer for transmission.
//!
//! > Any ACKs received from the network while in the "Accepted" state MUST be passed directly to the
//! > TU and not absorbed.
//!
//! > Once the transaction is in the "Terminated" state, it MUST be destroyed immediately.

use rouse::proto::timer::Letter;
use rouse::proto::transaction::Received;

use crate::rig::{ASTERISK, Rig, incoming, incoming_via, reply, tcp, udp};

#[test]
fn copies_of_the_invite_are_absorbed_until_timer_l() {
    for flow in [udp(ASTERISK), tcp(ASTERISK)] {
        let mut rig = Rig::new();
        let id = rig.new_request(&flow, &incoming("INVITE"));
        rig.respond(id, 200);
        rig.sent();
        rig.run_until(31_999);
        assert_eq!(
            rig.request(&flow, &incoming("INVITE")),
            Received::Retransmission
        );
        assert_eq!(rig.sent(), []);
        assert_eq!(rig.armed(), [(Letter::L, 1)]);
        rig.run_until(32_000);
        rig.assert_quiet();
    }
}

#[test]
fn every_further_2xx_of_the_user_is_sent_and_nothing_else() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 200);
    rig.sent();
    for status in [180, 408, 487] {
        rig.respond(id, status);
        assert_eq!(rig.sent(), []);
    }
    for tag in [";tag=one", ";tag=two"] {
        let text = reply(200, "INVITE", tag);
        rig.respond_text(id, 200, &text);
        assert_eq!(rig.sent_one().text, text);
    }
}

#[test]
fn an_ack_is_passed_to_the_user() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
    rig.respond(id, 200);
    // RFC 6026 §6: also if it matches, as that of an RFC 2543 peer does.
    assert_eq!(rig.request(&udp(ASTERISK), &incoming("ACK")), Received::Ack);
    let old = "SIP/2.0/UDP 198.51.100.7:5080";
    let id = rig.new_request(&udp(ASTERISK), &incoming_via("INVITE", old));
    rig.respond_text(id, 200, &reply(200, "INVITE", ";tag=ours"));
    let ack = incoming_via("ACK", old).replace(
        "To: <sip:1003@203.0.113.5>",
        "To: <sip:1003@203.0.113.5>;tag=ours",
    );
    assert_eq!(rig.request(&udp(ASTERISK), &ack), Received::Ack);
    rig.run_until(32_000);
    rig.assert_quiet();
}
