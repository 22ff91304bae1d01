//! SIGTERM: no new calls, those under way end, and what was acknowledged is there afterwards.

use nix::sys::signal::Signal;
use rouse::proto::sip::HeaderName;

use crate::rig::scene::{Scene, registered, talk, token};

#[tokio::test]
async fn a_call_that_is_held_at_sigterm_still_rings_and_then_the_process_ends() {
    let mut scene = Scene::new().await;
    let (sleeper, _other) = (scene.sleeper(1001).await, scene.sleeper(1002).await);
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));

    scene.rouse.signal(Signal::SIGTERM);
    scene.rouse.says("SIGTERM: stopping", 1).await;
    // Nobody knows when the shard has heard of it: a call that came before is held too.
    let refused = loop {
        let mut call = scene
            .asterisk
            .call("1002", "2001")
            .await
            .expect("an answer");
        if scene
            .apns
            .accepted()
            .iter()
            .all(|push| push.token != token(1002))
        {
            break call.wait_final().await.expect("an answer");
        }
        call.cancel(&[]).await.expect("it is held");
    };
    assert_eq!(refused.status(), Some(503));
    assert!(refused.header(HeaderName::RetryAfter).is_some());

    let mut phone = registered(&sleeper).await;
    let mut call = phone.next_call().await.expect("it rings");
    talk(&mut call, &mut held).await;
    assert!(scene.rouse.ended().await.success());
}

#[tokio::test]
async fn a_second_sigterm_waits_for_no_call() {
    let mut scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    scene.rouse.signal(Signal::SIGTERM);
    scene.rouse.says("SIGTERM: stopping", 1).await;
    scene.rouse.signal(Signal::SIGTERM);
    assert!(scene.rouse.ended().await.success());
    let log = scene.rouse.log();
    assert!(
        log.contains("SIGTERM again: 1 calls under way are lost"),
        "{log}"
    );
}

#[tokio::test]
async fn a_call_that_nobody_takes_ends_with_the_grace_time() {
    let mut scene = Scene::with(|setup| setup.keys = "drain = \"500ms\"".to_owned()).await;
    let _sleeper = scene.sleeper(1001).await;
    let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    scene.rouse.signal(Signal::SIGTERM);
    assert!(scene.rouse.ended().await.success());
    let log = scene.rouse.log();
    assert!(log.contains("calls under way did not end in time"), "{log}");
}

#[tokio::test]
async fn a_phone_registers_while_calls_under_way_end_and_is_there_after_a_restart() {
    let mut scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    scene.rouse.signal(Signal::SIGTERM);
    scene.rouse.says("SIGTERM: stopping", 1).await;
    let late = scene.sleeper(1002).await;
    scene.rouse.signal(Signal::SIGTERM);
    assert!(scene.rouse.ended().await.success());

    scene.rouse.start_again();
    let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
    // The held call goes on as well: its phone is woken once more.
    while scene.apns.next_push().await.token != token(1002) {}
    let mut phone = registered(&late).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}
