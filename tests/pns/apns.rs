//! APNs: what it is sent, and every row of its table of faults.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rouse::config::{ApnsCredential, Secret};
use rouse::io::pns::{PushService, WallClock};
use rouse::proto::push::{Notice, PushError};
use rouse::standin::apns::ApnsStandinConfig;
use rouse::standin::push::{Act, Outcome};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::{AppleRig, call, message, only_apns, to_apns, token};

#[tokio::test]
async fn a_call_reaches_apns_as_a_voip_push_with_all_that_apple_verifies() {
    let rig = AppleRig::new().await;
    let id = rig.call(&token(1)).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.id, id);
    assert_eq!(push.path, format!("/3/device/{}", token(1)));
    assert_eq!(push.header("apns-topic"), "com.example.app.voip");
    assert_eq!(push.header("apns-push-type"), "voip");
    assert_eq!(push.header("apns-priority"), "10");
    assert_eq!(push.header("apns-collapse-id"), "");
    assert_eq!(push.payload["event"], "call");
    assert_eq!(push.payload["gateway"], "gw-test");
    assert_eq!(push.payload["display-name"], "Ada Lovelace");
}

#[tokio::test]
async fn a_push_expires_when_its_lifetime_ends() {
    let now = 1_700_000_000;
    let rig = AppleRig::with(ApnsStandinConfig {
        clock: WallClock::new(move || now),
        ..ApnsStandinConfig::default()
    })
    .await;
    rig.call(&token(1)).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.header("apns-expiration"), "1700000025");
}

#[tokio::test]
async fn a_cancelled_call_is_an_alert_and_a_refresh_a_background_push() {
    let rig = AppleRig::new().await;
    let cancel = to_apns(&token(1), Notice::Cancel(call()));
    rig.service.send(cancel).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.header("apns-push-type"), "alert");
    assert_eq!(push.header("apns-topic"), "com.example.app");
    assert_eq!(
        push.header("apns-collapse-id"),
        "b1946ac92492d234@pbx.example.com"
    );
    let refresh = to_apns(&token(1), Notice::Refresh);
    rig.service.send(refresh).await.unwrap();
    let push = rig.apple.next_push().await;
    assert_eq!(push.header("apns-push-type"), "background");
    assert_eq!(push.header("apns-priority"), "5");
    assert_eq!(
        push.payload,
        json!({"aps": {"content-available": 1}, "event": "refresh", "gateway": "gw-test"})
    );
}

#[tokio::test]
async fn a_caller_with_an_endless_name_still_fits() {
    let rig = AppleRig::new().await;
    let mut long = call();
    long.display_name = "Ж".repeat(9000).into();
    let push = to_apns(&token(1), Notice::Call(long.clone()));
    rig.service.send(push).await.unwrap();
    let push = to_apns(&token(1), Notice::Cancel(long));
    rig.service.send(push).await.unwrap();
    let pushed = rig.apple.next_push().await;
    assert_eq!(pushed.payload["call-id"], *call().call_id);
    assert!(pushed.payload["display-name"].as_str().unwrap().len() > 4000);
}

