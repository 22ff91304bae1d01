//! Webhooks: what an operator's own push service is sent, and what its status means.

use std::time::Duration;

use rouse::config::Secret;
use rouse::io::pns::{PnsConfig, PushService};
use rouse::proto::push::params::PushParams;
use rouse::proto::push::{Notice, Pns, PushError, PushRequest};
use rouse::standin::push::{Act, Outcome};
use rouse::standin::webhook::WebhookStandin;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{call, to_apns};

struct Rig {
    own: WebhookStandin,
    config: PnsConfig,
    service: PushService,
    _folder: TempDir,
}

impl Rig {
    async fn new(has_http2: bool) -> Self {
        let folder = TempDir::new().unwrap();
        let own = WebhookStandin::start(has_http2).await.unwrap();
        let config = PnsConfig {
            webhook: vec![own.client_config(folder.path()).unwrap()],
            gateway_id: "gw-test".to_owned(),
            ..PnsConfig::default()
        };
        Self {
            own,
            service: PushService::new(config.clone()).unwrap(),
            config,
            _folder: folder,
        }
    }

    async fn call(&self, prid: &str) -> Result<String, PushError> {
        let push = to("hms", prid, Notice::Call(call()));
        let accepted = self.service.send(push).await?;
        Ok(accepted.provider_id.to_string())
    }
}

fn to(provider: &str, prid: &str, notice: Notice) -> PushRequest {
    let params = PushParams::of(provider, Some("1055"), prid).unwrap();
    let mut push = to_apns("", notice);
    push.target.pns = Pns::Webhook;
    push.target.app = params.app;
    push.target.detail = params.detail;
    push.target.token = params.call_token;
    push
}

#[tokio::test]
async fn a_call_is_posted_with_its_device_signed_and_with_a_bearer() {
    let rig = Rig::new(true).await;
    let id = rig.call("IQAAAA/x").await.unwrap();
    let push = rig.own.next_push().await;
    assert_eq!(push.id, id);
    assert_eq!(push.path, "/rouse/push");
    assert_eq!(
        push.payload,
        json!({"event": "call", "call-id": "b1946ac92492d234@pbx.example.com",
            "from-uri": "sip:+493012345@pbx.example.com", "display-name": "Ada Lovelace",
            "to": "1001@pbx.example.com", "video": false, "sent-at": 1_700_000_000_000_u64,
            "expires-at": 1_700_000_025_000_u64, "gateway": "gw-test",
            "device": {"provider": "hms", "param": "1055", "prid": "IQAAAA/x", "ttl": 25}})
    );
    let refresh = to("HMS", "IQAAAA/x", Notice::Refresh);
    rig.service.send(refresh).await.unwrap();
    assert_eq!(rig.own.next_push().await.payload["event"], "refresh");
}

#[tokio::test]
async fn a_server_without_http2_is_asked_by_http1() {
    let rig = Rig::new(false).await;
    for number in 0..3 {
        rig.call(&format!("device-{number}")).await.unwrap();
    }
    assert_eq!(rig.own.accepted().len(), 3);
    rig.own.script(None, Act::DropBefore);
    rig.call("device-4").await.unwrap();
    rig.own.script(None, Act::refuse(429, "slow down"));
    assert_eq!(rig.call("device-4").await.unwrap_err().label(), "throttled");
    assert_eq!(rig.service.counters().connect_failures, 0);
}

#[tokio::test]
async fn its_status_is_the_verdict() {
    let rig = Rig::new(true).await;
    rig.call("warm").await.unwrap();
    let rows = [
        (400, "refused"),
        (401, "bad-credentials"),
        (403, "bad-credentials"),
        (404, "unregistered"),
        (410, "unregistered"),
        (413, "refused"),
        (429, "throttled"),
    ];
    for (sent, (status, label)) in (2..).zip(rows) {
        rig.own.script(None, Act::refuse(status, "because"));
        let error = rig.call("x").await.unwrap_err();
        assert_eq!(error.label(), label, "{status}");
        assert!(error.to_string().contains("because"), "{error}");
        assert_eq!(rig.own.requests(), sent, "{status} was sent again");
    }
    rig.own.script(
        None,
        Outcome {
            act: Act::refuse(503, "later"),
            retry_after: Some("9".to_owned()),
            ..Outcome::default()
        },
    );
    let error = rig.call("x").await.unwrap_err();
    let PushError::Unavailable { retry_after, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(retry_after, Some(Duration::from_secs(9)));
    rig.own.unregister("gone");
    assert_eq!(rig.call("gone").await.unwrap_err().label(), "unregistered");
}

#[tokio::test]
async fn a_push_whose_answer_was_lost_comes_twice_under_one_key() {
    let rig = Rig::new(true).await;
    rig.own.script(None, Act::DropAfter);
    rig.call("x").await.unwrap();
    assert_eq!(rig.own.requests(), 2);
    assert_eq!(rig.own.accepted().len(), 1);
}

#[tokio::test]
async fn wrong_secrets_are_the_operators_to_mend() {
    let rig = Rig::new(true).await;
    for (bearer, signing) in [("x", rig.own.signing_key()), (rig.own.bearer(), "x")] {
        let mut config = rig.config.clone();
        config.webhook[0].bearer = Some(Secret::new(bearer.to_owned()));
        config.webhook[0].signing = Some(Secret::new(signing.to_owned()));
        let service = PushService::new(config).unwrap();
        let error = service.send(to("hms", "x", Notice::Refresh)).await;
        assert_eq!(error.unwrap_err().label(), "bad-credentials");
    }
    assert!(rig.own.accepted().is_empty());
}

#[tokio::test]
async fn a_provider_that_nobody_serves_is_not_configured() {
    let rig = Rig::new(true).await;
    let error = rig.service.send(to("acme", "x", Notice::Refresh)).await;
    assert_eq!(error.unwrap_err().label(), "not-configured");
}
