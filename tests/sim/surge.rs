//! More arrives than can be handled: who goes first, who is refused, and when that ends. Time is
//! what handling costs: the line is the driver's, the gateway is one of so many inputs a second.

use std::time::{Duration, Instant};

use rouse::proto::line::{Line, Urgency};
use rouse::proto::reject::Reject;
use rouse::proto::sip::{HeaderName, Message};
use rouse::proto::{Event, Flow, Input};

use crate::world::{
    APNS, World, beside, invite, ok_to_register, pbx, register, response, tcp, udp,
};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";
const MILLISECOND: Duration = Duration::from_millis(1);

fn message(flow: Flow, text: impl AsRef<[u8]>) -> Input {
    let message = Message::parse(bytes::Bytes::copy_from_slice(text.as_ref())).unwrap();
    Input::Message { flow, message }
}

fn shed(flow: Flow, text: impl AsRef<[u8]>) -> Input {
    let message = Message::parse(bytes::Bytes::copy_from_slice(text.as_ref())).unwrap();
    Input::Shed { flow, message }
}

fn rejects(world: &World, wanted: Reject) -> usize {
    let is_it =
        |event: &&Event| matches!(event, Event::Rejected { reject, .. } if *reject == wanted);
    world.events.iter().filter(is_it).count()
}

fn urgency(world: &World, flow: Flow, text: impl AsRef<[u8]>) -> Urgency {
    let message = Message::parse(bytes::Bytes::copy_from_slice(text.as_ref())).unwrap();
    world.urgency(&flow, &message)
}

/// All that is in line: whether it is served, and what it is.
fn drain(line: &mut Line, now: Instant) -> Vec<(bool, String)> {
    std::iter::from_fn(|| line.next(now))
        .map(|input| {
            let is_served = matches!(input, Input::Message { .. });
            let (Input::Message { message, .. } | Input::Shed { message, .. }) = input else {
                panic!("{input:?}");
            };
            (is_served, text_of(&message))
        })
        .collect()
}

fn text_of(message: &Message) -> String {
    let call = String::from_utf8_lossy(message.call_id().unwrap());
    let line = String::from_utf8_lossy(message.raw());
    let method = line.split(' ').next().unwrap_or_default().to_owned();
    format!("{method} {call}")
}

#[test]
pub fn a_call_that_is_refused_for_the_load_hears_when_to_come_back_and_leaves_nothing() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    let before = world.in_flight();
    let mut seconds = std::collections::BTreeSet::new();
    for number in 0..60 {
        world.input(shed(pbx(), invite("1001", &format!("c{number}"))));
        let refusal = world.expect("SIP/2.0 503 Service Unavailable");
        let after: u32 = refusal.header(HeaderName::RetryAfter).parse().unwrap();
        assert!((1..=30).contains(&after), "{after}");
        seconds.insert(after);
        world.expect_nothing();
    }
    assert!(seconds.len() > 10, "they come back apart: {seconds:?}");
    assert_eq!(rejects(&world, Reject::Shed), 60);
    assert_eq!(world.in_flight(), before);
    world.assert_quiet();
}

#[test]
pub fn a_call_that_was_begun_is_not_refused_by_a_copy_of_its_invite_that_came_late() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE");
    world.input(shed(pbx(), invite("1001", "c1")));
    world.expect("SIP/2.0 100");
    world.expect_nothing();
    world.receive(udp(1), response(&sent, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    assert_eq!(rejects(&world, Reject::Shed), 0);
    world.receive(pbx(), invite("1001", "c1").replace("INVITE", "ACK"));
    world.assert_quiet();
}

#[test]
pub fn what_was_begun_goes_before_calls_and_calls_before_strangers() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    let call = invite("1001", "c1");
    assert_eq!(urgency(&world, pbx(), &call), Urgency::Call);
    for method in ["ACK", "CANCEL", "OPTIONS"] {
        let text = call.replace("INVITE", method);
        assert_eq!(urgency(&world, pbx(), text), Urgency::Begun, "{method}");
    }
    let inside = call.replacen("\r\nContact", ";tag=x\r\nContact", 1);
    assert_ne!(inside, call);
    for method in ["BYE", "INVITE", "UPDATE"] {
        let text = inside.replace("INVITE", method);
        assert_eq!(urgency(&world, pbx(), text), Urgency::Begun, "{method}");
        let text = inside.replace("INVITE", method);
        assert_eq!(
            urgency(&world, udp(7), text),
            Urgency::Stranger,
            "{method}: no token"
        );
    }
    let message = beside("MESSAGE", "1001", "m1", "");
    assert_eq!(urgency(&world, pbx(), message), Urgency::Call);
    assert_eq!(urgency(&world, udp(1), &call), Urgency::Call);
    // The phone that registers again, on its flow and, awoken, on another; somebody else.
    let again = register(udp(1), "1001", APNS, INSTANCE, 3600, 9);
    assert_eq!(urgency(&world, udp(1), &again), Urgency::Begun);
    assert_eq!(urgency(&world, tcp(4), &again), Urgency::Begun);
    let other = register(udp(8), "1002", APNS, "", 3600, 1);
    assert_eq!(urgency(&world, udp(8), other), Urgency::Registration);
    for method in ["INVITE", "OPTIONS", "SUBSCRIBE", "ACK", "CANCEL"] {
        let text = call.replace("INVITE", method);
        assert_eq!(urgency(&world, udp(7), text), Urgency::Stranger, "{method}");
    }
}

