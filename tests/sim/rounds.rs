//! REGISTER in several rounds, and whose device a registration is (RFC 3261 §10, §22; RFC 8599 §5.6).

use std::time::Duration;

use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event, Flow};

use crate::world::{
    APNS, TOKEN, World, invite, ok_to_register, pbx, register, response, settings, tcp, udp,
};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
const NONCE: &str = "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\n";
const STALE: &str = "WWW-Authenticate: Digest realm=\"a\", nonce=\"2\", stale=true\n";

/// A sleeping phone that has been called and pushed.
fn pushed() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world
}

/// The phone registers and is told that; nothing else happens.
fn round(world: &mut World, flow: Flow, expires: u32, status: &str, more: &str) {
    let number = world.number();
    world.receive(flow, register(flow, "1001", APNS, ONE, expires, number));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, status, more));
    let told = world.expect(&format!("SIP/2.0 {status}"));
    for line in more.lines() {
        assert!(told.text().contains(line), "{}", told.text());
    }
    world.expect_nothing();
}

/// The phone registers, and its call comes where it did so; once.
fn gets_its_call(world: &mut World, flow: Flow) {
    world.register_for(flow, "1001", APNS, ONE, 600);
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(flow.id));
    world.expect_nothing();
    world.receive(flow, response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_woken_phone_that_is_challenged_gets_its_call_once_after_the_second_register() {
    for challenge in ["401 Unauthorized", "407 Proxy Authentication Required"] {
        let mut world = pushed();
        round(&mut world, tcp(2), 600, challenge, NONCE);
        gets_its_call(&mut world, tcp(2));
    }
}

#[test]
pub fn a_woken_phone_with_a_stale_nonce_needs_three_rounds() {
    let mut world = pushed();
    round(&mut world, udp(7), 600, "401 Unauthorized", NONCE);
    round(&mut world, udp(7), 600, "401 Unauthorized", STALE);
    gets_its_call(&mut world, udp(7));
}

#[test]
pub fn a_woken_phone_that_asks_too_little_asks_again() {
    let mut world = pushed();
    round(
        &mut world,
        tcp(2),
        60,
        "423 Interval Too Brief",
        "Min-Expires: 600\n",
    );
    round(&mut world, tcp(2), 600, "401 Unauthorized", NONCE);
    gets_its_call(&mut world, tcp(2));
}

#[test]
pub fn a_woken_phone_that_is_challenged_here_and_answers_from_there_gets_its_call_there() {
    let mut world = pushed();
    round(&mut world, tcp(2), 600, "401 Unauthorized", NONCE);
    world.close(tcp(2));
    gets_its_call(&mut world, tcp(3));
}

#[test]
pub fn a_challenge_that_is_never_answered_leaves_the_call_its_time() {
    let mut world = pushed();
    round(&mut world, tcp(2), 600, "401 Unauthorized", NONCE);
    world.advance(Duration::from_secs(24));
    world.expect_nothing();
    world.advance(Duration::from_secs(1));
    world.expect("SIP/2.0 480");
    world.assert_quiet();
}

#[test]
pub fn a_woken_phone_that_is_refused_ends_its_call_and_learns_of_it_when_it_comes_after_all() {
    let mut world = pushed();
    let number = world.number();
    world.receive(tcp(2), register(tcp(2), "1001", APNS, ONE, 600, number));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "403 Forbidden", ""));
    world.expect("SIP/2.0 403");
    let refused = world.expect("SIP/2.0 480");
    assert!(
        refused
            .header(HeaderName::Reason)
            .contains("registration-refused")
    );
    world.register_for(tcp(2), "1001", APNS, ONE, 600);
    let late = world.expect("INVITE");
    world.receive(tcp(2), response(&late, "180 Ringing", ""));
    let cancel = world.expect("CANCEL");
    assert!(
        cancel
            .header(HeaderName::Reason)
            .contains("registration-refused")
    );
    world.receive(tcp(2), response(&cancel, "200 OK", ""));
    world.receive(tcp(2), response(&late, "487 Request Terminated", ""));
    world.expect("ACK");
    world.assert_quiet();
}

