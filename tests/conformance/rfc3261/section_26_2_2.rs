//! RFC 3261 §26.2.2 (and §16.6 step 4, RFC 5630): a request to a sips URI leaves over TLS.
//!
//! Not claimed: REGISTER. What its sips URI promises ends at the domain's edge, which Rouse is; how
//! Asterisk is reached behind it is the operator's choice.

use rouse::proto::settings::ContactMode;
use rouse::proto::sip::HeaderName;
use rouse::proto::{Destination, Transport};

use crate::scene::{from_phone, values};
use crate::world::{World, contact_uri, invite_to, pbx, pbx_tcp, settings, tcp, tls, udp};

const SIPS: &str = "sips:600@pbx.example.com";

#[test]
fn it_goes_to_the_upstream_over_tls_and_is_recorded_as_sips() {
    let mut by_tls = settings(ContactMode::Agent);
    by_tls.upstreams[0].nodes[0].transport = Some(Transport::Tls);
    let mut world = World::with(by_tls);
    world.receive(
        tls(1),
        crate::world::register(tls(1), "1001", "", "", 600, 1),
    );
    let relayed = world.expect("REGISTER");
    let mut from = pbx_tcp();
    from.transport = Transport::Tls;
    world.receive(from, crate::world::ok_to_register(&relayed));
    world.expect("SIP/2.0 200");
    world.receive(tls(1), from_phone(tls(1), "INVITE", SIPS, "c1", ""));
    world.expect("SIP/2.0 100");
    let sent = world.expect("INVITE sips:");
    assert!(matches!(&sent.to, Destination::Hop(hop) if hop.transport == Transport::Tls));
    let recorded = values(&sent, HeaderName::RecordRoute);
    assert!(!recorded.is_empty() && recorded.iter().all(|value| value.starts_with("<sips:")));
}

#[test]
fn without_tls_to_the_upstream_it_is_480_with_the_warning_380() {
    let mut world = World::new();
    world.register(tls(1), "1001", "");
    world.receive(tls(1), from_phone(tls(1), "INVITE", SIPS, "c1", ""));
    let refused = world.expect("SIP/2.0 480");
    let warning = refused.header(HeaderName::Warning);
    assert_eq!(warning, "380 192.0.2.1 \"SIPS Not Allowed\"");
    world.expect_nothing();
    world.assert_quiet();
}

#[test]
fn a_phone_gets_it_on_tls_alone() {
    let uri = contact_uri("1001").replacen("sip:", "sips:", 1);
    for (flow, is_called) in [(udp(1), false), (tcp(1), false), (tls(1), true)] {
        let mut world = World::new();
        world.register(flow, "1001", "");
        world.receive(pbx(), invite_to(&uri, "c1"));
        let called = world
            .sent
            .iter()
            .any(|sent| sent.first_line().starts_with("INVITE"));
        let refused = world
            .sent
            .iter()
            .any(|sent| sent.message.status() == Some(480));
        assert_eq!((called, refused), (is_called, !is_called));
    }
}