#[test]
pub fn a_phone_that_was_woken_registers_before_new_calls() {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 3600);
    world.close(tcp(1));
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    let woken = register(tcp(2), "1001", APNS, INSTANCE, 3600, 2);
    assert_eq!(urgency(&world, tcp(2), &woken), Urgency::Begun);
    world.receive(tcp(2), woken);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    let sent = world.expect("INVITE");
    // Its answer, and what the caller says in the dialog, go first too.
    world.receive(tcp(2), response(&sent, "480 Temporarily Unavailable", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 480");
    world.receive(pbx(), invite("1001", "c1").replace("INVITE", "ACK"));
    world.assert_quiet();
}

#[test]
pub fn the_line_goes_by_urgency_and_refuses_what_has_waited_for_too_long() {
    let now = rouse::io::clock::Clock::now();
    let mut line = Line::default();
    let call = |number: u32| message(pbx(), invite("1001", &format!("c{number}")));
    let text =
        |method: &str, number: u32| invite("1001", &format!("c{number}")).replace("INVITE", method);
    line.push(now, Urgency::Stranger, message(udp(9), text("OPTIONS", 9)));
    line.push(
        now,
        Urgency::Registration,
        message(udp(8), text("REGISTER", 8)),
    );
    line.push(now, Urgency::Call, call(1));
    line.push(now, Urgency::Begun, message(pbx(), text("BYE", 2)));
    assert_eq!(line.len(), 4);
    let order: Vec<String> = drain(&mut line, now + MILLISECOND * 99)
        .into_iter()
        .map(|(is_served, text)| {
            assert!(is_served, "{text}: 99 ms are no overload");
            text
        })
        .collect();
    assert_eq!(order, ["BYE c2", "INVITE c1", "REGISTER c8", "OPTIONS c9"]);
    assert!(line.is_empty());

    line.push(now, Urgency::Begun, message(pbx(), text("BYE", 2)));
    line.push(now, Urgency::Stranger, message(udp(9), text("OPTIONS", 9)));
    line.push(now, Urgency::Call, call(1));
    line.push(now + MILLISECOND * 90, Urgency::Call, call(3));
    let order = drain(&mut line, now + MILLISECOND * 101);
    let told: Vec<String> = order
        .iter()
        .map(|(served, text)| format!("{served} {text}"))
        .collect();
    assert_eq!(
        told,
        [
            "true BYE c2",
            "false INVITE c1",
            "false OPTIONS c9",
            "true INVITE c3"
        ]
    );

    // Something new has waited for 100 ms at all times: who waits now is told sooner.
    line.push(now, Urgency::Call, call(4));
    line.push(now + MILLISECOND * 95, Urgency::Call, call(5));
    line.push(now + MILLISECOND * 95, Urgency::Call, call(6));
    assert!(matches!(
        line.next(now + MILLISECOND * 100),
        Some(Input::Shed { .. })
    ));
    assert!(matches!(
        line.next(now + MILLISECOND * 115),
        Some(Input::Message { .. })
    ));
    assert!(matches!(
        line.next(now + MILLISECOND * 116),
        Some(Input::Shed { .. })
    ));
    // It was empty: a stall is no overload again.
    line.push(now + MILLISECOND * 120, Urgency::Call, call(7));
    assert!(matches!(
        line.next(now + MILLISECOND * 219),
        Some(Input::Message { .. })
    ));
}

#[test]
pub fn a_cancel_does_not_overtake_its_invite_and_is_never_refused() {
    let now = rouse::io::clock::Clock::now();
    let mut line = Line::default();
    let text =
        |method: &str, number: u32| invite("1001", &format!("c{number}")).replace("INVITE", method);
    for number in 1..=2 {
        line.push(now, Urgency::Call, message(pbx(), text("INVITE", number)));
    }
    line.push(now, Urgency::Begun, message(pbx(), text("CANCEL", 1)));
    line.push(now, Urgency::Begun, message(pbx(), text("CANCEL", 7)));
    let order: Vec<String> = drain(&mut line, now)
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(order, ["CANCEL c7", "INVITE c1", "INVITE c2", "CANCEL c1"]);

    line.push(now, Urgency::Call, message(pbx(), text("INVITE", 1)));
    line.push(now, Urgency::Begun, message(pbx(), text("CANCEL", 1)));
    let order = drain(&mut line, now + MILLISECOND * 500);
    assert!(!order[0].0 && order[1].0, "{order:?}");
}

#[test]
pub fn a_line_that_is_full_refuses_the_least_urgent_at_once() {
    let now = rouse::io::clock::Clock::now();
    let mut line = Line::default();
    line.push(
        now,
        Urgency::Stranger,
        message(udp(9), invite("1001", "stranger")),
    );
    let mut number = 0;
    while !line.is_full() {
        number += 1;
        line.push(
            now,
            Urgency::Call,
            message(pbx(), invite("1001", &format!("c{number}"))),
        );
    }
    let next = |line: &mut Line| match line.next(now) {
        Some(Input::Shed { message, .. }) => (false, text_of(&message)),
        Some(Input::Message { message, .. }) => (true, text_of(&message)),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&mut line), (false, "INVITE stranger".to_owned()));
    assert_eq!(next(&mut line), (true, "INVITE c1".to_owned()));
}

