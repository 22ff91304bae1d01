//! `rouse demo`: a call to a sleeping phone, played over real loopback sockets in one process.
//!
//! The gateway is the real one, with a store of its own in a temporary folder; Asterisk, the push
//! service and the phone are stand-ins. `stage` sets them up, `story` plays the call.

#![expect(
    clippy::disallowed_methods,
    reason = "the demo is the far ends: they have clocks and tasks of their own"
)]

use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::ladder::{Ladder, terminal_width};
use super::output;
use crate::standin::timeline::{Timeline, TimelineEvent};

mod invented;
mod stage;
mod story;

use stage::Stage;

/// However badly it goes, the demo is over by then.
const DEADLINE: Duration = Duration::from_secs(20);

/// Plays a call to a sleeping phone with stand-ins for Asterisk, the push service and the phone.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoArgs {
    /// Wake the phone through FCM instead of APNs.
    #[arg(long)]
    pub fcm: bool,
    /// The phone speaks TLS instead of TCP.
    #[arg(long, conflicts_with = "udp")]
    pub tls: bool,
    /// The phone speaks UDP instead of TCP.
    #[arg(long)]
    pub udp: bool,
    /// Print the timeline as JSON instead of a ladder.
    #[arg(long)]
    pub json: bool,
    /// Leave a gateway running with invented traffic, to look at, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["fcm", "tls", "udp", "json"])]
    pub serve: bool,
    /// Where its operators are served.
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "serve",
        default_value = "127.0.0.1:8060"
    )]
    pub admin: SocketAddr,
    /// Say on standard error what the gateway logs.
    #[arg(short, long)]
    pub verbose: bool,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self {
            fcm: false,
            tls: false,
            udp: false,
            json: false,
            serve: false,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 8060)),
            verbose: false,
        }
    }
}

/// What the demo found out.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All that went between the parties, oldest first.
    pub events: Vec<TimelineEvent>,
    /// Whether the call was answered and ended well.
    pub answered: bool,
    /// From the INVITE's arrival until the woken phone was registered again, in milliseconds.
    pub wake_ms: Option<u64>,
    /// From the INVITE's arrival until Asterisk had the phone's 200, in milliseconds.
    pub answered_ms: Option<u64>,
    /// What went wrong, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Plays the demo and prints it; true if the call was answered.
///
/// # Errors
///
/// When the result cannot be written as JSON.
pub async fn run(args: DemoArgs) -> anyhow::Result<bool> {
    if args.verbose {
        log_to_stderr();
    }
    if args.serve {
        invented::serve(args.admin).await?;
        return Ok(true);
    }
    let report = perform(args).await;
    if args.json {
        output::line(serde_json::to_string_pretty(&report)?);
    } else {
        print_ladder(args, &report);
    }
    if let Some(error) = &report.error {
        output::complain(error);
    }
    Ok(report.answered)
}

/// Plays the demo without printing its result.
pub async fn perform(args: DemoArgs) -> Report {
    let timeline = Timeline::new();
    let play = async {
        let stage = Stage::set(args, &timeline).await?;
        let end = story::play(&stage, &timeline).await;
        stage.strike().await;
        end
    };
    let end = match tokio::time::timeout(DEADLINE, play).await {
        Ok(end) => end,
        Err(_) => Err(anyhow::anyhow!(
            "the call was not over after {} s",
            DEADLINE.as_secs()
        )),
    };
    let events = timeline.events();
    match end {
        Ok(times) => Report {
            events,
            answered: true,
            wake_ms: Some(times.wake_ms),
            answered_ms: Some(times.answered_ms),
            error: None,
        },
        Err(error) => Report {
            events,
            answered: false,
            wake_ms: None,
            answered_ms: None,
            error: Some(format!("{error:#}")),
        },
    }
}

fn print_ladder(args: DemoArgs, report: &Report) {
    let parties = ["Asterisk", "Rouse", stage::push_name(args), "phone"];
    let ladder = Ladder {
        parties: &parties,
        width: terminal_width(),
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    for line in ladder.draw(&report.events) {
        output::line(line.trim_end());
    }
    if let (Some(answered), Some(wake)) = (report.answered_ms, report.wake_ms) {
        output::line("");
        output::line(format!(
            "answered {answered} ms after the INVITE; phone woken in {wake} ms"
        ));
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::new("warn,rouse=debug");
    // dropped: whoever has set up logging before us, a test, keeps it.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init()
        .ok();
}
