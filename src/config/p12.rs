//! A client certificate as Apple's tools export it: PKCS #12, read into the PEM text that everything
//! else here works with.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use p12_keystore::{KeyStore, Pkcs12ImportPolicy};

use super::mistake::Wrong;

/// Bytes of a line of PEM.
const LINE: usize = 64;

/// Whether a file's name says that it is one.
pub(super) fn is_p12(path: &str) -> bool {
    let extension = Path::new(path).extension();
    extension.is_some_and(|ext| ext.eq_ignore_ascii_case("p12") || ext.eq_ignore_ascii_case("pfx"))
}

/// Reads certificate, chain and key, in PEM.
pub(super) fn read(path: &str, password: Option<&str>) -> Result<String, Wrong> {
    let bytes = std::fs::read(path).map_err(|error| {
        let cure = "correct the path, and let the user that runs rouse read it";
        Wrong::new(format!("cannot read \"{path}\" ({})", error.kind()), cure)
    })?;
    // Its own message may quote what it found.
    let store = KeyStore::from_pkcs12(
        &bytes,
        password.unwrap_or_default(),
        Pkcs12ImportPolicy::Strict,
    );
    let store = store.map_err(|_| {
        Wrong::new(
            format!("\"{path}\" is no PKCS #12 file, or has another password"),
            "set certificate_password_file to a file with the password it was exported with",
        )
    })?;
    let Some((_, chain)) = store.private_key_chain() else {
        return Err(Wrong::new(
            format!("\"{path}\" has no private key with its certificate"),
            "export the certificate together with its key: in Keychain Access, both selected",
        ));
    };
    let mut pem = String::new();
    for certificate in chain.certs() {
        write(&mut pem, "CERTIFICATE", certificate.as_der());
    }
    write(&mut pem, "PRIVATE KEY", chain.key().as_der());
    Ok(pem)
}

fn write(pem: &mut String, label: &str, der: &[u8]) {
    pem.push_str(&format!("-----BEGIN {label}-----\n"));
    let text = BASE64_STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
}
