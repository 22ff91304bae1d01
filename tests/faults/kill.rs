//! `kill -9`: what was acknowledged is there afterwards, and calls that wait go on.

use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;
use tokio::task::JoinSet;

use crate::rig::scene::{Scene, handset, registered, talk, token};

/// Registrations are under way at each kill; whoever saw a 200 can be called afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a while: make test-faults"]
async fn every_acknowledged_binding_of_a_thousand_is_back_after_kills_at_random_moments() {
    let mut scene = Scene::new().await;
    let mut acknowledged = Vec::new();
    for (round, users) in (1000..2000_u32).collect::<Vec<_>>().chunks(100).enumerate() {
        let mut phones = JoinSet::new();
        for user in users {
            let mut config = handset(&scene.rouse, *user, Transport::Udp);
            config.patience = Duration::from_secs(2);
            let user = *user;
            phones.spawn(async move {
                let phone = Phone::wake(config, Timeline::new()).await;
                let mut phone = phone.expect("a socket");
                let is_there = phone.register().await.is_ok();
                phone.sleep();
                is_there.then_some(user)
            });
        }
        // The moment differs from round to round: after so many of the hundred.
        let mut known = Vec::new();
        while let Some(user) = phones.join_next().await {
            known.extend(user.expect("no phone panics"));
            if known.len() > round * 7 {
                break;
            }
        }
        scene.rouse.kill();
        while let Some(user) = phones.join_next().await {
            known.extend(user.expect("no phone panics"));
        }
        scene.rouse.start_again();
        acknowledged.append(&mut known);
    }
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());
    for user in &acknowledged {
        let status = scene.asterisk.qualify(&user.to_string()).await;
        assert_eq!(status.expect("an answer"), 200, "{user}");
    }
    let user = *acknowledged.last().expect("some");
    let mut call = scene
        .asterisk
        .call(&user.to_string(), "2000")
        .await
        .expect("a 100");
    while scene.apns.next_push().await.token != token(user) {}
    let config = handset(&scene.rouse, user, Transport::Tcp);
    let mut phone = registered(&config).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}

#[tokio::test]
async fn a_held_call_rings_after_a_kill() {
    let mut scene = Scene::new().await;
    let sleeper = scene.sleeper(1001).await;
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let first = scene.apns.next_push().await;
    // The record is on the disk before anybody else's that comes after it.
    let _other = scene.sleeper(1002).await;
    scene.rouse.kill();
    scene.rouse.start_again();

    let again = scene.apns.next_push().await;
    let named = |push: &rouse::standin::push::AcceptedPush| push.payload["call-id"].clone();
    assert_eq!(again.token, token(1001));
    assert_eq!(
        named(&first),
        named(&again),
        "it is the same call to the app"
    );
    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut held).await;
    assert_eq!(phone.invites_seen(), 1);
}

#[tokio::test]
async fn a_caller_of_a_held_call_can_hang_up_after_a_kill() {
    let mut scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    let _other = scene.sleeper(1002).await;
    scene.rouse.kill();
    scene.rouse.start_again();
    scene.apns.next_push().await;
    assert_eq!(held.cancel(&[]).await.expect("an answer"), 487);
}

#[tokio::test]
async fn a_hundred_held_calls_get_their_answer_after_a_kill() {
    let mut scene = Scene::with(|setup| setup.timeout = "6s").await;
    let mut calls = Vec::new();
    for user in 1000..1100 {
        let _sleeper = scene.sleeper(user).await;
    }
    for user in 1000..1100_u32 {
        let call = scene.asterisk.call(&user.to_string(), "2000").await;
        calls.push(call.expect("a 100"));
        scene.apns.next_push().await;
    }
    let _other = scene.sleeper(1100).await;
    scene.rouse.kill();
    scene.rouse.start_again();
    for call in &mut calls {
        let answer = call.wait_final().await.expect("an answer");
        assert_eq!(answer.status(), Some(480));
    }
}

#[tokio::test]
async fn a_call_that_is_up_ends_after_a_kill() {
    let mut scene = Scene::new().await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    scene.rouse.kill();
    scene.rouse.start_again();
    let (status, bye) = tokio::join!(call.hangup(), ringing.wait_bye());
    bye.expect("the BYE comes");
    assert_eq!(status.expect("it is answered"), 200);
}
