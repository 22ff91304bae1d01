//! Operators and the process: the API over TLS, a reload and a drain that it asks for, and who serves
//! it when processes change.

use std::net::SocketAddr;

use rouse::io::admin::view::{EnteredDevice, EnteredPage, NewDevice, Readiness, Summary, Watched};
use rouse::io::admin::{Client, ClientError, Token};

use crate::rig::certificates::certificates;
use crate::rig::scene::{Scene, registered, talk, token};
use crate::rig::{SOON, eventually, home, loopback};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A scene with the API, and where that is.
async fn operated(is_secure: bool) -> (Scene, SocketAddr) {
    let api = SocketAddr::from((loopback::address(), 8060));
    let folder = home::directory("operators");
    home::write(&folder.join("token"), TOKEN);
    let mut admin = format!(
        "[admin]\naddress = \"{api}\"\ntoken_file = \"{}\"\n",
        folder.join("token").display()
    );
    if is_secure {
        let file = folder.join("admin.pem");
        home::write(&file, &certificates().for_address(api.ip()));
        let file = file.display();
        admin.push_str(&format!("certificate = \"{file}\"\nkey = \"{file}\"\n"));
    }
    let scene = Scene::with(|setup| setup.tables.push_str(&admin)).await;
    scene.rouse.says("operators are served on", 1).await;
    (scene, api)
}

fn client(address: &str, token: &str, is_trusting: bool) -> Client {
    let root = is_trusting.then(|| certificates().ca.clone());
    Client::new(address, Some(Token::new(token.to_owned())), root.as_deref()).expect("an address")
}

fn plain(api: SocketAddr) -> Client {
    client(&format!("http://{api}"), TOKEN, false)
}

#[tokio::test]
async fn the_api_over_tls_is_for_who_trusts_its_certificate_and_has_the_token() {
    let (_scene, api) = operated(true).await;
    let secure = format!("https://{api}");
    let ready: Readiness = client(&secure, TOKEN, true)
        .get("/readyz")
        .await
        .expect("it answers");
    assert!(ready.ready, "{ready:?}");
    let asked = |client: Client| async move { client.get::<Summary>("/api/summary").await };
    asked(client(&secure, TOKEN, true)).await.expect("counters");
    let error = asked(client(&secure, TOKEN, false)).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    let error = asked(client(&secure, "another", true)).await.unwrap_err();
    assert!(matches!(error, ClientError::Token(_)), "{error}");
    let error = asked(plain(api)).await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn a_reload_over_the_api_is_followed_and_a_mistake_changes_nothing() {
    let (scene, api) = operated(false).await;
    let _sleeper = scene.sleeper(1001).await;
    let client = plain(api);
    let file = scene.rouse.file();
    let text = std::fs::read_to_string(&file).expect("the file");
    home::write(&file, &text.replace("15s", "15"));
    client.command("/api/reload").await.expect("it is taken");
    scene.rouse.says("configuration not reloaded", 1).await;
    let held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
    drop(held);

    home::write(&file, &text.replace("127.0.0.0/8", "192.0.2.1/32"));
    client.command("/api/reload").await.expect("it is taken");
    scene.rouse.says("configuration reloaded", 1).await;
    let call = scene.asterisk.call("1001", "2000").await;
    let refused = call.expect("an answer").wait_final().await;
    assert_eq!(refused.expect("an answer").status(), Some(403));
}

#[tokio::test]
async fn a_drain_over_the_api_refuses_new_calls_and_ends_none() {
    let (scene, api) = operated(false).await;
    let (sleeper, _other) = (scene.sleeper(1001).await, scene.sleeper(1002).await);
    let mut held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(1001));
    let client = plain(api);
    client.command("/api/drain").await.expect("it is taken");
    let call = scene.asterisk.call("1002", "2001").await;
    let refused = call.expect("an answer").wait_final().await;
    assert_eq!(refused.expect("an answer").status(), Some(503));
    let ready: Readiness = client.get("/readyz").await.expect("it answers");
    assert!(!ready.ready, "{ready:?}");

    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut held).await;
    let summary: Summary = client.get("/api/summary").await.expect("it still runs");
    assert!(summary.draining);
}

