//! The connection: whom it trusts, how it is lost and won back, how much it carries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rouse::config::{ApnsEnvironment, Secret};
use rouse::io::pns::PushService;
use rouse::proto::push::{Notice, Pns, PushError};
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::push::{Act, Outcome};
use tokio::task::JoinSet;

use crate::support::{
    AppleRig, GoogleRig, Relay, call, only_apns, only_fcm, to_apns, to_fcm, token,
};

#[tokio::test]
async fn a_server_that_is_not_ours_to_trust_learns_nothing() {
    let (mut rig, other) = (AppleRig::new().await, AppleRig::new().await);
    for (ca_file, server_name) in [
        (other.config.ca_file.clone(), None),
        (None, None),
        (rig.config.ca_file.clone(), Some("api.push.apple.com")),
    ] {
        let mut config = rig.config.clone();
        config.ca_file = ca_file;
        config.server_name = server_name.map(str::to_owned);
        rig.service = PushService::new(only_apns(config)).unwrap();
        let error = rig.call(&token(1)).await.unwrap_err();
        assert_eq!(error.label(), "unavailable");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    // A connection is counted when its handshake is complete: nothing was written after it.
    assert_eq!(rig.apple.connections(), 0);
    assert_eq!(rig.apple.requests(), 0);
}

#[tokio::test]
async fn the_name_in_sni_and_certificate_can_be_another_than_the_urls() {
    let mut rig = AppleRig::new().await;
    rig.config.server_name = Some("push.test".to_owned());
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    rig.call(&token(1)).await.unwrap();
}

#[tokio::test]
async fn a_call_tries_to_connect_while_a_refresh_waits_for_better_times() {
    let mut rig = AppleRig::new().await;
    let mut relay = Relay::start(rig.apple.addr()).await;
    rig.config.url = format!("https://{}", relay.address);
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    rig.call(&token(1)).await.unwrap();
    relay.leave().await;
    let error = rig.call(&token(1)).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    let failures = rig.service.counters().connect_failures;
    assert!((1..=2).contains(&failures), "{failures}");
    let refresh = to_apns(&token(1), Notice::Refresh);
    let error = rig.service.send(refresh).await.unwrap_err();
    let PushError::Unavailable { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert!(retry_after.is_some());
    assert_eq!(rig.service.counters().connect_failures, failures);
    relay.come_back().await;
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.accepted().len(), 2);
}

#[tokio::test]
async fn a_thousand_calls_to_an_absent_service_share_their_attempts() {
    let mut rig = AppleRig::new().await;
    let mut relay = Relay::start(rig.apple.addr()).await;
    relay.leave().await;
    rig.config.url = format!("https://{}", relay.address);
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    let mut pushes = JoinSet::new();
    for _ in 0..1000 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_apns(&token(1), Notice::Call(call()))).await });
    }
    assert!(pushes.join_all().await.iter().all(Result::is_err));
    let failures = rig.service.counters().connect_failures;
    assert!(failures <= 20, "{failures} attempts for 1000 pushes");
}

#[tokio::test]
async fn a_warm_connection_is_there_before_the_first_push_and_comes_back_by_itself() {
    let rig = AppleRig::new().await;
    rig.service.warm().await;
    connections(&rig, 1).await;
    rig.apple.script(None, Act::GoAwayAfter);
    rig.call(&token(1)).await.unwrap();
    connections(&rig, 2).await;
    assert_eq!(rig.apple.requests(), 1);
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_service_allows() {
    let rig = AppleRig::with(ApnsStandinConfig {
        max_streams: 8,
        ..ApnsStandinConfig::default()
    })
    .await;
    let slow = Outcome {
        delay: Duration::from_millis(10),
        ..Outcome::default()
    };
    rig.apple.always(None, Some(slow));
    let mut pushes = JoinSet::new();
    for _ in 0..100 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_apns(&token(1), Notice::Call(call()))).await });
    }
    assert!(pushes.join_all().await.iter().all(Result::is_ok));
    assert!(rig.apple.most_streams() <= 8);
    assert_eq!(rig.apple.requests(), 100, "none was refused and sent again");
}

#[tokio::test]
async fn pushes_beyond_the_bound_are_refused_and_counted() {
    let rig = AppleRig::new().await;
    rig.apple.always(None, Some(Act::Silence.into()));
    let mut pushes = JoinSet::new();
    for _ in 0..4100 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_apns(&token(1), Notice::Call(call()))).await });
    }
    for _ in 0..4 {
        let error = pushes.join_next().await.unwrap().unwrap().unwrap_err();
        assert!(error.to_string().contains("too many"), "{error}");
    }
    assert_eq!(rig.service.counters().refused, 4);
}

