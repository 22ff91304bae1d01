//! `[[push.apns]]`, `[[push.fcm]]`, `[[push.webpush]]`, `[[push.webhook]]`.

use super::files;
use super::mistake::Wrong;
use super::p12;
use super::read::{Section, Text};
use super::tuning::secret;
use super::{
    ApnsConfig, ApnsCredential, ApnsEnvironment, Content, FcmConfig, PushConfig, Secret,
    WebPushConfig, WebhookConfig, value,
};

use crate::io::pns::vapid_public_key;
use crate::proto::push::Pns;
use crate::proto::settings::{Push, PushApp};

const PRODUCTION: &str = "https://api.push.apple.com";
const SANDBOX: &str = "https://api.sandbox.push.apple.com";
/// The services of today's browsers: Chrome, Firefox, Safari, Edge.
const WEB_PUSH_HOSTS: [&str; 4] = [
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "web.push.apple.com",
    "*.notify.windows.com",
];
const VAPID_CURE: &str = "make one with: openssl genpkey -algorithm EC -pkeyopt \
                          ec_paramgen_curve:P-256 -out certs/vapid.pem";
const FCM: &str = "https://fcm.googleapis.com";

impl PushConfig {
    /// Who can be pushed, for the gateway's settings.
    #[must_use]
    pub fn settings(&self) -> Push {
        Push {
            apps: self.apps(),
            vapid: self
                .webpush
                .as_ref()
                .map(|entry| entry.public_key.as_str().into()),
            ..Push::default()
        }
    }

