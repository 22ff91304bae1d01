//! `rouse top`: counters, wakes and the last calls, again every second.

use std::io::IsTerminal as _;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::show::ago;
use crate::cli::output;
use crate::io::admin::Client;
use crate::io::admin::view::{CallBrief, CallPage, Outcome, Summary, Wakes};

/// How long a view stands.
const TURN: Duration = Duration::from_secs(1);

/// What is shown.
#[derive(Clone, Debug, Default)]
struct Glance {
    summary: Summary,
    /// The calls of the turn before: how many came since.
    before: u64,
    calls: Vec<CallBrief>,
}

impl Glance {
    async fn take(&mut self, client: &Client) -> anyhow::Result<()> {
        self.before = self.summary.calls;
        self.summary = client.get("/api/summary").await?;
        let page: CallPage = client.get("/api/calls?limit=100").await?;
        self.calls = page.calls;
        Ok(())
    }
}

/// Shows the gateway until somebody presses q; once, as JSON, if that is asked for.
pub(super) async fn run(client: &Client, json: bool) -> anyhow::Result<()> {
    let mut glance = Glance::default();
    glance.take(client).await?;
    if json {
        output::line(serde_json::to_string_pretty(&glance.summary)?);
        return Ok(());
    }
    if !std::io::stdout().is_terminal() {
        anyhow::bail!("this is no terminal: take --json");
    }
    glance.before = glance.summary.calls;
    let mut terminal = ratatui::try_init()?;
    let shown = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &glance, client.address())) {
            break Err(error.into());
        }
        match tokio::task::spawn_blocking(is_over).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => break Ok(()),
            Ok(Err(error)) => break Err(error.into()),
            Err(error) => break Err(error.into()),
        }
        if let Err(error) = glance.take(client).await {
            break Err(error);
        }
    };
    ratatui::restore();
    shown
}

/// Waits for a turn; whether somebody has had enough meanwhile.
fn is_over() -> std::io::Result<bool> {
    if !event::poll(TURN)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(false);
    };
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers == KeyModifiers::CONTROL;
    Ok(is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, glance: &Glance, address: &str) {
    let lines = counters(glance);
    let height = u16::try_from(lines.len())
        .unwrap_or(u16::MAX)
        .saturating_add(2);
    let [top, bottom] =
        Layout::vertical([Constraint::Length(height), Constraint::Min(3)]).areas(frame.area());
    let summary = &glance.summary;
    let draining = if summary.draining { ", draining" } else { "" };
    let up = ago(summary.now_ms, summary.started_ms);
    let title = format!(
        " Rouse {} on {address}, up {up}{draining} (q: quit) ",
        summary.version
    );
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(title)),
        top,
    );
    let rows = glance.calls.iter().map(|call| row(call, summary.now_ms));
    let widths = [
        Constraint::Length(8),
        Constraint::Length(24),
        Constraint::Length(18),
        Constraint::Min(20),
    ];
    let head = Row::new(["ago", "agent", "outcome", "why"]);
    let head = head.style(Style::new().add_modifier(Modifier::BOLD));
    let table = Table::new(rows, widths).header(head);
    frame.render_widget(table.block(Block::bordered().title(" calls ")), bottom);
}

