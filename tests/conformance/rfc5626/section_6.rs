//! RFC 5626 §6: the registrar's side, which is ours as long as the upstream sees our Contact alone.
//!
//! Not claimed: a Path of ours has no `ob`, so that where the upstream sees the phone's own Contact
//! nobody promises outbound for it.

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Flow};

use crate::scene::{call, values};
use crate::world::{Sent, World, ok_to_register, pbx, register, settings, tcp, udp};
use rouse::proto::settings::ContactMode;

const FIRST: &str = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
const SUPPORTED: &str = "Supported: outbound\r\nExpires";

fn asks(flow: Flow, more: &str, expires: u32, option: &str) -> String {
    register(flow, "1001", "", more, expires, 1).replacen("Expires", option, 1)
}

/// The REGISTER as relayed, and the answer to the phone.
fn accepted(world: &mut World, flow: Flow, text: &str) -> (Sent, Sent) {
    world.receive(flow, text);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    (relayed, world.expect("SIP/2.0 200"))
}

fn is_promised(ok: &Sent) -> bool {
    let is_required = ok.message.lists(HeaderName::Require, "outbound");
    assert_eq!(is_required, !ok.header(HeaderName::FlowTimer).is_empty());
    is_required
}

#[test]
fn a_2xx_says_that_outbound_was_applied_and_how_often_the_flow_is_shown_alive() {
    for (flow, timer) in [(udp(1), "30"), (tcp(1), "120")] {
        let text = asks(flow, FIRST, 3600, SUPPORTED);
        let (_, ok) = accepted(&mut World::new(), flow, &text);
        assert!(is_promised(&ok));
        assert_eq!(ok.header(HeaderName::FlowTimer), timer);
    }
}

#[test]
fn without_the_option_without_a_reg_id_and_for_a_flow_that_leaves_nothing_is_promised() {
    let one = ";+sip.instance=\"<urn:uuid:1>\"";
    for (more, expires, option) in [
        (FIRST, 3600, "Supported: path\r\nExpires"),
        (one, 3600, SUPPORTED),
        (FIRST, 0, SUPPORTED),
    ] {
        let text = asks(tcp(1), more, expires, option);
        let (_, ok) = accepted(&mut World::new(), tcp(1), &text);
        assert!(!is_promised(&ok), "{}", ok.text());
    }
    let mut world = World::with(settings(ContactMode::Path));
    let (relayed, ok) = accepted(&mut world, tcp(1), &asks(tcp(1), FIRST, 3600, SUPPORTED));
    assert!(!is_promised(&ok), "the upstream did not say so");
    assert!(relayed.message.lists(HeaderName::Supported, "outbound"));
}

/// The upstream need not understand what we do in its place.
#[test]
fn a_required_outbound_does_not_reach_the_upstream() {
    let option = "Require: gruu, outbound\r\nExpires";
    let text = asks(tcp(1), FIRST, 3600, option);
    let (relayed, ok) = accepted(&mut World::new(), tcp(1), &text);
    assert_eq!(values(&relayed, HeaderName::Require), ["gruu"]);
    assert!(is_promised(&ok));
}

#[test]
fn behind_a_hop_that_keeps_no_flows_it_is_439() {
    let below = "Via: SIP/2.0/UDP 10.0.0.9;branch=z9hG4bKbelow\r\nMax-Forwards";
    let text = asks(tcp(1), FIRST, 3600, SUPPORTED).replacen("Max-Forwards", below, 1);
    let mut world = World::new();
    world.receive(tcp(1), &text);
    world.expect("SIP/2.0 439 First Hop Lacks Outbound Support");
    world.expect_nothing();
    // One that keeps them says so; what it does is no business of ours.
    let path = "Path: <sip:x@10.0.0.9;lr;ob>\r\nMax-Forwards";
    let (_, ok) = accepted(&mut world, tcp(1), &text.replacen("Max-Forwards", path, 1));
    assert!(!is_promised(&ok));
    // And a phone that does not ask for outbound is relayed from anywhere.
    let plain = text.replacen("Supported: outbound", "Supported: path", 1);
    accepted(&mut world, tcp(1), &plain);
}

#[test]
fn a_reg_id_without_an_instance_is_ignored() {
    let mut world = World::new();
    for reg_id in [1, 2] {
        let text = asks(tcp(1), &format!(";reg-id={reg_id}"), 3600, SUPPORTED);
        let (_, ok) = accepted(&mut world, tcp(1), &text);
        assert!(!is_promised(&ok));
    }
    assert_eq!(world.count(), (1, 1), "the Contact is the same");
}

#[test]
fn a_reg_id_beside_another_contact_is_400() {
    let text = asks(tcp(1), FIRST, 3600, SUPPORTED);
    let two = "Contact: <sip:1001@10.0.0.6>\r\nContact";
    let mut world = World::new();
    world.receive(tcp(1), text.replacen("Contact", two, 1));
    world.expect("SIP/2.0 400");
    // Beside one that leaves it stands alone.
    let gone = "Contact: <sip:1001@10.0.0.6>;expires=0\r\nContact";
    accepted(&mut world, tcp(1), &text.replacen("Contact", gone, 1));
}

#[test]
fn flows_of_one_instance_with_and_without_reg_id_are_bindings_beside_each_other() {
    let mut world = World::new();
    accepted(&mut world, tcp(1), &asks(tcp(1), FIRST, 3600, SUPPORTED));
    let second = FIRST.replace("reg-id=1", "reg-id=2");
    accepted(&mut world, udp(2), &asks(udp(2), &second, 3600, SUPPORTED));
    assert_eq!(world.count(), (2, 2));
    let sent = call(&mut world, "c1");
    assert_eq!(sent.len(), 1, "one phone");
    let either = [tcp(1).id, udp(2).id].map(Destination::Flow);
    assert!(either.contains(&sent[0].to));
}
