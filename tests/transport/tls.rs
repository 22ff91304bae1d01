//! TLS: handshake, limits, a certificate that changes under us.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rouse::io::transport::{BindError, TlsFiles, TransportConfig, TransportLimits, bind};
use rouse::proto::Transport;
use rouse::proto::sip::FrameLimits;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::rig::{OPTIONS, Rig, Wanted, read, read_to_end, soon};

/// Writes a new certificate for `localhost` and returns it.
pub(crate) fn certificate(folder: &Path) -> (TlsFiles, CertificateDer<'static>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let files = TlsFiles {
        certificate: folder.join("server.pem"),
        key: folder.join("server.key"),
    };
    std::fs::write(&files.certificate, cert.pem()).unwrap();
    std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    (files, cert.der().clone())
}

fn rig(files: &TlsFiles, limits: TransportLimits) -> Rig {
    Rig::start(Wanted {
        listeners: &[(Transport::Tls, "127.0.0.1:0")],
        tls: Some(files.clone()),
        limits,
        ..Wanted::default()
    })
}

pub(crate) async fn connect(
    rig: &Rig,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(rig.addresses[0]).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    soon(connector.connect(name, stream)).await
}

#[tokio::test]
async fn messages_go_both_ways_over_tls() {
    let folder = TempDir::new().unwrap();
    let (files, trusted) = certificate(folder.path());
    let mut rig = rig(&files, TransportLimits::default());
    let mut phone = connect(&rig, &trusted).await.unwrap();
    phone.write_all(OPTIONS.as_bytes()).await.unwrap();
    phone.flush().await.unwrap();
    let (flow, message) = rig.message().await;
    assert_eq!(flow.transport, Transport::Tls);
    assert_eq!(message, OPTIONS.as_bytes());
    rig.send(flow, "SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(read(&mut phone, 18).await, b"SIP/2.0 200 OK\r\n\r\n");
    assert_eq!(rig.counts.open_tls.get(), 1);
    rig.network.close(flow.id);
    assert_eq!(read_to_end(&mut phone).await, b"");
}

#[tokio::test]
async fn a_changed_certificate_is_used_and_a_broken_one_is_not() {
    let folder = TempDir::new().unwrap();
    let (files, old) = certificate(folder.path());
    let limits = TransportLimits {
        certificate_poll: Duration::from_millis(20),
        ..TransportLimits::default()
    };
    let rig = rig(&files, limits);
    connect(&rig, &old).await.unwrap();

    std::fs::write(&files.certificate, "not a certificate").unwrap();
    wait_for(|| rig.counts.certificate_errors.get() > 0).await;
    connect(&rig, &old).await.unwrap();

    let (_, new) = certificate(folder.path());
    wait_for(|| rig.counts.certificate_loads.get() > 0).await;
    connect(&rig, &new).await.unwrap();
    assert!(connect(&rig, &old).await.is_err());
}

#[tokio::test]
async fn a_slow_handshake_is_cut_off() {
    let folder = TempDir::new().unwrap();
    let (files, _) = certificate(folder.path());
    let limits = TransportLimits {
        handshake: Duration::from_millis(100),
        ..TransportLimits::default()
    };
    let rig = rig(&files, limits);
    let mut phone = TcpStream::connect(rig.addresses[0]).await.unwrap();
    phone.write_all(&[22, 3, 1]).await.unwrap();
    assert_eq!(read_to_end(&mut phone).await, b"");
    assert_eq!(rig.counts.refused.handshake.get(), 1);
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_at_start() {
    let folder = TempDir::new().unwrap();
    let (files, _) = certificate(folder.path());
    let other = TempDir::new().unwrap();
    let (others, _) = certificate(other.path());
    let config = TransportConfig {
        listeners: vec![(Transport::Tls, "127.0.0.1:0".parse().unwrap())],
        tls: Some(TlsFiles {
            key: others.key,
            ..files
        }),
        upstream_ca: None,
        frames: FrameLimits {
            message_bytes: 65_536,
            headers: 128,
        },
        first_connection: 0,
        limits: TransportLimits::default(),
    };
    assert!(matches!(bind(config), Err(BindError::Tls(_))));
}

async fn wait_for(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
