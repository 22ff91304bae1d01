//! Connections that we open toward Asterisk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rouse::io::transport::{Report, TransportLimits};
use rouse::proto::transaction::ClientId;
use rouse::proto::{Destination, Hop, Input, Transport};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::rig::{OPTIONS, Rig, Wanted, read, soon};
use crate::tls::certificate;

fn hop(transport: Transport, address: SocketAddr) -> Destination {
    Destination::Hop(Hop {
        transport,
        address,
        server_name: Some("localhost".into()),
    })
}

fn report(number: u32) -> Option<Report> {
    let transaction = ClientId {
        slot: number,
        nonce: 7,
    };
    Some(Report {
        shard: 0,
        transaction,
    })
}

async fn failed(rig: &mut Rig) -> u32 {
    match soon(rig.answers.recv()).await {
        Some(Input::SendFailed { transaction }) => transaction.slot,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_hop_is_connected_once_and_reused() {
    let mut rig = Rig::start(Wanted::default());
    let asterisk = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = hop(Transport::Tcp, asterisk.local_addr().unwrap());
    for _ in 0..3 {
        let message = Bytes::from_static(OPTIONS.as_bytes());
        rig.network.send(&to, message, report(1)).unwrap();
    }
    let (mut stream, _) = soon(asterisk.accept()).await.unwrap();
    read(&mut stream, OPTIONS.len() * 3).await;
    stream.write_all(OPTIONS.as_bytes()).await.unwrap();
    let (flow, _) = rig.message().await;
    assert_eq!(flow.remote, asterisk.local_addr().unwrap());
    rig.send(flow, "end");
    assert_eq!(read(&mut stream, 3).await, b"end");
    let second = tokio::time::timeout(Duration::from_millis(50), asterisk.accept());
    assert!(second.await.is_err());
}

#[tokio::test]
async fn a_refused_connection_fails_every_message_that_waits() {
    let mut rig = Rig::start(Wanted::default());
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = hop(Transport::Tcp, unused.local_addr().unwrap());
    drop(unused);
    for number in [1, 2] {
        let message = Bytes::from_static(OPTIONS.as_bytes());
        rig.network.send(&to, message, report(number)).unwrap();
    }
    assert_eq!(failed(&mut rig).await, 1);
    assert_eq!(failed(&mut rig).await, 2);
    assert_eq!(rig.counts.refused.connect.get(), 1);
}

#[tokio::test]
async fn a_request_that_asterisk_took_to_its_grave_has_failed() {
    let mut rig = Rig::start(Wanted::default());
    let asterisk = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = hop(Transport::Tcp, asterisk.local_addr().unwrap());
    let message = Bytes::from_static(OPTIONS.as_bytes());
    rig.network.send(&to, message.clone(), report(1)).unwrap();
    let (mut stream, _) = soon(asterisk.accept()).await.unwrap();
    read(&mut stream, OPTIONS.len()).await;
    drop(stream);
    assert_eq!(failed(&mut rig).await, 1);
    rig.network.send(&to, message, report(2)).unwrap();
    soon(asterisk.accept()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_connect_fails_in_time() {
    let limits = TransportLimits {
        connect: Duration::from_millis(100),
        ..TransportLimits::default()
    };
    let mut rig = Rig::start(Wanted {
        limits,
        ..Wanted::default()
    });
    // It accepts, but never says hello.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = hop(Transport::Tls, silent.local_addr().unwrap());
    let message = Bytes::from_static(OPTIONS.as_bytes());
    rig.network.send(&to, message, report(9)).unwrap();
    assert_eq!(failed(&mut rig).await, 9);
}

#[tokio::test]
async fn upstream_over_tls_must_show_a_certificate_that_we_trust() {
    let folder = TempDir::new().unwrap();
    let (files, der) = certificate(folder.path());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der], PrivateKeyDer::from_pem_file(&files.key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let asterisk = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = hop(Transport::Tls, asterisk.local_addr().unwrap());
    let message = Bytes::from_static(OPTIONS.as_bytes());

    let trusting = Rig::start(Wanted {
        upstream_ca: Some(&files.certificate),
        ..Wanted::default()
    });
    trusting
        .network
        .send(&to, message.clone(), report(1))
        .unwrap();
    let (stream, _) = soon(asterisk.accept()).await.unwrap();
    let mut stream = soon(acceptor.accept(stream)).await.unwrap();
    assert_eq!(read(&mut stream, OPTIONS.len()).await, OPTIONS.as_bytes());

    let mut strict = Rig::start(Wanted::default());
    strict.network.send(&to, message, report(2)).unwrap();
    let (stream, _) = soon(asterisk.accept()).await.unwrap();
    assert!(soon(acceptor.accept(stream)).await.is_err());
    assert_eq!(failed(&mut strict).await, 2);
}
