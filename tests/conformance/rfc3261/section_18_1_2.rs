//! RFC 3261 §18.1.2 and §18.3: which responses are heard at all.

use rouse::proto::Event;
use rouse::proto::event::Drop;

use crate::scene::{call, with_phone};
use crate::world::{World, pbx, response, udp};

fn dropped(world: &World, place: Drop) -> bool {
    world
        .events
        .iter()
        .any(|event| matches!(event, Event::Dropped { place: at, .. } if *at == place))
}

/// > When a response is received, the client transport examines the top Via header field value. If
/// > the value of the "sent-by" parameter in that header field value does not correspond to a value
/// > that the client transport is configured to insert into requests, the response MUST be silently
/// > discarded.
///
/// It is known by our branch, and by where it comes from.
#[test]
fn a_response_that_is_not_ours_is_discarded() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    world.receive(
        udp(1),
        response(&sent, "200 OK", "").replacen("branch=z9hG4bK", "branch=z9hG4bKx", 1),
    );
    world.expect_nothing();
    assert!(dropped(&world, Drop::StrayResponse));
    world.receive(udp(2), response(&sent, "200 OK", ""));
    world.expect_nothing();
    assert!(dropped(&world, Drop::ForgedResponse));
}

/// > If the transport packet ends before the end of the message body, this is considered an error.
/// > If the message is a response, it MUST be discarded. If the message is a request, the element
/// > SHOULD generate a 400 (Bad Request) response.
#[test]
fn a_datagram_that_ends_in_its_body_is_discarded_or_400() {
    let mut world = with_phone(udp(1));
    let sent = call(&mut world, "c1").remove(0);
    let cut = response(&sent, "200 OK", "").replacen("Content-Length: 0", "Content-Length: 9", 1);
    world.receive(udp(1), cut + "v=0\r\n");
    world.expect_nothing();
    assert!(dropped(&world, Drop::Malformed));
    let request = crate::world::invite("1001", "c2");
    world.receive(
        pbx(),
        request.replacen("Content-Length: 5", "Content-Length: 6", 1),
    );
    world.expect("SIP/2.0 400");
}
