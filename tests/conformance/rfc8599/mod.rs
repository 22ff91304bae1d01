//! RFC 8599: push notifications, as the proxy that requests them.

use rouse::proto::settings::{ContactMode, Settings};
use rouse::proto::sip::HeaderName;

use crate::scene::values;
use crate::world::{
    APNS, Sent, World, invite, ok_to_register, pbx, register, response, settings, tcp, without_purr,
};

mod section_12;
mod section_13;
mod section_5_2;
mod section_5_3;
mod section_5_4;
mod section_5_5;
mod section_5_6_1_1;
mod section_5_6_1_2;
mod section_5_6_2;
mod section_6_2_1;
mod section_6_2_2;
mod section_6_2_3;
mod section_7;
mod section_8;

/// The instance of the device.
const INSTANCE: &str = ";+sip.instance=\"<urn:uuid:1>\"";
/// A device that says that it refreshes by itself.
const PNSREG: &str = ";+sip.instance=\"<urn:uuid:1>\";+sip.pnsreg";
/// An Android device's parameters.
const FCM: &str = "pn-provider=fcm;pn-param=project;pn-prid=abc:def";

/// A world whose settings were changed.
fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut all = settings(ContactMode::Agent);
    change(&mut all);
    World::with(all)
}

/// A phone that has registered and whose connection is gone.
fn asleep() -> World {
    let mut world = World::new();
    world.register_for(tcp(1), "1001", APNS, INSTANCE, 3600);
    world.close(tcp(1));
    world
}

/// The same, called and pushed.
fn called() -> World {
    let mut world = asleep();
    world.receive(pbx(), invite("1001", "c1"));
    world.expect("SIP/2.0 100");
    world.accept_push();
    world
}

/// A REGISTER with these parameters: as relayed, and the answer to the phone.
fn registered(world: &mut World, params: &str, more: &str, expires: u32) -> (Sent, Sent) {
    let number = world.number();
    world.receive(
        tcp(1),
        register(tcp(1), "1001", params, more, expires, number),
    );
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), ok_to_register(&relayed));
    (relayed, world.expect("SIP/2.0 200"))
}

/// The Feature-Caps of a message.
fn caps(sent: &Sent) -> Vec<String> {
    let all = values(sent, HeaderName::FeatureCaps);
    all.iter().map(|caps| without_purr(caps)).collect()
}

/// The PURR that a 2xx brings.
fn purr(ok: &Sent) -> String {
    let caps = ok.header(HeaderName::FeatureCaps);
    let (_, after) = caps.split_once("+sip.pnspurr=\"").expect("a PURR");
    after.trim_end_matches('"').to_owned()
}

/// The woken phone registers over another connection, and the registrar answers so.
fn wakes_and_is_told(world: &mut World, status: &str, more: &str) {
    let number = world.number();
    world.receive(
        tcp(2),
        register(tcp(2), "1001", APNS, INSTANCE, 3600, number),
    );
    let relayed = world.expect("REGISTER");
    world.receive(pbx(), response(&relayed, status, more));
    world.expect(&format!("SIP/2.0 {}", &status[..3]));
}
