//! RFC 8599 §5.4: saying which push services are supported.

use super::{FCM, INSTANCE, caps, registered};
use crate::world::{APNS, World, pbx, register, response, tcp};

#[test]
fn the_relayed_register_and_its_2xx_name_the_devices_service() {
    for (params, name) in [(APNS, "apns"), (FCM, "fcm")] {
        let (relayed, ok) = registered(&mut World::new(), params, INSTANCE, 3600);
        let expected = [format!("*;+sip.pns=\"{name}\"")];
        assert_eq!(caps(&relayed), expected);
        assert_eq!(caps(&ok), expected);
    }
}

#[test]
fn an_answer_other_than_2xx_names_none() {
    let mut world = World::new();
    world.receive(tcp(1), register(tcp(1), "1001", APNS, INSTANCE, 3600, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, "401 Unauthorized", ""));
    assert!(caps(&world.expect("SIP/2.0 401")).is_empty());
}

#[test]
fn a_device_that_leaves_is_promised_nothing() {
    let mut world = World::new();
    registered(&mut world, APNS, INSTANCE, 3600);
    let (relayed, ok) = registered(&mut world, APNS, INSTANCE, 0);
    assert!(caps(&relayed).is_empty() && caps(&ok).is_empty());
}
