//! REGISTER through the gateway (RFC 3261 §10).

use std::time::Duration;

use rouse::proto::settings::{ContactMode, Qualify};
use rouse::proto::sip::HeaderName;
use rouse::proto::{AorId, Destination, Event, Input, Transport};

use crate::world::{
    APNS, Sent, TOKEN, World, contact_uri, crlf, invite, invite_to, ok_to_register, pbx, register,
    response, settings, tcp, udp, via, without_purr,
};

#[test]
pub fn a_register_is_relayed_with_our_contact_and_answered_with_the_phones_own() {
    let mut world = World::new();
    world.receive(
        tcp(1),
        register(
            tcp(1),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            60,
            1,
        ),
    );
    let relayed = world.expect("REGISTER sip:pbx.example.com");
    assert_eq!(relayed.to, Destination::Flow(pbx().id));
    assert_eq!(
        relayed.header(HeaderName::Contact),
        format!("<{}>", contact_uri("1001"))
    );
    assert_eq!(relayed.header(HeaderName::Expires), "3600");
    assert!(!relayed.text().contains("pn-") && !relayed.text().contains(TOKEN));
    world.receive(
        pbx(),
        response(
            &relayed,
            "401 Unauthorized",
            "WWW-Authenticate: Digest realm=\"a\", nonce=\"1\"\n",
        ),
    );
    let challenge = world.expect("SIP/2.0 401");
    assert_eq!(challenge.to, Destination::Flow(tcp(1).id));
    assert_eq!(challenge.message.values(HeaderName::Via).count(), 1);
    assert!(challenge.text().contains("nonce=\"1\""));
    world.receive(
        tcp(1),
        register(
            tcp(1),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            60,
            2,
        ),
    );
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    let contact = ok.header(HeaderName::Contact);
    assert!(
        contact.starts_with("<sip:1001@10.0.0.5:5060;pn-provider=apns"),
        "{contact}"
    );
    assert!(contact.ends_with(";expires=3600"), "{contact}");
    assert_eq!(world.stored.len(), 1);
    assert_eq!(world.bound, [tcp(1).id]);
    world.assert_quiet();
}

#[test]
pub fn the_200_waits_for_the_store_and_a_broken_store_makes_it_503() {
    let mut world = World::new();
    world.is_store_working = false;
    world.receive(tcp(1), register(tcp(1), "1001", APNS, "", 60, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let refused = world.expect("SIP/2.0 503");
    assert!(!refused.header(HeaderName::RetryAfter).is_empty());
    assert!(
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::StoreFailed))
    );
    // The next one writes all of it, although memory has it already.
    world.is_store_working = true;
    world.register_for(tcp(1), "1001", APNS, "", 60);
    assert_eq!(world.stored.len(), 1);
    world.assert_quiet();
}

#[test]
pub fn a_notify_right_behind_the_2xx_finds_the_phone_that_still_waits_for_the_store() {
    let mut world = World::new();
    world.is_store_slow = true;
    world.receive(tcp(1), register(tcp(1), "1001", APNS, "", 60, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect_nothing();
    world.receive(pbx(), invite("1001", "n1").replace("INVITE", "NOTIFY"));
    let notify = world.expect("NOTIFY sip:1001@10.0.0.5");
    assert_eq!(notify.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&notify, "200 OK", ""));
    world.expect("SIP/2.0 200");
    world.expect_nothing();
    world.store();
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

#[test]
pub fn one_device_leaving_does_not_unregister_the_agents_others() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    world.register_for(tcp(2), "1001", "", ";+sip.instance=\"<urn:uuid:2>\"", 600);
    assert_eq!(world.count(), (2, 2));
    world.receive(
        tcp(2),
        register(tcp(2), "1001", "", ";+sip.instance=\"<urn:uuid:2>\"", 0, 9),
    );
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), "3600");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.header(HeaderName::Contact), "");
    assert_eq!(world.count(), (1, 1));
    world.receive(
        tcp(1),
        register(
            tcp(1),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            0,
            10,
        ),
    );
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), "0");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (0, 0));
    assert!(world.stored.is_empty() && world.bound.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_device_that_comes_from_another_address_replaces_itself() {
    let mut world = World::new();
    world.register_for(
        udp(1000),
        "1001",
        "",
        ";+sip.instance=\"<urn:uuid:1>\"",
        600,
    );
    world.register_for(tcp(5), "1001", "", ";+sip.instance=\"<urn:uuid:1>\"", 600);
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.bound, [tcp(5).id]);
    assert_eq!(world.stored.len(), 1);
}

#[test]
pub fn a_phone_without_push_is_gone_with_its_flow_and_one_with_push_sleeps() {
    let mut world = World::new();
    world.register(tcp(1), "1001", "");
    world.register(tcp(2), "1002", APNS);
    world.close(tcp(1));
    world.close(tcp(2));
    assert_eq!(world.count(), (1, 0));
    assert_eq!(world.stored.len(), 1);
    assert!(world.bound.is_empty());
}

