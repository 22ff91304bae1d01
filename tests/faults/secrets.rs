//! Push tokens, credentials and keys in whatever Rouse says, however much it is asked to say.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use rouse::proto::Transport;
use rouse::proto::sip::HeaderName;
use rouse::standin::phone::Phone;
use rouse::standin::push::Act;
use rouse::standin::timeline::Timeline;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::scene::{PASSWORD, Scene, registered, talk, token};
use crate::rig::{SOON, home, loopback};

/// A number that nothing else looks like.
const AGENT: u32 = 1847;
const DEAD: u32 = 1849;
const OPERATOR: &str = "f00dfacef00dfacef00dfacef00dface";

/// What the API says; all of it, headers too.
async fn asked(api: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(api).await.expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {OPERATOR}\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a socket");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    read.expect("it answers").expect("a socket");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    answer
}

/// A day in the life of a gateway: registrations, good and bad, wakes, good and bad, and a call.
async fn played(level: &str) -> (Scene, SocketAddr) {
    let api = SocketAddr::from((loopback::address(), 8060));
    let folder = home::directory("secrets");
    home::write(&folder.join("token"), OPERATOR);
    let file = folder.join("token").display().to_string();
    let scene = Scene::with(|setup| {
        setup.tables += &format!("[admin]\naddress = \"{api}\"\ntoken_file = \"{file}\"\n");
        setup
            .variables
            .push(("ROUSE__LOG__FILTER".to_owned(), level.to_owned()));
    })
    .await;
    let sleeper = scene.sleeper(AGENT).await;
    let _dead = scene.sleeper(DEAD).await;
    let mut guesser = scene.handset(DEAD, Transport::Udp);
    guesser.password = "wrong-horse".to_owned();
    let guessing = Phone::wake(guesser, Timeline::new()).await;
    guessing
        .expect("a socket")
        .register()
        .await
        .expect_err("it is wrong");

    let mut call = scene
        .asterisk
        .call(&AGENT.to_string(), "2000")
        .await
        .expect("a 100");
    assert_eq!(scene.apns.next_push().await.token, token(AGENT));
    let mut phone = registered(&sleeper).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    assert_eq!(call.hangup().await.expect("an answer"), 200);

    scene.apns.script(None, Act::refuse(410, "Unregistered"));
    let mut call = scene
        .asterisk
        .call(&DEAD.to_string(), "2000")
        .await
        .expect("a 100");
    call.wait_final().await.expect("an answer");
    (scene, api)
}

/// What must be nowhere, by what it is.
fn secrets(scene: &Scene) -> Vec<(String, String)> {
    let mut secrets = vec![
        ("the password".to_owned(), PASSWORD.to_owned()),
        ("the guessed password".to_owned(), "wrong-horse".to_owned()),
        ("the operator's token".to_owned(), OPERATOR.to_owned()),
    ];
    for user in [AGENT, DEAD] {
        let token = token(user);
        let base64 = BASE64_STANDARD_NO_PAD.encode(&token);
        let bytes: Vec<u8> = (0..token.len() / 2)
            .map(|at| u8::from_str_radix(&token[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect();
        // The end tells them apart, and says as much as the whole.
        secrets.push((format!("the end of {user}'s token"), token[40..].to_owned()));
        secrets.push((
            format!("{user}'s token, upper case"),
            token.to_ascii_uppercase(),
        ));
        secrets.push((format!("{user}'s token in base64"), base64));
        secrets.push((
            format!("{user}'s token's bytes"),
            BASE64_STANDARD.encode(bytes),
        ));
    }
    for line in scene
        .apns
        .p8_pem()
        .lines()
        .filter(|line| !line.contains("-----"))
    {
        secrets.push(("APNs' key".to_owned(), line.to_owned()));
    }
    for request in scene.asterisk.requests_seen() {
        let credentials = request
            .header(HeaderName::Authorization)
            .unwrap_or_default();
        let credentials = String::from_utf8_lossy(credentials).into_owned();
        let Some((_, response)) = credentials.split_once("response=\"") else {
            continue;
        };
        let response = response.split('"').next().unwrap_or_default();
        secrets.push(("a digest".to_owned(), response.to_owned()));
    }
    assert!(secrets.iter().any(|(what, _)| what == "a digest"));
    secrets
}

/// Plays the day at a level, and looks for what must not be there.
async fn nothing_is_said_at(level: &str, names_agents: Option<bool>) {
    let (scene, api) = played(level).await;
    let mut said = vec![("the log".to_owned(), scene.rouse.log())];
    for path in [
        "/metrics",
        "/api/calls",
        "/api/devices",
        "/api/summary",
        "/readyz",
    ] {
        said.push((path.to_owned(), asked(api, path).await));
    }
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_rouse"))
        .args(["check", "--offline", "--config"])
        .arg(scene.rouse.file())
        .output()
        .expect("it runs");
    let check = [check.stdout, check.stderr].concat();
    said.push((
        "rouse check".to_owned(),
        String::from_utf8_lossy(&check).into_owned(),
    ));
    for (place, text) in &said {
        assert!(text.len() > 40, "{place} says nothing: {text}");
        for (what, secret) in secrets(&scene) {
            let line = text.lines().find(|line| line.contains(&secret));
            assert!(line.is_none(), "{what} is in {place} at {level}: {line:?}");
        }
    }
    let log = &said[0].1;
    let spellings = [AGENT, DEAD].map(|user| {
        [
            format!("{user}@"),
            format!("\"{user}\""),
            format!("={user} "),
        ]
    });
    let line = log.lines().find(|line| {
        spellings
            .as_flattened()
            .iter()
            .any(|word| line.contains(word))
    });
    if let Some(names_agents) = names_agents {
        assert_eq!(line.is_some(), names_agents, "{level}: {line:?}");
    }
}

#[tokio::test]
async fn no_secret_and_no_number_is_said_at_info() {
    nothing_is_said_at("info", Some(false)).await;
}

#[tokio::test]
async fn no_secret_is_said_at_debug() {
    nothing_is_said_at("debug", None).await;
}

#[tokio::test]
async fn no_secret_is_said_at_trace() {
    nothing_is_said_at("trace", Some(true)).await;
}
