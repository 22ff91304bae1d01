//! The commands that ask a running gateway, as a shell runs them.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::rig::{Rig, TOKEN};

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn rouse(rig: &Rig, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
    command
        .args(arguments)
        .arg("--admin")
        .arg(format!("http://{}", rig.api))
        .arg("--token-file")
        .arg(rig.token_file())
        .env("COLUMNS", "100")
        .kill_on_drop(true);
    command
}

async fn run(mut command: Command) -> Said {
    let output = command.output().await.expect("the program runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_rang_nowhere_is_explained_in_the_terminal() {
    let rig = Rig::new().await;
    rig.sleeper("1001", 1).await;
    let mut trace = rouse(&rig, &["trace", "--agent", "1001", "--json"]);
    let mut trace = trace.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(trace.stdout.take().expect("its output")).lines();
    // Followed once the gateway knows of it.
    rig.until("/api/summary", |_| rig.followers() == 1).await;
    let mut call = rig.asterisk.call("1001", "2000").await.expect("an INVITE");
    call.wait_final().await.expect("480");

    let first = lines
        .next_line()
        .await
        .expect("a line")
        .expect("one at least");
    let event: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(event["step"]["kind"], "received", "{event}");

    let list = run(rouse(&rig, &["calls", "--outcome", "unreachable"])).await;
    assert_eq!(list.code, Some(0), "{}", list.err);
    assert!(
        list.out.contains("did not register within 2."),
        "{}",
        list.out
    );
    let json = run(rouse(&rig, &["calls", "--json"])).await;
    let page: Value = serde_json::from_str(&json.out).expect("JSON");
    let id = page["calls"][0]["id"].as_str().expect("an id");
    let story = run(rouse(&rig, &["calls", &id[8..]])).await;
    assert_eq!(story.code, Some(0), "{}", story.err);
    for word in [
        "Asterisk",
        "INVITE",
        "push accepted",
        "480 Temporarily Unavailable",
    ] {
        assert!(story.out.contains(word), "{word} in {}", story.out);
    }
    let devices = run(rouse(&rig, &["devices", "1001"])).await;
    assert!(
        devices.out.contains("asleep") && devices.out.contains("…0101"),
        "{}",
        devices.out
    );
    let push = run(rouse(&rig, &["push", "1001"])).await;
    assert_eq!(push.code, Some(0), "{}{}", push.out, push.err);
    assert!(push.out.contains("accepted"), "{}", push.out);
    let top = run(rouse(&rig, &["top", "--json"])).await;
    let summary: Value = serde_json::from_str(&top.out).expect("JSON");
    assert_eq!(summary["calls"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_messages_are_captured_and_logged_from_a_shell() {
    let rig = Rig::new().await;
    let file = rig.folder().join("trace.pcapng");
    let name = file.to_str().expect("UTF-8");
    let mut trace = rouse(&rig, &["trace", "--agent", "1001", "--pcap", name]);
    let mut trace = trace.stderr(Stdio::piped()).spawn().expect("it runs");
    rig.wait_for(|| std::fs::metadata(&file).ok().filter(|file| file.len() > 0))
        .await;
    let mut phone = rig.phone("1001", 1).await;
    phone.register().await.expect("it registers");
    let captured = || {
        let bytes = std::fs::read(&file).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (text.matches("SIP/2.0 200").count() == 2).then_some(bytes)
    };
    let bytes = rig.wait_for(captured).await;
    assert_eq!(&bytes[..4], 0x0a0d_0d0a_u32.to_le_bytes());
    trace.kill().await.expect("it is ours");

    let said = run(rouse(&rig, &["trace", "--agent", "1001", "--debug"])).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("for 10 min"), "{}", said.out);
    let end = ["trace", "--agent", "1001", "--debug", "--minutes", "0"];
    assert_eq!(run(rouse(&rig, &end)).await.code, Some(0));
    let again = run(rouse(&rig, &end)).await;
    assert!(again.err.contains("is not logged"), "{}", again.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_entered_shown_and_removed_from_a_shell() {
    use tokio::io::AsyncWriteExt as _;

    let rig = Rig::new().await;
    let words = "devices add 1001 --provider apns --param ABCDE12345.com.example.app.voip --prid -";
    let words: Vec<&str> = words.split(' ').collect();
    let mut add = rouse(&rig, &words);
    let add = add.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut add = add.stderr(Stdio::piped()).spawn().expect("it runs");
    let mut input = add.stdin.take().expect("its input");
    let token = format!("{}\n", "ef".repeat(32));
    input.write_all(token.as_bytes()).await.expect("the token");
    drop(input);
    let added = add.wait_with_output().await.expect("it ends");
    assert!(added.status.success(), "{added:?}");

    let shown = run(rouse(&rig, &["devices", "entered", "--json"])).await;
    let page: Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!(page["devices"][0]["push"]["token"], "…efef", "{page}");
    let id = page["devices"][0]["id"].as_str().expect("a name");
    let shown = run(rouse(&rig, &["devices", "entered", "1001"])).await;
    assert!(shown.out.contains(id), "{}", shown.out);
    let removed = run(rouse(&rig, &["devices", "remove", id])).await;
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    let again = run(rouse(&rig, &["devices", "remove", id])).await;
    assert_eq!(again.code, Some(1));
    assert!(
        again.err.contains("no device has that name"),
        "{}",
        again.err
    );
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_cure() {
    let rig = Rig::new().await;
    let said = run(rouse(&rig, &["push", "1009"])).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("no such agent has registered"),
        "{}",
        said.err
    );
    let said = run(rouse(&rig, &["calls", "--outcome", "lost"])).await;
    assert_eq!(said.code, Some(64), "{}", said.err);

    let wrong = rig.folder().join("wrong");
    std::fs::write(&wrong, TOKEN.to_uppercase()).expect("a file");
    let address = format!("http://{}", rig.api);
    let ask = |address: &str, file: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rouse"));
        command
            .args(["calls", "--admin", address, "--token-file"])
            .arg(file);
        command
    };
    let said = run(ask(&address, &wrong)).await;
    assert_eq!(said.code, Some(1));
    assert!(
        said.err.contains("wants another token") && said.err.contains("--token-file"),
        "{}",
        said.err
    );
    let said = run(ask("http://127.0.0.1:1", &wrong)).await;
    assert!(
        said.err.contains("no gateway answers") && said.err.contains("[admin]"),
        "{}",
        said.err
    );
    let said = run(ask(&address, &rig.folder().join("none"))).await;
    assert!(said.err.contains("cannot read the token"), "{}", said.err);
}