#[test]
pub fn a_binding_ends_at_its_expiry() {
    let mut world = World::new();
    world.register_for(tcp(2), "1002", APNS, "", 600);
    world.close(tcp(2));
    world.advance(Duration::from_secs(3599));
    assert_eq!(world.count(), (1, 0));
    world.advance(Duration::from_secs(1));
    assert_eq!(world.count(), (0, 0));
    assert!(world.stored.is_empty() && world.pushes.is_empty());
}

#[test]
pub fn a_phone_that_cannot_be_woken_keeps_the_time_that_it_asked_for() {
    let mut world = World::new();
    world.receive(udp(1000), register(udp(1000), "1001", "", "", 60, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert!(ok.header(HeaderName::Contact).ends_with(";expires=60"));
    assert_eq!(ok.header(HeaderName::Expires), "60");
}

#[test]
pub fn the_wildcard_removes_all_devices_of_the_agent() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    world.register_for(tcp(2), "1001", "", ";+sip.instance=\"<urn:uuid:2>\"", 600);
    let text = register(tcp(1), "1001", "", "", 0, 9);
    let text = text.replace("Contact: <sip:1001@10.0.0.5:5060>", "Contact: *");
    world.receive(tcp(1), text);
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Contact), "*");
    world.receive(pbx(), response(&relayed, "200 OK", ""));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (0, 0));
    assert!(world.stored.is_empty());
}

#[test]
pub fn in_device_mode_each_device_has_its_own_contact() {
    let mut world = World::with(settings(ContactMode::Device));
    world.receive(
        tcp(1),
        register(
            tcp(1),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            60,
            1,
        ),
    );
    let one = world.expect("REGISTER").header(HeaderName::Contact);
    world.receive(
        tcp(2),
        register(
            tcp(2),
            "1001",
            "pn-provider=fcm;pn-param=project;pn-prid=token:2",
            ";+sip.instance=\"<urn:uuid:2>\"",
            60,
            2,
        ),
    );
    let two = world.expect("REGISTER").header(HeaderName::Contact);
    assert_ne!(one, two);
    world.receive(
        tcp(3),
        register(
            tcp(3),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            60,
            3,
        ),
    );
    assert_eq!(world.expect("REGISTER").header(HeaderName::Contact), one);
}

#[test]
pub fn in_path_mode_the_phones_contact_goes_up_without_its_token_and_with_path_and_its_option() {
    let mut world = World::with(settings(ContactMode::Path));
    world.receive(
        tcp(1),
        register(
            tcp(1),
            "1001",
            APNS,
            ";+sip.instance=\"<urn:uuid:1>\"",
            60,
            1,
        ),
    );
    let relayed = world.expect("REGISTER");
    let contact = relayed.header(HeaderName::Contact);
    assert!(
        contact.starts_with("<sip:1001@10.0.0.5:5060;rouse=")
            && contact.contains(">;+sip.instance=\"<urn:uuid:1>\""),
        "{contact}"
    );
    assert!(
        relayed
            .header(HeaderName::Path)
            .ends_with("@192.0.2.1:5060;lr>")
    );
    assert!(relayed.message.lists(HeaderName::Supported, "path"));
    let path = relayed.header(HeaderName::Path);
    world.receive(
        pbx(),
        response(
            &relayed,
            "200 OK",
            &format!("Contact: <sip:1001@10.0.0.5:5060>;expires=77\nPath: {path}\n"),
        ),
    );
    let ok = world.expect("SIP/2.0 200");
    assert!(
        ok.header(HeaderName::Contact).ends_with(";expires=77"),
        "{}",
        ok.text()
    );
    assert_eq!(ok.header(HeaderName::Path), "");
    // The INVITE comes with the Path as Route, and PJSIP repeats it in its CANCEL.
    let route = format!("Route: {path}\nContent-Type");
    let text = invite_to("sip:1001@10.0.0.5:5060", "p1")
        .replace("Content-Type", &route.replace('\n', "\r\n"));
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE sip:1001@10.0.0.5:5060;pn-provider=apns");
    assert_eq!(forwarded.header(HeaderName::Route), "");
    assert_eq!(forwarded.to, Destination::Flow(tcp(1).id));
}

