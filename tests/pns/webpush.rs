//! Web Push: what a browser's push service is sent, where it may be, and what its answers mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rouse::io::pns::{PnsConfig, PushService, WallClock};
use rouse::proto::push::params::PushParams;
use rouse::proto::push::{Notice, Pns, PushError, PushRequest};
use rouse::standin::push::{Act, Outcome};
use rouse::standin::webpush::{Subscription, WebPushStandin};
use tempfile::TempDir;

use crate::support::{call, message, to_apns};

struct Rig {
    browser: WebPushStandin,
    config: PnsConfig,
    service: PushService,
    _folder: TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::with(WallClock::system()).await
    }

    async fn with(clock: WallClock) -> Self {
        let folder = TempDir::new().unwrap();
        let browser = WebPushStandin::start(clock.clone()).await.unwrap();
        let config = PnsConfig {
            webpush: Some(browser.client_config(folder.path()).unwrap()),
            gateway_id: "gw-test".to_owned(),
            ..PnsConfig::default()
        };
        let service = PushService::with_clock(config.clone(), clock).unwrap();
        Self {
            browser,
            config,
            service,
            _folder: folder,
        }
    }

    async fn call(&self, subscription: &Subscription) -> Result<String, PushError> {
        let push = to(subscription, Notice::Call(call()));
        let accepted = self.service.send(push).await?;
        Ok(accepted.provider_id.to_string())
    }
}

/// A push as the gateway addresses it when a phone has registered with the subscription.
fn to(subscription: &Subscription, notice: Notice) -> PushRequest {
    let keys = format!("{}.{}", subscription.p256dh, subscription.auth);
    to_endpoint(&subscription.endpoint, Some(&keys), notice)
}

fn to_endpoint(endpoint: &str, keys: Option<&str>, notice: Notice) -> PushRequest {
    let params = PushParams::of("webpush", keys, endpoint).unwrap();
    let mut push = to_apns("", notice);
    push.target.pns = Pns::WebPush;
    push.target.app = params.app;
    push.target.token = params.call_token;
    push
}

#[tokio::test]
async fn a_call_reaches_the_browser_encrypted_urgent_and_signed() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    rig.call(&subscription).await.unwrap();
    let push = rig.browser.next_push().await;
    assert_eq!(push.token, subscription.endpoint);
    assert_eq!(push.header("ttl"), "25");
    assert_eq!(push.header("urgency"), "high");
    assert_eq!(push.header("content-encoding"), "aes128gcm");
    assert_eq!(push.header("topic").len(), 32);
    assert_eq!(push.payload["event"], "call");
    assert_eq!(push.payload["display-name"], "Ada Lovelace");
    assert_eq!(push.payload["gateway"], "gw-test");
}

#[tokio::test]
async fn a_cancel_replaces_its_call_and_a_refresh_may_wait() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    let notices = [
        Notice::Call(call()),
        Notice::Cancel(call()),
        Notice::Missed(call()),
        Notice::Message(message()),
        Notice::Refresh,
    ];
    for notice in notices {
        rig.service.send(to(&subscription, notice)).await.unwrap();
    }
    let pushes = rig.browser.accepted();
    let said: Vec<_> = pushes
        .iter()
        .map(|push| {
            let event = push.payload["event"].as_str().unwrap();
            let same = push.header("topic") == pushes[0].header("topic");
            (event, push.header("urgency"), same)
        })
        .collect();
    assert_eq!(
        said,
        [
            ("call", "high", true),
            ("cancel", "high", true),
            ("missed", "normal", true),
            ("message", "high", false),
            ("refresh", "low", false),
        ]
    );
}

#[tokio::test]
async fn a_subscription_without_keys_is_woken_by_an_empty_push() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    let push = to_endpoint(&subscription.endpoint, None, Notice::Call(call()));
    rig.service.send(push).await.unwrap();
    let push = rig.browser.next_push().await;
    assert_eq!(push.payload, serde_json::Value::Null);
    assert_eq!(push.header("content-encoding"), "");
}

#[tokio::test]
async fn a_caller_with_an_endless_name_still_fits() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    let mut long = call();
    long.display_name = "Ж".repeat(9000).into();
    let push = to(&subscription, Notice::Call(long));
    rig.service.send(push).await.unwrap();
    let push = rig.browser.next_push().await;
    assert!(push.payload["display-name"].as_str().unwrap().len() > 3000);
}

