//! Asterisk gone, back, silent, refusing, one of two, elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use parking_lot::Mutex;
use rouse::proto::Transport;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;
use tokio::net::UdpSocket;

use crate::rig::dns::Dns;
use crate::rig::scene::{Scene, asterisk, registered, talk, token};
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
    config.patience = Duration::from_secs(3);
    let _phone = registered(&config).await;
    let SocketAddr::V4(address) = scene.asterisk.address() else {
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
    let SocketAddr::V4(address) = scene.asterisk.address() else {
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

/// How long a datagram is on its way to a slow Asterisk, and back.
const SLOW: Duration = Duration::from_secs(1);

/// An address behind which an Asterisk is that takes its time.
async fn slow_way(to: SocketAddr) -> SocketAddr {
    let bind = async || UdpSocket::bind((loopback::address(), 5060)).await;
    let near = Arc::new(bind().await.expect("an address"));
    let far = Arc::new(bind().await.expect("an address"));
    let address = near.local_addr().expect("it is bound");
    let peer = Arc::new(Mutex::new(address));
    tokio::spawn(carry(Arc::clone(&near), Arc::clone(&far), {
        let peer = Arc::clone(&peer);
        move |from| {
            *peer.lock() = from;
            to
        }
    }));
    tokio::spawn(carry(far, near, move |_| *peer.lock()));
    address
}

async fn carry(
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    whither: impl Fn(SocketAddr) -> SocketAddr,
) {
    let mut buffer = vec![0; 65_536];
    while let Ok((length, sender)) = from.recv_from(&mut buffer).await {
        let (bytes, to) = (buffer[..length].to_vec(), Arc::clone(&to));
        let target = whither(sender);
        tokio::spawn(async move {
            tokio::time::sleep(SLOW).await;
            // dropped: whoever sent it sends it again.
            to.send_to(&bytes, target).await.ok();
        });
    }
}

#[tokio::test]
async fn an_asterisk_that_answers_after_seconds_keeps_nobody_else_waiting() {
    let slow = asterisk(loopback::address()).await;
    let node = slow_way(slow.address()).await;
    let scene = Scene::with(|setup| setup.nodes = format!("\"sip:{node};transport=udp\"")).await;
    let awake = scene.handset(1001, Transport::Udp);
    let sleeper = scene.handset(1002, Transport::Tcp);
    let (mut awake, asleep) = tokio::join!(registered(&awake), registered(&sleeper));
    asleep.sleep();
    assert_eq!(
        slow.registers_accepted(),
        2,
        "what is sent again counts once"
    );
    let mut held = slow.call("1002", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1002));
    let call = async {
        let begun = Instant::now();
        let mut call = slow.call("1001", "2000").await.expect("a 100");
        let mut ringing = awake.next_call().await.expect("it rings");
        talk(&mut ringing, &mut call).await;
        begun.elapsed()
    };
    // It comes for its call, which takes two answers of Asterisk's.
    let (took, mut phone) = tokio::join!(call, registered(&sleeper));
    assert!(
        took < SLOW * 2,
        "{took:?} for a call that asks Asterisk nothing"
    );
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut held).await;
    assert_eq!(phone.invites_seen(), 1);
}

#[tokio::test]
#[ignore = "takes 33 s: make test-faults"]
async fn an_asterisk_that_never_answers_leaves_its_phones_to_their_timers_and_costs_nobody_a_call()
{
    let silent = UdpSocket::bind((loopback::address(), 5060)).await;
    let silent = silent.expect("an address");
    let node = silent.local_addr().expect("it is bound");
    let scene = Scene::with(|setup| {
        setup.tables += &format!(
            "[[upstream]]\nname = \"silent\"\ndomains = [\"silent.test\"]\n\
             nodes = [\"sip:{node};transport=udp\"]\ntrust = [\"127.0.0.0/8\"]\n"
        );
    })
    .await;
    let mut lost = scene.handset(1003, Transport::Tcp);
    lost.domain = "silent.test".to_owned();
    lost.patience = Duration::from_secs(60);
    let lost = async {
        let mut phone = Phone::wake(lost, Timeline::new()).await.expect("a socket");
        phone.register().await.err()
    };
    let others = async {
        let _sleeper = scene.sleeper(1001).await;
        let config = scene.handset(1002, Transport::Udp);
        let mut awake = registered(&config).await;
        let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
        let mut ringing = awake.next_call().await.expect("it rings");
        talk(&mut ringing, &mut call).await;
        let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
        assert_eq!(scene.apns.next_push().await.token, token(1001));
    };
    let (refusal, ()) = tokio::join!(lost, others);
    // A 408 to what is no INVITE would only add to what is under way (RFC 4320 §4.2).
    let refusal = refusal.expect("nobody can have accepted it");
    assert_eq!(refusal.status(), None, "{refusal:?}");
}

#[tokio::test]
async fn an_asterisk_that_moves_in_dns_is_followed_and_its_last_address_outlives_dns() {
    let Some(dns) = Dns::serve("pbx.rouse.test") else {
        return;
    };
    let old = loopback::address();
    let new = asterisk(loopback::address()).await;
    dns.answers(Some(old));
    let old = asterisk(old).await;
    let scene = Scene::with(|setup| {
        setup.nodes = "\"sip:pbx.rouse.test:5060;transport=udp\"".to_owned();
        setup.through = dns.through();
    })
    .await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = at_last(&config).await;
    old.registered("1001").await.expect("it is where DNS says");

    let SocketAddr::V4(address) = new.address() else {
        panic!("an IPv4 address");
    };
    dns.answers(Some(*address.ip()));
    eventually("the new address is asked", async || {
        phone.register().await.expect("one of them answers");
        (new.registers_accepted() > 0).then_some(())
    })
    .await;
    let mut call = new.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;

    // Its TTL is over many times; the last answer holds.
    dns.answers(None);
    scene.rouse.says("upstream node not resolved", 1).await;
    let before = new.registers_accepted();
    phone.register().await.expect("the last address holds");
    assert_eq!(new.registers_accepted(), before + 1);
}
