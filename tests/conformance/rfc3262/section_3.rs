//! RFC 3262 §3 and §4: what a proxy does about 1xx with RSeq and about PRACK: it passes them on.

use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call_with, with_phone};
use crate::through::{header, in_dialog};
use crate::world::{invite, udp};

#[test]
fn a_reliable_1xx_and_its_prack_pass_untouched() {
    let mut world = with_phone(udp(1));
    let invite = invite("1001", "c1").replacen("Max-", "Require: 100rel\r\nMax-", 1);
    let sent = call_with(&mut world, invite).remove(0);
    assert!(sent.message.lists(HeaderName::Require, "100rel"));
    let more = "Require: 100rel\nRSeq: 776656\n";
    answer(&mut world, &sent, "183 Session Progress", more);
    let early = world.expect("SIP/2.0 183");
    assert!(early.message.lists(HeaderName::Require, "100rel"));
    assert_eq!(header(&early, "RSeq"), "776656");
    let prack = in_dialog(&mut world, &sent, "PRACK", "RAck: 776656 102 INVITE\r\n");
    assert_eq!(header(&prack, "RAck"), "776656 102 INVITE");
    answer(&mut world, &prack, "200 OK", "");
    world.expect("SIP/2.0 200");
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}

/// Each of them, though the first is not final: the caller acknowledges each.
#[test]
fn copies_of_a_reliable_1xx_pass_too() {
    let mut world = with_phone(udp(1));
    let sent = call_with(&mut world, invite("1001", "c1")).remove(0);
    for _ in 0..3 {
        answer(
            &mut world,
            &sent,
            "180 Ringing",
            "Require: 100rel\nRSeq: 1\n",
        );
        assert_eq!(header(&world.expect("SIP/2.0 180"), "RSeq"), "1");
    }
}