#[test]
pub fn another_device_of_the_agent_is_called_when_the_woken_one_is_refused() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    world.register_for(tcp(5), "1001", "", TWO, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let awake = world.expect("INVITE");
    world.accept_push();
    let number = world.number();
    world.receive(tcp(2), register(tcp(2), "1001", APNS, ONE, 600, number));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "403 Forbidden", ""));
    world.expect("SIP/2.0 403");
    world.expect_nothing();
    world.receive(tcp(5), response(&awake, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_device_that_leaves_is_relayed_as_a_refresh_for_the_time_that_others_stay() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.advance(Duration::from_secs(1000));
    let number = world.number();
    world.receive(tcp(2), register(tcp(2), "1001", "", TWO, 0, number));
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), "2600");
    world.receive(pbx(), ok_to_register(&relayed));
    assert_eq!(world.expect("SIP/2.0 200").header(HeaderName::Contact), "");
    assert_eq!(world.count(), (1, 1));
}

/// The agent has one contact at the upstream: it lasts as long as any device wants.
#[test]
pub fn a_device_that_asks_for_little_does_not_shorten_the_time_of_others() {
    let mut short = settings(ContactMode::Agent);
    short.upstreams[0].expires = Duration::from_secs(60);
    let mut world = World::with(short);
    world.register_for(tcp(1), "1001", APNS, ONE, 7200);
    world.close(tcp(1));
    let number = world.number();
    world.receive(tcp(2), register(tcp(2), "1001", "", TWO, 90, number));
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), "7200");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert!(ok.header(HeaderName::Contact).ends_with(";expires=90"));
}

#[test]
pub fn in_device_mode_a_device_takes_only_its_own_contact_away() {
    let mut world = World::with(settings(ContactMode::Device));
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.register_for(tcp(2), "1001", "", TWO, 600);
    let number = world.number();
    world.receive(tcp(2), register(tcp(2), "1001", "", TWO, 0, number));
    let relayed = world.expect("REGISTER");
    assert!(relayed.header(HeaderName::Contact).ends_with(";expires=0"));
    assert_eq!(relayed.message.values(HeaderName::Contact).count(), 1);
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (1, 1));
}

/// The old agent's registration has another token: the app's instance tells that it is the same.
#[test]
pub fn an_app_whose_token_changed_with_its_agent_no_longer_rings_for_the_old_one() {
    let new = APNS.replace(TOKEN, &"0c".repeat(32));
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    world.register_for(tcp(2), "1002", &new, ONE, 600);
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
    // Its next refresh claims nothing again.
    let claims = world.claims.len();
    world.register_for(tcp(2), "1002", &new, ONE, 600);
    assert_eq!(world.claims.len(), claims);
}

/// An instance is no secret, and some apps give every phone the same.
#[test]
pub fn a_phone_that_is_awake_is_not_taken_from_its_agent_by_its_instance_alone() {
    let new = APNS.replace(TOKEN, &"0c".repeat(32));
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.register_for(tcp(2), "1002", &new, ONE, 600);
    assert_eq!(world.count(), (2, 2));
    // Nor is one of another app.
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.close(tcp(1));
    let other = "pn-provider=fcm;pn-param=project;pn-prid=abc:def";
    world.register_for(tcp(2), "1002", other, ONE, 600);
    assert_eq!(world.count(), (2, 1));
}

#[test]
pub fn a_time_that_the_upstream_cuts_is_reported() {
    let mut world = World::new();
    let month = 31 * 86_400;
    world.receive(tcp(1), register(tcp(1), "1001", APNS, ONE, month, 1));
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), month.to_string());
    let contact = relayed.header(HeaderName::Contact);
    let cut = format!("Contact: {contact};expires=86400\n");
    world.receive(pbx(), response(&relayed, "200 OK", &cut));
    let ok = world.expect("SIP/2.0 200");
    assert!(ok.header(HeaderName::Contact).ends_with(";expires=86400"));
    let is_cut = |event: &Event| matches!(event, Event::Shortened { asked, granted, .. } if (*asked, *granted) == (month, 86_400));
    assert_eq!(world.events.iter().filter(|event| is_cut(event)).count(), 1);
}
