//! Calls to and from a phone that is awake.

use std::time::Duration;

use rouse::standin::call::plain_sdp;

use crate::rig::asterisk::Keeps;
use crate::rig::stage::{Peers, SOON, Stage};

on_every_path!(
    an_awake_phone_is_called_and_asterisk_hangs_up,
    an_awake_phone_is_called_and_hangs_up,
    a_phone_calls_and_hangs_up,
    a_phone_calls_and_asterisk_hangs_up,
    a_phone_that_rings_is_cancelled_when_the_time_is_up,
);

on_both_asterisks!(
    a_busy_agent_is_busy,
    a_phone_gives_up_its_call,
    a_phone_changes_its_call,
    a_phone_calls_with_a_long_offer,
);

async fn an_awake_phone_is_called_and_asterisk_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    let bye = call.wait_bye().await.expect("Asterisk hangs up");
    assert!(
        bye.header_named("X-Asterisk-HangupCause").is_some()
            || bye.header_named("Reason").is_some()
    );

    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
    assert!(
        stage.push.of(&handset, "call").is_empty(),
        "nobody had to be woken"
    );
}

async fn an_awake_phone_is_called_and_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);

    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}

async fn a_phone_calls_and_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;

    let sdp = plain_sdp(handset.app().local_addr().ip());
    let mut call = handset
        .app()
        .call("600", &sdp)
        .await
        .expect("Asterisk lets it call");
    call.wait_answer().await.expect("the echo answers");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.channels_of(&agent), 0);
}

async fn a_phone_calls_and_asterisk_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;

    let sdp = plain_sdp(handset.app().local_addr().ip());
    let mut call = handset
        .app()
        .call("601", &sdp)
        .await
        .expect("Asterisk lets it call");
    call.wait_answer().await.expect("601 answers");
    call.wait_bye().await.expect("601 hangs up after a second");
}

async fn a_phone_that_rings_is_cancelled_when_the_time_is_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 1);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.wait_cancel().await.expect("Dial's time is up");
    let end = stage.asterisk.call_ended(&agent, SOON).await;
    assert!(end.starts_with("NOANSWER/"), "{end}");
    assert_eq!(handset.invites(), 1);
    handset.stays_silent(Duration::from_millis(300)).await;
}

async fn a_busy_agent_is_busy(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.reject(486).await.expect("the ACK comes");
    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "BUSY/17");
}

/// One agent calls another, both behind Rouse, and gives up.
async fn a_phone_gives_up_its_call(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut caller) = stage.agent(Keeps::One);
    let (agent, mut callee) = stage.agent(Keeps::One);
    caller.wake().await;
    callee.wake().await;
    stage.reachable(&agent).await;

    let sdp = plain_sdp(caller.app().local_addr().ip());
    let mut outgoing = caller
        .app()
        .call(&agent.user, &sdp)
        .await
        .expect("it may call");
    let mut incoming = callee.app().next_call().await.expect("it rings");
    incoming.ring().await.expect("it rings");
    outgoing.wait_ringing().await.expect("the caller hears it");
    assert_eq!(outgoing.cancel(&[]).await.expect("the INVITE ends"), 487);
    incoming.wait_cancel().await.expect("it stops ringing");
    assert_eq!((caller.invites(), callee.invites()), (0, 1));
}

/// Hold and the like: a re-INVITE from the phone that called, and from the one that was called.
async fn a_phone_changes_its_call(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;

    let sdp = plain_sdp(handset.app().local_addr().ip());
    let outgoing = handset.app().call("600", &sdp).await;
    let mut outgoing = outgoing.expect("Asterisk lets it call");
    outgoing.wait_answer().await.expect("the echo answers");
    assert_eq!(outgoing.reinvite().await.expect("it is answered"), 200);
    assert_eq!(outgoing.hangup().await.expect("the BYE is answered"), 200);

    stage.asterisk.call(&agent, 9);
    let mut incoming = handset.app().next_call().await.expect("it rings");
    incoming.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(incoming.reinvite().await.expect("it is answered"), 200);
    assert_eq!(incoming.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}

/// An offer with video is longer than a datagram should be (RFC 3261 §18.1.1).
async fn a_phone_calls_with_a_long_offer(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;

    let mut sdp = plain_sdp(handset.app().local_addr().ip());
    for number in 0..60 {
        sdp.push_str(&format!(
            "a=candidate:{number} 1 UDP 2130706431 192.0.2.1 40000 typ host\r\n"
        ));
    }
    let call = handset.app().call("600", &sdp).await;
    let mut call = call.expect("Asterisk lets it call");
    call.wait_answer().await.expect("the echo answers");
    stage.talking(&agent).await;
    assert_eq!(call.reinvite().await.expect("it is answered"), 200);
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.channels_of(&agent), 0);
}
