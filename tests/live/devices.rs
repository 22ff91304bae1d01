//! Two devices of one agent behind the one contact that Asterisk has (`contact = "agent"`).

use std::time::Duration;

use crate::rig::asterisk::Keeps;
use crate::rig::push::Provider;
use crate::rig::stage::{Peers, SOON, Stage};

on_both_asterisks!(
    a_phone_that_changed_hands_rings_for_its_new_agent_only,
    both_devices_ring_and_the_one_that_does_not_answer_is_cancelled,
    an_awake_device_rings_while_the_other_is_woken,
    both_devices_are_woken,
    one_device_leaves_and_the_other_stays,
    a_declined_call_still_rings_on_the_other_device,
);

async fn both_devices_ring_and_the_one_that_does_not_answer_is_cancelled(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut first) = stage.agent(Keeps::One);
    let mut second = stage.device(&agent);
    assert_eq!(first.wake().await.contacts.len(), 1);
    // Neither sees the other's contact.
    assert_eq!(second.wake().await.contacts.len(), 1);
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut answered = first.app().next_call().await.expect("the first rings");
    let mut ringing = second.app().next_call().await.expect("the second rings");
    answered.ring().await.expect("it rings");
    ringing.ring().await.expect("it rings");
    answered.answer().await.expect("the ACK comes");
    let cancelled = ringing
        .wait_cancel()
        .await
        .expect("the other stops ringing");
    let reason = cancelled.reasons.join(", ");
    assert!(
        reason.contains("cause=200") && reason.contains("Call completed elsewhere"),
        "{reason}"
    );
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    answered.wait_bye().await.expect("Asterisk hangs up");
    assert_eq!((first.invites(), second.invites()), (1, 1));
}

async fn an_awake_device_rings_while_the_other_is_woken(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut awake) = stage.agent(Keeps::One);
    let mut asleep = stage.device(&agent);
    asleep.wake().await;
    awake.wake().await;
    stage.reachable(&agent).await;
    asleep.sleep();

    stage.asterisk.call(&agent, 9);
    let mut first = awake.app().next_call().await.expect("the awake one rings");
    first.ring().await.expect("it rings");
    stage.push.next(&asleep, "call", 1).await;
    asleep.wake().await;
    let mut second = asleep
        .app()
        .next_call()
        .await
        .expect("the woken one rings too");
    second.ring().await.expect("it rings");
    second.answer().await.expect("the ACK comes");
    first.wait_cancel().await.expect("the other stops ringing");
    stage.talking(&agent).await;
    assert_eq!(second.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!((awake.invites(), asleep.invites()), (1, 1));
}

async fn both_devices_are_woken(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut first) = stage.agent(Keeps::One);
    let mut second = stage.device(&agent);
    first.wake().await;
    second.wake().await;
    stage.reachable(&agent).await;
    first.sleep();
    second.sleep();

    stage.asterisk.call(&agent, 9);
    stage.push.next(&first, "call", 1).await;
    stage.push.next(&second, "call", 1).await;
    second.wake().await;
    let mut call = second
        .app()
        .next_call()
        .await
        .expect("the one that woke rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    // The first wakes too late: the call is taken.
    first.wake().await;
    match first.provider {
        Provider::Apns => {
            let mut late = first.app().next_call().await.expect("the late call comes");
            late.wait_cancel().await.expect("and is cancelled at once");
        }
        Provider::Fcm | Provider::WebPush | Provider::Webhook => {
            first.stays_silent(Duration::from_secs(1)).await
        }
    }
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(second.invites(), 1);
    assert!(first.invites() <= 1);
}

async fn one_device_leaves_and_the_other_stays(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut leaves) = stage.agent(Keeps::One);
    let mut stays = stage.device(&agent);
    leaves.wake().await;
    stays.wake().await;
    leaves.app().unregister().await.expect("it may leave");
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = stays
        .app()
        .next_call()
        .await
        .expect("the other still rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!((leaves.invites(), stays.invites()), (0, 1));
    assert!(stage.push.of(&leaves, "call").is_empty(), "it has left");
}

async fn a_declined_call_still_rings_on_the_other_device(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut first) = stage.agent(Keeps::One);
    let mut second = stage.device(&agent);
    first.wake().await;
    second.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut declined = first.app().next_call().await.expect("the first rings");
    let mut call = second.app().next_call().await.expect("the second rings");
    declined.reject(486).await.expect("the ACK comes");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!((first.invites(), second.invites()), (1, 1));
}

async fn a_phone_that_changed_hands_rings_for_its_new_agent_only(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (before, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&before).await;
    let (now, new) = stage.agent(Keeps::One);
    handset.config.user.clone_from(&new.config.user);
    handset.config.password.clone_from(&new.config.password);
    handset.wake().await;
    stage.reachable(&now).await;

    stage.asterisk.call(&before, 2);
    let end = stage.asterisk.call_ended(&before, SOON).await;
    assert!(!end.starts_with("ANSWER"), "{end}");
    assert_eq!(handset.invites(), 0);
    assert!(stage.push.of(&handset, "call").is_empty());

    stage.asterisk.call(&now, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&now).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}
