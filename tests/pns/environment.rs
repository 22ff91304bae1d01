//! APNs' two environments: a token of the other one is found there.

use rouse::config::ApnsEnvironment;
use rouse::io::pns::{PnsConfig, PushService};
use rouse::proto::push::{Notice, Pns, PushError};
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::push::{Act, Outcome};
use tempfile::TempDir;

use crate::support::{call, to_apns, token};

struct Rig {
    production: ApnsStandin,
    sandbox: ApnsStandin,
    config: PnsConfig,
    service: PushService,
    _folders: [TempDir; 2],
}

impl Rig {
    async fn new() -> Self {
        let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let production = ApnsStandin::start(ApnsStandinConfig::default()).await;
        let sandbox = ApnsStandin::start(ApnsStandinConfig {
            key_id: "KEY7654321".to_owned(),
            ..ApnsStandinConfig::default()
        })
        .await;
        let (production, sandbox) = (production.unwrap(), sandbox.unwrap());
        let mut other = sandbox.client_config(second.path()).unwrap();
        other.environment = ApnsEnvironment::Sandbox;
        let config = PnsConfig {
            apns: vec![production.client_config(first.path()).unwrap(), other],
            gateway_id: "gw-test".to_owned(),
            ..PnsConfig::default()
        };
        Self {
            service: PushService::new(config.clone()).unwrap(),
            production,
            sandbox,
            config,
            _folders: [first, second],
        }
    }

    async fn call(&self, pns: Pns, token: &str) -> Result<(), PushError> {
        let mut push = to_apns(token, Notice::Call(call()));
        push.target.pns = pns;
        self.service.send(push).await.map(|_| ())
    }
}

fn none_of_ours() -> Option<Outcome> {
    Some(Act::refuse(400, "BadDeviceToken").into())
}

#[tokio::test]
async fn a_token_of_the_other_environment_is_found_there_and_remembered() {
    let rig = Rig::new().await;
    let (one, two) = (token(1), token(2));
    rig.production.always(Some(&one), none_of_ours());
    rig.sandbox.always(Some(&two), none_of_ours());
    for _ in 0..3 {
        rig.call(Pns::Apns, &one).await.unwrap();
        rig.call(Pns::ApnsSandbox, &two).await.unwrap();
    }
    let tokens = |pushes: Vec<rouse::standin::push::AcceptedPush>| -> Vec<String> {
        pushes.into_iter().map(|push| push.token).collect()
    };
    assert_eq!(tokens(rig.sandbox.accepted()), vec![one; 3]);
    assert_eq!(tokens(rig.production.accepted()), vec![two; 3]);
    assert_eq!(rig.production.requests(), 4, "three, and one in vain");
    assert_eq!(rig.sandbox.requests(), 4);
}

#[tokio::test]
async fn a_remembered_token_that_moved_back_is_found_again() {
    let rig = Rig::new().await;
    let one = token(1);
    rig.production.always(Some(&one), none_of_ours());
    rig.call(Pns::Apns, &one).await.unwrap();
    rig.production.always(Some(&one), None);
    rig.sandbox.always(Some(&one), none_of_ours());
    for _ in 0..2 {
        rig.call(Pns::Apns, &one).await.unwrap();
    }
    assert_eq!(rig.production.accepted().len(), 2);
}

#[tokio::test]
async fn a_token_of_neither_is_asked_about_once_in_each() {
    let rig = Rig::new().await;
    let one = token(1);
    rig.production.always(Some(&one), none_of_ours());
    rig.sandbox.always(Some(&one), none_of_ours());
    let error = rig.call(Pns::Apns, &one).await.unwrap_err();
    assert_eq!(error.label(), "wrong-token");
    assert_eq!((rig.production.requests(), rig.sandbox.requests()), (1, 1));
}

#[tokio::test]
async fn what_the_other_environment_says_of_its_token_counts() {
    let rig = Rig::new().await;
    let one = token(1);
    rig.production.always(Some(&one), none_of_ours());
    rig.sandbox.unregister(&one, 1_700_000_000_000);
    let error = rig.call(Pns::Apns, &one).await.unwrap_err();
    assert_eq!(error.label(), "unregistered");
    rig.sandbox
        .always(Some(&one), Some(Act::refuse(429, "TooManyRequests").into()));
    let error = rig.call(Pns::Apns, &one).await.unwrap_err();
    assert_eq!(error.label(), "throttled");
    // A key for production alone cannot tell.
    let refused = Act::refuse(403, "BadEnvironmentKeyIdInToken");
    rig.sandbox.always(Some(&one), Some(refused.into()));
    let error = rig.call(Pns::Apns, &one).await.unwrap_err();
    assert_eq!(error.label(), "refused", "nothing is proven");
}

#[tokio::test]
async fn no_other_word_and_no_other_environment_is_tried() {
    let rig = Rig::new().await;
    let one = token(1);
    rig.production
        .script(None, Act::refuse(400, "DeviceTokenNotForTopic"));
    let error = rig.call(Pns::Apns, &one).await.unwrap_err();
    assert_eq!(error.label(), "wrong-token");
    assert_eq!(rig.sandbox.requests(), 0);

    let mut config = rig.config.clone();
    config.apns.truncate(1);
    let service = PushService::new(config).unwrap();
    rig.production.always(Some(&one), none_of_ours());
    let error = service.send(to_apns(&one, Notice::Call(call()))).await;
    assert_eq!(error.unwrap_err().label(), "refused", "nothing is proven");
    assert_eq!(rig.production.requests(), 2);
}
