//! RFC 3261 §16.3, request validation.
//!
//! > Before an element can proxy a request, it MUST verify the message's validity. […] If any of
//! > these checks fail, the element MUST behave as a user agent server (see Section 8.2) and
//! > respond with an error code.

use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call, call_with, from_phone, with_phone};
use crate::world::{invite, pbx, udp};

/// > Any other components, well-formed or not, SHOULD be ignored and remain unchanged when the
/// > message is forwarded. For instance, an element would not reject a request because of a
/// > malformed Date header field.
#[test]
fn what_the_proxy_need_not_read_it_forwards_as_it_came() {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1").replacen(
        "Max-Forwards",
        "Date: yesterday, about noon\r\nX-Any:   <<< \r\nMax-Forwards",
        1,
    );
    let sent = call_with(&mut world, text);
    assert!(
        sent[0]
            .text()
            .contains("\r\nDate: yesterday, about noon\r\n")
    );
    assert!(sent[0].text().contains("\r\nX-Any:   <<< \r\n"));
    answer(&mut world, &sent[0], "486 Busy Here", "");
    world.assert_quiet();
}

/// > An element MUST NOT refuse to proxy a request because it contains a method or header field it
/// > does not know about.
#[test]
fn a_method_that_nobody_knows_is_forwarded() {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1").replace("INVITE", "FROBNICATE");
    world.receive(pbx(), text);
    let sent = world.expect("FROBNICATE sip:1001@10.0.0.5");
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// > Notice that a proxy is not required to detect merged requests and MUST NOT treat merged
/// > requests as an error condition.
#[test]
fn a_request_that_comes_on_two_branches_is_forwarded_twice() {
    let mut world = with_phone(udp(1));
    let first = call(&mut world, "c1");
    let second = invite("1001", "c1").replacen("branch=z9hG4bKc1", "branch=z9hG4bKother", 1);
    let second = call_with(&mut world, second);
    assert_eq!((first.len(), second.len()), (1, 1));
}

/// > If the Request-URI has a URI whose scheme is not understood by the proxy, the proxy SHOULD
/// > reject the request with a 416 (Unsupported URI Scheme) response.
#[test]
fn a_scheme_that_is_not_understood_is_416() {
    let mut world = with_phone(udp(1));
    world.receive(
        pbx(),
        invite("1001", "c1").replacen("INVITE sip:", "INVITE gopher:", 1),
    );
    world.expect("SIP/2.0 416");
    world.assert_quiet();
}

/// > If the request contains a Max-Forwards header field with a field value of zero (0), the
/// > element MUST NOT forward the request. If the request was for OPTIONS, the element MAY act as
/// > the final recipient and respond per Section 11. Otherwise, the element MUST return a 483 (Too
/// > many hops) response.
///
/// Ours is 483 for OPTIONS too.
#[test]
fn max_forwards_zero_is_483_and_one_is_forwarded() {
    let mut world = with_phone(udp(1));
    for method in ["INVITE", "OPTIONS", "MESSAGE"] {
        let text = from_phone(udp(1), method, "sip:600@pbx.example.com", method, "");
        world.receive(udp(1), text.replacen("Forwards: 70", "Forwards: 0", 1));
        world.expect("SIP/2.0 483");
    }
    let text = invite("1001", "c2").replacen("Forwards: 70", "Forwards: 1", 1);
    let sent = call_with(&mut world, text);
    assert_eq!(sent[0].header(HeaderName::MaxForwards), "0");
    answer(&mut world, &sent[0], "486 Busy Here", "");
    world.assert_quiet();
}

/// > If the request contains a Proxy-Require header field (Section 20.29) with one or more
/// > option-tags this element does not understand, the element MUST return a 420 (Bad Extension)
/// > response. The response MUST include an Unsupported (Section 20.40) header field listing those
/// > option-tags the element did not understand.
#[test]
fn proxy_require_is_420_with_unsupported_and_require_is_not_ours() {
    let mut world = with_phone(udp(1));
    let text = invite("1001", "c1");
    world.receive(
        pbx(),
        text.replacen(
            "Max-",
            "Proxy-Require: foo\r\nProxy-Require: bar\r\nMax-",
            1,
        ),
    );
    let refusal = world.expect("SIP/2.0 420");
    let unsupported: Vec<_> = crate::scene::values(&refusal, HeaderName::Unsupported);
    assert_eq!(unsupported, ["foo", "bar"]);
    let sent = call_with(&mut world, text.replacen("Max-", "Require: foo\r\nMax-", 1));
    assert_eq!(sent[0].header(HeaderName::Require), "foo");
    answer(
        &mut world,
        &sent[0],
        "420 Bad Extension",
        "Unsupported: foo\n",
    );
    world.expect("ACK");
    assert_eq!(
        world.expect("SIP/2.0 420").header(HeaderName::Unsupported),
        "foo"
    );
    world.assert_quiet();
}

/// > When responding directly to a request, the element is playing the role of a UAS (§16.1)
///
/// An ACK is never answered, whatever is wrong with it.
#[test]
fn an_ack_is_never_answered() {
    let mut world = with_phone(udp(1));
    let ack = invite("1001", "c1").replace("INVITE", "ACK");
    for text in [
        ack.clone(),
        ack.replacen("Forwards: 70", "Forwards: 0", 1),
        ack.replacen("Max-", "Proxy-Require: foo\r\nMax-", 1),
        ack.replacen("CSeq: 102 ACK", "CSeq: ACK", 1),
    ] {
        world.receive(pbx(), text);
        world.expect_nothing();
    }
    world.assert_quiet();
}
