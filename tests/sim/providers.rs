//! Browsers' push services, an operator's own, and phones whose app says nothing of pushes
//! (RFC 8599 §12, §5.6.1.1).

use std::time::Duration;

use rouse::proto::Event;
use rouse::proto::push::params::{NoPush, PushParams};
use rouse::proto::push::{Notice, Pns, PushError, Reason};
use rouse::proto::settings::{ConfiguredDevice, ContactMode, PushApp, Settings};
use rouse::proto::sip::HeaderName;

use crate::world::{
    Sent, World, beside, invite, ok_to_register, pbx, register, settings, tcp, udp,
};

const BROWSER: &str = "pn-provider=webpush;pn-prid=https://push.example.net/s/1%3Fk%3Dv;\
                       pn-keys=BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
                       AAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA";
const OWN: &str = "pn-provider=HMS;pn-param=1055;pn-prid=IQAAAA";
const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";

/// A gateway with a VAPID key, one allowed host and a webhook.
fn with_providers() -> Settings {
    let mut settings = settings(ContactMode::Agent);
    let app = |pns, name: &str| PushApp {
        pns,
        name: name.into(),
    };
    settings.push.apps.extend([
        app(Pns::WebPush, "push.example.net"),
        app(Pns::Webhook, "hms"),
    ]);
    settings.push.vapid = Some("BPublicKey".into());
    settings
}

/// The Feature-Caps values of a message, without the PURR that each grant has anew.
fn caps(sent: &Sent) -> Vec<String> {
    let values = sent.message.values(HeaderName::FeatureCaps);
    let text = values.map(|value| {
        let value = String::from_utf8_lossy(value);
        let (before, _) = value.split_once(";+sip.pnspurr=").unwrap_or((&value, ""));
        before.to_owned()
    });
    text.collect()
}

/// Registers; the Feature-Caps that the upstream and the phone see.
fn offered(world: &mut World, params: &str) -> (Vec<String>, Vec<String>) {
    let text = register(tcp(1), "1001", params, INSTANCE, 600, 1);
    world.receive(tcp(1), text);
    let relayed = world.expect("REGISTER");
    assert!(!String::from_utf8_lossy(relayed.message.raw()).contains("pn-"));
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    (caps(&relayed), caps(&ok))
}

#[test]
pub fn a_browser_is_told_our_key_and_the_registrar_is_not() {
    let mut world = World::with(with_providers());
    let (up, down) = offered(&mut world, BROWSER);
    assert_eq!(up, ["*;+sip.pns=\"webpush\""]);
    assert_eq!(down, ["*;+sip.pns=\"webpush\";+sip.vapid=\"BPublicKey\""]);
    // It asks before it subscribes: only then can it know the key.
    let mut world = World::with(with_providers());
    let (up, down) = offered(&mut world, "pn-provider=webpush");
    assert!(up.is_empty());
    assert_eq!(down, ["*;+sip.pns=\"webpush\";+sip.vapid=\"BPublicKey\""]);
}

#[test]
pub fn an_operators_own_service_is_named_as_he_names_it() {
    let mut world = World::with(with_providers());
    let own = ["*;+sip.pns=\"hms\"".to_owned()];
    assert_eq!(offered(&mut world, OWN), (own.to_vec(), own.to_vec()));
    let mut world = World::with(with_providers());
    let (_, down) = offered(&mut world, "pn-provider");
    assert_eq!(down.len(), 5);
    assert!(down.contains(&own[0]));
}

#[test]
pub fn a_sleeping_browser_and_a_phone_of_ones_own_service_are_woken_and_told_of_the_end() {
    for (params, pns, app) in [
        (BROWSER, Pns::WebPush, "push.example.net"),
        (OWN, Pns::Webhook, "hms"),
    ] {
        let mut world = World::with(with_providers());
        world.register_for(tcp(1), "1001", params, INSTANCE, 600);
        world.close(tcp(1));
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let push = world.accept_push();
        assert!(matches!(push.notice, Notice::Call(_)));
        assert_eq!((push.target.pns, &*push.target.app), (pns, app));
        world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
        assert!(matches!(world.accept_push().notice, Notice::Cancel(_)));
        world.sent.clear();
        // Nothing has made it show a call: it gets none that is over.
        world.register_for(tcp(2), "1001", params, INSTANCE, 600);
        world.expect_nothing();
        world.close(tcp(2));
        world.receive(pbx(), invite("1001", "c2"));
        world.expect("SIP/2.0 100");
        world.accept_push();
        world.register_for(tcp(3), "1001", params, INSTANCE, 600);
        world.expect("INVITE");
    }
}

