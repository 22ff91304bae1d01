//! SIGHUP: what can change while calls go on, what cannot, and what a mistake does.

use nix::sys::signal::Signal;
use rouse::proto::Transport;

use crate::rig::scene::{Scene, apns_table, asterisk, handset, registered, talk, token};
use crate::rig::{home, loopback};

#[tokio::test]
async fn another_node_is_asked_after_a_reload_and_the_held_call_goes_on() {
    let mut scene = Scene::new().await;
    let sleeper = scene.sleeper(1001).await;
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    scene.apns.next_push().await;

    let second = asterisk(loopback::address()).await;
    scene.rouse.setup.nodes = format!("\"sip:{};transport=udp\"", second.address());
    scene.rouse.reload().await;
    let mut phone = registered(&sleeper).await;
    second.registered("1001").await.expect("it is asked");
    let mut call = phone.next_call().await.expect("it rings");
    talk(&mut call, &mut held).await;
    // The dialog's token names the node that is in the file no more.
    assert_eq!(call.hangup().await.expect("the BYE is answered"), 200);
}

#[tokio::test]
async fn a_push_service_that_was_added_wakes_phones() {
    let mut scene = Scene::with(|setup| setup.tables.clear()).await;
    let config = scene.handset(1001, Transport::Tcp);
    scene.rouse.setup.tables = apns_table(&scene.apns);
    scene.rouse.reload().await;
    registered(&config).await.sleep();
    let _call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
}

#[tokio::test]
async fn who_may_call_and_how_much_is_logged_follow_a_reload() {
    let mut scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    scene.rouse.setup.tables += "[limits]\nheld_per_agent = 1\n";
    let file = scene.rouse.file();
    let text = std::fs::read_to_string(&file).expect("the file");
    let text = text
        .replace("[\"127.0.0.0/8\"]", "[\"192.0.2.1/32\"]")
        .replace("filter = \"info\"", "filter = \"debug\"");
    home::write(&file, &text);
    scene.rouse.signal(Signal::SIGHUP);
    scene.rouse.says("configuration reloaded", 1).await;
    let mut call = scene
        .asterisk
        .call("1001", "2000")
        .await
        .expect("an answer");
    let refused = call.wait_final().await.expect("an answer");
    assert_eq!(refused.status(), Some(403));
    scene.rouse.says("DEBUG", 1).await;
}

#[tokio::test]
async fn a_mistake_leaves_all_as_it_was_and_is_said_with_its_place() {
    let scene = Scene::new().await;
    let _sleeper = scene.sleeper(1001).await;
    let text = std::fs::read_to_string(scene.rouse.file()).expect("the file");
    home::write(&scene.rouse.file(), &text.replace("15s", "15"));
    scene.rouse.signal(Signal::SIGHUP);
    scene.rouse.says("configuration not reloaded", 1).await;
    let log = scene.rouse.log();
    assert!(
        log.contains(r#"rouse.toml:22:11: \"15\" has no unit"#),
        "{log}"
    );
    let _call = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_holds() {
    let mut scene = Scene::new().await;
    scene.rouse.setup.keys = "workers = 7\n".to_owned();
    scene.rouse.setup.tables += "[sip]\nt1 = \"250ms\"\n[limits]\ndevices_per_agent = 1\n";
    scene.rouse.reload().await;
    let log = scene.rouse.log();
    for key in ["\"workers\"", "\"[sip]\""] {
        let line = format!("changed, and holds only after a restart key={key}");
        assert!(log.contains(&line), "{key} in {log}");
    }
    assert!(!log.contains("[limits]"), "{log}");
    let first = handset(&scene.rouse, 1001, Transport::Udp);
    let _first = registered(&first).await;
    let mut second = handset(&scene.rouse, 1002, Transport::Udp);
    second.user = "1001".to_owned();
    let phone =
        rouse::standin::phone::Phone::wake(second, rouse::standin::timeline::Timeline::new());
    let refused = phone.await.expect("a socket").register().await;
    assert!(refused.is_err(), "one device is enough now");
}
