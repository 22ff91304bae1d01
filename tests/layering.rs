//! Reads the sources and proves who imports whom (ARCHITECTURE.md), and the house rules that no
//! compiler knows.
//!
//! The order is `main → cli → server → io → proto`; `config` knows the types that modules want to
//! be configured with, and only `cli`, `server`, `telemetry` and the stand-ins know `config`.
//! `standin` plays the far ends for tests and the demo: it may import anything below `server`, and
//! only `cli` (the demo) and the tests import it. Inside `proto` downward only:
//! `gateway → proxy → registration → push → transaction → sip`; what lies beside these folders
//! (effects, events, flows, settings, timers) is vocabulary that all of them share, `sip` excepted.

#![expect(
    clippy::expect_used,
    reason = "a test crate: what cannot be read must stop the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import what of the crate. The longest matching module counts; a module may always
/// import itself.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("main", &["cli"]),
    ("lib", &[]),
    (
        "cli",
        &["server", "io", "proto", "config", "telemetry", "standin"],
    ),
    ("server", &["io", "proto", "config", "telemetry"]),
    ("telemetry", &["proto", "config", "io::admin::view"]),
    ("standin", &["io", "proto", "config", "telemetry"]),
    ("config", &["proto", "io::pns", "io::store"]),
    ("io", &["proto"]),
    ("io::admin", &["proto", "io::clock"]),
    ("io::export", &["proto", "io::clock"]),
    ("io::cluster", &["proto", "io::clock"]),
    ("io::pns", &["proto", "io::clock", "config::Secret"]),
    ("io::store", &["proto", "io::clock"]),
    ("io::transport", &["proto", "io::clock"]),
    ("proto", &["proto"]),
    ("proto::sip", &[]),
];

/// Inside `proto`: who must not import whom.
const MUST_NOT_IMPORT: [(&str, &[&str]); 4] = [
    ("proto::proxy", &["proto::gateway"]),
    ("proto::registration", &["proto::gateway", "proto::proxy"]),
    (
        "proto::push",
        &["proto::gateway", "proto::proxy", "proto::registration"],
    ),
    (
        "proto::transaction",
        &[
            "proto::gateway",
            "proto::proxy",
            "proto::registration",
            "proto::push",
        ],
    ),
];

/// What has no place in `proto`: sockets, files, tasks, clocks, randomness of its own.
const NOT_IN_PROTO: [&str; 12] = [
    "tokio::",
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "rand::rng(",
    "rand::random",
];

/// The RFCs that we cite.
const RFCS: [(u32, &str); 54] = [
    (2119, "key words"),
    (2543, "SIP, the first"),
    (2617, "digest authentication"),
    (2782, "SRV"),
    (3261, "SIP"),
    (3262, "reliable provisional responses"),
    (3263, "locating SIP servers"),
    (3264, "offer and answer"),
    (3311, "UPDATE"),
    (3323, "privacy"),
    (3325, "asserted identity"),
    (3326, "Reason"),
    (3327, "Path"),
    (3403, "NAPTR"),
    (3428, "MESSAGE"),
    (3515, "REFER"),
    (3581, "rport"),
    (3629, "UTF-8"),
    (3842, "message waiting"),
    (3849, "IPv6 for documentation"),
    (3891, "Replaces"),
    (3903, "PUBLISH"),
    (3966, "tel URIs"),
    (3986, "URIs"),
    (4028, "session timers"),
    (4291, "IPv6 addresses"),
    (4320, "non-INVITE transactions"),
    (4475, "torture tests"),
    (4787, "NAT behaviour for UDP"),
    (5057, "several dialogs"),
    (5118, "torture tests for IPv6"),
    (5389, "STUN"),
    (5393, "loop detection"),
    (5626, "outbound"),
    (5630, "SIPS"),
    (5658, "Record-Route"),
    (5737, "IPv4 for documentation"),
    (5769, "STUN's test vectors"),
    (6026, "2xx to INVITE"),
    (6086, "INFO"),
    (6455, "the WebSocket protocol"),
    (6665, "SUBSCRIBE and NOTIFY"),
    (6809, "feature capabilities"),
    (7118, "WebSocket"),
    (8030, "Web Push"),
    (8188, "the aes128gcm coding"),
    (8291, "encryption for Web Push"),
    (8292, "VAPID"),
    (8305, "happy eyeballs"),
    (8452, "AES-GCM-SIV"),
    (8599, "push"),
    (8760, "digest with SHA-2 for SIP"),
    (9110, "HTTP"),
    (9113, "HTTP/2"),
];

