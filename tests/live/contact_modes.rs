//! `contact = "device"` and `contact = "path"`: Asterisk keeps a contact for each device.

use crate::rig::asterisk::Keeps;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};

on_every_path!(
    an_awake_phone_is_called_by_its_path,
    a_sleeping_phone_is_woken_by_its_path,
);

on_both_asterisks!(
    a_phone_on_a_path_is_cancelled,
    a_phone_on_a_path_leaves,
    a_phone_that_comes_back_from_elsewhere_on_a_path_is_called_once,
);

/// chan_sip keeps one contact whatever it is sent.
mod many {
    mod udp {
        tests!(TwentyTwo, Udp: asterisk_forks_to_each_device);
    }
    mod tls {
        tests!(TwentyTwo, Tls: asterisk_forks_to_each_device);
    }
}

async fn asterisk_forks_to_each_device(peers: Peers) {
    let setup = Setup {
        contact: "device",
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    let (agent, mut first) = stage.agent(Keeps::Many);
    let mut second = stage.device(&agent);
    first.wake().await;
    // PJSIP's 200 lists all contacts of the agent: the phone is shown its own.
    let registered = second.wake().await;
    assert_eq!(registered.contacts.len(), 1, "{:?}", registered.contacts);
    assert_eq!(stage.asterisk.contacts(&agent).len(), 2);
    // A phone that comes back from another port is the same device.
    first.wake().await;
    assert_eq!(stage.asterisk.contacts(&agent).len(), 2);
    stage.reachable(&agent).await;
    second.sleep();

    stage.asterisk.call(&agent, 9);
    let mut ringing = first.app().next_call().await.expect("the awake one rings");
    ringing.ring().await.expect("it rings");
    stage.push.next(&second, "call", 1).await;
    second.wake().await;
    let mut call = second.app().next_call().await.expect("the woken one rings");
    call.answer().await.expect("the ACK comes");
    let cancelled = ringing
        .wait_cancel()
        .await
        .expect("PJSIP cancels the other");
    let reason = cancelled.reasons.join(", ");
    assert!(reason.contains("cause=200"), "{reason}");
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");
    assert_eq!((first.invites(), second.invites()), (1, 1));
    assert_eq!(stage.asterisk.contacts(&agent).len(), 2);

    first.app().unregister().await.expect("it may leave");
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
}

async fn on_a_path(peers: Peers) -> Stage {
    let setup = Setup {
        contact: "path",
        ..Setup::default()
    };
    Stage::with(peers, &setup).await
}

async fn an_awake_phone_is_called_by_its_path(peers: Peers) {
    let stage = on_a_path(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    // The phone does not say `Supported: path`: PJSIP would answer 420.
    handset.wake().await;
    let [contact] = &stage.asterisk.contacts(&agent)[..] else {
        panic!("{:?}", stage.asterisk.contacts(&agent));
    };
    assert!(!contact.contains("pn-"), "{contact}");
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    // PJSIP puts the Path's Routes on the BYE once more.
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}

async fn a_sleeping_phone_is_woken_by_its_path(peers: Peers) {
    let stage = on_a_path(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();

    stage.asterisk.call(&agent, 9);
    stage.push.next(&handset, "call", 1).await;
    handset.wake().await;
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}

async fn a_phone_on_a_path_is_cancelled(peers: Peers) {
    let stage = on_a_path(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 1);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.wait_cancel().await.expect("Dial's time is up");
    let end = stage.asterisk.call_ended(&agent, SOON).await;
    assert!(end.starts_with("NOANSWER/"), "{end}");
    assert_eq!(handset.invites(), 1);
}

async fn a_phone_on_a_path_leaves(peers: Peers) {
    let stage = on_a_path(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    handset.app().unregister().await.expect("it may leave");
    assert!(stage.asterisk.contacts(&agent).is_empty());
}

async fn a_phone_that_comes_back_from_elsewhere_on_a_path_is_called_once(peers: Peers) {
    let stage = on_a_path(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::Path);
    handset.wake().await;
    // From another port: another Contact URI, the same device.
    handset.wake().await;
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}
