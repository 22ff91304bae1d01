//! The main job: Asterisk calls an agent whose app is asleep.

use std::time::Duration;

use rouse::standin::call::{IncomingCall, plain_sdp};

use crate::rig::asterisk::{Agent, Keeps};
use crate::rig::handset::Handset;
use crate::rig::push::{Provider, field};
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use crate::rig::wire::Wire;

on_every_path!(
    a_sleeping_phone_is_woken_and_asterisk_hangs_up,
    a_sleeping_phone_is_woken_and_hangs_up,
    a_call_that_is_given_up_while_the_phone_sleeps_does_not_ring,
);

on_both_asterisks!(
    one_agent_wakes_another,
    a_phone_that_never_wakes_counts_as_not_there,
    the_status_of_a_phone_that_never_wakes_can_be_chosen,
    a_dead_token_ends_the_call_at_once,
    a_sleeper_stays_reachable_for_qualify,
    a_phone_woken_once_is_woken_again,
    a_phone_with_two_tokens_in_escapes_is_woken,
    a_user_that_rouse_does_not_know_is_refused,
    two_calls_at_once_share_one_wake,
    a_phone_that_registers_again_while_it_rings_is_not_called_again,
);

/// The agent's app has registered and sleeps; Asterisk calls; the push comes; the app wakes.
pub(crate) async fn woken(stage: &Stage, agent: &Agent, handset: &mut Handset) -> IncomingCall {
    handset.wake().await;
    stage.reachable(agent).await;
    handset.sleep();

    stage.asterisk.call(agent, 9);
    let push = stage.push.next(handset, "call", 1).await;
    assert_eq!(field(&push, "display-name"), "Ada Caller");
    assert!(
        field(&push, "from-uri").contains("5551234"),
        "{:?}",
        push.payload
    );
    assert_eq!(handset.invites(), 0);
    handset.wake().await;
    let call = handset
        .app()
        .next_call()
        .await
        .expect("it rings once it has registered");
    assert_eq!(field(&push, "call-id"), call.call_id());
    call
}

async fn a_sleeping_phone_is_woken_and_asterisk_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = woken(&stage, &agent, &mut handset).await;
    call.ring().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    stage.asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");

    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
    assert_eq!(stage.push.of(&handset, "call").len(), 1);
}

async fn a_sleeping_phone_is_woken_and_hangs_up(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = woken(&stage, &agent, &mut handset).await;
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);

    assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
    assert_eq!(stage.push.of(&handset, "call").len(), 1);
}

async fn a_call_that_is_given_up_while_the_phone_sleeps_does_not_ring(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();

    stage.asterisk.call(&agent, 2);
    let push = stage.push.next(&handset, "call", 1).await;
    let end = stage.asterisk.call_ended(&agent, SOON).await;
    assert!(end.starts_with("NOANSWER/"), "{end}");
    // Asterisk got its 100, so that it could cancel; the INVITE ended with one 487.
    let wire = crate::rig::eventually("the INVITE ends", SOON, async || {
        let wire = stage.dialog(field(&push, "call-id"));
        (answers(&wire).last()? >= &200).then_some(wire)
    })
    .await;
    assert_eq!(answers(&wire), [100, 487]);
    let cancels = wire
        .iter()
        .filter(|message| message.is_sent && message.method() == Some("CANCEL"));
    assert_eq!(cancels.count(), 1);

    handset.wake().await;
    match handset.provider {
        // A VoIP push has obliged the app to show a call: it gets it with its end.
        Provider::Apns => {
            let mut call = handset
                .app()
                .next_call()
                .await
                .expect("the late call comes");
            call.wait_cancel().await.expect("and is cancelled at once");
            assert_eq!(handset.invites(), 1);
        }
        Provider::Fcm | Provider::WebPush | Provider::Webhook => {
            stage.push.next(&handset, "cancel", 1).await;
            handset.stays_silent(Duration::from_secs(1)).await;
            assert_eq!(handset.invites(), 0);
        }
    }
}

/// The statuses that Asterisk got for an INVITE.
fn answers(wire: &[Wire]) -> Vec<u16> {
    wire.iter()
        .filter(|message| !message.is_sent && message.answers() == "INVITE")
        .filter_map(Wire::status)
        .collect()
}

async fn one_agent_wakes_another(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (_, mut caller) = stage.agent(Keeps::One);
    let (agent, mut callee) = stage.agent(Keeps::One);
    caller.wake().await;
    callee.wake().await;
    stage.reachable(&agent).await;
    callee.sleep();

    let sdp = plain_sdp(caller.app().local_addr().ip());
    let mut outgoing = caller
        .app()
        .call(&agent.user, &sdp)
        .await
        .expect("it may call");
    stage.push.next(&callee, "call", 1).await;
    callee.wake().await;
    let mut incoming = callee.app().next_call().await.expect("it rings");
    incoming.ring().await.expect("it rings");
    outgoing.wait_ringing().await.expect("the caller hears it");
    incoming.answer().await.expect("the ACK comes");
    outgoing
        .wait_answer()
        .await
        .expect("the caller is answered");
    assert_eq!(outgoing.hangup().await.expect("the BYE is answered"), 200);
    incoming.wait_bye().await.expect("the caller has hung up");
    assert_eq!((caller.invites(), callee.invites()), (0, 1));
}

