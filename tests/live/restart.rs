//! Rouse is killed and started again between a REGISTER and a call.

use crate::rig::asterisk::Keeps;
use crate::rig::stage::{Peers, SOON, Stage};

on_every_path!(a_sleeper_is_woken_after_rouse_was_killed_and_started_again);
on_both_asterisks!(
    a_registration_acknowledged_just_before_a_kill_is_kept,
    a_phone_that_registers_again_after_a_restart_is_called_once,
);

mod awake {
    mod chan_sip {
        tests!(Sixteen, Udp: an_awake_phone_on_udp_is_called_after_a_restart_without_a_push);
    }
    mod pjsip {
        tests!(TwentyTwo, Udp: an_awake_phone_on_udp_is_called_after_a_restart_without_a_push);
    }
}

/// Its flow outlives the process that knew it.
async fn an_awake_phone_on_udp_is_called_after_a_restart_without_a_push(peers: Peers) {
    let mut stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.rouse.kill();
    stage.rouse.start_again();

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
    assert!(stage.push.of(&handset, "call").is_empty(), "it was awake");
}

async fn a_sleeper_is_woken_after_rouse_was_killed_and_started_again(peers: Peers) {
    let mut stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();
    stage.rouse.kill();
    stage.rouse.start_again();

    called_and_woken(&stage, &agent, &mut handset).await;
}

async fn a_registration_acknowledged_just_before_a_kill_is_kept(peers: Peers) {
    let mut stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.rouse.kill();
    handset.sleep();
    stage.rouse.start_again();

    stage.reachable(&agent).await;
    called_and_woken(&stage, &agent, &mut handset).await;
}

async fn a_phone_that_registers_again_after_a_restart_is_called_once(peers: Peers) {
    let mut stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.rouse.kill();
    stage.rouse.start_again();
    handset.wake().await;
    assert_eq!(stage.asterisk.contacts(&agent).len(), 1);
    stage.reachable(&agent).await;

    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
    assert!(stage.push.of(&handset, "call").is_empty(), "it was awake");
}

async fn called_and_woken(
    stage: &Stage,
    agent: &crate::rig::asterisk::Agent,
    handset: &mut crate::rig::handset::Handset,
) {
    stage.asterisk.call(agent, 9);
    stage.push.next(handset, "call", 1).await;
    handset.wake().await;
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(stage.asterisk.call_ended(agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}