#[tokio::test]
async fn what_is_final_is_never_sent_again() {
    let rig = AppleRig::new().await;
    let rows = [
        (400, "BadCollapseId", "refused"),
        (400, "BadDeviceToken", "refused"),
        (400, "BadExpirationDate", "refused"),
        (400, "BadMessageId", "refused"),
        (400, "BadPriority", "refused"),
        (400, "BadTopic", "bad-credentials"),
        (400, "DeviceTokenNotForTopic", "wrong-token"),
        (400, "DuplicateHeaders", "refused"),
        (400, "InvalidPushType", "refused"),
        (400, "MissingDeviceToken", "refused"),
        (400, "MissingTopic", "refused"),
        (400, "PayloadEmpty", "refused"),
        (400, "TopicDisallowed", "bad-credentials"),
        (403, "BadCertificate", "bad-credentials"),
        (403, "BadCertificateEnvironment", "bad-credentials"),
        (403, "BadEnvironmentKeyIdInToken", "bad-credentials"),
        (403, "Forbidden", "bad-credentials"),
        (403, "InvalidProviderToken", "bad-credentials"),
        (403, "MissingProviderToken", "bad-credentials"),
        (403, "UnrelatedKeyIdInToken", "bad-credentials"),
        (404, "BadPath", "refused"),
        (405, "MethodNotAllowed", "refused"),
        (410, "ExpiredToken", "unregistered"),
        (410, "Unregistered", "unregistered"),
        (413, "PayloadTooLarge", "refused"),
        (429, "TooManyProviderTokenUpdates", "throttled"),
        (429, "TooManyRequests", "throttled"),
    ];
    for (sent, (status, reason, label)) in (1..).zip(rows) {
        rig.apple.script(None, Act::refuse(status, reason));
        let error = rig.call(&token(1)).await.unwrap_err();
        assert_eq!(error.label(), label, "{status} {reason}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(rig.apple.requests(), sent, "{reason} was sent again");
    }
    assert!(rig.apple.accepted().is_empty());
    assert_eq!(rig.apple.connections(), 1);
}

#[tokio::test]
async fn a_dead_token_says_since_when_it_is_dead() {
    let rig = AppleRig::new().await;
    rig.apple.unregister(&token(1), 1_700_000_000_123);
    let error = rig.call(&token(1)).await.unwrap_err();
    let PushError::Unregistered { since_ms, reason } = error else {
        panic!("{error}");
    };
    assert_eq!(since_ms, Some(1_700_000_000_123));
    assert_eq!(reason.as_str(), "Unregistered");
    rig.apple.assign(&token(2), "com.example.other");
    let error = rig.call(&token(2)).await.unwrap_err();
    assert_eq!(error.label(), "wrong-token");
}

#[tokio::test]
async fn a_token_that_is_not_hexadecimal_never_leaves() {
    let rig = AppleRig::new().await;
    for bad in ["", "xyz", "../../3/device/aa", &"a".repeat(63)] {
        let error = rig.call(bad).await.unwrap_err();
        assert_eq!(error.label(), "wrong-token");
    }
    assert_eq!(rig.apple.requests(), 0);
}

#[tokio::test]
async fn a_failing_apns_is_asked_once_more_and_no_push_is_lost() {
    let rig = Arc::new(AppleRig::new().await);
    let failures = [
        Act::refuse(500, "InternalServerError"),
        Act::refuse(503, "ServiceUnavailable"),
        Act::refuse(503, "Shutdown"),
        Act::Raw {
            status: 502,
            body: "<html>Bad Gateway</html>".into(),
        },
    ];
    let mut pushes = JoinSet::new();
    for (number, failure) in (1..).zip(failures) {
        rig.apple.script(Some(&token(number)), failure);
        let rig = Arc::clone(&rig);
        pushes.spawn(async move { rig.call(&token(number)).await });
    }
    for outcome in pushes.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(rig.apple.accepted().len(), 4);
    assert_eq!(rig.apple.requests(), 8);
}

#[tokio::test]
async fn an_apns_that_keeps_failing_is_unavailable_after_two_requests() {
    let rig = AppleRig::new().await;
    let failing = Act::refuse(500, "InternalServerError").into();
    rig.apple.always(None, Some(failing));
    let error = rig.call(&token(1)).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert_eq!(rig.apple.requests(), 2);
}

#[tokio::test]
async fn retry_after_is_waited_for_if_it_is_short_and_told_if_it_is_long() {
    let rig = AppleRig::new().await;
    let throttle = |retry_after: &str| Outcome {
        act: Act::refuse(429, "TooManyRequests"),
        retry_after: Some(retry_after.to_owned()),
        ..Outcome::default()
    };
    let busy = |retry_after: &str| Outcome {
        act: Act::refuse(503, "ServiceUnavailable"),
        ..throttle(retry_after)
    };
    rig.apple.script(None, throttle("7"));
    let error = rig.call(&token(1)).await.unwrap_err();
    let PushError::Throttled { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Duration::from_secs(7));

    rig.apple
        .script(None, throttle("Fri, 31 Dec 9999 23:59:59 GMT"));
    let error = rig.call(&token(1)).await.unwrap_err();
    let PushError::Throttled { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert!(retry_after > Duration::from_secs(86_400));

    rig.apple.script(None, busy("60"));
    let error = rig.call(&token(1)).await.unwrap_err();
    let PushError::Unavailable { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(60)));
    assert_eq!(rig.apple.requests(), 3);

    rig.apple.script(None, busy("1"));
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.requests(), 5);
}

