//! Asterisk gone, back, silent, refusing, one of two, elsewhere.

use nix::sys::signal::Signal;
use rouse::proto::Transport;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;
use tokio::net::UdpSocket;

use crate::rig::scene::{Scene, asterisk, registered, talk};
use crate::rig::{eventually, loopback};

/// A phone that registers until it is let in.
async fn at_last(config: &rouse::standin::phone::PhoneConfig) -> Phone {
    let mut phone = Phone::wake(config.clone(), Timeline::new())
        .await
        .expect("a socket");
    eventually("the phone registers", async || phone.register().await.ok()).await;
    phone
}

#[tokio::test]
async fn an_asterisk_that_dies_and_comes_back_is_found_again() {
    let mut scene = Scene::new().await;
    let mut config = scene.handset(1001, Transport::Udp);
    config.patience = std::time::Duration::from_secs(3);
    let _phone = registered(&config).await;
    let std::net::SocketAddr::V4(address) = scene.asterisk.address() else {
        panic!("an IPv4 address");
    };
    drop(scene.asterisk);
    let mut away = Phone::wake(config.clone(), Timeline::new())
        .await
        .expect("a socket");
    assert!(away.register().await.is_err(), "nobody answers");
    scene.asterisk = asterisk(*address.ip()).await;
    let mut phone = at_last(&config).await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}

#[tokio::test]
async fn a_caller_that_dies_while_the_phone_rings_leaves_no_call_behind() {
    let mut scene = Scene::with(|setup| setup.timeout = "2s").await;
    let _sleeper = scene.sleeper(1001).await;
    let call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    drop(call);
    let std::net::SocketAddr::V4(address) = scene.asterisk.address() else {
        panic!("an IPv4 address");
    };
    drop(scene.asterisk);
    scene.asterisk = asterisk(*address.ip()).await;
    // Its 480 goes to one that knows nothing of it; then nothing is under way.
    scene.rouse.signal(Signal::SIGTERM);
    assert!(scene.rouse.ended().await.success());
    let log = scene.rouse.log();
    assert!(!log.contains("did not end in time"), "{log}");
}

#[tokio::test]
async fn the_second_node_serves_while_the_first_is_dead_and_the_first_when_it_is_back() {
    let first = loopback::address();
    let second = asterisk(loopback::address()).await;
    let nodes = format!(
        "\"sip:{first}:5060;transport=tcp\", \"sip:{};transport=udp\"",
        second.address()
    );
    let scene = Scene::with(|setup| setup.nodes = nodes).await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = at_last(&config).await;
    second
        .registered("1001")
        .await
        .expect("the second is asked");
    let before = second.registers_accepted();
    let first = asterisk(first).await;
    eventually("the first serves again", async || {
        phone.register().await.expect("one of them answers");
        (first.registers_accepted() > 0).then_some(())
    })
    .await;
    assert!(before > 0);
}

#[tokio::test]
async fn a_node_that_says_503_is_left_for_the_other_and_the_phone_sees_none_of_it() {
    let refusing = UdpSocket::bind((loopback::address(), 5060))
        .await
        .expect("an address");
    let second = asterisk(loopback::address()).await;
    let nodes = format!(
        "\"sip:{};transport=udp\", \"sip:{};transport=udp\"",
        refusing.local_addr().expect("it is bound"),
        second.address()
    );
    let scene = Scene::with(|setup| setup.nodes = nodes).await;
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = refusing.recv_from(&mut buffer).await {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let kept = text.lines().filter(|line| {
                ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                    .iter()
                    .any(|name| line.starts_with(name))
            });
            let lines: Vec<&str> = kept.collect();
            let answer = format!(
                "SIP/2.0 503 Service Unavailable\r\n{}\r\nContent-Length: 0\r\n\r\n",
                lines.join("\r\n")
            );
            // dropped: whoever asked asks again.
            refusing.send_to(answer.as_bytes(), from).await.ok();
        }
    });
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = Phone::wake(config, Timeline::new())
        .await
        .expect("a socket");
    let registered = phone.register().await.expect("the second answers");
    assert_eq!(registered.status, 200);
    second
        .registered("1001")
        .await
        .expect("the second is asked");
}
