//! Rouse: the real binary on an address of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rouse::proto::Transport;

use super::certificates::certificates;
use super::{SOON, eventually, home, loopback, process};

/// What differs between the tests' configurations.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// `[[upstream]] nodes`, as they stand in the file.
    pub(crate) nodes: String,
    /// `[[upstream]] trust`, as it stands in the file.
    pub(crate) trust: String,
    /// Everything beside `[[listen]]`, `[tls]`, `[[upstream]]`, `[store]`, `[wake]`, `[log]`.
    pub(crate) tables: String,
    /// Keys before the first table.
    pub(crate) keys: String,
    /// `[wake] timeout`.
    pub(crate) timeout: &'static str,
    /// `[wake] probe`.
    pub(crate) probe: &'static str,
    /// `[store] path`, if not in its own folder.
    pub(crate) store: Option<PathBuf>,
    /// The folder of certificate and key, if not the run's.
    pub(crate) certificates: Option<PathBuf>,
    /// A program and its arguments that start Rouse for us.
    pub(crate) through: Vec<String>,
    /// Environment.
    pub(crate) variables: Vec<(String, String)>,
}

impl Setup {
    /// One node at this address.
    pub(crate) fn before(node: SocketAddr) -> Self {
        Self {
            nodes: format!("\"sip:{node};transport=udp\""),
            trust: "\"127.0.0.0/8\"".to_owned(),
            tables: String::new(),
            keys: String::new(),
            timeout: "15s",
            probe: "200ms",
            store: None,
            certificates: None,
            through: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// A running Rouse; it ends with its owner.
#[derive(Debug)]
pub(crate) struct Rouse {
    /// It listens here on 5060 (UDP, TCP) and 5061 (TLS).
    pub(crate) ip: Ipv4Addr,
    pub(crate) home: PathBuf,
    pub(crate) setup: Setup,
    child: Option<Child>,
    /// How many processes have begun to serve, each of which says so in the log.
    begun: usize,
}

/// What it says once it serves: its sockets may be there earlier, and another process may have
/// listened on them before.
const SERVES: &str = "gateway started";

impl Rouse {
    /// Starts it.
    pub(crate) fn start(setup: Setup) -> Self {
        let mut rouse = Self {
            ip: loopback::address(),
            home: home::directory("rouse"),
            setup,
            child: None,
            begun: 0,
        };
        rouse.write();
        rouse.start_again();
        rouse
    }

    /// Writes its configuration.
    pub(crate) fn write(&self) {
        home::write(&self.file(), &self.configuration());
    }

    /// The configuration's file.
    pub(crate) fn file(&self) -> PathBuf {
        self.home.join("rouse.toml")
    }

    /// Starts it once more, with the same configuration and store.
    pub(crate) fn start_again(&mut self) {
        let child = self.spawn(&[]);
        self.child = Some(child);
        self.begun += 1;
        self.listens();
    }

    /// Starts a process with more arguments, whether it listens or not.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.home.join("rouse.log"))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .expect("a log can be made in a directory of ours");
        let program = env!("CARGO_BIN_EXE_rouse").to_owned();
        let mut words = self.setup.through.iter().chain([&program]);
        let mut command = process::command(words.next().expect("the program at least"));
        command
            .args(words)
            .args(["serve", "--config"])
            .arg(self.file())
            .args(arguments)
            .current_dir(&self.home)
            .envs(self.setup.variables.clone())
            .stdout(log.0)
            .stderr(log.1);
        process::spawn(command)
    }

    fn listens(&mut self) {
        let begun = Instant::now();
        let child = self.child.as_mut().expect("it was started");
        while TcpStream::connect((self.ip, 5060)).is_err() {
            let ended = child.try_wait().expect("it is our child");
            let log = tail(&self.home);
            assert!(ended.is_none(), "rouse ended with {ended:?}: {log}");
            assert!(begun.elapsed() < SOON, "rouse does not listen: {log}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Has a new process take over; returns the old one.
    pub(crate) async fn take_over(&mut self) -> Self {
        // Its own line, not a late one of the process before.
        self.says(SERVES, self.begun).await;
        let child = self.spawn(&["--takeover"]);
        self.begun += 1;
        let old = Self {
            ip: self.ip,
            home: self.home.clone(),
            setup: self.setup.clone(),
            child: self.child.replace(child),
            begun: self.begun,
        };
        self.says(SERVES, self.begun).await;
        old
    }

    /// The same when nobody serves.
    pub(crate) fn take_over_from_nobody(&mut self) {
        let child = self.spawn(&["--takeover"]);
        self.child = Some(child);
        self.begun += 1;
        self.listens();
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("it is our child");
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        }
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it ran");
        let home = self.home.clone();
        eventually(&format!("rouse ends: {}", home.display()), async || {
            child.try_wait().expect("it is our child")
        })
        .await
    }

    /// All that it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.join("rouse.log")).unwrap_or_default()
    }

    /// Waits until it has said this so many times.
    pub(crate) async fn says(&self, words: &str, times: usize) {
        eventually(
            &format!("rouse says {words:?}: {}", tail(&self.home)),
            async || (self.log().matches(words).count() >= times).then_some(()),
        )
        .await;
    }

    /// Reads its configuration again and waits until it has.
    pub(crate) async fn reload(&self) {
        self.write();
        let words = "configuration reloaded";
        let before = self.log().matches(words).count();
        self.signal(Signal::SIGHUP);
        self.says(words, before + 1).await;
    }

    /// Returns where phones reach it.
    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        let port = match transport {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws | Transport::Wss => panic!("this Rouse has no WebSocket"),
        };
        SocketAddr::from((self.ip, port))
    }

    fn configuration(&self) -> String {
        let Setup {
            nodes,
            trust,
            tables,
            keys,
            timeout,
            probe,
            store,
            certificates: folder,
            ..
        } = &self.setup;
        let (ip, common) = (self.ip, certificates());
        let certificate = folder.as_ref().map(|folder| folder.join("server.pem"));
        let certificate = certificate.unwrap_or_else(|| common.certificate.clone());
        let key = folder.as_ref().map(|folder| folder.join("server.key"));
        let key = key.unwrap_or_else(|| common.key.clone());
        let (certificate, key) = (certificate.display(), key.display());
        let store = store.clone().unwrap_or_else(|| self.home.join("store"));
        let store = store.display();
        format!(
            r#"{keys}
[[listen]]
transport = "udp"
address = "{ip}:5060"
[[listen]]
transport = "tcp"
address = "{ip}:5060"
[[listen]]
transport = "tls"
address = "{ip}:5061"
[tls]
certificate = "{certificate}"
key = "{key}"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = [{nodes}]
trust = [{trust}]
[store]
path = "{store}"
[wake]
timeout = "{timeout}"
fresh = "300ms"
probe = "{probe}"
grace = "600ms"
[log]
filter = "info"
{tables}
"#
        )
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
fn tail(home: &Path) -> String {
    let file = home.join("rouse.log");
    let log = fs::read_to_string(&file).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let last = &lines[lines.len().saturating_sub(30)..];
    format!("{}\n{}", file.display(), last.join("\n"))
}
