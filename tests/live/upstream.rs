//! Rouse and Asterisk over TCP and TLS.

use crate::rig::asterisk::{Asterisk, Keeps};
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use rouse::standin::call::plain_sdp;

on_both_asterisks!(
    a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tcp,
    a_sleeping_phone_is_woken_when_asterisk_is_reached_by_tls,
    a_phone_calls_when_asterisk_is_reached_by_tcp,
    a_phone_calls_when_asterisk_is_reached_by_tls,
    an_offer_too_large_for_a_datagram_comes_by_tcp,
    an_offer_too_large_for_a_datagram_comes_by_udp_where_there_is_no_tcp,
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

async fn an_offer_too_large_for_a_datagram_comes_by_tcp(peers: Peers) {
    let stage = Stage::new(peers).await;
    a_large_offer_comes_by(&stage, "SIP/2.0/TCP ").await;
}

async fn an_offer_too_large_for_a_datagram_comes_by_udp_where_there_is_no_tcp(peers: Peers) {
    let asterisk = Asterisk::without_tcp(peers.asterisk);
    let stage = Stage::before(asterisk, peers, &Setup::default()).await;
    a_large_offer_comes_by(&stage, "SIP/2.0/UDP ").await;
}

/// Asterisk is reached by UDP; a phone's offer has more candidates than a datagram takes.
async fn a_large_offer_comes_by(stage: &Stage, transport: &str) {
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    let mut sdp = plain_sdp(handset.app().local_addr().ip());
    for number in 0..30 {
        sdp += &format!("a=candidate:{number} 1 UDP 1 192.0.2.1 40000 typ host\r\n");
    }
    let mut call = handset
        .app()
        .call("601", &sdp)
        .await
        .expect("Asterisk lets it call");
    call.wait_answer().await.expect("601 answers");
    call.wait_bye().await.expect("601 hangs up after a second");
    let received = stage.asterisk.wire(|message| {
        !message.is_sent
            && message.method().is_some()
            && message.header("From").contains(&agent.user)
    });
    let large: Vec<_> = received
        .iter()
        .filter(|message| message.method() == Some("INVITE"))
        .collect();
    assert!(!large.is_empty());
    for message in &large {
        assert!(
            message.header("Via").starts_with(transport),
            "{}",
            message.text
        );
    }
    let small = received
        .iter()
        .find(|message| message.method() == Some("REGISTER"));
    let small = small.expect("it has registered");
    assert!(
        small.header("Via").starts_with("SIP/2.0/UDP "),
        "{}",
        small.text
    );
}
