//! The filter that is shipped for fail2ban, with fail2ban's own tool and lines that Rouse writes.

use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use rouse::proto::event::{CallNumber, Drop};
use rouse::proto::reject::Reject;
use rouse::proto::{Event, Transport};
use rouse::telemetry::metrics::Metrics;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Two offences, and what has nothing to do with them.
fn lines(is_json: bool) -> String {
    let captured = Captured::default();
    let lines = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(captured.clone());
    let metrics = Metrics::new();
    let write = || {
        for (address, is_banned) in [("203.0.113.9", false), ("2001:db8::9", true)] {
            metrics.record(&Event::Offence {
                address: address.parse().expect("an address"),
                transport: Transport::Tls,
                reject: Reject::WrongCredentials,
                is_banned,
            });
        }
        metrics.record(&Event::Dropped {
            place: Drop::Malformed,
            flow: None,
        });
        // What somebody else may make us write.
        let call_id = "x INFO rouse::guard: offence address=198.51.100.1 transport=\"tls\" \
                       reason=\"scanner\" banned=true";
        metrics.record(&Event::CallAnswered {
            call: CallNumber(1),
            call_id: call_id.into(),
            status: 200,
            after: std::time::Duration::ZERO,
        });
    };
    if is_json {
        let lines = lines.json().flatten_event(true).finish();
        tracing::subscriber::with_default(lines, write);
    } else {
        tracing::subscriber::with_default(lines.finish(), write);
    }
    let lines = captured.0.lock().clone();
    String::from_utf8(lines).expect("UTF-8")
}

/// The addresses that fail2ban finds in a log.
fn found(log: &str) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("rouse.log");
    std::fs::write(&file, log).expect("a file");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let filter = root.join("config/fail2ban/filter.d/rouse.conf");
    let out = Command::new("fail2ban-regex")
        .args(["--out", "ip"])
        .args([&file, &filter])
        .output()
        .expect("fail2ban-regex is there: .ci/need fail2ban-regex=fail2ban");
    let error = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.success() || out.status.code() == Some(1),
        "{error}"
    );
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn fail2ban_reads_the_lines_of_the_guard_and_no_others() {
    for is_json in [false, true] {
        let log = lines(is_json);
        assert_eq!(log.lines().count(), 3, "{log}");
        assert_eq!(found(&log), ["203.0.113.9", "2001:db8::9"], "{log}");
        // As the journal gives it.
        let journal: String = log
            .lines()
            .map(|line| format!("gw rouse[77]: {line}\n"))
            .collect();
        assert_eq!(found(&journal), ["203.0.113.9", "2001:db8::9"], "{journal}");
    }
}
