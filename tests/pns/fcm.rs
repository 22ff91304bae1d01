//! FCM: every row of its table of faults.

use std::sync::Arc;
use std::time::Duration;

use rouse::config::Secret;
use rouse::io::pns::PushService;
use rouse::proto::push::{Notice, PushError};
use rouse::standin::fcm::FcmStandinConfig;
use rouse::standin::push::{Act, Outcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::support::{GoogleRig, call, message, only_fcm, to_fcm};

/// A registration token as FCM makes them, with its colon.
const TOKEN: &str = "dGhpcyBpcyBub3Q:APA91bHun4MxP5egoKMwt2KZFBaFUH-1RYqx";

#[tokio::test]
async fn a_call_reaches_fcm_as_a_data_message_of_high_priority() {
    let rig = GoogleRig::new().await;
    let id = rig.call(TOKEN).await.unwrap();
    let push = rig.google.next_push().await;
    assert_eq!(push.id, id);
    assert_eq!(push.path, "/v1/projects/my-project/messages:send");
    assert_eq!(push.token, TOKEN);
    let message = &push.payload["message"];
    assert_eq!(message["android"]["priority"], "HIGH");
    assert_eq!(message["android"]["ttl"], "25s");
    assert_eq!(
        message["android"]["collapse_key"],
        "b1946ac92492d234@pbx.example.com"
    );
    assert_eq!(message["data"]["event"], "call");
    assert_eq!(message["data"]["display-name"], "Ada Lovelace");
    assert!(message.get("notification").is_none());
}

#[tokio::test]
async fn one_bearer_serves_many_pushes_at_once() {
    let rig = GoogleRig::new().await;
    let mut pushes = JoinSet::new();
    for _ in 0..100 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_fcm(TOKEN, Notice::Call(call()))).await });
    }
    assert!(pushes.join_all().await.iter().all(Result::is_ok));
    assert_eq!(rig.google.bearers_issued(), 1);
    assert_eq!(rig.google.accepted().len(), 100);
    assert_eq!(
        rig.google.connections(),
        2,
        "one for the bearer, one for pushes"
    );
}

#[tokio::test]
async fn what_rings_no_phone_wakes_no_phone() {
    let rig = GoogleRig::new().await;
    let over = to_fcm(TOKEN, Notice::Cancel(call()));
    rig.service.send(over).await.unwrap();
    let refresh = to_fcm(TOKEN, Notice::Refresh);
    rig.service.send(refresh).await.unwrap();
    let mut ringing = call();
    ringing.expires_at_ms = u64::MAX;
    let ringing = to_fcm(TOKEN, Notice::Cancel(ringing));
    rig.service.send(ringing).await.unwrap();
    for expected in ["NORMAL", "NORMAL", "HIGH"] {
        let push = rig.google.next_push().await;
        assert_eq!(push.payload["message"]["android"]["priority"], expected);
    }
}

#[tokio::test]
async fn a_device_that_names_no_project_means_the_only_one() {
    let rig = GoogleRig::new().await;
    for app in ["", "my-project", "123456789012"] {
        let mut push = to_fcm(TOKEN, Notice::Refresh);
        push.target.app = app.into();
        rig.service.send(push).await.unwrap();
    }
    let mut two = only_fcm(rig.config.clone());
    let mut second = rig.config.clone();
    second.project = "another".to_owned();
    two.fcm.push(second);
    let service = PushService::new(two).unwrap();
    let mut push = to_fcm(TOKEN, Notice::Refresh);
    push.target.app = "123456789012".into();
    let error = service.send(push).await.unwrap_err();
    assert_eq!(error.label(), "not-configured");
}

