//! RFC 8599 §7: an INVITE with Replaces (RFC 3891) to the Contact of the dialog that it replaces.

use rouse::proto::Destination;
use rouse::proto::push::Notice;

use super::{FCM, INSTANCE, purr, registered};
use crate::world::{World, invite_to, pbx, response, tcp};

#[test]
fn an_invite_to_a_contact_with_a_purr_wakes_its_device_and_keeps_its_replaces() {
    let mut world = World::new();
    let (_, ok) = registered(&mut world, FCM, INSTANCE, 3600);
    let uri = format!("sip:1001@10.0.0.5:5060;pn-purr={}", purr(&ok));
    world.close(tcp(1));
    let replaces = "Replaces: c9;to-tag=1;from-tag=2\r\n";
    let text = invite_to(&uri, "c1").replacen("Max-", &format!("{replaces}Max-"), 1);
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    world.register_for(tcp(2), "1001", FCM, INSTANCE, 3600);
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(tcp(2).id));
    assert!(sent.text().contains(replaces));
    world.receive(tcp(2), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}
