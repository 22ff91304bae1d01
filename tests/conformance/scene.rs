//! What several sections need: a phone that is registered, its call, and how headers are read.

use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Flow};

use crate::world::{Sent, World, crlf, invite, pbx, response, udp, via};

/// The instance of the first device.
pub(crate) const ONE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
/// The instance of the second device.
pub(crate) const TWO: &str = ";+sip.instance=\"<urn:uuid:2>\"";

/// A gateway with one phone, 1001, without push.
pub(crate) fn with_phone(flow: Flow) -> World {
    let mut world = World::new();
    world.register_for(flow, "1001", "", ONE, 7200);
    world
}

/// A gateway with two phones of 1001 over UDP, ports 1 and 2.
pub(crate) fn with_two_phones() -> World {
    let mut world = with_phone(udp(1));
    world.register_for(udp(2), "1001", "", TWO, 7200);
    world
}

/// Asterisk calls 1001: the INVITEs that leave.
pub(crate) fn call(world: &mut World, call: &str) -> Vec<Sent> {
    call_with(world, invite("1001", call))
}

/// The same with this INVITE.
pub(crate) fn call_with(world: &mut World, invite: String) -> Vec<Sent> {
    world.receive(pbx(), invite);
    world.expect("SIP/2.0 100");
    let sent: Vec<_> = world.sent.drain(..).collect();
    assert!(
        sent.iter()
            .all(|sent| sent.first_line().starts_with("INVITE"))
    );
    sent
}

/// The phone's flow that a message went to.
pub(crate) fn flow_of(sent: &Sent) -> Flow {
    [udp(1), udp(2), pbx()]
        .into_iter()
        .find(|flow| sent.to == Destination::Flow(flow.id))
        .expect("one of the flows")
}

/// A phone or Asterisk answers.
pub(crate) fn answer(world: &mut World, sent: &Sent, status: &str, more: &str) {
    world.receive(flow_of(sent), response(sent, status, more));
}

/// The values of a header.
pub(crate) fn values(sent: &Sent, name: HeaderName) -> Vec<String> {
    sent.message
        .values(name)
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// A request of a phone's outside any dialog.
pub(crate) fn from_phone(flow: Flow, method: &str, uri: &str, call: &str, more: &str) -> String {
    let via = via(flow, &format!("z9hG4bK{call}"));
    crlf(&format!(
        "
{method} {uri} SIP/2.0
{via}
Max-Forwards: 70
From: <sip:1001@pbx.example.com>;tag=p{call}
To: <{uri}>
Contact: <sip:1001@10.0.0.5:5060>
Call-ID: {call}
CSeq: 1 {method}
{more}Content-Length: 0

"
    ))
}
