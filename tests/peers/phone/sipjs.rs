//! SIP.js in Node (`tests/peers/sipjs`): commands on its standard input, events on its standard
//! output.

use std::path::Path;
use std::process::Stdio;

use rouse::standin::phone::PhoneConfig;
use serde_json::{Map, Value, json};

use super::{Running, State, log};
use crate::rig::process;

/// Starts it with an account.
pub(super) fn start(account: &PhoneConfig, home: &Path) -> Running {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/sipjs");
    assert!(
        directory.join("node_modules/sip.js").exists(),
        "SIP.js is not installed: make test-peers does it"
    );
    let mut command = process::command("node");
    command
        .arg(directory.join("phone.mjs"))
        .arg(self::account(account).to_string())
        .current_dir(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log(home, "log"));
    Running::on_pipes(process::spawn(command), home, state)
}

/// What `phone.mjs` wants to know.
fn account(account: &PhoneConfig) -> Value {
    let PhoneConfig {
        user,
        domain,
        password,
        proxy,
        transport,
        ..
    } = account;
    let push: Map<String, Value> = account
        .push
        .as_deref()
        .unwrap_or_default()
        .split(';')
        .filter_map(|param| param.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    let instance = account.instance.as_deref().unwrap_or_default();
    json!({
        "user": user,
        "domain": domain,
        "password": password,
        "server": format!("{}://{proxy}/", transport.label()),
        "ca": account.ca_pem,
        "push": push,
        "instance": instance.trim_start_matches("urn:uuid:"),
    })
}

fn state(line: &str) -> Option<State> {
    match line {
        "ringing" => Some(State::Ringing),
        "talking" => Some(State::Talking),
        "over" => Some(State::Over),
        "registered" => Some(State::Registered),
        "offline" => Some(State::Offline),
        _ => None,
    }
}
