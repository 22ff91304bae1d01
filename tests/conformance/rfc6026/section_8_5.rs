//! RFC 6026 §8.5, the INVITE server transaction enters the Accepted state.
//!
//! > If, while in the "Proceeding" state, the TU passes a 2xx response to the server transaction, the
//! > server transaction MUST pass this response to the transport layer for transmission. It is not
//! > retransmitted by the server transaction; retransmissions of 2xx responses are handled by the TU.
//! > The server transaction MUST then transition to the "Accepted" state.

use rouse::proto::timer::Letter;

use crate::rig::{ASTERISK, Rig, incoming, reply, udp};

#[test]
fn a_2xx_is_sent_once_and_timer_l_is_the_only_one() {
    for status in [200, 202] {
        let mut rig = Rig::new();
        let id = rig.new_request(&udp(ASTERISK), &incoming("INVITE"));
        rig.respond(id, 180);
        rig.sent();
        rig.respond(id, status);
        assert!(!rig.table.awaits_final(id));
        assert_eq!(rig.armed(), [(Letter::L, 32_000)]);
        rig.run_until(60_000);
        assert_eq!(rig.sent_one().text, reply(status, "INVITE", ""));
    }
}
