//! A store that cannot write: registrations are refused, calls go on, and it recovers by itself.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use rouse::proto::Transport;
use rouse::standin::error::PhoneError;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::scene::{Scene, handset, registered, talk, token};
use crate::rig::{eventually, loopback};

/// A small file system of its own, if this process may mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let is_mounted = mount(folder.path(), &["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        if is_mounted {
            return Some(Self(folder));
        }
        not_tested("this process may not mount a tmpfs");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // dropped: it goes with the machine.
        Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status()
            .ok();
    }
}

/// An ext4 that is there to fail.
struct Failing {
    folder: tempfile::TempDir,
    /// What makes the kernel find an error in it.
    trigger: PathBuf,
}

impl Failing {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        let file = File::create(&image).expect("a file of ours");
        file.set_len(24 << 20).expect("room");
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).expect("a folder of ours");
        let mut make = Command::new("mkfs.ext4");
        let made = make.args(["-q", "-F"]).arg(&image).status();
        let is_made = made.is_ok_and(|status| status.success());
        let image = image.display().to_string();
        let is_mounted = is_made && mount(&disk, &["-o", "loop,errors=remount-ro", &image]);
        if !is_mounted {
            not_tested("this process may not mount a file");
            return None;
        }
        let mut find = Command::new("findmnt");
        let found = find.args(["-no", "SOURCE"]).arg(&disk).output();
        let found = found.expect("findmnt, which mount comes with");
        let device = String::from_utf8(found.stdout).expect("a name");
        let device = device.trim().trim_start_matches("/dev/");
        let trigger = Path::new("/sys/fs/ext4").join(device);
        let trigger = trigger.join("trigger_fs_error");
        let failing = Self { folder, trigger };
        if !failing.trigger.exists() {
            not_tested("this kernel's ext4 does not fail when it is told to");
            return None;
        }
        Some(failing)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// The kernel takes it for broken and writes to it no more.
    fn fail(&self) {
        fs::write(&self.trigger, "1").expect("it is there");
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        // dropped: it goes with the machine.
        Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status()
            .ok();
    }
}

fn not_tested(why: &str) {
    use std::io::Write as _;
    // dropped: there is nobody to tell that standard error is closed.
    drop(writeln!(std::io::stderr(), "not tested: {why}"));
}

/// What `/readyz` says: its status and its body.
async fn readiness(api: SocketAddr) -> (u16, String) {
    let mut stream = TcpStream::connect(api).await.expect("it listens");
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("it reads");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("it answers and closes");
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    (status.expect("a status"), answer)
}

fn mount(path: &Path, arguments: &[&str]) -> bool {
    let status = Command::new("mount").args(arguments).arg(path).status();
    status.is_ok_and(|status| status.success())
}

async fn refused(scene: &Scene, user: u32) -> bool {
    let config = handset(&scene.rouse, user, Transport::Udp);
    let mut phone = Phone::wake(config, Timeline::new())
        .await
        .expect("a socket");
    let refusal = phone.register().await.err();
    refusal.as_ref().and_then(PhoneError::status) == Some(503)
}

async fn calls_go_on(scene: &Scene) {
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    while scene.apns.next_push().await.token != token(1001) {}
    assert_eq!(call.cancel(&[]).await.expect("an answer"), 487);
}

#[tokio::test]
async fn a_full_disk_refuses_registrations_and_no_call_and_recovers() {
    let Some(disk) = Disk::new() else {
        return;
    };
    let store = disk.path().join("store");
    let scene = Scene::with(|setup| setup.store = Some(store)).await;
    let _sleeper = scene.sleeper(1001).await;
    let ballast = disk.path().join("ballast");
    fs::write(&ballast, vec![1; 24 << 20]).expect_err("it is full now");
    let mut user = 1100;
    eventually("a registration is refused", async || {
        user += 1;
        refused(&scene, user).await.then_some(())
    })
    .await;
    calls_go_on(&scene).await;
    scene
        .rouse
        .says("the store cannot write: registrations are refused", 1)
        .await;

    fs::remove_file(&ballast).expect("it is there");
    eventually("a registration is taken", async || {
        (!refused(&scene, 1500).await).then_some(())
    })
    .await;
    let mut call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    while scene.apns.next_push().await.token != token(1001) {}
    let mut phone = registered(&scene.handset(1001, Transport::Tcp)).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    scene.rouse.says("the store writes again", 1).await;
}

#[tokio::test]
async fn a_store_that_turns_read_only_is_said_and_refuses_registrations_and_no_call() {
    let Some(disk) = Failing::new() else {
        return;
    };
    let store = disk.path().join("store");
    let api = SocketAddr::from((loopback::address(), 8060));
    let scene = Scene::with(|setup| {
        setup.store = Some(store);
        setup.tables += &format!("[admin]\naddress = \"{api}\"\n");
    })
    .await;
    scene.rouse.says("operators are served on", 1).await;
    let _sleeper = scene.sleeper(1001).await;
    let config = scene.handset(1002, Transport::Udp);
    let mut awake = registered(&config).await;
    assert_eq!(readiness(api).await.0, 200);

    disk.fail();
    let mut user = 1100;
    eventually("a registration is refused", async || {
        user += 1;
        refused(&scene, user).await.then_some(())
    })
    .await;
    let (status, said) = readiness(api).await;
    assert_eq!(status, 503);
    assert!(said.contains("could not be written"), "{said}");
    scene
        .rouse
        .says("the store cannot write: registrations are refused", 1)
        .await;
    // A phone that is awake rings, and one that sleeps is woken.
    let mut call = scene.asterisk.call("1002", "2000").await.expect("a 100");
    let mut ringing = awake.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    calls_go_on(&scene).await;
    for user in 1200..1205 {
        assert!(refused(&scene, user).await, "no 200 without the store");
    }
}
