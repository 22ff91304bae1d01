//! Rouse itself: the real binary with a configuration of its own, on an address of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rouse::proto::Transport;

use super::asterisk::Asterisk;
use super::certificates::certificates;
use super::{home, loopback, process};

/// What differs between the tests' configurations.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Where Rouse stands; `None`: on an address of its own.
    pub(crate) ip: Option<Ipv4Addr>,
    /// `[[upstream]] contact`.
    pub(crate) contact: &'static str,
    /// How Rouse speaks to Asterisk: `udp`, `tcp` or `tls`.
    pub(crate) upstream: &'static str,
    /// `[[upstream]] expires`.
    pub(crate) expires: &'static str,
    /// Further lines of `[[upstream]]`.
    pub(crate) keep: String,
    /// More addresses that may call agents.
    pub(crate) trust: Vec<Ipv4Addr>,
    /// `[wake] timeout`.
    pub(crate) timeout: &'static str,
    /// `[wake] probe`.
    pub(crate) probe: &'static str,
    /// `[wake] grace`.
    pub(crate) grace: &'static str,
    /// `[wake] unreachable_status`.
    pub(crate) unreachable_status: u16,
    /// `[log] filter`.
    pub(crate) log: &'static str,
    /// Further tables: `[[device]]`.
    pub(crate) more: String,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            ip: None,
            contact: "agent",
            upstream: "udp",
            expires: "1h",
            keep: String::new(),
            trust: Vec::new(),
            timeout: "8s",
            probe: "200ms",
            grace: "600ms",
            unreachable_status: 480,
            log: "debug",
            more: String::new(),
        }
    }
}

/// A running Rouse; it ends with its owner.
#[derive(Debug)]
pub(crate) struct Rouse {
    /// It listens here on 5060 (UDP, TCP), 5061 (TLS), 5062 and 5063 (WebSocket, plain and TLS).
    pub(crate) ip: Ipv4Addr,
    home: PathBuf,
    child: Option<Child>,
}

const START: Duration = Duration::from_secs(10);

impl Rouse {
    /// Starts it in front of an Asterisk; `push` holds the tables of the push services.
    pub(crate) fn start(setup: &Setup, asterisk: &Asterisk, push: &str) -> Self {
        let ip = setup.ip.unwrap_or_else(loopback::address);
        let home = home::directory("rouse");
        home::write(
            &home.join("rouse.toml"),
            &configuration(setup, asterisk, ip, &home, push),
        );
        let mut rouse = Self {
            ip,
            home,
            child: None,
        };
        rouse.start_again();
        rouse
    }

    /// Starts it once more after [`Rouse::kill`], with the same configuration and store.
    pub(crate) fn start_again(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.join("rouse.log"))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .expect("a log can be made in a directory of ours");
        let mut command = process::command(env!("CARGO_BIN_EXE_rouse"));
        command
            .args(["serve", "--config"])
            .arg(self.home.join("rouse.toml"))
            .current_dir(&self.home)
            .stdout(log.0)
            .stderr(log.1);
        let child = self.child.insert(process::spawn(command));
        let begun = Instant::now();
        while TcpStream::connect((self.ip, 5063)).is_err() {
            let ended = child.try_wait().expect("it is our child");
            assert!(
                ended.is_none(),
                "rouse ended with {ended:?}: {}",
                tail(&self.home)
            );
            assert!(
                begun.elapsed() < START,
                "rouse does not listen: {}",
                tail(&self.home)
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }

    /// Returns where phones reach it.
    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        let port = match transport {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 5062,
            Transport::Wss => 5063,
        };
        SocketAddr::from((self.ip, port))
    }
}

impl Drop for Rouse {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            use std::io::Write as _;
            // dropped: there is nobody to tell that standard error is closed.
            drop(writeln!(std::io::stderr(), "rouse: {}", tail(&self.home)));
        }
    }
}

/// The end of the log, and where the rest is.
fn tail(home: &std::path::Path) -> String {
    let file = home.join("rouse.log");
    let log = fs::read_to_string(&file).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(40)..];
    format!("{}\n{}", file.display(), last.join("\n"))
}

fn configuration(
    setup: &Setup,
    asterisk: &Asterisk,
    ip: Ipv4Addr,
    home: &std::path::Path,
    push: &str,
) -> String {
    let Setup {
        contact,
        upstream,
        timeout,
        probe,
        grace,
        unreachable_status,
        log,
        more,
        expires,
        keep,
        ..
    } = setup;
    let node = if *upstream == "tls" {
        asterisk.tls_address()
    } else {
        asterisk.address
    };
    let ca = certificates().ca.display();
    let trust: String = setup
        .trust
        .iter()
        .map(|ip| format!(", \"{ip}/32\""))
        .collect();
    let trust = format!("\"{}/32\"{trust}", node.ip());
    let certificate = certificates().certificate.display();
    let key = certificates().key.display();
    let store = home.join("store");
    let store = store.display();
    format!(
        r#"
[[listen]]
transport = "udp"
address = "{ip}:5060"
[[listen]]
transport = "tcp"
address = "{ip}:5060"
[[listen]]
transport = "tls"
address = "{ip}:5061"
[[listen]]
transport = "ws"
address = "{ip}:5062"
[[listen]]
transport = "wss"
address = "{ip}:5063"
[tls]
certificate = "{certificate}"
key = "{key}"
ca_file = "{ca}"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:{node};transport={upstream}"]
contact = "{contact}"
trust = [{trust}]
expires = "{expires}"
{keep}
[store]
path = "{store}"
[wake]
timeout = "{timeout}"
fresh = "300ms"
probe = "{probe}"
grace = "{grace}"
late = "10s"
unreachable_status = {unreachable_status}
[log]
filter = "{log}"
{push}
{more}
"#
    )
}