#[tokio::test]
async fn each_environment_has_its_entry() {
    let mut rig = AppleRig::new().await;
    let mut push = to_apns(&token(1), Notice::Refresh);
    push.target.pns = Pns::ApnsSandbox;
    let elsewhere = rig.service.send(push.clone()).await.unwrap_err();
    assert_eq!(elsewhere.label(), "not-configured");
    rig.config.environment = ApnsEnvironment::Sandbox;
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    rig.service.send(push.clone()).await.unwrap();
    push.target.pns = Pns::Apns;
    let elsewhere = rig.service.send(push.clone()).await.unwrap_err();
    assert_eq!(elsewhere.label(), "not-configured");
    push.target.app = "com.example.unknown".into();
    push.target.pns = Pns::ApnsSandbox;
    let elsewhere = rig.service.send(push).await.unwrap_err();
    assert_eq!(elsewhere.label(), "not-configured");
}

#[tokio::test]
async fn a_dry_run_tries_credentials_and_pushes_nobody() {
    let (mut apple, google) = (AppleRig::new().await, GoogleRig::new().await);
    let mut config = only_apns(apple.config.clone());
    config.fcm = only_fcm(google.config.clone()).fcm;
    let verdicts = PushService::new(config).unwrap().check().await;
    assert_eq!(verdicts.len(), 2);
    for (name, verdict) in verdicts {
        assert!(verdict.unwrap().contains("takes our credentials"), "{name}");
    }
    assert!(apple.apple.accepted().is_empty());
    assert!(google.google.accepted().is_empty());

    apple.apple = ApnsStandin::start(ApnsStandinConfig {
        key_id: "ANOTHERKEY".to_owned(),
        ..ApnsStandinConfig::default()
    })
    .await
    .unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let mut config = apple.apple.client_config(folder.path()).unwrap();
    config.credential = apple.config.credential.clone();
    let verdicts = PushService::new(only_apns(config)).unwrap().check().await;
    let why = verdicts[0].1.clone().unwrap_err();
    assert!(why.contains("InvalidProviderToken"), "{why}");
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_at_start_with_its_name_and_cure() {
    let (apple, google) = (AppleRig::new().await, GoogleRig::new().await);
    let refused = |config| PushService::new(config).unwrap_err().to_string();

    let mut config = only_apns(apple.config.clone());
    config.apns[0].ca_file = Some("/nonexistent/ca.pem".into());
    let text = refused(config);
    assert!(
        text.contains("standin") && text.contains("/nonexistent/ca.pem"),
        "{text}"
    );

    let mut config = only_apns(apple.config);
    config.apns[0].credential = rouse::config::ApnsCredential::Token {
        team_id: "T".to_owned(),
        key_id: "K".to_owned(),
        key: Secret::new("hunter2".to_owned()),
    };
    let text = refused(config);
    assert!(text.contains("key_file") && text.contains(".p8"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    for (account, word) in [
        ("hunter2", "no JSON"),
        (r#"{"private_key":"hunter2"}"#, "client_email"),
        (
            r#"{"client_email":"a","private_key":"hunter2","token_uri":"https://x"}"#,
            "RSA",
        ),
    ] {
        let mut config = only_fcm(google.config.clone());
        config.fcm[0].service_account = Secret::new(account.to_owned());
        let text = refused(config);
        assert!(
            text.contains("service_account_file") && text.contains(word),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn no_key_token_or_number_is_printed_at_any_level() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace")
        .with_writer({
            let log = log.clone();
            move || log.clone()
        })
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let (apple, google) = (AppleRig::new().await, GoogleRig::new().await);
    let mut config = only_apns(apple.config.clone());
    config.fcm = only_fcm(google.config.clone()).fcm;
    let mut printed = format!("{config:?}");
    let service = PushService::new(config).unwrap();
    apple.apple.script(None, Act::DropBefore);
    google.google.script(None, Act::DropBefore);
    let fcm_token = "secretregistrationtoken:APA91b";
    for (push, fault) in [
        (to_apns(&token(0xab), Notice::Call(call())), "Unregistered"),
        (to_fcm(fcm_token, Notice::Call(call())), "UNREGISTERED"),
    ] {
        printed += &format!("{:?}{:?}", push.target, service.send(push.clone()).await);
        apple.apple.script(None, Act::refuse(410, fault));
        google.google.script(None, Act::refuse(404, fault));
        printed += &format!("{:?}", service.send(push).await);
    }
    printed += &format!("{service:?}");
    drop(guard);
    printed += &log.text();
    assert!(
        printed.contains("push is sent again"),
        "the log is in it: {printed}"
    );
    let pem_line = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    let secrets = [
        token(0xab),
        fcm_token.to_owned(),
        "+493012345".to_owned(),
        "PRIVATE KEY".to_owned(),
        pem_line(apple.apple.p8_pem()),
        "eyJ".to_owned(),
        "ya29".to_owned(),
    ];
    for secret in secrets {
        assert!(!printed.contains(&secret), "{secret} is in {printed}");
    }
}

/// Waits until the stand-in has seen so many connections: its end of a handshake is the later one.
async fn connections(rig: &AppleRig, wanted: u64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    while rig.apple.connections() < wanted {
        assert!(
            tokio::time::Instant::now() < deadline,
            "no connection {wanted}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
