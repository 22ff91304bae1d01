//! RFC 6026 §7.2, impact on the client.
//!
//! > Any response received that does not match an existing client transaction state machine is simply
//! > dropped.

use rouse::proto::event::Drop;

use crate::rig::Rig;

#[test]
fn a_2xx_after_the_transaction_is_dropped_and_counted() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 200, "INVITE");
    rig.run_until(32_000);
    rig.sent();
    assert_eq!(rig.answer_udp(id, 200, "INVITE"), None);
    assert_eq!(rig.drops, [Drop::StrayResponse]);
    assert_eq!(rig.sent(), []);
}

#[test]
fn a_2xx_after_a_300_to_699_is_dropped_and_counted() {
    let mut rig = Rig::new();
    let id = rig.invite_udp();
    rig.answer_udp(id, 486, "INVITE");
    rig.sent();
    assert_eq!(rig.answer_udp(id, 200, "INVITE"), None);
    assert_eq!(rig.drops, [Drop::StrayResponse]);
    assert_eq!(rig.sent(), [], "no ACK for a 2xx");
}
