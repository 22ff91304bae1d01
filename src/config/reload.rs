//! What of a new configuration a running gateway can follow, and what needs a restart.

use crate::config::Config;
use crate::proto::settings::{Node, Upstream};

/// Lays what can change while the gateway runs over the configuration that it runs by. Returns
/// the result, and the keys whose change needs a restart.
///
/// Nodes keep their index: tokens of dialogs under way name it. New ones get indexes from
/// `next_node` on, which none has had so far.
#[must_use]
pub fn reload(running: &Config, new: Config, next_node: u16) -> (Config, Vec<&'static str>) {
    let mut fixed = Vec::new();
    let mut keep = |is_same: bool, key: &'static str| {
        if !is_same {
            fixed.push(key);
        }
    };
    let (old, wanted) = (&running.settings, &new.settings);
    keep(running.workers == new.workers, "workers");
    let is_there = old.listeners.len() == wanted.listeners.len();
    let mut pairs = old.listeners.iter().zip(&wanted.listeners);
    // A listener on port 0 has the port by now that the system chose.
    let is_same = is_there
        && pairs.all(|(old, new)| {
            let is_chosen = new.address.port() == 0 && new.address.ip() == old.address.ip();
            old.transport == new.transport
                && (is_chosen || old.address == new.address)
                && old.advertise_host == new.advertise_host
                && (new.advertise_port == 0 || old.advertise_port == new.advertise_port)
        });
    keep(is_same, "[[listen]]");
    keep(
        running.tls == new.tls,
        "[tls] certificate, key: which files",
    );
    keep(running.upstream_ca == new.upstream_ca, "[tls] ca_file");
    keep(running.store == new.store, "[store]");
    keep(old.timing == wanted.timing, "[sip]");
    keep(running.admin == new.admin, "[admin]");
    keep(running.calls == new.calls, "[calls]");
    keep(running.hep == new.hep, "[hep]");
    keep(running.otlp == new.otlp, "[otlp]");
    keep(running.log.format == new.log.format, "[log] format");
    let frames = |config: &Config| {
        let limits = &config.settings.limits;
        (limits.message_bytes, limits.headers)
    };
    keep(
        frames(running) == frames(&new),
        "[limits] message_bytes, headers",
    );
    let names = |groups: &[Upstream]| groups.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
    let is_known = names(&old.upstreams) == names(&wanted.upstreams);
    keep(is_known, "[[upstream]]: groups added, removed or renamed");
    let modes = |groups: &[Upstream]| groups.iter().map(|g| g.contact).collect::<Vec<_>>();
    let is_mode = !is_known || modes(&old.upstreams) == modes(&wanted.upstreams);
    keep(is_mode, "[[upstream]] contact");

    let mut result = running.clone();
    let settings = &mut result.settings;
    if is_known {
        settings.upstreams = groups(&old.upstreams, &wanted.upstreams, next_node);
    }
    settings.wake = new.settings.wake;
    settings.register = new.settings.register;
    let (message_bytes, headers) = frames(running);
    settings.limits = new.settings.limits;
    settings.limits.message_bytes = message_bytes;
    settings.limits.headers = headers;
    settings.guard = new.settings.guard;
    settings.push = new.settings.push;
    result.push = new.push;
    result.log.filter = new.log.filter;
    result.drain = new.drain;
    result.warnings = new.warnings;
    (result, fixed)
}

/// The new groups with the old ones' Contacts and their nodes' indexes.
fn groups(old: &[Upstream], new: &[Upstream], mut next: u16) -> Vec<Upstream> {
    let mut groups = Vec::with_capacity(new.len());
    for (before, group) in old.iter().zip(new) {
        let mut group = group.clone();
        group.contact = before.contact;
        for node in &mut group.nodes {
            let known = before.nodes.iter().find(|known| is_same(known, node));
            node.index = known.map_or(next, |known| known.index);
            if known.is_none() {
                next = next.saturating_add(1);
            }
        }
        groups.push(group);
    }
    groups
}

fn is_same(one: &Node, other: &Node) -> bool {
    let place = |node: &Node| (node.host.clone(), node.port, node.transport);
    place(one) == place(other)
}
