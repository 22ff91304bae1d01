//! Who asks too often, who guesses, who scans, and who must not suffer from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rouse::proto::event::Drop;
use rouse::proto::guard::Guard;
use rouse::proto::reject::Reject;
use rouse::proto::settings::{ContactMode, Rate, Settings};
use rouse::proto::sip::Message;
use rouse::proto::{ConnectionId, Event, Flow, FlowId, Transport};

use crate::world::{
    APNS, World, contact_uri, invite, ok_to_register, pbx, pbx_tcp, register, response, settings,
    tcp, udp,
};

const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000000000001>\"";
const SECOND: Duration = Duration::from_secs(1);

fn at(address: [u8; 4], port: u16) -> Flow {
    let remote = SocketAddr::from((address, port));
    let listener = udp(1).listener;
    Flow {
        id: FlowId::Datagram { listener, remote },
        remote,
        ..udp(1)
    }
}

fn connected(address: [u8; 4], number: u64) -> Flow {
    Flow {
        id: FlowId::Stream(ConnectionId(number)),
        remote: SocketAddr::from((address, 40_000)),
        ..tcp(number)
    }
}

const fn rate(burst: u32, seconds: u64) -> Rate {
    Rate {
        burst,
        interval: Duration::from_secs(seconds),
    }
}

fn with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = settings(ContactMode::Agent);
    change(&mut settings);
    World::with(settings)
}

fn rejects(world: &World, wanted: Reject) -> usize {
    let is_it =
        |event: &&Event| matches!(event, Event::Rejected { reject, .. } if *reject == wanted);
    world.events.iter().filter(is_it).count()
}

fn offences(world: &World) -> usize {
    let is_it = |event: &&Event| matches!(event, Event::Offence { .. });
    world.events.iter().filter(is_it).count()
}

fn is_banned(world: &World) -> bool {
    let is_it = |event: &Event| {
        matches!(
            event,
            Event::Offence {
                is_banned: true,
                ..
            }
        )
    };
    world.events.iter().any(is_it)
}

fn with_line(text: &str, line: &str) -> String {
    text.replacen("Max-Forwards", &format!("{line}\r\nMax-Forwards"), 1)
}

fn with_nonce(text: &str, nonce: &str) -> String {
    let line = format!("Authorization: Digest username=\"u\", nonce=\"{nonce}\", response=\"0\"");
    with_line(text, &line)
}

/// A stranger's REGISTER that Asterisk refuses so; the answer's first line.
fn refused(world: &mut World, flow: Flow, text: &str, status: &str, more: &str) -> String {
    world.receive(flow, text);
    let sent = world.sent.pop_front().expect("something is sent");
    if !sent.first_line().starts_with("REGISTER") {
        return sent.first_line();
    }
    world.receive(pbx(), response(&sent, status, more));
    world.expect("SIP/2.0").first_line()
}

fn challenge(nonce: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"asterisk\", nonce=\"{nonce}\"\n")
}

#[test]
pub fn a_stranger_that_asks_too_often_is_refused_and_a_registered_phone_at_its_address_is_not() {
    let mut world = with(|settings| settings.guard.requests = rate(10, 1));
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    for number in 0..30 {
        let call = format!("c{number}");
        world.receive(udp(2), invite("1001", &call));
    }
    assert!(
        rejects(&world, Reject::TooFast) >= 10,
        "UDP: without an answer"
    );
    assert!(world.sent.len() <= 20);
    world.sent.clear();
    world.receive(tcp(3), invite("1001", "tcp").replace("INVITE", "MESSAGE"));
    let refusal = world.expect("SIP/2.0 503");
    assert!(refusal.text().contains("Retry-After: "));
    // The registered one, on its flow and from another port.
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    world.register_for(udp(9), "1001", APNS, INSTANCE, 3600);
    world.advance(SECOND * 20);
    world.receive(udp(2), invite("1001", "later"));
    world.expect("SIP/2.0 403");
    world.assert_quiet();
}

