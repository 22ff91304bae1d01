//! One CA for the run; a server certificate for `localhost`, and one for each Asterisk's address.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::home;

/// The files, and the CA's text for those who verify.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
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
    // A name of its own: OpenSSL takes a certificate for self-signed whose names are the same.
    ca.distinguished_name
        .push(DnType::CommonName, "CA of the live tests");
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
        ca: directory.join("ca.pem"),
        issuer,
        certificate: directory.join("server.pem"),
        key: directory.join("server.key"),
    };
    home::write(&files.ca, &files.ca_pem);
    home::write(&files.certificate, &certificate.pem());
    home::write(&files.key, &key.serialize_pem());
    Ok(files)
}

impl Certificates {
    /// Makes a certificate for an address, and returns it with its key behind it, as chan_sip wants
    /// them: in one text.
    pub(crate) fn for_address(&self, address: IpAddr) -> String {
        let made = KeyPair::generate().and_then(|key| {
            let server = CertificateParams::new(vec![address.to_string()])?;
            let certificate = server.signed_by(&key, &self.issuer)?;
            Ok(certificate.pem() + &key.serialize_pem())
        });
        made.unwrap_or_else(|error| panic!("a certificate for {address}: {error}"))
    }
}
