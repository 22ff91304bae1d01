//! APNs down, slow, refusing, hanging up: with the whole gateway in front.

use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::fcm::{FcmStandin, FcmStandinConfig};
use rouse::standin::push::{Act, Outcome};

use crate::rig::scene::{Scene, registered, talk, token};
use crate::rig::{eventually, home};

/// A call to a sleeper whose push has this outcome the first time reaches the phone.
async fn rings_after(outcome: Outcome) {
    let scene = Scene::new().await;
    let sleeper = scene.sleeper(1001).await;
    scene.apns.script(None, outcome);
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    assert_eq!(phone.invites_seen(), 1);
}

#[tokio::test]
async fn a_goaway_in_the_middle_costs_no_call() {
    rings_after(Act::GoAwayBefore.into()).await;
}

#[tokio::test]
async fn a_connection_that_is_cut_costs_no_call() {
    rings_after(Act::DropBefore.into()).await;
}

#[tokio::test]
async fn a_500_and_a_503_cost_no_call() {
    rings_after(Act::refuse(500, "InternalServerError").into()).await;
    rings_after(Act::refuse(503, "ServiceUnavailable").into()).await;
}

#[tokio::test]
async fn a_429_is_waited_out_within_the_calls_time() {
    let mut outcome: Outcome = Act::refuse(429, "TooManyRequests").into();
    outcome.retry_after = Some("1".to_owned());
    rings_after(outcome).await;
}

#[tokio::test]
async fn a_slow_apns_rings_the_phone_late_and_others_at_once() {
    let scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    let config = scene.handset(1002, Transport::Udp);
    let mut awake = registered(&config).await;
    let slow = Outcome {
        delay: Duration::from_secs(30),
        ..Outcome::default()
    };
    scene.apns.always(None, Some(slow));
    let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
    let mut ringing = awake.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}

#[tokio::test]
async fn an_apns_that_is_down_fails_no_awake_phone_and_is_found_when_it_is_back() {
    let scene = Scene::with(|setup| setup.timeout = "3s").await;
    let sleeper = scene.sleeper(1001).await;
    scene.apns.always(None, Some(Act::DropBefore.into()));
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let refused = call.wait_final().await.expect("an answer");
    assert_eq!(refused.status(), Some(480));
    let config = scene.handset(1002, Transport::Udp);
    let mut awake = registered(&config).await;
    let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
    let mut ringing = awake.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;

    scene.apns.always(None, None);
    eventually("a push comes through again", async || {
        let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
        let pushed = scene
            .apns
            .accepted()
            .iter()
            .any(|push| push.token == token(1001));
        if !pushed {
            call.wait_final().await.expect("an answer");
        }
        pushed.then_some(())
    })
    .await;
    registered(&sleeper).await.sleep();
}

/// `[[push.fcm]]` for a stand-in.
fn fcm_table(fcm: &FcmStandin) -> String {
    let home = home::directory("fcm");
    let ca = fcm.write_ca(&home).expect("a file of ours");
    let account = home.join("account.json");
    home::write(&account, fcm.service_account());
    format!(
        r#"
[[push.fcm]]
project = "{}"
service_account_file = "{}"
url = "{}"
ca_file = "{}"
server_name = "localhost"
"#,
        FcmStandinConfig::default().project,
        account.display(),
        fcm.url(),
        ca.display()
    )
}

#[tokio::test]
async fn a_token_endpoint_of_fcm_that_is_down_fails_no_awake_phone_and_is_found_when_it_is_back() {
    let fcm = FcmStandin::start(FcmStandinConfig::default());
    let fcm = fcm.await.expect("fcm starts");
    // From the start, so that no bearer is there yet.
    let bearers = Some("/token");
    fcm.always(bearers, Some(Act::refuse(503, "UNAVAILABLE").into()));
    let scene = Scene::with(|setup| {
        setup.timeout = "3s";
        setup.tables += &fcm_table(&fcm);
    })
    .await;
    let mut sleeper = scene.handset(1001, Transport::Tcp);
    let project = FcmStandinConfig::default().project;
    sleeper.push = Some(format!(
        "pn-provider=fcm;pn-param={project};pn-prid=android-1001"
    ));
    registered(&sleeper).await.sleep();
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let refused = call.wait_final().await.expect("an answer");
    assert_eq!(refused.status(), Some(480));
    let config = scene.handset(1002, Transport::Udp);
    let mut awake = registered(&config).await;
    let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
    let mut ringing = awake.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    assert_eq!(fcm.bearers_issued(), 0);

    fcm.always(bearers, None);
    let mut call = eventually("a push comes through again", async || {
        let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
        let pushed = tokio::time::timeout(Duration::from_secs(2), fcm.next_push()).await;
        if pushed.is_err() {
            call.wait_final().await.expect("an answer");
        }
        pushed.is_ok().then_some(call)
    })
    .await;
    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}
