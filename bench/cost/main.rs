//! Counts the instructions of a call, a REGISTER and a wake in the gateway, without sockets.
//!
//! `cost` plays everything under valgrind and prints the counts; `cost check` fails if one is above
//! its ceiling. `cost play call 1000 10000 1000` plays one work, so many times, with so many agents
//! on so many flows: for profilers; `call-told` and `wake-told` remember their timelines.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measuring program: what goes wrong ends it, and it prints what it found"
)]

use std::process::{Command, ExitCode, Stdio};

use rouse::config::{LogConfig, LogFormat};

use play::{Crowd, LIFE, Meter, Stage};

mod ceilings;
mod play;
mod settings;

/// Counts nothing: a profiler does.
struct Free;

impl Meter for Free {
    fn count(&mut self, work: &mut dyn FnMut()) {
        work();
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["play", name, times, agents, flows] => {
            let number = |text: &str| text.parse().expect("a number");
            let (agents, flows) = (number(agents), number(flows));
            play(name, number(times), Crowd { agents, flows });
            ExitCode::SUCCESS
        }
        [] | ["check"] => count_all(),
        _ => {
            println!("cost [check | play WORK TIMES AGENTS FLOWS]");
            ExitCode::FAILURE
        }
    }
}

fn play(name: &str, times: usize, crowd: Crowd) {
    let config = LogConfig {
        format: LogFormat::Text,
        filter: "info".into(),
    };
    rouse::telemetry::init(&config).expect("logs");
    let mut stage = Stage::new(crowd, Free);
    if name.ends_with("-told") {
        stage.remember();
    }
    match name.trim_end_matches("-told") {
        "call" => (0..times).for_each(|_| stage.call()),
        "register" => (0..times).for_each(|_| stage.register()),
        "refresh" => (0..times).for_each(|_| stage.refresh()),
        "wake" => {
            stage.sleep();
            (0..times).for_each(|_| stage.wake());
        }
        _ => {
            println!("call, register, refresh or wake; call-told, wake-told: with their timelines")
        }
    }
    let Free = stage.into_meter();
}

/// The instructions of one unit of each work: what more units cost, divided by their number.
fn count_all() -> ExitCode {
    let mut is_good = true;
    for (name, crowd, ceiling) in ceilings::INSTRUCTIONS {
        // From there on as many transactions end as begin.
        let (less, more) = (LIFE, LIFE + 1000);
        let counts = [less, more].map(|times| collected(name, times, crowd));
        let each = (counts[1] - counts[0]) / 1000;
        let verdict = if each <= ceiling { "" } else { " TOO MANY" };
        is_good &= each <= ceiling;
        let Crowd { agents, flows } = crowd;
        println!(
            "{name:9} {agents:8} agents {flows:6} flows: {each:7} instructions, ceiling {ceiling}{verdict}"
        );
    }
    if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn collected(name: &str, times: usize, crowd: Crowd) -> u64 {
    let own = std::env::current_exe().expect("this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*play::work*"])
        .arg(own)
        .args(["play", name])
        .args([times, crowd.agents, crowd.flows].map(|number| number.to_string()))
        .env("RUST_LOG_STYLE", "never")
        .stdout(Stdio::null())
        .output()
        .expect("valgrind");
    assert!(output.status.success(), "{name} could not be played");
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    line.and_then(|count| count.trim().parse().ok())
        .expect("valgrind's count")
}
