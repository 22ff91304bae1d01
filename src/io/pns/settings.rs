//! What the providers are told: `[[push.apns]]` and `[[push.fcm]]`.

use std::path::PathBuf;

use crate::config::Secret;

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
