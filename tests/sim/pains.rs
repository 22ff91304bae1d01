//! What users of other gateways suffered from, as scenes: those of `docs/pains.md` that are no one's
//! else business.

use std::time::Duration;

use rouse::proto::push::params::NoPush;
use rouse::proto::push::{Notice, PushError, Reason};
use rouse::proto::settings::{ContactMode, HoldResponse};
use rouse::proto::sip::HeaderName;
use rouse::proto::transaction::ClientId;
use rouse::proto::{Destination, Event, Input, Transport};

use crate::world::{
    APNS, TOKEN, World, invite, ok_to_register, pbx, register, response, settings, tcp, udp,
};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
const DAY: u64 = 24 * 3600;

/// Pain 1: nobody has told us that the old connection is gone, and the Contact is the same to the
/// letter.
#[test]
pub fn an_app_that_wakes_on_a_new_connection_with_an_equal_contact_gets_its_call_there() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.advance(Duration::from_secs(60));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.expect("OPTIONS");
    world.advance(Duration::from_millis(400));
    world.accept_push();
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    let forwarded = world.expect("INVITE");
    assert_eq!(forwarded.to, Destination::Flow(tcp(2).id));
    world.receive(tcp(2), response(&forwarded, "200 OK", ""));
    world.expect("SIP/2.0 200");
    // The old connection ends at last: nobody minds.
    world.close(tcp(1));
    world.expect_nothing();
    assert!(world.pushes.is_empty());
    world.assert_quiet();
}

/// Pain 2: what somebody says on behalf of the dead contact, and a socket's error, are not the
/// call's answer while its phone can be woken; what a phone says that rang is.
#[test]
pub fn a_failure_from_where_the_phone_was_does_not_end_the_call_that_wakes_it() {
    for is_helped in [true, false] {
        for is_answered in [true, false] {
            let mut world = World::new();
            world.register_for(udp(1000), "1001", APNS, INSTANCE, 600);
            world.receive(pbx(), invite("1001", "c1"));
            world.expect("SIP/2.0 100");
            let first = world.expect("INVITE");
            if is_helped {
                world.advance(Duration::from_secs(2));
                world.accept_push();
                world.sent.clear();
            }
            if is_answered {
                world.receive(udp(1000), response(&first, "408 Request Timeout", ""));
                world.expect("ACK");
            } else {
                let via = first.message.top_via().unwrap();
                let transaction = via.branch().and_then(ClientId::from_branch).unwrap().1;
                world.input(Input::SendFailed { transaction });
            }
            world.expect_nothing();
            if !is_helped {
                world.accept_push();
            }
            world.register_for(udp(2000), "1001", APNS, INSTANCE, 600);
            let forwarded = world.expect("INVITE");
            assert_eq!(forwarded.to, Destination::Flow(udp(2000).id));
            world.receive(udp(2000), response(&forwarded, "180 Ringing", ""));
            world.expect("SIP/2.0 180");
            world.receive(udp(2000), response(&forwarded, "408 Request Timeout", ""));
            world.expect("ACK");
            world.expect("SIP/2.0 408");
            assert!(world.pushes.is_empty());
            world.assert_quiet();
        }
    }
}

/// Pain 5: how long the PBX keeps a sleeper is the upstream's `expires`, not what the app asks for.
#[test]
pub fn a_phone_that_sleeps_for_days_is_woken_as_long_as_its_upstream_keeps_it() {
    let mut settings = settings(ContactMode::Agent);
    settings.upstreams[0].expires = Duration::from_secs(7 * DAY);
    let mut world = World::with(settings);
    world.receive(tcp(1), register(tcp(1), "1001", APNS, INSTANCE, 600, 1));
    let relayed = world.expect("REGISTER");
    assert_eq!(relayed.header(HeaderName::Expires), (7 * DAY).to_string());
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.close(tcp(1));
    // Off, on a plane, without data: no refresh push gets through.
    world.advance(Duration::from_secs(6 * DAY + 23 * 3600));
    world.pushes.clear();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let push = world.accept_push();
    assert!(matches!(push.notice, Notice::Call(_)), "{:?}", push.notice);
    world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
    world.expect("INVITE");
}

