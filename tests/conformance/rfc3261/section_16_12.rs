//! RFC 3261 §16.12, summary of proxy route processing, with its examples: a dialog across another
//! proxy of the upstream's side, that is loose (§16.12.1.1) or strict (§16.12.1.2).

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, FlowId};

use crate::scene::{answer, call_with, from_phone, values, with_phone};
use crate::world::{Sent, World, invite, pbx, udp};

/// A call that came through another proxy, 192.0.2.81, and the phone's route set.
fn across_another(parameters: &str) -> (World, Vec<String>) {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1").replacen(
        "Max-",
        &format!("Record-Route: <sip:192.0.2.81:5070{parameters}>\r\nMax-"),
        1,
    );
    let sent = call_with(&mut world, text).remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    let routes = values(&sent, HeaderName::RecordRoute);
    assert_eq!(routes.len(), 2);
    (world, routes)
}

fn remote(sent: &Sent) -> String {
    match sent.to {
        Destination::Flow(FlowId::Datagram { remote, .. }) => remote.to_string(),
        Destination::Flow(FlowId::Stream(_)) | Destination::Hop(_) => panic!("UDP"),
    }
}

/// > The proxy will inspect the URI in the topmost Route header field value. If it indicates this
/// > proxy, the proxy removes it from the Route header field (this route node has been reached).
/// >
/// > The proxy will forward the request to the resource indicated by the URI in the topmost Route
/// > header field value or in the Request-URI if no Route header field is present.
#[test]
fn the_phones_bye_goes_through_the_other_proxy() {
    let (mut world, routes) = across_another(";lr");
    let route = format!("Route: {}\n", routes.join(","));
    let bye = from_phone(udp(1), "BYE", "sip:2001@192.0.2.80:5080", "c1", &route).replacen(
        "To: <sip:2001@192.0.2.80:5080>",
        "To: <sip:a@x>;tag=asc1",
        1,
    );
    world.receive(udp(1), bye);
    let sent = world.expect("BYE sip:2001@192.0.2.80:5080 SIP/2.0");
    assert_eq!(remote(&sent), "192.0.2.81:5070");
    assert_eq!(
        values(&sent, HeaderName::Route),
        ["<sip:192.0.2.81:5070;lr>"]
    );
}

#[test]
fn a_bye_from_the_other_side_reaches_the_phone_with_its_own_target() {
    let (mut world, routes) = across_another(";lr");
    let bye = invite("1001", "c1")
        .replacen(
            "INVITE sip:1001@192.0.2.1:5060",
            "INVITE sip:1001@10.0.0.5:5060",
            1,
        )
        .replace("INVITE", "BYE")
        .replacen("branch=z9hG4bKc1", "branch=z9hG4bKbye", 1)
        .replacen(">\r\nContact", ">;tag=remote\r\nContact", 1)
        .replacen("Max-", &format!("Route: {}\r\nMax-", routes[0]), 1);
    world.receive(pbx(), bye);
    let sent = world.expect("BYE sip:1001@10.0.0.5:5060");
    assert_eq!(remote(&sent), udp(1).remote.to_string());
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}
