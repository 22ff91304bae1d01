//! Every configuration under `valid` is taken, every one under `invalid` is refused with exactly
//! the text beside it: all mistakes at once, each with its place and its cure.
//!
//! `# env: NAME=VALUE` lines at the top of a file are the environment; `@DIR@` is a folder with
//! keys and certificates made for the run, `@FCM@` a service account. `ROUSE_BLESS=1 cargo test --test config` rewrites the
//! texts; read the difference before you commit it.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test crate: what cannot be done must stop the test"
)]

mod fail2ban;
mod program;

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};
use rouse::config::{self, Config, Host, Mistakes, Source};
use rouse::proto::Transport;
use rouse::proto::push::Pns;
use rouse::proto::settings::{ContactMode, HoldResponse, Qualify, TooShort, UnsupportedPns};

/// A service account with an RSA key, which takes a while to make.
static RSA_ACCOUNT: LazyLock<String> = LazyLock::new(|| {
    let bits = rcgen::RsaKeySize::_2048;
    let rsa = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, bits).expect("a key");
    account(&rsa.serialize_pem())
});

fn account(key: &str) -> String {
    let pem = key.replace('\n', "\\n");
    format!(r#"{{"client_email": "a@b", "private_key": "{pem}", "token_uri": "https://t"}}"#)
}

fn params_of(names: &[String]) -> rcgen::CertificateParams {
    rcgen::CertificateParams::new(names).expect("a name")
}

/// A certificate and its key as Apple's tools export them, with the password "geheim".
fn p12(params: rcgen::CertificateParams, key: &rcgen::KeyPair) -> Vec<u8> {
    let certificate = params.self_signed(key).expect("a certificate");
    let certificate = Certificate::from_der(certificate.der()).expect("a certificate");
    let private = PrivateKey::from_der(&key.serialize_der()).expect("a key");
    let chain = PrivateKeyChain::new("id", private, [certificate]);
    let mut store = KeyStore::new();
    store.add_entry("voip", KeyStoreEntry::PrivateKeyChain(chain));
    let writer = store.writer("geheim");
    let writer = writer.encryption_algorithm(EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc);
    let writer = writer.mac_algorithm(MacAlgorithm::HmacSha1);
    writer.write().expect("a store")
}

/// Makes the files that configurations name.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    let names = vec!["pbx.example.com".to_owned()];
    let certificate = params_of(&names).self_signed(&p256).expect("a certificate");
    let certificate = certificate.pem();
    write("server.pem", &certificate);
    write("server.key", &p256.serialize_pem());
    write("other.key", &p384.serialize_pem());
    write("AuthKey.p8", &p256.serialize_pem());
    write("p384.p8", &p384.serialize_pem());
    write(
        "client.pem",
        &format!("{certificate}{}", p256.serialize_pem()),
    );
    let p12 = p12(params_of(&names), &p256);
    fs::write(dir.path().join("client.p12"), p12).expect("a file");
    write("p12.password", "geheim\n");
    let ha1 = "0123456789abcdef0123456789abcdef";
    write("agents.htdigest", &format!("1001:asterisk:{ha1}\n"));
    write("plain.htdigest", "# secret passwords\n1001:geheim\n");
    write("text.txt", "nothing of use\n");
    write("admin.token", "0123456789abcdef0123456789abcdef\n");
    write("short.token", "secret\n");
    write("fcm.json", &RSA_ACCOUNT);
    write("fcm-ec.json", &account(&p256.serialize_pem()));
    write(
        "fcm-no-email.json",
        r#"{"private_key": "-", "token_uri": "https://t"}"#,
    );
    dir
}

fn source(path: &Path, dir: &Path) -> Source {
    let text = fs::read_to_string(path).expect("the file");
    let text = text.replace("@DIR@", dir.to_str().expect("a name in UTF-8"));
    let variables = text
        .lines()
        .map_while(|line| line.strip_prefix("# env: "))
        .map(|line| line.split_once('=').expect("NAME=VALUE"))
        .map(|(name, value)| (name.to_owned(), value.replace("@FCM@", &RSA_ACCOUNT)))
        .collect();
    Source {
        name: path.file_name().expect("a name").display().to_string(),
        text,
        variables,
        host: Host {
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 7)),
            ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
        },
    }
}

fn folder(name: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {name}");
    files
}