/// Whichever shards its requests fall to: each has its part.
#[test]
pub fn a_strangers_rate_is_that_of_the_whole_gateway() {
    // Divisible by all numbers of shards that the tests have.
    let mut world = with(|settings| settings.guard.requests = rate(84, 1));
    for number in 0..1000 {
        let call = invite(&format!("{}", 5000 + number), &format!("c{number}"));
        world.receive(at([203, 0, 113, 9], 5060), call);
    }
    assert_eq!(world.sent.len(), 84);
    assert_eq!(rejects(&world, Reject::TooFast), 1000 - 84);
    world.sent.clear();
    world.advance(SECOND * 84);
    for number in 0..1000 {
        let call = invite(&format!("{}", 5000 + number), &format!("d{number}"));
        world.receive(at([203, 0, 113, 9], 5060), call);
    }
    assert_eq!(world.sent.len(), 84);
}

#[test]
pub fn an_upstreams_address_proves_nothing_over_udp_where_that_is_not_trusted() {
    let mut world = with(|settings| settings.upstreams[0].trusts_datagrams = false);
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 600);
    world.receive(pbx(), invite("1001", "forged"));
    world.expect("SIP/2.0 403");
    let options = invite("1001", "o").replace("INVITE", "MESSAGE");
    world.receive(pbx(), options);
    world.expect("SIP/2.0 403");
    world.expect_nothing();
    // A connection from there is the upstream, and so is the answer to what it was asked.
    world.receive(pbx_tcp(), invite("1001", "real"));
    world.expect("SIP/2.0 100");
    world.expect("INVITE");
}

#[test]
pub fn an_office_of_500_phones_behind_one_address_registers_at_once() {
    let mut world = World::new();
    for number in 0..500_u16 {
        let (flow, user) = (
            at([203, 0, 113, 1], 10_000 + number),
            format!("2{number:03}"),
        );
        let first = register(flow, &user, "", "", 3600, 2 * u32::from(number));
        let nonce = format!("n{number}");
        assert_eq!(
            refused(
                &mut world,
                flow,
                &first,
                "401 Unauthorized",
                &challenge(&nonce)
            ),
            "SIP/2.0 401 Unauthorized"
        );
        let second = with_nonce(
            &register(flow, &user, "", "", 3600, 2 * u32::from(number) + 1),
            &nonce,
        );
        // Every tenth has a wrong password.
        if number % 10 == 9 {
            refused(
                &mut world,
                flow,
                &second,
                "401 Unauthorized",
                &challenge("again"),
            );
            continue;
        }
        world.receive(flow, second);
        let relayed = world.expect("REGISTER");
        world.receive(pbx(), ok_to_register(&relayed));
        world.expect("SIP/2.0 200");
    }
    assert_eq!(world.count().0, 450);
    assert!(!is_banned(&world));
    let is_refusal = |event: &Event| matches!(event, Event::Rejected { .. });
    assert!(!world.events.iter().any(is_refusal));
    world.assert_quiet();
}

#[test]
pub fn a_scanner_gets_no_answer_and_its_connection_is_closed() {
    let mut world = World::new();
    for flow in [at([203, 0, 113, 9], 5060), connected([203, 0, 113, 9], 50)] {
        for method in ["OPTIONS", "INVITE", "REGISTER"] {
            let text = invite("1001", method).replace("INVITE", method);
            world.receive(flow, with_line(&text, "User-Agent: Friendly-Scanner 1.0"));
        }
    }
    world.expect_nothing();
    assert!(rejects(&world, Reject::Scanner) >= 4);
    assert!(
        rejects(&world, Reject::Banned) <= 2,
        "what it sent over TCP when it was banned"
    );
    assert!(is_banned(&world), "a connection is proof");
    world.assert_quiet();
}