    fn apps(&self) -> Vec<PushApp> {
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
        let hosts = self.webpush.iter().flat_map(|entry| &entry.hosts);
        let hosts = hosts.map(|host| (Pns::WebPush, host));
        let own = self.webhook.iter().flat_map(|entry| &entry.providers);
        let own = own.map(|provider| (Pns::Webhook, provider));
        let others = hosts.chain(own).map(|(pns, name)| PushApp {
            pns,
            name: name.as_str().into(),
        });
        apns.chain(fcm).chain(others).collect()
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
    for section in section.sections("webpush") {
        let entry = web_push(&section);
        if push.webpush.is_some() {
            let cure = "keep one: a subscription belongs to one VAPID key";
            let wrong = Wrong::new("there is more than one [[push.webpush]]", cure);
            section.wrong(section.place(), wrong);
        }
        push.webpush = push.webpush.or(entry);
        section.finish();
    }
    for section in section.sections("webhook") {
        if let Some(webhook) = webhook(&section, &push.webhook) {
            push.webhook.push(webhook);
        }
        section.finish();
    }
    section.finish();
    push
}

fn web_push(section: &Section<'_>) -> Option<WebPushConfig> {
    let key = secret(section, "key_file", "key");
    if key.is_none() && section.text("key_file").is_none() {
        let wrong = Wrong::new("[[push.webpush]] `key_file` is missing", VAPID_CURE);
        section.wrong(section.place(), wrong);
    }
    let key = key.and_then(|(place, pem)| {
        section.parsed(&place, |_| match vapid_public_key(&pem) {
            Ok(public) => Ok((Secret::new(pem.clone()), public)),
            Err(error) => Err(Wrong::new(error.to_string(), VAPID_CURE)),
        })
    });
    let cure = "add subject = \"mailto:ops@example.com\": how the push services reach you";
    let subject = section.required("subject", cure);
    let subject = subject.and_then(|text| section.parsed(&text, value::contact_uri));
    let mut hosts = parsed_all(section, "hosts", value::allowed_host);
    if section.has_list("hosts") && hosts.is_empty() {
        hosts = WEB_PUSH_HOSTS.map(str::to_owned).to_vec();
    }
    let private_networks = parsed_all(section, "private_networks", value::network);
    let ca_file = ca_file(section);
    let content = content(section);
    let (key, public_key) = key?;
    Some(WebPushConfig {
        key,
        public_key,
        subject: subject?,
        hosts,
        private_networks,
        ca_file,
        content,
    })
}

fn webhook(section: &Section<'_>, earlier: &[WebhookConfig]) -> Option<WebhookConfig> {
    let name = section.required("name", "add name = \"hms\": it stands in logs");
    let texts = section.texts("providers");
    if texts.is_empty() {
        let cure = "add providers = [\"hms\"]: the values of pn-provider that it serves";
        let wrong = Wrong::new("[[push.webhook]] `providers` is missing or empty", cure);
        section.wrong(section.place(), wrong);
    }
    let mut providers = Vec::new();
    for text in texts {
        let Some(provider) = section.parsed(&text, value::provider) else {
            continue;
        };
        let holder = earlier
            .iter()
            .find(|other| other.providers.contains(&provider));
        if let Some(other) = holder {
            let what = format!("provider \"{provider}\" is \"{}\"'s already", other.name);
            let wrong = Wrong::new(what, "remove it from one [[push.webhook]]");
            section.wrong(&text.place, wrong);
        }
        providers.push(provider);
    }
    let url = section.required("url", "add url = \"https://push.example.com/rouse\"");
    let url = url.and_then(|text| section.parsed(&text, value::https_url_with_path));
    let bearer = shared_secret(section, "bearer_file", "bearer");
    let signing = shared_secret(section, "hmac_file", "hmac");
    let ca_file = ca_file(section);
    let server_name = server_name(section);
    let content = content(section);
    Some(WebhookConfig {
        name: name?.text,
        providers,
        url: url?,
        bearer,
        signing,
        ca_file,
        server_name,
        content,
    })
}

/// A line that both sides know, from a file or the environment.
fn shared_secret(
    section: &Section<'_>,
    file_key: &'static str,
    inline_key: &'static str,
) -> Option<Secret<String>> {
    let (place, text) = secret(section, file_key, inline_key)?;
    section.parsed(&place, |_| {
        let line = text.trim();
        let is_line = line.len() >= 16 && line.bytes().all(|b| b.is_ascii_graphic());
        let cure = "put one line of at least 16 characters into it: openssl rand -hex 32";
        let wrong = || Wrong::new("the secret is too short or not one line", cure);
        is_line
            .then(|| Secret::new(line.to_owned()))
            .ok_or_else(wrong)
    })
}

fn parsed_all<T>(
    section: &Section<'_>,
    key: &'static str,
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Vec<T> {
    let texts = section.texts(key);
    let parsed = texts.iter().filter_map(|text| section.parsed(text, &read));
    parsed.collect()
}

/// What a service's pushes say.
fn content(section: &Section<'_>) -> Content {
    let payloads = [("rouse", false), ("linphone", true)];
    let privacies = [("full", false), ("none", true)];
    Content {
        for_linphone: section.choice("payload", false, &payloads),
        hides_caller: section.choice("privacy", false, &privacies),
    }
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
    let content = content(section);
    Some(ApnsConfig {
        name: name?.text,
        credential: credential?,
        topics,
        environment,
        url,
        ca_file,
        server_name,
        content,
    })
}

fn credential(section: &Section<'_>) -> Option<ApnsCredential> {
    let team_id = section.text("team_id");
    let key_id = section.text("key_id");
    let key = secret(section, "key_file", "key");
    let has_key = section.text("key_file").is_some() || key.is_some();
    let certificate = section.text("certificate");
    let password = secret(section, "certificate_password_file", "certificate_password");
    let password = password.map(|(_, text)| text.trim_end_matches(['\r', '\n']).to_owned());
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
            let pem = section.parsed(&file, |path| {
                if p12::is_p12(path) {
                    p12::read(path, password.as_deref())
                } else {
                    files::read(path)
                }
            })?;
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
    let content = content(section);
    Some(FcmConfig {
        project: project?.text,
        service_account: account?,
        url,
        ca_file,
        server_name,
        content,
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
