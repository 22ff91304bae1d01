//! `rouse demo` in all its variants: the real gateway between stand-ins.

use std::process::Command;

use rouse::cli::demo::{DemoArgs, Report, perform};

fn position(report: &Report, from: &str, to: &str, what: &str) -> usize {
    let found = report
        .events
        .iter()
        .position(|event| event.from == from && event.to == to && event.what.starts_with(what));
    found.unwrap_or_else(|| panic!("no {what} from {from} to {to}: {report:#?}"))
}

fn check(report: &Report, service: &str) {
    assert!(report.answered, "{report:#?}");
    assert_eq!(report.error, None);
    let (wake, answered) = (report.wake_ms.unwrap(), report.answered_ms.unwrap());
    assert!(wake <= answered && answered < 20_000, "{wake} {answered}");
    let asleep = position(report, "phone", "phone", "asleep");
    let invite = position(report, "Asterisk", "Rouse", "INVITE");
    let push = position(report, "Rouse", service, "push");
    let woken = position(report, service, "phone", "push");
    let forwarded = position(report, "Rouse", "phone", "INVITE");
    let answer = position(report, "phone", "Rouse", "200 OK (INVITE)");
    let bye = position(report, "phone", "Rouse", "BYE");
    let order = [asleep, invite, push, woken, forwarded, answer, bye];
    assert!(order.is_sorted(), "{order:?} {report:#?}");
    let invites = report
        .events
        .iter()
        .filter(|event| event.to == "phone" && event.what.starts_with("INVITE"));
    assert_eq!(invites.count(), 1, "{report:#?}");
    assert!(report.events.is_sorted_by_key(|event| event.at_ms));
}

#[tokio::test]
async fn a_sleeping_phone_on_tcp_is_woken_through_apns() {
    check(&perform(DemoArgs::default()).await, "APNs");
}

#[tokio::test]
async fn a_sleeping_phone_on_tls_is_woken_through_apns() {
    let args = DemoArgs {
        tls: true,
        ..DemoArgs::default()
    };
    check(&perform(args).await, "APNs");
}

#[tokio::test]
async fn a_sleeping_phone_on_udp_is_woken_through_apns() {
    let args = DemoArgs {
        udp: true,
        ..DemoArgs::default()
    };
    check(&perform(args).await, "APNs");
}

#[tokio::test]
async fn a_sleeping_phone_is_woken_through_fcm() {
    let args = DemoArgs {
        fcm: true,
        ..DemoArgs::default()
    };
    check(&perform(args).await, "FCM");
}

#[test]
fn the_program_prints_the_timeline_as_json_and_exits_with_0() {
    let output = Command::new(env!("CARGO_BIN_EXE_rouse"))
        .args(["demo", "--json", "--tls"])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["answered"], true);
    assert!(report["wake_ms"].is_u64(), "{report}");
    assert!(report.get("error").is_none(), "{report}");
    let events = report["events"].as_array().unwrap();
    assert!(events.len() > 20, "{report}");
    for event in events {
        assert!(event["at_ms"].is_u64(), "{event}");
        for field in ["from", "to", "what"] {
            assert!(event[field].is_string(), "{event}");
        }
    }
}

#[test]
fn the_program_prints_a_ladder_without_escape_sequences_into_a_pipe() {
    let output = Command::new(env!("CARGO_BIN_EXE_rouse"))
        .arg("demo")
        .env("COLUMNS", "80")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let ladder = String::from_utf8(output.stdout).unwrap();
    assert!(!ladder.contains('\x1b'), "{ladder}");
    assert!(
        ladder.lines().all(|line| line.chars().count() <= 80),
        "{ladder}"
    );
    let last = ladder.lines().last().unwrap();
    assert!(last.starts_with("answered "), "{ladder}");
    assert!(
        last.contains(" ms after the INVITE; phone woken in "),
        "{ladder}"
    );
}

#[test]
fn a_demo_that_cannot_begin_says_why_in_one_sentence_and_exits_with_1() {
    let output = Command::new(env!("CARGO_BIN_EXE_rouse"))
        .args(["demo", "--json"])
        .env("TMPDIR", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["answered"], false);
    let why = "cannot make a temporary folder: No such file or directory (os error 2)";
    assert_eq!(report["error"], why);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaint.trim_end(), format!("rouse: {why}"));
}
