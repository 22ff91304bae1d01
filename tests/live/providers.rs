//! Phones that are woken by a browser's push service, or by one of the operator's own.

use std::time::Duration;

use crate::rig::asterisk::{Asterisk, Keeps};
use crate::rig::push::{Provider, Push, field};
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use crate::wake::woken;

on_both_asterisks!(
    a_sleeping_browser_is_woken_and_answers,
    a_phone_of_an_operators_own_service_is_woken_and_answers,
    a_browser_that_has_unsubscribed_ends_the_call_at_once,
    a_phone_whose_app_says_nothing_is_woken_as_it_was_entered,
);

async fn stage(provider: Provider, peers: Peers) -> Stage {
    let asterisk = Asterisk::of(peers.asterisk);
    let push = Push::start(provider).await;
    Stage::pushed_by(push, provider, asterisk, peers, &Setup::default())
}

async fn is_woken_and_answers(provider: Provider, peers: Peers) {
    let stage = stage(provider, peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = woken(&stage, &agent, &mut handset).await;
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
    assert_eq!(stage.push.of(&handset, "call").len(), 1);
    // The next one is given up: such a phone is told by a push.
    handset.sleep();
    stage.asterisk.call(&agent, 2);
    stage.push.next(&handset, "call", 2).await;
    stage.push.next(&handset, "cancel", 1).await;
}

async fn a_sleeping_browser_is_woken_and_answers(peers: Peers) {
    is_woken_and_answers(Provider::WebPush, peers).await;
}

async fn a_phone_of_an_operators_own_service_is_woken_and_answers(peers: Peers) {
    is_woken_and_answers(Provider::Webhook, peers).await;
}

async fn a_browser_that_has_unsubscribed_ends_the_call_at_once(peers: Peers) {
    let stage = stage(Provider::WebPush, peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();
    stage.push.forget(&handset);
    stage.asterisk.call(&agent, 9);
    // Far sooner than `wake.timeout`.
    let end = stage
        .asterisk
        .call_ended(&agent, Duration::from_secs(4))
        .await;
    assert!(!end.starts_with("ANSWER"), "{end}");
}

async fn a_phone_whose_app_says_nothing_is_woken_as_it_was_entered(peers: Peers) {
    let asterisk = Asterisk::of(peers.asterisk);
    let agent = asterisk.agent(Keeps::One);
    let provider = Provider::Webhook;
    let mut push = Push::start(provider).await;
    push.table += &format!(
        r#"
[[device]]
agent = "{}"
provider = "hms"
prid = "entered"
"#,
        agent.user
    );
    let stage = Stage::pushed_by(push, provider, asterisk, peers, &Setup::default());
    let mut handset = stage.device(&agent);
    handset.config.push = None;
    "entered".clone_into(&mut handset.token);
    let call = woken(&stage, &agent, &mut handset).await;
    let push = stage.push.next(&handset, "call", 1).await;
    assert_eq!(field(&push, "call-id"), call.call_id());
}
