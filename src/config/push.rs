//! `[[push.apns]]` and `[[push.fcm]]`.

use super::files;
use super::mistake::Wrong;
use super::read::{Section, Text};
use super::tuning::secret;
use super::{ApnsConfig, ApnsCredential, ApnsEnvironment, FcmConfig, PushConfig, Secret, value};

use crate::proto::push::Pns;
use crate::proto::settings::PushApp;

const PRODUCTION: &str = "https://api.push.apple.com";
const SANDBOX: &str = "https://api.sandbox.push.apple.com";
const FCM: &str = "https://fcm.googleapis.com";

impl PushConfig {
    /// The apps that can be pushed, for the gateway's settings.
    #[must_use]
    pub fn apps(&self) -> Vec<PushApp> {
        let apns = self.apns.iter().flat_map(|entry| {
            let pns = match entry.environment {
                ApnsEnvironment::Production => Pns::Apns,
                ApnsEnvironment::Sandbox => Pns::ApnsSandbox,
            };
            entry.topics.iter().map(move |topic| PushApp {
                pns,
                name: topic.as_str().into(),
            })
        });
        let fcm = self.fcm.iter().map(|entry| PushApp {
            pns: Pns::Fcm,
            name: entry.project.as_str().into(),
        });
        apns.chain(fcm).collect()
    }
}

/// Reads `[push]`.
pub(super) fn push(section: Section<'_>) -> PushConfig {
    let mut push = PushConfig::default();
    for section in section.sections("apns") {
        if let Some(apns) = apns(&section, &push.apns) {
            push.apns.push(apns);
        }
        section.finish();
    }
    for section in section.sections("fcm") {
        if let Some(fcm) = fcm(&section, &push.fcm) {
            push.fcm.push(fcm);
        }
        section.finish();
    }
    section.finish();
    push
}

fn apns(section: &Section<'_>, earlier: &[ApnsConfig]) -> Option<ApnsConfig> {
    let name = section.required("name", "add name = \"voip-app\": it stands in logs");
    let credential = credential(section);
    let environments = [
        ("production", ApnsEnvironment::Production),
        ("sandbox", ApnsEnvironment::Sandbox),
    ];
    let environment = section.choice("environment", ApnsEnvironment::Production, &environments);
    let topics = topics(section, earlier, environment);
    let default = match environment {
        ApnsEnvironment::Production => PRODUCTION,
        ApnsEnvironment::Sandbox => SANDBOX,
    };
    let url = url(section, default);
    let ca_file = ca_file(section);
    let server_name = server_name(section);
    Some(ApnsConfig {
        name: name?.text,
        credential: credential?,
        topics,
        environment,
        url,
        ca_file,
        server_name,
    })
}

fn credential(section: &Section<'_>) -> Option<ApnsCredential> {
    let team_id = section.text("team_id");
    let key_id = section.text("key_id");
    let key = secret(section, "key_file", "key");
    let has_key = section.text("key_file").is_some() || key.is_some();
    let certificate = section.text("certificate");
    match (has_key, certificate) {
        (true, None) => {
            let cure = "add the 10 characters that Apple's developer site shows";
            let team_id = team_id.or_else(|| section.required("team_id", cure));
            let key_id = key_id.or_else(|| section.required("key_id", cure));
            let (place, pem) = key?;
            let key = checked(section, &place, || files::p256_key(pem));
            Some(ApnsCredential::Token {
                team_id: team_id?.text,
                key_id: key_id?.text,
                key: key?,
            })
        }
        (false, Some(file)) => {
            let pem = section.parsed(&file, files::read)?;
            let pair = checked(section, &file, || files::client_certificate(pem));
            Some(ApnsCredential::Certificate(pair?))
        }
        (true, Some(file)) => {
            let cure = "keep `key_file` (one key for all apps), or `certificate`";
            let wrong = Wrong::new("[[push.apns]] has a key and a certificate", cure);
            section.wrong(&file.place, wrong);
            None
        }
        (false, None) => {
            let cure =
                "add key_file = \"certs/AuthKey.p8\" with team_id and key_id, or certificate";
            let wrong = Wrong::new("[[push.apns]] has no credential", cure);
            section.wrong(section.place(), wrong);
            None
        }
    }
}

