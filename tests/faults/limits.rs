//! No file descriptors, a new certificate, an expired one, a clock that jumps.

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use rouse::proto::Transport;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;
use tokio::net::TcpStream;

use crate::rig::scene::{Scene, registered, talk};
use crate::rig::{eventually, home};

#[tokio::test]
async fn without_file_descriptors_calls_go_on_and_connections_are_taken_again_later() {
    let through = ["prlimit", "--nofile=96:96", "--"]
        .map(str::to_owned)
        .to_vec();
    let scene = Scene::with(|setup| {
        setup.through = through;
        setup.tables += "[limits]\nconnections_per_address = 1000\n";
    })
    .await;
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;
    let mut open = Vec::new();
    for _ in 0..150 {
        // The kernel takes them; Rouse cannot.
        open.push(
            TcpStream::connect(scene.rouse.address(Transport::Tcp))
                .await
                .expect("queued"),
        );
    }
    scene.rouse.says("cannot accept a connection", 1).await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    drop(open);
    let config = scene.handset(1002, Transport::Tcp);
    registered(&config).await.sleep();
}

fn certify(folder: &Path, days: std::ops::Range<i64>) -> String {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let day = |day: i64| {
        let (year, month) = (2020 + day.div_euclid(365), 1);
        rcgen::date_time_ymd(i32::try_from(year).expect("a year"), month, 1)
    };
    params.not_before = day(days.start);
    params.not_after = day(days.end);
    let certificate = params.self_signed(&key).expect("a certificate");
    home::write(&folder.join("server.key"), &key.serialize_pem());
    home::write(&folder.join("server.pem"), &certificate.pem());
    certificate.pem()
}

#[tokio::test]
async fn a_certificate_is_replaced_while_a_phone_is_connected_and_its_connection_stays() {
    let folder = home::directory("certificate");
    let old = certify(&folder, 0..36_500);
    let certificates = folder.clone();
    let scene = Scene::with(|setup| setup.certificates = Some(certificates)).await;
    let mut config = scene.handset(1001, Transport::Tls);
    config.ca_pem = Some(old);
    let mut phone = registered(&config).await;
    let new = certify(&folder, 0..36_500);
    scene.rouse.says("certificate loaded again", 1).await;
    let mut other = scene.handset(1002, Transport::Tls);
    other.ca_pem = Some(new);
    registered(&other).await.sleep();
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    assert!(
        scene.apns.accepted().is_empty(),
        "it was connected all the while"
    );
}

#[tokio::test]
async fn an_expired_certificate_turns_new_phones_away_and_no_connected_one() {
    let folder = home::directory("certificate");
    let old = certify(&folder, 0..36_500);
    let certificates = folder.clone();
    let scene = Scene::with(|setup| setup.certificates = Some(certificates)).await;
    let mut config = scene.handset(1001, Transport::Tls);
    config.ca_pem = Some(old);
    let mut phone = registered(&config).await;
    let expired = certify(&folder, 0..366);
    scene.rouse.says("certificate loaded again", 1).await;
    let mut other = scene.handset(1002, Transport::Tls);
    other.ca_pem = Some(expired);
    assert!(
        Phone::wake(other, Timeline::new()).await.is_err(),
        "it looks at the date"
    );
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
}

/// The clock of the process follows a file.
#[tokio::test]
#[ignore = "needs libfaketime: make test-faults"]
async fn a_clock_that_jumps_ends_no_registration_and_loses_no_call() {
    let folder = home::directory("clock");
    let clock = folder.join("offset");
    home::write(&clock, "+0");
    let library = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";
    assert!(Path::new(library).exists(), "install Debian's faketime");
    let variables = [
        ("LD_PRELOAD", library.to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let scene = Scene::with(|setup| {
        setup.variables = variables
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
    })
    .await;
    // No push: whoever has a wrong clock is refused by Apple.
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;
    for offset in ["+3600", "+315360000", "-1700000000", "+0"] {
        home::write(&clock, offset);
        let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
        let mut ringing = phone.next_call().await.expect("it rings");
        talk(&mut ringing, &mut call).await;
        assert_eq!(ringing.hangup().await.expect("an answer"), 200);
    }
    eventually("the agent is still there", async || {
        let status = scene.asterisk.qualify("1001").await.ok()?;
        (status == 200).then_some(())
    })
    .await;
}
