//! RFC 5626 §5.2: flow tokens.
//!
//! The token in our Record-Route and Path cannot be forged, and names the device so that a dialog
//! outlives the socket.

use rouse::proto::Destination;
use rouse::proto::sip::HeaderName;

use crate::scene::{ONE, answer, call, from_phone, values, with_phone};
use crate::world::{World, register, tcp, udp};

fn dialog() -> (World, String) {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    let route = values(&sent, HeaderName::RecordRoute).remove(0);
    (world, route)
}

fn bye(flow: rouse::proto::Flow, route: &str, call: &str) -> String {
    let route = format!("Route: {route}\n");
    from_phone(flow, "BYE", "sip:2001@192.0.2.80:5080", call, &route).replacen(
        "To: <sip:2001@192.0.2.80:5080>",
        "To: <sip:2001@192.0.2.80>;tag=asc1",
        1,
    )
}

#[test]
fn a_token_of_which_one_character_was_changed_is_403() {
    let (mut world, route) = dialog();
    let token = route.trim_start_matches("<sip:").split('@').next().unwrap();
    for at in [0, 5, 20, token.len() - 1] {
        let mut forged = token.to_owned().into_bytes();
        forged[at] = if forged[at] == b'B' { b'C' } else { b'B' };
        let forged = route.replacen(token, std::str::from_utf8(&forged).unwrap(), 1);
        world.receive(tcp(9), bye(tcp(9), &forged, &format!("f{at}")));
        world.expect("SIP/2.0 403");
        world.expect_nothing();
    }
    world.assert_quiet();
}

#[test]
fn a_token_is_good_from_any_flow_because_the_phone_may_have_moved() {
    let (mut world, route) = dialog();
    world.receive(tcp(9), bye(tcp(9), &route, "c1"));
    let sent = world.expect("BYE sip:2001@192.0.2.80:5080");
    answer(&mut world, &sent, "200 OK", "");
    assert_eq!(world.expect("SIP/2.0 200").to, Destination::Flow(tcp(9).id));
    world.assert_quiet();
}

#[test]
fn a_token_holds_only_characters_that_no_peer_rewrites() {
    let (_, route) = dialog();
    let token = route.trim_start_matches("<sip:").split('@').next().unwrap();
    assert!(
        token
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    );
}

#[test]
fn a_request_toward_a_device_that_has_left_and_does_not_return_is_430() {
    let (mut world, route) = dialog();
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 0, 77));
    let relayed = world.expect("REGISTER");
    world.receive(
        crate::world::pbx(),
        crate::world::response(&relayed, "200 OK", ""),
    );
    world.expect("SIP/2.0 200");
    let info = crate::world::invite_to("sip:1001@10.0.0.5:5060", "c1")
        .replace("INVITE", "INFO")
        .replacen(
            "To: <sip:1001@10.0.0.5:5060>",
            "To: <sip:1001@x>;tag=remote",
            1,
        )
        .replacen("Max-", &format!("Route: {route}\r\nMax-"), 1);
    world.receive(crate::world::pbx(), info);
    world.advance(std::time::Duration::from_millis(9_999));
    world.expect_nothing();
    world.advance(std::time::Duration::from_millis(1));
    world.expect("SIP/2.0 430");
    world.assert_quiet();
}
