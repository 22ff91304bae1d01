//! Requests inside a dialog: they follow the phone wherever it has registered, wait for one that
//! sleeps, and wake it if it gave the dialog a PURR (RFC 8599 §6).

use std::time::Duration;

use rouse::proto::event::Drop;
use rouse::proto::push::{Notice, PushError, Reason};
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Event, Flow};

use crate::world::{
    APNS, Sent, World, beside, crlf, invite, invite_to, ok_to_register, pbx, register, response,
    settings, tcp, udp, via,
};

const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:1";
const FCM_TWO: &str = "pn-provider=fcm;pn-param=project;pn-prid=token:2";
/// All that may come inside a dialog but ACK.
const METHODS: [&str; 7] = [
    "BYE", "INVITE", "UPDATE", "INFO", "REFER", "PRACK", "MESSAGE",
];

/// A dialog between Asterisk and a phone.
struct Dialog {
    call: String,
    /// The phone's Contact URI, as Asterisk has it.
    phone: String,
    /// Asterisk's route set; the phone's is the reverse.
    routes: Vec<String>,
    cseq: u32,
}

impl Dialog {
    fn request(&mut self, from: Flow, method: &str) -> String {
        self.cseq += 1;
        let (cseq, call) = (self.cseq, &self.call);
        let is_down = from.id == pbx().id;
        let mut routes = self.routes.clone();
        let (uri, tags) = if is_down {
            (self.phone.as_str(), ["pbx", "phone"])
        } else {
            routes.reverse();
            ("sip:2001@192.0.2.80:5080", ["phone", "pbx"])
        };
        let routes: String = routes.iter().map(|r| format!("Route: {r}\n")).collect();
        let via = via(from, &format!("z9hG4bK{call}{cseq}"));
        let [own, other] = tags;
        crlf(&format!(
            "
{method} {uri} SIP/2.0
{via}
{routes}Max-Forwards: 70
From: <sip:a@x>;tag={own}
To: <sip:b@x>;tag={other}
Call-ID: {call}
CSeq: {cseq} {method}
Content-Length: 0

"
        ))
    }
}

