//! RFC 3581 §4, through the gateway: `rport` is filled in and answered to, for what is forwarded,
//! refused with state and refused without.

use rouse::proto::Destination;
use rouse::proto::sip::HeaderName;

use crate::scene::{from_phone, values, with_phone};
use crate::world::{pbx, response, udp};

/// When the request has an rport parameter without a value the server sets it to the source port,
/// inserts `received` even if it is the sent-by address, and answers to that address and port.
#[test]
fn a_phone_behind_a_nat_is_answered_where_it_is() {
    let mut world = with_phone(udp(34_567));
    for (method, uri, status) in [
        ("MESSAGE", "sip:600@pbx.example.com", "202"),
        ("MESSAGE", "gopher:600@pbx.example.com", "416"),
        ("INVITE", "sip:600@pbx.example.com", "100"),
    ] {
        let call = format!("{method}{status}");
        world.receive(udp(34_567), from_phone(udp(34_567), method, uri, &call, ""));
        if status == "202" {
            let sent = world.expect("MESSAGE");
            world.receive(pbx(), response(&sent, "202 Accepted", ""));
        }
        let reply = world.expect(&format!("SIP/2.0 {status}"));
        assert_eq!(reply.to, Destination::Flow(udp(34_567).id));
        let via = values(&reply, HeaderName::Via).remove(0);
        assert!(via.contains("rport=34567"), "{via}");
        assert!(via.contains("received=198.51.100.7"), "{via}");
    }
}

/// And our own requests ask for it.
#[test]
fn our_own_via_has_rport() {
    let mut world = with_phone(udp(1));
    let sent = crate::scene::call(&mut world, "c1").remove(0);
    assert!(values(&sent, HeaderName::Via)[0].contains(";rport"));
}
