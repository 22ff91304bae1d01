//! RFC 3515 §2.4: a REFER in a dialog and the NOTIFYs of its subscription pass a proxy.

use crate::scene::{answer, call, with_phone};
use crate::through::{header, in_dialog};
use crate::world::udp;

#[test]
fn refer_its_202_and_its_notify_pass_untouched() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    answer(&mut world, &sent, "200 OK", "");
    world.expect("SIP/2.0 200");
    let to = "<sip:2002@192.0.2.80?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>";
    let refer = in_dialog(&mut world, &sent, "REFER", &format!("Refer-To: {to}\r\n"));
    assert_eq!(header(&refer, "Refer-To"), to);
    answer(&mut world, &refer, "202 Accepted", "");
    world.expect("SIP/2.0 202");
    let event = "Event: refer\r\nSubscription-State: active;expires=60\r\n";
    let notify = in_dialog(&mut world, &sent, "NOTIFY", event);
    assert_eq!(header(&notify, "Event"), "refer");
    answer(&mut world, &notify, "200 OK", "");
    world.expect("SIP/2.0 200");
    world.assert_quiet();
}
