//! What passes through: a request of Asterisk's in the dialog that a phone's answer opened, and any
//! header by its name.

use crate::world::{Sent, World, invite_to, pbx};

/// A header's value, whatever its name is.
pub(crate) fn header(sent: &Sent, name: &str) -> String {
    let mut lines = sent.text().lines().map(str::to_owned).collect::<Vec<_>>();
    lines.retain(|line| line.starts_with(&format!("{name}: ")));
    assert_eq!(lines.len(), 1, "{name} in {}", sent.text());
    lines.remove(0).split_off(name.len() + 2)
}

/// Asterisk sends a request in the dialog of an INVITE that reached the phone; as it reaches it.
pub(crate) fn in_dialog(world: &mut World, invite: &Sent, method: &str, more: &str) -> Sent {
    let number = world.number() + 200;
    let route = header(invite, "Record-Route");
    let text = invite_to("sip:1001@10.0.0.5:5060", "c1")
        .replace("102 INVITE", &format!("{number} {method}"))
        .replacen("INVITE", method, 1)
        .replacen("z9hG4bKc1", &format!("z9hG4bKd{number}"), 1)
        .replacen(">\r\nContact", ">;tag=remote\r\nContact", 1)
        .replacen("Max-", &format!("Route: {route}\r\n{more}Max-"), 1);
    world.receive(pbx(), text);
    if method == "INVITE" {
        world.expect("SIP/2.0 100");
    }
    world.expect(method)
}
