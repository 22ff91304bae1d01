//! RFC 8599 §6.2.3: a request inside a dialog that carries a PURR.

use std::time::Duration;

use rouse::proto::push::Notice;
use rouse::proto::sip::HeaderName;

use super::{FCM, INSTANCE, purr, registered};
use crate::scene::{from_phone, values};
use crate::world::{World, invite_to, pbx, response, tcp};

/// A phone that has called out with its PURR and sleeps: what Asterisk's requests are sent to, and
/// their Route lines.
fn in_a_dialog() -> (World, String, String) {
    let mut world = World::new();
    let (_, ok) = registered(&mut world, FCM, INSTANCE, 3600);
    let uri = format!("sip:1001@10.0.0.5:5060;pn-purr={}", purr(&ok));
    let text = from_phone(tcp(1), "INVITE", "sip:600@pbx.example.com", "out", "");
    world.receive(tcp(1), text.replace("sip:1001@10.0.0.5:5060", &uri));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.receive(pbx(), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let routes = values(&sent, HeaderName::RecordRoute).join(", ");
    world.close(tcp(1));
    (world, uri, format!("Route: {routes}\r\n"))
}

fn update(uri: &str, routes: &str) -> String {
    invite_to(uri, "out")
        .replace("INVITE", "UPDATE")
        .replacen("z9hG4bKout", "z9hG4bKupdate", 1)
        .replacen(">\r\nContact", ">;tag=phone\r\nContact", 1)
        .replacen("Max-", &format!("{routes}Max-"), 1)
}

/// "the proxy MUST place the SIP request in the SIP Request Push Bucket and request that a push
/// notification be sent to the UA"; after the 2xx of the REGISTER it "MUST remove the SIP request
/// [...] and forward it".
#[test]
fn a_request_with_a_purr_has_the_device_pushed_and_follows_its_register() {
    let (mut world, uri, routes) = in_a_dialog();
    world.receive(pbx(), update(&uri, &routes));
    world.expect_nothing();
    assert_eq!(world.accept_push().notice, Notice::Wake);
    world.register_for(tcp(2), "1001", FCM, INSTANCE, 3600);
    let sent = world.expect(&format!("UPDATE {uri}"));
    world.receive(tcp(2), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// "either [...] in the Request-URI or in a Route header field".
#[test]
fn the_purr_may_stand_in_a_route() {
    let (mut world, uri, routes) = in_a_dialog();
    let routes = format!("{routes}Route: <{uri};lr>\r\n");
    world.receive(pbx(), update("sip:1001@10.0.0.5:5060", &routes));
    assert_eq!(world.accept_push().notice, Notice::Wake);
    world.expect_nothing();
}

/// "SHOULD select a response code that only impacts the transaction": RFC 5057 §5.1 says so of 504
/// with Retry-After.
#[test]
fn a_device_that_does_not_come_costs_the_transaction_alone() {
    let (mut world, uri, routes) = in_a_dialog();
    world.receive(pbx(), update(&uri, &routes));
    world.accept_push();
    world.advance(Duration::from_secs(10));
    let refused = world.expect("SIP/2.0 504");
    assert!(!refused.header(HeaderName::RetryAfter).is_empty());
    world.assert_quiet();
}

/// A request of the same dialog without the PURR wakes nobody, and waits all the same.
#[test]
fn without_the_purr_nobody_is_pushed() {
    let (mut world, _, routes) = in_a_dialog();
    world.receive(pbx(), update("sip:1001@10.0.0.5:5060", &routes));
    assert!(world.pushes.is_empty());
    world.expect_nothing();
    world.register_for(tcp(2), "1001", FCM, INSTANCE, 3600);
    world.expect("UPDATE");
}
