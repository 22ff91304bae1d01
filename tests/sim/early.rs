//! Requests that overtake the answer to their agent's first REGISTER: Asterisk writes from several
//! threads, and what a queue had ready goes to the new contact at once.

use std::time::Duration;

use rouse::proto::Destination;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use crate::world::{
    APNS, Sent, World, beside, invite, invite_to, ok_to_register, pbx, register, response,
    settings, tcp,
};

/// A phone's first REGISTER, as it reaches the upstream.
fn registering(world: &mut World) -> Sent {
    world.receive(tcp(1), register(tcp(1), "1001", APNS, "", 60, 1));
    world.expect("REGISTER")
}

fn notify(call: &str) -> String {
    invite("1001", call).replace("INVITE", "NOTIFY")
}

#[test]
pub fn a_notify_ahead_of_the_2xx_reaches_the_phone() {
    let mut world = World::new();
    let relayed = registering(&mut world);
    world.receive(pbx(), notify("n1"));
    world.expect_nothing();
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    let notify = world.expect("NOTIFY sip:1001@10.0.0.5");
    assert_eq!(notify.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&notify, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_call_ahead_of_the_2xx_reaches_the_phone_once() {
    for mode in [ContactMode::Agent, ContactMode::Device, ContactMode::Path] {
        let mut world = World::with(settings(mode));
        let relayed = registering(&mut world);
        let contact = relayed.header(HeaderName::Contact);
        let uri = contact.trim_start_matches('<').split('>').next().unwrap();
        let path = relayed.header(HeaderName::Path);
        let route = match &*path {
            "" => String::new(),
            path => format!("Route: {path}\r\n"),
        };
        let call = invite_to(uri, "c1").replacen("Max-", &format!("{route}Max-"), 1);
        world.receive(pbx(), &call);
        world.expect("SIP/2.0 100");
        // Sent again, it is the same call.
        world.receive(pbx(), &call);
        world.expect("SIP/2.0 100");
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
        world.expect("SIP/2.0 100");
        let sent = world.expect("INVITE sip:1001@10.0.0.5");
        assert_eq!(sent.to, Destination::Flow(tcp(1).id), "{mode:?}");
        world.expect_nothing();
        world.receive(tcp(1), response(&sent, "486 Busy Here", ""));
        world.expect("ACK");
        world.expect("SIP/2.0 486");
        world.assert_quiet();
    }
}

/// A phone without a token is no more than its connection.
#[test]
pub fn a_call_ahead_of_the_2xx_does_not_ring_where_nobody_is_any_more() {
    let mut world = World::new();
    world.receive(tcp(1), register(tcp(1), "1001", "", "", 60, 1));
    let relayed = world.expect("REGISTER");
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.receive(pbx(), ok_to_register(&relayed));
    let sent = std::iter::from_fn(|| world.sent.pop_front());
    let lines: Vec<_> = sent.map(|sent| sent.first_line()).collect();
    assert!(
        lines.iter().all(|line| !line.starts_with("INVITE")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("SIP/2.0 480")),
        "{lines:?}"
    );
    world.assert_quiet();
}

#[test]
pub fn a_call_for_an_agent_who_is_refused_is_refused_with_him() {
    let mut world = World::new();
    let relayed = registering(&mut world);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.receive(pbx(), response(&relayed, "403 Forbidden", ""));
    world.expect("SIP/2.0 403");
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn a_call_waits_no_longer_than_answers_overtake_each_other() {
    let mut world = World::new();
    registering(&mut world);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.advance(Duration::from_millis(999));
    let seen = std::iter::from_fn(|| world.sent.pop_front());
    assert!(
        seen.into_iter()
            .all(|sent| sent.first_line().starts_with("REGISTER"))
    );
    world.advance(Duration::from_millis(2));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn a_call_ahead_of_the_2xx_may_be_cancelled() {
    let mut world = World::new();
    let relayed = registering(&mut world);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn so_many_wait_and_no_more() {
    let mut world = World::new();
    let relayed = registering(&mut world);
    for number in 0..8 {
        world.receive(pbx(), notify(&format!("n{number}")));
    }
    world.expect_nothing();
    world.receive(pbx(), notify("n8"));
    world.expect("SIP/2.0 480");
    world.receive(pbx(), response(&relayed, "403 Forbidden", ""));
    world.expect("SIP/2.0 403");
    for _ in 0..8 {
        world.expect("SIP/2.0 480");
    }
    world.assert_quiet();
}
