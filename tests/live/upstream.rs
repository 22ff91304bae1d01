//! Rouse and Asterisk over TCP and TLS.

use crate::rig::asterisk::Keeps;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use rouse::standin::call::plain_sdp;

on_both_asterisks!(
    a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tcp,
    a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tls,
    a_phone_calls_when_asterisk_is_reached_by_tcp,
    a_phone_calls_when_asterisk_is_reached_by_tls,
);

async fn by(peers: Peers, upstream: &'static str) -> Stage {
    let setup = Setup {
        upstream,
        ..Setup::default()
    };
    Stage::with(peers, &setup).await
}

async fn a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tcp(peers: Peers) {
    a_sleeping_phone_is_woken(peers, "tcp").await;
}

async fn a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tls(peers: Peers) {
    a_sleeping_phone_is_woken(peers, "tls").await;
}

async fn a_phone_calls_when_asterisk_is_reached_by_tcp(peers: Peers) {
    a_phone_calls(peers, "tcp").await;
}

async fn a_phone_calls_when_asterisk_is_reached_by_tls(peers: Peers) {
    a_phone_calls(peers, "tls").await;
}

async fn a_sleeping_phone_is_woken(peers: Peers, upstream: &'static str) {
    let stage = by(peers, upstream).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
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

async fn a_phone_calls(peers: Peers, upstream: &'static str) {
    let stage = by(peers, upstream).await;
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
