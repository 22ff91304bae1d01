//! `rouse check`: everything that can be known to be wrong before the first call.

use std::fmt::Display;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::cli::{ConfigArgs, Exit, fail, load, output, reach, runtime};
use crate::config::{ApnsCredential, Config};
use crate::io::clock::Clock;

/// A certificate that ends within this time is worth a word.
const SOON: i64 = 14 * 86_400;

/// Looks at a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Ask nobody: neither Asterisk nor the push services.
    #[arg(long)]
    offline: bool,
    /// Ask only whether the gateway of this configuration runs here and answers: exit code 0 or 1.
    #[arg(long, conflicts_with = "offline")]
    alive: bool,
}

/// Runs `rouse check`.
pub(super) fn run(arguments: &CheckArgs) -> Exit {
    let config = match load(&arguments.config.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if arguments.alive {
        return match reach::alive(&config) {
            Ok(answer) => {
                output::line(answer);
                Exit::Done
            }
            Err(problem) => fail(&anyhow::Error::msg(problem)),
        };
    }
    let mut report = Report::default();
    report.ok("config", arguments.config.config.display());
    if let Some(web) = &config.push.webpush {
        let key = format!(
            "browsers subscribe with applicationServerKey {}",
            web.public_key
        );
        report.ok("push.webpush", key);
    }
    for warning in &config.warnings {
        report.warn("config", warning);
    }
    for listener in &config.settings.listeners {
        let (label, address) = (listener.transport.label(), listener.address);
        let (host, port) = (&listener.advertise_host, listener.advertise_port);
        report.ok(
            "listen",
            format!("{label} {address}, known as {host}:{port}"),
        );
    }
    certificates(&config, &mut report);
    if !arguments.offline {
        match runtime() {
            Ok(runtime) => {
                reach::upstreams(&config, &runtime, &mut report);
                reach::push_services(&config, &runtime, &mut report);
            }
            Err(error) => return fail(&error),
        }
    }
    report.end()
}

/// What has been looked at: one line each.
#[derive(Debug, Default)]
pub(super) struct Report {
    failures: usize,
}

impl Report {
    /// Something is as it should be.
    pub(super) fn ok(&mut self, subject: &str, text: impl Display) {
        output::line(format!("ok    {subject:<9} {text}"));
    }

    /// Something works and deserves a look.
    pub(super) fn warn(&mut self, subject: &str, text: impl Display) {
        output::line(format!("warn  {subject:<9} {text}"));
    }

    /// Something will not work.
    pub(super) fn fail(&mut self, subject: &str, text: impl Display) {
        self.failures += 1;
        output::line(format!("FAIL  {subject:<9} {text}"));
    }

    fn end(self) -> Exit {
        if self.failures == 0 {
            return Exit::Done;
        }
        let s = if self.failures == 1 { "" } else { "s" };
        output::complain(format!("{} problem{s} found", self.failures));
        Exit::Configuration
    }
}

fn certificates(config: &Config, report: &mut Report) {
    if let Some(tls) = &config.tls {
        let path = tls.certificate.display().to_string();
        match std::fs::read(&tls.certificate) {
            Ok(pem) => chain(report, "tls", &path, &pem),
            Err(error) => report.fail("tls", format!("cannot read {path}: {error}")),
        }
    }
    for apns in &config.push.apns {
        match &apns.credential {
            ApnsCredential::Certificate(pem) => {
                chain(report, "apns", &apns.name, pem.expose().as_bytes());
            }
            ApnsCredential::Token { .. } => {}
        }
    }
}

/// Says of each certificate of a chain how long it lasts.
fn chain(report: &mut Report, subject: &str, what: &str, pem: &[u8]) {
    for (index, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
        // The configuration has been read: a file that is broken has changed since.
        let Ok(der) = der else {
            return report.fail(subject, format!("{what}: not PEM"));
        };
        let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
            return report.fail(subject, format!("{what}: not a certificate"));
        };
        let names = if index == 0 {
            names(&certificate)
        } else {
            certificate.subject().to_string()
        };
        let validity = certificate.validity();
        let now = i64::try_from(Clock::unix_ms() / 1000).unwrap_or(i64::MAX);
        let (begin, end) = (validity.not_before, validity.not_after);
        let (subject_name, until) = (format!("{what}: {names}"), format!("until {end}"));
        if now < begin.timestamp() {
            report.fail(
                subject,
                format!("{subject_name}: not valid before {begin}: is the clock right?"),
            );
        } else if now > end.timestamp() {
            let text = format!("{subject_name}: ended {end}: get a new certificate");
            report.fail(subject, text);
        } else if now + SOON > end.timestamp() {
            report.warn(subject, format!("{subject_name}: only {until}"));
        } else {
            report.ok(subject, format!("{subject_name}, {until}"));
        }
    }
}

/// The names that a certificate is for, each once.
fn names(certificate: &X509Certificate<'_>) -> String {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return format!("no names ({})", certificate.subject());
    };
    let mut names: Vec<String> = Vec::new();
    for name in &extension.value.general_names {
        // An address that stands there as a DNS name too is shown once.
        if let GeneralName::DNSName(dns) = name {
            names.push((*dns).to_owned());
        }
    }
    if names.is_empty() {
        format!("addresses only ({})", certificate.subject())
    } else {
        names.join(", ")
    }
}