fn counters(glance: &Glance) -> Vec<Line<'static>> {
    let summary = &glance.summary;
    let new = summary.calls.saturating_sub(glance.before);
    let mut lines = vec![Line::from(format!(
        "devices  {} awake, {} asleep    calls  {} ({new} in the last second)    {}",
        summary.devices_awake,
        summary.devices_asleep,
        summary.calls,
        listed(
            summary
                .answers
                .iter()
                .map(|count| (&*count.label, count.count))
        ),
    ))];
    lines.extend(summary.wakes.iter().map(|wakes| {
        let mean = if wakes.count == 0 {
            0.0
        } else {
            #[expect(clippy::cast_precision_loss, reason = "no counter reaches 2^52")]
            let count = wakes.count as f64;
            wakes.seconds / count
        };
        let (outcome, count) = (&wakes.outcome, wakes.count);
        let slow =
            quantile(wakes, 95).map_or_else(String::new, |slow| format!(", 95 % within {slow} s"));
        Line::from(format!(
            "wakes    {outcome} {count}, {mean:.1} s on average{slow}"
        ))
    }));
    let pushes = summary.pushes.iter().filter(|push| push.count > 0);
    let pushes: Vec<String> = pushes
        .map(|push| {
            format!(
                "{} {} {} {}",
                push.provider, push.notice, push.verdict, push.count
            )
        })
        .collect();
    lines.push(Line::from(format!("pushes   {}", pushes.join(", "))));
    let rejects = listed(
        summary
            .rejects
            .iter()
            .map(|count| (&*count.label, count.count)),
    );
    lines.push(Line::from(format!("refused  {rejects}")));
    let connections = listed(
        summary
            .connections
            .iter()
            .map(|count| (&*count.label, count.count)),
    );
    lines.push(Line::from(format!("open     {connections}")));
    lines
}

fn listed<'c>(counts: impl Iterator<Item = (&'c str, u64)>) -> String {
    let counts = counts.filter(|(_, count)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(label, count)| format!("{label} {count}"))
        .collect();
    counts.join(", ")
}

/// The bound below which so many in a hundred are.
fn quantile(wakes: &Wakes, percent: u64) -> Option<f64> {
    let wanted = wakes.count.saturating_mul(percent).div_ceil(100);
    let bucket = wakes
        .buckets
        .iter()
        .find(|bucket| bucket.count >= wanted.max(1))?;
    bucket.seconds
}

fn row(call: &CallBrief, now_ms: u64) -> Row<'static> {
    let style = match call.outcome {
        Outcome::UnderWay => Style::new().yellow(),
        Outcome::Answered | Outcome::AnsweredElsewhere => Style::new().green(),
        Outcome::Cancelled | Outcome::Declined | Outcome::Unanswered => Style::new(),
        Outcome::Unreachable | Outcome::Refused => Style::new().red(),
    };
    Row::new([
        Cell::from(ago(now_ms, call.began_ms)),
        Cell::from(call.agent.clone()),
        Cell::from(call.outcome.label()).style(style),
        Cell::from(call.summary.clone()),
    ])
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::io::admin::view::{Bucket, Count};

    #[test]
    fn the_view_shows_counters_and_calls() {
        let bucket = |seconds, count| Bucket { seconds, count };
        let glance = Glance {
            summary: Summary {
                devices_awake: 3,
                devices_asleep: 5,
                calls: 12,
                answers: vec![Count {
                    label: "2xx".to_owned(),
                    count: 9,
                }],
                wakes: vec![Wakes {
                    outcome: "woken".to_owned(),
                    count: 4,
                    seconds: 8.0,
                    buckets: vec![bucket(Some(1.5), 1), bucket(Some(3.0), 4), bucket(None, 4)],
                }],
                ..Summary::default()
            },
            before: 10,
            calls: vec![CallBrief {
                id: "1".to_owned(),
                call_id: String::new(),
                agent: "1001@pbx".to_owned(),
                caller: String::new(),
                began_ms: 0,
                outcome: Outcome::Unreachable,
                status: Some(480),
                after_ms: None,
                lasted_ms: None,
                wake_ms: None,
                devices: 1,
                asleep: 1,
                summary: "the token is dead".to_owned(),
            }],
        };
        let mut terminal = Terminal::new(TestBackend::new(100, 16)).unwrap();
        terminal
            .draw(|frame| draw(frame, &glance, "http://127.0.0.1:8060"))
            .unwrap();
        let shown = terminal.backend().to_string();
        for word in [
            "3 awake, 5 asleep",
            "12 (2 in the last second)",
            "woken 4, 2.0 s on average, 95 % within 3 s",
            "1001@pbx",
            "unreachable",
            "the token is dead",
        ] {
            assert!(shown.contains(word), "{word} in {shown}");
        }
    }
}
