//! RFC 4028 §8: a proxy that wants no session timer leaves what the user agents agree on alone.

use rouse::proto::sip::HeaderName;

use crate::scene::{answer, call_with, with_phone};
use crate::through::{header, in_dialog};
use crate::world::{invite, udp};

const TIMER: &str = "Supported: timer\r\nSession-Expires: 90;refresher=uac\r\nMin-SE: 90\r\nMax-";

#[test]
fn session_expires_and_min_se_pass_both_ways() {
    let mut world = with_phone(udp(1));
    let invite = invite("1001", "c1").replacen("Max-", TIMER, 1);
    let sent = call_with(&mut world, invite).remove(0);
    assert_eq!(header(&sent, "Session-Expires"), "90;refresher=uac");
    assert_eq!(header(&sent, "Min-SE"), "90");
    assert!(sent.message.lists(HeaderName::Supported, "timer"));
    let more = "Require: timer\nSession-Expires: 90;refresher=uas\n";
    answer(&mut world, &sent, "200 OK", more);
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(header(&ok, "Session-Expires"), "90;refresher=uas");
    assert!(ok.message.lists(HeaderName::Require, "timer"));
}

#[test]
fn a_422_comes_back_with_its_min_se() {
    let mut world = with_phone(udp(1));
    let invite = invite("1001", "c1").replacen("Max-", TIMER, 1);
    let sent = call_with(&mut world, invite).remove(0);
    answer(
        &mut world,
        &sent,
        "422 Session Interval Too Small",
        "Min-SE: 3600\n",
    );
    world.expect("ACK");
    assert_eq!(header(&world.expect("SIP/2.0 422"), "Min-SE"), "3600");
    world.assert_quiet();
}

#[test]
fn a_refresh_passes_as_invite_and_as_update() {
    for method in ["INVITE", "UPDATE"] {
        let mut world = with_phone(udp(1));
        let sent = call_with(&mut world, invite("1001", "c1")).remove(0);
        answer(&mut world, &sent, "200 OK", "");
        world.expect("SIP/2.0 200");
        let timer = "Session-Expires: 90;refresher=uac\r\n";
        let refresh = in_dialog(&mut world, &sent, method, timer);
        assert_eq!(header(&refresh, "Session-Expires"), "90;refresher=uac");
        answer(
            &mut world,
            &refresh,
            "200 OK",
            "Session-Expires: 90;refresher=uac\n",
        );
        assert_eq!(
            header(&world.expect("SIP/2.0 200"), "Session-Expires"),
            "90;refresher=uac"
        );
        world.assert_quiet();
    }
}
