//! RFC 3261 §17.2.4, transport errors of server transactions.
//!
//! Not claimed: telling the core of a response that could not be sent. Nobody is left to tell, and
//! the transaction ends by its timers.

use crate::scene::{ONE, from_phone};
use crate::world::{World, pbx, response, tcp};

#[test]
fn a_final_response_whose_connection_is_gone_leaves_nothing_behind() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", ONE, 7200);
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "c1", ""));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.close(tcp(1));
    world.receive(pbx(), response(&sent, "404 Not Found", ""));
    world.expect("ACK");
    // It goes to the connection that the request came over, and nowhere else.
    let refused = world.expect("SIP/2.0 404");
    assert_eq!(refused.to, rouse::proto::Destination::Flow(tcp(1).id));
    world.assert_quiet();
}