fn valid(name: &str) -> Config {
    let dir = files();
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config/valid")
        .join(name);
    config::read(&source(&path, dir.path())).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

#[test]
fn every_valid_file_is_taken() {
    let dir = files();
    for path in folder("valid") {
        if let Err(mistakes) = config::read(&source(&path, dir.path())) {
            panic!("{}:\n{mistakes}", path.display());
        }
    }
}

#[test]
fn every_invalid_file_is_refused_with_all_its_mistakes() {
    let dir = files();
    let bless = std::env::var_os("ROUSE_BLESS").is_some();
    let mut report = String::new();
    // Such a build takes one line less for a mistake.
    let is_other = |path: &PathBuf| cfg!(feature = "otlp") && path.ends_with("otlp.toml");
    for path in folder("invalid").into_iter().filter(|path| !is_other(path)) {
        let result: Result<Config, Mistakes> = config::read(&source(&path, dir.path()));
        let found = match result {
            Ok(_) => "no mistake found\n".to_owned(),
            Err(mistakes) => {
                let text = mistakes.to_string();
                let text = text.replace(dir.path().to_str().expect("a name in UTF-8"), "@DIR@");
                format!("{text}\n")
            }
        };
        let beside = path.with_extension("txt");
        if bless {
            fs::write(&beside, &found).expect("the text");
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if found != expected {
            let name = path.display();
            writeln!(report, "{name}:\nexpected\n{expected}found\n{found}").expect("a string");
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn without_listen_both_families_and_tls_are_listened_on() {
    let config = valid("minimal-tls.toml");
    let listeners: Vec<String> = config
        .settings
        .listeners
        .iter()
        .map(|l| {
            let label = l.transport.label();
            format!(
                "{label} {} as {}:{}",
                l.address, l.advertise_host, l.advertise_port
            )
        })
        .collect();
    let expected = [
        "udp 0.0.0.0:5060 as 192.0.2.7:5060",
        "tcp 0.0.0.0:5060 as 192.0.2.7:5060",
        "tls 0.0.0.0:5061 as 192.0.2.7:5061",
        "udp [::]:5060 as [2001:db8::7]:5060",
        "tcp [::]:5060 as [2001:db8::7]:5060",
        "tls [::]:5061 as [2001:db8::7]:5061",
    ];
    assert_eq!(listeners, expected);
}

#[test]
fn everything_optional_is_off_by_default() {
    let config = valid("minimal.toml");
    assert_eq!(config.settings.listeners.len(), 4, "no tls without [tls]");
    assert!(config.tls.is_none() && config.upstream_ca.is_none() && config.admin.is_none());
    assert!(config.push.apns.is_empty() && config.push.fcm.is_empty());
    assert!(config.hep.is_none());
    assert_eq!(config.settings.wake.hold_response, HoldResponse::None);
    assert!(config.workers >= 1);
}

#[test]
fn trust_is_by_default_the_nodes_addresses() {
    let config = valid("minimal.toml");
    let trust: Vec<String> = config.settings.upstreams[0]
        .trust
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(trust, ["127.0.0.1/32", "::1/128"]);
}

#[test]
fn registrations_are_kept_where_it_says_so() {
    let config = valid("everything.toml");
    let upstreams = &config.settings.upstreams;
    assert!(upstreams[0].keep.is_none());
    let keep = upstreams[1].keep.as_ref().expect("kept");
    assert_eq!((keep.secrets.len(), keep.span.as_secs()), (1, 60 * 86_400));
    let is_open = |warning: &String| warning.ends_with("chmod 640");
    assert!(config.warnings.iter().any(is_open), "{:?}", config.warnings);
}

#[test]
fn every_key_reaches_the_config() {
    let config = valid("everything.toml");
    assert_eq!(config.workers, 3);
    let listener = &config.settings.listeners[0];
    assert_eq!(listener.transport, Transport::Udp);
    assert_eq!(&*listener.advertise_host, "sip.example.com");
    assert_eq!(listener.advertise_port, 5070);
    let upstream = &config.settings.upstreams[1];
    assert_eq!(upstream.contact, ContactMode::Path);
    assert_eq!(upstream.qualify, Qualify::Forward);
    assert_eq!(
        upstream.nodes[0].index, 2,
        "nodes are counted over all upstreams"
    );
    assert_eq!(upstream.nodes[0].transport, Some(Transport::Tls));
    assert_eq!(upstream.expires.as_secs(), 1800);
    assert_eq!(config.settings.wake.unreachable_status, 404);
    assert_eq!(config.settings.wake.message_hold.as_secs(), 3600);
    assert!(config.settings.wake.missed_call_push && config.settings.wake.no_global_decline);
    assert_eq!(config.settings.limits.messages_per_agent, 9);
    let rules = config.settings.register;
    assert_eq!(rules.too_short, TooShort::Plain);
    assert_eq!(rules.unsupported_pns, UnsupportedPns::Refuse);
    assert_eq!(config.settings.timing.t1.as_millis(), 250);
    assert_eq!(config.settings.limits.devices_per_agent, 4);
    let guard = &config.settings.guard;
    assert!(guard.is_on && !guard.answer_strangers && guard.allow.len() == 1);
    assert_eq!(guard.requests.interval.as_millis(), 20);
    assert_eq!(guard.account_failures.interval.as_secs(), 12);
    assert_eq!(
        (guard.requests.burst, guard.agent_requests.burst),
        (500, 50)
    );
    assert_eq!(
        (guard.registers.burst, guard.address_failures.burst),
        (1000, 30)
    );
    assert_eq!((guard.offences.burst, guard.ban.as_secs()), (9, 3600));
    assert_eq!((guard.scanners.len(), guard.entries), (1, 2048));
    assert_eq!(config.push.apns.len(), 3);
    let config::ApnsCredential::Certificate(pem) = &config.push.apns[2].credential else {
        panic!("a certificate");
    };
    assert!(pem.expose().contains("BEGIN CERTIFICATE") && pem.expose().contains("PRIVATE KEY"));
    assert_eq!(config.push.fcm[0].url, "https://127.0.0.1:8443");
    let web = config.push.webpush.expect("[[push.webpush]]");
    let hosts = ["push.example.net", "*.push.example.org", "127.0.0.1:8444"];
    assert_eq!(web.hosts, hosts);
    assert!(web.content.for_linphone && web.content.hides_caller);
    let push = &config.settings.push;
    assert_eq!(push.vapid.as_deref(), Some(&*web.public_key));
    assert_eq!(web.public_key.len(), 87);
    let services: Vec<&str> = push.services().collect();
    let expected = ["apns", "apns.dev", "fcm", "webpush", "hms", "acme"];
    assert_eq!(services, expected);
    assert!(push.can_push(Pns::WebPush, "a.push.example.org"));
    assert!(!push.can_push(Pns::WebPush, "push.example.org"));
    assert!(!push.can_push(Pns::WebPush, "evil-push.example.net"));
    assert!(config.push.webhook[0].signing.is_some());
    let (one, two) = (&push.devices[0], &push.devices[1]);
    assert_eq!(one.domain.as_deref(), Some("pbx.example.com"));
    assert_eq!(one.params.detail.as_deref(), Some("1055"));
    assert!(
        one.instance
            .as_ref()
            .is_some_and(|text| text.starts_with("urn:uuid:"))
    );
    assert_eq!(
        (two.domain.as_ref(), two.user_agent.as_deref()),
        (None, Some("Zoiper"))
    );
    let admin = config.admin.expect("[admin]");
    assert!(admin.token.is_some() && admin.tls.is_some());
    let calls = &config.calls;
    assert_eq!((calls.calls, calls.bytes, calls.notes), (5, 100_000, 7));
    assert!(calls.file.is_some());
    let hep = config.hep.expect("[hep]");
    assert_eq!((&*hep.collector, hep.node), ("127.0.0.1:9060", 7));
    assert!(hep.password.is_some() && hep.secrets);
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}

#[test]
fn variables_win_over_the_file_and_add_to_it() {
    let config = valid("environment.toml");
    let settings = &config.settings;
    assert_eq!(settings.listeners[0].address.port(), 5070);
    assert_eq!(settings.listeners[1].transport, Transport::Tcp);
    assert_eq!(settings.wake.timeout.as_secs(), 20);
    assert_eq!(settings.limits.devices_per_agent, 3);
    assert_eq!(settings.upstreams[0].domains.len(), 2);
    assert_eq!(config.push.apns[0].topics, ["com.example.app"]);
    assert_eq!(*config.push.fcm[0].service_account.expose(), *RSA_ACCOUNT);
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", valid("everything.toml"));
    for secret in [
        "PRIVATE KEY",
        "0123456789abcdef",
        "client_email",
        "device-1",
    ] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}