#[test]
pub fn in_path_mode_a_device_that_comes_from_elsewhere_takes_its_old_contact_away() {
    let mut world = World::with(settings(ContactMode::Path));
    let one = ";+sip.instance=\"<urn:uuid:1>\"";
    world.register_for(tcp(1), "1001", APNS, one, 600);
    let elsewhere = register(tcp(2), "1001", APNS, one, 600, 2).replace("10.0.0.5", "10.9.9.9");
    world.receive(tcp(2), elsewhere);
    let relayed = world.expect("REGISTER");
    let contacts: Vec<_> = relayed.message.values(HeaderName::Contact).collect();
    let [new, old] = contacts[..] else {
        panic!("{}", relayed.text())
    };
    assert!(new.starts_with(b"<sip:1001@10.9.9.9:5060;rouse="));
    assert!(old.starts_with(b"<sip:1001@10.0.0.5:5060;rouse=") && old.ends_with(b">;expires=0"));
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    // It has gone: a refresh from there says nothing of it.
    let refresh = register(tcp(2), "1001", APNS, one, 600, 3).replace("10.0.0.5", "10.9.9.9");
    world.receive(tcp(2), refresh);
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.message.values(HeaderName::Contact).count(), 1);
}

#[test]
pub fn options_during_the_first_register_is_answered_200() {
    let mut world = World::new();
    world.receive(tcp(1), register(tcp(1), "1001", APNS, "", 60, 1));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), options("1001", 1));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.close(tcp(1));
    world.receive(pbx(), options("1001", 2));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), options("1002", 3));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

#[test]
pub fn a_domain_that_nobody_serves_is_not_relayed_to() {
    let mut world = World::new();
    let text =
        register(tcp(1), "1001", "", "", 60, 1).replace("pbx.example.com", "evil.example.org");
    world.receive(tcp(1), text);
    world.expect("SIP/2.0 404");
    world.expect_nothing();
    let text = register(tcp(1), "1001", "", "", 60, 2).replace("pbx.example.com", "192.0.2.1");
    world.receive(tcp(1), text);
    world.expect("REGISTER sip:192.0.2.1");
}

#[test]
pub fn an_upstream_that_is_silent_fails_over_and_at_last_is_504() {
    let mut world = World::new();
    world.receive(tcp(1), register(tcp(1), "1001", APNS, "", 60, 1));
    world.advance(Duration::from_secs(32));
    let last = world.sent.pop_back().unwrap();
    assert!(
        last.first_line().starts_with("SIP/2.0 504"),
        "{}",
        last.text()
    );
    world.sent.clear();
    world.assert_quiet();
}

fn options(user: &str, number: u32) -> String {
    let via = via(pbx(), &format!("z9hG4bKopt{number}"));
    let uri = contact_uri(user);
    crlf(&format!(
        "
OPTIONS {uri} SIP/2.0
{via}
Max-Forwards: 70
From: <sip:asterisk@192.0.2.80>;tag=o
To: <{uri}>
Call-ID: opt{number}
CSeq: 102 OPTIONS
Content-Length: 0

"
    ))
}

#[test]
pub fn by_choice_options_travel_to_a_phone_that_is_awake_and_are_answered_for_one_that_sleeps() {
    let mut settings = settings(ContactMode::Agent);
    settings.upstreams[0].qualify = Qualify::Forward;
    let mut world = World::with(settings);
    world.register_for(tcp(1), "1001", APNS, "", 600);
    world.receive(pbx(), options("1001", 1));
    let asked = world.expect("OPTIONS sip:1001@10.0.0.5:5060");
    assert_eq!(asked.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&asked, "486 Busy Here", ""));
    world.expect("SIP/2.0 486");
    world.close(tcp(1));
    world.receive(pbx(), options("1001", 2));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), options("1002", 3));
    world.expect("SIP/2.0 480");
    world.expect_nothing();
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

/// The Feature-Caps values of a message.
fn caps(sent: &Sent) -> Vec<String> {
    let values = sent.message.values(HeaderName::FeatureCaps);
    values
        .map(|value| without_purr(&String::from_utf8_lossy(value)))
        .collect()
}

/// Registers with these URI and Contact parameters; the Feature-Caps that the upstream and the
/// phone see.
fn offered(params: &str, more: &str, caps_in: &str) -> (Vec<String>, Vec<String>) {
    let mut world = World::new();
    let text = register(tcp(1), "1001", params, more, 600, 1);
    world.receive(
        tcp(1),
        text.replace("Expires: 600\r\n", &format!("Expires: 600\r\n{caps_in}")),
    );
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    let added = caps(&relayed)
        .into_iter()
        .skip(usize::from(!caps_in.is_empty()))
        .collect();
    (added, caps(&ok))
}

#[test]
pub fn a_pushed_device_and_its_registrar_are_told_so() {
    let apns = ["*;+sip.pns=\"apns\"".to_owned()];
    assert_eq!(offered(APNS, "", ""), (apns.to_vec(), apns.to_vec()));
    let pnsreg = ["*;+sip.pns=\"apns\";+sip.pnsreg=\"150\"".to_owned()];
    assert_eq!(
        offered(APNS, ";+sip.pnsreg", ""),
        (apns.to_vec(), pnsreg.to_vec())
    );
}

