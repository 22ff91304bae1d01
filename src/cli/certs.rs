//! `rouse certs`: certificates for development. Nothing here is for production.
//!
//! A name that is an IP address stands in the certificate twice, as address and as DNS name:
//! liblinphone's mbedTLS looks for it only there.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

use crate::cli::{Exit, fail, output};
use crate::config::Host;
use crate::io::clock::Clock;

const DAY: Duration = Duration::from_secs(86_400);

/// How long the CA lasts.
const CA_DAYS: u32 = 3_650;

/// How long the server's certificate lasts: iOS takes none that lasts longer.
const SERVER_DAYS: u32 = 825;

/// Makes certificates for development.
#[derive(Debug, clap::Args)]
pub(super) struct CertsArgs {
    /// The folder to write ca.pem, ca.key, server.pem and server.key to.
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// A host name or an address of the server, repeatable; beside localhost and this machine's.
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// Replace what is there.
    #[arg(long)]
    force: bool,
}

/// Runs `rouse certs`.
pub(super) fn run(arguments: &CertsArgs) -> Exit {
    match make(arguments) {
        Ok(written) => {
            written.into_iter().for_each(output::line);
            Exit::Done
        }
        Err(error) => fail(&error),
    }
}

fn make(arguments: &CertsArgs) -> anyhow::Result<Vec<String>> {
    let dir = &arguments.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let names = names(&arguments.name, Host::detect());
    let pair = Pair::generate(&names).context("cannot make the certificates")?;
    let files = [
        ("ca.pem", &pair.ca, 0o644),
        ("ca.key", &pair.ca_key, 0o600),
        ("server.pem", &pair.server, 0o644),
        ("server.key", &pair.server_key, 0o600),
    ];
    if !arguments.force {
        for (name, _, _) in files {
            let path = dir.join(name);
            if path.exists() {
                bail!("{} is there already: --force replaces it", path.display());
            }
        }
    }
    for (name, text, mode) in files {
        write(&dir.join(name), text, mode)?;
    }
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(vec![
        format!(
            "{}: for {}, {SERVER_DAYS} days",
            dir.join("server.pem").display(),
            list.join(", ")
        ),
        format!("{}: its key", dir.join("server.key").display()),
        format!(
            "{}: the development CA; phones that shall connect over TLS must trust it",
            dir.join("ca.pem").display()
        ),
        format!("{}: the CA's key", dir.join("ca.key").display()),
    ])
}

/// The names of the server: what was asked for, localhost, and this machine's addresses.
fn names(asked: &[String], host: Host) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    names.extend(host.ipv4.map(|address| address.to_string()));
    names.extend(host.ipv6.map(|address| address.to_string()));
    names.extend(
        asked
            .iter()
            .map(|name| name.trim_matches(['[', ']']).to_owned()),
    );
    names
}

/// A CA and what it signed, in PEM.
struct Pair {
    ca: String,
    ca_key: String,
    server: String,
    server_key: String,
}

impl Pair {
    fn generate(names: &BTreeSet<String>) -> Result<Self, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let mut ca = parameters("Rouse development CA", CA_DAYS);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(ca, ca_key)?;

        let server_key = KeyPair::generate()?;
        let mut server = parameters("Rouse development server", SERVER_DAYS);
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        server.use_authority_key_identifier_extension = true;
        for name in names {
            server
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into()?));
            if let Ok(address) = name.parse::<IpAddr>() {
                server.subject_alt_names.push(SanType::IpAddress(address));
            }
        }
        let server = server.signed_by(&server_key, &ca)?;
        Ok(Self {
            ca: ca.pem(),
            ca_key: ca.key().serialize_pem(),
            server: server.pem() + &ca.pem(),
            server_key: server_key.serialize_pem(),
        })
    }
}

fn parameters(name: &str, days: u32) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let now = UNIX_EPOCH + Duration::from_millis(Clock::unix_ms());
    // A phone whose clock is behind takes it too.
    parameters.not_before = (now - DAY).into();
    parameters.not_after = (now - DAY + DAY * days).into();
    parameters
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let what = || format!("cannot write {}", path.display());
    // Removed first: a file that is there keeps its mode when it is written over.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(what),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(what)?;
    file.write_all(text.as_bytes()).with_context(what)
}
