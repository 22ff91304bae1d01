//! What systemd hears: READY, RELOADING, STOPPING, WATCHDOG.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::rig::scene::Scene;
use crate::rig::{SOON, home};

#[tokio::test]
async fn the_service_manager_hears_every_step() {
    // The name of a socket is at most 108 bytes long.
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("notify");
    let manager = UnixDatagram::bind(&name).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a socket");
    let hear = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("rouse says something");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let until = |wanted: &str| {
        let mut heard = Vec::new();
        while heard
            .last()
            .is_none_or(|said: &String| !said.starts_with(wanted))
        {
            heard.push(hear());
        }
        heard
    };
    let mut scene = Scene::with(|setup| {
        setup.variables = vec![
            ("NOTIFY_SOCKET".to_owned(), name.display().to_string()),
            ("WATCHDOG_USEC".to_owned(), "400000".to_owned()),
        ];
    })
    .await;
    assert_eq!(hear(), "READY=1\nSTATUS=serving");
    assert_eq!(hear(), "WATCHDOG=1");
    scene.rouse.signal(Signal::SIGHUP);
    let heard = until("RELOADING=1");
    let micros = heard
        .last()
        .and_then(|said| said.split_once("MONOTONIC_USEC="));
    let micros = micros.and_then(|(_, micros)| micros.parse::<u64>().ok());
    assert!(micros.is_some_and(|micros| micros > 0), "{heard:?}");
    until("READY=1");

    home::write(&scene.rouse.file(), "colour = 1");
    scene.rouse.signal(Signal::SIGHUP);
    until("RELOADING=1");
    until("READY=1");
    scene.rouse.signal(Signal::SIGTERM);
    until("STOPPING=1");
    assert!(scene.rouse.ended().await.success());
}