#[test]
pub fn a_device_that_asks_is_told_which_services_there_are() {
    let (up, down) = offered("pn-provider", "", "");
    assert!(up.is_empty());
    assert_eq!(
        down,
        [
            "*;+sip.pns=\"apns\"",
            "*;+sip.pns=\"apns.dev\"",
            "*;+sip.pns=\"fcm\""
        ]
    );
    let (_, down) = offered("pn-provider=fcm", "", "");
    assert_eq!(down, ["*;+sip.pns=\"fcm\""]);
}

#[test]
pub fn a_service_that_we_have_not_or_that_a_nearer_proxy_has_is_plain_sip() {
    let none = (Vec::new(), Vec::new());
    let other = "pn-provider=apns;pn-param=DEF123GHIJ.other.app.voip;pn-prid=00aa";
    assert_eq!(offered(other, "", ""), none);
    assert_eq!(
        offered("pn-provider=acme;pn-param=x;pn-prid=00aa", "", ""),
        none
    );
    assert_eq!(
        offered(APNS, "", "Feature-Caps: *;+sip.pns=\"apns\"\r\n"),
        none
    );
    assert_eq!(offered("", "", ""), none);
}

#[test]
pub fn a_phone_that_changed_hands_no_longer_rings_for_its_old_agent() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "waits"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    let other = ";+sip.instance=\"<urn:uuid:2>\"";
    world.receive(tcp(2), register(tcp(2), "1002", APNS, other, 600, 90));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    // The held call need not wait for its deadline.
    world.expect("SIP/2.0 480");
    world.expect("SIP/2.0 200");
    assert_eq!(world.count(), (1, 1));
    assert_eq!(world.stored.len(), 1);
    assert_eq!(world.claims.len(), 4);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 480");
    assert!(world.pushes.is_empty());
    // A refresh claims nothing anew.
    world.register_for(tcp(2), "1002", APNS, ";+sip.instance=\"<urn:uuid:2>\"", 600);
    assert_eq!(world.claims.len(), 4);
}

#[test]
pub fn an_app_with_two_accounts_on_one_connection_keeps_both() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    world.register_for(tcp(1), "1002", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    assert_eq!(world.count(), (2, 2));
}

#[test]
pub fn another_shards_claim_takes_the_phone_away() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, ";+sip.instance=\"<urn:uuid:1>\"", 600);
    let mut claim = world.claims.remove(0);
    world.input(Input::Claimed(claim));
    assert_eq!(world.count(), (1, 1), "its own");
    claim.by.aor = AorId(7);
    claim.flow = tcp(2).id;
    world.input(Input::Claimed(claim));
    assert_eq!(world.count(), (0, 0));
    assert!(world.stored.is_empty() && world.bound.is_empty());
}

#[test]
pub fn in_path_mode_the_contact_names_the_transport_by_which_the_upstream_reaches_us() {
    let mut world = World::with(settings(ContactMode::Path));
    world.receive(
        tcp(1),
        register(tcp(1), "1001", "transport=tls;ob", "", 60, 1),
    );
    let contact = world.expect("REGISTER").header(HeaderName::Contact);
    assert!(
        contact.starts_with("<sip:1001@10.0.0.5:5060;ob;rouse="),
        "{contact}"
    );
    let mut by_tcp = settings(ContactMode::Path);
    by_tcp.upstreams[0].nodes[0].transport = Some(Transport::Tcp);
    let mut world = World::with(by_tcp);
    world.receive(udp(1), register(udp(1), "1001", "ob", "", 60, 1));
    let contact = world.expect("REGISTER").header(HeaderName::Contact);
    assert!(
        contact.starts_with("<sip:1001@10.0.0.5:5060;ob;transport=tcp;rouse="),
        "{contact}"
    );
}

/// chan_sip's qualify has no Route, and goes to the phone's own Contact, whatever its user is.
#[test]
pub fn in_path_mode_a_qualify_without_route_is_answered_for_the_device_that_its_contact_names() {
    let mut world = World::with(settings(ContactMode::Path));
    let text = register(udp(1), "1001", APNS, "", 60, 1).replace("<sip:1001@10", "<sip:line7@10");
    world.receive(udp(1), text);
    let relayed = world.expect("REGISTER");
    let contact = relayed.header(HeaderName::Contact);
    let uri = contact[1..].split('>').next().unwrap();
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.receive(pbx(), invite_to(uri, "q1").replace("INVITE", "OPTIONS"));
    world.expect("SIP/2.0 200");
    // A call by that Contact alone reaches the phone under the one that it knows.
    world.receive(pbx(), invite_to(uri, "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sip:line7@10.0.0.5:5060;pn-provider");
    assert_eq!(sent.to, Destination::Flow(udp(1).id));
    assert!(!sent.first_line().contains("rouse="));
}
