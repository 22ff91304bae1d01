//! RFC 8599 §12: Web Push, at the endpoint that `pn-prid` names.
//!
//! `pn-param` has no use; our key goes to the device in `+sip.vapid` (RFC 8599 §5.4).

use rouse::proto::push::Pns;
use rouse::proto::settings::{ContactMode, PushApp, Settings};

use super::{INSTANCE, caps, registered};
use crate::world::{World, invite, pbx, settings, tcp};

const BROWSER: &str = "pn-provider=webpush;pn-prid=https://push.example.net/s/1%3Fk%3Dv";

fn with_web_push() -> Settings {
    let mut settings = settings(ContactMode::Agent);
    settings.push.apps.push(PushApp {
        pns: Pns::WebPush,
        name: "push.example.net".into(),
    });
    settings.push.vapid = Some("BPublicKey".into());
    settings
}

#[test]
fn a_subscription_without_a_param_is_pushed_at_its_endpoint() {
    let mut world = World::with(with_web_push());
    registered(&mut world, BROWSER, INSTANCE, 3600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let target = world.accept_push().target;
    assert_eq!(target.pns, Pns::WebPush);
    assert_eq!(target.token.expose(), "https://push.example.net/s/1?k=v");
}

#[test]
fn the_vapid_key_stands_beside_the_service_in_the_2xx_alone() {
    let mut world = World::with(with_web_push());
    let (relayed, ok) = registered(&mut world, BROWSER, INSTANCE, 3600);
    assert_eq!(caps(&relayed), ["*;+sip.pns=\"webpush\""]);
    let expected = ["*;+sip.pns=\"webpush\";+sip.vapid=\"BPublicKey\""];
    assert_eq!(caps(&ok), expected);
}

#[test]
fn a_browser_that_asks_learns_the_key_that_it_subscribes_with() {
    let mut world = World::with(with_web_push());
    let (relayed, ok) = registered(&mut world, "pn-provider=webpush", INSTANCE, 3600);
    assert!(caps(&relayed).is_empty());
    let expected = ["*;+sip.pns=\"webpush\";+sip.vapid=\"BPublicKey\""];
    assert_eq!(caps(&ok), expected);
}
