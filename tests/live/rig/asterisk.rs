//! A real Asterisk of each generation: one process each for the whole test binary.
//!
//! Each test takes agents of its own ([`Asterisk::agent`]), so that tests run side by side.
//! Calls to agents are made at the console; how they ended is kept in Asterisk's own database by
//! the dialplan (asterisk/common/extensions.conf).

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::certificates::certificates;
use super::wire::{self, Wire};
use super::{eventually, home, loopback, process};

/// Which Asterisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Asterisk 16 with chan_sip.
    Sixteen,
    /// Asterisk 22 with PJSIP.
    TwentyTwo,
}

/// How an agent's registrations are kept by PJSIP; chan_sip keeps one contact whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// One contact: a new one removes the old one.
    One,
    /// A contact for each device.
    Many,
    /// The same, with `support_path=yes`.
    Path,
    /// One contact, and Asterisk lets the phones send their media to each other.
    OneDirect,
    /// One contact, SRTP and video.
    OneSecure,
    /// One contact, DTMF by INFO, and session timers of 90 s that Asterisk begins.
    OneTimed,
}

/// By what an Asterisk is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    /// By the tests' own files.
    Usual,
    /// By them, without TCP.
    WithoutTcp,
    /// By `config/asterisk.example`, at another address.
    Example,
}

/// An agent that only one test uses.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// A running Asterisk.
#[derive(Debug)]
pub(crate) struct Asterisk {
    pub(crate) version: Version,
    /// Where it listens, UDP and TCP alike.
    pub(crate) address: SocketAddr,
    program: PathBuf,
    home: PathBuf,
    setup: Made,
    used: [AtomicU16; 6],
}

/// Numbers of each kind of agent.
const AGENTS: u16 = 150;
/// Its certificate and key, in one file.
const CERTIFICATE: &str = "etc/server.pem";
const BOOT: Duration = Duration::from_secs(20);
static SIXTEEN: OnceLock<Result<Asterisk, String>> = OnceLock::new();
static TWENTY_TWO: OnceLock<Result<Asterisk, String>> = OnceLock::new();
static SIXTEEN_UDP: OnceLock<Result<Asterisk, String>> = OnceLock::new();
static TWENTY_TWO_UDP: OnceLock<Result<Asterisk, String>> = OnceLock::new();
static SIXTEEN_EXAMPLE: OnceLock<Result<Asterisk, String>> = OnceLock::new();
static TWENTY_TWO_EXAMPLE: OnceLock<Result<Asterisk, String>> = OnceLock::new();

macro_rules! template {
    ($file:literal) => {
        include_str!(concat!("../asterisk/", $file))
    };
}