fn recorded(sent: &Sent) -> Vec<String> {
    let values = sent.message.values(HeaderName::RecordRoute);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

fn contact_of(sent: &Sent) -> String {
    let contact = sent.header(HeaderName::Contact);
    let uri = contact.trim_start_matches('<');
    uri[..uri.find('>').unwrap()].to_owned()
}

/// Registers the phone and takes the PURR that it is given.
fn purr(world: &mut World, flow: Flow, params: &str) -> String {
    let number = world.number();
    world.receive(flow, register(flow, "1001", params, ONE, 600, number));
    let relayed = world.expect("REGISTER");
    assert!(!relayed.text().contains("purr"), "it is the phone's alone");
    world.receive(pbx(), ok_to_register(&relayed));
    let granted = world.expect("SIP/2.0 200");
    let caps = granted.header(HeaderName::FeatureCaps);
    let (_, after) = caps.split_once("+sip.pnspurr=\"").expect("a PURR");
    after.trim_end_matches('"').to_owned()
}

/// Asterisk calls the phone, which answers with that Contact.
fn called(world: &mut World, flow: Flow, params: &str) -> Dialog {
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    let contact = format!("Contact: <sip:1001@10.0.0.5:5060{params}>\n");
    world.receive(flow, response(&sent, "200 OK", &contact));
    let answer = world.expect("SIP/2.0 200");
    let mut routes = recorded(&answer);
    routes.reverse();
    Dialog {
        call: "c1".to_owned(),
        phone: contact_of(&answer),
        routes,
        cseq: 200,
    }
}

/// The phone calls out, with that Contact.
fn calling(world: &mut World, flow: Flow, params: &str) -> Dialog {
    let via = via(flow, "z9hG4bKout1");
    world.receive(
        flow,
        crlf(&format!(
            "
INVITE sip:600@pbx.example.com SIP/2.0
{via}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=phone
To: <sip:600@pbx.example.com>
Contact: <sip:1001@10.0.0.5:5060{params}>
Call-ID: out1
CSeq: 1 INVITE
Content-Length: 0

"
        )),
    );
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sip:600@pbx.example.com");
    world.receive(pbx(), response(&sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
    Dialog {
        call: "out1".to_owned(),
        phone: contact_of(&sent),
        routes: recorded(&sent),
        cseq: 200,
    }
}

/// Both ways in which a phone gets into a dialog.
const OPENINGS: [fn(&mut World, Flow, &str) -> Dialog; 2] = [called, calling];

/// What comes down inside the dialog, with the 100 of an INVITE.
fn come_down(world: &mut World, dialog: &mut Dialog, method: &str) {
    let text = dialog.request(pbx(), method);
    world.receive(pbx(), text);
    if method == "INVITE" {
        world.expect("SIP/2.0 100");
    }
}

fn answer(world: &mut World, sent: &Sent, flow: Flow) {
    world.receive(flow, response(sent, "200 OK", ""));
    world.expect("SIP/2.0 200");
}

#[test]
pub fn two_contacts_in_one_register_do_not_share_a_purr() {
    let mut world = World::new();
    let second = format!("Contact: <sip:1001@10.0.0.6:5060;{FCM_TWO}>{TWO}\r\nExpires:");
    let both = register(tcp(1), "1001", FCM, ONE, 600, 1).replacen("Expires:", &second, 1);
    world.receive(tcp(1), both);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    let caps = world.expect("SIP/2.0 200").header(HeaderName::FeatureCaps);
    assert_eq!(caps, "*;+sip.pns=\"fcm\"");
    assert_eq!(world.count(), (2, 2));
}

#[test]
pub fn every_2xx_brings_a_new_purr_for_a_phone_that_is_pushed() {
    let mut world = World::new();
    let one = purr(&mut world, tcp(1), FCM);
    let two = purr(&mut world, tcp(1), FCM);
    assert!(one != two && one.len() == 64, "{one} {two}");
    // Beside `+sip.pns`, and only there (RFC 8599 §5.4).
    let number = world.number();
    world.receive(udp(7), register(udp(7), "1002", "", TWO, 600, number));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    assert!(!world.expect("SIP/2.0 200").text().contains("purr"));
}

#[test]
pub fn a_purr_reaches_the_peer_and_nothing_else_about_pushes_does() {
    for open in OPENINGS {
        let mut world = World::new();
        let purr = purr(&mut world, tcp(1), FCM);
        let dialog = open(&mut world, tcp(1), &format!(";{FCM};pn-purr={purr};ob"));
        assert_eq!(
            dialog.phone,
            format!("sip:1001@10.0.0.5:5060;pn-purr={purr};ob")
        );
        // Both sides have us in their route sets (RFC 8599 §6.2.2).
        assert_eq!(dialog.routes.len(), 2);
    }
}

#[test]
pub fn a_request_in_a_dialog_with_a_purr_wakes_the_phone_and_waits_for_it() {
    for open in OPENINGS {
        for method in METHODS {
            let mut world = World::new();
            let old = purr(&mut world, tcp(1), FCM);
            let mut dialog = open(&mut world, tcp(1), &format!(";pn-purr={old}"));
            // A newer one does not make the dialog's stale, nor does a restart.
            purr(&mut world, tcp(1), FCM);
            world.close(tcp(1));
            world.restart();
            come_down(&mut world, &mut dialog, method);
            world.expect_nothing();
            let push = world.accept_push();
            assert_eq!(push.notice, Notice::Wake);
            assert!(push.lifetime <= Duration::from_secs(25));
            world.advance(Duration::from_secs(4));
            world.expect_nothing();
            purr(&mut world, tcp(2), FCM);
            let sent = world.expect(&format!("{method} {}", dialog.phone));
            assert_eq!(sent.to, Destination::Flow(tcp(2).id));
            assert!(world.pushes.is_empty());
            answer(&mut world, &sent, tcp(2));
            world.assert_quiet();
        }
    }
}

#[test]
pub fn a_phone_in_a_dialog_with_a_purr_that_is_awake_is_not_pushed() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    come_down(&mut world, &mut dialog, "UPDATE");
    let sent = world.expect("UPDATE");
    answer(&mut world, &sent, tcp(1));
    // A flow that was silent for long is asked first.
    world.advance(Duration::from_secs(60));
    come_down(&mut world, &mut dialog, "UPDATE");
    let options = world.expect("OPTIONS");
    world.receive(tcp(1), response(&options, "200 OK", ""));
    let sent = world.expect("UPDATE");
    answer(&mut world, &sent, tcp(1));
    assert!(world.pushes.is_empty());
    world.advance(Duration::from_secs(60));
    come_down(&mut world, &mut dialog, "BYE");
    world.expect("OPTIONS");
    world.advance(Duration::from_millis(400));
    assert_eq!(world.accept_push().notice, Notice::Wake);
    world.assert_quiet();
}

/// 480 would end the call for some peers, 408 for all; 504 with Retry-After harms this transaction
/// alone (RFC 5057 §5.1), and non-INVITE must not get 408 (RFC 4320 §4.2).
#[test]
pub fn a_phone_that_does_not_come_in_time_costs_that_transaction_alone() {
    for is_woken in [true, false] {
        for method in METHODS {
            let mut world = World::new();
            let purr = purr(&mut world, tcp(1), FCM);
            let params = format!(";pn-purr={purr}");
            let params = if is_woken { params.as_str() } else { "" };
            let mut dialog = called(&mut world, tcp(1), params);
            world.close(tcp(1));
            come_down(&mut world, &mut dialog, method);
            assert_eq!(world.pushes.len(), usize::from(is_woken));
            // An INVITE's sender waits for longer, once it has its 100.
            let seconds = if is_woken && method == "INVITE" {
                25
            } else {
                10
            };
            world.advance(Duration::from_millis(seconds * 1000 - 1));
            world.expect_nothing();
            world.advance(Duration::from_millis(1));
            let refused = world.expect("SIP/2.0 504");
            assert_eq!(refused.header(HeaderName::RetryAfter), "5");
            world.advance(Duration::from_secs(40));
            world.sent.clear();
            // The dialog lives.
            world.register_for(udp(9), "1001", FCM, ONE, 600);
            come_down(&mut world, &mut dialog, "BYE");
            let bye = world.expect("BYE");
            answer(&mut world, &bye, udp(9));
            world.assert_quiet();
        }
    }
}

#[test]
pub fn a_push_that_fails_for_good_ends_the_wait_of_a_request_in_a_dialog() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    world.close(tcp(1));
    come_down(&mut world, &mut dialog, "INFO");
    let reason = Reason::new("x");
    world.refuse_push(PushError::BadCredentials { reason });
    world.expect("SIP/2.0 504");
    world.assert_quiet();
}

#[test]
pub fn a_purr_that_is_forged_or_another_devices_pushes_nobody() {
    let mut world = World::new();
    let own = purr(&mut world, tcp(1), FCM);
    let forged = own.replace(&own[..4], "AAAA");
    world.register_for(tcp(2), "1001", FCM_TWO, TWO, 600);
    for params in [format!(";pn-purr={forged}"), ";pn-purr=x".to_owned()] {
        let mut dialog = calling(&mut world, tcp(1), &params);
        world.close(tcp(1));
        come_down(&mut world, &mut dialog, "INFO");
        assert!(world.pushes.is_empty());
        world.expect_nothing();
        world.register_for(tcp(1), "1001", FCM, ONE, 600);
        let sent = world.expect("INFO");
        answer(&mut world, &sent, tcp(1));
        world.advance(Duration::from_secs(40));
    }
    // One device's PURR in another's dialog.
    let mut dialog = calling(&mut world, tcp(2), &format!(";pn-purr={own}"));
    world.close(tcp(2));
    come_down(&mut world, &mut dialog, "INFO");
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

/// An iPhone with a VoIP token alone: such a push is for calls.
#[test]
pub fn a_request_in_a_dialog_never_makes_a_voip_push() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), APNS);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    world.close(tcp(1));
    come_down(&mut world, &mut dialog, "BYE");
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", APNS, ONE, 600);
    let bye = world.expect("BYE");
    answer(&mut world, &bye, tcp(2));
    world.assert_quiet();
}