#[test]
pub fn a_flood_in_anothers_name_bans_nobody_and_keeps_no_known_phone_out() {
    let mut world = with(|settings| settings.guard.requests = rate(100, 1));
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    let victims = [
        udp(1).remote.ip(),
        pbx().remote.ip(),
        [203, 0, 113, 5].into(),
    ];
    for number in 0..3000_u16 {
        let ip = victims[usize::from(number % 3)];
        let mut flow = at([0, 0, 0, 0], 0);
        flow.remote = SocketAddr::from((ip, 10_000 + number));
        flow.id = FlowId::Datagram {
            listener: flow.listener,
            remote: flow.remote,
        };
        let text = match number % 4 {
            // What comes from there is trusted: as an upstream it may call.
            0 | 2 if ip == pbx().remote.ip() => "INVITE".to_owned(),
            0 => with_line(&invite("1001", "x"), "User-Agent: sipvicious"),
            1 => with_nonce(
                &register(flow, "1001", "", "", 60, u32::from(number)),
                "made-up",
            ),
            2 => invite("1001", "y").replace("INVITE", "OPTIONS"),
            _ => "\u{1}\u{2}nonsense".to_owned(),
        };
        world.receive(flow, text);
        // Asterisk refuses what reaches it.
        while let Some(sent) = world.sent.pop_front() {
            if sent.first_line().starts_with("REGISTER") {
                world.receive(pbx(), response(&sent, "403 Forbidden", ""));
            }
        }
    }
    assert_eq!(offences(&world), 0, "nobody has proved anything");
    // The customer's phone from another port, and Asterisk's call to it.
    world.register_for(udp(2), "1001", APNS, INSTANCE, 3600);
    world.receive(pbx(), invite("1001", "real"));
    world.expect("SIP/2.0 100");
    let call = world.expect("INVITE");
    world.receive(udp(2), response(&call, "486 Busy Here", ""));
    world.expect("ACK");
    world.expect("SIP/2.0 486");
    world.assert_quiet();
}

#[test]
pub fn passwords_are_not_guessed_and_the_owner_is_not_locked_out() {
    let mut world = with(|settings| settings.guard.ban = Duration::ZERO);
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 3600);
    let (mut asked, mut answered) = (0, 0);
    for number in 0..200 {
        // From everywhere: a limit for each address alone would not do.
        let flow = connected(
            [203, 0, 113, u8::try_from(number % 100).unwrap()],
            100 + number,
        );
        let guess = with_nonce(
            &register(flow, "1001", "", "", 60, 7 + u32::try_from(number).unwrap()),
            "n",
        );
        let answer = refused(&mut world, flow, &guess, "403 Forbidden", "");
        asked += usize::from(answer.contains("403"));
        answered += usize::from(answer.contains("503"));
    }
    assert_eq!((asked, answered), (10, 190));
    // The owner: on its flow, and the phone that woke on a new connection from elsewhere.
    let again = with_nonce(&register(tcp(1), "1001", APNS, INSTANCE, 3600, 90), "m");
    world.receive(tcp(1), again);
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    let elsewhere = connected([198, 18, 0, 1], 900);
    world.register_for(elsewhere, "1001", APNS, INSTANCE, 3600);
    // Another account is not concerned, and this one only for a time.
    let flow = connected([203, 0, 113, 150], 901);
    let other = with_nonce(&register(flow, "1002", "", "", 60, 7), "n");
    assert!(refused(&mut world, flow, &other, "403 Forbidden", "").contains("403"));
    world.advance(SECOND * 7);
    let guess = with_nonce(&register(flow, "1001", "", "", 60, 8), "n");
    assert!(refused(&mut world, flow, &guess, "403 Forbidden", "").contains("403"));
    world.assert_quiet();
}

#[test]
pub fn over_udp_only_who_repeats_its_challenge_is_blamed_and_then_banned_for_a_time() {
    let mut world = World::new();
    let flow = at([203, 0, 113, 7], 5060);
    let text = |number, nonce: &str| {
        with_nonce(
            &register(flow, &format!("{number}"), "", "", 60, number),
            nonce,
        )
    };
    for number in 0..50_u32 {
        refused(
            &mut world,
            flow,
            &text(number, "made-up"),
            "401 Unauthorized",
            &challenge("new"),
        );
    }
    assert_eq!(offences(&world), 0);
    let user = |number: u32| text(100 + number, "new");
    for number in 0..21 {
        let answer = refused(
            &mut world,
            flow,
            &user(number),
            "401 Unauthorized",
            &challenge("new"),
        );
        assert!(answer.contains("401"), "{number}: {answer}");
    }
    assert!(is_banned(&world), "each with another account");
    world.receive(flow, invite("1001", "x").replace("INVITE", "OPTIONS"));
    world.receive(flow, user(50));
    world.expect_nothing();
    world.advance(SECOND * 15 * 60);
    assert!(refused(&mut world, flow, &user(51), "404 Not Found", "").contains("404"));
    world.assert_quiet();
}

