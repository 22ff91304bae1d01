//! A gateway with its API between stand-ins, and a client that speaks HTTP by hand.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rouse::config::{self, Config, Host, Source};
use rouse::proto::Transport;
use rouse::server::{Control, Running};
use rouse::standin::apns::{ApnsStandin, ApnsStandinConfig};
use rouse::standin::asterisk::{Asterisk, AsteriskConfig};
use rouse::standin::phone::{Phone, PhoneConfig};
use rouse::standin::timeline::Timeline;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const ASTERISK: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Nothing here takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everybody.
pub(crate) struct Rig {
    gateway: Option<Running>,
    config: Config,
    pub(crate) asterisk: Asterisk,
    pub(crate) apns: ApnsStandin,
    pub(crate) api: SocketAddr,
    folder: TempDir,
    sip: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with("token_file = \"@DIR@/token\"", "", 1).await
    }

    pub(crate) async fn with(admin: &str, more: &str, workers: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().to_str().expect("a name in UTF-8");
        std::fs::write(folder.path().join("token"), format!("{TOKEN}\n")).expect("a file");
        std::fs::write(folder.path().join("header"), "X-Key: geheim\n").expect("a file");
        let users = [("1001", "secret"), ("1002", "secret"), ("1003", "secret")];
        let mut config = AsteriskConfig::new(ASTERISK, &users);
        config.qualify = false;
        let asterisk = Asterisk::start(config, Timeline::new())
            .await
            .expect("an Asterisk");
        let apns = ApnsStandin::start(ApnsStandinConfig::default())
            .await
            .expect("an APNs");
        let node = asterisk.address();
        let text = format!(
            r#"
workers = {workers}
[[listen]]
transport = "udp"
address = "{GATEWAY}:0"
[[listen]]
transport = "tcp"
address = "{GATEWAY}:0"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:{node};transport=udp"]
trust = ["{ASTERISK}/32"]
[store]
path = "{dir}/store"
[wake]
timeout = "2s"
fresh = "0ms"
[admin]
address = "127.0.0.1:0"
{admin}
{more}
"#
        );
        let source = Source {
            name: "test".to_owned(),
            text: text.replace("@DIR@", dir),
            variables: Vec::new(),
            host: Host::default(),
        };
        let mut config = config::read(&source).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        config.push.apns = vec![apns.client_config(folder.path()).expect("its files")];
        config.settings.push = config.push.settings();
        let gateway = rouse::server::start(config.clone())
            .await
            .expect("a gateway");
        let api = gateway.admin_address().expect("an API");
        let sip = gateway.addresses()[1];
        Self {
            gateway: Some(gateway),
            config,
            asterisk,
            apns,
            api,
            folder,
            sip,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder().join("token")
    }

    /// How many follow the events.
    pub(crate) fn followers(&self) -> usize {
        self.running().followers()
    }

    fn running(&self) -> &Running {
        self.gateway.as_ref().expect("it runs")
    }

    /// What steers the gateway.
    pub(crate) fn control(&self) -> &Control {
        self.running().control()
    }

    /// Stops the gateway and starts it again; its ports are others then.
    pub(crate) async fn restart(&mut self) {
        self.gateway.take().expect("it runs").stop().await;
        let gateway = rouse::server::start(self.config.clone())
            .await
            .expect("a gateway");
        self.api = gateway.admin_address().expect("an API");
        self.sip = gateway.addresses()[1];
        self.gateway = Some(gateway);
    }

    /// A phone that has just been started, by its number.
    pub(crate) async fn phone(&self, user: &str, number: u8) -> Phone {
        let token = format!("{number:02x}").repeat(32);
        let push = format!(
            "pn-provider=apns;pn-param=ABCDE12345.com.example.app.voip;pn-prid={token}:voip"
        );
        self.phone_with(user, number, Some(push)).await
    }

    /// A phone whose Contact says this of pushes.
    pub(crate) async fn phone_with(&self, user: &str, number: u8, push: Option<String>) -> Phone {
        let config = PhoneConfig {
            transport: Transport::Tcp,
            push,
            instance: Some(format!(
                "urn:uuid:7ad6e0ee-5a5c-4b6c-9f0b-3a5f0c0e10{number:02x}"
            )),
            ..PhoneConfig::new(user, "pbx.example.com", "secret", self.sip)
        };
        Phone::wake(config, Timeline::new()).await.expect("a phone")
    }

    /// A phone that has registered and fallen asleep.
    pub(crate) async fn sleeper(&self, user: &str, number: u8) {
        let mut phone = self.phone(user, number).await;
        phone.register().await.expect("it registers");
        phone.sleep();
        self.until(&format!("/api/devices?agent={user}&state=asleep"), |page| {
            !page["devices"].as_array().expect("a list").is_empty()
        })
        .await;
    }

    /// Asks with the token.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &format!("Authorization: Bearer {TOKEN}\r\n"))
            .await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.ask("POST", path, &format!("Authorization: Bearer {TOKEN}\r\n"))
            .await
    }

    /// Sends JSON with the token.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        let headers = format!(
            "Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n",
            body.len()
        );
        self.exchange(method, path, &headers, &body).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.exchange(method, path, headers, "").await
    }

    async fn exchange(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let host = self.api;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.api).await.expect("a connection");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("in time")
            .expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        Answer {
            status: status.parse().expect("a number"),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// Asks until the answer is as it shall be.
    pub(crate) async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let answer = self.get(path).await.json();
                if is_so(&answer) {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asking).await;
        match answer {
            Ok(answer) => answer,
            Err(_) => panic!("{path} is never so: {:?}", self.get(path).await),
        }
    }

    /// Looks until there is something.
    pub(crate) async fn wait_for<T>(&self, look: impl Fn() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking)
            .await
            .expect("in time")
    }

    /// Follows the events; returns once they flow.
    pub(crate) async fn follow(&self, query: &str) -> Follower {
        let host = self.api;
        let request = format!(
            "GET /api/events{query} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(self.api).await.expect("a connection");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut follower = Follower(BufReader::new(stream));
        while !follower.line().await.starts_with(": follow") {}
        follower
    }
}

/// One who follows the events.
pub(crate) struct Follower(BufReader<TcpStream>);

impl Follower {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = self.0.read_line(&mut line);
        let count = tokio::time::timeout(PATIENCE, read)
            .await
            .expect("in time")
            .expect("a line");
        assert!(count > 0, "the stream ended");
        line
    }

    /// The next event's data.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            if let Some(data) = self.line().await.strip_prefix("data: ") {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }
}
