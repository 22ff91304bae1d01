//! Rouse and Kamailio as processes: configured for the same work, started, asked, stopped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::account;
use crate::load::ASTERISK;
use crate::push::Service;

/// Where either stands.
pub const PLAIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5960);
pub const TLS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5961);
/// Where operators ask Rouse.
pub const ADMIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5962);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Rouse,
    /// The peer.
    Kamailio,
}

impl Kind {
    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rouse => "rouse",
            Self::Kamailio => "kamailio",
        }
    }
}

/// What Kamailio is to do: each a definition in its configuration.
pub type Definitions = &'static [&'static str];

/// A server that runs.
pub struct Running {
    child: Child,
}

/// Where things are.
pub struct Places {
    /// The gateway's program.
    pub rouse: PathBuf,
    /// Kamailio's configuration.
    pub kamailio: PathBuf,
    /// Files of this run.
    pub work: PathBuf,
}

impl Places {
    /// Forgets what either has stored.
    pub fn clear(&self) -> Result<()> {
        let (store, database) = (self.work.join("store"), self.work.join("location.db"));
        if store.exists() {
            fs::remove_dir_all(store)?;
        }
        if database.exists() {
            fs::remove_file(database)?;
        }
        Ok(())
    }

    /// Starts a server on what it has stored.
    pub fn start(&self, kind: Kind, definitions: Definitions, push: &Service) -> Result<Running> {
        match kind {
            Kind::Rouse => self.start_rouse(push),
            Kind::Kamailio => self.start_kamailio(definitions, push),
        }
    }

    fn start_rouse(&self, push: &Service) -> Result<Running> {
        let file = self.work.join("rouse.toml");
        fs::write(self.work.join("push.pem"), &push.certificate)?;
        let key = self.work.join("AuthKey.p8");
        if !key.exists() {
            fs::write(&key, rcgen::KeyPair::generate()?.serialize_pem())?;
        }
        fs::write(&file, self.rouse_config(push))?;
        let mut command = Command::new(&self.rouse);
        command.arg("serve").arg("--config").arg(&file);
        self.launch(command, "rouse.log")
    }

    fn rouse_config(&self, push: &Service) -> String {
        let work = self.work.display();
        let port = push.tls.port();
        format!(
            r#"# Everything is on as by default; only addresses, and room for what is measured.
[[listen]]
transport = "udp"
address = "{PLAIN}"
[[listen]]
transport = "tcp"
address = "{PLAIN}"
[[listen]]
transport = "tls"
address = "{TLS}"
[tls]
certificate = "{work}/server.pem"
key = "{work}/server.key"
[[upstream]]
name = "pbx"
domains = ["*"]
nodes = ["sip:{ASTERISK};transport=udp"]
trust = ["{}/32"]
expires = "10h"
[store]
path = "{work}/store"
[admin]
address = "{ADMIN}"
[wake]
timeout = "3m"
[limits]
connections_per_address = 20000
[guard]
allow = ["127.0.0.0/8"]
[[push.apns]]
name = "bench"
team_id = "ABCDE12345"
key_id = "KEY1234567"
key_file = "{work}/AuthKey.p8"
topics = ["com.example.phone"]
environment = "production"
url = "https://localhost:{port}"
ca_file = "{work}/push.pem"
"#,
            ASTERISK.ip()
        )
    }

    fn start_kamailio(&self, definitions: Definitions, push: &Service) -> Result<Running> {
        if definitions.contains(&"WITH_DB") {
            self.create_database()?;
        }
        let text = fs::read_to_string(&self.kamailio)
            .with_context(|| self.kamailio.display().to_string())?
            .replace("$WORK", &self.work.display().to_string())
            .replace("$PUSH", &push.plain.to_string())
            .replace("$UPSTREAM", &ASTERISK.to_string());
        let file = self.work.join("kamailio.cfg");
        fs::write(&file, text)?;
        let mut command = Command::new("kamailio");
        command.args([
            "-DD", "-E", "-m", "4096", "-M", "32", "-x", "tlsf", "-X", "tlsf", "-f",
        ]);
        command.arg(&file).arg("-Y").arg(&self.work);
        for definition in definitions {
            command.args(["-A", definition]);
        }
        self.launch(command, "kamailio.log")
    }

