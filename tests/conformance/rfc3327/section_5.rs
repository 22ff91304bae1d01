//! RFC 3327 §5.2 (procedures at intermediate proxies) and §5.3, §5.4 for what comes back.
//!
//! With `contact = "path"`; in the other modes our own Contact stands where Path would.

use rouse::proto::Destination;
use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;

use crate::scene::{ONE, TWO, answer, values};
use crate::world::{World, invite_to, ok_to_register, pbx, register, response, settings, udp};

fn relay(
    world: &mut World,
    port: u16,
    more: &str,
    expires: u32,
    number: u32,
) -> crate::world::Sent {
    world.receive(
        udp(port),
        register(udp(port), "1001", "", more, expires, number),
    );
    world.expect("REGISTER")
}

/// When a proxy wishes to be on the path it adds its URI before those that are there, with an lr
/// parameter.
#[test]
fn our_path_stands_before_others_and_is_a_loose_route() {
    let mut world = World::with(settings(ContactMode::Path));
    let text = register(udp(1), "1001", "", ONE, 600, 1).replacen(
        "Max-",
        "Path: <sip:nearer.example.com;lr>\r\nMax-",
        1,
    );
    world.receive(udp(1), text);
    let relayed = world.expect("REGISTER");
    let path = values(&relayed, HeaderName::Path);
    assert_eq!(path.len(), 2);
    assert!(path[0].ends_with("@192.0.2.1:5060;lr>"), "{path:?}");
    assert_eq!(path[1], "<sip:nearer.example.com;lr>");
}

/// A UA that does not say that it knows Path may be refused with 420 by the registrar: the option
/// is ours to add.
#[test]
fn supported_path_is_there_once() {
    for (had, count) in [
        ("", 1),
        ("Supported: gruu, path\r\n", 1),
        ("Supported: gruu\r\n", 1),
    ] {
        let mut world = World::with(settings(ContactMode::Path));
        let text =
            register(udp(1), "1001", "", ONE, 600, 1).replacen("Max-", &format!("{had}Max-"), 1);
        world.receive(udp(1), text);
        let relayed = world.expect("REGISTER");
        let options = values(&relayed, HeaderName::Supported);
        assert_eq!(
            options.iter().filter(|option| *option == "path").count(),
            count
        );
    }
}

/// What the registrar stored as Path comes back as Route: it leads to the one device, whatever
/// else the agent has, and is consumed.
#[test]
fn the_route_of_a_path_reaches_its_device() {
    let mut world = World::with(settings(ContactMode::Path));
    let mut paths = Vec::new();
    for (port, instance) in [(1, ONE), (2, TWO)] {
        let relayed = relay(&mut world, port, instance, 600, u32::from(port));
        paths.push(relayed.header(HeaderName::Path));
        world.receive(pbx(), ok_to_register(&relayed));
        let ok = world.expect("SIP/2.0 200");
        assert_eq!(values(&ok, HeaderName::Path), [""; 0]);
    }
    for (path, port) in paths.iter().zip([1, 2]) {
        let call = format!("c{port}");
        let text = invite_to("sip:1001@10.0.0.5:5060", &call).replacen(
            "Max-",
            &format!("Route: {path}\r\nMax-"),
            1,
        );
        world.receive(pbx(), text);
        world.expect("SIP/2.0 100");
        let sent = world.expect("INVITE sip:1001@10.0.0.5:5060");
        assert_eq!(sent.to, Destination::Flow(udp(port).id));
        assert_eq!(values(&sent, HeaderName::Route), [""; 0]);
        answer(&mut world, &sent, "486 Busy Here", "");
        world.expect("ACK");
        world.expect("SIP/2.0 486");
    }
    world.assert_quiet();
}

/// A registrar need not return Path.
#[test]
fn a_2xx_without_path_is_a_2xx() {
    let mut world = World::with(settings(ContactMode::Path));
    let relayed = relay(&mut world, 1, ONE, 600, 1);
    let contact = relayed.header(HeaderName::Contact);
    let more = format!("Contact: {contact};expires=600\n");
    world.receive(pbx(), response(&relayed, "200 OK", &more));
    world.expect("SIP/2.0 200");
    assert_eq!(world.count().0, 1);
}

/// In the other modes there is no Path, and nothing is added to what the phone supports.
#[test]
fn without_that_mode_there_is_no_path() {
    let mut world = World::new();
    let relayed = relay(&mut world, 1, ONE, 600, 1);
    assert_eq!(values(&relayed, HeaderName::Path), [""; 0]);
    assert_eq!(values(&relayed, HeaderName::Supported), [""; 0]);
}
