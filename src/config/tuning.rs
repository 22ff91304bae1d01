//! `[wake]`, `[register]`, `[sip]`, `[limits]`, `[store]`, `[log]`: numbers and words with defaults.

use std::time::Duration;

use tracing_subscriber::EnvFilter;

use super::files;
use super::mistake::Wrong;
use super::read::{Section, Text};
use super::{LogConfig, LogFormat, value};
use crate::io::store::StoreConfig;
use crate::proto::settings::{
    HoldResponse, Limits, RegisterRules, Timing, TooShort, UnsupportedPns, Wake,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads `[wake]`.
pub(super) fn wake(section: Section<'_>) -> Wake {
    let holds = [
        ("none", HoldResponse::None),
        ("180", HoldResponse::Ringing),
        ("182", HoldResponse::Queued),
    ];
    let wake = Wake {
        // The default Dial() of most dialplans is 30 s: 25 s leave the woken phone some ringing.
        timeout: section.duration("timeout", 25 * SECOND, SECOND..=3 * MINUTE),
        fresh: section.duration("fresh", 5 * SECOND, Duration::ZERO..=HOUR),
        probe: section.duration("probe", 400 * MS, 10 * MS..=MINUTE),
        grace: section.duration("grace", 2 * SECOND, 10 * MS..=MINUTE),
        late: section.duration("late", 30 * SECOND, Duration::ZERO..=10 * MINUTE),
        hold_response: section.choice("hold_response", HoldResponse::None, &holds),
        unreachable_status: section.integer("unreachable_status", 480, 400..=599),
        message_hold: section.duration("message_hold", DAY, Duration::ZERO..=30 * DAY),
        missed_call_push: section.flag("missed_call_push", false),
        no_global_decline: section.flag("no_global_decline", false),
    };
    section.finish();
    wake
}

/// Reads `[register]`.
pub(super) fn register(section: Section<'_>) -> RegisterRules {
    let default = RegisterRules::default();
    let shorts = [("refuse", TooShort::Refuse), ("plain", TooShort::Plain)];
    let services = [
        ("forward", UnsupportedPns::Forward),
        ("refuse", UnsupportedPns::Refuse),
    ];
    let rules = RegisterRules {
        too_short: section.choice("too_short", default.too_short, &shorts),
        unsupported_pns: section.choice("unsupported_pns", default.unsupported_pns, &services),
    };
    section.finish();
    rules
}

/// Reads `[sip]`.
pub(super) fn timing(section: Section<'_>) -> Timing {
    let default = Timing::default();
    let timing = Timing {
        t1: section.duration("t1", default.t1, MS..=10 * SECOND),
        t2: section.duration("t2", default.t2, MS..=MINUTE),
        t4: section.duration("t4", default.t4, MS..=MINUTE),
        // RFC 3261 §16.6 step 11: Timer C is larger than three minutes.
        timer_c: section.duration("timer_c", default.timer_c, 3 * MINUTE + SECOND..=HOUR),
    };
    if timing.t2 < timing.t1 {
        let what = format!(
            "[sip] t2 ({}) is less than t1 ({})",
            value::show_duration(timing.t2),
            value::show_duration(timing.t1)
        );
        let cure = "t2 caps the intervals that start with t1: make it larger";
        section.wrong(section.place(), Wrong::new(what, cure));
    }
    section.finish();
    timing
}

/// Reads `[limits]`.
pub(super) fn limits(section: Section<'_>) -> Limits {
    let default = Limits::default();
    let limits = Limits {
        devices_per_agent: section.integer(
            "devices_per_agent",
            default.devices_per_agent,
            1..=1_000,
        ),
        held_per_agent: section.integer("held_per_agent", default.held_per_agent, 1..=10_000),
        messages_per_agent: section.integer(
            "messages_per_agent",
            default.messages_per_agent,
            1..=10_000,
        ),
        messages_bytes: section.integer(
            "messages_bytes",
            default.messages_bytes,
            65_536..=17_179_869_184,
        ),
        pushes_per_device: section.integer(
            "pushes_per_device",
            default.pushes_per_device,
            1..=1_000,
        ),
        message_bytes: section.integer("message_bytes", default.message_bytes, 2_048..=1_048_576),
        headers: section.integer("headers", default.headers, 32..=10_000),
        transactions: section.integer("transactions", default.transactions, 100..=100_000_000),
        connections: section.integer("connections", default.connections, 1..=10_000_000),
        connections_per_address: section.integer(
            "connections_per_address",
            default.connections_per_address,
            1..=10_000_000,
        ),
    };
    section.finish();
    limits
}

/// Reads `[store]`.
pub(super) fn store(section: Section<'_>) -> StoreConfig {
    let path = section.text("path");
    let default = StoreConfig::new("data/store");
    let store = StoreConfig {
        path: path.map_or(default.path, |text| text.text.into()),
        window: section.duration("window", default.window, Duration::ZERO..=SECOND),
        queue: section.integer("queue", default.queue, 16..=10_000_000),
    };
    section.finish();
    store
}

/// Reads `[log]`.
pub(super) fn log(section: Section<'_>) -> LogConfig {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = section.choice("format", LogFormat::Text, &formats);
    let filter = section.text("filter");
    if let Some(text) = &filter {
        section.parsed(text, |filter| {
            EnvFilter::builder().parse(filter).map_err(|error| {
                let cure = "write a level (error, warn, info, debug, trace), \
                            or levels by part: \"info,rouse::io=debug\"";
                Wrong::new(format!("\"{filter}\" is no log filter ({error})"), cure)
            })
        });
    }
    section.finish();
    LogConfig {
        format,
        filter: filter.map_or_else(|| "info".to_owned(), |text| text.text),
    }
}

/// A secret from the file that `file_key` names, or inline from the environment as `inline_key`.
/// Comes with the place to report what is wrong with it.
pub(super) fn secret(
    section: &Section<'_>,
    file_key: &'static str,
    inline_key: &'static str,
) -> Option<(Text, String)> {
    let file = section.text(file_key);
    let inline = section.inline_secret(inline_key, file_key);
    match (inline, file) {
        (Some(inline), _) => {
            let secret = inline.text.clone();
            Some((inline, secret))
        }
        (None, Some(file)) => {
            let secret = section.parsed(&file, files::read)?;
            Some((file, secret))
        }
        (None, None) => None,
    }
}