#[tokio::test]
async fn every_status_has_its_consequence() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    rig.call(&subscription).await.unwrap();
    let rows = [
        (400, "refused"),
        (401, "bad-credentials"),
        (403, "bad-credentials"),
        (404, "unregistered"),
        (410, "unregistered"),
        (413, "refused"),
        (429, "throttled"),
        (301, "refused"),
    ];
    for (sent, (status, label)) in (2..).zip(rows) {
        rig.browser.script(None, Act::refuse(status, ""));
        let error = rig.call(&subscription).await.unwrap_err();
        assert_eq!(error.label(), label, "{status}");
        assert_eq!(rig.browser.requests(), sent, "{status} was sent again");
    }
    rig.browser.script(None, Act::refuse(503, ""));
    rig.call(&subscription).await.unwrap();
    rig.browser.script(
        None,
        Outcome {
            act: Act::refuse(429, ""),
            retry_after: Some("7".to_owned()),
            ..Outcome::default()
        },
    );
    let error = rig.call(&subscription).await.unwrap_err();
    let PushError::Throttled { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Duration::from_secs(7));
}

#[tokio::test]
async fn the_service_says_by_itself_who_is_gone() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    rig.browser.unsubscribe(&subscription.endpoint);
    let error = rig.call(&subscription).await.unwrap_err();
    assert_eq!(error.label(), "unregistered");
    let mut unknown = subscription.clone();
    unknown.endpoint = unknown.endpoint.replace("?v=1", "?v=2");
    let error = rig.call(&unknown).await.unwrap_err();
    assert_eq!(error.label(), "unregistered");
}

#[tokio::test]
async fn a_token_near_its_end_is_replaced_and_one_that_is_refused_too() {
    let now = Arc::new(AtomicU64::new(1_700_000_000));
    let clock = Arc::clone(&now);
    let rig = Rig::with(WallClock::new(move || clock.load(Ordering::Relaxed))).await;
    let subscription = rig.browser.subscribe().unwrap();
    for hours in [0, 10, 12, 30] {
        now.store(1_700_000_000 + hours * 3600, Ordering::Relaxed);
        rig.call(&subscription).await.unwrap();
    }
    let pushes = rig.browser.accepted();
    assert_eq!(
        pushes[0].header("authorization"),
        pushes[1].header("authorization")
    );
    assert_ne!(
        pushes[1].header("authorization"),
        pushes[2].header("authorization")
    );
    now.fetch_add(60, Ordering::Relaxed);
    rig.browser.script(None, Act::refuse(403, ""));
    rig.call(&subscription).await.unwrap();
    let pushes = rig.browser.accepted();
    assert_ne!(
        pushes[3].header("authorization"),
        pushes[4].header("authorization")
    );
}

#[tokio::test]
async fn another_vapid_key_is_refused() {
    let (rig, other) = (Rig::new().await, Rig::new().await);
    let subscription = rig.browser.subscribe().unwrap();
    let mut config = rig.config.clone();
    let stranger = other.config.webpush.unwrap();
    config.webpush.as_mut().unwrap().key = stranger.key;
    let service = PushService::new(config).unwrap();
    let push = to(&subscription, Notice::Call(call()));
    let error = service.send(push).await.unwrap_err();
    assert_eq!(error.label(), "bad-credentials");
}

#[tokio::test]
async fn nothing_is_sent_to_a_host_that_is_not_allowed_or_to_a_private_address() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    let mut config = rig.config.clone();
    let webpush = config.webpush.as_mut().unwrap();
    webpush.hosts = vec!["updates.push.services.mozilla.com".to_owned()];
    let service = PushService::new(config.clone()).unwrap();
    let push = to(&subscription, Notice::Call(call()));
    let error = service.send(push).await.unwrap_err();
    assert_eq!(error.label(), "not-configured");

    // The host is allowed, but it is in a network that is not.
    let port = rig.browser.addr().port();
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let webpush = config.webpush.as_mut().unwrap();
        webpush.hosts = vec![host.clone()];
        webpush.private_networks.clear();
        let service = PushService::new(config.clone()).unwrap();
        let endpoint = format!("https://{host}/push/1");
        let push = to_endpoint(&endpoint, None, Notice::Call(call()));
        let error = service.send(push).await.unwrap_err();
        assert_eq!(error.label(), "unavailable");
        assert!(error.to_string().contains("private address"), "{error}");
    }
    assert_eq!(rig.browser.connections(), 0);
}

#[tokio::test]
async fn an_endpoint_is_in_no_log_and_no_error() {
    let rig = Rig::new().await;
    let subscription = rig.browser.subscribe().unwrap();
    let push = to(&subscription, Notice::Call(call()));
    let printed = format!("{push:?} {:?}", rig.service);
    assert!(!printed.contains("/push/") && !printed.contains(&subscription.auth));
    rig.browser.unsubscribe(&subscription.endpoint);
    let error = rig.call(&subscription).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("/push/"));
}