/// A call that waits for the phone at the same time has its own push.
#[test]
pub fn a_call_is_pushed_though_a_request_in_a_dialog_woke_the_phone_already() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    world.close(tcp(1));
    come_down(&mut world, &mut dialog, "INFO");
    assert_eq!(world.accept_push().notice, Notice::Wake);
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    world.register_for(tcp(2), "1001", FCM, ONE, 600);
    let info = world.expect("INFO");
    let call = world.expect("INVITE");
    assert_eq!(call.to, Destination::Flow(tcp(2).id));
    answer(&mut world, &info, tcp(2));
    answer(&mut world, &call, tcp(2));
    world.assert_quiet();
}

/// The provider's word on a call's push is about the call alone, though a BYE waits longer.
#[test]
pub fn a_calls_push_that_fails_neither_ends_nor_is_repeated_for_a_bye_that_waits() {
    for is_passing in [true, false] {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", FCM, ONE, 600);
        let mut dialog = called(&mut world, tcp(1), "");
        world.close(tcp(1));
        come_down(&mut world, &mut dialog, "BYE");
        world.receive(pbx(), invite("1001", "c2"));
        world.expect("SIP/2.0 100");
        let reason = Reason::new("x");
        if is_passing {
            let retry_after = Duration::from_secs(1);
            world.refuse_push(PushError::Throttled {
                retry_after,
                reason,
            });
            world.advance(Duration::from_secs(1));
            let push = world.accept_push();
            let Notice::Call(notice) = &push.notice else {
                panic!("{:?}", push.notice)
            };
            assert_eq!(&*notice.call_id, "c2");
        } else {
            world.refuse_push(PushError::BadCredentials { reason });
            world.expect("SIP/2.0 480");
            world.expect_nothing();
        }
        world.register_for(tcp(2), "1001", FCM, ONE, 600);
        let bye = world.expect("BYE");
        let call = is_passing.then(|| world.expect("INVITE"));
        answer(&mut world, &bye, tcp(2));
        if let Some(call) = call {
            answer(&mut world, &call, tcp(2));
        }
        world.assert_quiet();
    }
}

