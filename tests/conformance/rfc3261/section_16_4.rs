//! RFC 3261 §16.4, route information preprocessing.
//!
//! Not claimed: `maddr` in a Request-URI. Nobody but a configured upstream is reached at an address
//! that a request names.

use rouse::proto::Destination;
use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call, from_phone, values, with_phone};
use crate::world::{World, crlf, pbx, tcp, udp, via};

/// A call that is up, and the Routes of Asterisk's side.
fn dialog() -> (World, Vec<String>) {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    let routes = values(&sent, HeaderName::RecordRoute);
    (world, routes)
}

fn bye(uri: &str, routes: &str) -> String {
    let via = via(pbx(), "z9hG4bKbye");
    crlf(&format!(
        "
BYE {uri} SIP/2.0
{via}
{routes}Max-Forwards: 70
From: <sip:2001@192.0.2.80>;tag=asc1
To: <sip:1001@pbx.example.com>;tag=remote
Call-ID: c1
CSeq: 103 BYE
Content-Length: 0

"
    ))
}

/// > If the Request-URI of the request contains a value this proxy previously placed into a
/// > Record-Route header field (see Section 16.6 item 4), the proxy MUST replace the Request-URI in
/// > the request with the last value from the Route header field, and remove that value from the
/// > Route header field. The proxy MUST then proceed as if it received this modified request.
#[test]
fn a_strict_routers_request_gets_its_request_uri_back() {
    let (mut world, routes) = dialog();
    let own = routes[0].trim_matches(['<', '>']);
    world.receive(pbx(), bye(own, "Route: <sip:1001@10.0.0.5:5060>\n"));
    let sent = world.expect("BYE sip:1001@10.0.0.5:5060 SIP/2.0");
    assert_eq!(sent.to, Destination::Flow(udp(1).id));
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
fn of_several_routes_a_strict_router_left_only_the_last_is_the_request_uri() {
    let (mut world, routes) = dialog();
    let own = routes[0].trim_matches(['<', '>']);
    let more = "Route: <sip:10.0.0.9;lr>, <sip:1001@10.0.0.5:5060>\n";
    world.receive(pbx(), bye(own, more));
    let sent = world.expect("BYE sip:1001@10.0.0.5:5060 SIP/2.0");
    assert_eq!(values(&sent, HeaderName::Route), ["<sip:10.0.0.9;lr>"]);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// > If the first value in the Route header field indicates this proxy, the proxy MUST remove that
/// > value from the request.
#[test]
fn a_route_that_names_us_is_removed_and_so_is_every_other_of_a_phone() {
    for routes in [
        "<sip:192.0.2.1;lr>",
        "<sip:192.0.2.1:5060;lr>, <sip:192.0.2.1:5061;transport=tls;lr>",
        "<sip:anybody@192.0.2.1;lr>",
        // A phone has no way but that to its upstream, whatever it asks for.
        "<sip:192.0.2.1;lr>, <sip:192.0.2.90;lr>",
        // Another server on our host.
        "<sip:192.0.2.1:5070;lr>",
    ] {
        let mut world = with_phone(tcp(1));
        let more = format!("Route: {routes}\n");
        let uri = "sip:600@pbx.example.com";
        world.receive(tcp(1), from_phone(tcp(1), "MESSAGE", uri, "m1", &more));
        let sent = world.expect("MESSAGE sip:600@pbx.example.com");
        assert_eq!(values(&sent, HeaderName::Route), [""; 0], "{routes}");
        answer(&mut world, &sent, "202 Accepted", "");
        world.expect("SIP/2.0 202");
        world.assert_quiet();
    }
}

/// PJSIP repeats its Path behind the dialog's route set.
#[test]
fn our_own_value_may_stand_there_several_times() {
    let (mut world, routes) = dialog();
    let twice = format!("Route: {0}\nRoute: {0}\nRoute: {0}\n", routes[0]);
    world.receive(pbx(), bye("sip:1001@10.0.0.5:5060", &twice));
    let sent = world.expect("BYE sip:1001@10.0.0.5:5060 SIP/2.0");
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}
