//! The shipped `config/rouse.toml` explains every key, and says what holds without it.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::proto::Transport;

const SHIPPED: &str = include_str!("../../config/rouse.toml");

/// What the shipped file has beyond the defaults.
const OWN: &str = r#"
[tls]
certificate = "certs/server.pem"
key = "certs/server.key"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:127.0.0.1:5080;transport=udp"]
"#;

fn certificates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write("server.pem", pair.cert.pem());
    write("server.key", pair.signing_key.serialize_pem());
    dir
}

fn source(text: &str, certs: &Path) -> Source {
    Source {
        name: "rouse.toml".to_owned(),
        text: text.replace("certs/", &format!("{}/", certs.display())),
        variables: Vec::new(),
        host: Host::default(),
    }
}

/// The shipped file with everything on.
fn all_on() -> String {
    let is_key = |line: &str| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    SHIPPED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if is_key(rest) => rest,
            Some(_) | None => line,
        })
        .collect::<Vec<&str>>()
        .join("\n")
}

#[test]
fn the_shipped_file_says_the_defaults() {
    let certs = certificates();
    let shipped = read(&source(SHIPPED, certs.path())).unwrap();
    let defaults = read(&source(OWN, certs.path())).unwrap();
    assert_eq!(format!("{shipped:#?}"), format!("{defaults:#?}"));
}

#[test]
fn the_shipped_file_has_every_key() {
    let certs = certificates();
    let text = all_on();
    let (result, mut known) = read_with_keys(&source(&text, certs.path()));
    for mistake in result.unwrap_err().list() {
        // Without their files the services are none, and push no device.
        let is_known = ["there is no file", "nobody pushes", "this rouse was built"]
            .iter()
            .any(|what| mistake.what.starts_with(what));
        assert!(is_known, "{mistake:?}");
    }
    // Secrets come from the environment alone.
    for key in [
        "admin.token",
        "hep.password",
        "otlp.header",
        "push.apns.certificate_password",
        "push.apns.key",
        "push.fcm.service_account",
        "push.webhook.bearer",
        "push.webhook.hmac",
        "push.webpush.key",
    ] {
        assert!(known.remove(key), "{key}");
    }
    assert_eq!(keys(&text), known);
}

#[test]
fn browsers_have_listeners_like_others() {
    let certs = certificates();
    let text = format!(
        "[[listen]]\ntransport = \"ws\"\naddress = \"127.0.0.1:8080\"\n\
         [[listen]]\ntransport = \"wss\"\naddress = \"127.0.0.1:8443\"\n{OWN}"
    );
    let config = read(&source(&text, certs.path())).unwrap();
    let listeners = config.settings.listeners.iter();
    let transports: Vec<_> = listeners.map(|listener| listener.transport).collect();
    assert_eq!(transports, [Transport::Ws, Transport::Wss]);
}

/// The paths of all keys and tables of a text.
fn keys(text: &str) -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
            let parents = section.match_indices('.').map(|(at, _)| &section[..at]);
            keys.extend(parents.map(str::to_owned));
            keys.insert(section.clone());
        } else if let Some((key, _)) = line.split_once(" = ") {
            let dot = if section.is_empty() { "" } else { "." };
            keys.insert(format!("{section}{dot}{key}"));
        }
    }
    keys
}