    /// The tables that Kamailio keeps bindings in, unless they are there.
    fn create_database(&self) -> Result<()> {
        let database = self.work.join("location.db");
        if database.exists() {
            return Ok(());
        }
        for part in ["standard", "usrloc"] {
            let sql = format!("/usr/share/kamailio/db_sqlite/{part}-create.sql");
            let sql = File::open(&sql).with_context(|| sql.clone())?;
            let status = Command::new("sqlite3").arg(&database).stdin(sql).status()?;
            if !status.success() {
                bail!("sqlite3 could not create {}", database.display());
            }
        }
        Ok(())
    }

    /// Gives Kamailio's database the bindings of these phones: by REGISTER its two children get in
    /// each other's way there, and most of them are refused.
    pub fn fill_database(&self, load: &crate::load::Load) -> Result<()> {
        self.create_database()?;
        let mut child = Command::new("sqlite3")
            .arg(self.work.join("location.db"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("sqlite3")?;
        let input = child.stdin.take().context("sqlite3 has no input")?;
        load.write_rows(&mut std::io::BufWriter::new(input))?;
        if !child.wait()?.success() {
            bail!("sqlite3 did not take the bindings");
        }
        Ok(())
    }

    fn launch(&self, mut command: Command, log: &str) -> Result<Running> {
        let log = File::create(self.work.join(log))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut running = Running { child };
        running.wait_until_it_answers()?;
        Ok(running)
    }
}

impl Running {
    /// Asks by OPTIONS until there is an answer of any kind.
    fn wait_until_it_answers(&mut self) -> Result<()> {
        let socket = UdpSocket::bind((ASTERISK.ip().to_owned(), 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(5)))?;
        let own = socket.local_addr()?;
        let end = Instant::now() + Duration::from_secs(120);
        let mut buffer = [0; 2048];
        for number in 0.. {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at its start ({status}): see its log");
            }
            if Instant::now() > end {
                break;
            }
            let text = format!(
                "OPTIONS sip:{PLAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKp{number};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:p@{own}>;tag=p\r\nTo: <sip:{PLAIN}>\r\n\
                 Call-ID: p{number}@{own}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            // Refused as long as nobody listens.
            socket.send_to(text.as_bytes(), PLAIN).ok();
            if socket.recv_from(&mut buffer).is_ok() {
                return Ok(());
            }
        }
        bail!("the server does not answer")
    }

    /// All its processes of this moment: Kamailio's children come one by one.
    fn pids(&self) -> Vec<u32> {
        account::family(self.child.id())
    }

    /// Seconds of CPU so far.
    pub fn cpu(&self) -> f64 {
        account::cpu(&self.pids())
    }

    /// Bytes of memory now.
    pub fn memory(&self) -> u64 {
        account::memory(&self.pids())
    }

    /// How many files and sockets it has open.
    pub fn files(&self) -> usize {
        account::files(&self.pids())
    }

    /// Ends it without a word, all its processes: a child that stays would keep the port.
    pub fn kill(&mut self) -> Result<()> {
        for pid in self.pids() {
            signal(pid, Signal::SIGKILL);
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pids = self.pids();
        signal(self.child.id(), Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(20);
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        for pid in pids.into_iter().chain(self.pids()) {
            signal(pid, Signal::SIGKILL);
        }
        self.child.wait().ok();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // One that has ended already is what was wanted.
        kill(Pid::from_raw(pid), signal).ok();
    }
}

/// A certificate for either server.
pub fn certificate(work: &Path) -> Result<()> {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(work.join("server.pem"), own.cert.pem())?;
    fs::write(work.join("server.key"), own.signing_key.serialize_pem())?;
    Ok(())
}