#[test]
pub fn requests_that_wait_in_dialogs_are_no_held_calls() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    let mut dialog = called(&mut world, tcp(1), "");
    world.close(tcp(1));
    for _ in 0..8 {
        come_down(&mut world, &mut dialog, "INFO");
    }
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.expect_nothing();
}

#[test]
pub fn a_re_invite_that_waits_for_a_sleeping_phone_may_be_cancelled() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    world.close(tcp(1));
    let invite = dialog.request(pbx(), "INVITE");
    world.receive(pbx(), &invite);
    world.expect("SIP/2.0 100");
    world.accept_push();
    world.receive(pbx(), invite.replace("INVITE", "CANCEL"));
    world.expect("SIP/2.0 200");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), invite.replace("INVITE", "ACK"));
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", FCM, ONE, 600);
    world.expect_nothing();
    world.assert_quiet();
}

/// RFC 4320 §4.2: 408 is for INVITE alone, whoever says it.
#[test]
pub fn a_phones_408_to_another_request_than_invite_does_not_pass() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    let mut dialog = called(&mut world, tcp(1), "");
    for method in ["INFO", "BYE"] {
        come_down(&mut world, &mut dialog, method);
        let sent = world.expect(method);
        world.receive(tcp(1), response(&sent, "408 Request Timeout", ""));
        world.expect("SIP/2.0 504");
    }
    come_down(&mut world, &mut dialog, "INVITE");
    let sent = world.expect("INVITE");
    world.receive(tcp(1), response(&sent, "408 Request Timeout", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 408");
    world.assert_quiet();
}

/// Attended transfer: the call comes to the Contact that the replaced dialog had (RFC 8599 §7).
#[test]
pub fn an_invite_that_replaces_a_dialog_reaches_the_device_by_its_purr_and_passes_untouched() {
    let mut world = World::with(settings(ContactMode::Device));
    let purr = purr(&mut world, tcp(1), FCM);
    world.register_for(tcp(2), "1001", FCM_TWO, TWO, 600);
    world.close(tcp(1));
    let replaces = "Replaces: c1;to-tag=remote;from-tag=asc1;early-only\r\n\
                    Referred-By: <sip:2002@pbx.example.com>\r\nRequire: replaces\r\n";
    let uri = format!("sip:1001@10.0.0.5:5060;pn-purr={purr}");
    let text = invite_to(&uri, "r1").replacen("Max-", &format!("{replaces}Max-"), 1);
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    assert!(matches!(world.accept_push().notice, Notice::Call(_)));
    world.expect_nothing();
    world.register_for(tcp(3), "1001", FCM, ONE, 600);
    let sent = world.expect("INVITE sip:1001@10.0.0.5:5060;pn-provider=fcm");
    assert_eq!(sent.to, Destination::Flow(tcp(3).id));
    assert!(sent.text().contains(replaces));
    assert_eq!(recorded(&sent).len(), 2);
    world.expect_nothing();
}

/// What names the device is the PURR: the user beside it may be anything.
#[test]
pub fn an_invite_by_a_purr_finds_its_device_whatever_its_user() {
    for user in ["x", "2002", "anonymous", "4f2a"] {
        let mut world = World::with(settings(ContactMode::Device));
        let purr = purr(&mut world, tcp(1), FCM);
        let uri = format!("sip:{user}@10.0.0.5:5060;pn-purr={purr}");
        world.receive(pbx(), invite_to(&uri, "r1"));
        world.expect("SIP/2.0 100");
        let sent = world.expect("INVITE");
        assert_eq!(sent.to, Destination::Flow(tcp(1).id), "{user}");
        world.expect_nothing();
    }
}

/// chan_sip and PJSIP transfer by REFER and by INVITE with Replaces; a phone does so as well.
#[test]
pub fn refer_and_replaces_pass_both_ways_untouched() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    let mut dialog = called(&mut world, tcp(1), "");
    let more = "Refer-To: <sip:2002@pbx.example.com?Replaces=c9%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n\
                Referred-By: <sip:1001@pbx.example.com>\r\n";
    for (from, to) in [(tcp(1), pbx()), (pbx(), tcp(1))] {
        let refer = dialog.request(from, "REFER");
        world.receive(from, refer.replacen("Max-", &format!("{more}Max-"), 1));
        let sent = world.expect("REFER");
        assert_eq!(sent.to, Destination::Flow(to.id));
        assert!(sent.text().contains(more));
        world.receive(to, response(&sent, "202 Accepted", ""));
        world.expect("SIP/2.0 202");
        let notify = dialog.request(to, "NOTIFY").replacen(
            "Max-",
            "Event: refer\r\nSubscription-State: active\r\nMax-",
            1,
        );
        world.receive(to, notify);
        let sent = world.expect("NOTIFY");
        world.receive(from, response(&sent, "200 OK", ""));
        world.expect("SIP/2.0 200");
    }
    let replaces = "Replaces: c9;to-tag=1;from-tag=2\r\n";
    let text = invite("1001", "r1").replacen("Max-", &format!("{replaces}Max-"), 1);
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    assert!(world.expect("INVITE").text().contains(replaces));
}