#[tokio::test]
async fn an_idle_timeout_is_answered_with_a_new_connection() {
    let rig = AppleRig::new().await;
    rig.apple.script(None, Act::refuse(400, "IdleTimeout"));
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.connections(), 2);
    assert_eq!(rig.apple.requests(), 2);
}

#[tokio::test]
async fn an_expired_provider_token_is_renewed_once_on_a_new_connection() {
    let rig = AppleRig::new().await;
    rig.apple
        .script(None, Act::refuse(403, "ExpiredProviderToken"));
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.requests(), 2);
    let push = rig.apple.next_push().await;
    assert_eq!(push.connection, 2);

    rig.apple
        .script(None, Act::refuse(403, "ExpiredProviderToken"));
    let error = rig.call(&token(1)).await.unwrap_err();
    assert_eq!(
        error.label(),
        "bad-credentials",
        "twice in 20 minutes: the clock is wrong"
    );
    assert_eq!(rig.apple.requests(), 3);
}

#[tokio::test]
async fn a_gateway_with_a_wrong_clock_or_key_is_told_by_apns() {
    let mut rig = AppleRig::new().await;
    let behind = WallClock::new(|| 1_600_000_000);
    rig.service = PushService::with_clock(only_apns(rig.config.clone()), behind).unwrap();
    let error = rig.call(&token(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("ExpiredProviderToken"),
        "{error}"
    );
    assert_eq!(rig.apple.requests(), 2);

    let stranger = rcgen::KeyPair::generate().unwrap().serialize_pem();
    rig.config.credential = ApnsCredential::Token {
        team_id: "ABCDE12345".to_owned(),
        key_id: "KEY1234567".to_owned(),
        key: Secret::new(stranger),
    };
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    let error = rig.call(&token(1)).await.unwrap_err();
    assert!(
        error.to_string().contains("InvalidProviderToken"),
        "{error}"
    );
    assert_eq!(rig.apple.requests(), 3);
}

#[tokio::test]
async fn one_provider_token_serves_all_pushes_of_a_key_for_20_to_60_minutes() {
    let now = Arc::new(AtomicU64::new(1_700_000_000));
    let clock = {
        let now = Arc::clone(&now);
        WallClock::new(move || now.load(Ordering::Relaxed))
    };
    let rig = AppleRig::with(ApnsStandinConfig {
        topics: vec!["com.example.app".to_owned(), "com.example.two".to_owned()],
        clock: clock.clone(),
        ..ApnsStandinConfig::default()
    })
    .await;
    let mut both = only_apns(rig.config.clone());
    both.apns[0].topics.truncate(1);
    both.apns.push(rig.config.clone());
    both.apns[1].topics.remove(0);
    let mut service = PushService::with_clock(both.clone(), clock.clone()).unwrap();
    // Eight hours with a push to either app every five minutes and a restart now and then.
    for step in 0..96 {
        now.fetch_add(300, Ordering::Relaxed);
        if step % 17 == 16 {
            service = PushService::with_clock(both.clone(), clock.clone()).unwrap();
        }
        let mut push = to_apns(&token(1), Notice::Refresh);
        service.send(push.clone()).await.unwrap();
        push.target.app = "com.example.two".into();
        service.send(push).await.unwrap();
    }
    let dates = rig.apple.provider_tokens();
    for pair in dates.windows(2) {
        assert!((1200..=3600).contains(&(pair[1] - pair[0])), "{pair:?}");
    }
    assert!((9..=20).contains(&dates.len()), "{dates:?}");
}

#[tokio::test]
async fn a_client_certificate_is_taken_instead_of_a_token() {
    let mut rig = AppleRig::new().await;
    rig.config.credential =
        ApnsCredential::Certificate(Secret::new(rig.apple.client_pem().to_owned()));
    rig.service = PushService::new(only_apns(rig.config.clone())).unwrap();
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.next_push().await.header("authorization"), "");
}

