//! A new process takes over while the old one serves.

use std::net::SocketAddr;
use std::time::Duration;

use rouse::proto::Transport;

use crate::rig::scene::{PASSWORD, Scene, registered, talk, token};
use crate::rig::sipp::Sipp;
use crate::rig::{SOON, loopback};

#[tokio::test]
async fn a_call_that_is_held_rings_in_the_process_that_took_over() {
    let mut scene = Scene::new().await;
    let sleeper = scene.sleeper(1001).await;
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
    let mut old = scene.rouse.take_over().await;
    assert_eq!(scene.apns.next_push().await.token, token(1001));
    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut held).await;
    assert_eq!(phone.invites_seen(), 1);
    assert!(old.ended().await.success(), "nothing else was under way");
}

#[tokio::test]
async fn a_call_that_rings_is_answered_through_the_process_that_began_it() {
    let mut scene = Scene::new().await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    ringing.ring().await.expect("a socket");
    assert_eq!(call.wait_ringing().await.expect("a 180"), 180);
    let mut old = scene.rouse.take_over().await;
    talk(&mut ringing, &mut call).await;
    assert!(old.ended().await.success(), "it was the last");
    assert_eq!(call.hangup().await.expect("through the new one"), 200);
    assert!(scene.apns.accepted().is_empty());
}

#[tokio::test]
async fn a_caller_hangs_up_a_call_that_the_old_process_rings() {
    let mut scene = Scene::new().await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    ringing.ring().await.expect("a socket");
    assert_eq!(call.wait_ringing().await.expect("a 180"), 180);
    let mut old = scene.rouse.take_over().await;
    let (status, cancelled) = tokio::join!(call.cancel(&[]), ringing.wait_cancel());
    assert_eq!(status.expect("an answer"), 487);
    cancelled.expect("it stops ringing");
    assert!(old.ended().await.success());
}

#[tokio::test]
async fn a_takeover_from_nobody_is_an_ordinary_start() {
    let mut scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    scene.rouse.kill();
    // It leaves its socket behind.
    scene.rouse.take_over_from_nobody();
    let _call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
}

/// 50 calls a second, while one process after another takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sipp_loses_no_call_through_takeovers() {
    // SIPp's phone takes an INVITE that is sent again, after it stood still for the half second of
    // T1 (its "watchdog timer has been tripped"), for a new one, and hangs up: not as soon as that.
    let patient = "[sip]\nt1 = \"4s\"\nt2 = \"4s\"\n";
    let mut scene = Scene::with(|setup| setup.tables += patient).await;
    let phones = SocketAddr::from((loopback::address(), 5060));
    let caller = SocketAddr::from((loopback::address(), 5060));
    let gateway = scene.rouse.address(Transport::Udp);
    Sipp::new("register", phones, gateway)
        .lines(
            (1000..1010).map(|user| {
                format!("{user};[authentication username={user} password={PASSWORD}];")
            }),
        )
        .options(&["-m", "10", "-r", "50"])
        .run(SOON);
    let answers = Sipp::new("uas", phones, gateway).start();
    let contacts: Vec<String> = (1000..1010)
        .map(|user| {
            let registration = scene.asterisk.registration(&user.to_string());
            let contact = registration.expect("it is registered").contact;
            format!("{user};{contact}")
        })
        .collect();
    let calls = Sipp::new("uac", caller, gateway)
        .lines(contacts)
        .options(&["-m", "500", "-r", "50", "-timeout", "40s", "-timeout_error"])
        .start();
    let calls = tokio::task::spawn_blocking(move || calls.finish(Duration::from_secs(45)));
    let mut takeovers = 0;
    while !calls.is_finished() {
        let mut old = scene.rouse.take_over().await;
        assert!(old.ended().await.success());
        takeovers += 1;
    }
    calls.await.expect("no call was lost");
    assert!(takeovers >= 3, "{takeovers} while the calls went on");
    drop(answers);
}