#[test]
pub fn bye_and_re_invite_follow_a_phone_that_moved_to_another_address_or_transport_in_the_call() {
    for open in OPENINGS {
        for (before, after) in [
            (udp(1000), udp(2000)),
            (udp(1000), tcp(2)),
            (tcp(1), udp(2000)),
            (tcp(1), tcp(2)),
        ] {
            for is_closed in [true, false] {
                let mut world = World::new();
                world.register_for(before, "1001", FCM, ONE, 600);
                let mut dialog = open(&mut world, before, "");
                if is_closed && before.id == tcp(1).id {
                    world.close(before);
                }
                world.register_for(after, "1001", FCM, ONE, 600);
                for method in ["INVITE", "UPDATE", "BYE"] {
                    come_down(&mut world, &mut dialog, method);
                    let sent = world.expect(method);
                    assert_eq!(sent.to, Destination::Flow(after.id));
                    answer(&mut world, &sent, after);
                }
                // And from there up, its ACK as well.
                for method in ["INVITE", "ACK", "BYE"] {
                    let text = dialog.request(after, method);
                    world.receive(after, text);
                    if method == "INVITE" {
                        world.expect("SIP/2.0 100");
                    }
                    let sent = world.expect(method);
                    assert_eq!(sent.to, Destination::Flow(pbx().id));
                    if method != "ACK" {
                        world.receive(pbx(), response(&sent, "200 OK", ""));
                        let answered = world.expect("SIP/2.0 200");
                        assert_eq!(answered.to, Destination::Flow(after.id));
                    }
                }
                assert!(world.pushes.is_empty());
                world.assert_quiet();
            }
        }
    }
}

