//! What the providers are told: `[[push.apns]]`, `[[push.fcm]]`, `[[push.webpush]]`,
//! `[[push.webhook]]`.

use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::Secret;
use crate::io::pns::payload::Content;

/// One `[[push.apns]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What its pushes say.
    pub content: Content,
}

/// How we prove to Apple who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// What its pushes say.
    pub content: Content,
}

/// `[[push.webpush]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebPushConfig {
    /// The VAPID key: PEM (PKCS #8), P-256.
    pub key: Secret<String>,
    /// Its public half, as browsers and `+sip.vapid` want it.
    pub public_key: String,
    /// How the services reach the operator: `mailto:` or `https:`.
    pub subject: String,
    /// Hosts that subscriptions may name; `*.` for all below a domain.
    pub hosts: Vec<String>,
    /// Networks that those may lead to beside the public Internet.
    pub private_networks: Vec<IpNet>,
    /// An extra root to trust.
    pub ca_file: Option<PathBuf>,
    /// What its pushes say.
    pub content: Content,
}

/// One `[[push.webhook]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Its name in logs.
    pub name: String,
    /// The values of `pn-provider` that it serves, lower case.
    pub providers: Vec<String>,
    /// Where pushes are POSTed to.
    pub url: String,
    /// Shown as `Authorization: Bearer`.
    pub bearer: Option<Secret<String>>,
    /// Signs the body.
    pub signing: Option<Secret<String>>,
    /// An extra root to trust.
    pub ca_file: Option<PathBuf>,
    /// The name that the certificate must carry and that SNI says, if not the URL's host.
    pub server_name: Option<String>,
    /// What its pushes say.
    pub content: Content,
}
