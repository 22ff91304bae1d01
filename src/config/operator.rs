//! `[admin]`, `[calls]`, `[hep]`, `[otlp]`: what an operator may ask, how much is remembered for that,
//! and who gets a copy of every message, or of every call.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Uri};

use super::mistake::Wrong;
use super::read::Section;
use super::tuning::secret;
use super::{AdminConfig, CallsConfig, HepConfig, OtlpConfig, Secret, value};

/// Reads `[admin]`.
pub(super) fn admin(section: Section<'_>) -> Option<AdminConfig> {
    let is_present = section.is_present();
    let address =
        is_present.then(|| section.required("address", "add address = \"127.0.0.1:8060\""));
    let written = secret(&section, "token_file", "token");
    let has_token = written.is_some();
    let certificate = section.text("certificate");
    let key = section.text("key");
    let address = address
        .flatten()
        .and_then(|text| section.parsed(&text, |text| allowed(text, has_token)));
    let token = written.and_then(|(place, token)| {
        let token = token.trim().to_owned();
        if token.len() >= 16 {
            return Some(Secret::new(token));
        }
        let cure = "put at least 16 characters into it, for example from: openssl rand -hex 32";
        section.wrong(
            &place.place,
            Wrong::new("the admin token is too short", cure),
        );
        None
    });
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate.text.into(), key.text.into())),
        (Some(one), None) | (None, Some(one)) => {
            let wrong = Wrong::new(
                "[admin] has only one of `certificate` and `key`",
                "add the other",
            );
            section.wrong(&one.place, wrong);
            None
        }
        (None, None) => None,
    };
    section.finish();
    address.map(|address| AdminConfig {
        address,
        token,
        tls,
    })
}

/// Reads an address; one that other machines reach needs a token.
fn allowed(text: &str, has_token: bool) -> Result<SocketAddr, Wrong> {
    let address = value::socket_address(text)?;
    if has_token || address.ip().is_loopback() {
        return Ok(address);
    }
    let what =
        format!("[admin] {address} can be reached from other machines, and there is no token");
    let cure = "add token_file = \"certs/admin.token\", or take 127.0.0.1";
    Err(Wrong::new(what, cure))
}

/// Reads `[hep]`.
pub(super) fn hep(section: Section<'_>) -> Option<HepConfig> {
    let is_present = section.is_present();
    let cure = "add collector = \"homer.example.com:9060\"";
    let collector = is_present.then(|| section.required("collector", cure));
    let collector = collector.flatten().and_then(|text| {
        section.parsed(&text, |text| {
            let port = text
                .rsplit_once(':')
                .map(|(host, port)| (host, port.parse::<u16>()));
            match port {
                Some((host, Ok(1..))) if !host.is_empty() => Ok(text.to_owned()),
                Some(_) | None => Err(Wrong::new(format!("\"{text}\" is no HOST:PORT"), cure)),
            }
        })
    });
    let hep = HepConfig {
        collector: collector.clone().unwrap_or_default(),
        node: section.integer("node", 2001, 0..=u32::MAX),
        password: secret(&section, "password_file", "password")
            .map(|(_, password)| Secret::new(password.trim().to_owned())),
        secrets: section.flag("secrets", false),
    };
    section.finish();
    collector.map(|_| hep)
}

/// Reads `[otlp]`.
pub(super) fn otlp(section: Section<'_>) -> Option<OtlpConfig> {
    const CURE: &str = "add endpoint = \"http://127.0.0.1:4318\"";
    let endpoint = section
        .is_present()
        .then(|| section.required("endpoint", CURE))
        .flatten();
    if let Some(text) = endpoint.as_ref().filter(|_| !cfg!(feature = "otlp")) {
        let what = "this rouse was built without [otlp]";
        let cure = "remove the section, or build with: cargo build --release --features otlp";
        section.wrong(&text.place, Wrong::new(what, cure));
    }
    let url = endpoint.and_then(|text| {
        section.parsed(&text, |text| {
            collector(text).ok_or_else(|| {
                Wrong::new(
                    format!("\"{text}\" is no http:// or https:// address"),
                    CURE,
                )
            })
        })
    });
    let header = secret(&section, "header_file", "header").and_then(|(place, text)| {
        let parsed = header(text.trim());
        if parsed.is_none() {
            let cure = "write one line: Authorization: Bearer TOKEN";
            section.wrong(&place.place, Wrong::new("it has no header", cure));
        }
        parsed.map(Secret::new)
    });
    let numbers = section.flag("numbers", false);
    section.finish();
    url.map(|url| OtlpConfig {
        url,
        header,
        numbers,
    })
}

/// Where traces are posted to, below the collector's address; a path that is given is taken as it is.
fn collector(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    if !is_web || uri.host().is_none_or(str::is_empty) {
        return None;
    }
    if uri.path() != "/" {
        return Some(uri);
    }
    format!("{}/v1/traces", text.trim_end_matches('/'))
        .parse()
        .ok() // no address with a query of its own
}

fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name = name.trim().parse().ok()?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// Reads `[calls]`.
pub(super) fn calls(section: Section<'_>) -> CallsConfig {
    let calls = CallsConfig {
        calls: section.integer("keep", 1_000, 0..=1_000_000),
        bytes: section.integer("bytes", 16_777_216, 65_536..=17_179_869_184),
        notes: section.integer("device_notes", 16_384, 0..=10_000_000),
        file: section.text("file").map(|text| text.text.into()),
    };
    section.finish();
    calls
}
