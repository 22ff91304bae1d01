//! The control: SIPp's phone and ours directly at each Asterisk, without Rouse. When this fails, the rig is
//! broken and not the gateway.

use std::net::SocketAddr;
use std::time::Duration;

use rouse::proto::Transport;
use rouse::standin::call::plain_sdp;
use rouse::standin::phone::{Phone, PhoneConfig};
use rouse::standin::timeline::Timeline;

use crate::rig::asterisk::{Asterisk, Keeps, Version};
use crate::rig::sipp::Sipp;
use crate::rig::{eventually, loopback};

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
    eventually("qualify answers", Duration::from_secs(5), async || {
        asterisk.is_reachable(&agent).then_some(())
    })
    .await;
    asterisk.call(&agent, 5);
    eventually("the call is up", Duration::from_secs(5), async || {
        (asterisk.channels_of(&agent) == 1).then_some(())
    })
    .await;
    asterisk.hang_up(&agent);
    let end = asterisk.call_ended(&agent, Duration::from_secs(5)).await;
    assert_eq!(end, "ANSWER/16");
    drop(answers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_phone_is_a_phone_to_chan_sip() {
    talks_to_our_phone(Version::Sixteen, Transport::Udp).await;
    talks_to_our_phone(Version::Sixteen, Transport::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_phone_is_a_phone_to_pjsip() {
    talks_to_our_phone(Version::TwentyTwo, Transport::Udp).await;
    talks_to_our_phone(Version::TwentyTwo, Transport::Tcp).await;
}

async fn talks_to_our_phone(version: Version, transport: Transport) {
    let asterisk = Asterisk::of(version);
    let agent = asterisk.agent(Keeps::One);
    let domain = asterisk.address.ip().to_string();
    let config = PhoneConfig {
        transport,
        ..PhoneConfig::new(&agent.user, &domain, &agent.password, asterisk.address)
    };
    let mut phone = Phone::wake(config, Timeline::new())
        .await
        .expect("it connects");
    phone.register().await.expect("it registers");
    eventually("qualify answers", Duration::from_secs(5), async || {
        asterisk.is_reachable(&agent).then_some(())
    })
    .await;

    asterisk.call(&agent, 5);
    let mut call = phone.next_call().await.expect("it rings");
    call.ring().await.expect("it rings");
    call.answer().await.expect("the ACK comes");
    asterisk.hang_up(&agent);
    call.wait_bye().await.expect("Asterisk hangs up");

    let sdp = plain_sdp(phone.local_addr().ip());
    let mut call = phone.call("600", &sdp).await.expect("it may call");
    call.wait_answer().await.expect("the echo answers");
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
    let left = phone.unregister().await.expect("it may leave");
    assert_eq!(left.status, 200);
    assert!(asterisk.contacts(&agent).is_empty());
}