async fn a_phone_that_never_wakes_counts_as_not_there(peers: Peers) {
    let setup = Setup {
        timeout: "1s",
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    let end = call_without_waking(&stage).await;
    // What the two make of 480.
    let expected = match peers.asterisk {
        crate::rig::asterisk::Version::Sixteen => "BUSY/19",
        crate::rig::asterisk::Version::TwentyTwo => "NOANSWER/19",
    };
    assert_eq!(end, expected);
}

async fn the_status_of_a_phone_that_never_wakes_can_be_chosen(peers: Peers) {
    let setup = Setup {
        timeout: "1s",
        unreachable_status: 404,
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    assert_eq!(call_without_waking(&stage).await, "CHANUNAVAIL/1");
}

async fn call_without_waking(stage: &Stage) -> String {
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();
    stage.asterisk.call(&agent, 9);
    stage.push.next(&handset, "call", 1).await;
    stage.asterisk.call_ended(&agent, SOON).await
}

async fn a_dead_token_ends_the_call_at_once(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();
    stage.push.forget(&handset);

    stage.asterisk.call(&agent, 9);
    // Rouse's own time would be 8 s.
    let end = stage
        .asterisk
        .call_ended(&agent, Duration::from_secs(4))
        .await;
    assert!(!end.starts_with("ANSWER"), "{end}");
    assert!(stage.push.of(&handset, "call").is_empty());
}

async fn a_sleeper_stays_reachable_for_qualify(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();

    let contacts = stage.asterisk.contacts(&agent);
    let questions = || {
        stage.asterisk.wire(|message| {
            message.is_sent
                && message.method() == Some("OPTIONS")
                && message
                    .uri()
                    .is_some_and(|uri| contacts.iter().any(|contact| contact == uri))
        })
    };
    let before = questions().len();
    crate::rig::eventually(
        "qualify asks again and again",
        Duration::from_secs(10),
        async || {
            assert!(stage.asterisk.is_reachable(&agent));
            (questions().len() >= before + 3).then_some(())
        },
    )
    .await;
    assert!(stage.asterisk.is_reachable(&agent));
    assert!(
        questions().iter().all(|question| !question.is_again),
        "each was answered at once"
    );
    assert!(
        stage.push.of(&handset, "call").is_empty(),
        "qualify wakes nobody"
    );
}

async fn a_phone_woken_once_is_woken_again(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    for round in 1..=2 {
        handset.wake().await;
        stage.reachable(&agent).await;
        handset.sleep();
        stage.asterisk.call(&agent, 9);
        stage.push.next(&handset, "call", round).await;
        handset.wake().await;
        let mut call = handset.app().next_call().await.expect("it rings");
        call.answer().await.expect("the ACK comes");
        stage.talking(&agent).await;
        assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
        assert_eq!(stage.asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
        assert_eq!(handset.invites(), round);
    }
}

async fn a_user_that_rouse_does_not_know_is_refused(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, _) = stage.agent(Keeps::One);
    let uri = format!("sip:nobody@{}:5060", stage.rouse.ip);
    stage.asterisk.call_uri(&agent, &uri);
    let answer = crate::rig::eventually("Rouse refuses", SOON, async || {
        let invite = stage
            .asterisk
            .wire(|message| message.uri() == Some(uri.as_str()));
        let wire = stage.dialog(invite.first()?.header("Call-ID"));
        let mut statuses = wire
            .iter()
            .filter(|message| !message.is_sent)
            .filter_map(|message| message.status());
        statuses.rfind(|status| *status >= 200)
    })
    .await;
    assert!(matches!(answer, 404 | 480), "{answer}");
}

/// Linphone's form: a token for calls and one for the rest, its colons escaped. The phone gets
/// its contact back with the escapes that it sent.
async fn a_phone_with_two_tokens_in_escapes_is_woken(peers: Peers) {
    let peers = Peers {
        phone: rouse::proto::Transport::Tls,
        ..peers
    };
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let token = &handset.token;
    handset.config.push = Some(format!(
        "pn-provider=apns;pn-prid={token}%3Avoip&{token}%3aremote;\
         pn-param=ABCDE12345.com.example.app.voip&remote"
    ));
    let push = handset.config.push.clone().unwrap_or_default();
    let registered = handset.wake().await;
    assert!(
        registered.contacts.concat().contains(&push),
        "{:?}",
        registered.contacts
    );
    let mut call = woken(&stage, &agent, &mut handset).await;
    call.answer().await.expect("the ACK comes");
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
}

async fn two_calls_at_once_share_one_wake(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();

    stage.asterisk.call(&agent, 9);
    stage.asterisk.call(&agent, 9);
    stage.push.next(&handset, "call", 1).await;
    handset.wake().await;
    let mut first = handset.app().next_call().await.expect("one call rings");
    let mut second = handset
        .app()
        .next_call()
        .await
        .expect("the other rings too");
    assert_ne!(first.call_id(), second.call_id());
    second.reject(486).await.expect("the ACK comes");
    first.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(first.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 2);
    assert_eq!(stage.push.of(&handset, "call").len(), 1);
}

async fn a_phone_that_registers_again_while_it_rings_is_not_called_again(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    let mut call = woken(&stage, &agent, &mut handset).await;
    call.ring().await.expect("it rings");
    handset.app().register().await.expect("it refreshes");
    handset.app().register().await.expect("it refreshes");
    handset.stays_silent(Duration::from_millis(300)).await;
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
    assert_eq!(stage.push.of(&handset, "call").len(), 1);
}