#[tokio::test]
async fn what_is_final_is_never_sent_again() {
    let rig = GoogleRig::new().await;
    rig.call(TOKEN).await.unwrap();
    let rows = [
        (400, "INVALID_ARGUMENT", "refused"),
        (401, "THIRD_PARTY_AUTH_ERROR", "bad-credentials"),
        (403, "PERMISSION_DENIED", "bad-credentials"),
        (403, "SENDER_ID_MISMATCH", "wrong-token"),
        (404, "NOT_FOUND", "bad-credentials"),
        (404, "UNREGISTERED", "unregistered"),
        (429, "QUOTA_EXCEEDED", "throttled"),
    ];
    // One for the bearer and one for the first push.
    for (sent, (status, code, label)) in (3..).zip(rows) {
        rig.google.script(None, Act::refuse(status, code));
        let error = rig.call(TOKEN).await.unwrap_err();
        assert_eq!(error.label(), label, "{status} {code}");
        assert!(error.to_string().contains(code), "{error}");
        assert_eq!(rig.google.requests(), sent, "{code} was sent again");
    }
    assert_eq!(rig.google.accepted().len(), 1);
    assert_eq!(rig.google.bearers_issued(), 1);
}

#[tokio::test]
async fn fcm_says_by_itself_that_a_token_is_dead_or_not_ours_or_none() {
    let rig = GoogleRig::new().await;
    rig.google.unregister("dead");
    rig.google.assign_elsewhere("elsewhere");
    for (token, label) in [
        ("dead", "unregistered"),
        ("elsewhere", "wrong-token"),
        ("not a token", "refused"),
        ("", "wrong-token"),
    ] {
        assert_eq!(rig.call(token).await.unwrap_err().label(), label, "{token}");
    }
}

#[tokio::test]
async fn a_quota_says_when_to_come_back_or_means_a_minute() {
    let rig = GoogleRig::new().await;
    for (said, expected) in [(None, 60), (Some("17"), 17)] {
        rig.google.script(
            Some(TOKEN),
            Outcome {
                act: Act::refuse(429, "QUOTA_EXCEEDED"),
                retry_after: said.map(str::to_owned),
                ..Outcome::default()
            },
        );
        let error = rig.call(TOKEN).await.unwrap_err();
        let PushError::Throttled { retry_after, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(retry_after, Duration::from_secs(expected));
    }
}

#[tokio::test]
async fn a_failing_fcm_is_asked_once_more_and_no_push_is_lost() {
    let rig = Arc::new(GoogleRig::new().await);
    rig.call("warm").await.unwrap();
    let failures = [
        Act::refuse(500, "INTERNAL"),
        Act::refuse(503, "UNAVAILABLE"),
        Act::refuse(500, "UNSPECIFIED_ERROR"),
        Act::Raw {
            status: 502,
            body: "<!DOCTYPE html><title>Error 502</title>".into(),
        },
    ];
    let mut pushes = JoinSet::new();
    for (number, failure) in failures.into_iter().enumerate() {
        let token = format!("token-{number}");
        rig.google.script(Some(&token), failure);
        let rig = Arc::clone(&rig);
        pushes.spawn(async move { rig.call(&token).await });
    }
    for outcome in pushes.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(rig.google.accepted().len(), 5);
}

#[tokio::test]
async fn a_refused_bearer_is_renewed_once_for_all_who_were_refused() {
    let rig = GoogleRig::new().await;
    rig.call(TOKEN).await.unwrap();
    rig.google.revoke_bearers();
    let mut pushes = JoinSet::new();
    for _ in 0..50 {
        let service = rig.service.clone();
        pushes.spawn(async move { service.send(to_fcm(TOKEN, Notice::Call(call()))).await });
    }
    for outcome in pushes.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(rig.google.bearers_issued(), 2);

    let before = rig.google.requests();
    let refusing = Act::refuse(401, "UNAUTHENTICATED").into();
    rig.google.always(Some(TOKEN), Some(refusing));
    let error = rig.call(TOKEN).await.unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
    assert_eq!(rig.google.requests(), before + 3, "two pushes, one bearer");
}

#[tokio::test]
async fn a_bearer_is_renewed_behind_the_pushes_backs_before_it_ends() {
    let rig = GoogleRig::with(FcmStandinConfig {
        bearer_lifetime: Duration::from_secs(2),
        ..FcmStandinConfig::default()
    })
    .await;
    rig.call(TOKEN).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1600)).await;
    // Three quarters of its time are over: it serves this push, and a new one is asked for.
    rig.call(TOKEN).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(rig.google.bearers_issued(), 2);
    rig.call(TOKEN).await.unwrap();
    assert_eq!(rig.google.bearers_issued(), 2);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_is_asked_again_and_one_that_refuses_is_not() {
    let rig = GoogleRig::new().await;
    rig.google.script_bearer(Act::refuse(503, "backend_error"));
    rig.call(TOKEN).await.unwrap();
    assert_eq!(rig.google.bearers_issued(), 1);

    let rig = GoogleRig::new().await;
    rig.google.script_bearer(Act::refuse(400, "invalid_grant"));
    let error = rig.call(TOKEN).await.unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
    assert!(error.to_string().contains("invalid_grant"), "{error}");
    let again = rig.call(TOKEN).await.unwrap_err();
    assert_eq!(again, error, "for a moment the answer is known");
    assert_eq!(rig.google.requests(), 1);
}