/// More of them, that only name a format.
const FORMATS: [(u32, &str); 8] = [
    (5234, "ABNF"),
    (7515, "JWS"),
    (7519, "JWT"),
    (7523, "JWT for OAuth 2.0"),
    (7616, "digest with SHA-2"),
    (9457, "problem details"),
    (9562, "UUID"),
    (6749, "OAuth 2.0"),
];

/// A source file.
struct Source {
    path: PathBuf,
    /// `proto::sip::parse`; empty outside `src`.
    module: String,
    text: String,
}

impl Source {
    /// Lines of code, without comments, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("")))
            .filter(|(_, line)| !line.trim().is_empty())
    }

    /// Paths into the crate that the code names, as `proto::sip::Uri`.
    fn imports(&self) -> BTreeSet<String> {
        let code: String = self.code().map(|(_, line)| format!("{line}\n")).collect();
        let mut found = BTreeSet::new();
        for (start, _) in code.match_indices("crate::") {
            expand("", &code[start + "crate::".len()..], &mut found);
        }
        let parent = self
            .module
            .rsplit_once("::")
            .map_or("", |(parent, _)| parent);
        for (start, _) in code.match_indices("use super::") {
            // In `mod.rs` the file's module is the folder: `super` is one above it.
            expand(parent, &code[start + "use super::".len()..], &mut found);
        }
        found
    }
}

/// Adds the paths of a use tree that begins here; returns what follows it.
fn expand<'t>(prefix: &str, tree: &'t str, found: &mut BTreeSet<String>) -> &'t str {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '*';
    let end = tree.find(|c| !is_path(c)).unwrap_or(tree.len());
    let (path, mut rest) = tree.split_at(end);
    let joined = match (prefix.is_empty(), path.trim_end_matches(':')) {
        (true, path) => path.to_owned(),
        (false, "") => prefix.to_owned(),
        (false, path) => format!("{prefix}::{path}"),
    };
    if !path.ends_with("::") && !path.is_empty() || !rest.starts_with('{') {
        found.insert(joined);
        return rest;
    }
    rest = &rest[1..];
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if let Some(after) = rest.strip_prefix('}') {
            return after;
        }
        let before = rest.len();
        rest = expand(&joined, rest, found);
        let renamed = rest.trim_start().strip_prefix("as ");
        if let Some(name) = renamed {
            rest = name.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        }
        if rest.len() == before {
            return rest;
        }
    }
}

fn sources(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = folders.iter().map(|name| root.join(name)).collect();
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                let path = path.strip_prefix(root).expect("below the root").to_owned();
                let module = module(&path);
                sources.push(Source { path, module, text });
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!sources.is_empty(), "no sources");
    sources
}

fn module(path: &Path) -> String {
    let Ok(path) = path.strip_prefix("src") else {
        return String::new();
    };
    let path = path.with_extension("");
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let parts = match parts.as_slice() {
        [folder @ .., "mod"] => folder,
        all => all,
    };
    parts.join("::")
}

/// Whether `module` is `of` or lies in it.
fn is_in(module: &str, of: &str) -> bool {
    module == of
        || module
            .strip_prefix(of)
            .is_some_and(|rest| rest.starts_with("::"))
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn modules_import_only_what_lies_below_them() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        let rules = MAY_IMPORT
            .iter()
            .filter(|(of, _)| is_in(&source.module, of));
        let Some((of, allowed)) = rules.max_by_key(|(of, _)| of.len()) else {
            found.push(format!("{}: a new top-level module", source.path.display()));
            continue;
        };
        for import in source.imports() {
            let own = is_in(&import, of);
            if !own && !allowed.iter().any(|to| is_in(&import, to)) {
                found.push(format!("{}: {import}", source.path.display()));
            }
        }
    }
    assert_none(&found, "imports against the order");
}