/// A gateway that handles a thousand inputs a second, and refuses thirty times as many: at five
/// times as many calls as it can take, it takes nine tenths of those, what was begun waits for
/// nothing, and a second after the surge none is refused.
#[test]
pub fn a_surge_takes_no_more_of_the_calls_than_it_must_and_is_soon_over() {
    let mut world = World::new();
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    let (served, refused) = (Duration::from_millis(1), Duration::from_micros(10));
    let start = world.now;
    let mut line = Line::default();
    let (mut now, mut arrived) = (start, 0_u32);
    let (mut taken, mut late_refusals, mut longest) = ([0_u32; 3], 0, Duration::ZERO);
    let at = |number: u32| {
        // 5,000 a second for two seconds, then 800.
        let second = Duration::from_secs(1);
        match number {
            ..10_000 => second * number / 5000,
            _ => second * 2 + second * (number - 10_000) / 800,
        }
    };
    while now < start + Duration::from_secs(5) {
        while start + at(arrived) <= now {
            line.push(
                start + at(arrived),
                Urgency::Call,
                message(pbx(), invite("1001", &format!("c{arrived}"))),
            );
            if arrived % 10 == 0 {
                line.push(
                    start + at(arrived),
                    Urgency::Begun,
                    message(
                        pbx(),
                        invite("1001", &format!("b{arrived}")).replace("INVITE", "BYE"),
                    ),
                );
            }
            arrived += 1;
        }
        let phase = usize::from(now >= start + Duration::from_secs(2))
            + usize::from(now >= start + Duration::from_secs(3));
        match line.next(now) {
            None => now = start + at(arrived),
            Some(Input::Shed { .. }) => {
                now += refused;
                late_refusals += u32::from(phase == 2);
            }
            Some(Input::Message { message, .. }) if text_of(&message).starts_with("BYE") => {
                let number: u32 = text_of(&message)[5..].parse().unwrap();
                longest = longest.max(now - (start + at(number)));
                now += refused;
            }
            Some(_) => {
                now += served;
                taken[phase] += 1;
            }
        }
    }
    assert!(taken[0] >= 1800, "{taken:?} of 2,000 in two seconds");
    assert!(taken[2] >= 1590, "{taken:?} of 1,600 in the last two");
    assert_eq!(late_refusals, 0);
    assert!(longest <= MILLISECOND * 5, "{longest:?}");
}
