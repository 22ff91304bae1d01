//! What systemd hears: READY, RELOADING, STOPPING, WATCHDOG.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;
use rouse::proto::Transport;

use crate::rig::scene::{Scene, registered, talk};
use crate::rig::{SOON, home};

/// Holds the sockets that the configuration names, and becomes Rouse, as systemd does for a socket unit.
const MANAGER: &str = r#"
import os, re, socket, sys
text = open(sys.argv[-1]).read()
places = re.findall(r'transport = "(\w+)"\naddress = "([\d.]+):(\d+)"', text)
for at, (transport, host, port) in enumerate(places):
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    held = socket.socket(socket.AF_INET, kind)
    held.bind((host, int(port)))
    if kind == socket.SOCK_STREAM:
        held.listen(64)
    # Above what will be counted from 3, and only then down.
    os.dup2(held.fileno(), 100 + at)
for at in range(len(places)):
    os.dup2(100 + at, 3 + at)
os.environ["LISTEN_FDS"] = str(len(places))
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Nobody could bind them again: whoever is served is served over them.
#[tokio::test]
async fn the_sockets_of_the_service_manager_are_served() {
    let scene = Scene::with(|setup| {
        setup.through = ["python3", "-c", MANAGER].map(str::to_owned).to_vec();
    })
    .await;
    for (user, transport) in [
        (1001, Transport::Udp),
        (1002, Transport::Tcp),
        (1003, Transport::Tls),
    ] {
        let config = scene.handset(user, transport);
        let mut phone = registered(&config).await;
        let mut call = scene
            .asterisk
            .call(&user.to_string(), "2000")
            .await
            .expect("a 100");
        let mut ringing = phone.next_call().await.expect("it rings");
        talk(&mut ringing, &mut call).await;
    }
    let log = scene.rouse.log();
    assert!(!log.contains("no [[listen]] names"), "{log}");
}

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
