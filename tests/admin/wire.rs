//! Messages for other tools: HEP to a collector, captures of one agent, one agent in the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::rig::{Rig, TOKEN};

const PATIENCE: Duration = Duration::from_secs(20);

/// What a packet of HEP says: its chunks by their number.
fn chunks(packet: &[u8]) -> HashMap<u16, Vec<u8>> {
    assert_eq!(&packet[..4], b"HEP3");
    let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_eq!(usize::from(number(4)), packet.len());
    let mut chunks = HashMap::new();
    let mut at = 6;
    while at < packet.len() {
        assert_eq!(number(at), 0, "no vendor's");
        let (kind, length) = (number(at + 2), usize::from(number(at + 4)));
        let known = chunks.insert(kind, packet[at + 6..at + length].to_vec());
        assert!(known.is_none(), "chunk {kind} twice");
        at += length;
    }
    chunks
}

fn text(chunk: &[u8]) -> String {
    String::from_utf8_lossy(chunk).into_owned()
}

async fn collector() -> (UdpSocket, String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    (socket, format!("[hep]\ncollector = \"{address}\"\n"))
}

/// The messages of a registration, as the collector has them.
async fn registration(more: &str) -> Vec<HashMap<u16, Vec<u8>>> {
    let (socket, table) = collector().await;
    let token = "token_file = \"@DIR@/token\"";
    let rig = Rig::with(token, &format!("{table}{more}"), 1).await;
    let mut phone = rig.phone("1001", 0xab).await;
    phone.register().await.expect("it registers");
    let mut messages = Vec::new();
    let mut buffer = vec![0; 65_536];
    // REGISTER, 401, REGISTER, 200, each in and out.
    while messages.len() < 8 {
        let received = socket.recv(&mut buffer);
        let received = tokio::time::timeout(PATIENCE, received).await;
        let length = received.expect("in time").expect("a packet");
        messages.push(chunks(&buffer[..length]));
    }
    messages
}

#[tokio::test]
async fn a_collector_gets_each_message_with_both_addresses_and_no_secret() {
    let messages = registration("node = 77\npassword_file = \"@DIR@/token\"\n").await;
    let phones = messages
        .iter()
        .filter(|chunks| chunks[&2] == [6])
        .collect::<Vec<_>>();
    assert_eq!(phones.len(), 4, "the phone speaks TCP, Asterisk UDP");
    for chunks in &messages {
        assert_eq!((&chunks[&1][..], &chunks[&11][..]), (&[2][..], &[1][..]));
        assert_eq!(chunks[&12], 77_u32.to_be_bytes());
        assert_eq!(chunks[&14], TOKEN.as_bytes());
        let all = text(&chunks[&15]);
        assert!(!all.contains(&"ab".repeat(32)), "{all}");
        assert!(!all.contains("response="), "{all}");
        let is_register = all.starts_with("REGISTER");
        assert!(is_register || all.starts_with("SIP/2.0"), "{all}");
    }
    let ip = |chunk: &[u8]| IpAddr::from(<[u8; 4]>::try_from(chunk).expect("IPv4"));
    let port = |chunk: &[u8]| u16::from_be_bytes([chunk[0], chunk[1]]);
    let first = phones.first().expect("a message");
    assert_eq!(ip(&first[&4]).to_string(), "127.0.0.1");
    assert!(port(&first[&7]) > 0 && port(&first[&8]) > 0);
    let seconds = u32::from_be_bytes(first[&9][..4].try_into().expect("four bytes"));
    assert!(seconds > 1_700_000_000);
    // The answer goes back where the question came from.
    let answer = phones.last().expect("a message");
    assert_eq!((&answer[&4], &answer[&8]), (&first[&3], &first[&7]));
}

#[tokio::test]
async fn a_collector_that_may_have_secrets_gets_messages_as_they_are() {
    let messages = registration("secrets = true\n").await;
    let has = |word: &str| {
        messages
            .iter()
            .any(|chunks| text(&chunks[&15]).contains(word))
    };
    assert!(has(&"ab".repeat(32)) && has("response="));
    assert!(messages.iter().all(|chunks| !chunks.contains_key(&14)));
}

