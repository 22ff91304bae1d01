//! RFC 7118 §5: what stands for the transport in Via and in URIs, and hosts that nobody can reach.

use std::net::SocketAddr;

use rouse::proto::settings::{ContactMode, Listener};
use rouse::proto::sip::HeaderName;
use rouse::proto::{ConnectionId, Destination, Flow, FlowId, ListenerId, Transport};

use crate::world::{self, APNS, Sent, World, crlf, invite, pbx, response};

/// A browser's host, as RFC 7118's examples have it.
const BROWSER: &str = "df7jal23ls0d.invalid";

fn world() -> World {
    let mut settings = world::settings(ContactMode::Agent);
    for (transport, port) in [(Transport::Ws, 80), (Transport::Wss, 443)] {
        settings.listeners.push(Listener {
            transport,
            address: SocketAddr::from(([192, 0, 2, 1], port)),
            advertise_host: "192.0.2.1".into(),
            advertise_port: port,
        });
    }
    World::with(settings)
}

fn flow(transport: Transport) -> Flow {
    let listener = if transport == Transport::Ws { 3 } else { 4 };
    Flow {
        id: FlowId::Stream(ConnectionId(u64::from(listener))),
        listener: ListenerId(listener),
        remote: SocketAddr::from(([198, 51, 100, 7], 40_000)),
        transport,
    }
}

fn register(world: &mut World, flow: Flow) -> Sent {
    let number = world.number();
    let params = format!("{APNS};transport=ws");
    let text = world::register(flow, "1001", &params, "", 600, number);
    world.receive(flow, text.replace("10.0.0.5:5060", BROWSER));
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), world::ok_to_register(&relayed));
    let ok = world.expect("SIP/2.0 200");
    assert_eq!(ok.to, Destination::Flow(flow.id));
    relayed
}

fn values(sent: &Sent, name: HeaderName) -> Vec<String> {
    let values = sent.message.values(name);
    values
        .map(|value| String::from_utf8_lossy(value).into_owned())
        .collect()
}

/// An ACK or BYE of Asterisk's over the recorded route, back at the phone.
fn in_dialog(method: &str, routes: &[String], cseq: u32) -> String {
    let routes: Vec<_> = routes.iter().rev().cloned().collect();
    crlf(&format!(
        "
{method} sip:1001@{BROWSER};transport=ws SIP/2.0
Via: SIP/2.0/UDP 192.0.2.80:5080;branch=z9hG4bKws{method}{cseq};rport
Route: {routes}
Max-Forwards: 70
From: <sip:2001@192.0.2.80>;tag=asc1
To: <sip:1001@192.0.2.1>;tag=remote
Call-ID: c1
CSeq: {cseq} {method}
Content-Length: 0

",
        routes = routes.join(", ")
    ))
}

#[test]
fn the_via_names_ws_or_wss_and_a_uri_ws_in_both_cases() {
    for (transport, via, port) in [(Transport::Ws, "WS", 80), (Transport::Wss, "WSS", 443)] {
        let mut world = world();
        let flow = flow(transport);
        register(&mut world, flow);
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let forwarded = world.expect(&format!("INVITE sip:1001@{BROWSER};pn-provider=apns"));
        assert_eq!(forwarded.to, Destination::Flow(flow.id));
        let ours = &values(&forwarded, HeaderName::Via)[0];
        let wanted = format!("SIP/2.0/{via} 192.0.2.1:{port};");
        assert!(ours.starts_with(&wanted), "{ours}");
        let routes = values(&forwarded, HeaderName::RecordRoute);
        let wanted = format!("@192.0.2.1:{port};transport=ws;lr>");
        assert!(routes[0].ends_with(&wanted), "{routes:?}");
        assert!(routes[1].ends_with("@192.0.2.1:5060;lr>"), "{routes:?}");
    }
}

#[test]
fn a_phone_without_an_address_is_reached_over_its_connection_throughout_a_call() {
    for transport in [Transport::Ws, Transport::Wss] {
        let mut world = world();
        let flow = flow(transport);
        let relayed = register(&mut world, flow);
        let vias = values(&relayed, HeaderName::Via);
        assert!(vias[1].contains(BROWSER) && vias[1].contains("received=198.51.100.7"));
        let contact = relayed.header(HeaderName::Contact);
        assert!(!contact.contains(BROWSER) && !contact.contains("transport"));
        world.receive(pbx(), invite("1001", "c1"));
        world.expect("SIP/2.0 100");
        let forwarded = world.expect("INVITE");
        let contact = format!("Contact: <sip:1001@{BROWSER};transport=ws>\n");
        world.receive(flow, response(&forwarded, "200 OK", &contact));
        let ok = world.expect("SIP/2.0 200");
        let routes = values(&ok, HeaderName::RecordRoute);
        for (method, cseq) in [("ACK", 102), ("BYE", 103)] {
            world.receive(pbx(), in_dialog(method, &routes, cseq));
            let sent = world.expect(&format!("{method} sip:1001@{BROWSER};transport=ws"));
            assert_eq!(sent.to, Destination::Flow(flow.id));
            assert_eq!(sent.header(HeaderName::Route), "");
            if method == "BYE" {
                world.receive(flow, response(&sent, "200 OK", ""));
                world.expect("SIP/2.0 200");
            }
        }
        world.assert_quiet();
    }
}

#[test]
fn a_listener_for_browsers_does_not_stand_for_us_toward_asterisk() {
    let mut settings = world::settings(ContactMode::Agent);
    let browsers = Listener {
        transport: Transport::Ws,
        address: SocketAddr::from(([192, 0, 2, 1], 80)),
        advertise_host: "192.0.2.1".into(),
        advertise_port: 80,
    };
    settings.listeners.retain(|l| l.transport == Transport::Udp);
    settings.listeners.insert(0, browsers);
    settings.upstreams[0].nodes[0].transport = Some(Transport::Tcp);
    let mut world = World::with(settings);
    let flow = Flow {
        listener: ListenerId(0),
        ..flow(Transport::Ws)
    };
    let number = world.number();
    world.receive(flow, world::register(flow, "1001", APNS, "", 600, number));
    let relayed = world.expect("REGISTER");
    let via = &values(&relayed, HeaderName::Via)[0];
    assert!(via.starts_with("SIP/2.0/TCP 192.0.2.1:5060;"), "{via}");
}
