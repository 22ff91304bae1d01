//! RFC 8599 §6.2.2: the initial request of a dialog with a PURR.

use rouse::proto::sip::HeaderName;

use super::{FCM, INSTANCE, purr, registered};
use crate::scene::{from_phone, values};
use crate::world::{World, invite, pbx, tcp};

/// "the proxy MUST add a Record-Route header to the request", and the PURR goes on: it is what the
/// peer's requests will carry.
#[test]
fn a_dialog_that_the_device_opens_with_its_purr_is_record_routed() {
    let mut world = World::new();
    let (_, ok) = registered(&mut world, FCM, INSTANCE, 3600);
    let contact = format!("<sip:1001@10.0.0.5:5060;pn-purr={}>", purr(&ok));
    for method in ["INVITE", "SUBSCRIBE"] {
        let uri = "sip:600@pbx.example.com";
        let text = from_phone(tcp(1), method, uri, method, "");
        world.receive(tcp(1), text.replace("<sip:1001@10.0.0.5:5060>", &contact));
        if method == "INVITE" {
            world.expect("SIP/2.0 100");
        }
        let sent = world.expect(method);
        assert_eq!(values(&sent, HeaderName::RecordRoute).len(), 2);
        assert_eq!(values(&sent, HeaderName::Contact), [contact.as_str()]);
    }
}

/// "When the proxy receives an initial request for a dialog addressed towards the UA".
#[test]
fn a_dialog_that_is_opened_to_the_device_is_record_routed() {
    let mut world = World::new();
    registered(&mut world, FCM, INSTANCE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(values(&sent, HeaderName::RecordRoute).len(), 2);
}
