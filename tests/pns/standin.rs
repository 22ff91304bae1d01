//! The stand-in for APNs refuses what Apple refuses, in Apple's order and words: otherwise a test
//! that passes against it says nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rouse::io::pns::WallClock;
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::token;

/// What the stand-in takes the time to be.
const NOW: u64 = 1_700_000_000;

/// A client that says what it is told to.
struct Raw {
    apple: ApnsStandin,
    sender: http2::SendRequest<Full<Bytes>>,
}

impl Raw {
    async fn connect() -> Self {
        let apple = ApnsStandin::start(ApnsStandinConfig {
            clock: WallClock::new(|| NOW),
            ..ApnsStandinConfig::default()
        })
        .await
        .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(apple.ca_pem().as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(apple.addr()).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(tls))
            .connect(ServerName::try_from("localhost").unwrap(), stream)
            .await
            .unwrap();
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { apple, sender }
    }

    /// A request that is as it should be.
    fn good(&self) -> Request<Full<Bytes>> {
        let jwt = self.jwt("ABCDE12345", "KEY1234567", NOW - 60);
        Request::post(format!("https://localhost/3/device/{}", token(1)))
            .header("authorization", format!("bearer {jwt}"))
            .header("apns-id", "eabeae54-14a8-11e5-b60b-1697f925ec7b")
            .header("apns-topic", "com.example.app.voip")
            .header("apns-push-type", "voip")
            .header("apns-priority", "10")
            .header("apns-expiration", "1700000025")
            .body(Full::new(Bytes::from_static(br#"{"aps":{}}"#)))
            .unwrap()
    }

    fn jwt(&self, team: &str, key_id: &str, iat: u64) -> String {
        let key = EncodingKey::from_ec_pem(self.apple.p8_pem().as_bytes()).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(key_id.to_owned());
        jsonwebtoken::encode(&header, &json!({"iss": team, "iat": iat}), &key).unwrap()
    }

    /// Sends a request and returns status and reason.
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> (u16, String) {
        let response = self.sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        (
            status,
            body.get("reason")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        )
    }

    /// Sends a good request with other headers; an empty value leaves one out.
    async fn with_headers(&mut self, headers: &[(&'static str, &str)]) -> (u16, String) {
        let mut request = self.good();
        for (name, value) in headers {
            request.headers_mut().remove(*name);
            if !value.is_empty() {
                request.headers_mut().append(*name, value.parse().unwrap());
            }
        }
        self.ask(request).await
    }
}

#[tokio::test]
async fn headers_are_refused_in_apples_words() {
    let mut raw = Raw::connect().await;
    let good = raw.good();
    assert_eq!(raw.ask(good).await, (200, String::new()));
    let long = "x".repeat(65);
    let rows: [(&[(&'static str, &str)], &str); 16] = [
        (&[("apns-id", "not-a-uuid")], "400 BadMessageId"),
        (&[("apns-topic", "")], "400 MissingTopic"),
        (&[("apns-collapse-id", &long)], "400 BadCollapseId"),
        (&[("apns-priority", "7")], "400 BadPriority"),
        (&[("apns-push-type", "")], "400 InvalidPushType"),
        (&[("apns-push-type", "loud")], "400 InvalidPushType"),
        (&[("apns-push-type", "alert")], "400 BadTopic"),
        (&[("apns-topic", "com.example.app")], "400 BadTopic"),
        (
            &[
                ("apns-topic", "com.example.app"),
                ("apns-push-type", "background"),
            ],
            "400 BadPriority",
        ),
        (&[("apns-expiration", "soon")], "400 BadExpirationDate"),
        (
            &[("apns-topic", "com.example.other.voip")],
            "400 TopicDisallowed",
        ),
        (&[("authorization", "")], "403 MissingProviderToken"),
        (
            &[("authorization", "bearer nonsense")],
            "403 InvalidProviderToken",
        ),
        (&[("authorization", "nonsense")], "403 InvalidProviderToken"),
        // The first fault in Apple's order is the one that is told.
        (
            &[("apns-priority", "7"), ("authorization", "")],
            "400 BadPriority",
        ),
        (
            &[("apns-topic", ""), ("apns-priority", "7")],
            "400 MissingTopic",
        ),
    ];
    for (headers, expected) in rows {
        let (status, reason) = raw.with_headers(headers).await;
        assert_eq!(format!("{status} {reason}"), expected, "{headers:?}");
    }
    let mut twice = raw.good();
    twice
        .headers_mut()
        .append("apns-priority", "10".parse().unwrap());
    let answer = raw.ask(twice).await;
    assert_eq!(answer, (400, "DuplicateHeaders".to_owned()));
    assert_eq!(raw.apple.accepted().len(), 1);
}

#[tokio::test]
async fn paths_methods_and_bodies_are_refused_in_apples_words() {
    let mut raw = Raw::connect().await;
    let zeros = "0".repeat(64);
    for (path, status, reason) in [
        ("/4/device/aa", 404, "BadPath"),
        ("/3/device/", 400, "MissingDeviceToken"),
        ("/3/device/xyz", 400, "BadDeviceToken"),
        (&format!("/3/device/{zeros}"), 400, "BadDeviceToken"),
    ] {
        let mut request = raw.good();
        *request.uri_mut() = format!("https://localhost{path}").parse().unwrap();
        assert_eq!(
            raw.ask(request).await,
            (status, reason.to_owned()),
            "{path}"
        );
    }
    let mut get = raw.good();
    *get.method_mut() = Method::GET;
    assert_eq!(raw.ask(get).await, (405, "MethodNotAllowed".to_owned()));
    for (length, status, reason) in [
        (0, 400, "PayloadEmpty"),
        (5120, 200, ""),
        (5121, 413, "PayloadTooLarge"),
    ] {
        let mut body = br#"{"aps":{}}"#.to_vec();
        body.resize(length, b' ');
        let request = raw.good().map(|_| Full::new(Bytes::from(body)));
        assert_eq!(
            raw.ask(request).await,
            (status, reason.to_owned()),
            "{length}"
        );
    }
}

#[tokio::test]
async fn provider_tokens_are_judged_by_key_team_and_date() {
    let mut raw = Raw::connect().await;
    let rows = [
        ("ABCDE12345", "KEY1234567", NOW - 1800, 200, ""),
        (
            "ABCDE12345",
            "ANOTHERKEY",
            NOW - 1800,
            403,
            "InvalidProviderToken",
        ),
        (
            "OTHER12345",
            "KEY1234567",
            NOW - 1800,
            403,
            "InvalidProviderToken",
        ),
        (
            "ABCDE12345",
            "KEY1234567",
            NOW + 3600,
            403,
            "InvalidProviderToken",
        ),
        (
            "ABCDE12345",
            "KEY1234567",
            NOW - 1799,
            429,
            "TooManyProviderTokenUpdates",
        ),
        (
            "ABCDE12345",
            "KEY1234567",
            NOW - 601,
            429,
            "TooManyProviderTokenUpdates",
        ),
        ("ABCDE12345", "KEY1234567", NOW - 600, 200, ""),
        (
            "ABCDE12345",
            "KEY1234567",
            NOW - 3601,
            403,
            "ExpiredProviderToken",
        ),
        // Whoever was told that a token expired may come with another at once.
        ("ABCDE12345", "KEY1234567", NOW, 200, ""),
        (
            "ABCDE12345",
            "KEY1234567",
            NOW - 1,
            429,
            "TooManyProviderTokenUpdates",
        ),
    ];
    for (team, key, iat, status, reason) in rows {
        let bearer = format!("bearer {}", raw.jwt(team, key, iat));
        let answer = raw.with_headers(&[("authorization", &bearer)]).await;
        assert_eq!(answer, (status, reason.to_owned()), "{team} {key} {iat}");
    }
    assert_eq!(raw.apple.provider_tokens(), [NOW - 1800, NOW - 600, NOW]);
}
