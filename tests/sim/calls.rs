//! Calls between an awake phone and Asterisk (RFC 3261 §16).

use std::time::Duration;

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event, Flow};

use crate::world::{
    APNS, Sent, World, beside, contact_uri, crlf, invite, ok_to_register, pbx, register, response,
    tcp, udp, via,
};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";

#[expect(clippy::too_many_arguments, reason = "a request is all of these")]
fn in_dialog(
    method: &str,
    uri: &str,
    flow: Flow,
    call: &str,
    cseq: u32,
    routes: &[String],
    from_tag: &str,
    to_tag: &str,
) -> String {
    let via = via(flow, &format!("z9hG4bK{call}{method}{cseq}"));
    let routes: String = routes
        .iter()
        .map(|route| format!("Route: {route}\n"))
        .collect();
    crlf(&format!(
        "
{method} {uri} SIP/2.0
{via}
{routes}Max-Forwards: 70
From: <sip:a@x>;tag={from_tag}
To: <sip:b@x>;tag={to_tag}
Call-ID: {call}
CSeq: {cseq} {method}
Content-Length: 0

"
    ))
}

fn record_route(sent: &Sent) -> Vec<String> {
    sent.message
        .values(HeaderName::RecordRoute)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
pub fn a_call_to_an_awake_phone_goes_both_ways_through_the_dialog() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    let trying = world.expect("SIP/2.0 100");
    assert!(
        trying.header(HeaderName::Via).contains("received=")
            || trying.header(HeaderName::Via).contains("rport=5080")
    );
    let forwarded = world.expect("INVITE sip:1001@10.0.0.5:5060;pn-provider=apns");
    assert_eq!(forwarded.header(HeaderName::MaxForwards), "69");
    let routes = record_route(&forwarded);
    assert_eq!(routes.len(), 2, "UDP above, TCP below");
    assert!(routes[0].contains("transport=tcp") && !routes[1].contains("transport"));
    world.receive(tcp(1), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(
        tcp(1),
        response(&forwarded, "200 OK", "Contact: <sip:1001@10.0.0.5:5060>\n"),
    );
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(record_route(&ok), routes);
    // The caller's route set is the reverse; its ACK and BYE follow it.
    let mut reversed = routes.clone();
    reversed.reverse();
    world.receive(
        pbx(),
        in_dialog(
            "ACK",
            "sip:1001@10.0.0.5:5060",
            pbx(),
            "c1",
            102,
            &reversed,
            "asc1",
            "remote",
        ),
    );
    let ack = world.expect("ACK sip:1001@10.0.0.5:5060 SIP/2.0");
    assert_eq!(
        (ack.to.clone(), ack.header(HeaderName::Route)),
        (Destination::Flow(tcp(1).id), String::new())
    );
    // The phone hangs up.
    world.receive(
        tcp(1),
        in_dialog(
            "BYE",
            "sip:2001@192.0.2.80:5080",
            tcp(1),
            "c1",
            1,
            &routes,
            "remote",
            "asc1",
        ),
    );
    let bye = world.expect("BYE sip:2001@192.0.2.80:5080");
    assert_eq!(bye.to, Destination::Flow(pbx().id));
    world.receive(pbx(), response(&bye, "200 OK", ""));
    let done = world.expect("SIP/2.0 200");
    assert_eq!(done.to, Destination::Flow(tcp(1).id));
    world.assert_quiet();
    let ends: Vec<(&str, bool)> = world
        .events
        .iter()
        .filter_map(|event| {
            let Event::CallEnded { call_id, is_phone } = event else {
                return None;
            };
            Some((&**call_id, *is_phone))
        })
        .collect();
    assert_eq!(ends, [("c1", true)]);
}

#[test]
pub fn a_bye_follows_the_phone_to_its_new_connection_and_waits_for_it() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(tcp(1), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let mut routes = record_route(&forwarded);
    routes.reverse();
    world.close(tcp(1));
    world.receive(
        pbx(),
        in_dialog(
            "BYE",
            "sip:1001@10.0.0.5:5060",
            pbx(),
            "c1",
            103,
            &routes,
            "asc1",
            "remote",
        ),
    );
    world.expect_nothing();
    world.register_for(tcp(2), "1001", APNS, ONE, 600);
    let bye = world.expect("BYE");
    assert_eq!(bye.to, Destination::Flow(tcp(2).id));
    world.receive(tcp(2), response(&bye, "200 OK", ""));
    world.expect("SIP/2.0 200");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

/// PJSIP puts the Routes of the Path on the BYE once more, behind those of the dialog.
#[test]
pub fn a_bye_with_our_routes_repeated_goes_straight_to_the_phone() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(tcp(1), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let mut routes = record_route(&forwarded);
    routes.reverse();
    let path = routes[0].clone();
    routes.push(path);
    world.receive(
        pbx(),
        in_dialog(
            "BYE",
            "sip:1001@10.0.0.5:5060",
            pbx(),
            "c1",
            103,
            &routes,
            "asc1",
            "remote",
        ),
    );
    let bye = world.expect("BYE sip:1001@10.0.0.5:5060");
    assert_eq!(bye.to, Destination::Flow(tcp(1).id));
    assert_eq!(bye.header(HeaderName::Route), "");
    world.receive(tcp(1), response(&bye, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_dialog_outlives_a_restart() {
    let mut world = World::new();
    world.register_for(udp(1000), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(udp(1000), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let routes = record_route(&forwarded);
    assert_eq!(routes.len(), 1, "one address on both sides");
    world.restart();
    world.receive(
        pbx(),
        in_dialog(
            "BYE",
            "sip:1001@10.0.0.5:5060",
            pbx(),
            "c1",
            103,
            &routes,
            "asc1",
            "remote",
        ),
    );
    assert_eq!(world.expect("BYE").to, Destination::Flow(udp(1000).id));
}

#[test]
pub fn a_call_from_a_phone_goes_to_its_upstream_without_its_token() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    let text = format!(
        "
INVITE sip:600@pbx.example.com SIP/2.0
{}
Route: <sip:192.0.2.1:5060;transport=tcp;lr>
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p
To: <sip:600@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060;{APNS}>
Call-ID: out1
CSeq: 1 INVITE
Content-Length: 0

",
        via(tcp(1), "z9hG4bKout1")
    );
    world.receive(tcp(1), crlf(&text));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE sip:600@pbx.example.com");
    assert_eq!(forwarded.to, Destination::Flow(pbx().id));
    assert_eq!(forwarded.header(HeaderName::Route), "");
    assert!(!forwarded.text().contains("pn-"));
    world.receive(
        pbx(),
        response(
            &forwarded,
            "401 Unauthorized",
            "WWW-Authenticate: Digest realm=\"a\"\n",
        ),
    );
    world.expect("ACK");
    world.expect("SIP/2.0 401");
    world.assert_quiet();
}

/// A phone names its way; only its upstream is the gateway's to give, and what a phone has in its
/// settings as an outbound proxy is the gateway itself.
#[test]
pub fn a_foreign_route_of_a_phone_is_neither_followed_nor_passed_on() {
    let own = "<sip:192.0.2.1:5060;transport=tcp;lr>";
    let foreign = "<sip:192.0.2.81:5060;lr>";
    let ways = [
        format!("Route: {foreign}\n"),
        format!("Route: {own}, {foreign}\n"),
        format!("Route: {own}\nRoute: {foreign}\nRoute: <sip:evil.example>\n"),
        format!("Route: {foreign}\nRoute: {own}\n"),
    ];
    for (at, way) in ways.iter().enumerate() {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", APNS, ONE, 600);
        for method in ["INVITE", "MESSAGE", "REFER"] {
            let text = format!(
                "
{method} sip:600@pbx.example.com SIP/2.0
{}
{way}Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p
To: <sip:600@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: {method}{at}
CSeq: 1 {method}
Content-Length: 0

",
                via(tcp(1), &format!("z9hG4bK{method}{at}"))
            );
            world.receive(tcp(1), crlf(&text));
            if method == "INVITE" {
                world.expect("SIP/2.0 100");
            }
            let sent = world.expect(method);
            assert_eq!(sent.to, Destination::Flow(pbx().id), "{way}");
            assert_eq!(sent.header(HeaderName::Route), "", "{way}");
            world.receive(pbx(), response(&sent, "403 Forbidden", ""));
            if method == "INVITE" {
                world.expect("ACK");
            }
            world.expect("SIP/2.0 403");
        }
        let again = register(tcp(1), "1001", APNS, ONE, 600, 7);
        let again = again.replace("Max-Forwards", &format!("{}Max-Forwards", crlf(way)));
        world.receive(tcp(1), &again);
        let relayed = world.expect("REGISTER");
        assert_eq!(relayed.to, Destination::Flow(pbx().id), "{way}");
        assert_eq!(relayed.header(HeaderName::Route), "", "{way}");
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
    }
}

/// What a call looks like that Asterisk and an agent that is a telephone system itself send to each
/// other: each pass is a new call with all its hops, by the same caller.
#[test]
pub fn a_call_that_goes_round_is_refused_at_its_sixth_pass() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", ONE, 600);
    let mut passes = Vec::new();
    for pass in 1..=5 {
        world.receive(pbx(), invite("1001", &format!("round{pass}")));
        world.expect("SIP/2.0 100");
        passes.push(world.expect("INVITE"));
    }
    world.receive(pbx(), invite("1001", "round6"));
    world.expect("SIP/2.0 482");
    world.receive(pbx(), beside("ACK", "1001", "round6", ""));
    world.expect_nothing();
    // Others get through, and so do callers whom nobody can tell from each other.
    for (caller, calls) in [("sip:2002@", 1), ("sip:anonymous@", 7)] {
        for number in 1..=calls {
            let call = invite("1001", &format!("{}{number}", &caller[4..8]));
            world.receive(pbx(), call.replace("sip:2001@", caller));
            world.expect("SIP/2.0 100");
            passes.push(world.expect("INVITE"));
        }
    }
    for sent in passes {
        world.receive(tcp(1), response(&sent, "486 Busy Here", ""));
        world.expect("ACK");
        world.expect("SIP/2.0 486");
    }
    // What has its answer counts no longer.
    world.receive(pbx(), invite("1001", "later"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
}

/// An answer without what is never the same twice: the tag that we add.
fn without_tag(sent: &Sent) -> String {
    let text = sent.text();
    let lines = text.lines().map(|line| match line.split_once(";tag=") {
        Some((to, _)) if line.starts_with("To:") => to,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
pub fn a_stranger_is_told_the_same_of_an_agent_that_exists_and_of_one_that_does_not() {
    let methods = [
        "INVITE",
        "OPTIONS",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "INFO",
        "PUBLISH",
        "UPDATE",
        "BYE",
        "PRACK",
        "NOTIFY",
        "CANCEL",
        "FROBNICATE",
    ];
    for flow in [tcp(66), udp(6666)] {
        for method in methods {
            for uri in [
                "sip:USER@pbx.example.com",
                "sip:USER@192.0.2.1:5060",
                "CONTACT",
            ] {
                let said = ["1001", "1002", "9999"].map(|user| {
                    let mut world = World::new();
                    // Awake, asleep, and nobody.
                    world.register_for(tcp(1), "1001", APNS, ONE, 600);
                    world.register_for(tcp(2), "1002", APNS, TWO, 600);
                    world.close(tcp(2));
                    let contact = contact_uri(user);
                    let uri = uri.replace("USER", user).replace("CONTACT", &contact);
                    let text = format!(
                        "
{method} {uri} SIP/2.0
{}
Max-Forwards: 70
From: <sip:evil@evil.example>;tag=e
To: <sip:{user}@pbx.example.com>
Call-ID: e
CSeq: 1 {method}
Contact: <sip:evil@10.0.0.66:5060>
Content-Length: 0

",
                        via(flow, "z9hG4bKe")
                    );
                    world.receive(flow, crlf(&text));
                    let said: Vec<String> = world.sent.iter().map(without_tag).collect();
                    said.join("\n--\n").replace(user, "USER")
                });
                assert!(method == "CANCEL" || said[2].starts_with("SIP/2.0 "));
                assert_eq!(said[0], said[2], "awake: {method} {uri}");
                assert_eq!(said[1], said[2], "asleep: {method} {uri}");
            }
        }
    }
}

/// What Asterisk says to the REGISTER of nobody it says to a wrong password too, and nothing of ours
/// tells them apart.
#[test]
pub fn a_wrong_password_and_an_unknown_account_look_the_same() {
    let said = ["1001", "9999"].map(|user| {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", APNS, ONE, 600);
        let mut said = Vec::new();
        for number in 1..=3 {
            let text = register(tcp(66), user, "", "", 600, number);
            world.receive(tcp(66), text);
            let relayed = world.expect("REGISTER");
            said.push(relayed.text().len());
            let challenge = "WWW-Authenticate: Digest realm=\"a\",nonce=\"n\"\n";
            world.receive(pbx(), response(&relayed, "401 Unauthorized", challenge));
            said.push(without_tag(&world.expect("SIP/2.0 401")).len());
        }
        said
    });
    assert_eq!(said[0], said[1]);
}

#[test]
pub fn a_fork_cancels_the_others_when_one_answers() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.register_for(tcp(2), "1001", "", TWO, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let first = world.expect("INVITE");
    let second = world.expect("INVITE");
    let flow_of = |sent: &Sent| {
        if sent.to == Destination::Flow(tcp(1).id) {
            tcp(1)
        } else {
            tcp(2)
        }
    };
    world.receive(flow_of(&first), response(&first, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(flow_of(&second), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(flow_of(&first), response(&first, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.to, second.to);
    assert_eq!(
        cancel.header(HeaderName::Reason),
        "SIP;cause=200;text=\"Call completed elsewhere\""
    );
    world.receive(flow_of(&second), response(&cancel, "200 OK", ""));
    world.receive(
        flow_of(&second),
        response(&second, "487 Request Terminated", ""),
    );
    world.expect("ACK");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn one_phone_busy_and_one_that_never_wakes_is_busy() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", ONE, 600);
    world.register_for(tcp(2), "1001", APNS, TWO, 600);
    world.close(tcp(2));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(tcp(1), response(&forwarded, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect_nothing();
    world.advance(Duration::from_secs(25));
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn a_cancel_goes_to_the_ringing_phone_with_the_callers_reason() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(tcp(1), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(
        pbx(),
        beside("CANCEL", "1001", "c1", "Reason: Q.850;cause=127\n"),
    );
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    assert_eq!(cancel.header(HeaderName::Reason), "Q.850;cause=127");
    world.receive(tcp(1), response(&cancel, "200 OK", ""));
    world.receive(tcp(1), response(&forwarded, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    // chan_sip sends this ACK to the phone's Contact, without a Route.
    let ack =
        beside("ACK", "1001", "c1", "").replacen(&contact_uri("1001"), "sip:1001@10.0.0.5:5060", 1);
    world.receive(pbx(), ack);
    world.assert_quiet();
}

#[test]
pub fn who_is_not_registered_may_only_register() {
    let mut world = World::new();
    for method in [
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "INFO",
        "PUBLISH",
        "UPDATE",
    ] {
        let text = invite("1001", method).replace("INVITE", method);
        world.receive(tcp(66), text);
        world.expect("SIP/2.0 403");
    }
    world.expect_nothing();
    let known = world
        .events
        .iter()
        .filter(|event| matches!(event, Event::Rejected { .. }))
        .count();
    assert_eq!(known, 7);
    world.assert_quiet();
}

#[test]
pub fn a_forged_route_is_refused() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    let token = "A".repeat(39);
    let routes = [format!("<sip:{token}@192.0.2.1:5060;lr>")];
    world.receive(
        tcp(66),
        in_dialog(
            "BYE",
            "sip:x@evil.example",
            tcp(66),
            "c9",
            2,
            &routes,
            "a",
            "b",
        ),
    );
    world.expect("SIP/2.0 403");
    world.receive(
        tcp(66),
        in_dialog("BYE", "sip:x@evil.example", tcp(66), "c9", 3, &[], "a", "b"),
    );
    world.expect("SIP/2.0 403");
}

#[test]
pub fn what_section_16_3_refuses_is_refused() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    let base = invite("1001", "v");
    for (from, to, status) in [
        ("Max-Forwards: 70", "Max-Forwards: 0", "483"),
        (
            "Max-Forwards: 70",
            "Max-Forwards: 70\r\nProxy-Require: foo",
            "420",
        ),
        ("Max-Forwards: 70", "Max-Breadth: 0", "440"),
        ("INVITE sip:1001@", "INVITE nobody:1001@", "416"),
        ("Call-ID: v", "Call-ID: v\r\nCall-ID: w", "400"),
        (
            "From: \"Caller\" <sip:2001@192.0.2.80>;tag=asv",
            "From: <sip:",
            "400",
        ),
        ("CSeq: 102 INVITE", "CSeq: 102 BYE", "400"),
    ] {
        world.receive(pbx(), base.replacen(from, to, 1));
        world.expect(&format!("SIP/2.0 {status}"));
        world.expect_nothing();
    }
    let reply = {
        world.receive(
            pbx(),
            base.replace("Max-Forwards: 70", "Proxy-Require: foo, bar"),
        );
        world.expect("SIP/2.0 420")
    };
    let unsupported: Vec<_> = reply.message.values(HeaderName::Unsupported).collect();
    assert_eq!(unsupported, [b"foo", b"bar"]);
    world.assert_quiet();
}

#[test]
pub fn a_request_that_comes_back_unchanged_is_a_loop() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    // An upstream that sends our own request back, with its Request-URI as it was.
    let text = forwarded.text().replacen(
        &forwarded.first_line(),
        &format!("INVITE {} SIP/2.0", contact_uri("1001")),
        1,
    );
    let text = text.replacen("Via:", &format!("{}\r\nVia:", via(pbx(), "z9hG4bKback")), 1);
    let text: String = text
        .lines()
        .filter(|l| !l.starts_with("Record-Route"))
        .map(|l| format!("{l}\r\n"))
        .collect();
    world.receive(pbx(), text);
    world.expect("SIP/2.0 482");
}

#[test]
pub fn timer_c_ends_a_phone_that_rings_for_ever() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 7200);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    world.receive(tcp(1), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(184));
    world.receive(tcp(1), response(&forwarded, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.advance(Duration::from_secs(184));
    world.expect_nothing();
    world.advance(Duration::from_secs(1));
    let cancel = world.expect("CANCEL");
    world.receive(tcp(1), response(&cancel, "200 OK", ""));
    world.receive(tcp(1), response(&forwarded, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

#[test]
pub fn a_second_2xx_of_a_fork_goes_up_too() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", "", ONE, 600);
    world.register_for(udp(2), "1001", "", TWO, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let (one, two) = (world.expect("INVITE"), world.expect("INVITE"));
    let flow_of = |sent: &Sent| {
        if sent.to == Destination::Flow(udp(1).id) {
            udp(1)
        } else {
            udp(2)
        }
    };
    world.receive(flow_of(&one), response(&one, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.receive(flow_of(&two), response(&two, "200 OK", ""));
    world.expect("SIP/2.0 200");
    // A retransmitted 2xx passes as well (RFC 6026).
    world.receive(flow_of(&one), response(&one, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn notifies_that_reuse_a_branch_are_each_forwarded() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    for cseq in [102, 103] {
        let text = invite("1001", "n1")
            .replace("INVITE", "NOTIFY")
            .replace("CSeq: 102", &format!("CSeq: {cseq}"));
        world.receive(pbx(), text);
        let forwarded = world.expect("NOTIFY sip:1001@10.0.0.5");
        assert_eq!(forwarded.header(HeaderName::CSeq), format!("{cseq} NOTIFY"));
        world.receive(tcp(1), response(&forwarded, "200 OK", ""));
        world.expect("SIP/2.0 200");
    }
    world.assert_quiet();
}

#[test]
pub fn a_datagram_without_content_length_gets_one_on_its_way_to_a_stream() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ONE, 600);
    world.receive(
        pbx(),
        invite("1001", "c1").replace("Content-Length: 5\r\n", ""),
    );
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.header(HeaderName::ContentLength), "5");
    assert_eq!(forwarded.message.body(), b"v=0\r\n");
}

#[test]
pub fn anybody_may_ping_the_gateway_and_that_leaves_nothing_behind() {
    let mut world = World::new();
    for flow in [tcp(66), udp(66), pbx()] {
        let text = invite("1001", "ping").replace("INVITE", "OPTIONS");
        let text = text.replacen(&contact_uri("1001"), "sip:192.0.2.1:5060", 1);
        world.receive(flow, text);
        world.expect("SIP/2.0 200");
        assert_eq!(world.in_flight(), [0; 6]);
    }
}

#[test]
pub fn a_phone_that_moved_may_repeat_and_cancel_its_call_from_where_it_was() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, ONE, 600);
    let text = crlf(&format!(
        "
INVITE sip:1001@pbx.example.com SIP/2.0
{}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p
To: <sip:1001@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: out1
CSeq: 1 INVITE
Content-Length: 0

",
        via(udp(1), "z9hG4bKout1")
    ));
    world.receive(udp(1), &text);
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.register_for(udp(2), "1001", APNS, ONE, 600);
    world.receive(udp(1), &text);
    world.expect("SIP/2.0 100");
    world.receive(pbx(), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(udp(1), text.replace("INVITE", "CANCEL"));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    world.receive(pbx(), response(&cancel, "200 OK", ""));
    world.receive(pbx(), response(&sent, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    // Anything else from there is a stranger's.
    world.receive(udp(1), text.replace("out1", "out2"));
    world.expect("SIP/2.0 403");
    world.assert_quiet();
}
