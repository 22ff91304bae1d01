//! RFC 3261 §17.2.2, the non-INVITE server transaction.
//!
//! > Once in the "Trying" state, any further request retransmissions are discarded.
//!
//! > If a retransmission of the request is received while in the "Proceeding" state, the most
//! > recently sent provisional response MUST be passed to the transport layer for retransmission.
//!
//! > When the server transaction enters the "Completed" state, it MUST set Timer J to fire in 64*T1
//! > seconds for unreliable transports, and zero seconds for reliable transports. While in the
//! > "Completed" state, the server transaction MUST pass the final response to the transport layer
//! > for retransmission whenever a retransmission of the request is received. Any other final
//! > responses passed by the TU to the server transaction MUST be discarded while in the "Completed"
//! > state.
//!
//! > The server transaction MUST be destroyed the instant it enters the "Terminated" state.

use rouse::proto::timer::Letter;
use rouse::proto::transaction::Received;

use crate::rig::{ASTERISK, Rig, incoming, reply, tcp, udp};

#[test]
fn a_copy_is_discarded_then_answered_by_the_latest_response_and_timer_j_ends_it() {
    let mut rig = Rig::new();
    let options = incoming("OPTIONS");
    let id = rig.new_request(&udp(ASTERISK), &options);
    assert_eq!(
        rig.request(&udp(ASTERISK), &options),
        Received::Retransmission
    );
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.armed(), []);
    for status in [100, 182, 200] {
        let text = reply(status, "OPTIONS", "");
        assert!(rig.table.awaits_final(id));
        rig.respond_text(id, status, &text);
        assert_eq!(rig.sent_one().text, text);
        assert_eq!(
            rig.request(&udp(ASTERISK), &options),
            Received::Retransmission
        );
        assert_eq!(rig.sent_one().text, text);
    }
    assert!(!rig.table.awaits_final(id));
    assert_eq!(rig.armed(), [(Letter::J, 32_000)]);
    rig.respond_text(id, 500, &reply(500, "OPTIONS", ""));
    assert_eq!(rig.sent(), [], "one final response");
    rig.run_until(31_999);
    assert_eq!(
        rig.request(&udp(ASTERISK), &options),
        Received::Retransmission
    );
    assert_eq!(rig.sent_one().text, reply(200, "OPTIONS", ""));
    rig.run_until(32_000);
    rig.assert_quiet();
}

#[test]
fn a_final_response_is_not_sent_again_by_itself() {
    let mut rig = Rig::new();
    let id = rig.new_request(&udp(ASTERISK), &incoming("OPTIONS"));
    rig.respond_text(id, 404, &reply(404, "OPTIONS", ""));
    rig.run_until(60_000);
    assert_eq!(rig.sent().len(), 1);
    rig.assert_quiet();
}

#[test]
fn a_final_response_over_tcp_ends_the_transaction() {
    let mut rig = Rig::new();
    let id = rig.new_request(&tcp(ASTERISK), &incoming("OPTIONS"));
    rig.respond_text(id, 200, &reply(200, "OPTIONS", ""));
    assert_eq!(rig.sent().len(), 1);
    rig.assert_quiet();
}
