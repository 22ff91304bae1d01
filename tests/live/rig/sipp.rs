//! SIPp as phones and as a caller, with the scenarios of bench/sipp.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{home, process};

/// What SIPp is to do.
pub(crate) struct Sipp {
    command: Command,
    home: PathBuf,
}

/// A running SIPp; it ends with its owner.
pub(crate) struct Running {
    child: Child,
    home: PathBuf,
}

impl Sipp {
    /// A scenario of bench/sipp that talks from `local` to `remote`.
    pub(crate) fn new(scenario: &str, local: SocketAddr, remote: SocketAddr) -> Self {
        let home = home::directory(&format!("sipp-{scenario}"));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("bench/sipp/{scenario}.xml"));
        let is_there = Command::new("sipp").arg("-v").output().is_ok();
        assert!(
            is_there,
            "there is no sipp here: install Debian's sip-tester"
        );
        let mut command = process::command("sipp");
        command
            .current_dir(&home)
            .arg(remote.to_string())
            .arg("-sf")
            .arg(file)
            .args([
                "-i",
                &local.ip().to_string(),
                "-p",
                &local.port().to_string(),
            ])
            .args(["-mi", &local.ip().to_string()])
            .args(["-nostdin", "-trace_err", "-error_file", "errors"])
            .args(["-trace_msg", "-message_file", "messages"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self { command, home }
    }

    /// Adds options.
    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.command.args(options);
        self
    }

    /// Gives the calls one line each of these, in turn.
    pub(crate) fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        let mut text = "SEQUENTIAL\n".to_owned();
        for line in lines {
            text.push_str(&line);
            text.push('\n');
        }
        home::write(&self.home.join("lines.csv"), &text);
        self.command.args(["-inf", "lines.csv"]);
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        Running {
            child: process::spawn(self.command),
            home: self.home,
        }
    }

    /// Runs it to its end, which must be a success.
    pub(crate) fn run(self, patience: Duration) {
        self.start().finish(patience);
    }
}

impl Running {
    /// Waits for its end, which must be a success.
    pub(crate) fn finish(mut self, patience: Duration) {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait().expect("it is our child");
            if let Some(status) = status {
                let errors = fs::read_to_string(self.home.join("errors")).unwrap_or_default();
                let home = self.home.display();
                assert!(
                    status.success(),
                    "sipp ended with {status} in {home}: {errors}"
                );
                return;
            }
            assert!(
                begun.elapsed() < patience,
                "sipp in {} did not end within {patience:?}",
                self.home.display()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // dropped: both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
