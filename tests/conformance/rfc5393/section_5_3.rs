//! RFC 5393 §5.3: Max-Breadth.
//!
//! Every request that we proxy has one value; 60 if it came without, and never more; what the
//! branches of a fork have together is not more than what came; where that is not enough for all
//! targets, 440.

use rouse::proto::sip::HeaderName;

use crate::scene::{ONE, answer, call_with, from_phone, values, with_phone, with_two_phones};
use crate::world::{World, invite, pbx, udp};

fn with_breadth(call: &str, breadth: &str) -> String {
    invite("1001", call).replacen("Max-F", &format!("Max-Breadth: {breadth}\r\nMax-F"), 1)
}

#[test]
fn a_request_without_one_gets_60() {
    let mut world = with_phone(udp(1));
    let sent = call_with(&mut world, invite("1001", "c1")).remove(0);
    assert_eq!(values(&sent, HeaderName::MaxBreadth), ["60"]);
    let uri = "sip:600@pbx.example.com";
    for method in ["MESSAGE", "SUBSCRIBE", "FROBNICATE"] {
        world.receive(udp(1), from_phone(udp(1), method, uri, method, ""));
        let sent = world.expect(method);
        assert_eq!(values(&sent, HeaderName::MaxBreadth), ["60"]);
        answer(&mut world, &sent, "200 OK", "");
        world.expect("SIP/2.0 200");
    }
    world.receive(
        udp(1),
        crate::world::register(udp(1), "1001", "", ONE, 600, 9),
    );
    assert_eq!(
        values(&world.expect("REGISTER"), HeaderName::MaxBreadth),
        ["60"]
    );
}

#[test]
fn what_a_single_target_gets_is_what_came_and_at_most_60() {
    for (came, left) in [("1", "1"), ("7", "7"), ("60", "60"), ("4000000000", "60")] {
        let mut world = with_phone(udp(1));
        let sent = call_with(&mut world, with_breadth("c1", came)).remove(0);
        assert_eq!(values(&sent, HeaderName::MaxBreadth), [left]);
    }
}

#[test]
fn the_branches_of_a_fork_share_it() {
    for came in [2_u32, 3, 5, 60] {
        let mut world = with_two_phones();
        let sent = call_with(&mut world, with_breadth("c1", &came.to_string()));
        let shares: Vec<u32> = sent
            .iter()
            .map(|sent| sent.header(HeaderName::MaxBreadth).parse().unwrap())
            .collect();
        assert_eq!(shares.len(), 2);
        assert!(shares.iter().all(|share| *share > 0));
        assert!(shares.iter().sum::<u32>() <= came, "{shares:?} of {came}");
    }
}

#[test]
fn a_fork_that_is_too_wide_is_440() {
    let mut world = with_two_phones();
    world.receive(pbx(), with_breadth("c1", "1"));
    world.expect("SIP/2.0 440");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
fn nothing_left_is_440_and_nonsense_400() {
    for (came, status) in [("0", "440"), ("many", "400"), ("-1", "400")] {
        let mut world: World = with_phone(udp(1));
        world.receive(pbx(), with_breadth("c1", came));
        world.expect(&format!("SIP/2.0 {status}"));
        world.assert_quiet();
    }
}
