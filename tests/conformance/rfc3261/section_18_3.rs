//! RFC 3261 §18.3: framing of messages in datagrams; streams are cut by their Content-Length.

use rouse::proto::sip::{Frame, FrameLimits, Framer};

use crate::scene::{call_with, with_phone};
use crate::world::{invite, pbx, udp};

#[test]
fn octets_behind_the_body_of_a_datagram_are_discarded() {
    let mut world = with_phone(udp(1));
    let sent = call_with(&mut world, invite("1001", "c1") + "more than was said").remove(0);
    assert_eq!(sent.message.body(), b"v=0\r\n");
}

#[test]
fn a_datagram_without_content_length_has_all_that_follows_as_body() {
    let mut world = with_phone(udp(1));
    let invite = invite("1001", "c1").replace("Content-Length: 5\r\n", "") + "s=-\r\n";
    let sent = call_with(&mut world, invite).remove(0);
    assert_eq!(sent.message.body(), b"v=0\r\ns=-\r\n");
}

#[test]
fn a_request_that_ends_within_its_body_is_400() {
    let mut world = with_phone(udp(1));
    let cut = invite("1001", "c1").replace("Content-Length: 5", "Content-Length: 6");
    world.receive(pbx(), cut);
    world.expect("SIP/2.0 400");
    world.expect_nothing();
}

#[test]
fn a_stream_is_cut_where_content_length_says() {
    let one = invite("1001", "c1");
    let two = invite("1001", "c2");
    let mut framer = Framer::new(FrameLimits {
        message_bytes: 65_536,
        headers: 128,
    });
    framer
        .buffer()
        .extend_from_slice((one.clone() + &two).as_bytes());
    let mut cut = Vec::new();
    while let Ok(Some(Frame::Message(message))) = framer.next() {
        cut.push(String::from_utf8_lossy(message.raw()).into_owned());
    }
    assert_eq!(cut, [one, two]);
}
