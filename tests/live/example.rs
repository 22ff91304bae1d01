//! `config/asterisk.example`, as an operator would copy it: real Asterisks run by it, and call an
//! agent whose app sleeps.

use crate::rig::asterisk::{Agent, Asterisk};
use crate::rig::push::field;
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};

on_both_asterisks!(an_agent_of_the_example_is_woken_and_talks);

async fn an_agent_of_the_example_is_woken_and_talks(peers: Peers) {
    let asterisk = Asterisk::by_example(peers.asterisk);
    let stage = Stage::before(asterisk, peers, &Setup::default()).await;
    let agent = Agent {
        user: "1001".to_owned(),
        password: "change-me".to_owned(),
    };
    let mut handset = stage.device(&agent);
    handset.wake().await;
    stage.reachable(&agent).await;
    handset.sleep();

    asterisk.call_by_example(&agent);
    let push = stage.push.next(&handset, "call", 1).await;
    handset.wake().await;
    let call = handset.app().next_call().await;
    let mut call = call.expect("it rings once it has registered");
    assert_eq!(field(&push, "call-id"), call.call_id());
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(handset.invites(), 1);
    crate::rig::eventually("no channel is left", SOON, async || {
        asterisk.channels().is_empty().then_some(())
    })
    .await;
}
