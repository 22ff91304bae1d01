//! The configuration, typed and valid: whoever holds a [`Config`] need not check it again.
//!
//! `file` reads TOML and the environment into one tree in which each value knows its place;
//! `read` takes typed values out of it; the files named after sections turn them into the types of
//! the modules that use them. Nothing stops at the first mistake: [`load`] reports all of them,
//! each with its place and its cure. Secrets are read here and never printed ([`Secret`]).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::proto::settings::Settings;

mod secret;

pub use secret::Secret;

/// All that the gateway is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the shards need: `[[listen]]`, `[[upstream]]`, `[wake]`, `[sip]`, `[limits]`.
    pub settings: Settings,
    /// How many shards; at least one.
    pub workers: u16,
    /// `[tls]`: always there when a listener is `tls`.
    pub tls: Option<TlsConfig>,
    /// Roots to trust beside the system's when a node is reached over TLS: `[tls] ca_file`.
    pub upstream_ca: Option<PathBuf>,
    /// `[store]`.
    pub store: StoreConfig,
    /// `[[push.apns]]` and `[[push.fcm]]`.
    pub push: PushConfig,
    /// `[admin]`, if it is there.
    pub admin: Option<AdminConfig>,
    /// `[log]`.
    pub log: LogConfig,
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

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// The folder of the embedded store.
    pub path: PathBuf,
    /// How long a write may wait for others to share its sync to the disk.
    pub window: Duration,
    /// How many writes may wait.
    pub queue: usize,
}

/// `[push]`.
#[derive(Clone, Debug, Default)]
pub struct PushConfig {
    /// `[[push.apns]]`.
    pub apns: Vec<ApnsConfig>,
    /// `[[push.fcm]]`.
    pub fcm: Vec<FcmConfig>,
}

/// One `[[push.apns]]`.
#[derive(Clone, Debug)]
pub struct ApnsConfig {
    /// Its name in logs.
    pub name: String,
    /// How we prove who we are.
    pub credential: ApnsCredential,
    /// Bundle ids, without `.voip`.
    pub topics: Vec<String>,
    /// Which of Apple's environments.
    pub environment: ApnsEnvironment,
    /// Base URL.
    pub url: String,
    /// An extra root to trust.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must carry and that SNI says, if not the URL's host.
    pub server_name: Option<String>,
}

/// How we prove to Apple who we are.
#[derive(Clone, Debug)]
pub enum ApnsCredential {
    /// A signing key (.p8) and the names that Apple gave it.
    Token {
        /// The team.
        team_id: String,
        /// The key's name.
        key_id: String,
        /// The key: PEM (PKCS #8), P-256.
        key: Secret<String>,
    },
    /// A client certificate with its key, PEM, both in one text.
    Certificate(Secret<String>),
}

/// Apple's environments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApnsEnvironment {
    /// For apps from the store and TestFlight.
    Production,
    /// For apps from Xcode.
    Sandbox,
}

/// One `[[push.fcm]]`.
#[derive(Clone, Debug)]
pub struct FcmConfig {
    /// The Firebase project's id.
    pub project: String,
    /// The service account: Google's JSON.
    pub service_account: Secret<String>,
    /// Base URL.
    pub url: String,
    /// An extra root to trust.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must carry and that SNI says, if not the URL's host.
    pub server_name: Option<String>,
}

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who holds this may ask.
    pub token: Secret<String>,
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
