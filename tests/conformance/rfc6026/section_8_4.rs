//! RFC 6026 §8.4, the INVITE client transaction.
//!
//! > The client transaction MUST transition to the "Accepted" state, and Timer M MUST be started with
//! > a value of 64*T1.
//!
//! > Any 2xx responses that match this client transaction and that are received while in the
//! > "Accepted" state MUST be passed up to the TU. The client transaction MUST NOT generate an ACK to
//! > the 2xx response.
//!
//! > If Timer M fires while the client transaction is in the "Accepted" state, the client transaction
//! > MUST move to the "Terminated" state.

use rouse::proto::timer::Letter;
use rouse::proto::transaction::ClientEvent;

use crate::rig::{PHONE, Rig, answer, udp};

#[test]
fn every_2xx_is_passed_to_the_user_until_timer_m_and_none_is_acknowledged() {
    for provisional in [false, true] {
        let mut rig = Rig::new();
        let id = rig.invite_udp();
        if provisional {
            rig.answer_udp(id, 180, "INVITE");
        }
        rig.sent();
        for status in [200, 200, 202, 299] {
            assert_eq!(
                rig.answer_udp(id, status, "INVITE"),
                Some(ClientEvent::Final)
            );
            assert_eq!(rig.armed(), [(Letter::M, 32_000)]);
        }
        rig.run_until(31_999);
        let forked = answer(id, 200, "INVITE").replace("tag=6G3claj", "tag=another");
        assert_eq!(rig.answer(&udp(PHONE), &forked), Some(ClientEvent::Final));
        assert_eq!(rig.table.count(), (0, 1));
        rig.run_until(32_000);
        rig.assert_quiet();
        assert_eq!(rig.sent(), []);
        assert_eq!(rig.told, []);
    }
}

#[test]
fn timer_m_is_64_t1_over_tcp_as_well() {
    let mut rig = Rig::new();
    let id = rig.invite_tcp();
    assert_eq!(rig.answer_tcp(id, 200, "INVITE"), Some(ClientEvent::Final));
    assert_eq!(rig.armed(), [(Letter::M, 32_000)]);
    assert_eq!(rig.answer_tcp(id, 200, "INVITE"), Some(ClientEvent::Final));
    rig.run_until(32_000);
    rig.assert_quiet();
}

#[test]
fn after_a_2xx_other_responses_are_absorbed() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 200, "INVITE");
    rig.sent();
    for status in [100, 180, 486, 603] {
        assert_eq!(rig.answer_udp(id, status, "INVITE"), None);
    }
    assert_eq!(rig.sent(), []);
}
