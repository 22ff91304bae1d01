//! What systemd hears: READY, RELOADING, STOPPING, WATCHDOG.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::thread;

use nix::sys::signal::Signal;
use rouse::proto::Transport;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

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
    let hear = || loop {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).expect("rouse says something");
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !said.starts_with("FDSTORE=1") {
            return said;
        }
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

/// Gets sockets from a manager, and becomes Rouse, as systemd does for a service whose it keeps.
const KEEPER: &str = r#"
import os, socket, sys
manager = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
manager.connect(sys.argv[1])
_, held, _, _ = socket.recv_fds(manager, 1, 16)
for at, fd in enumerate(held):
    os.dup2(fd, 100 + at)
for at in range(len(held)):
    os.dup2(100 + at, 3 + at)
if held:
    os.environ["LISTEN_FDS"] = str(len(held))
    os.environ["LISTEN_FDNAMES"] = ":".join("rouse" for _ in held)
    os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// Takes what is sent with `FDSTORE`.
fn kept(manager: &UnixDatagram) -> Vec<OwnedFd> {
    loop {
        let mut text = [0; 512];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(&mut text)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let heard = rustix::net::recvmsg(manager, &mut into, &mut control, flags);
        let length = heard.expect("rouse says something").bytes;
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        if text[..length].starts_with(b"FDSTORE=1\n") {
            return sockets;
        }
    }
}

/// Hands sockets to whoever starts next.
fn hand_over(keeper: &UnixListener, sockets: &[OwnedFd]) {
    let (stream, _) = keeper.accept().expect("it starts");
    let rights: Vec<BorrowedFd<'_>> = sockets.iter().map(|socket| socket.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !rights.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    }
    let first = [IoSlice::new(b"1")];
    let sent = rustix::net::sendmsg(&stream, &first, &mut control, SendFlags::empty());
    sent.expect("it listens");
}

#[tokio::test]
async fn the_service_manager_keeps_the_sockets_and_who_calls_meanwhile_is_served() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = folder.path().join("notify");
    let manager = UnixDatagram::bind(&name).expect("a socket");
    manager.set_read_timeout(Some(SOON)).expect("a socket");
    let door = folder.path().join("keeper");
    let keeper = UnixListener::bind(&door).expect("a socket");
    let first = keeper.try_clone().expect("a socket");
    let first = thread::spawn(move || hand_over(&first, &[]));
    let mut scene = Scene::with(|setup| {
        let door = door.display().to_string();
        setup.through = ["python3", "-c", KEEPER, &door].map(str::to_owned).to_vec();
        setup.variables = vec![("NOTIFY_SOCKET".to_owned(), name.display().to_string())];
    })
    .await;
    first.join().expect("it started");
    let sockets = kept(&manager);
    assert_eq!(sockets.len(), 3, "UDP, TCP and TLS");
    let config = scene.handset(1001, Transport::Udp);
    let mut phone = registered(&config).await;

    scene.rouse.kill();
    // Nobody is there, and nobody is refused.
    let waits = TcpStream::connect(scene.rouse.address(Transport::Tcp)).expect("it is kept");
    let called = scene.asterisk.call("1001", "2000");
    let next = thread::spawn(move || hand_over(&keeper, &sockets));
    let restarted = async {
        scene.rouse.start_again();
        next.join().expect("it started");
    };
    let (call, ()) = tokio::join!(called, restarted);
    let mut call = call.expect("a 100");
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    drop(waits);
    let log = scene.rouse.log();
    assert!(!log.contains("no [[listen]] names"), "{log}");
}