/// Pain 6: no maximum of ours cuts it, and what Asterisk's cuts the phone is told.
#[test]
pub fn a_month_is_kept_whole_and_what_asterisk_cuts_the_phone_is_told() {
    let month = u32::try_from(31 * DAY).unwrap();
    for granted in [month, 86_400] {
        let mut world = World::new();
        world.receive(tcp(1), register(tcp(1), "1001", APNS, INSTANCE, month, 1));
        let relayed = world.expect("REGISTER");
        assert_eq!(relayed.header(HeaderName::Expires), month.to_string());
        let contact = relayed.header(HeaderName::Contact);
        let more = format!("Contact: {contact};expires={granted}\n");
        world.receive(pbx(), response(&relayed, "200 OK", &more));
        let ok = world.expect("SIP/2.0 200");
        let own = ok.header(HeaderName::Contact);
        assert!(own.ends_with(&format!(";expires={granted}")), "{own}");
        assert!(world.events.iter().any(|event| matches!(
            event,
            Event::Registered { expires, .. } if expires.as_secs() == u64::from(granted)
        )));
        world.close(tcp(1));
        world.advance(Duration::from_secs(u64::from(granted) - 3600));
        world.pushes.clear();
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        world.accept_push();
    }
}

/// Pain 14: one form that was meant clearly is read; every other is refused aloud.
#[test]
pub fn a_token_without_its_suffix_is_pushed_and_who_cannot_be_pushed_is_told_of() {
    let mut world = World::new();
    let bare = format!("pn-provider=apns;pn-param=DEF123GHIJ.com.example.app.voip;pn-prid={TOKEN}");
    world.register_for(tcp(1), "1001", &bare, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    assert_eq!(world.accept_push().target.token.expose(), TOKEN);

    let wrong = [
        (
            NoPush::BadToken,
            "pn-provider=apns;pn-param=DEF123GHIJ.com.example.app;pn-prid=none",
        ),
        (
            NoPush::UnknownProvider,
            "pn-provider=carrier-pigeon;pn-prid=1",
        ),
        (
            NoPush::BadParam,
            &format!("pn-provider=apns;pn-prid={TOKEN}"),
        ),
        (
            NoPush::NotConfigured,
            &format!("pn-provider=apns;pn-param=DEF123GHIJ.org.example.other;pn-prid={TOKEN}"),
        ),
    ];
    for (why, params) in wrong {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", params, INSTANCE, 600);
        let said = world
            .events
            .iter()
            .any(|event| matches!(event, Event::NoPush { reason, .. } if *reason == why));
        assert!(said, "{why:?}: {:?}", world.events);
    }
}

/// Pain 14: a service that refuses for good, and one that is out of order, end the branch with an
/// event, not in silence.
#[test]
pub fn a_push_that_fails_is_told_of() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.refuse_push(PushError::BadCredentials {
        reason: Reason::new("InvalidProviderToken"),
    });
    world.expect("SIP/2.0 480");
    let failed = |event: &Event| matches!(event, Event::PushFailed { .. });
    assert!(world.events.iter().any(failed), "{:?}", world.events);
    world.assert_quiet();
}

/// Pain 20: what the caller's side hears while a phone is woken is chosen, and 100 comes at once.
#[test]
pub fn while_a_phone_is_woken_the_caller_hears_what_was_chosen() {
    for (chosen, heard) in [
        (HoldResponse::None, None),
        (HoldResponse::Ringing, Some("SIP/2.0 180 Ringing")),
        (HoldResponse::Queued, Some("SIP/2.0 182 Queued")),
    ] {
        let mut settings = settings(ContactMode::Agent);
        settings.wake.hold_response = chosen;
        let mut world = World::with(settings);
        world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
        world.close(tcp(1));
        world.receive(pbx(), invite("1001", "c1"));
        assert_eq!(world.expect("SIP/2.0 100").at, world.now);
        if let Some(heard) = heard {
            let held = world.expect(heard);
            assert!(held.header(HeaderName::To).contains(";tag="));
            assert!(held.message.body().is_empty());
        }
        world.expect_nothing();
        world.accept_push();
        world.register_for(tcp(2), "1001", APNS, INSTANCE, 600);
        let forwarded = world.expect("INVITE");
        // It rings when a device rings.
        world.expect_nothing();
        world.receive(tcp(2), response(&forwarded, "180 Ringing", ""));
        world.expect("SIP/2.0 180");
        world.receive(tcp(2), response(&forwarded, "200 OK", ""));
        world.expect("SIP/2.0 200");
        world.assert_quiet();
    }
}

