//! A registration that its phone does not refresh outlives what Asterisk granted, by the gateway's own
//! REGISTERs.

use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use rouse::proto::Transport;

use crate::rig::asterisk::{Asterisk, Keeps, Version};
use crate::rig::rouse::Setup;
use crate::rig::stage::{Peers, SOON, Stage};
use crate::rig::{eventually, home};

/// The shortest registration of a phone that is pushed, seconds.
const GRANTED: u64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes five minutes: make test-peers"]
async fn a_phone_that_slept_past_its_registration_before_chan_sip_still_rings() {
    sleeps_past_its_registration(Peers {
        asterisk: Version::Sixteen,
        phone: Transport::Tls,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes five minutes: make test-peers"]
async fn a_phone_that_slept_past_its_registration_before_pjsip_still_rings() {
    sleeps_past_its_registration(Peers {
        asterisk: Version::TwentyTwo,
        phone: Transport::Tcp,
    })
    .await;
}

async fn sleeps_past_its_registration(peers: Peers) {
    let asterisk = Asterisk::of(peers.asterisk);
    let agent = asterisk.agent(Keeps::One);
    let (user, password) = (&agent.user, &agent.password);
    let secrets = home::directory("keep").join("agents.htdigest");
    let hash = Md5::digest(format!("{user}:asterisk:{password}"));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    home::write(&secrets, &format!("{user}:asterisk:{hash}\n"));
    let setup = Setup {
        expires: "5m",
        keep: format!(
            "keep = true\ncredentials = {{ file = \"{}\" }}",
            secrets.display()
        ),
        ..Setup::default()
    };
    let stage = Stage::before(asterisk, peers, &setup).await;
    let mut handset = stage.device(&agent);
    handset.config.expires = GRANTED.try_into().expect("it is small");
    let registered = handset.wake().await;
    let end = Instant::now() + Duration::from_secs(registered.expires.into());
    stage.reachable(&agent).await;
    handset.sleep();

    let patience = Duration::from_secs(GRANTED + 30);
    eventually("its registration would have ended", patience, async || {
        (Instant::now() > end + Duration::from_secs(2)).then_some(())
    })
    .await;
    assert_eq!(asterisk.contacts(&agent).len(), 1, "Asterisk still has it");
    assert_eq!(stage.push.of(&handset, "call").len(), 0);
    asterisk.call(&agent, 9);
    stage.push.next(&handset, "call", 1).await;
    handset.wake().await;
    let mut call = handset.app().next_call().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    stage.talking(&agent).await;
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    assert_eq!(asterisk.call_ended(&agent, SOON).await, "ANSWER/16");
    assert_eq!(handset.invites(), 1);
}
