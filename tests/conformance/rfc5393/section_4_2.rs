//! RFC 5393 §4.2: a proxy that forks detects loops, and answers them with 482.
//!
//! A request that came back with anything changed that decides its way is a spiral and goes on.

use crate::scene::{answer, call_with, with_two_phones};
use crate::world::{World, contact_uri, invite, pbx, via};

/// Asterisk's INVITE after it went through us once and came back: our Via under another's.
fn looped(world: &mut World, uri: &str) -> String {
    let sent = call_with(world, invite("1001", "c1")).remove(0);
    world.sent.clear();
    let text = sent
        .text()
        .replacen(&sent.first_line(), &format!("INVITE {uri} SIP/2.0"), 1);
    text.split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Record-Route"))
        .collect::<String>()
        .replacen("Via:", &format!("{}\r\nVia:", via(pbx(), "z9hG4bKback")), 1)
}

#[test]
fn the_same_request_again_is_482() {
    let mut world = with_two_phones();
    let text = looped(&mut world, &contact_uri("1001"));
    world.receive(pbx(), text);
    world.expect("SIP/2.0 482");
    world.expect_nothing();
}

#[test]
fn a_request_with_another_request_uri_tag_or_route_is_a_spiral() {
    let with_uri = |uri: &str| uri.to_owned();
    for (uri, from, to) in [
        (with_uri("sip:1001@192.0.2.1"), "", ""),
        (contact_uri("1001"), "tag=asc1", "tag=asc2"),
        (
            contact_uri("1001"),
            "Max-Forwards",
            "Route: <sip:192.0.2.1;lr>\r\nMax-Forwards",
        ),
        (contact_uri("1001"), "CSeq: 102", "CSeq: 103"),
    ] {
        let mut world = with_two_phones();
        let text = looped(&mut world, &uri);
        let text = if from.is_empty() {
            text
        } else {
            text.replacen(from, to, 1)
        };
        let sent = call_with(&mut world, text);
        assert_eq!(sent.len(), 2);
        for sent in &sent {
            answer(&mut world, sent, "486 Busy Here", "");
        }
    }
}

/// The mark is in our own Via only: a stranger's parameter of that name means nothing.
#[test]
fn anothers_via_with_our_mark_is_no_loop() {
    let mut world = with_two_phones();
    let text = looped(&mut world, &contact_uri("1001"))
        .replace("192.0.2.1:5060;branch", "192.0.2.99:5060;branch");
    assert_eq!(call_with(&mut world, text).len(), 2);
}