impl Asterisk {
    /// Returns the Asterisk of this version; the first who asks starts it.
    pub(crate) fn of(version: Version) -> &'static Self {
        let cell = match version {
            Version::Sixteen => &SIXTEEN,
            Version::TwentyTwo => &TWENTY_TWO,
        };
        match cell.get_or_init(|| Self::start(version, Made::Usual)) {
            Ok(asterisk) => asterisk,
            Err(why) => panic!("{why}"),
        }
    }

    /// Returns another one of this version, which does not listen on TCP.
    pub(crate) fn without_tcp(version: Version) -> &'static Self {
        let cell = match version {
            Version::Sixteen => &SIXTEEN_UDP,
            Version::TwentyTwo => &TWENTY_TWO_UDP,
        };
        match cell.get_or_init(|| Self::start(version, Made::WithoutTcp)) {
            Ok(asterisk) => asterisk,
            Err(why) => panic!("{why}"),
        }
    }

    /// Returns another one of this version, as `config/asterisk.example` has it.
    pub(crate) fn by_example(version: Version) -> &'static Self {
        let cell = match version {
            Version::Sixteen => &SIXTEEN_EXAMPLE,
            Version::TwentyTwo => &TWENTY_TWO_EXAMPLE,
        };
        match cell.get_or_init(|| Self::start(version, Made::Example)) {
            Ok(asterisk) => asterisk,
            Err(why) => panic!("{why}"),
        }
    }

    /// Calls an agent of the example by its dialplan; the caller hears silence.
    pub(crate) fn call_by_example(&self, agent: &Agent) {
        let user = &agent.user;
        self.console(&format!(
            "channel originate Local/{user}@from-agents/n application Wait 60"
        ));
    }

    /// Returns an agent that nobody else has.
    pub(crate) fn agent(&self, keeps: Keeps) -> Agent {
        let used = &self.used.get(keeps as usize).expect("one for each kind");
        let used = used.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(used <= AGENTS, "there are only {AGENTS} agents of a kind");
        Agent::new(self.version, keeps, used)
    }

    /// Runs a console command and returns what it prints.
    pub(crate) fn console(&self, command: &str) -> String {
        let output = Command::new(&self.program)
            .arg("-C")
            .arg(self.home.join("etc/asterisk.conf"))
            .args(["-rx", command])
            .output()
            .unwrap_or_else(|error| panic!("asterisk's console cannot be started: {error}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Calls an agent and lets it ring this many seconds (one digit); the caller hears silence
    /// until somebody hangs up.
    pub(crate) fn call(&self, agent: &Agent, ring_seconds: u8) {
        assert!(ring_seconds < 10, "the dialplan has one digit for it");
        let user = &agent.user;
        self.console(&format!("database del call {user}"));
        self.console(&format!(
            "channel originate Local/9{ring_seconds}{user}@calls/n application Wait 60"
        ));
    }

    /// Calls two agents at once; the first that answers has the call.
    pub(crate) fn call_both(&self, one: &Agent, two: &Agent) {
        self.console(&format!(
            "channel originate Local/8{}{}@calls/n application Wait 60",
            one.user, two.user
        ));
    }

    /// Sends an agent the text message of that number (one digit).
    pub(crate) fn message(&self, agent: &Agent, number: usize) {
        assert!(number < 10, "the dialplan has one digit for it");
        self.console(&format!(
            "channel originate Local/7{number}{}@calls/n application Wait 1",
            agent.user
        ));
    }

    /// Tells an agent's phone the state of a lamp, 1 or 2.
    pub(crate) fn lamp(&self, agent: &Agent, state: usize) {
        let user = &agent.user;
        let command = match self.version {
            Version::Sixteen => format!("sip notify lamp-{state} {user}"),
            Version::TwentyTwo => format!("pjsip send notify lamp-{state} endpoint {user}"),
        };
        self.console(&command);
    }

    /// Calls any URI, PJSIP with this agent's settings.
    pub(crate) fn call_uri(&self, agent: &Agent, uri: &str) {
        let channel = match self.version {
            Version::Sixteen => format!("SIP/{}", uri.trim_start_matches("sip:")),
            Version::TwentyTwo => format!("PJSIP/{}/{uri}", agent.user),
        };
        self.console(&format!("channel originate {channel} application Wait 60"));
    }

    /// Waits until the agent's last call is over and returns DIALSTATUS and HANGUPCAUSE, as
    /// `ANSWER/16`.
    pub(crate) async fn call_ended(&self, agent: &Agent, patience: Duration) -> String {
        let user = &agent.user;
        eventually(&format!("the call to {user} ends"), patience, async || {
            let printed = self.console(&format!("database get call {user}"));
            let value = printed
                .lines()
                .find_map(|line| line.strip_prefix("Value: "))?;
            Some(value.trim().to_owned())
        })
        .await
    }

    /// Hangs up the caller of the agent.
    pub(crate) fn hang_up(&self, agent: &Agent) {
        let called = format!("{}@calls", agent.user);
        let channels = self.channels();
        let channel = channels
            .iter()
            .filter(|channel| channel.ends_with(";1"))
            .find(|channel| {
                let ring_and_called = channel.strip_prefix("Local/9");
                ring_and_called.is_some_and(|rest| rest[1..].starts_with(&called))
            })
            .unwrap_or_else(|| panic!("no caller of {} among {channels:?}", agent.user));
        self.console(&format!("channel request hangup {channel}"));
    }

    /// Returns the names of the channels that there are.
    pub(crate) fn channels(&self) -> Vec<String> {
        self.console("core show channels concise")
            .lines()
            .filter_map(|line| line.split_once('!'))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// Returns how many channels to the agent are answered.
    pub(crate) fn channels_of(&self, agent: &Agent) -> usize {
        let name = match self.version {
            Version::Sixteen => format!("SIP/{}-", agent.user),
            Version::TwentyTwo => format!("PJSIP/{}-", agent.user),
        };
        self.console("core show channels concise")
            .lines()
            .filter(|line| line.starts_with(&name) && line.split('!').nth(4) == Some("Up"))
            .count()
    }

    /// Returns the contacts that Asterisk holds for an agent, as it prints them.
    pub(crate) fn contacts(&self, agent: &Agent) -> Vec<String> {
        let user = &agent.user;
        match self.version {
            // The contact of a peer that has left stays there, its address does not.
            Version::Sixteen => {
                let peer = self.console(&format!("sip show peer {user}"));
                let field = |name| {
                    let mut lines = peer.lines().map(str::trim);
                    let line = lines.find(|line| line.starts_with(name))?;
                    Some(line.split_once(" : ")?.1.trim())
                };
                let is_there = field("Addr->IP").is_some_and(|address| !address.contains("(null)"));
                let contact =
                    field("Reg. Contact").filter(|contact| !contact.is_empty() && is_there);
                contact.map(str::to_owned).into_iter().collect()
            }
            // `pjsip show` cuts long URIs off; the database has them whole, with ^XX for
            // characters that are special in a configuration.
            Version::TwentyTwo => self
                .console("database show registrar")
                .lines()
                .filter(|line| line.starts_with(&format!("/registrar/contact/{user};")))
                .filter_map(|line| line.split_once("\"uri\":\"")?.1.split('"').next())
                .map(|uri| {
                    uri.replace("^3B", ";")
                        .replace("^40", "@")
                        .replace("\\/", "/")
                })
                .collect(),
        }
    }

    /// Returns whether `qualify` finds the agent reachable now.
    pub(crate) fn is_reachable(&self, agent: &Agent) -> bool {
        let user = &agent.user;
        match self.version {
            Version::Sixteen => self
                .console(&format!("sip show peer {user}"))
                .lines()
                .any(|line| line.trim().starts_with("Status") && line.contains(": OK")),
            Version::TwentyTwo => self
                .console(&format!("pjsip show aor {user}"))
                .lines()
                .any(|line| line.trim().starts_with("Contact:") && line.contains(" Avail ")),
        }
    }

    /// Returns the messages of this Asterisk so far that `matches`, oldest first.
    pub(crate) fn wire(&self, matches: impl Fn(&Wire) -> bool) -> Vec<Wire> {
        let log = fs::read(self.home.join("log/messages")).unwrap_or_default();
        let mut all = wire::read(&String::from_utf8_lossy(&log));
        all.retain(|message| matches(message));
        all
    }

    fn start(version: Version, setup: Made) -> Result<Self, String> {
        let program = fetch(version)?;
        let home = home::directory(match version {
            Version::Sixteen => "asterisk16",
            Version::TwentyTwo => "asterisk22",
        });
        let asterisk = Self {
            version,
            setup,
            address: SocketAddr::from((loopback::address(), 5060)),
            program,
            home,
            used: [const { AtomicU16::new(0) }; 6],
        };
        asterisk.configure();
        asterisk.boot()?;
        Ok(asterisk)
    }

    #[expect(clippy::zombie_processes, reason = "it ends with this process")]
    fn boot(&self) -> Result<(), String> {
        let console = File::create(self.home.join("console.log"))
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|error| format!("asterisk's log cannot be made: {error}"))?;
        let mut command = process::command(&self.program);
        command
            .arg("-C")
            .arg(self.home.join("etc/asterisk.conf"))
            .args(["-f", "-g"])
            .stdout(console.0)
            .stderr(console.1);
        let mut child = process::spawn(command);
        let begun = Instant::now();
        loop {
            if self
                .console("core waitfullybooted")
                .contains("fully booted")
            {
                return Ok(());
            }
            let ended = child.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > BOOT {
                let log = self.home.join("console.log");
                let end = fs::read_to_string(&log).unwrap_or_default();
                let end = end.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(format!(
                    "{:?} does not start: {end} ({})",
                    self.version,
                    log.display()
                ));
            }
            thread::sleep(Duration::from_millis(30));
        }
    }

    fn configure(&self) {
        let (modules, dial, both, message) = match self.version {
            Version::Sixteen => (
                template!("16/modules.conf"),
                "SIP/${AGENT}",
                "SIP/${EXTEN:1:4}&SIP/${EXTEN:5}",
                "sip",
            ),
            Version::TwentyTwo => (
                template!("22/modules.conf"),
                "${PJSIP_DIAL_CONTACTS(${AGENT})}",
                "PJSIP/${EXTEN:1:4}&PJSIP/${EXTEN:5}",
                "pjsip",
            ),
        };
        let certificate = certificates().for_address(self.address.ip());
        home::write(&self.home.join(CERTIFICATE), &certificate);
        let extensions = template!("common/extensions.conf")
            .replace("@DIAL@", dial)
            .replace("@BOTH@", both)
            .replace("@MESSAGE@", message);
        self.file("asterisk.conf", template!("common/asterisk.conf"));
        self.file("logger.conf", template!("common/logger.conf"));
        self.file("rtp.conf", template!("common/rtp.conf"));
        self.file("indications.conf", template!("common/indications.conf"));
        self.file("voicemail.conf", template!("common/voicemail.conf"));
        for notify in ["sip_notify.conf", "pjsip_notify.conf"] {
            self.file(notify, template!("common/notify.conf"));
        }
        self.file("modules.conf", modules);
        self.file("extensions.conf", &extensions);
        self.configure_agents();
        for general in [
            "ccss", "cdr", "cel", "udptl", "manager", "ari", "features", "http", "stasis",
            "sorcery",
        ] {
            self.file(&format!("{general}.conf"), "[general]\n");
        }
        for empty in [
            "acl",
            "geolocation",
            "pjproject",
            "codecs",
            "dnsmgr",
            "statsd",
        ] {
            self.file(&format!("{empty}.conf"), "");
        }
        for directory in ["var", "run", "log", "spool", "keys/keys"] {
            home::write(&self.home.join(directory).join(".made"), "");
        }
    }

    fn configure_agents(&self) {
        match (self.setup, self.version) {
            (Made::Usual | Made::WithoutTcp, Version::Sixteen) => self.file(
                "sip.conf",
                &(template!("16/sip.conf").to_owned() + &sip_agents()),
            ),
            (Made::Usual | Made::WithoutTcp, Version::TwentyTwo) => self.file(
                "pjsip.conf",
                &(template!("22/pjsip.conf").to_owned() + &pjsip_agents()),
            ),
            (Made::Example, Version::Sixteen) => {
                self.file("sip.conf", &self.example("sip.conf"));
                self.file("extensions.conf", &self.example("extensions.conf"));
            }
            (Made::Example, Version::TwentyTwo) => {
                self.file("pjsip.conf", &self.example("pjsip.conf"));
                // As its comment says.
                let extensions = self.example("extensions.conf");
                let extensions = extensions.replace("Dial(SIP/", "Dial(PJSIP/");
                self.file("extensions.conf", &extensions);
            }
        }
    }

    /// A file of `config/asterisk.example`, at this Asterisk's address.
    fn example(&self, name: &str) -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/asterisk.example");
        let text = fs::read_to_string(folder.join(name)).expect("the example is there");
        text.replace("127.0.0.1:5080", &self.address.to_string())
    }

    /// Returns where it listens for TLS.
    pub(crate) fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), 5061)
    }

    /// Writes a file of the configuration, its names replaced.
    fn file(&self, name: &str, template: &str) {
        let tree = self.program.parent().unwrap_or_else(|| Path::new("/"));
        let template = if self.setup != Made::WithoutTcp {
            template.to_owned()
        } else {
            template
                .replace("tcpenable=yes\n", "tcpenable=no\n")
                .replace("[tcp]\ntype=transport\nprotocol=tcp\n", "[tcp]\ntype=off\n")
        };
        let text = template
            .replace("@TREE@", &tree.to_string_lossy())
            .replace("@HOME@", &self.home.to_string_lossy())
            .replace("@ADDRESS@", &self.address.to_string())
            .replace("@TLS@", &self.tls_address().to_string())
            .replace(
                "@CERTIFICATE@",
                &self.home.join(CERTIFICATE).to_string_lossy(),
            )
            .replace("@CA@", &certificates().ca.to_string_lossy());
        home::write(&self.home.join("etc").join(name), &text);
    }
}

