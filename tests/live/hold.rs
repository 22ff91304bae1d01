//! What Asterisk sends to a phone that sleeps beside calls: text messages and lamps.

use rouse::proto::sip::{Message, Method};

use crate::rig::asterisk::{Agent, Keeps};
use crate::rig::eventually;
use crate::rig::handset::Handset;
use crate::rig::push::{Provider, field};
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};

on_both_asterisks!(
    messages_wait_for_a_sleeping_phone_and_come_in_order,
    a_message_to_an_awake_phone_is_answered_by_it,
    of_a_lamp_a_sleeping_phone_gets_the_newest_state,
    a_bye_brings_the_phones_purr_and_waits_for_a_phone_that_sleeps_in_its_call,
);

/// The statuses that Asterisk got for its requests of a method to an agent.
fn answers(stage: &Stage, agent: &Agent, method: &str) -> Vec<u16> {
    let user = format!("sip:{}@", agent.user);
    let wire = stage.asterisk.wire(|message| {
        !message.is_sent && message.answers() == method && message.header("To").contains(&user)
    });
    wire.iter().filter_map(|message| message.status()).collect()
}

/// Waits until Asterisk has so many answers.
async fn answered(stage: &Stage, agent: &Agent, method: &str, count: usize) -> Vec<u16> {
    eventually("Asterisk is answered", SOON, async || {
        let answers = answers(stage, agent, method);
        (answers.len() >= count).then_some(answers)
    })
    .await
}

/// The bodies of what the app has seen of a method.
fn bodies(handset: &mut Handset, method: Method<'_>) -> Vec<String> {
    let seen = handset.app().requests_seen().into_iter();
    let seen = seen.filter(|request| request.method() == Some(method));
    let body = |request: Message| String::from_utf8_lossy(request.body()).trim().to_owned();
    seen.map(body).collect()
}

async fn messages_wait_for_a_sleeping_phone_and_come_in_order(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();
    for number in 1..=3 {
        stage.asterisk.message(&agent, number);
        let answers = answered(&stage, &agent, "MESSAGE", number).await;
        assert_eq!(answers, vec![202; number]);
        if handset.provider == Provider::Fcm {
            let push = stage.push.next(&handset, "message", number).await;
            assert!(field(&push, "from-uri").contains("5551234"));
        }
    }
    // A token for calls alone is used for calls alone.
    assert!(stage.push.of(&handset, "call").is_empty());
    handset.wake().await;
    let expected = ["text 1", "text 2", "text 3"];
    eventually("all three come", SOON, async || {
        (bodies(&mut handset, Method::Message) == expected).then_some(())
    })
    .await;
    // Each once, and Asterisk hears no more of them.
    handset.app().register().await.expect("it registers again");
    assert_eq!(bodies(&mut handset, Method::Message), expected);
    assert_eq!(answers(&stage, &agent, "MESSAGE"), [202, 202, 202]);
}

async fn a_message_to_an_awake_phone_is_answered_by_it(peers: Peers) {
    // A phone on a busy machine may take its time.
    let setup = Setup {
        grace: "5s",
        ..Setup::default()
    };
    let stage = Stage::with(peers, &setup).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.message(&agent, 1);
    assert_eq!(answered(&stage, &agent, "MESSAGE", 1).await, [200]);
    assert_eq!(bodies(&mut handset, Method::Message), ["text 1"]);
    assert!(stage.push.of(&handset, "message").is_empty());
}

async fn of_a_lamp_a_sleeping_phone_gets_the_newest_state(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.wake().await;
    stage.reachable(&agent).await;
    // Asterisk tells of the mailbox first.
    let before = answered(&stage, &agent, "NOTIFY", 1).await.len();
    handset.sleep();
    for number in 1..=2 {
        stage.asterisk.lamp(&agent, number);
        let answers = answered(&stage, &agent, "NOTIFY", before + number).await;
        assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    }
    handset.wake().await;
    let lamps = eventually("the lamp is told", SOON, async || {
        let mut lamps = bodies(&mut handset, Method::Notify);
        lamps.retain(|body| body.starts_with("lamp="));
        (!lamps.is_empty()).then_some(lamps)
    })
    .await;
    assert_eq!(lamps, ["lamp=2"]);
    for event in ["call", "message", "wake", "refresh"] {
        assert!(stage.push.of(&handset, event).is_empty(), "{event}");
    }
}

/// Asterisk keeps the parameter of the Contact that it does not know, and sends to it.
async fn a_bye_brings_the_phones_purr_and_waits_for_a_phone_that_sleeps_in_its_call(peers: Peers) {
    let stage = Stage::new(peers).await;
    let (agent, mut handset) = stage.agent(Keeps::One);
    handset.config.uses_purr = true;
    handset.wake().await;
    stage.reachable(&agent).await;
    stage.asterisk.call(&agent, 9);
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    handset.sleep();

    stage.asterisk.hang_up(&agent);
    let call_id = call.call_id().to_owned();
    let bye = eventually("Asterisk sends its BYE", SOON, async || {
        let mut wire = stage.dialog(&call_id).into_iter();
        wire.find(|message| message.is_sent && message.method() == Some("BYE"))
    })
    .await;
    let uri = bye.uri().expect("it is a request");
    assert!(uri.contains(";pn-purr="), "{uri}");
    assert!(!uri.contains("pn-prid"), "{uri}");
    if handset.provider == Provider::Fcm {
        stage.push.next(&handset, "wake", 1).await;
    }
    assert_eq!(stage.push.of(&handset, "call").len(), 0);
    handset.wake().await;
    eventually("the BYE reaches the phone", SOON, async || {
        let mut seen = handset.app().requests_seen().into_iter();
        seen.find(|request| request.method() == Some(Method::Bye))
    })
    .await;
    eventually("and its answer Asterisk", SOON, async || {
        let wire = stage.dialog(&call_id);
        let mut answers = wire.iter().filter(|message| message.answers() == "BYE");
        answers.any(|answer| !answer.is_sent).then_some(())
    })
    .await;
}