#[tokio::test]
async fn sngrep_reads_what_a_collector_gets() {
    if !is_there("sngrep") {
        return;
    }
    let (socket, table) = collector().await;
    let address = socket.local_addr().expect("it is bound");
    drop(socket);
    let rig = Rig::with("token_file = \"@DIR@/token\"", &table, 1).await;
    let file = rig.folder().join("sngrep.pcap");
    let mut sngrep = tokio::process::Command::new("sngrep")
        .args(["-F", "-N", "-q", "-L", &format!("udp:{address}"), "-O"])
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it runs");
    let pid = sngrep.id().expect("it runs").cast_signed();
    // Nobody knows when it listens, and it writes its file at its end.
    let mut phone = rig.phone("1001", 1).await;
    for _ in 0..20 {
        phone.register().await.expect("it registers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM)
        .expect("it is our child");
    let ended = tokio::time::timeout(PATIENCE, sngrep.wait()).await;
    ended.expect("in time").expect("it is our child");
    let written = std::fs::read(&file).expect("its file");
    let written = text(&written);
    assert!(written.contains("REGISTER sip:"), "{} bytes", written.len());
    assert!(written.contains("SIP/2.0 401"), "{} bytes", written.len());
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_no_registration_and_is_counted() {
    let table = "[hep]\ncollector = \"no-such-host.invalid:9060\"\n";
    let rig = Rig::with("token_file = \"@DIR@/token\"", table, 1).await;
    let mut phone = rig.phone("1001", 1).await;
    phone.register().await.expect("it registers");
    rig.until("/api/summary", |summary| {
        let dropped = summary["dropped"].as_array().expect("a list");
        dropped.iter().any(|count| count["label"] == "hep")
    })
    .await;
}

/// Begins a capture of an agent's messages; returns what has come of the answer.
async fn begin_capture(rig: &Rig, agent: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(rig.api).await.expect("a connection");
    let request =
        format!("GET /api/capture?agent={agent} HTTP/1.0\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a request");
    let mut answer = Vec::new();
    // The file's head comes at once: from here on messages are captured.
    while !answer.windows(4).any(|part| part == b"\r\n\r\n") {
        let count = stream.read_buf(&mut answer).await.expect("bytes");
        assert!(count > 0, "{}", text(&answer));
    }
    (stream, answer)
}

#[tokio::test]
async fn a_capture_has_one_agents_messages_and_opens_in_tshark() {
    let rig = Rig::new().await;
    let (mut stream, mut answer) = begin_capture(&rig, "1001@pbx.example.com").await;
    for (user, number) in [("1002", 0xcd), ("1001", 0xab)] {
        let mut phone = rig.phone(user, number).await;
        phone.register().await.expect("it registers");
    }
    let reading = async {
        let ends = |answer: &[u8]| text(answer).matches("SIP/2.0 200").count() == 2;
        while !ends(&answer) {
            stream.read_buf(&mut answer).await.expect("bytes");
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("in time");
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n");
    let bytes = answer.split_off(end.expect("a head") + 4);
    let readable = text(&bytes);
    assert_eq!(readable.matches("REGISTER sip:").count(), 4, "{readable}");
    assert!(!readable.contains("1002") && !readable.contains(&"ab".repeat(32)));
    let file = rig.folder().join("one.pcapng");
    std::fs::write(&file, &bytes).expect("a file");
    if !is_there("tshark") {
        return;
    }
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(&file);
    for check in ["ip.check_checksum:TRUE", "udp.check_checksum:TRUE"] {
        command.args(["-o", check]);
    }
    command.args(["-T", "fields", "-E", "separator=|"]);
    for field in [
        "sip.Method",
        "sip.Status-Code",
        "ip.src",
        "ip.checksum.status",
        "udp.checksum.status",
        "frame.comment",
    ] {
        command.args(["-e", field]);
    }
    let told = command.output().expect("tshark runs");
    let lines = text(&told.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 8, "{lines:?} {}", text(&told.stderr));
    assert!(lines[0].starts_with("REGISTER||127.0.0."), "{lines:?}");
    assert!(lines[0].ends_with("|1|1|tcp"), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("|1|1|")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("|401|")));
    assert!(lines.iter().any(|line| line.starts_with("|200|")));
}

/// Whether a program is installed; where all of them are to be, it must be.
fn is_there(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let is_there = found.is_ok_and(|status| status.success());
    assert!(
        is_there || std::env::var_os("CI").is_none(),
        "{program} is missing"
    );
    is_there
}

#[tokio::test]
async fn captures_are_few_and_end_with_whoever_reads_them() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/api/capture").await.status, 400);
    let mut open = Vec::new();
    for _ in 0..4 {
        let (stream, answer) = begin_capture(&rig, "1").await;
        assert!(
            text(&answer).starts_with("HTTP/1.0 200"),
            "{}",
            text(&answer)
        );
        open.push(stream);
    }
    assert_eq!(rig.get("/api/capture?agent=1").await.status, 503);
    drop(open);
    let again = async {
        loop {
            let (_, answer) = begin_capture(&rig, "1").await;
            if text(&answer).starts_with("HTTP/1.0 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, again)
        .await
        .expect("in time");
}

#[tokio::test]
async fn agents_are_watched_for_a_while_and_few_at_a_time() {
    let rig = Rig::new().await;
    let none = serde_json::Value::Null;
    let watched = rig.send("PUT", "/api/debug/1001?minutes=3", &none).await;
    assert_eq!(watched.json()["agent"], "1001", "{watched:?}");
    let page = rig.get("/api/debug").await.json();
    assert_eq!(page["agents"][0], watched.json());
    for number in 1..16 {
        let path = format!("/api/debug/20{number:02}");
        assert_eq!(rig.send("PUT", &path, &none).await.status, 200);
    }
    assert_eq!(rig.send("PUT", "/api/debug/3001", &none).await.status, 409);
    // One of them for longer takes no other place.
    assert_eq!(rig.send("PUT", "/api/debug/1001", &none).await.status, 200);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let gone = rig.ask("DELETE", "/api/debug/1001", &bearer).await;
    assert_eq!(gone.status, 204);
    let gone = rig.ask("DELETE", "/api/debug/1001", &bearer).await;
    assert_eq!(gone.status, 404);
    let wrong = rig.send("PUT", "/api/debug/1?minutes=0", &none).await;
    assert_eq!(wrong.status, 400);
}
