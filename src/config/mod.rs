//! The configuration, typed and valid: whoever holds a [`Config`] need not check it again.
//!
//! `file` reads TOML and the environment into one tree in which each value knows its place;
//! `read` takes typed values out of it; the files named after sections turn them into the types of
//! the modules that use them. Nothing stops at the first mistake: [`load`] reports all of them,
//! each with its place and its cure. Secrets are read here and never printed ([`Secret`]).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::io::pns::{
    ApnsConfig, ApnsCredential, ApnsEnvironment, Content, FcmConfig, WebPushConfig, WebhookConfig,
};
use crate::io::store::StoreConfig;
use crate::proto::Transport;
use crate::proto::settings::{Listener, Settings};

mod device;
mod file;
mod files;
mod guard;
mod host;
mod listen;
mod mistake;
mod operator;
mod p12;
mod push;
mod read;
mod reload;
mod secret;
mod tuning;
mod upstream;
mod value;

pub use device::{Entry, MOST as MOST_DEVICES, entered};
pub use host::Host;
pub use mistake::{Mistake, Mistakes, Place};
pub use reload::reload;
pub use secret::Secret;

use mistake::{Findings, Wrong};
use read::Section;

/// A phone that is being woken has `[wake] timeout` and then rings: most calls are answered by then.
const DRAIN: Duration = Duration::from_secs(45);

/// All that the gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the shards need: `[[listen]]`, `[[upstream]]`, `[wake]`, `[sip]`, `[limits]`, `[guard]`.
    pub settings: Settings,
    /// How many shards; at least one.
    pub workers: u16,
    /// `[tls]`: always there when a listener is `tls`.
    pub tls: Option<TlsConfig>,
    /// Roots to trust beside the system's when a node is reached over TLS: `[tls] ca_file`.
    pub upstream_ca: Option<PathBuf>,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[push]`.
    pub push: PushConfig,
    /// `[admin]`, if it is there.
    pub admin: Option<AdminConfig>,
    /// `[calls]`.
    pub calls: CallsConfig,
    /// `[hep]`, if it is there.
    pub hep: Option<HepConfig>,
    /// `[otlp]`, if it is there.
    pub otlp: Option<OtlpConfig>,
    /// `[log]`.
    pub log: LogConfig,
    /// How long calls under way may take to end when the process is to end.
    pub drain: Duration,
    /// What is valid and still worth a sentence at start.
    pub warnings: Vec<String>,
}

/// `[tls]`: what the `tls` listeners show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file: the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM file: its private key.
    pub key: PathBuf,
}

/// `[push]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PushConfig {
    /// `[[push.apns]]`.
    pub apns: Vec<ApnsConfig>,
    /// `[[push.fcm]]`.
    pub fcm: Vec<FcmConfig>,
    /// `[[push.webpush]]`: one key says who we are.
    pub webpush: Option<WebPushConfig>,
    /// `[[push.webhook]]`.
    pub webhook: Vec<WebhookConfig>,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who holds this may ask; none only where nobody but this machine can.
    pub token: Option<Secret<String>>,
    /// Certificate and key, PEM files: HTTPS.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// `[calls]`: how much is remembered of what happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallsConfig {
    /// Calls.
    pub calls: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Notes about devices.
    pub notes: usize,
    /// Where each call that is over is written to, one JSON object a line.
    pub file: Option<PathBuf>,
}

/// `[hep]`: who gets a copy of every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HepConfig {
    /// HOST:PORT.
    pub collector: String,
    /// What it knows us by.
    pub node: u32,
    /// What it wants to be shown.
    pub password: Option<Secret<String>>,
    /// Whether it gets credentials and push tokens too.
    pub secrets: bool,
}

/// `[otlp]`: who gets the calls as traces. Only builds with the feature `otlp` take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where they are posted to.
    pub url: http::Uri,
    /// A header that the collector wants to see.
    pub header: Option<Secret<(http::HeaderName, http::HeaderValue)>>,
    /// Whether it is told numbers and addresses in full.
    pub numbers: bool,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, as `tracing_subscriber::EnvFilter` reads it.
    pub filter: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// What a configuration is read from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's name, for messages.
    pub name: String,
    /// The file's text.
    pub text: String,
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The machine.
    pub host: Host,
}

/// Reads a configuration file with the process's environment laid over it.
///
/// # Errors
///
/// All mistakes.
pub fn load(path: &Path) -> Result<Config, Mistakes> {
    let name = path.display().to_string();
    let text = files::read(&name).map_err(|Wrong { what, cure }| {
        let place = Place::File;
        Mistakes::new(&name, vec![Mistake { place, what, cure }])
    })?;
    // dropped: a variable that is not UTF-8 cannot be one of ours.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    read(&Source {
        name,
        text,
        variables,
        host: Host::detect(),
    })
}

/// Reads a configuration.
///
/// # Errors
///
/// All mistakes.
pub fn read(source: &Source) -> Result<Config, Mistakes> {
    read_with_keys(source).0
}

fn read_with_keys(source: &Source) -> (Result<Config, Mistakes>, BTreeSet<String>) {
    let findings = Findings::default();
    let mut table = file::parse(&source.text, &findings);
    if findings.has_mistakes() {
        // What follows from broken syntax (a lost section) is no mistake of its own.
        let (mistakes, _, keys) = findings.into_parts();
        return (Err(Mistakes::new(&source.name, mistakes)), keys);
    }
    file::overlay(&mut table, &source.variables, &findings);
    let mut config = root(Section::root(&table, &findings), source.host);
    let (mistakes, warnings, keys) = findings.into_parts();
    if !mistakes.is_empty() {
        return (Err(Mistakes::new(&source.name, mistakes)), keys);
    }
    config.warnings = warnings;
    let has_tls = |l: &Listener| matches!(l.transport, Transport::Tls | Transport::Wss);
    let settings = &config.settings;
    // RFC 8599 §13: who reads a REGISTER has the phone's token.
    if settings.push.services().next().is_some() && !settings.listeners.iter().any(has_tls) {
        config.warnings.push(
            "[push]: without a tls or wss listener the phones' push tokens travel readable: add [tls]"
                .to_owned(),
        );
    }
    (Ok(config), keys)
}

fn root(root: Section<'_>, host: Host) -> Config {
    let workers = root.integer("workers", 0_u16, 0..=1_024);
    let drain = root.duration("drain", DRAIN, Duration::ZERO..=Duration::from_secs(600));
    let tls = listen::tls(root.section("tls"));
    let push = push::push(root.section("push"));
    let mut pushing = push.settings();
    pushing.devices = device::devices(&root, &pushing);
    let config = Config {
        settings: Settings {
            push: pushing,
            listeners: listen::listeners(root.sections("listen"), tls.server.is_some(), host),
            upstreams: upstream::upstreams(&root),
            wake: tuning::wake(root.section("wake")),
            register: tuning::register(root.section("register")),
            timing: tuning::timing(root.section("sip")),
            limits: tuning::limits(root.section("limits")),
            guard: guard::guard(root.section("guard")),
        },
        drain,
        workers: if workers == 0 { cores() } else { workers },
        tls: tls.server,
        upstream_ca: tls.upstream_ca,
        store: tuning::store(root.section("store")),
        push,
        admin: operator::admin(root.section("admin")),
        calls: operator::calls(root.section("calls")),
        hep: operator::hep(root.section("hep")),
        otlp: operator::otlp(root.section("otlp")),
        log: tuning::log(root.section("log")),
        warnings: Vec::new(),
    };
    root.finish();
    config
}

/// How many cores the process may use.
fn cores() -> u16 {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .try_into()
        .unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
