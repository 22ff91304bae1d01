//! One CA and one server certificate for the run, valid for `localhost`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::home;

/// The files, and the CA's text for those who verify.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

static CERTIFICATES: OnceLock<Certificates> = OnceLock::new();

/// Returns the run's certificates.
pub(crate) fn certificates() -> &'static Certificates {
    CERTIFICATES.get_or_init(|| {
        make(&home::directory("certificates"))
            .unwrap_or_else(|error| panic!("certificates: {error}"))
    })
}

fn make(directory: &Path) -> Result<Certificates, rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_certificate = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let server = CertificateParams::new(vec!["localhost".to_owned()])?;
    let certificate = server.signed_by(&key, &issuer)?;

    let files = Certificates {
        ca_pem: ca_certificate.pem(),
        certificate: directory.join("server.pem"),
        key: directory.join("server.key"),
    };
    home::write(&files.certificate, &certificate.pem());
    home::write(&files.key, &key.serialize_pem());
    Ok(files)
}
