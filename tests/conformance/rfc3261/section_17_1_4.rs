//! RFC 3261 §17.1.4, transport errors of client transactions.
//!
//! > The client transaction SHOULD inform the TU that a transport failure has occurred, and the
//! > client transaction SHOULD transition directly to the "Terminated" state.

use rouse::proto::Destination;
use rouse::proto::transaction::ClientEvent;

use crate::rig::{PHONE, Rig, outgoing, udp};

#[test]
fn an_invite_that_cannot_be_sent_ends_its_transaction() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    assert_eq!(rig.send_failed(id), Some(ClientEvent::TransportError));
    rig.assert_quiet();
    assert_eq!(rig.send_failed(id), None, "only once");
}

#[test]
fn another_request_that_cannot_be_sent_ends_its_transaction() {
    for provisional in [false, true] {
        let mut rig = Rig::new();
        let to = Destination::Flow(udp(PHONE).id);
        let id = rig.start(to, false, |branch| outgoing("REGISTER", branch));
        if provisional {
            rig.answer_udp(id, 100, "REGISTER");
        }
        assert_eq!(rig.send_failed(id), Some(ClientEvent::TransportError));
        rig.assert_quiet();
    }
}

#[test]
fn a_copy_that_could_not_be_sent_does_not_end_an_invite_that_was_answered() {
    for status in [180, 200, 486] {
        let mut rig = Rig::new();
        let id = rig.invite_udp();
        rig.answer_udp(id, status, "INVITE");
        assert_eq!(rig.send_failed(id), None);
        assert_eq!(rig.table.count(), (0, 1));
    }
}
