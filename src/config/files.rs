//! The files that a configuration names: read, and looked at closely enough that a wrong one is
//! found at start and not with the first call.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::EncodingKey;
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::mistake::Wrong;
use super::secret::Secret;
use crate::proto::digest::Secrets;

const NO_CERTIFICATE: &str = "run `rouse certs` for development certificates, or correct the path";

/// Reads a text file.
pub(super) fn read(path: &str) -> Result<String, Wrong> {
    let missing = "correct the path (it counts from the folder that rouse is started in)";
    read_or(path, missing)
}

/// Reads a text file; `missing` is the cure when there is none.
fn read_or(path: &str, missing: &str) -> Result<String, Wrong> {
    std::fs::read_to_string(Path::new(path)).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            return Wrong::new(format!("there is no file \"{path}\""), missing);
        }
        let cure = if error.kind() == ErrorKind::PermissionDenied {
            "let the user that runs rouse read it"
        } else {
            "make it a readable text file (PEM or JSON, not DER)"
        };
        Wrong::new(format!("cannot read \"{path}\" ({})", error.kind()), cure)
    })
}

/// Reads a PEM file of certificates.
pub(super) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, Wrong> {
    let text = read_or(path, NO_CERTIFICATE)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match list {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) | Err(_) => Err(Wrong::new(
            format!("\"{path}\" has no certificate"),
            "give a PEM file with -----BEGIN CERTIFICATE-----",
        )),
    }
}

/// Reads a PEM file with a private key.
pub(super) fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, Wrong> {
    let text = read_or(path, NO_CERTIFICATE)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| {
        Wrong::new(
            format!("\"{path}\" has no private key"),
            "give a PEM file with -----BEGIN PRIVATE KEY-----, without a passphrase",
        )
    })
}

/// Whether a private key belongs to a certificate.
pub(super) fn key_fits(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), Wrong> {
    match CertifiedKey::from_der(chain, key, &provider::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(Wrong::new(
            "the private key does not belong to the certificate",
            "give the two files that were made together",
        )),
        Err(error) => Err(Wrong::new(
            format!("the certificate and its key are of no use ({error})"),
            "give an RSA, ECDSA (P-256, P-384) or Ed25519 certificate and its key",
        )),
    }
}

/// Takes a PEM text as a P-256 key, as Apple issues them.
pub(super) fn p256_key(pem: String) -> Result<Secret<String>, Wrong> {
    let wrong = |what: &str| {
        Wrong::new(
            what,
            "give the AuthKey_….p8 as Apple issued it (PEM, PKCS #8, P-256)",
        )
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| wrong("the key is no PEM text with a private key"))?;
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
        .map_err(|_| wrong("the key is no P-256 key"))?;
    Ok(Secret::new(pem))
}

/// Takes a PEM text as a client certificate with its key.
pub(super) fn client_certificate(pem: String) -> Result<Secret<String>, Wrong> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    match (chain, key) {
        (Ok(chain), Ok(key)) if !chain.is_empty() => {
            key_fits(chain, key)?;
            Ok(Secret::new(pem))
        }
        (_, _) => Err(Wrong::new(
            "the file has not both a certificate and its private key",
            "put both into one PEM file, or give the .p12 as it was exported",
        )),
    }
}

/// Reads a file of agents' hashed passwords; a mistake names a line and quotes nothing.
pub(super) fn secrets(path: &str) -> Result<Secrets, Wrong> {
    let text = read(path)?;
    Secrets::read(&text).map_err(|line| {
        Wrong::new(
            format!("line {line} of \"{path}\" is no user:realm:HA1"),
            "write user:realm:HA1 for MD5, user:realm:SHA-256:HA1 for SHA-256, as `htdigest` does; \
             never the password itself",
        )
    })
}

/// Whether users other than its owner's group can read a file.
pub(super) fn is_open_to_all(path: &str) -> bool {
    // dropped: a file that is not there was reported by who read it.
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
}

/// Takes a JSON text as a Google service account.
pub(super) fn service_account(json: String) -> Result<Secret<String>, Wrong> {
    let wrong = |what: String| {
        let cure = "give the service account's JSON from the Firebase console, as it is";
        Wrong::new(what, cure)
    };
    // serde_json's message quotes nothing of the text; its line and column are the file's.
    let account: serde_json::Value = serde_json::from_str(&json)
        .map_err(|error| wrong(format!("the service account is no JSON ({error})")))?;
    for field in ["client_email", "private_key", "token_uri"] {
        let present = account.get(field).and_then(|value| value.as_str());
        if present.is_none_or(str::is_empty) {
            return Err(wrong(format!("the service account has no `{field}`")));
        }
    }
    let key = account.get("private_key").and_then(|value| value.as_str());
    if EncodingKey::from_rsa_pem(key.unwrap_or_default().as_bytes()).is_err() {
        let what = "the service account's `private_key` is no RSA key in PEM";
        return Err(wrong(what.to_owned()));
    }
    Ok(Secret::new(json))
}
