//! RFC 8599 §8: how the feature-capability indicators are written.

use rouse::proto::push::Pns;
use rouse::proto::settings::PushApp;

use super::{FCM, INSTANCE, PNSREG, caps, registered};
use crate::world::{APNS, World, ok_to_register, pbx, register, tcp};

/// §8.2: one value of Feature-Caps for each service.
#[test]
fn each_service_has_a_value_of_its_own() {
    let mut world = World::new();
    let two = format!(
        "Contact: <sip:1001@10.0.0.5:5060;{APNS}>{INSTANCE};reg-id=1\r\n\
         Contact: <sip:1001@10.0.0.6:5060;{FCM}>;+sip.instance=\"<urn:uuid:2>\"\r\nExpires"
    );
    let text = register(tcp(1), "1001", "", "", 3600, 1);
    let text = text.replace("Contact: <sip:1001@10.0.0.5:5060>\r\nExpires", &two);
    world.receive(tcp(1), text.replace(";reg-id=1", ""));
    let relayed = world.expect("REGISTER");
    let both = ["*;+sip.pns=\"apns\"", "*;+sip.pns=\"fcm\""];
    assert_eq!(caps(&relayed), both);
    world.receive(pbx(), ok_to_register(&relayed));
    assert_eq!(caps(&world.expect("SIP/2.0 200")), both);
}

/// §8.4: `+sip.pnsreg` stands beside its `+sip.pns`, in the 2xx alone.
#[test]
fn pnsreg_stands_beside_its_service_in_the_2xx_alone() {
    let (relayed, ok) = registered(&mut World::new(), APNS, PNSREG, 3600);
    assert_eq!(caps(&relayed), ["*;+sip.pns=\"apns\""]);
    assert_eq!(caps(&ok), ["*;+sip.pns=\"apns\";+sip.pnsreg=\"150\""]);
}

/// §8.3: `+sip.vapid` stands beside Web Push's, in the 2xx alone.
#[test]
fn vapid_stands_beside_webpush_in_the_2xx_alone() {
    let mut world = super::world(|settings| {
        settings.push.apps.push(PushApp {
            pns: Pns::WebPush,
            name: "push.example".into(),
        });
        settings.push.vapid = Some("BPublicKey".into());
    });
    let query = "pn-provider=webpush";
    let (relayed, ok) = registered(&mut world, query, INSTANCE, 3600);
    assert!(caps(&relayed).is_empty());
    assert_eq!(
        caps(&ok),
        ["*;+sip.pns=\"webpush\";+sip.vapid=\"BPublicKey\""]
    );
    let (relayed, ok) = registered(&mut world, APNS, INSTANCE, 3600);
    assert!(!relayed.text().contains("vapid") && !ok.text().contains("vapid"));
}