#[test]
fn inside_proto_imports_go_downward() {
    let mut found = Vec::new();
    for source in sources(&["src/proto"]) {
        for (of, forbidden) in MUST_NOT_IMPORT {
            if !is_in(&source.module, of) {
                continue;
            }
            for import in source.imports() {
                if forbidden.iter().any(|to| is_in(&import, to)) {
                    found.push(format!("{}: {import}", source.path.display()));
                }
            }
        }
    }
    assert_none(&found, "imports upward inside proto");
}

#[test]
fn proto_has_no_sockets_files_tasks_or_clocks() {
    let mut found = Vec::new();
    for source in sources(&["src/proto"]) {
        // Tests of proto make up their own times.
        let (code, _) = source
            .text
            .split_once("#[cfg(test)]")
            .unwrap_or((&source.text, ""));
        let end = code.lines().count();
        for (number, line) in source.code().filter(|(number, _)| *number <= end) {
            for word in NOT_IN_PROTO {
                if line.contains(word) {
                    found.push(format!("{}:{number}: {word}", source.path.display()));
                }
            }
        }
    }
    assert_none(&found, "not for proto");
}

#[test]
fn every_queue_has_a_bound() {
    let mut found = Vec::new();
    for source in sources(&["src"]) {
        for (number, line) in source.code() {
            if line.contains("unbounded") || line.contains("mpsc::channel()") {
                found.push(format!("{}:{number}", source.path.display()));
            }
        }
    }
    assert_none(&found, "queues without a bound");
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "bench"]) {
        for (number, line) in source.code() {
            if line.contains("#[allow(") || line.contains("#![allow(") {
                found.push(format!("{}:{number}", source.path.display()));
            }
        }
    }
    // This file names what it looks for.
    found.retain(|place| !place.starts_with("tests/layering.rs"));
    assert_none(&found, "allowed instead of expected");
}

#[test]
fn only_rfcs_of_our_list_are_cited_in_one_form() {
    let known: BTreeSet<u32> = RFCS
        .iter()
        .chain(&FORMATS)
        .map(|(number, _)| *number)
        .collect();
    let mut found = Vec::new();
    for source in sources(&["src", "tests", "bench"]) {
        for (index, line) in source.text.lines().enumerate() {
            for (start, _) in line.match_indices("RFC") {
                let rest = &line[start + 3..];
                let digits = rest.trim_start_matches([' ', '-']);
                let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
                let Ok(number) = digits.parse::<u32>() else {
                    continue;
                };
                if !rest.starts_with(' ') || !known.contains(&number) {
                    let place = source.path.display();
                    found.push(format!("{place}:{}: RFC{rest:.9}", index + 1));
                }
            }
        }
    }
    assert_none(
        &found,
        "write `RFC nnnn §x.y`, a number of the list in this test",
    );
}

#[test]
fn every_file_says_what_it_holds() {
    let found: Vec<String> = sources(&["src", "tests", "bench"])
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path.display().to_string())
        .collect();
    assert_none(&found, "files that do not begin with `//! `");
}

#[test]
fn files_are_short() {
    let mut lengths = BTreeMap::new();
    for source in sources(&["src"]) {
        let is_test_file = source
            .path
            .file_name()
            .is_some_and(|name| name == "tests.rs");
        let (code, _) = source
            .text
            .split_once("#[cfg(test)]")
            .unwrap_or((&source.text, ""));
        if !is_test_file {
            lengths.insert(source.path, code.lines().count());
        }
    }
    let found: Vec<String> = lengths
        .iter()
        .filter(|(_, length)| **length > 600)
        .map(|(path, length)| format!("{}: {length}", path.display()))
        .collect();
    assert_none(&found, "longer than 600 lines without tests");
    let mut lengths: Vec<usize> = lengths.into_values().collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 200, "the median file has {median} lines");
}

#[test]
fn use_trees_are_expanded() {
    let mut found = BTreeSet::new();
    expand(
        "",
        "proto::{self, sip::{Uri, params::Params as P}, flow::*};\nuse x",
        &mut found,
    );
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    assert_eq!(
        found,
        [
            "proto::flow::*",
            "proto::self",
            "proto::sip::Uri",
            "proto::sip::params::Params"
        ]
    );
}
