//! RFC 3581 §4, server behaviour: a request with `rport` is answered to its source port.

use rouse::proto::Destination;

use crate::rig::{Rig, incoming_via, udp};

#[test]
fn a_request_with_rport_is_answered_to_its_source_address_and_port() {
    let mut rig = Rig::new();
    for rport in ["rport", "rport=5060"] {
        let via = format!(
            "SIP/2.0/UDP 10.0.0.1:5062;{rport};branch=z9hG4bK{}",
            rport.len()
        );
        let id = rig.new_request(&udp("198.51.100.7:40000"), &incoming_via("OPTIONS", &via));
        rig.respond(id, 200);
        assert_eq!(
            rig.sent_one().to,
            Destination::Flow(udp("198.51.100.7:40000").id)
        );
    }
}
