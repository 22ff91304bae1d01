//! What the two Asterisks really send, and what phones really answer: each scene is one fact that
//! was seen on the wire, with the captured messages (`peers/*.txt`).

use std::time::Duration;

use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{ConnectionId, Destination, Flow, FlowId, ListenerId, Transport};

use crate::world::{
    APNS, Sent, World, contact_uri, crlf, ok_to_register, pbx, register, response, settings, tcp,
    udp, via,
};

const CHAN_SIP: &str = include_str!("peers/chan_sip.txt");
const PJSIP: &str = include_str!("peers/pjsip.txt");
const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\";reg-id=1";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\";reg-id=1";
/// The Contact of a phone that answered.
const PHONE: &str = "sip:uas@10.0.0.5:5060;transport=UDP";

/// A captured message with its {names} filled in; what is not named is empty.
fn message(file: &str, name: &str, fills: &[(&str, &str)]) -> String {
    let start = format!("\n=== {name}\n");
    let (_, rest) = file.split_once(&start).unwrap();
    let text = rest.split("\n=== ").next().unwrap();
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (key, after) = after.split_once('}').unwrap();
        out.push_str(before);
        out.push_str(fills.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| v));
        rest = after;
    }
    out.push_str(rest);
    crlf(&(out + "\n"))
}