fn topics(
    section: &Section<'_>,
    earlier: &[ApnsConfig],
    environment: ApnsEnvironment,
) -> Vec<String> {
    let texts = section.texts("topics");
    if texts.is_empty() && section.has_list("topics") {
        let cure = "add topics = [\"com.example.app\"]: the apps' bundle ids";
        let wrong = Wrong::new("[[push.apns]] `topics` is missing or empty", cure);
        section.wrong(section.place(), wrong);
    }
    let mut topics = Vec::new();
    for text in texts {
        let Some(topic) = section.parsed(&text, topic) else {
            continue;
        };
        let holder = earlier
            .iter()
            .find(|other| other.environment == environment && other.topics.contains(&topic));
        if let Some(other) = holder {
            let what = format!("topic \"{topic}\" is \"{}\"'s already", other.name);
            let cure = "an app has one [[push.apns]] per environment: remove it from one";
            section.wrong(&text.place, Wrong::new(what, cure));
        }
        topics.push(topic);
    }
    topics
}

fn topic(text: &str) -> Result<String, Wrong> {
    if let Some(bundle) = text.strip_suffix(".voip") {
        let what = format!("topic \"{text}\" ends with .voip");
        let cure = format!("write \"{bundle}\": .voip is added for calls");
        return Err(Wrong::new(what, cure));
    }
    let is_bundle_id = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if is_bundle_id {
        return Ok(text.to_owned());
    }
    let cure = "write the app's bundle id, for example \"com.example.app\"";
    Err(Wrong::new(format!("\"{text}\" is no bundle id"), cure))
}

fn fcm(section: &Section<'_>, earlier: &[FcmConfig]) -> Option<FcmConfig> {
    let project = section.required(
        "project",
        "add project = \"my-project\": Firebase's project id",
    );
    if let Some(text) = &project
        && earlier.iter().any(|other| other.project == text.text)
    {
        let what = format!("project \"{}\" is there twice", text.text);
        section.wrong(&text.place, Wrong::new(what, "remove one [[push.fcm]]"));
    }
    let account = secret(section, "service_account_file", "service_account");
    if account.is_none() && section.text("service_account_file").is_none() {
        let wrong = Wrong::new(
            "[[push.fcm]] `service_account_file` is missing",
            "add service_account_file = \"certs/fcm.json\"",
        );
        section.wrong(section.place(), wrong);
    }
    let account =
        account.and_then(|(place, json)| checked(section, &place, || files::service_account(json)));
    let url = url(section, FCM);
    let ca_file = ca_file(section);
    let server_name = server_name(section);
    Some(FcmConfig {
        project: project?.text,
        service_account: account?,
        url,
        ca_file,
        server_name,
    })
}

fn checked(
    section: &Section<'_>,
    place: &Text,
    check: impl FnOnce() -> Result<Secret<String>, Wrong>,
) -> Option<Secret<String>> {
    section.parsed(place, |_| check())
}

fn url(section: &Section<'_>, default: &str) -> String {
    section
        .text("url")
        .and_then(|text| section.parsed(&text, value::https_url))
        .unwrap_or_else(|| default.to_owned())
}

fn ca_file(section: &Section<'_>) -> Option<std::path::PathBuf> {
    let text = section.text("ca_file")?;
    section.parsed(&text, files::certificates)?;
    Some(text.text.into())
}

/// The name that the provider's certificate must carry when it is not the URL's host.
fn server_name(section: &Section<'_>) -> Option<String> {
    let text = section.text("server_name")?;
    section.parsed(&text, |name| match value::host_port(name) {
        Ok((host, None)) => Ok(host),
        Ok((_, Some(_))) | Err(_) => Err(Wrong::new(
            format!("\"{name}\" is no server name"),
            "write the name in the server's certificate, without a port",
        )),
    })
}