#[tokio::test]
async fn pushes_that_goaway_leaves_out_are_sent_again_at_once() {
    let rig = AppleRig::new().await;
    let slow = Outcome {
        delay: Duration::from_millis(200),
        ..Outcome::default()
    };
    rig.call(&token(0xaa)).await.unwrap();
    rig.apple.always(None, Some(slow));
    rig.apple.script(Some(&token(40)), Act::GoAwayBefore);
    let mut pushes = JoinSet::new();
    for number in 1..=80 {
        let service = rig.service.clone();
        let push = to_apns(&token(number), Notice::Call(call()));
        pushes.spawn(async move { service.send(push).await });
    }
    for outcome in pushes.join_all().await {
        outcome.unwrap();
    }
    let accepted = rig.apple.accepted();
    let tokens: BTreeSet<_> = accepted.iter().map(|push| &push.token).collect();
    assert_eq!(tokens.len(), 81, "no push is lost");
    let old = accepted.iter().filter(|push| push.connection == 1).count();
    assert!(old < accepted.len(), "some went to the new connection");
    assert_eq!(rig.apple.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_says_goaway_takes_no_more_pushes() {
    let rig = AppleRig::new().await;
    for expected in 1..=4 {
        rig.apple.script(None, Act::GoAwayAfter);
        rig.call(&token(1)).await.unwrap();
        assert_eq!(rig.apple.accepted().len(), expected);
    }
    assert_eq!(rig.apple.accepted().len() as u64, rig.apple.requests());
}

#[tokio::test]
async fn a_refused_stream_is_sent_again_on_its_connection() {
    let rig = AppleRig::new().await;
    rig.apple.script(None, Act::Reset(7));
    rig.call(&token(1)).await.unwrap();
    assert_eq!(rig.apple.connections(), 1);
    assert_eq!(rig.apple.requests(), 2);

    let refusing = Act::Reset(7).into();
    rig.apple.always(None, Some(refusing));
    let error = rig.call(&token(1)).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert_eq!(rig.apple.requests(), 2 + 4, "not for ever");
}

#[tokio::test]
async fn a_lost_connection_costs_one_resend_with_the_same_id() {
    let rig = AppleRig::new().await;
    for (fault, accepted) in [
        (Act::DropBefore, 1),
        (Act::DropAfter, 2),
        (Act::Reset(2), 1),
    ] {
        let before = rig.apple.accepted().len();
        rig.apple.script(None, fault);
        let id = rig.call(&token(1)).await.unwrap();
        let new = rig.apple.accepted().split_off(before);
        assert_eq!(new.len(), accepted);
        assert!(new.iter().all(|push| push.header("apns-id") == id));
    }
    assert_eq!(rig.apple.connections(), 4);
    let hanging_up = Act::DropBefore.into();
    rig.apple.always(None, Some(hanging_up));
    let before = rig.apple.requests();
    let error = rig.call(&token(1)).await.unwrap_err();
    assert_eq!(error.label(), "unavailable");
    assert_eq!(rig.apple.requests(), before + 2);
}

/// Takes five seconds, for they are what it is about.
#[tokio::test]
async fn a_silent_apns_costs_a_call_five_seconds_at_most() {
    let rig = AppleRig::new().await;
    rig.apple.script(Some(&token(1)), Act::Silence);
    let silence = Act::Silence.into();
    rig.apple.always(Some(&token(2)), Some(silence));
    let started = std::time::Instant::now();
    let (silence1, silence2) = (token(1), token(2));
    let (once, always) = tokio::join!(rig.call(&silence1), rig.call(&silence2));
    let elapsed = started.elapsed();
    once.unwrap();
    assert_eq!(always.unwrap_err().label(), "unavailable");
    assert!(elapsed < Duration::from_millis(5500), "{elapsed:?}");
    assert_eq!(rig.apple.accepted().len(), 1);
}

#[tokio::test]
async fn a_missed_call_replaces_its_alert_and_a_message_has_its_own() {
    let rig = AppleRig::new().await;
    for notice in [Notice::Missed(call()), Notice::Message(message())] {
        rig.service.send(to_apns(&token(1), notice)).await.unwrap();
    }
    let missed = rig.apple.next_push().await;
    assert_eq!(missed.header("apns-push-type"), "alert");
    assert_eq!(missed.header("apns-collapse-id"), &*call().call_id);
    assert_eq!(missed.payload["event"], "missed");
    assert_eq!(missed.payload["aps"]["alert"]["loc-key"], "CALL_MISSED");
    let waiting = rig.apple.next_push().await;
    assert_eq!(waiting.header("apns-push-type"), "alert");
    assert_eq!(waiting.header("apns-topic"), "com.example.app");
    assert_eq!(waiting.header("apns-collapse-id"), "");
    assert_eq!(
        waiting.payload,
        json!({"aps": {"alert": {"loc-key": "MESSAGE_RECEIVED"}, "content-available": 1,
            "mutable-content": 1}, "event": "message", "call-id": "m1@pbx.example.com",
            "from-uri": "sip:+493012345@pbx.example.com", "display-name": "Ada Lovelace",
            "to": "1001@pbx.example.com", "sent-at": 1_700_000_000_000_u64,
            "expires-at": 1_700_000_025_000_u64, "gateway": "gw-test"})
    );
}

#[tokio::test]
async fn credentials_that_are_refused_again_and_again_are_shown_no_more_for_a_while() {
    let rig = AppleRig::new().await;
    for _ in 0..5 {
        rig.apple
            .script(None, Act::refuse(403, "InvalidProviderToken"));
        let error = rig.call(&token(1)).await.unwrap_err();
        assert_eq!(error.label(), "bad-credentials");
    }
    let error = rig.call(&token(2)).await.unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
    assert!(
        error.to_string().contains("InvalidProviderToken"),
        "{error}"
    );
    assert_eq!(rig.apple.requests(), 5, "the sixth did not leave");
}

#[tokio::test]
async fn an_apns_that_fails_everybody_fails_pushes_at_once_until_one_finds_it_back() {
    let rig = AppleRig::new().await;
    for _ in 0..10 {
        rig.apple
            .script(None, Act::refuse(500, "InternalServerError"));
    }
    let mut calls = JoinSet::new();
    for number in 0..5 {
        let service = rig.service.clone();
        calls.spawn(async move {
            let push = to_apns(&token(number), Notice::Call(call()));
            service.send(push).await
        });
    }
    for verdict in calls.join_all().await {
        assert_eq!(verdict.unwrap_err().label(), "unavailable");
    }
    assert_eq!(rig.apple.requests(), 10, "each was tried twice");
    let error = rig.call(&token(7)).await.unwrap_err();
    let PushError::Unavailable { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(rig.apple.requests(), 10, "it did not leave");
    // Whoever waits for so long finds that it is back, and then all do.
    tokio::time::sleep(retry_after.unwrap()).await;
    rig.call(&token(7)).await.unwrap();
    rig.call(&token(8)).await.unwrap();
}
