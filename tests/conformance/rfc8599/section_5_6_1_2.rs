//! RFC 8599 §5.6.1.2: a REGISTER that asks which push services there are.

use rouse::proto::settings::UnsupportedPns;

use super::{INSTANCE, caps, registered, world};
use crate::world::{World, register, tcp};

#[test]
fn pn_provider_without_pn_prid_asks_for_that_service() {
    let mut world = World::new();
    let (relayed, ok) = registered(&mut world, "pn-provider=fcm", INSTANCE, 3600);
    assert!(caps(&relayed).is_empty());
    assert_eq!(caps(&ok), ["*;+sip.pns=\"fcm\""]);
    // It asked, and did not register for pushes.
    world.close(tcp(1));
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn an_empty_pn_provider_asks_for_all() {
    for params in ["pn-provider", "pn-provider="] {
        let (_, ok) = registered(&mut World::new(), params, INSTANCE, 3600);
        let all = ["apns", "apns.dev", "fcm"];
        assert_eq!(caps(&ok), all.map(|pns| format!("*;+sip.pns=\"{pns}\"")));
    }
}

#[test]
fn a_service_that_is_not_there_is_not_listed() {
    let (_, ok) = registered(&mut World::new(), "pn-provider=acme", INSTANCE, 3600);
    assert!(caps(&ok).is_empty());
    let mut world = world(|s| s.register.unsupported_pns = UnsupportedPns::Refuse);
    let text = register(tcp(1), "1001", "pn-provider=acme", INSTANCE, 3600, 1);
    world.receive(tcp(1), text);
    world.expect("SIP/2.0 555");
}
