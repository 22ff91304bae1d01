//! RFC 8599 §13: who may learn of a device's token, and how often it is pushed.

use std::time::Duration;

use rouse::config::{Host, Source};
use rouse::proto::Event;
use rouse::proto::push::params::NoPush;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use super::{FCM, INSTANCE};
use crate::scene::from_phone;
use crate::world::{APNS, TOKEN, World, beside, invite, pbx, response, settings, tcp};

fn is_clean(text: &str) -> bool {
    !text.contains("pn-") && !text.contains(TOKEN) && !text.contains("abc:def")
}

#[test]
fn no_token_reaches_the_registrar_whatever_it_sees_as_contact() {
    for mode in [ContactMode::Agent, ContactMode::Device, ContactMode::Path] {
        let mut world = World::with(settings(mode));
        let (relayed, ok) = super::registered(&mut world, APNS, INSTANCE, 3600);
        assert!(is_clean(&relayed.text()), "{}", relayed.text());
        assert!(
            ok.text().contains(TOKEN),
            "the device's own Contact comes back"
        );
    }
}

#[test]
fn no_token_reaches_a_peer_in_a_call_either_way() {
    let mut world = World::new();
    super::registered(&mut world, APNS, INSTANCE, 3600);
    let contact = format!("Contact: <sip:1001@10.0.0.5:5060;{APNS}>\n");
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    for status in ["180 Ringing", "200 OK"] {
        world.receive(tcp(1), response(&sent, status, &contact));
        let passed = world.expect(&format!("SIP/2.0 {status}"));
        assert!(is_clean(&passed.text()), "{}", passed.text());
    }
    let own = from_phone(tcp(1), "INVITE", "sip:600@pbx.example.com", "c2", "");
    let own = own.replace("<sip:1001@10.0.0.5:5060>", contact.trim()[9..].trim());
    world.receive(tcp(1), own);
    world.expect("SIP/2.0 100");
    assert!(is_clean(&world.expect("INVITE").text()));
}

#[test]
fn no_token_reaches_another_device_of_the_agent() {
    let mut world = World::new();
    super::registered(&mut world, APNS, INSTANCE, 3600);
    let other = ";+sip.instance=\"<urn:uuid:2>\"";
    world.register_for(tcp(2), "1001", FCM, other, 3600);
    let number = world.number();
    let query = crate::world::register(tcp(2), "1001", FCM, other, 3600, number);
    world.receive(tcp(2), query);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), crate::world::ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert!(!ok.text().contains(TOKEN));
}

#[test]
fn no_token_reaches_the_log() {
    let mut world = super::called();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    assert!(!world.events.is_empty());
    for event in &world.events {
        assert!(!format!("{event:?}").contains(TOKEN), "{event:?}");
    }
}

#[test]
fn a_phone_that_is_called_in_a_loop_is_pushed_so_often_and_no_more() {
    let mut world = super::world(|s| s.limits.pushes_per_device = 3);
    super::registered(&mut world, APNS, INSTANCE, 3600);
    world.close(tcp(1));
    let mut pushed = Vec::new();
    for call in 0..5 {
        world.receive(pbx(), invite("1001", &format!("c{call}")));
        world.expect("SIP/2.0 100");
        pushed.push(world.pushes.drain(..).count());
        world.receive(pbx(), beside("CANCEL", "1001", &format!("c{call}"), ""));
        world.expect("SIP/2.0 200");
        world.expect("SIP/2.0 487");
    }
    assert_eq!(pushed, [1, 1, 1, 0, 0]);
    let is_told = |event: &Event| matches!(event, Event::NoPush { reason, .. } if *reason == NoPush::RateLimited);
    assert_eq!(
        world.events.iter().filter(|event| is_told(event)).count(),
        2
    );
    // Another phone has its own count, and after a minute so has this one again.
    world.register_for(tcp(5), "1002", FCM, "", 3600);
    world.close(tcp(5));
    world.receive(pbx(), invite("1002", "other"));
    assert_eq!(world.pushes.drain(..).count(), 1);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "later"));
    assert_eq!(world.pushes.drain(..).count(), 1);
}

/// A call that finds its phone pushed often enough waits for it all the same.
#[test]
fn a_call_beyond_that_waits_for_the_phone_all_the_same() {
    let mut world = super::world(|s| s.limits.pushes_per_device = 1);
    super::registered(&mut world, APNS, INSTANCE, 3600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.receive(pbx(), invite("1001", "c2"));
    world.sent.clear();
    assert_eq!(world.pushes.drain(..).count(), 1);
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 3600);
    let late = world
        .sent
        .drain(..)
        .filter(|sent| sent.first_line().starts_with("INVITE"));
    let calls: Vec<_> = late.map(|sent| sent.header(HeaderName::CallId)).collect();
    assert!(calls.contains(&"c2".to_owned()), "{calls:?}");
}

/// Whoever reads a REGISTER has the token in it.
#[test]
fn an_operator_whose_phones_have_no_tls_is_told_so() {
    let warnings = |push: &str| {
        let source = Source {
            name: "rouse.toml".to_owned(),
            text: format!(
                "[[upstream]]\nname = \"pbx\"\ndomains = [\"*\"]\n\
                 nodes = [\"sip:127.0.0.1:9\"]\n{push}"
            ),
            variables: Vec::new(),
            host: Host::default(),
        };
        let config = rouse::config::read(&source).unwrap_or_else(|wrong| panic!("{wrong}"));
        let of_push = |warning: &&String| warning.starts_with("[push]: without a tls");
        config.warnings.iter().filter(of_push).count()
    };
    let webhook =
        "[[push.webhook]]\nname = \"x\"\nproviders = [\"x\"]\nurl = \"https://127.0.0.1:1/\"\n";
    assert_eq!((warnings(webhook), warnings("")), (1, 0));
}
