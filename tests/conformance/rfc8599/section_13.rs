//! RFC 8599 §13: who may learn of a device's token, and how often it is pushed.

use super::{FCM, INSTANCE};
use crate::scene::from_phone;
use crate::world::{APNS, TOKEN, World, invite, pbx, response, settings, tcp};
use rouse::proto::settings::ContactMode;

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
