//! Push tokens, credentials and keys in whatever Rouse says, however much it is asked to say.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use rouse::io::pns::WallClock;
use rouse::proto::Transport;
use rouse::proto::push::params::PushParams;
use rouse::proto::sip::HeaderName;
use rouse::standin::phone::Phone;
use rouse::standin::push::Act;
use rouse::standin::timeline::Timeline;
use rouse::standin::webpush::{Subscription, WebPushStandin};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::scene::{PASSWORD, Scene, registered, talk, token};
use crate::rig::{SOON, home, loopback};

/// A number that nothing else looks like.
const AGENT: u32 = 1847;
const DEAD: u32 = 1849;
const BROWSER: u32 = 1853;
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

/// A gateway, and what there is around it.
struct Day {
    scene: Scene,
    browser: WebPushStandin,
    subscription: Subscription,
    api: SocketAddr,
}

/// `[[push.webpush]]` for a stand-in.
fn webpush_table(browser: &WebPushStandin) -> String {
    let home = home::directory("webpush");
    let ca = browser.write_ca(&home).expect("a file of ours");
    let key = home.join("vapid.pem");
    home::write(&key, &browser.vapid_pem());
    format!(
        r#"
[[push.webpush]]
key_file = "{}"
subject = "mailto:ops@example.com"
hosts = ["{}"]
private_networks = ["127.0.0.0/8"]
ca_file = "{}"
"#,
        key.display(),
        browser.addr(),
        ca.display(),
    )
}

/// A day in the life of a gateway: registrations, good and bad, wakes, good and bad, and a call.
async fn played(level: &str) -> Day {
    let browser = WebPushStandin::start(WallClock::system()).await;
    let browser = browser.expect("web push starts");
    let subscription = browser.subscribe().expect("a key");
    let api = SocketAddr::from((loopback::address(), 8060));
    let folder = home::directory("secrets");
    home::write(&folder.join("token"), OPERATOR);
    let file = folder.join("token").display().to_string();
    let scene = Scene::with(|setup| {
        setup.tables += &format!("[admin]\naddress = \"{api}\"\ntoken_file = \"{file}\"\n");
        setup.tables += &webpush_table(&browser);
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

    let mut page = scene.handset(BROWSER, Transport::Tcp);
    page.push = Some(subscription.params());
    registered(&page).await.sleep();
    let mut call = scene
        .asterisk
        .call(&BROWSER.to_string(), "2000")
        .await
        .expect("a 100");
    let pushed = browser.next_push().await;
    assert_eq!(pushed.token, subscription.endpoint);
    let mut phone = registered(&page).await;
    let mut ringing = phone.next_call().await.expect("it rings");
    talk(&mut ringing, &mut call).await;
    // Its service is gone, and says so.
    phone.sleep();
    browser.unsubscribe(&subscription.endpoint);
    let mut call = scene
        .asterisk
        .call(&BROWSER.to_string(), "2000")
        .await
        .expect("a 100");
    call.wait_final().await.expect("an answer");
    Day {
        scene,
        browser,
        subscription,
        api,
    }
}

/// The lines of a key, without those that say what it is.
fn lines_of(pem: &str) -> impl Iterator<Item = String> {
    let lines = pem.lines().filter(|line| !line.contains("-----"));
    lines.map(str::to_owned)
}

/// What must be nowhere, by what it is.
fn secrets(day: &Day) -> Vec<(String, String)> {
    let Day {
        scene,
        browser,
        subscription,
        ..
    } = day;
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
    for line in lines_of(scene.apns.p8_pem()) {
        secrets.push(("APNs' key".to_owned(), line));
    }
    for line in lines_of(&browser.vapid_pem()) {
        secrets.push(("the VAPID key".to_owned(), line));
    }
    let Subscription {
        endpoint,
        p256dh,
        auth,
    } = subscription;
    // Whoever has the last part of the address may push; the rest is the service's.
    let path = endpoint.split(['/', '?']).nth(4).expect("/push/…");
    secrets.push(("the browser's address".to_owned(), path.to_owned()));
    secrets.push(("the browser's key".to_owned(), p256dh.clone()));
    secrets.push(("the browser's secret".to_owned(), auth.clone()));
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
    let day = played(level).await;
    let Day { scene, api, .. } = &day;
    let mut said = vec![("the log".to_owned(), scene.rouse.log())];
    for path in [
        "/metrics",
        "/api/calls",
        "/api/devices",
        "/api/summary",
        "/readyz",
    ] {
        said.push((path.to_owned(), asked(*api, path).await));
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
        for (what, secret) in secrets(&day) {
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

/// What a mistake in a line of the log, or a panic, could show: the configuration with its keys, what
/// was read of a phone's Contact.
#[tokio::test]
async fn debug_of_what_holds_a_secret_shows_none() {
    let day = played("info").await;
    let config = rouse::config::load(&day.scene.rouse.file()).expect("it is running by it");
    let keys = format!("{}.{}", day.subscription.p256dh, day.subscription.auth);
    let endpoint = &day.subscription.endpoint;
    let page = PushParams::of("webpush", Some(&keys), endpoint).expect("a browser's");
    let app = Some("ABCDE12345.com.example.app");
    let phone = PushParams::of("apns", app, &token(AGENT)).expect("a phone's");
    let shown = [
        ("the configuration", format!("{config:?}")),
        ("the configuration, in lines", format!("{config:#?}")),
        ("a browser's parameters", format!("{page:?}")),
        ("a phone's parameters", format!("{phone:?}")),
    ];
    for (what, text) in &shown {
        assert!(text.len() > 40, "{what} shows nothing: {text}");
        for (secret, bytes) in secrets(&day) {
            assert!(!text.contains(&bytes), "{secret} is in {what}: {text}");
        }
    }
}
