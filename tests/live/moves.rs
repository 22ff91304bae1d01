//! Phones on the move: another address or another transport, in the middle of a call or asleep; and
//! more than one call for a phone.

use rouse::proto::Transport;
use rouse::standin::call::{Content, plain_sdp};

use crate::rig::asterisk::Keeps;
use crate::rig::push::Provider;
use crate::rig::stage::{Peers, SOON, Stage};

on_both_asterisks!(
    asterisks_bye_and_reinvite_follow_a_phone_that_moved_in_mid_call,
    a_phone_that_moved_in_mid_call_changes_it_and_hangs_up,
    a_phone_that_moved_while_it_rang_answers,
    a_phone_wakes_on_another_transport_than_it_slept_on,
    a_second_call_reaches_a_phone_in_a_call_without_a_push,
    one_of_three_answers_while_another_is_still_waking,
);

/// Another than it has, from another address: Wi-Fi is left.
const fn another(transport: Transport) -> Transport {
    match transport {
        Transport::Tcp | Transport::Ws | Transport::Wss => Transport::Udp,
        Transport::Tls => Transport::Tcp,
        Transport::Udp => Transport::Tls,
    }
}

/// Media goes between the phones, so that Asterisk sends a re-INVITE before its BYE.
async fn asterisks_bye_and_reinvite_follow_a_phone_that_moved_in_mid_call(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut caller) = stage.agent(Keeps::OneDirect);
    let (agent, mut callee) = stage.agent(Keeps::OneDirect);
    caller.wake().await;
    callee.wake().await;
    stage.reachable(&agent).await;
    let sdp = plain_sdp(caller.app().local_addr().ip());
    let outgoing = caller.app().call(&agent.user, &sdp).await;
    let mut outgoing = outgoing.expect("it may call");
    let mut incoming = callee.app().next_call().await.expect("it rings");
    incoming.answer().await.expect("the ACK comes");
    outgoing.wait_answer().await.expect("it is answered");
    incoming.wait_reinvite().await.expect("the media moves");
    outgoing.wait_reinvite().await.expect("the media moves");

    callee.roam(&stage.rouse, another(peers.phone)).await;
    assert_eq!(outgoing.hangup().await.expect("the BYE is answered"), 200);
    incoming
        .wait_reinvite()
        .await
        .expect("the media comes back");
    incoming.wait_bye().await.expect("the caller has hung up");
    assert_eq!((caller.invites(), callee.invites()), (0, 1));
    assert!(stage.push.of(&callee, "call").is_empty(), "it was awake");
}

async fn a_phone_that_moved_in_mid_call_changes_it_and_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;

    handset.roam(&stage.rouse, another(peers.phone)).await;
    let sdp = plain_sdp(handset.app().local_addr().ip());
    let response = call.reinvite_with(Content::sdp(&sdp)).await;
    assert_eq!(response.expect("it is answered").status(), Some(200));
    // Back to where it was, and the end without another word.
    handset.roam(&stage.rouse, peers.phone).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}

/// Its INVITE sits on a connection that is gone: the call comes again, where the phone is.
async fn a_phone_that_moved_while_it_rang_answers(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");

    // The app starts anew, as Android's does.
    handset.use_transport(&stage.rouse, another(peers.phone));
    handset.wake().await;
    let mut call = handset.app().next_call().await.expect("it rings there");
    call.ring().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 2, "once in each place");
}

async fn a_phone_wakes_on_another_transport_than_it_slept_on(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    for round in 1..=2 {
        handset.sleep();
        stage.asterisk.call(&agent, 9);
        stage.push.next(&handset, "call", round).await;
        let transport = another(handset.config.transport);
        handset.use_transport(&stage.rouse, transport);
        handset.wake().await;
        let mut call = handset.app().next_call().await.expect("it rings");
        call.answer().await.expect("the ACK comes");
        stage.talking(&agent).await;
        stage.asterisk.hang_up(&agent);
        call.wait_bye().await.expect("Asterisk hangs up");
        assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
        assert_eq!(handset.invites(), round);
        assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    }
}

async fn a_second_call_reaches_a_phone_in_a_call_without_a_push(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 9);
    let mut first = handset.app().next_call().await.expect("it rings");
    first.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;

    // Refused at first, then taken, while the first goes on.
    stage.asterisk.call(&agent, 9);
    let mut second = handset.app().next_call().await.expect("it rings too");
    assert_ne!(first.call_id(), second.call_id());
    second.reject(486).await.expect("the ACK comes");
    stage.asterisk.call(&agent, 9);
    let mut third = handset.app().next_call().await.expect("it rings again");
    third.ring().await.expect("it rings");
    third.answer().await.expect("the ACK comes");
    assert_eq!(third.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.channels_of(&agent), 1);
    assert_eq!(first.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 3);
    assert!(stage.push.of(&handset, "call").is_empty(), "it was awake");
}

async fn one_of_three_answers_while_another_is_still_waking(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut awake) = stage.agent(Keeps::One);
    let mut quick = stage.device(&agent);
    let mut slow = stage.device(&agent);
    for handset in [&mut slow, &mut quick, &mut awake] {
        handset.wake().await;
    }
    stage.reachable(&agent).await;
    quick.sleep();
    slow.sleep();

    stage.asterisk.call(&agent, 9);
    let mut ringing = awake.app().next_call().await.expect("the awake one rings");
    ringing.ring().await.expect("it rings");
    stage.push.next(&slow, "call", 1).await;
    stage.push.next(&quick, "call", 1).await;
    quick.wake().await;
    let mut woken = quick.app().next_call().await.expect("the quick one rings");
    woken.ring().await.expect("it rings");
    ringing.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    let cancelled = woken.wait_cancel().await.expect("it stops ringing");
    answered_elsewhere(&cancelled.reasons);
    slow.wake().await;
    match slow.provider {
        // A VoIP push has obliged the app to show a call: it gets it with its end.
        Provider::Apns => {
            let mut late = slow.app().next_call().await.expect("the late call comes");
            let cancelled = late.wait_cancel().await.expect("and is cancelled at once");
            answered_elsewhere(&cancelled.reasons);
        }
        Provider::Fcm | Provider::WebPush | Provider::Webhook => {
            stage.push.next(&slow, "cancel", 1).await;
            slow.stays_silent(std::time::Duration::from_millis(500))
                .await;
        }
    }
    assert_eq!(ringing.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!((awake.invites(), quick.invites()), (1, 1));
}

fn answered_elsewhere(reasons: &[String]) {
    let reasons = reasons.join(", ");
    assert!(
        reasons.contains("cause=200") && reasons.contains("Call completed elsewhere"),
        "{reasons}"
    );
}
