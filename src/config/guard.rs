//! `[guard]`: who may ask how often.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::read::Section;
use super::value;
use crate::proto::settings::{Guard, Rate};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);
const RATES: RangeInclusive<u32> = 1..=1_000_000;

/// Reads `[guard]`.
pub(super) fn guard(section: Section<'_>) -> Guard {
    let default = Guard::default();
    let allow = section.texts("allow");
    let allow = allow
        .iter()
        .filter_map(|text| section.parsed(text, value::network))
        .collect();
    let scanners = if section.is_set("scanners") {
        let texts = section.texts("scanners").into_iter();
        texts.map(|text| text.text.into()).collect()
    } else {
        default.scanners
    };
    let per_second = |count: &'static str, burst: &'static str, default: Rate| Rate {
        burst: section.integer(burst, default.burst, RATES),
        interval: SECOND / section.integer(count, per(SECOND, default), RATES),
    };
    let per_minute = |key: &'static str, default: Rate| {
        let count = section.integer(key, per(MINUTE, default), RATES);
        Rate {
            burst: count,
            interval: MINUTE / count,
        }
    };
    let guard = Guard {
        is_on: section.flag("enabled", default.is_on),
        allow,
        answer_strangers: section.flag("answer_strangers", default.answer_strangers),
        requests: per_second("requests_per_second", "requests_burst", default.requests),
        agent_requests: per_second(
            "agent_requests_per_second",
            "agent_requests_burst",
            default.agent_requests,
        ),
        registers: per_second("registers_per_second", "registers_burst", default.registers),
        account_failures: per_minute("account_failures_per_minute", default.account_failures),
        address_failures: per_minute("address_failures_per_minute", default.address_failures),
        offences: Rate {
            burst: section.integer("ban_after", default.offences.burst, 1..=10_000),
            ..default.offences
        },
        ban: section.duration("ban_time", default.ban, Duration::ZERO..=30 * DAY),
        scanners,
        entries: section.integer("entries", default.entries, 1_024..=100_000_000),
    };
    section.finish();
    guard
}

fn per(time: Duration, rate: Rate) -> u32 {
    let count = time.as_nanos() / rate.interval.as_nanos().max(1);
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}
