//! `[[upstream]]`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::files;
use super::mistake::{Place, Wrong};
use super::read::{Section, Text};
use super::value;
use crate::proto::settings::{ContactMode, Keep, Node, Qualify, Upstream};

/// The registration time asked for when the file says nothing.
pub(super) const EXPIRES: Duration = Duration::from_secs(3600);

/// How long a phone may be silent whose registrations are kept.
pub(super) const KEEP_FOR: Duration = Duration::from_secs(30 * 86_400);

const DAY: Duration = Duration::from_secs(86_400);

/// Reads `[[upstream]]`.
pub(super) fn upstreams(root: &Section<'_>) -> Vec<Upstream> {
    let sections = root.sections("upstream");
    if sections.is_empty() {
        let cure = "add [[upstream]] with name, domains and nodes: who is your Asterisk?";
        root.wrong(&Place::File, Wrong::new("no [[upstream]]", cure));
    }
    let mut upstreams: Vec<Upstream> = Vec::new();
    let mut nodes = 0;
    for section in sections {
        let upstream = upstream(&section, &upstreams, &mut nodes);
        upstreams.push(upstream);
        section.finish();
    }
    upstreams
}

fn upstream(section: &Section<'_>, earlier: &[Upstream], next: &mut u16) -> Upstream {
    let name = name(section, earlier);
    let domains = domains(section, earlier);
    let nodes = nodes(section, next);
    let modes = [
        ("agent", ContactMode::Agent),
        ("device", ContactMode::Device),
        ("path", ContactMode::Path),
    ];
    let contact = section.choice("contact", ContactMode::Agent, &modes);
    let answers = [("local", Qualify::Local), ("forward", Qualify::Forward)];
    let qualify = section.choice("qualify", Qualify::Local, &answers);
    let trust = trust(section, &nodes);
    let bounds = Duration::from_secs(1)..=365 * DAY;
    Upstream {
        name,
        domains,
        nodes,
        contact,
        qualify,
        trust,
        trusts_datagrams: section.flag("trust_udp", true),
        expires: section.duration("expires", EXPIRES, bounds),
        keep: keep(section),
    }
}

/// Whether the gateway refreshes registrations itself, by whose passwords and for how long.
fn keep(section: &Section<'_>) -> Option<Keep> {
    let credentials = section.section("credentials");
    let file = credentials.text("file");
    let secrets = file
        .as_ref()
        .and_then(|file| credentials.parsed(file, files::secrets));
    if let Some(file) = &file
        && files::is_open_to_all(&file.text)
    {
        section.findings().warn(format!(
            "[[upstream]] credentials: everybody on this machine can read \"{}\": chmod 640",
            file.text
        ));
    }
    credentials.finish();
    let span = section.duration("keep_for", KEEP_FOR, Duration::ZERO..=3650 * DAY);
    let is_on = section.flag("keep", false);
    if is_on && file.is_none() {
        let cure = "add credentials = { file = \"certs/agents.htdigest\" }: user:realm:HA1 lines";
        section.wrong(
            section.place(),
            Wrong::new("`keep` needs credentials", cure),
        );
    }
    let secrets = Arc::new(secrets?);
    is_on.then_some(Keep { secrets, span })
}

fn name(section: &Section<'_>, earlier: &[Upstream]) -> Arc<str> {
    let Some(text) = section.required("name", "add name = \"pbx\": it stands in logs") else {
        return "".into();
    };
    if earlier.iter().any(|other| *other.name == *text.text) {
        let what = format!("another upstream is named \"{}\" too", text.text);
        section.wrong(&text.place, Wrong::new(what, "give each its own name"));
    }
    text.text.into()
}

fn domains(section: &Section<'_>, earlier: &[Upstream]) -> Vec<Arc<str>> {
    let texts = section.texts("domains");
    if texts.is_empty() {
        missing(
            section,
            "domains",
            "add domains = [\"pbx.example.com\"], or [\"*\"] for any",
        );
    }
    let mut domains: Vec<Arc<str>> = Vec::new();
    for text in texts {
        let Some(domain) = section.parsed(&text, domain) else {
            continue;
        };
        let holder = earlier.iter().find(|other| other.domains.contains(&domain));
        if let Some(other) = holder {
            let what = format!(
                "domain \"{domain}\" is upstream \"{}\"'s already",
                other.name
            );
            let cure = "a domain has one upstream: remove it from one";
            section.wrong(&text.place, Wrong::new(what, cure));
        } else if domains.contains(&domain) {
            let what = format!("domain \"{domain}\" is listed twice");
            section.wrong(&text.place, Wrong::new(what, "remove one"));
        }
        domains.push(domain);
    }
    domains
}

fn domain(text: &str) -> Result<Arc<str>, Wrong> {
    if text == "*" {
        return Ok(text.into());
    }
    match value::host_port(text) {
        Ok((host, None)) => Ok(host.into()),
        Ok((host, Some(_))) => Err(Wrong::new(
            format!("domain \"{text}\" has a port"),
            format!("write \"{host}\""),
        )),
        Err(_) => Err(Wrong::new(
            format!("\"{text}\" is no domain"),
            "write the part behind the @ of the agents' addresses, or \"*\" for any",
        )),
    }
}

fn nodes(section: &Section<'_>, next: &mut u16) -> Vec<Node> {
    let texts = section.texts("nodes");
    if texts.is_empty() {
        missing(
            section,
            "nodes",
            "add nodes = [\"sip:127.0.0.1:5080;transport=udp\"]",
        );
    }
    let mut nodes = Vec::new();
    for text in texts {
        let Some(uri) = section.parsed(&text, value::node_uri) else {
            continue;
        };
        nodes.push(Node {
            index: *next,
            host: uri.host.into(),
            port: uri.port,
            transport: uri.transport,
        });
        *next = next.saturating_add(1);
    }
    nodes
}

/// Who may call the agents: by default the nodes themselves.
fn trust(section: &Section<'_>, nodes: &[Node]) -> Vec<IpNet> {
    let texts = section.texts("trust");
    let read = |text: &Text| section.parsed(text, value::network);
    let trust: Vec<IpNet> = texts.iter().filter_map(read).collect();
    if let Some(net) = trust.iter().find(|net| net.prefix_len() == 0) {
        section.findings().warn(format!(
            "[[upstream]] trust has {net}: everybody may call the agents"
        ));
    }
    if !texts.is_empty() {
        return trust;
    }
    let mut own = Vec::new();
    for node in nodes {
        if let Ok(address) = node.host.parse::<IpAddr>() {
            own.push(address.into());
            continue;
        }
        let what = format!(
            "`trust` is missing, and node \"{}\" is a name, not an address",
            node.host
        );
        let cure = "add trust = [\"192.0.2.10/32\"]: the addresses that Asterisk calls from";
        section.wrong(section.place(), Wrong::new(what, cure));
    }
    own
}

fn missing(section: &Section<'_>, key: &'static str, cure: &str) {
    if section.has_list(key) {
        let what = format!("[[upstream]] `{key}` is missing or empty");
        section.wrong(section.place(), Wrong::new(what, cure));
    }
}
