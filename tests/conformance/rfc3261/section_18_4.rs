//! RFC 3261 §18.4: errors of the transport. A request that could not be sent is told to who sent it,
//! which does not wait for its timers.

use rouse::proto::Transport;
use rouse::proto::settings::{ContactMode, Node};

use crate::scene::{ONE, from_phone};
use crate::world::{World, ok_to_register, pbx_tcp, register, settings, tcp};

/// A phone whose upstream has two nodes, both over TCP.
fn with_two_nodes() -> World {
    let mut two = settings(ContactMode::Agent);
    let nodes = &mut two.upstreams[0].nodes;
    nodes[0].transport = Some(Transport::Tcp);
    nodes.push(Node {
        index: 1,
        host: "192.0.2.81".into(),
        ..nodes[0].clone()
    });
    let mut world = World::with(two);
    world.receive(tcp(1), register(tcp(1), "1001", "", ONE, 7200, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx_tcp(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world
}

#[test]
fn a_request_that_cannot_be_sent_goes_to_the_next_hop_at_once_and_is_503_after_the_last() {
    let mut world = with_two_nodes();
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "c1", ""));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    world.fail(&first);
    let second = world.expect("INVITE");
    assert_ne!(first.to, second.to);
    world.fail(&second);
    world.expect("SIP/2.0 503");
    world.expect_nothing();
    world.assert_quiet();
}