#[tokio::test]
async fn google_refuses_a_key_that_is_not_the_accounts() {
    let (mut rig, other) = (GoogleRig::new().await, GoogleRig::new().await);
    let mut account: serde_json::Value =
        serde_json::from_str(rig.google.service_account()).unwrap();
    let stranger: serde_json::Value = serde_json::from_str(other.google.service_account()).unwrap();
    account["private_key"] = stranger["private_key"].clone();
    rig.config.service_account = Secret::new(account.to_string());
    rig.service = PushService::new(only_fcm(rig.config.clone())).unwrap();
    let error = rig.call(TOKEN).await.unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
    assert_eq!(rig.google.requests(), 1);
}

#[tokio::test]
async fn the_accounts_token_uri_is_honoured_without_tls_too() {
    let rig = GoogleRig::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut account: serde_json::Value =
        serde_json::from_str(rig.google.service_account()).unwrap();
    let address = listener.local_addr().unwrap();
    account["token_uri"] = format!("http://{address}/oauth/token").into();
    let mut config = rig.config.clone();
    config.service_account = Secret::new(account.to_string());
    let service = PushService::new(only_fcm(config)).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 8192];
        let count = stream.read(&mut request).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&request[..count]).into_owned()
    });
    let error = service
        .send(to_fcm(TOKEN, Notice::Call(call())))
        .await
        .unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
    let request = server.await.unwrap();
    assert!(
        request.starts_with("POST /oauth/token HTTP/1.1\r\n"),
        "{request}"
    );
    assert_eq!(rig.google.requests(), 0);
}

#[tokio::test]
async fn fcm_connections_come_and_go_without_a_lost_push() {
    let rig = GoogleRig::new().await;
    for fault in [
        Act::GoAwayAfter,
        Act::GoAwayBefore,
        Act::DropBefore,
        Act::Reset(7),
        Act::Reset(2),
    ] {
        rig.google.script(Some(TOKEN), fault);
        rig.call(TOKEN).await.unwrap();
    }
    assert_eq!(rig.google.accepted().len(), 5);
}

#[tokio::test]
async fn a_message_is_urgent_and_a_missed_call_is_not() {
    let rig = GoogleRig::new().await;
    for notice in [Notice::Missed(call()), Notice::Message(message())] {
        rig.service.send(to_fcm(TOKEN, notice)).await.unwrap();
    }
    let missed = rig.google.next_push().await.payload;
    let missed = &missed["message"];
    assert_eq!(missed["data"]["event"], "missed");
    assert_eq!(missed["android"]["priority"], "NORMAL");
    assert_eq!(missed["android"]["collapse_key"], *call().call_id);
    let waiting = rig.google.next_push().await.payload;
    let waiting = &waiting["message"];
    assert_eq!(waiting["data"]["event"], "message");
    assert_eq!(waiting["data"]["call-id"], "m1@pbx.example.com");
    assert!(waiting["data"].get("video").is_none());
    assert_eq!(waiting["android"]["priority"], "HIGH");
    assert!(waiting["android"].get("collapse_key").is_none());
}
