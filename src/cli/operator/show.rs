//! Lists, ladders and lines for people: pure text.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::{agent_of, state};
use crate::cli::ladder::{Ladder, terminal_width};
use crate::io::admin::view::{
    CallPage, CallStory, DevicePage, DeviceView, EnteredPage, Live, Party, PushReport, StepView,
};
use crate::io::clock::Clock;
use crate::standin::timeline::TimelineEvent;

/// A page of calls, one a line.
pub(super) fn calls(page: &CallPage) -> Vec<String> {
    if page.calls.is_empty() {
        return vec!["no such call is remembered".to_owned()];
    }
    let now = Clock::unix_ms();
    let mut rows = vec![["CALL", "AGO", "AGENT", "CALLER", "OUTCOME", "WHY"].map(str::to_owned)];
    rows.extend(page.calls.iter().map(|call| {
        [
            call.id.clone(),
            ago(now, call.began_ms),
            user(&call.agent).to_owned(),
            user(&call.caller).to_owned(),
            call.outcome.label().to_owned(),
            call.summary.clone(),
        ]
    }));
    table(&rows)
}

/// A page of devices, one a line.
pub(super) fn devices(page: &DevicePage) -> Vec<String> {
    if page.devices.is_empty() {
        return vec!["no such device is registered".to_owned()];
    }
    let now = Clock::unix_ms();
    let names = [
        "AGENT",
        "STATE",
        "REGISTERED",
        "EXPIRES",
        "FROM",
        "PUSH",
        "TOKEN",
        "LAST PUSH",
        "DEVICE",
    ];
    let mut rows = vec![names.map(str::to_owned)];
    let mut devices: Vec<&DeviceView> = page.devices.iter().collect();
    devices.sort_by(|a, b| (&a.agent, &a.id).cmp(&(&b.agent, &b.id)));
    rows.extend(devices.into_iter().map(|device| {
        let push = device.push.as_ref();
        let last = device.last_push.as_ref();
        [
            device.agent.clone(),
            state(device.state).to_owned(),
            format!("{} ago", ago(now, device.registered_ms)),
            format!("in {}", ago(device.expires_ms, now)),
            format!("{} {}", device.transport, device.address),
            push.map_or_else(|| "none".to_owned(), |push| push.provider.clone()),
            push.map_or_else(|| "-".to_owned(), |push| push.token.clone()),
            last.map_or_else(
                || "-".to_owned(),
                |last| format!("{} {} ago", last.verdict, ago(now, last.at_ms)),
            ),
            device.id.clone(),
        ]
    }));
    let mut lines = table(&rows);
    if page.next.is_some() {
        lines.push("… and more: name an agent, or ask for more with --limit".to_owned());
    }
    lines
}

/// The devices that were entered, one a line.
pub(super) fn entered(page: &EnteredPage) -> Vec<String> {
    if page.devices.is_empty() {
        return vec!["no such device was entered".to_owned()];
    }
    let names = [
        "AGENT",
        "PUSH",
        "APP",
        "TOKEN",
        "INSTANCE",
        "USER-AGENT",
        "ENTRY",
    ];
    let mut rows = vec![names.map(str::to_owned)];
    let any = |text: &Option<String>| text.clone().unwrap_or_else(|| "any".to_owned());
    rows.extend(page.devices.iter().map(|device| {
        [
            device.agent.clone(),
            device.push.provider.clone(),
            device.push.app.clone(),
            device.push.token.clone(),
            any(&device.instance),
            any(&device.user_agent),
            device.id.clone(),
        ]
    }));
    table(&rows)
}

/// What became of test pushes.
pub(super) fn pushes(report: &PushReport) -> Vec<String> {
    if report.pushes.is_empty() {
        return vec!["none of the agent's devices can be pushed".to_owned()];
    }
    let line = |push: &crate::io::admin::view::PushResult| {
        let (device, provider) = (&push.device, &push.provider);
        format!(
            "{device}: {provider}: {} ({} ms): {}",
            push.verdict, push.after_ms, push.text
        )
    };
    report.pushes.iter().map(line).collect()
}

/// One event on one line.
pub(super) fn event(event: &Live) -> String {
    let agent = agent_of(event);
    match event {
        Live::Call { call, step } => {
            let end = call.id.get(8..).unwrap_or(&call.id);
            let at = time_of_day(call.began_ms.saturating_add(step.at_ms));
            format!("{at}  {agent:<24}  call …{end:<8}    {}", step.text)
        }
        Live::Device { device, note, .. } => {
            let end = device.get(17..25).unwrap_or(device);
            let at = time_of_day(note.at_ms);
            format!("{at}  {agent:<24}  device {end:<8}  {}", note.text)
        }
    }
}