#[test]
pub fn a_subscription_elsewhere_is_plain_sip_and_the_operator_hears_why() {
    for (host, reason) in [
        ("push.example.org", NoPush::ForbiddenHost),
        ("evil-push.example.net", NoPush::ForbiddenHost),
        ("push.example.net:8443", NoPush::ForbiddenHost),
        ("169.254.169.254", NoPush::ForbiddenHost),
        ("u%40push.example.net", NoPush::BadToken),
    ] {
        let mut world = World::with(with_providers());
        let params = format!("pn-provider=webpush;pn-prid=https://{host}/s/1");
        let none = (Vec::new(), Vec::new());
        assert_eq!(offered(&mut world, &params), none, "{host}");
        let is_said = world
            .events
            .iter()
            .any(|event| matches!(event, Event::NoPush { reason: said, .. } if *said == reason));
        assert!(is_said, "{host}");
    }
}

#[test]
pub fn a_subscription_that_is_gone_is_forgotten() {
    let mut world = World::with(with_providers());
    world.register_for(tcp(1), "1001", BROWSER, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.refuse_push(PushError::Unregistered {
        since_ms: None,
        reason: Reason::new("status 410"),
    });
    world.expect("SIP/2.0 480");
    assert!(world.stored.is_empty());
}

/// A gateway that was told how to wake an agent's phone.
fn with_device(instance: Option<&str>, user_agent: Option<&str>) -> World {
    let mut settings = with_providers();
    settings.push.devices = vec![ConfiguredDevice {
        user: "1001".into(),
        domain: Some("pbx.example.com".into()),
        instance: instance.map(Into::into),
        user_agent: user_agent.map(Into::into),
        params: PushParams::of("hms", Some("1055"), "entered").unwrap(),
    }];
    World::with(settings)
}

#[test]
pub fn a_phone_that_says_nothing_is_woken_as_it_was_entered() {
    let mut world = with_device(None, None);
    let (up, down) = offered(&mut world, "");
    assert!(up.is_empty() && down.is_empty(), "it has not asked");
    world.close(tcp(1));
    assert_eq!(world.stored.len(), 1, "it sleeps");
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert_eq!(world.accept_push().target.token.expose(), "entered");
    // It comes back from another address and is the same phone.
    world.register_for(tcp(2), "1001", "", INSTANCE, 600);
    world.expect("INVITE");
    assert_eq!(world.count(), (1, 1));
    world.register_for(tcp(3), "1002", "", "", 600);
    world.close(tcp(3));
    assert_eq!(world.stored.len(), 1, "nothing was entered for this one");
}

#[test]
pub fn a_phone_that_says_something_is_believed_before_what_was_entered() {
    let mut world = with_device(None, None);
    world.register_for(tcp(1), "1001", BROWSER, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert_eq!(world.accept_push().target.pns, Pns::WebPush);
}

#[test]
pub fn what_was_entered_is_for_the_phone_that_it_names() {
    // The agent's desk phone is another instance.
    let mut world = with_device(Some("urn:uuid:1"), None);
    let desk = ";+sip.instance=\"<urn:uuid:desk>\"";
    world.register_for(tcp(1), "1001", "", INSTANCE, 600);
    world.register_for(tcp(2), "1001", "", desk, 600);
    world.close(tcp(1));
    world.close(tcp(2));
    assert_eq!(world.count(), (1, 0));

    let mut world = with_device(None, Some("zoiper"));
    for (flow, number, agent) in [
        (udp(1), 1, "User-Agent: Yealink SIP-T42S\r\n"),
        (udp(2), 2, "User-Agent: Zoiper rv2.10\r\n"),
        (udp(3), 3, ""),
    ] {
        let instance = format!(";+sip.instance=\"<urn:uuid:{number}>\"");
        let text = register(flow, "1001", "", &instance, 600, number);
        let text = text.replace("Expires:", &format!("{agent}Expires:"));
        world.receive(flow, text);
        let relayed = world.expect("REGISTER");
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
    }
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.advance(Duration::from_secs(3));
    let pushed: Vec<_> = world.pushes.iter().map(|push| push.target.pns).collect();
    assert_eq!(pushed, [Pns::Webhook]);
}
