//! RFC 8599 §5.6.1.1: a REGISTER that asks for pushes.

use std::time::Duration;

use rouse::proto::settings::{TooShort, UnsupportedPns};
use rouse::proto::sip::HeaderName;

use super::{INSTANCE, PNSREG, caps, registered, world};
use crate::world::{APNS, World, ok_to_register, pbx, register, response, tcp};

const ACME: &str = "pn-provider=acme;pn-param=x;pn-prid=00aa";
const OTHER_APP: &str = "pn-provider=apns;pn-param=DEF123GHIJ.other.app.voip;pn-prid=00aa";

#[test]
fn without_pn_provider_it_is_plain_sip() {
    let mut world = World::new();
    let (relayed, ok) = registered(&mut world, "", INSTANCE, 3600);
    assert!(caps(&relayed).is_empty() && caps(&ok).is_empty());
    world.close(tcp(1));
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn with_the_sip_pns_of_a_nearer_proxy_it_is_plain_sip() {
    let mut world = World::new();
    let text = register(tcp(1), "1001", APNS, INSTANCE, 3600, 1);
    let nearer = "Feature-Caps: *;+sip.pns=\"apns\"\r\nExpires: 3600\r\n";
    world.receive(tcp(1), text.replace("Expires: 3600\r\n", nearer));
    let relayed = world.expect("REGISTER");
    assert_eq!(caps(&relayed).len(), 1, "the nearer one's");
    world.receive(pbx(), ok_to_register(&relayed));
    assert!(caps(&world.expect("SIP/2.0 200")).is_empty());
    world.close(tcp(1));
    assert_eq!(world.count(), (0, 0), "it is not ours to wake");
}

#[test]
fn with_a_service_that_we_do_not_support_it_is_forwarded() {
    for params in [ACME, OTHER_APP] {
        let (relayed, ok) = registered(&mut World::new(), params, INSTANCE, 3600);
        assert!(caps(&relayed).is_empty() && caps(&ok).is_empty());
    }
}

#[test]
fn it_is_555_when_nobody_behind_us_supports_the_service_either() {
    for params in [ACME, OTHER_APP] {
        let mut world = world(|s| s.register.unsupported_pns = UnsupportedPns::Refuse);
        world.receive(tcp(1), register(tcp(1), "1001", params, INSTANCE, 3600, 1));
        let refused = world.expect("SIP/2.0 555 Push Notification Service Not Supported");
        assert!(caps(&refused).is_empty());
        world.expect_nothing();
        // A service of ours is not refused, and a device may leave.
        registered(&mut world, APNS, INSTANCE, 3600);
        registered(&mut world, params, INSTANCE, 0);
        world.assert_quiet();
    }
}

#[test]
fn with_a_time_too_short_it_is_423_with_min_expires() {
    let mut world = world(|s| s.upstreams[0].expires = Duration::from_secs(60));
    world.receive(tcp(1), register(tcp(1), "1001", APNS, INSTANCE, 299, 1));
    let refused = world.expect("SIP/2.0 423 Interval Too Brief");
    assert_eq!(refused.header(HeaderName::MinExpires), "300");
    assert!(caps(&refused).is_empty());
    // What it may ask for is taken, and without push any time is.
    registered(&mut world, APNS, INSTANCE, 300);
    registered(&mut world, "", INSTANCE, 60);
    registered(&mut world, APNS, INSTANCE, 0);
    world.assert_quiet();
}

/// The upstream is asked for its `expires` all the same, so that a short time is none.
#[test]
fn a_short_time_that_is_prolonged_is_not_too_short() {
    let (relayed, ok) = registered(&mut World::new(), APNS, INSTANCE, 60);
    assert_eq!(relayed.header(HeaderName::Expires), "3600");
    assert_eq!(caps(&ok).len(), 1);
}

#[test]
fn with_a_time_too_short_it_is_forwarded_without_push_by_choice() {
    let mut world = world(|s| {
        s.upstreams[0].expires = Duration::from_secs(60);
        s.register.too_short = TooShort::Plain;
    });
    let (relayed, ok) = registered(&mut world, APNS, INSTANCE, 120);
    assert!(caps(&relayed).is_empty() && caps(&ok).is_empty());
    world.close(tcp(1));
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn a_2xx_that_grants_too_short_a_time_promises_no_push() {
    for (granted, promises) in [(299, 0), (300, 1)] {
        let mut world = World::new();
        world.receive(tcp(1), register(tcp(1), "1001", APNS, PNSREG, 3600, 1));
        let relayed = world.expect("REGISTER");
        assert_eq!(caps(&relayed).len(), 1);
        let contact = relayed.header(HeaderName::Contact);
        let more = format!("Contact: {contact};expires={granted}\n");
        world.receive(pbx(), response(&relayed, "200 OK", &more));
        assert_eq!(caps(&world.expect("SIP/2.0 200")).len(), promises);
    }
}

#[test]
fn the_answer_to_pnsreg_is_a_number_above_120() {
    let (relayed, ok) = registered(&mut World::new(), APNS, PNSREG, 3600);
    assert!(!caps(&relayed)[0].contains("pnsreg"));
    let (_, number) = caps(&ok)[0]
        .split_once("+sip.pnsreg=\"")
        .map(|(before, after)| (before.to_owned(), after.trim_end_matches('"').to_owned()))
        .unwrap();
    assert!(number.parse::<u32>().unwrap() > 120);
    let (_, ok) = registered(&mut World::new(), APNS, INSTANCE, 3600);
    assert!(!caps(&ok)[0].contains("pnsreg"), "nobody asked");
}