/// A call as a ladder, with its reasons below.
pub(super) fn story(story: &CallStory) -> Vec<String> {
    let call = &story.call;
    let mut lines = vec![
        format!("{} → {}: {}", user(&call.caller), call.agent, call.summary),
        format!("call {}, Call-ID {}", call.id, call.call_id),
        String::new(),
    ];
    let devices = devices_of(&story.steps);
    let names: Vec<String> = devices.iter().map(|device| short(device)).collect();
    let mut parties = vec!["Asterisk", "Rouse"];
    if story
        .steps
        .iter()
        .any(|step| [step.from, step.to].contains(&Party::Push))
    {
        parties.push("push");
    }
    parties.extend(names.iter().map(String::as_str));
    let events: Vec<TimelineEvent> = story.steps.iter().map(arrow).collect();
    let ladder = Ladder {
        parties: &parties,
        width: terminal_width(),
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    lines.extend(ladder.draw(&events));
    lines.push(String::new());
    lines.extend(
        story
            .steps
            .iter()
            .map(|step| format!("{:>7} ms  {}", step.at_ms, step.text)),
    );
    if story.omitted > 0 {
        lines.push(format!("… and {} steps that were not kept", story.omitted));
    }
    lines
}

fn arrow(step: &StepView) -> TimelineEvent {
    let name = |party| match party {
        Party::Asterisk => "Asterisk".to_owned(),
        Party::Rouse => "Rouse".to_owned(),
        Party::Push => "push".to_owned(),
        Party::Device => step.device.as_deref().map_or_else(String::new, short),
    };
    // What happens to a device while nothing is sent stands on its own line.
    let own = (step.from == step.to)
        .then(|| step.device.as_deref().map(short))
        .flatten();
    let (from, to) = own.map_or_else(
        || (name(step.from), name(step.to)),
        |own| (own.clone(), own),
    );
    TimelineEvent {
        at_ms: step.at_ms,
        from,
        to,
        what: step.label.clone(),
    }
}

fn devices_of(steps: &[StepView]) -> Vec<String> {
    let mut devices: Vec<String> = Vec::new();
    for device in steps.iter().filter_map(|step| step.device.as_ref()) {
        if !devices.contains(device) {
            devices.push(device.clone());
        }
    }
    devices
}

/// A device as a column's head: what the sentences call it.
fn short(device: &str) -> String {
    device.get(17..25).unwrap_or(device).to_owned()
}

/// The user of an address, as it is dialled.
fn user(address: &str) -> &str {
    let rest = address.split_once(':').map_or(address, |(_, rest)| rest);
    rest.split(['@', ';']).next().unwrap_or(rest)
}

/// The time of day as the log has it: UTC.
fn time_of_day(unix_ms: u64) -> String {
    let ms = unix_ms % 86_400_000;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", ms % 1000)
}

/// How long ago, in the largest unit that says it.
pub(super) fn ago(now_ms: u64, then_ms: u64) -> String {
    let seconds = Duration::from_millis(now_ms.saturating_sub(then_ms)).as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Columns as wide as their widest entry; the last one as it comes.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::admin::view::{CallBrief, Outcome};

    fn step(at_ms: u64, from: Party, to: Party, device: Option<&str>, label: &str) -> StepView {
        StepView {
            at_ms,
            kind: "x".to_owned(),
            from,
            to,
            device: device.map(str::to_owned),
            label: label.to_owned(),
            text: format!("{label}, as a sentence"),
        }
    }

    fn brief() -> CallBrief {
        CallBrief {
            id: "018bcfe568000300".to_owned(),
            call_id: "one@pbx".to_owned(),
            agent: "1001@pbx.example.com".to_owned(),
            caller: "sip:2000@pbx.example.com".to_owned(),
            began_ms: 1_700_000_000_000,
            outcome: Outcome::Answered,
            status: Some(200),
            after_ms: Some(3000),
            lasted_ms: None,
            wake_ms: Some(2000),
            devices: 1,
            asleep: 1,
            summary: "it was answered".to_owned(),
        }
    }

    #[test]
    fn a_call_is_drawn_with_a_column_for_each_device() {
        let one = "0000000000000001-aaaaaaaa00000000";
        let two = "0000000000000001-bbbbbbbb00000000";
        let told = CallStory {
            call: brief(),
            steps: vec![
                step(0, Party::Asterisk, Party::Rouse, None, "INVITE"),
                step(0, Party::Rouse, Party::Rouse, Some(one), "asleep"),
                step(1, Party::Rouse, Party::Push, Some(one), "push (apns)"),
                step(9, Party::Rouse, Party::Device, Some(two), "INVITE"),
            ],
            omitted: 2,
        };
        let text = story(&told).join("\n");
        assert!(
            text.starts_with("2000 → 1001@pbx.example.com: it was answered"),
            "{text}"
        );
        let heads = text.lines().nth(3).unwrap();
        let places = ["Asterisk", "Rouse", "push", "aaaaaaaa", "bbbbbbbb"]
            .map(|name| heads.find(name).unwrap());
        assert!(places.is_sorted(), "{heads}");
        assert!(
            text.contains("push (apns), as a sentence") && text.contains("and 2 steps"),
            "{text}"
        );
        assert_eq!(text.matches("INVITE ").count(), 2, "{text}");
    }

    #[test]
    fn what_happens_has_the_time_of_day() {
        assert_eq!(time_of_day(1_700_000_000_007), "22:13:20.007Z");
        let call = Box::new(brief());
        let told = step(0, Party::Asterisk, Party::Rouse, None, "INVITE");
        let line = event(&Live::Call {
            call,
            step: Box::new(told),
        });
        assert!(line.contains("Z  1001"), "{line}");
    }

    #[test]
    fn lists_have_straight_columns() {
        let page = CallPage {
            calls: vec![
                brief(),
                CallBrief {
                    caller: "sip:+4930123456@x".to_owned(),
                    ..brief()
                },
            ],
            next: None,
        };
        let lines = calls(&page);
        let place = |line: &str| line.find("answered").unwrap();
        assert_eq!(place(&lines[1]), place(&lines[2]), "{lines:#?}");
        assert!(lines[2].contains("+4930123456"), "{lines:#?}");
        assert_eq!(calls(&CallPage::default()), ["no such call is remembered"]);
    }

    #[test]
    fn times_are_told_in_the_largest_unit() {
        let told: Vec<String> = [5_000, 600_000, 10_000_000, 900_000_000]
            .map(|ms| ago(ms, 0))
            .into();
        assert_eq!(told, ["5 s", "10 min", "2 h", "10 d"]);
    }
}