#[test]
pub fn a_nonce_that_was_too_old_is_no_failure() {
    let mut world = World::new();
    let flow = connected([203, 0, 113, 8], 1);
    let stale = "WWW-Authenticate: Digest realm=\"a\", nonce=\"n\", stale=TRUE\n";
    for number in 0..100 {
        let text = with_nonce(&register(flow, "1001", "", "", 60, number), "old");
        assert!(refused(&mut world, flow, &text, "401 Unauthorized", stale).contains("401"));
    }
    assert_eq!(offences(&world), 0);
    world.assert_quiet();
}

#[test]
pub fn unknown_devices_reach_the_upstream_at_its_pace_and_known_ones_at_once() {
    let mut world = with(|settings| {
        settings.guard.registers = rate(70, 7);
    });
    world.register_for(udp(1), "1001", APNS, INSTANCE, 3600);
    let mut reached = 0;
    for number in 0..500_u16 {
        let [high, low] = number.to_be_bytes();
        let flow = at([203, 0, high, low], 5060);
        world.receive(
            flow,
            register(
                flow,
                &format!("9{number}"),
                "",
                "",
                60,
                1000 + u32::from(number),
            ),
        );
        reached += world.sent.len();
        world.sent.clear();
    }
    assert!((50..=70).contains(&reached), "{reached}");
    assert!(rejects(&world, Reject::TooManyRegisters) >= 430);
    world.register_for(udp(2), "1001", APNS, INSTANCE, 3600);
}

#[test]
pub fn an_agent_that_begins_too_much_is_refused_and_may_go_on_with_what_it_has() {
    let mut world = with(|settings| settings.guard.agent_requests = rate(5, 1));
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 3600);
    for number in 0..8 {
        let text = invite("600", &format!("m{number}")).replace("INVITE", "MESSAGE");
        let text = text.replace("sip:2001@192.0.2.80", "sip:1001@pbx.example.com");
        let text = text.replace(&contact_uri("600"), "sip:600@pbx.example.com");
        world.receive(tcp(1), text);
    }
    let lines: Vec<_> = world.sent.drain(..).map(|sent| sent.first_line()).collect();
    let refused = lines.iter().filter(|line| line.contains("503")).count();
    assert_eq!(refused, 3, "{lines:?}");
    world.assert_quiet();
}

#[test]
pub fn networks_of_ones_own_are_exempt_and_strangers_may_go_unanswered() {
    let mut world = with(|settings| {
        settings.guard.requests = rate(2, 1);
        settings.guard.allow = vec!["203.0.113.0/24".parse().unwrap()];
        settings.guard.answer_strangers = false;
    });
    for number in 0..10 {
        let text = invite("1001", &format!("x{number}"));
        world.receive(
            connected([203, 0, 113, 1], 5),
            with_line(&text, "User-Agent: sipcli"),
        );
        world.expect("SIP/2.0 403");
    }
    world.receive(at([198, 18, 0, 1], 5060), invite("1001", "y"));
    world.expect_nothing();
    let is_it = |event: &Event| {
        matches!(
            event,
            Event::Dropped {
                place: Drop::Stranger,
                ..
            }
        )
    };
    assert!(world.events.iter().any(is_it));
    assert_eq!(offences(&world), 0);
}

/// Thousands of addresses: nothing grows beyond its bound.
#[test]
fn the_memory_of_a_flood_is_bounded() {
    let mut settings = settings(ContactMode::Agent);
    settings.guard.entries = 1024;
    let mut guard = Guard::new(Arc::new(settings), 1, [1, 2]);
    let now = World::new().now;
    for number in 0..20_000_u32 {
        let flow = Flow {
            transport: if number % 2 == 0 {
                Transport::Udp
            } else {
                Transport::Tcp
            },
            remote: SocketAddr::from((number.to_be_bytes(), 5060)),
            ..udp(1)
        };
        let text = register(flow, "1001", "", "", 60, number);
        let request = Message::parse(with_nonce(&text, "n").into()).unwrap();
        let aor = rouse::proto::AorId(u64::from(number));
        assert_eq!(guard.admit(now, &flow, &request), Ok(()));
        let _ = guard.on_refused(now, &flow, &request, aor);
        assert_eq!(guard.admit_agent(now, aor), Ok(()));
        guard.on_challenged(&flow, &request);
        assert!(guard.count() <= 8 * 1024, "{}", guard.count());
    }
}
