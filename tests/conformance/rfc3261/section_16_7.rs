//! RFC 3261 §16.7, response processing.
//!
//! Not claimed: recursing on 3xx or 416 (a phone's 302 goes to Asterisk, which knows what to do),
//! and forwarding what matches no transaction, which RFC 6026 §8.9 takes back.

use std::time::Duration;

use rouse::proto::event::Drop;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event};

use crate::scene::{
    ONE, TWO, answer, call, flow_of, from_phone, values, with_phone, with_two_phones,
};
use crate::world::{World, invite, pbx, response, tcp, udp};

/// > For an INVITE transaction, if the response is a provisional response with status codes 101 to
/// > 199 inclusive (i.e., anything but 100), the proxy MUST reset timer C for that client
/// > transaction.
#[test]
fn step_2_a_1xx_but_not_a_100_starts_timer_c_anew() {
    for (status, ends) in [("100 Trying", 185), ("180 Ringing", 285)] {
        let mut world = with_phone(udp(1));
        let sent = call(&mut world, "c1").remove(0);
        answer(&mut world, &sent, "180 Ringing", "");
        world.advance(Duration::from_secs(100));
        answer(&mut world, &sent, status, "");
        world.sent.clear();
        world.advance(Duration::from_millis(ends * 1000 - 100_000 - 1));
        world.expect_nothing();
        world.advance(Duration::from_millis(1));
        world.expect("CANCEL");
    }
}

/// > The proxy removes the topmost Via header field value from the response. If no Via header field
/// > values remain in the response, the response was meant for this element and MUST NOT be
/// > forwarded.
#[test]
fn step_3_our_via_goes_and_without_another_nothing_is_forwarded() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    let ringing = world.expect("SIP/2.0 180");
    assert_eq!(
        values(&ringing, HeaderName::Via),
        values(&sent, HeaderName::Via)[1..]
    );
    let lonely: String = response(&sent, "183 Session Progress", "")
        .lines()
        .filter(|line| !line.contains("192.0.2.80:5080"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    world.events.clear();
    world.receive(udp(1), lonely);
    world.expect_nothing();
    let dropped = |event: &Event| {
        matches!(
            event,
            Event::Dropped {
                place: Drop::NoNextVia,
                ..
            }
        )
    };
    assert!(world.events.iter().any(dropped));
}

/// > Until a final response has been sent on the server transaction, the following responses MUST
/// > be forwarded immediately: Any provisional response other than 100 (Trying); Any 2xx response
#[test]
fn step_5_provisional_responses_and_2xx_go_up_at_once_and_100_does_not() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    answer(&mut world, &sent[0], "100 Trying", "");
    world.expect_nothing();
    for status in [
        "180 Ringing",
        "183 Session Progress",
        "199 Early Dialog Terminated",
    ] {
        answer(&mut world, &sent[0], status, "");
        world.expect(&format!("SIP/2.0 {status}"));
    }
    answer(&mut world, &sent[1], "180 Ringing", "");
    world.expect("SIP/2.0 180");
    answer(&mut world, &sent[0], "200 OK", "");
    world.expect("SIP/2.0 200");
}

/// > If a 6xx response is received, it is not immediately forwarded, but the stateful proxy SHOULD
/// > cancel all client pending transactions as described in Section 10, and it MUST NOT create any
/// > new branches in this context.
#[test]
fn step_5_a_6xx_cancels_the_others_and_waits_for_them() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", "", ONE, 7200);
    world.register_for(udp(2), "1001", "", TWO, 7200);
    let three = ";+sip.instance=\"<urn:uuid:3>\";q=0.5";
    world.register_for(udp(3), "1001", "", three, 7200);
    let sent = call(&mut world, "c1");
    assert_eq!(sent.len(), 2, "the third has a lower q");
    answer(&mut world, &sent[1], "180 Ringing", "");
    world.expect("SIP/2.0 180");
    answer(&mut world, &sent[0], "603 Decline", "");
    world.expect("ACK");
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, sent[1].to);
    world.expect_nothing();
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent[1], "487 Request Terminated", "");
    world.expect("ACK");
    world.expect("SIP/2.0 603");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
fn step_5_a_2xx_beside_a_6xx_wins_if_it_comes_first() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    answer(&mut world, &sent[0], "603 Decline", "");
    world.expect("ACK");
    answer(&mut world, &sent[1], "200 OK", "");
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    world.assert_quiet();
}

/// > After a final response has been sent on the server transaction, the following responses MUST
/// > be forwarded immediately: Any 2xx response to an INVITE request
#[test]
fn step_5_a_second_2xx_of_an_invite_goes_up_and_of_another_request_does_not() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    answer(&mut world, &sent[0], "200 OK", "");
    world.expect("SIP/2.0 200");
    answer(&mut world, &sent[1], "200 OK", "");
    world.expect("SIP/2.0 200");
    world.receive(pbx(), invite("1001", "m1").replace("INVITE", "MESSAGE"));
    let sent: Vec<_> = world.sent.drain(..).collect();
    answer(&mut world, &sent[0], "200 OK", "");
    world.expect("SIP/2.0 200");
    answer(&mut world, &sent[1], "200 OK", "");
    world.expect_nothing();
    world.assert_quiet();
}