fn values(sent: &Sent, name: HeaderName) -> Vec<String> {
    sent.message
        .values(name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// Asterisk's answer to a REGISTER that we relayed.
fn answer_register(file: &str, name: &str, relayed: &Sent, fills: &[(&str, &str)]) -> String {
    let vias: String = values(relayed, HeaderName::Via)
        .iter()
        .map(|via| format!("Via: {via}\n"))
        .collect();
    let branch = relayed
        .message
        .top_via()
        .unwrap()
        .branch()
        .unwrap()
        .to_vec();
    let branch = String::from_utf8(branch).unwrap();
    let from_tag = relayed.message.from().unwrap().tag().unwrap().to_vec();
    let from_tag = String::from_utf8(from_tag).unwrap();
    let (from, to) = (
        relayed.header(HeaderName::From),
        relayed.header(HeaderName::To),
    );
    let (call, cseq) = (
        relayed.header(HeaderName::CallId),
        relayed.header(HeaderName::CSeq),
    );
    let mut all = vec![
        ("vias", vias.as_str()),
        ("from", from.as_str()),
        ("to", to.as_str()),
        ("callid", call.as_str()),
        ("cseq", cseq.as_str()),
        ("branch", branch.as_str()),
        ("fromtag", from_tag.as_str()),
    ];
    all.extend_from_slice(fills);
    message(file, name, &all)
}

/// A gateway with one phone of 1001.
fn with_phone(flow: Flow, params: &str) -> World {
    let mut world = World::new();
    world.register_for(flow, "1001", params, ONE, 7200);
    world
}

/// The same in path mode, with the Path that Asterisk stored.
fn with_path(flow: Flow, params: &str) -> (World, String) {
    let mut world = World::with(settings(ContactMode::Path));
    world.receive(flow, register(flow, "1001", params, ONE, 7200, 1));
    let relayed = world.expect("REGISTER");
    let path = relayed.header(HeaderName::Path);
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    (world, path)
}

/// Asterisk's INVITE arrives; the one that leaves.
fn invited(world: &mut World, invite: String) -> Sent {
    world.receive(pbx(), invite);
    world.expect("SIP/2.0 100");
    world.expect("INVITE")
}

fn chan_sip_invite(uri: &str, routes: &str) -> String {
    message(
        CHAN_SIP,
        "invite",
        &[("uri", uri), ("branch", "1389e08a"), ("routes", routes)],
    )
}

fn pjsip_invite(uri: &str, routes: &str) -> String {
    // To has no port and no transport, but the other URI parameters.
    let to = uri.replace(":5060", "").replace(";transport=tcp", "");
    message(
        PJSIP,
        "invite",
        &[
            ("uri", uri),
            ("to", &to),
            ("branch", "57ee9712"),
            ("routes", routes),
        ],
    )
}

/// The phone answers with its own Contact.
fn picks_up(world: &mut World, flow: Flow, sent: &Sent) {
    let more = format!("Contact: <{PHONE}>\n");
    world.receive(flow, response(sent, "180 Ringing", &more));
    world.expect("SIP/2.0 180");
    world.receive(flow, response(sent, "200 OK", &more));
    world.expect("SIP/2.0 200");
}

/// Asterisk's Routes in a dialog: our Record-Routes, its own side's first.
fn routes(sent: &Sent, separator: &str) -> String {
    let mut values = values(sent, HeaderName::RecordRoute);
    values.reverse();
    match separator {
        "," => format!("Route: {}\n", values.join(",")),
        _ => values
            .iter()
            .map(|value| format!("Route: {value}\n"))
            .collect(),
    }
}

// --- chan_sip: REGISTER and qualify ---

#[test]
pub fn chan_sip_sends_options_before_the_200_of_the_register() {
    let mut world = World::new();
    let text = register(tcp(1), "1001", APNS, ONE, 3600, 1);
    world.receive(tcp(1), &text);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), answer_register(CHAN_SIP, "401", &relayed, &[]));
    let refused = world.expect("SIP/2.0 401");
    assert_eq!(
        refused.header(HeaderName::WwwAuthenticate),
        "Digest algorithm=MD5, realm=\"asterisk\", nonce=\"78389809\""
    );
    world.receive(tcp(1), register(tcp(1), "1001", APNS, ONE, 3600, 2));
    let relayed = world.expect("REGISTER");
    let contact = contact_uri("1001");
    world.receive(
        pbx(),
        message(
            CHAN_SIP,
            "options",
            &[("uri", &contact), ("branch", "214c99ce")],
        ),
    );
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    let fills = [("contact", contact.as_str()), ("expires", "3600")];
    world.receive(pbx(), answer_register(CHAN_SIP, "200", &relayed, &fills));
    let ok = world.expect("SIP/2.0 200");
    // chan_sip dropped the Contact header's own parameters; the phone gets what it sent.
    assert_eq!(
        values(&ok, HeaderName::Contact),
        [format!("<sip:1001@10.0.0.5:5060;{APNS}>{ONE};expires=3600")]
    );
    world.receive(
        pbx(),
        message(CHAN_SIP, "notify", &[("uri", &contact), ("cseq", "102")]),
    );
    let notify = world.expect("NOTIFY sip:1001@10.0.0.5:5060");
    world.receive(tcp(1), response(&notify, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_sleeping_phone_is_qualified_for_hours_and_never_woken_by_it() {
    let mut world = with_phone(tcp(1), APNS);
    world.close(tcp(1));
    for (file, at) in (0..40).map(|at| (if at % 2 == 0 { CHAN_SIP } else { PJSIP }, at)) {
        let branch = format!("q{at}");
        let fills = [("uri", &*contact_uri("1001")), ("branch", &*branch)];
        let options = message(file, "options", &fills);
        world.receive(pbx(), &options);
        world.expect("SIP/2.0 200");
        // A copy that was on its way gets the same answer.
        world.receive(pbx(), &options);
        world.expect("SIP/2.0 200");
        world.advance(Duration::from_secs(10));
    }
    world.expect_nothing();
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn chan_sips_mwi_notifies_reuse_their_branch_and_each_is_delivered() {
    let mut world = with_phone(udp(1), "");
    for cseq in ["102", "103", "104"] {
        let fills = [("uri", &*contact_uri("1001")), ("cseq", cseq)];
        let text = message(CHAN_SIP, "notify", &fills);
        world.receive(pbx(), &text);
        let notify = world.expect("NOTIFY sip:1001@10.0.0.5:5060");
        assert_eq!(notify.header(HeaderName::CSeq), format!("{cseq} NOTIFY"));
        // The same one again is a retransmission, and there is no answer yet.
        world.receive(pbx(), &text);
        world.expect_nothing();
        world.receive(udp(1), response(&notify, "200 OK", ""));
        let ok = world.expect("SIP/2.0 200");
        assert_eq!(ok.header(HeaderName::CSeq), format!("{cseq} NOTIFY"));
    }
    world.assert_quiet();
}

#[test]
pub fn an_mwi_notify_without_subscription_state_is_400_from_the_phone_and_that_passes() {
    let mut world = with_phone(udp(1), "");
    let fills = [("uri", &*contact_uri("1001")), ("cseq", "102")];
    world.receive(pbx(), message(CHAN_SIP, "notify", &fills));
    let notify = world.expect("NOTIFY");
    assert!(notify.message.header_named("Subscription-State").is_none());
    world.receive(udp(1), response(&notify, "400 Bad Request", ""));
    world.expect("SIP/2.0 400");
    world.assert_quiet();
}

// --- chan_sip: calls ---

#[test]
pub fn chan_sips_cancel_has_no_route_and_its_ack_goes_to_the_contact_of_the_1xx() {
    for mode in [ContactMode::Agent, ContactMode::Path] {
        let (mut world, route) = match mode {
            ContactMode::Path => {
                let (world, path) = with_path(udp(1), "");
                (world, format!("Route: {path}\n"))
            }
            ContactMode::Agent | ContactMode::Device => (with_phone(udp(1), ""), String::new()),
        };
        let uri = match mode {
            ContactMode::Path => "sip:1001@10.0.0.5:5060".to_owned(),
            ContactMode::Agent | ContactMode::Device => contact_uri("1001"),
        };
        let sent = invited(&mut world, chan_sip_invite(&uri, &route));
        let more = format!("Contact: <{PHONE}>\n");
        world.receive(udp(1), response(&sent, "180 Ringing", &more));
        world.expect("SIP/2.0 180");
        world.receive(
            pbx(),
            message(CHAN_SIP, "cancel", &[("uri", &uri), ("branch", "1389e08a")]),
        );
        world.expect("SIP/2.0 200");
        let cancel = world.expect("CANCEL sip:1001@10.0.0.5:5060");
        assert_eq!(cancel.header(HeaderName::Reason), "");
        world.receive(udp(1), response(&cancel, "200 OK", ""));
        world.receive(udp(1), response(&sent, "487 Request Terminated", ""));
        let ack = world.expect("ACK sip:1001@10.0.0.5:5060");
        assert_eq!(ack.to, sent.to);
        world.expect("SIP/2.0 487");
        let fills = [
            ("uri", PHONE),
            ("to", uri.as_str()),
            ("tag", "remote"),
            ("branch", "1389e08a"),
            ("cseq", "102"),
        ];
        world.receive(pbx(), message(CHAN_SIP, "ack", &fills));
        world.advance(Duration::from_secs(2));
        world.expect_nothing();
        world.assert_quiet();
    }
}

#[test]
pub fn without_a_1xx_asterisk_would_not_cancel_so_100_is_sent_at_once() {
    let mut world = with_phone(udp(1), APNS);
    world.advance(Duration::from_secs(60));
    // The phone is asked whether it lives first: Asterisk has its 100 before that.
    world.receive(pbx(), chan_sip_invite(&contact_uri("1001"), ""));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS");
    // Copies of the INVITE get the 100 again and go nowhere.
    world.receive(pbx(), chan_sip_invite(&contact_uri("1001"), ""));
    world.expect("SIP/2.0 100");
    world.expect_nothing();
}

#[test]
pub fn answered_elsewhere_reaches_the_phone_with_chan_sips_reason_and_with_both_of_pjsips() {
    let elsewhere = "Reason: SIP;cause=200;text=\"Call completed elsewhere\"\n";
    let both = format!("{elsewhere}Reason: Q.850;cause=26\n");
    for (file, reason, wanted) in [
        (CHAN_SIP, "", vec![]),
        (
            CHAN_SIP,
            elsewhere,
            vec!["SIP;cause=200;text=\"Call completed elsewhere\""],
        ),
        (PJSIP, "Reason: Q.850;cause=0\n", vec!["Q.850;cause=0"]),
        (PJSIP, "Reason: Q.850;cause=127\n", vec!["Q.850;cause=127"]),
        (
            PJSIP,
            &both,
            vec![
                "SIP;cause=200;text=\"Call completed elsewhere\"",
                "Q.850;cause=26",
            ],
        ),
    ] {
        let mut world = with_phone(udp(1), "");
        let uri = contact_uri("1001");
        let fills = [
            ("uri", uri.as_str()),
            ("to", uri.as_str()),
            ("branch", "57ee9712"),
            ("reason", reason),
        ];
        let sent = invited(&mut world, message(file, "invite", &fills));
        world.receive(udp(1), response(&sent, "180 Ringing", ""));
        world.expect("SIP/2.0 180");
        world.receive(pbx(), message(file, "cancel", &fills));
        world.expect("SIP/2.0 200");
        assert_eq!(values(&world.expect("CANCEL"), HeaderName::Reason), wanted);
    }
}

#[test]
pub fn in_a_dialog_chan_sip_sends_to_where_the_register_came_from_whatever_its_routes_say() {
    // The phone is on TCP, so the top Route of Asterisk's side is ours on UDP; a Path behind
    // another proxy of the phone's would change nothing.
    let mut world = with_phone(tcp(1), "");
    let sent = invited(&mut world, chan_sip_invite(&contact_uri("1001"), ""));
    picks_up(&mut world, tcp(1), &sent);
    let to = contact_uri("1001");
    let mut reversed = values(&sent, HeaderName::RecordRoute);
    // Even with its Routes in the wrong order.
    for turned in [false, true] {
        if turned {
            reversed.reverse();
        }
        let routes = format!("Route: {}\n", reversed.join(","));
        let branch = format!("ack{turned}");
        let fills = [
            ("uri", PHONE),
            ("to", to.as_str()),
            ("tag", "remote"),
            ("branch", branch.as_str()),
            ("cseq", "102"),
            ("routes", routes.as_str()),
        ];
        world.receive(pbx(), message(CHAN_SIP, "ack", &fills));
        let ack = world.expect(&format!("ACK {PHONE}"));
        assert_eq!(ack.to, Destination::Flow(tcp(1).id));
        assert_eq!(values(&ack, HeaderName::Route), [""; 0]);
    }
}

#[test]
pub fn a_reinvite_straight_behind_the_ack_passes_and_the_first_contact_stays_chan_sips_target() {
    let mut world = with_phone(tcp(1), "");
    let uri = contact_uri("1001");
    let sent = invited(&mut world, chan_sip_invite(&uri, ""));
    picks_up(&mut world, tcp(1), &sent);
    let routes = routes(&sent, ",");
    let fills = |branch: &'static str, cseq: &'static str| {
        [
            ("uri", PHONE),
            ("to", uri.as_str()),
            ("tag", "remote"),
            ("branch", branch),
            ("cseq", cseq),
            ("routes", routes.as_str()),
        ]
    };
    world.receive(pbx(), message(CHAN_SIP, "ack", &fills("a1", "102")));
    world.receive(pbx(), message(CHAN_SIP, "reinvite", &fills("r1", "103")));
    world.expect("ACK");
    world.expect("SIP/2.0 100");
    let again = world.expect(&format!("INVITE {PHONE}"));
    assert_eq!(again.to, Destination::Flow(tcp(1).id));
    assert!(
        again
            .text()
            .contains("X-asterisk-Info: SIP re-invite (External RTP bridge)")
    );
    assert!(world.pushes.is_empty());
    let more = "Contact: <sip:x@10.0.0.5:5060>\n";
    world.receive(tcp(1), response(&again, "200 OK", more));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.header(HeaderName::Contact), "<sip:x@10.0.0.5:5060>");
    // ACK and BYE keep the first Contact, and the BYE comes straight behind a re-INVITE.
    world.receive(pbx(), message(CHAN_SIP, "ack", &fills("a2", "103")));
    world.expect(&format!("ACK {PHONE}"));
    world.receive(pbx(), message(CHAN_SIP, "bye", &fills("b1", "104")));
    let bye = world.expect(&format!("BYE {PHONE}"));
    assert!(bye.text().contains("X-Asterisk-HangupCauseCode: 16"));
    world.receive(tcp(1), response(&bye, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn a_session_timers_reinvite_after_45_s_passes_and_pushes_nobody() {
    for (file, seconds) in [(CHAN_SIP, 45), (PJSIP, 45)] {
        let mut world = with_phone(udp(1), APNS);
        let uri = contact_uri("1001");
        let fills = [
            ("uri", uri.as_str()),
            ("to", uri.as_str()),
            ("branch", "1389e08a"),
        ];
        let sent = invited(&mut world, message(file, "invite", &fills));
        picks_up(&mut world, udp(1), &sent);
        world.advance(Duration::from_secs(seconds));
        let routes = routes(&sent, "");
        let fills = [
            ("uri", PHONE),
            ("to", uri.as_str()),
            ("tag", "remote"),
            ("branch", "timer"),
            ("routes", routes.as_str()),
        ];
        world.receive(pbx(), message(file, "reinvite", &fills));
        world.expect("SIP/2.0 100");
        let again = world.expect(&format!("INVITE {PHONE}"));
        world.receive(udp(1), response(&again, "200 OK", ""));
        world.expect("SIP/2.0 200");
        assert!(world.pushes.is_empty());
        world.assert_quiet();
    }
}

/// With transport=udp,tcp and a Contact with ;transport=tcp chan_sip opens TCP to the address that
/// the REGISTER came from.
#[test]
pub fn a_call_over_a_tcp_connection_of_asterisks_is_answered_over_it() {
    let asterisk = Flow {
        id: FlowId::Stream(ConnectionId(80)),
        listener: ListenerId(1),
        remote: ([192, 0, 2, 80], 45_663).into(),
        transport: Transport::Tcp,
    };
    let mut world = with_phone(tcp(1), "");
    let tcp_of = |text: String| text.replace("SIP/2.0/UDP 192", "SIP/2.0/TCP 192");
    let uri = format!("{};transport=tcp", contact_uri("1001"));
    world.receive(asterisk, tcp_of(chan_sip_invite(&uri, "")));
    let trying = world.expect("SIP/2.0 100");
    assert_eq!(trying.to, Destination::Flow(asterisk.id));
    let sent = world.expect("INVITE sip:1001@10.0.0.5:5060");
    assert_eq!(
        values(&sent, HeaderName::RecordRoute).len(),
        1,
        "TCP on both sides"
    );
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    let ringing = world.expect("SIP/2.0 180");
    assert_eq!(ringing.to, Destination::Flow(asterisk.id));
    let fills = [("uri", uri.as_str()), ("branch", "1389e08a")];
    world.receive(asterisk, tcp_of(message(CHAN_SIP, "cancel", &fills)));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    world.receive(tcp(1), response(&cancel, "200 OK", ""));
    world.receive(tcp(1), response(&sent, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.assert_quiet();
}

#[test]
pub fn chan_sip_ends_a_phones_cancelled_call_with_487_before_the_200_of_the_cancel() {
    let mut world = with_phone(tcp(1), "");
    let invite = format!(
        "
INVITE sip:931003@pbx.example.com SIP/2.0
{}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=12
To: <sip:931003@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: 1-2299
CSeq: 1 INVITE
Content-Length: 0

",
        via(tcp(1), "z9hG4bK-2299-1-4")
    );
    world.receive(tcp(1), crlf(&invite));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.receive(pbx(), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(tcp(1), crlf(&invite.replace("INVITE", "CANCEL")));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    world.receive(pbx(), response(&sent, "487 Request Terminated", ""));
    world.expect("ACK sip:931003@pbx.example.com");
    let ended = world.expect("SIP/2.0 487");
    assert_eq!(ended.to, Destination::Flow(tcp(1).id));
    world.receive(pbx(), response(&cancel, "200 OK", ""));
    world.expect_nothing();
    world.assert_quiet();
}

// --- Path ---

#[test]
pub fn chan_sip_takes_path_without_supported_and_routes_invite_and_notify_by_it() {
    let (mut world, path) = with_path(udp(1), "line=abc");
    let route = format!("Route: {path}\n");
    let uri = "sip:1001@10.0.0.5:5060;line=abc";
    let fills = [("uri", uri), ("cseq", "102"), ("routes", route.as_str())];
    world.receive(pbx(), message(CHAN_SIP, "notify", &fills));
    let notify = world.expect(&format!("NOTIFY {uri}"));
    world.receive(udp(1), response(&notify, "200 OK", ""));
    world.expect("SIP/2.0 200");
    let sent = invited(&mut world, chan_sip_invite(uri, &route));
    assert_eq!(sent.first_line(), format!("INVITE {uri} SIP/2.0"));
    picks_up(&mut world, udp(1), &sent);
    // In the dialog only Record-Route comes back, no Path.
    let routes = routes(&sent, ",");
    let fills = [
        ("uri", PHONE),
        ("to", uri),
        ("tag", "remote"),
        ("branch", "bye"),
        ("routes", routes.as_str()),
    ];
    world.receive(pbx(), message(CHAN_SIP, "bye", &fills));
    let bye = world.expect(&format!("BYE {PHONE}"));
    world.receive(udp(1), response(&bye, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn chan_sips_options_has_no_route_and_is_answered_for_a_contact_of_the_phones_own() {
    let (mut world, _) = with_path(tcp(1), APNS);
    world.close(tcp(1));
    let fills = [("uri", "sip:1001@10.0.0.5:5060"), ("branch", "214c99ce")];
    world.receive(pbx(), message(CHAN_SIP, "options", &fills));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn pjsip_wants_supported_path_and_its_420_passes_if_it_comes_all_the_same() {
    let mut world = World::with(settings(ContactMode::Path));
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 600, 1));
    let relayed = world.expect("REGISTER");
    assert_eq!(values(&relayed, HeaderName::Supported), ["path"]);
    world.receive(pbx(), answer_register(PJSIP, "420", &relayed, &[]));
    world.expect("SIP/2.0 420");
    assert_eq!(world.count().0, 0);
    world.assert_quiet();
}

#[test]
pub fn pjsips_200_without_path_with_every_contact_and_its_branch_as_tag_is_a_200() {
    let mut world = World::with(settings(ContactMode::Path));
    let params = "line=abc;pn-provider=apns;pn-prid=AAAA%3avoip;pn-param=DEF123GHIJ.b.voip";
    let text = register(udp(1), "1001", params, ONE, 600, 1)
        .replace("@pbx.example.com>", "@pbx.example.com:5080>");
    world.receive(udp(1), text);
    let relayed = world.expect("REGISTER");
    // Nobody else's business: what is about pushes stays here.
    let stored = relayed.header(HeaderName::Contact);
    assert!(
        stored.contains(";line=abc") && !stored.contains("pn-"),
        "{stored}"
    );
    let contacts = "Contact: <sip:1001@10.9.9.9:1234;transport=UDP>;expires=81\n\
                    Contact: <sip:1001@10.0.0.5:5060;line=abc>;expires=119\n";
    let fills = [("contacts", contacts), ("expires", "120")];
    world.receive(pbx(), answer_register(PJSIP, "200", &relayed, &fills));
    let ok = world.expect("SIP/2.0 200");
    assert!(ok.header(HeaderName::To).contains(";tag=z9hG4bK"));
    assert_eq!(
        values(&ok, HeaderName::Contact),
        [format!(
            "<sip:1001@10.0.0.5:5060;{params}>{ONE};expires=119"
        )]
    );
    assert_eq!(world.count().0, 1);
    world.assert_quiet();
}

#[test]
pub fn pjsip_lists_path_in_its_200_and_the_phone_does_not_see_it() {
    let mut world = World::with(settings(ContactMode::Path));
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 600, 1));
    let relayed = world.expect("REGISTER");
    let path = format!("Path: {}\n", relayed.header(HeaderName::Path));
    let contacts = "Contact: <sip:1001@10.0.0.5:5060>;expires=599\n";
    let fills = [
        ("contacts", contacts),
        ("expires", "600"),
        ("path", path.as_str()),
    ];
    world.receive(pbx(), answer_register(PJSIP, "200", &relayed, &fills));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(values(&ok, HeaderName::Path), [""; 0]);
    assert!(ok.header(HeaderName::Contact).ends_with(";expires=599"));
}

#[test]
pub fn pjsip_appends_its_path_again_to_cancel() {
    let (mut world, path) = with_path(tcp(1), "");
    let route = format!("Route: {path}\n");
    let uri = "sip:1001@10.0.0.5:5060";
    let sent = invited(&mut world, pjsip_invite(uri, &route));
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
    world.receive(tcp(1), response(&sent, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    let fills = [
        ("uri", uri),
        ("to", "sip:1001@10.0.0.5"),
        ("branch", "57ee9712"),
        ("routes", route.as_str()),
        ("again", route.as_str()),
        ("reason", "Reason: Q.850;cause=0\n"),
    ];
    world.receive(pbx(), message(PJSIP, "cancel", &fills));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    assert_eq!(values(&cancel, HeaderName::Route), [""; 0]);
    world.receive(tcp(1), response(&cancel, "200 OK", ""));
    world.receive(tcp(1), response(&sent, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    // The ACK of a refusal has the INVITE's URI and its Route.
    let fills = [
        ("uri", uri),
        ("to", "sip:1001@10.0.0.5"),
        ("tag", "remote"),
        ("branch", "57ee9712"),
        ("cseq", "17059"),
        ("routes", route.as_str()),
    ];
    world.receive(pbx(), message(PJSIP, "ack", &fills));
    world.advance(Duration::from_secs(1));
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
pub fn pjsip_appends_its_path_again_to_bye_behind_both_record_routes() {
    let (mut world, path) = with_path(tcp(1), "");
    let again = format!("Route: {path}\n");
    let uri = "sip:1001@10.0.0.5:5060";
    let sent = invited(&mut world, pjsip_invite(uri, &again));
    picks_up(&mut world, tcp(1), &sent);
    let recorded = routes(&sent, "");
    assert_eq!(recorded.matches("Route").count(), 2);
    let fills = |branch: &'static str| {
        [
            ("uri", PHONE),
            ("to", "sip:1001@10.0.0.5"),
            ("tag", "remote"),
            ("branch", branch),
            ("cseq", "17059"),
            ("routes", recorded.as_str()),
            ("again", again.as_str()),
        ]
    };
    world.receive(pbx(), message(PJSIP, "ack", &fills("a")));
    let ack = world.expect(&format!("ACK {PHONE}"));
    assert_eq!(values(&ack, HeaderName::Route), [""; 0]);
    world.receive(pbx(), message(PJSIP, "bye", &fills("b")));
    let bye = world.expect(&format!("BYE {PHONE}"));
    assert_eq!(values(&bye, HeaderName::Route), [""; 0]);
    assert_eq!(bye.header(HeaderName::Reason), "Q.850;cause=16");
    world.receive(tcp(1), response(&bye, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn pjsips_reinvite_refreshes_its_target_and_the_next_requests_go_there() {
    let mut world = with_phone(tcp(1), "");
    let uri = contact_uri("1001");
    let sent = invited(&mut world, pjsip_invite(&uri, ""));
    picks_up(&mut world, tcp(1), &sent);
    let recorded = routes(&sent, "");
    let fills = |uri: &'static str, branch: &'static str, cseq: &'static str| {
        [
            ("uri", uri),
            ("to", "sip:1001@192.0.2.1"),
            ("tag", "remote"),
            ("branch", branch),
            ("cseq", cseq),
            ("routes", recorded.as_str()),
        ]
    };
    world.receive(pbx(), message(PJSIP, "ack", &fills(PHONE, "a1", "17059")));
    world.receive(
        pbx(),
        message(PJSIP, "reinvite", &fills(PHONE, "r1", "17060")),
    );
    world.expect("ACK");
    world.expect("SIP/2.0 100");
    let again = world.expect("INVITE");
    assert_eq!(again.header(HeaderName::SessionExpires), "90;refresher=uac");
    let moved = "Contact: <sip:x@10.0.0.99:5060>\n";
    world.receive(tcp(1), response(&again, "200 OK", moved));
    world.expect("SIP/2.0 200");
    let target = "sip:x@10.0.0.99:5060";
    world.receive(pbx(), message(PJSIP, "ack", &fills(target, "a2", "17060")));
    let ack = world.expect(&format!("ACK {target}"));
    world.receive(pbx(), message(PJSIP, "bye", &fills(target, "b1", "17061")));
    let bye = world.expect(&format!("BYE {target}"));
    // Whatever the target says, the phone is at the end of its flow.
    let there = Destination::Flow(tcp(1).id);
    assert_eq!((&ack.to, &bye.to), (&there, &there));
}

// --- PJSIP: URIs ---

#[test]
pub fn pjsip_prints_our_contact_anew_and_it_still_names_the_device() {
    let number = contact_uri("1001");
    let value = number.rsplit('=').next().unwrap();
    for uri in [
        format!("sip:1001@192.0.2.1:5060;rouse={value}"),
        format!("sip:1001@192.0.2.1;rouse={value}"),
        format!("sip:1001@192.0.2.1:5060;transport=tcp;rouse={value}"),
        format!("sip:1001@192.0.2.1:5060;rouse={value};x-ast-orig-host=127.0.0.1%3a60322"),
        format!("sip:1001@192.0.2.1:5060;rouse={}", value.to_uppercase()),
        format!("sip:%31001@192.0.2.1:5060;Rouse={value};user=phone"),
    ] {
        let mut world = with_phone(udp(1), "");
        let sent = invited(&mut world, pjsip_invite(&uri, ""));
        assert_eq!(
            sent.first_line(),
            "INVITE sip:1001@10.0.0.5:5060 SIP/2.0",
            "{uri}"
        );
        assert_eq!(sent.message.header_named("Min-SE"), Some(&b"90"[..]));
        world.receive(udp(1), response(&sent, "486 Busy Here", ""));
        world.expect("ACK");
        world.expect("SIP/2.0 486");
        world.assert_quiet();
    }
}

#[test]
pub fn a_200_with_our_contact_printed_anew_grants_its_time() {
    for (mode, suffix) in [(ContactMode::Agent, ""), (ContactMode::Device, "")] {
        let mut world = World::with(settings(mode));
        world.receive(tcp(1), register(tcp(1), "1001", APNS, ONE, 600, 1));
        let relayed = world.expect("REGISTER");
        let ours = relayed.message.contacts().next().unwrap().unwrap();
        let rouse::proto::sip::Contact::Address(ours) = ours else {
            panic!("an address");
        };
        let uri = String::from_utf8(ours.uri.to_vec()).unwrap();
        // transport first, and another contact before it.
        let (head, params) = uri.split_once(';').unwrap();
        let contacts = format!(
            "Contact: <sip:1001@203.0.113.5>;expires=7\nContact: <{head};transport=UDP;{params}{suffix}>;expires=333\n"
        );
        let fills = [("contacts", contacts.as_str()), ("expires", "3600")];
        world.receive(pbx(), answer_register(PJSIP, "200", &relayed, &fills));
        let ok = world.expect("SIP/2.0 200");
        let contact = values(&ok, HeaderName::Contact);
        assert_eq!(contact.len(), 1);
        assert!(contact[0].ends_with(";expires=333"), "{contact:?}");
    }
}

#[test]
pub fn a_phone_that_writes_an_escape_anew_is_the_same_phone() {
    let mut world = World::new();
    let colon = APNS;
    let escaped = APNS.replace(":voip", "%3avoip");
    world.register_for(tcp(1), "1001", colon, "", 7200);
    world.register_for(tcp(2), "1001", &escaped, "", 7200);
    assert_eq!(world.count(), (1, 1));
}

/// liblinphone rewrites the escape in To of its answers, and writes `Record-route`.
#[test]
pub fn an_answer_whose_to_is_spelt_otherwise_belongs_to_its_call() {
    let (mut world, path) = with_path(tcp(1), "x=AABB%3avoip");
    let route = format!("Route: {path}\n");
    let uri = "sip:1001@10.0.0.5:5060;x=AABB%3avoip";
    let sent = invited(&mut world, chan_sip_invite(uri, &route));
    let text = response(
        &sent,
        "180 Ringing",
        "Supported: replaces, outbound, gruu\n",
    )
    .replace("%3avoip", ":voip")
    .replace("Record-Route:", "Record-route:");
    world.receive(tcp(1), text);
    let ringing = world.expect("SIP/2.0 180");
    assert!(ringing.text().contains("Record-route: <sip:"));
    world.receive(
        tcp(1),
        response(&sent, "486 Busy Here", "").replace("%3avoip", ":voip"),
    );
    let ack = world.expect("ACK");
    assert!(ack.header(HeaderName::To).contains("x=AABB:voip"));
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn an_endpoints_outbound_proxy_is_us_and_its_route_is_taken_off() {
    let mut world = with_phone(udp(1), "");
    let route = "Route: <sip:192.0.2.1:5060;lr>\n";
    let sent = invited(&mut world, pjsip_invite(&contact_uri("1001"), route));
    assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
}

#[test]
pub fn pjsip_forks_to_its_contacts_itself_and_each_call_reaches_its_own_device() {
    let mut world = World::with(settings(ContactMode::Device));
    let mut uris = Vec::new();
    for (port, instance) in [(1, ONE), (2, TWO)] {
        world.receive(
            udp(port),
            register(udp(port), "1001", "", instance, 600, u32::from(port)),
        );
        let relayed = world.expect("REGISTER");
        let contact = relayed.header(HeaderName::Contact);
        uris.push(contact[1..contact.find('>').unwrap()].to_owned());
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
    }
    let mut calls = Vec::new();
    for (uri, port) in uris.iter().zip([1, 2]) {
        let branch = format!("fork{port}");
        let fills = [
            ("uri", uri.as_str()),
            ("to", uri.as_str()),
            ("branch", branch.as_str()),
        ];
        let text = message(PJSIP, "invite", &fills).replace("50cbe921", &format!("{port}0cbe921"));
        let sent = invited(&mut world, text);
        assert_eq!(sent.to, Destination::Flow(udp(port).id));
        world.receive(udp(port), response(&sent, "180 Ringing", ""));
        world.expect("SIP/2.0 180");
        calls.push(sent);
    }
    world.receive(udp(1), response(&calls[0], "200 OK", ""));
    world.expect("SIP/2.0 200");
    // The other call is Asterisk's to cancel.
    world.expect_nothing();
}

// --- answers ---

#[test]
pub fn what_the_phone_answers_is_what_asterisk_gets() {
    for (status, passed) in [
        ("302 Moved Temporarily", 302),
        ("404 Not Found", 404),
        ("408 Request Timeout", 408),
        ("480 Temporarily Unavailable", 480),
        ("486 Busy Here", 486),
        ("487 Request Terminated", 487),
        ("488 Not Acceptable Here", 488),
        ("500 Server Internal Error", 500),
        // A 503 would speak for the whole gateway (RFC 3261 §16.7).
        ("503 Service Unavailable", 500),
        ("600 Busy Everywhere", 600),
        ("603 Decline", 603),
    ] {
        for file in [CHAN_SIP, PJSIP] {
            let mut world = with_phone(udp(1), "");
            let uri = contact_uri("1001");
            let fills = [("uri", uri.as_str()), ("to", uri.as_str()), ("branch", "r")];
            let sent = invited(&mut world, message(file, "invite", &fills));
            world.receive(udp(1), response(&sent, "100 Trying", ""));
            world.expect_nothing();
            let more = "Contact: <sip:elsewhere@10.0.0.5>\nReason: Q.850;cause=17\n";
            world.receive(udp(1), response(&sent, status, more));
            world.expect("ACK");
            let got = world.expect(&format!("SIP/2.0 {passed}"));
            if passed == 302 {
                assert_eq!(got.header(HeaderName::Contact), "<sip:elsewhere@10.0.0.5>");
            }
            world.expect_nothing();
            world.assert_quiet();
        }
    }
}

#[test]
pub fn provisional_answers_pass_with_and_without_a_body() {
    let mut world = with_phone(udp(1), "");
    let sent = invited(&mut world, chan_sip_invite(&contact_uri("1001"), ""));
    for status in [
        "183 Session Progress",
        "180 Ringing",
        "181 Call Is Being Forwarded",
    ] {
        let text = response(&sent, status, "Content-Type: application/sdp\n").replace(
            "Content-Length: 0\r\n\r\n",
            "Content-Length: 5\r\n\r\nv=0\r\n",
        );
        world.receive(udp(1), text);
        let got = world.expect(&format!("SIP/2.0 {status}"));
        assert_eq!(got.message.body(), b"v=0\r\n");
    }
    world.receive(udp(1), response(&sent, "180 Ringing", ""));
    assert!(world.expect("SIP/2.0 180").message.body().is_empty());
}

#[test]
pub fn an_answer_twenty_seconds_after_the_100_completes_the_call() {
    for params in ["", APNS] {
        let mut world = with_phone(udp(1), params);
        let sent = invited(&mut world, chan_sip_invite(&contact_uri("1001"), ""));
        world.receive(udp(1), response(&sent, "100 Trying", ""));
        world.advance(Duration::from_secs(20));
        world.expect_nothing();
        world.receive(udp(1), response(&sent, "200 OK", ""));
        world.expect("SIP/2.0 200");
        assert!(world.pushes.is_empty());
        world.assert_quiet();
    }
}

#[test]
pub fn pjsips_challenge_with_qop_and_opaque_passes_as_it_is() {
    let mut world = World::new();
    world.receive(udp(1), register(udp(1), "1001", "", ONE, 600, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), answer_register(PJSIP, "401", &relayed, &[]));
    let refused = world.expect("SIP/2.0 401");
    assert_eq!(
        refused.header(HeaderName::WwwAuthenticate),
        "Digest realm=\"asterisk\",nonce=\"1795325899/8dbb\",opaque=\"5d2f7a5b3b4b3b2e\",algorithm=MD5,qop=\"auth\""
    );
    world.assert_quiet();
}
