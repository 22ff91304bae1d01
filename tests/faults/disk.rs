//! A store that cannot write: registrations are refused, calls go on, and it recovers by itself.

use std::path::Path;
use std::process::Command;

use rouse::proto::Transport;
use rouse::standin::error::PhoneError;
use rouse::standin::phone::Phone;
use rouse::standin::timeline::Timeline;

use crate::rig::eventually;
use crate::rig::scene::{Scene, handset, registered, talk, token};

/// A small file system of its own, if this process may mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let is_mounted = mount(folder.path(), &["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
        if is_mounted {
            return Some(Self(folder));
        }
        use std::io::Write as _;
        // dropped: there is nobody to tell that standard error is closed.
        drop(writeln!(
            std::io::stderr(),
            "not tested: this process may not mount a tmpfs"
        ));
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
    std::fs::write(&ballast, vec![1; 24 << 20]).expect_err("it is full now");
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

    std::fs::remove_file(&ballast).expect("it is there");
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