#[tokio::test]
async fn whether_it_is_alive_is_asked_by_a_command() {
    let mut scene = Scene::new().await;
    let asked = |file: std::path::PathBuf| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rouse"));
        command.args(["check", "--alive", "--config"]).arg(file);
        command.output().expect("it runs")
    };
    let answer = asked(scene.rouse.file());
    assert!(answer.status.success(), "{answer:?}");
    let told = String::from_utf8_lossy(&answer.stdout).into_owned();
    assert!(
        told.starts_with("udp 127.") && told.contains("200"),
        "{told}"
    );
    scene.rouse.kill();
    let answer = asked(scene.rouse.file());
    assert_eq!(answer.status.code(), Some(1), "{answer:?}");
}

#[tokio::test]
async fn one_agents_messages_and_steps_are_logged_for_as_long_as_an_operator_wants() {
    let (scene, api) = operated(false).await;
    let client = plain(api);
    let _watched: Watched = client.put("/api/debug/1001").await.expect("it is watched");
    let (_one, _other) = (scene.sleeper(1001).await, scene.sleeper(1002).await);
    let _held = scene.asterisk.call("1001", "2000").await.expect("a 100");
    let _held = scene.asterisk.call("1002", "2000").await.expect("a 100");
    scene.apns.next_push().await;
    scene.apns.next_push().await;
    scene.rouse.says("rouse::watch", 2).await;
    scene.rouse.says("INVITE sip:", 1).await;
    let log = scene.rouse.log();
    assert!(
        log.contains("REGISTER sip:") && log.contains("Call-ID"),
        "{log}"
    );
    assert!(log.contains("Asterisk's INVITE came in"), "{log}");
    assert!(
        !log.contains(&token(1001)) && !log.contains("response="),
        "{log}"
    );
    let others = log.lines().filter(|line| line.contains("sip:1002"));
    assert_eq!(others.count(), 0, "{log}");

    client
        .delete("/api/debug/1001")
        .await
        .expect("it was watched");
    let before = scene.rouse.log().matches("REGISTER sip:").count();
    let _again = scene.sleeper(1001).await;
    let _third = scene.sleeper(1003).await;
    scene.rouse.says("device registered", 3).await;
    assert_eq!(scene.rouse.log().matches("REGISTER sip:").count(), before);
}

#[tokio::test]
async fn the_api_is_served_by_whichever_process_serves_and_keeps_what_was_entered() {
    let (mut scene, api) = operated(false).await;
    let client = plain(api);
    let device = NewDevice {
        agent: "1005".to_owned(),
        provider: "apns".to_owned(),
        param: Some("ABCDE12345.com.example.app.voip".to_owned()),
        prid: "ab".repeat(32),
        instance: None,
        user_agent: None,
    };
    let entered: EnteredDevice = client
        .send_json("/api/devices", &device)
        .await
        .expect("it is entered");
    let first: Summary = client.get("/api/summary").await.expect("counters");

    let mut old = scene.rouse.take_over().await;
    // The address changes hands a moment after the sockets.
    eventually("the new process answers", async || {
        let summary = client.get::<Summary>("/api/summary").await.ok()?;
        (summary.started_ms > first.started_ms).then_some(())
    })
    .await;
    let page: EnteredPage = client.get("/api/entered").await.expect("a list");
    assert_eq!(page.devices, std::slice::from_ref(&entered));
    let status = tokio::time::timeout(SOON, old.ended()).await;
    assert!(status.expect("in time").success());

    scene.rouse.kill();
    scene.rouse.start_again();
    let page = eventually("the API answers", async || {
        client.get::<EnteredPage>("/api/entered").await.ok()
    })
    .await;
    assert_eq!(page.devices, [entered]);
}
