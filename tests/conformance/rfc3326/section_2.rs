//! RFC 3326 §2 and §3.1: Reason in CANCEL, kept across us and written by a forking proxy.

use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call, values, with_phone, with_two_phones};
use crate::world::{beside, pbx, udp};

#[test]
fn every_reason_of_the_callers_cancel_reaches_the_phone() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    let reasons =
        "Reason: SIP;cause=200;text=\"Call completed, elsewhere\"\nReason: Q.850;cause=26\n";
    world.receive(pbx(), beside("CANCEL", "1001", "c1", reasons));
    world.expect("SIP/2.0 200");
    assert_eq!(
        values(&world.expect("CANCEL"), HeaderName::Reason),
        [
            "SIP;cause=200;text=\"Call completed, elsewhere\"",
            "Q.850;cause=26"
        ]
    );
}

#[test]
fn a_cancel_without_reason_gets_none() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "180 Ringing", "");
    world.expect("SIP/2.0 180");
    world.receive(pbx(), beside("CANCEL", "1001", "c1", ""));
    world.expect("SIP/2.0 200");
    assert_eq!(values(&world.expect("CANCEL"), HeaderName::Reason), [""; 0]);
}

/// §3.1: a forking proxy says why it cancels the branches that lost.
#[test]
fn the_phones_that_lost_are_told_so() {
    let mut world = with_two_phones();
    let sent = call(&mut world, "c1");
    answer(&mut world, &sent[0], "180 Ringing", "");
    world.expect("SIP/2.0 180");
    answer(&mut world, &sent[1], "200 OK", "");
    world.expect("SIP/2.0 200");
    assert_eq!(
        values(&world.expect("CANCEL"), HeaderName::Reason),
        ["SIP;cause=200;text=\"Call completed elsewhere\""]
    );
}

#[test]
fn a_reason_in_another_request_or_a_response_is_only_passed_on() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(
        &mut world,
        &sent,
        "486 Busy Here",
        "Reason: Q.850;cause=17\n",
    );
    world.expect("ACK");
    let busy = world.expect("SIP/2.0 486");
    assert_eq!(busy.header(HeaderName::Reason), "Q.850;cause=17");
    world.assert_quiet();
}
