//! RFC 3891 §3: an INVITE with Replaces is the user agents' business, and passes a proxy untouched.

use crate::scene::{answer, call_with, with_phone};
use crate::through::header;
use crate::world::{invite, udp};

#[test]
fn replaces_reaches_the_phone_and_its_481_comes_back() {
    let mut world = with_phone(udp(1));
    let replaces = "425928@phone.example.org;to-tag=7743;from-tag=6472;early-only";
    let invite = invite("1001", "c1");
    let invite = invite.replacen("Max-", &format!("Replaces: {replaces}\r\nMax-"), 1);
    let sent = call_with(&mut world, invite).remove(0);
    assert_eq!(header(&sent, "Replaces"), replaces);
    answer(&mut world, &sent, "481 Call/Transaction Does Not Exist", "");
    world.expect("ACK");
    world.expect("SIP/2.0 481");
    world.assert_quiet();
}
