//! A request to a sips URI leaves over TLS or not at all (RFC 3261 §16.6, §26.2.2; RFC 5630).

use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Flow, Transport};

use crate::world::{
    APNS, Sent, World, contact_uri, crlf, invite_to, ok_to_register, pbx, pbx_tcp, register,
    response, settings, tcp, tls, udp, via,
};

/// A gateway whose upstream is reached over TLS.
fn by_tls() -> World {
    let mut by_tls = settings(ContactMode::Agent);
    by_tls.upstreams[0].nodes[0].transport = Some(Transport::Tls);
    World::with(by_tls)
}

/// The connection to that upstream.
fn pbx_tls() -> Flow {
    Flow {
        transport: Transport::Tls,
        ..pbx_tcp()
    }
}

fn registers(world: &mut World, flow: Flow, from: Flow, params: &str) {
    let number = world.number();
    world.receive(flow, register(flow, "1001", params, "", 7200, number));
    let relayed = world.expect("REGISTER");
    world.receive(from, ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
}

fn phones_invite(flow: Flow, uri: &str) -> String {
    crlf(&format!(
        "
INVITE {uri} SIP/2.0
{}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p
To: <{uri}>
Contact: <sips:1001@10.0.0.5:5061>
Call-ID: out
CSeq: 1 INVITE
Content-Length: 0

",
        via(flow, "z9hG4bKout")
    ))
}

fn routes(sent: &Sent) -> Vec<String> {
    let values = sent.message.values(HeaderName::RecordRoute);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

#[test]
pub fn a_phones_call_to_a_sips_uri_goes_over_tls_and_is_recorded_as_sips() {
    let mut world = by_tls();
    registers(&mut world, tls(1), pbx_tls(), "");
    world.receive(tls(1), phones_invite(tls(1), "sips:600@pbx.example.com"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sips:600@pbx.example.com");
    assert!(matches!(&sent.to, Destination::Hop(hop) if hop.transport == Transport::Tls));
    let recorded = routes(&sent);
    assert!(!recorded.is_empty());
    assert!(
        recorded.iter().all(|value| value.starts_with("<sips:")),
        "{recorded:?}"
    );
}

#[test]
pub fn where_the_upstream_has_no_tls_it_is_480_and_says_why() {
    let mut world = World::new();
    registers(&mut world, tls(1), pbx(), "");
    world.receive(tls(1), phones_invite(tls(1), "sips:600@pbx.example.com"));
    let refused = world.expect("SIP/2.0 480");
    assert_eq!(
        refused.header(HeaderName::Warning),
        "380 192.0.2.1 \"SIPS Not Allowed\""
    );
    world.expect_nothing();
    world.receive(
        tls(1),
        phones_invite(tls(1), "sip:600@pbx.example.com").replace("out", "o2"),
    );
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sip:600@pbx.example.com");
    assert!(routes(&sent).iter().all(|value| value.starts_with("<sip:")));
}

#[test]
pub fn a_call_to_a_sips_uri_reaches_the_phone_on_tls_alone() {
    let uri = contact_uri("1001").replacen("sip:", "sips:", 1);
    for flow in [udp(1), tcp(1)] {
        let mut world = World::new();
        registers(&mut world, flow, pbx(), "");
        world.receive(pbx(), invite_to(&uri, "c1"));
        world.sent.retain(|sent| !sent.first_line().contains("100"));
        let refused = world.expect("SIP/2.0 480");
        assert!(refused.header(HeaderName::Warning).starts_with("380 "));
        world.expect_nothing();
        world.assert_quiet();
    }
    let mut world = World::new();
    registers(&mut world, tls(1), pbx(), "");
    world.receive(pbx(), invite_to(&uri, "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.to, Destination::Flow(tls(1).id));
    // Asterisk reaches us by UDP: only the phone's side is recorded as sips.
    let recorded = routes(&sent);
    assert!(
        recorded[0].starts_with("<sips:") && recorded[1].starts_with("<sip:"),
        "{recorded:?}"
    );
}

#[test]
pub fn a_sleeping_phone_that_wakes_without_tls_does_not_get_a_call_to_a_sips_uri() {
    let uri = contact_uri("1001").replacen("sip:", "sips:", 1);
    for (flow, is_called) in [(tls(2), true), (tcp(2), false)] {
        let mut world = World::new();
        registers(&mut world, tls(1), pbx(), APNS);
        world.close(tls(1));
        world.receive(pbx(), invite_to(&uri, "c1"));
        world.expect("SIP/2.0 100");
        world.accept_push();
        registers(&mut world, flow, pbx(), APNS);
        let start = if is_called { "INVITE" } else { "SIP/2.0 480" };
        world.expect(start);
        world.expect_nothing();
    }
}

/// Such a phone writes its Contact so; a request in its dialog has it as Request-URI.
#[test]
pub fn a_phone_whose_contact_is_sips_keeps_its_dialogs_on_tls() {
    let mut world = World::new();
    let text = register(tls(1), "1001", "", "", 7200, 1).replace("<sip:1001@10", "<sips:1001@10");
    world.receive(tls(1), text);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), invite_to(&contact_uri("1001"), "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sips:1001@10.0.0.5");
    assert!(routes(&sent)[0].starts_with("<sips:"));
    world.receive(
        tls(1),
        response(&sent, "200 OK", "Contact: <sips:1001@10.0.0.5:5060>\n"),
    );
    world.expect("SIP/2.0 200");
    let near = routes(&sent).pop().unwrap();
    let bye = invite_to("sips:1001@10.0.0.5:5060", "c1")
        .replace("INVITE", "BYE")
        .replacen("branch=z9hG4bKc1", "branch=z9hG4bKbye", 1)
        .replacen(">\r\nContact", ">;tag=remote\r\nContact", 1)
        .replacen("Max-", &format!("Route: {near}\r\nMax-"), 1);
    world.receive(pbx(), bye);
    let bye = world.expect("BYE sips:1001@10.0.0.5");
    assert_eq!(bye.to, Destination::Flow(tls(1).id));
}