#[test]
pub fn a_request_in_a_dialog_whose_connection_dies_under_it_goes_out_where_the_phone_comes_back() {
    for params in [FCM, ""] {
        for method in METHODS {
            let mut world = World::new();
            world.register_for(tcp(1), "1001", params, ONE, 600);
            let mut dialog = called(&mut world, tcp(1), "");
            come_down(&mut world, &mut dialog, method);
            world.expect(method);
            world.close(tcp(1));
            world.expect_nothing();
            world.advance(Duration::from_secs(3));
            world.register_for(tcp(2), "1001", params, ONE, 600);
            let sent = world.expect(method);
            assert_eq!(sent.to, Destination::Flow(tcp(2).id));
            answer(&mut world, &sent, tcp(2));
            world.assert_quiet();
        }
    }
}

/// A phone without push is gone with its connection; in a call it is about to come back.
#[test]
pub fn a_bye_waits_for_a_phone_whose_registration_went_with_its_connection() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", "", ONE, 600);
    let mut dialog = called(&mut world, tcp(1), "");
    world.close(tcp(1));
    assert_eq!(world.count(), (0, 0));
    come_down(&mut world, &mut dialog, "BYE");
    world.expect_nothing();
    world.advance(Duration::from_secs(2));
    world.register_for(tcp(2), "1001", "", ONE, 600);
    let bye = world.expect("BYE");
    answer(&mut world, &bye, tcp(2));
    world.close(tcp(2));
    come_down(&mut world, &mut dialog, "BYE");
    world.advance(Duration::from_secs(10));
    world.expect("SIP/2.0 430");
    world.assert_quiet();
}

#[test]
pub fn an_ack_for_a_sleeping_phone_is_never_held() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let mut dialog = called(&mut world, tcp(1), &format!(";pn-purr={purr}"));
    world.close(tcp(1));
    let ack = dialog.request(pbx(), "ACK");
    world.receive(pbx(), ack);
    assert!(world.pushes.is_empty());
    let is_stray = |event: &Event| {
        let place = Drop::StrayAck;
        matches!(event, Event::Dropped { place: at, .. } if *at == place)
    };
    assert!(world.events.iter().any(is_stray));
    world.register_for(tcp(2), "1001", FCM, ONE, 600);
    world.expect_nothing();
    world.assert_quiet();
}