impl Agent {
    fn new(version: Version, keeps: Keeps, number: u16) -> Self {
        let thousand = match version {
            Version::Sixteen => 1000,
            Version::TwentyTwo => 2000,
        };
        let user = thousand + (AGENTS + 1) * (keeps as u16) + number;
        Self {
            user: user.to_string(),
            password: format!("pw{user}"),
        }
    }
}

/// Runs the script that fetches this Asterisk unless it is there, and returns the program.
fn fetch(version: Version) -> Result<PathBuf, String> {
    let (number, suite) = match version {
        Version::Sixteen => ("16", "bullseye"),
        Version::TwentyTwo => ("22", "forky"),
    };
    let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("peers");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/asterisk/fetch");
    let output = Command::new(script)
        .arg(number)
        .arg(&peers)
        .output()
        .map_err(|error| format!("{script} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(peers.join(suite).join("asterisk"));
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

fn sip_agents() -> String {
    [
        (Keeps::One, "agent"),
        (Keeps::Many, "agent"),
        (Keeps::Path, "agent"),
        (Keeps::OneDirect, "direct"),
        (Keeps::OneSecure, "secure"),
        (Keeps::OneTimed, "timed"),
    ]
    .iter()
    .flat_map(|(keeps, kind)| (1..=AGENTS).map(move |number| (*keeps, kind, number)))
    .map(|(keeps, kind, number)| {
        let Agent { user, password } = Agent::new(Version::Sixteen, keeps, number);
        format!("[{user}]({kind})\nsecret={password}\n")
    })
    .collect()
}

fn pjsip_agents() -> String {
    [
        (Keeps::One, "agent", "one"),
        (Keeps::Many, "agent", "many"),
        (Keeps::Path, "agent", "path"),
        (Keeps::OneDirect, "direct", "one"),
        (Keeps::OneSecure, "secure", "one"),
        (Keeps::OneTimed, "timed", "one"),
    ]
    .iter()
    .flat_map(|(keeps, kind, aor)| (1..=AGENTS).map(move |number| (*keeps, kind, aor, number)))
    .map(|(keeps, kind, aor, number)| {
        let Agent { user, password } = Agent::new(Version::TwentyTwo, keeps, number);
        format!(
            "[{user}]({kind})\nauth={user}\naors={user}\n\
             [{user}](digest)\nusername={user}\npassword={password}\n[{user}]({aor})\n"
        )
    })
    .collect()
}
