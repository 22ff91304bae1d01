//! RFC 8599 §5.3: which registration belongs to the device that was pushed.

use rouse::proto::Destination;

use super::{FCM, called};
use crate::world::{APNS, World, invite, ok_to_register, pbx, register, tcp};

/// The app has a new address and no instance: its pn-* parameters name it.
#[test]
fn equal_push_parameters_suffice_wherever_the_phone_has_moved() {
    let mut world = called();
    let text = register(tcp(2), "1001", APNS, "", 3600, 77).replace("10.0.0.5:5060", "172.16.0.9");
    world.receive(tcp(2), text);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    let sent = world.expect("INVITE sip:1001@172.16.0.9");
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
    assert_eq!(world.count(), (1, 1), "it is still one device");
}

#[test]
fn another_devices_registration_releases_nothing() {
    let mut world = called();
    let two = ";+sip.instance=\"<urn:uuid:2>\"";
    world.register_for(tcp(2), "1001", FCM, two, 3600);
    world.expect_nothing();
    // Nor does another agent's device with the very same Contact.
    world.register_for(tcp(3), "1002", FCM, two, 3600);
    world.expect_nothing();
}

#[test]
fn a_new_token_under_the_same_instance_replaces_the_old_one() {
    let mut world = World::new();
    let one = ";+sip.instance=\"<urn:uuid:1>\"";
    world.register_for(tcp(1), "1001", FCM, one, 3600);
    world.register_for(tcp(2), "1001", &FCM.replace("abc", "new"), one, 3600);
    assert_eq!(world.count(), (1, 1));
    world.close(tcp(2));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let push = world.accept_push();
    assert_eq!(push.target.token.expose(), "new:def");
    assert!(world.pushes.is_empty());
}