/// A NOTIFY of a subscription: taken at once, the newest of it follows, and nobody is pushed.
#[test]
pub fn of_a_subscriptions_notifies_the_newest_is_delivered_and_another_subscriptions_too() {
    let mut world = World::new();
    let purr = purr(&mut world, tcp(1), FCM);
    let params = format!(";pn-purr={purr}");
    let mut one = called(&mut world, tcp(1), &params);
    let mut two = calling(&mut world, tcp(1), &params);
    world.close(tcp(1));
    for _ in 0..2 {
        for dialog in [&mut one, &mut two] {
            let notify = dialog.request(pbx(), "NOTIFY");
            world.receive(pbx(), notify.replacen("Max-", "Event: dialog\r\nMax-", 1));
            world.expect("SIP/2.0 200");
        }
    }
    assert!(world.pushes.is_empty());
    world.register_for(tcp(2), "1001", FCM, ONE, 600);
    for call in ["c1", "out1"] {
        let sent = world.expect(&format!("NOTIFY {}", one.phone));
        assert_eq!(sent.header(HeaderName::CallId), call);
        assert_eq!(sent.header(HeaderName::CSeq), "202 NOTIFY");
        world.receive(tcp(2), response(&sent, "200 OK", ""));
    }
    world.expect_nothing();
    world.assert_quiet();
}

/// Early media and its PRACK (RFC 3262): what the phone says passes as it is, both ways.
#[test]
pub fn a_reliable_183_and_its_prack_pass_untouched() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    let text = invite("1001", "c1").replacen("Max-", "Supported: 100rel\r\nMax-", 1);
    world.receive(pbx(), text);
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    assert_eq!(sent.header(HeaderName::Supported), "100rel");
    let more = "Require: 100rel\nRSeq: 7\nContact: <sip:1001@10.0.0.5:5060>\n\
                Content-Type: application/sdp\n";
    let early = response(&sent, "183 Session Progress", more).replace(
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 5\r\n\r\nv=0\r\n",
    );
    world.receive(tcp(1), early);
    let early = world.expect("SIP/2.0 183");
    assert_eq!(early.header(HeaderName::Require), "100rel");
    assert_eq!(early.message.header_named("RSeq"), Some(&b"7"[..]));
    assert_eq!(early.message.body(), b"v=0\r\n");
    let mut routes = recorded(&early);
    routes.reverse();
    let mut dialog = Dialog {
        call: "c1".to_owned(),
        phone: contact_of(&early),
        routes,
        cseq: 102,
    };
    let prack = dialog.request(pbx(), "PRACK");
    world.receive(
        pbx(),
        prack.replacen("Max-", "RAck: 7 102 INVITE\r\nMax-", 1),
    );
    let prack = world.expect("PRACK sip:1001@10.0.0.5:5060");
    assert_eq!(
        prack.message.header_named("RAck"),
        Some(&b"7 102 INVITE"[..])
    );
    answer(&mut world, &prack, tcp(1));
    answer(&mut world, &sent, tcp(1));
    world.assert_quiet();
}

/// A second call while the agent is in one: the phone is awake and decides.
#[test]
pub fn a_second_call_to_a_phone_that_is_in_a_call_goes_to_it_at_once() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", FCM, ONE, 600);
    let mut dialog = called(&mut world, tcp(1), "");
    world.receive(pbx(), invite("1001", "c2"));
    world.expect("SIP/2.0 100");
    let second = world.expect("INVITE");
    assert_eq!(second.to, Destination::Flow(tcp(1).id));
    world.receive(tcp(1), response(&second, "180 Ringing", ""));
    world.expect("SIP/2.0 180");
    world.receive(pbx(), beside("CANCEL", "1001", "c2", ""));
    world.expect("SIP/2.0 200");
    let cancel = world.expect("CANCEL");
    world.receive(tcp(1), response(&cancel, "200 OK", ""));
    world.receive(tcp(1), response(&second, "487 Request Terminated", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 487");
    world.receive(pbx(), beside("ACK", "1001", "c2", ""));
    // A third is refused by the phone; the first call goes on.
    world.receive(pbx(), invite("1001", "c3"));
    world.expect("SIP/2.0 100");
    let third = world.expect("INVITE");
    world.receive(tcp(1), response(&third, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    come_down(&mut world, &mut dialog, "BYE");
    let bye = world.expect("BYE");
    answer(&mut world, &bye, tcp(1));
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}
