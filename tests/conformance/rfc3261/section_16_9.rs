//! RFC 3261 §16.9, handling transport errors.
//!
//! > If the transport layer notifies a proxy of an error when it tries to forward a request (see
//! > Section 18.4), the proxy MUST behave as if the forwarded request received a 503 (Service
//! > Unavailable) response.
//!
//! Not claimed for phones: one whose flow is gone has left, which is 480, or is woken.

use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{CloseReason, Destination, Input, Transport};

use crate::scene::{answer, call, from_phone, with_phone, with_two_phones};
use crate::world::{World, pbx, settings, tcp, udp};

fn fail(world: &mut World, sent: &crate::world::Sent) {
    let branch = sent.message.top_via().unwrap().branch().unwrap().to_vec();
    let (_, transaction) = rouse::proto::transaction::ClientId::from_branch(&branch).unwrap();
    world.input(Input::SendFailed { transaction });
}

#[test]
fn the_next_hop_of_an_upstream_is_tried_and_after_the_last_the_phone_gets_503() {
    let mut settings = settings(ContactMode::Agent);
    let mut second = settings.upstreams[0].nodes[0].clone();
    second.index = 1;
    second.host = "192.0.2.81".into();
    settings.upstreams[0].nodes.push(second);
    let mut world = World::with(settings);
    world.register(tcp(1), "1001", "");
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "out", ""));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    fail(&mut world, &first);
    let second = world.expect("INVITE");
    assert_ne!(first.to, second.to);
    fail(&mut world, &second);
    let refusal = world.expect("SIP/2.0 503");
    assert_eq!(refusal.header(HeaderName::RetryAfter), "5");
    world.assert_quiet();
}

#[test]
fn a_503_of_one_node_is_answered_by_the_next() {
    let mut settings = settings(ContactMode::Agent);
    let mut second = settings.upstreams[0].nodes[0].clone();
    second.index = 1;
    second.host = "192.0.2.81".into();
    second.transport = Some(Transport::Udp);
    settings.upstreams[0].nodes.push(second);
    let mut world = World::with(settings);
    world.register(udp(1), "1001", "");
    let uri = "sip:600@pbx.example.com";
    world.receive(udp(1), from_phone(udp(1), "MESSAGE", uri, "m", ""));
    let first = world.expect("MESSAGE");
    assert_eq!(first.to, Destination::Flow(pbx().id));
    answer(&mut world, &first, "503 Service Unavailable", "");
    assert_ne!(world.expect("MESSAGE").to, first.to);
}

#[test]
fn a_phone_whose_flow_fails_is_480_and_another_goes_on() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    fail(&mut world, &sent);
    world.expect("SIP/2.0 480");
    world.assert_quiet();
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    fail(&mut world, &sent[0]);
    world.expect_nothing();
    answer(&mut world, &sent[1], "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// > If the proxy is notified of an error when forwarding a response, it drops the response. The
/// > proxy SHOULD NOT cancel any outstanding client transactions associated with this response
/// > context due to this notification.
#[test]
fn a_caller_that_went_away_does_not_cancel_its_call() {
    let mut world = with_phone(tcp(1));
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "out", ""));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.input(Input::FlowClosed {
        flow: tcp(1).id,
        reason: CloseReason::Peer,
    });
    world.expect_nothing();
    answer(&mut world, &sent, "486 Busy Here", "");
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}