/// liblinphone answers a line of two values with three: the last one twice.
#[test]
pub fn each_side_of_ours_has_a_record_route_line_of_its_own() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let forwarded = world.expect("INVITE").message;
    let lines = forwarded
        .headers()
        .filter(|line| line.name == HeaderName::RecordRoute);
    let lines: Vec<_> = lines
        .map(|line| String::from_utf8_lossy(line.value))
        .collect();
    let [far, near] = &lines[..] else {
        panic!("{lines:?}");
    };
    assert!(far.ends_with("@192.0.2.1:5060;transport=tcp;lr>"), "{far}");
    assert!(near.ends_with("@192.0.2.1:5060;lr>"), "{near}");
}

/// Pain 22: the second call finds the flow that the first one uses.
#[test]
pub fn a_second_call_for_a_phone_in_a_call_is_sent_on_its_flow_and_not_pushed() {
    for flow in [udp(1000), tcp(1)] {
        let mut world = World::new();
        world.register_for(flow, "1001", APNS, INSTANCE, 600);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let first = world.expect("INVITE");
        world.receive(flow, response(&first, "200 OK", ""));
        world.expect("SIP/2.0 200");
        world.advance(Duration::from_secs(120));
        world.sent.clear();

        world.receive(pbx(), invite("1001", "c2"));
        world.expect("SIP/2.0 100");
        // Quiet for two minutes, as a phone in a call is: it is asked, and it answers.
        let asked = world.expect("OPTIONS");
        world.receive(flow, response(&asked, "200 OK", ""));
        let second = world.expect("INVITE");
        assert_eq!(second.to, Destination::Flow(flow.id));
        let busy = response(&second, "486 Busy Here", "");
        world.receive(flow, busy);
        world.expect("ACK");
        world.expect("SIP/2.0 486");
        assert!(world.pushes.is_empty());
        assert!(matches!(flow.transport, Transport::Udp | Transport::Tcp));
    }
}

/// Pain 3: whatever else reaches the phone on its new flow, its call comes behind the 200 of its
/// REGISTER, which is behind the store.
#[test]
pub fn an_answer_from_a_phone_that_awaits_its_200_does_not_bring_the_call_before_it() {
    for is_probing in [false, true] {
        let mut world = World::new();
        world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
        if is_probing {
            world.advance(Duration::from_secs(60));
        } else {
            world.close(tcp(1));
        }
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        if is_probing {
            world.expect("OPTIONS");
        } else {
            world.accept_push();
        }
        world.is_store_slow = true;
        world.receive(tcp(2), register(tcp(2), "1001", APNS, INSTANCE, 600, 50));
        let relayed = world.expect("REGISTER");
        world.receive(pbx(), ok_to_register(&relayed));
        world.receive(pbx(), invite("1001", "n1").replace("INVITE", "NOTIFY"));
        let notify = world.expect("NOTIFY");
        assert_eq!(notify.to, Destination::Flow(tcp(2).id));
        world.input(Input::Heard { flow: tcp(2).id });
        world.receive(tcp(2), response(&notify, "200 OK", ""));
        world.expect("SIP/2.0 200");
        world.expect_nothing();
        world.store();
        let granted = world.expect("SIP/2.0 200");
        assert!(granted.header(HeaderName::CSeq).ends_with("REGISTER"));
        let forwarded = world.expect("INVITE");
        assert_eq!(forwarded.to, Destination::Flow(tcp(2).id));
        world.expect_nothing();
        world.receive(tcp(2), response(&forwarded, "200 OK", ""));
        world.expect("SIP/2.0 200");
    }
}