/// > A stateful proxy MUST NOT immediately forward any other responses. […] This step, combined with
/// > the next, ensures that a stateful proxy will forward exactly one final response to a non-INVITE
/// > request, and either exactly one non-2xx response or one or more 2xx responses to an INVITE
/// > request.
#[test]
fn step_6_one_final_response_when_all_branches_have_theirs() {
    for (first, second, best) in [
        ("486 Busy Here", "404 Not Found", "486"),
        ("404 Not Found", "503 Service Unavailable", "404"),
        (
            "500 Server Internal Error",
            "480 Temporarily Unavailable",
            "480",
        ),
        ("302 Moved Temporarily", "486 Busy Here", "302"),
        ("486 Busy Here", "407 Proxy Authentication Required", "407"),
        ("486 Busy Here", "600 Busy Everywhere", "600"),
        ("408 Request Timeout", "480 Temporarily Unavailable", "480"),
        // > If the only response that was received is a 503, the proxy SHOULD generate a 500
        // > response and forward that upstream.
        ("503 Service Unavailable", "503 Service Unavailable", "500"),
    ] {
        let mut world = with_two_phones();
        let sent = call(&mut world, "c1");
        answer(&mut world, &sent[0], first, "");
        world.expect("ACK");
        world.expect_nothing();
        answer(&mut world, &sent[1], second, "");
        world.expect("ACK");
        world.expect(&format!("SIP/2.0 {best}"));
        world.expect_nothing();
        world.assert_quiet();
    }
}

/// > A proxy MUST NOT modify the tag in the To header field of a 1xx or 2xx response. […] An element
/// > SHOULD preserve the To tag when simply forwarding a 3-6xx response
#[test]
fn step_6_the_tag_of_to_stays_as_the_callee_wrote_it() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    for status in ["180 Ringing", "486 Busy Here"] {
        let text = response(&sent, status, "").replace("tag=remote", "tag=Of-The-Phone");
        world.receive(udp(1), text);
    }
    let finals: Vec<_> = world
        .sent
        .drain(..)
        .filter(|sent| sent.message.status().is_some())
        .collect();
    assert_eq!(finals.len(), 2);
    for sent in finals {
        assert!(sent.header(HeaderName::To).ends_with(";tag=Of-The-Phone"));
    }
    world.assert_quiet();
}

/// > If the selected response is a 401 (Unauthorized) or 407 (Proxy Authentication Required), the
/// > proxy MUST collect any WWW-Authenticate and Proxy-Authenticate header field values from all
/// > other 401 (Unauthorized) and 407 (Proxy Authentication Required) responses received so far in
/// > this response context and add them to this response without modification before forwarding.
#[test]
fn step_7_the_challenges_of_all_branches_go_up_together() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    let one = "WWW-Authenticate: Digest realm=\"one\", nonce=\"1\"\n";
    let two = "Proxy-Authenticate: Digest realm=\"two\", nonce=\"2\"\n";
    answer(&mut world, &sent[0], "401 Unauthorized", one);
    answer(
        &mut world,
        &sent[1],
        "407 Proxy Authentication Required",
        two,
    );
    world.expect("ACK");
    world.expect("ACK");
    let best = world.expect("SIP/2.0 401");
    assert_eq!(
        best.header(HeaderName::WwwAuthenticate),
        "Digest realm=\"one\", nonce=\"1\""
    );
    assert_eq!(
        best.header(HeaderName::ProxyAuthenticate),
        "Digest realm=\"two\", nonce=\"2\""
    );
    world.assert_quiet();
}

/// > The proxy MUST NOT add to, modify, or remove the message body. Unless otherwise specified, the
/// > proxy MUST NOT remove any header field values other than the Via header field value […] In
/// > particular, the proxy MUST NOT remove any "received" parameter it may have added to the next Via
#[test]
fn step_9_a_response_leaves_as_it_came_but_for_our_via() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    let more = "Contact: <sip:1001@10.0.0.5:5060>\nX-A:  1\nServer: phone\nAllow: INVITE\nX-A: 2\n";
    let came = response(&sent, "200 OK", more).replacen(
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 6\r\n\r\nv=0\r\n\x00",
        1,
    );
    world.receive(udp(1), &came);
    let left = world.expect("SIP/2.0 200");
    let without_via: String = came
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("Via: SIP/2.0/UDP 192.0.2.1:5060;"))
        .collect();
    assert_eq!(left.text(), without_via);
    assert!(left.header(HeaderName::Via).contains("received=192.0.2.80"));
}

/// > If the forwarded response was a final response, the proxy MUST generate a CANCEL request for
/// > all pending client transactions associated with this response context. […] A pending client
/// > transaction is one that has received a provisional response, but no final response
#[test]
fn step_10_pending_branches_are_cancelled_once_and_others_when_they_become_so() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    answer(&mut world, &sent[0], "200 OK", "");
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    answer(&mut world, &sent[1], "180 Ringing", "");
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, sent[1].to);
    world.expect_nothing();
    answer(&mut world, &cancel, "200 OK", "");
    answer(&mut world, &sent[1], "487 Request Terminated", "");
    world.expect("ACK");
    world.expect_nothing();
    world.assert_quiet();
}

/// The other direction: Asterisk's answers to a phone's call, over the phone's connection.
#[test]
fn answers_to_a_phones_call_go_back_over_its_connection() {
    let mut world = with_phone(tcp(1));
    let uri = "sip:600@pbx.example.com";
    world.receive(tcp(1), from_phone(tcp(1), "INVITE", uri, "out", ""));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sip:600@pbx.example.com");
    assert_eq!(flow_of(&sent), pbx());
    for status in ["180 Ringing", "200 OK"] {
        answer(
            &mut world,
            &sent,
            status,
            "Contact: <sip:600@192.0.2.80:5080>\n",
        );
        let back = world.expect(&format!("SIP/2.0 {status}"));
        assert_eq!(back.to, Destination::Flow(tcp(1).id));
    }
    world.assert_quiet();
}
