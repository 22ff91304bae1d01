//! RFC 3261 §10.3, processing REGISTER requests, for one that relays them to the registrar.

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event};

use crate::scene::{ONE, TWO, values, with_phone};
use crate::world::{World, ok_to_register, pbx, register, response, udp};

/// > If the request contains a Proxy-Require […]; the registrar MUST perform the checks in order
///
/// What a proxy refuses never reaches the registrar.
#[test]
fn a_register_that_a_proxy_must_refuse_is_not_relayed() {
    for (from, to, status) in [
        ("Max-Forwards: 70", "Max-Forwards: 0", "483"),
        ("Max-Forwards: 70", "Proxy-Require: foo", "420"),
        (
            "@pbx.example.com>\r\nCall-ID",
            "@other.example>\r\nCall-ID",
            "404",
        ),
        (
            "Contact: <sip:1001@10.0.0.5:5060>",
            "Contact: <sip:1001@10.0.0.5:x>",
            "400",
        ),
        ("To: <sip:1001@", "To: <sip:", "400"),
    ] {
        let mut world = World::new();
        let text = register(udp(1), "1001", "", "", 600, 1);
        assert!(text.contains(from));
        world.receive(udp(1), text.replacen(from, to, 1));
        world.expect(&format!("SIP/2.0 {status}"));
        world.expect_nothing();
        world.assert_quiet();
    }
}

/// > the registrar MUST authenticate the user agent (§10.3 step 3, as the domain's policy)
///
/// It is Asterisk that does: challenge and credentials pass untouched, and so does the Request-URI
/// that the digest covers.
#[test]
fn challenge_and_credentials_pass_untouched() {
    let mut world = World::new();
    let text = register(udp(1), "1001", "", "", 600, 1);
    world.receive(udp(1), &text);
    let relayed = world.expect("REGISTER sip:pbx.example.com SIP/2.0");
    let challenge = "Digest algorithm=MD5, realm=\"asterisk\", nonce=\"5f1b\"";
    let more = format!("WWW-Authenticate: {challenge}\n");
    world.receive(pbx(), response(&relayed, "401 Unauthorized", &more));
    let refused = world.expect("SIP/2.0 401");
    assert_eq!(refused.header(HeaderName::WwwAuthenticate), challenge);
    let credentials = "Digest username=\"1001\", realm=\"asterisk\", nonce=\"5f1b\", \
                       uri=\"sip:pbx.example.com\", response=\"00\", algorithm=MD5";
    let again = register(udp(1), "1001", "", "", 600, 2).replacen(
        "Max-Forwards",
        &format!("Authorization: {credentials}\r\nMax-Forwards"),
        1,
    );
    world.receive(udp(1), again);
    let relayed = world.expect("REGISTER sip:pbx.example.com SIP/2.0");
    assert_eq!(relayed.header(HeaderName::Authorization), credentials);
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
fn only_a_2xx_makes_a_binding() {
    let mut world = World::new();
    for (number, status) in [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "500 Oops",
    ]
    .into_iter()
    .enumerate()
    {
        let number = u32::try_from(number).unwrap() + 1;
        world.receive(udp(1), register(udp(1), "1001", "", "", 600, number));
        let relayed = world.expect("REGISTER");
        world.receive(pbx(), response(&relayed, status, ""));
        world.expect(&format!("SIP/2.0 {status}"));
    }
    assert_eq!(world.count(), (0, 0));
    assert!(world.stored.is_empty());
    world.assert_quiet();
}

/// > If the request has additional Contact fields or an expiration time other than zero, the
/// > request is invalid, and the server MUST return a 400 (Invalid Request) and abort the remaining
/// > steps. (of `Contact: *`, step 6)
#[test]
fn the_wildcard_beside_anything_else_is_400() {
    for contact in [
        "Contact: *\r\nExpires: 600",
        "Contact: *, <sip:a@b>\r\nExpires: 0",
    ] {
        let mut world = with_phone(udp(1));
        let text = register(udp(1), "1001", "", "", 600, 7).replacen(
            "Contact: <sip:1001@10.0.0.5:5060>\r\nExpires: 600",
            contact,
            1,
        );
        assert!(text.contains(contact));
        world.receive(udp(1), text);
        world.expect("SIP/2.0 400");
        assert_eq!(world.count().0, 1);
        world.assert_quiet();
    }
}

/// > The response MUST contain Contact header field values enumerating all current bindings.
///
/// Each phone sees its own only: others' contacts are none of its business.
#[test]
fn the_2xx_lists_the_phones_own_contact_as_it_sent_it() {
    let mut world = with_phone(udp(1));
    world.receive(
        udp(2),
        register(udp(2), "1001", "transport=udp;x=%41b", TWO, 600, 5),
    );
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.to, Destination::Flow(udp(2).id));
    assert_eq!(
        values(&ok, HeaderName::Contact),
        [format!(
            "<sip:1001@10.0.0.5:5060;transport=udp;x=%41b>{TWO};expires=600"
        )]
    );
    world.assert_quiet();
}

/// > The registrar […] MAY choose an expiration less than the requested expiration interval
///
/// What it grants is what the phone is told, and how long it is kept.
#[test]
fn the_registrars_time_counts() {
    let mut world = World::new();
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 600, 1));
    let relayed = world.expect("REGISTER");
    let contact = relayed.header(HeaderName::Contact);
    let more = format!("Contact: {contact};expires=120\nExpires: 120\n");
    world.receive(pbx(), response(&relayed, "200 OK", &more));
    let ok = world.expect("SIP/2.0 200");
    assert!(ok.header(HeaderName::Contact).ends_with(";expires=120"));
    world.advance(std::time::Duration::from_secs(119));
    assert_eq!(world.count().0, 1);
    world.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.count().0, 0);
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::Expired { .. }))
    );
    world.assert_quiet();
}

#[test]
fn a_query_is_relayed_and_changes_nothing() {
    let mut world = with_phone(udp(1));
    let text = register(udp(1), "1001", "", "", 600, 5);
    let text: String = text
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Contact") && !line.starts_with("Expires"))
        .collect();
    world.receive(udp(1), text);
    let relayed = world.expect("REGISTER");
    assert_eq!(values(&relayed, HeaderName::Contact), [""; 0]);
    world.receive(pbx(), response(&relayed, "200 OK", ""));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count().0, 1);
    world.assert_quiet();
}
