//! The control: SIPp's phone directly at each Asterisk, without Rouse. When this fails, the rig is
//! broken and not the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rig::asterisk::{Asterisk, Keeps, Version};
use crate::rig::loopback;
use crate::rig::sipp::Sipp;

#[tokio::test]
async fn chan_sip_calls_a_phone_without_a_gateway() {
    calls_a_phone(Version::Sixteen).await;
}

#[tokio::test]
async fn pjsip_calls_a_phone_without_a_gateway() {
    calls_a_phone(Version::TwentyTwo).await;
}

async fn calls_a_phone(version: Version) {
    let asterisk = Asterisk::of(version);
    let agent = asterisk.agent(Keeps::One);
    let phone = SocketAddr::from((loopback::address(), 5060));
    assert!(asterisk.contacts(&agent).is_empty());

    Sipp::new("register", phone, asterisk.address)
        .lines([format!(
            "{0};[authentication username={0} password={1}];",
            agent.user, agent.password
        )])
        .options(&["-m", "1"])
        .run(Duration::from_secs(5));
    assert_eq!(asterisk.contacts(&agent).len(), 1);

    let answers = Sipp::new("uas", phone, asterisk.address).start();
    crate::rig::eventually("qualify answers", Duration::from_secs(5), async || {
        asterisk.is_reachable(&agent).then_some(())
    })
    .await;
    asterisk.call(&agent, 5);
    crate::rig::eventually("the call is up", Duration::from_secs(5), async || {
        (asterisk.channels_of(&agent) == 1).then_some(())
    })
    .await;
    asterisk.hang_up(&agent);
    let end = asterisk.call_ended(&agent, Duration::from_secs(5)).await;
    assert_eq!(end, "ANSWER/16");
    drop(answers);
}
