//! The commands that ask a running gateway: `calls`, `devices`, `push`, `trace`, `top`, `reload`,
//! `drain`.
//!
//! Where it is and which token it wants stands in its configuration; that file is read here only
//! for that, so that a mistake elsewhere in it, or a key that this user may not read, is in
//! nobody's way.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;

use super::{Exit, fail, output, runtime};
use crate::io::admin::view::{
    CallPage, CallStory, DevicePage, DeviceState, Live, Outcome, PushReport, Watched,
};
use crate::io::admin::{Client, Token};

mod entry;
mod show;
mod top;

/// Where a gateway is if nobody says otherwise.
const ADDRESS: &str = "http://127.0.0.1:8060";

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct Whom {
    /// Where the gateway's admin listener is: http://HOST:PORT; else as its configuration says.
    #[arg(long, value_name = "URL", env = "ROUSE_ADMIN")]
    admin: Option<String>,
    /// The file with its token; else the one that its configuration names.
    #[arg(long, value_name = "FILE", env = "ROUSE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Its configuration.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "ROUSE_CONFIG",
        default_value = "config/rouse.toml"
    )]
    config: PathBuf,
    /// Print JSON, as the API has it.
    #[arg(long)]
    json: bool,
}

/// Shows the last calls, or tells one of them step by step.
#[derive(Debug, clap::Args)]
pub(super) struct CallsArgs {
    /// The call's name, from the list; its end will do.
    id: Option<String>,
    /// Only of agents whose name contains this.
    #[arg(long)]
    agent: Option<String>,
    /// Only calls whose caller or agent contains this.
    #[arg(long)]
    number: Option<String>,
    /// Only calls that came to this: answered, cancelled, declined, unanswered, unreachable, …
    #[arg(long, value_parser = outcome)]
    outcome: Option<Outcome>,
    /// How many at most.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    whom: Whom,
}

/// Shows the registered devices, or enters and removes those that do not say how they are woken.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct DevicesArgs {
    #[command(subcommand)]
    entry: Option<entry::EntryCommand>,
    /// Only of agents whose name contains this.
    agent: Option<String>,
    /// Only those that are awake.
    #[arg(long, conflicts_with = "asleep")]
    awake: bool,
    /// Only those that are asleep.
    #[arg(long)]
    asleep: bool,
    /// How many at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    #[command(flatten)]
    whom: Whom,
}

/// Pushes an agent's devices for a test.
#[derive(Debug, clap::Args)]
pub(super) struct PushArgs {
    /// USER, or USER@DOMAIN.
    agent: String,
    #[command(flatten)]
    whom: Whom,
}

/// Follows what happens, as it happens, until Ctrl-C.
#[derive(Debug, clap::Args)]
pub(super) struct TraceArgs {
    /// Only of agents whose name contains this.
    #[arg(long)]
    agent: Option<String>,
    /// Write the messages that name this agent to a capture file, for Wireshark.
    #[arg(long, value_name = "FILE", requires = "agent")]
    pcap: Option<PathBuf>,
    /// Have the gateway log this agent's messages and steps for a while, and go.
    #[arg(long, requires = "agent", conflicts_with = "pcap")]
    debug: bool,
    /// For how long, in minutes; 0 ends it.
    #[arg(long, default_value_t = 10, requires = "debug", value_parser = clap::value_parser!(u16).range(0..=1440))]
    minutes: u16,
    #[command(flatten)]
    whom: Whom,
}

/// Shows the gateway at a glance, again every second; q ends it.
#[derive(Debug, clap::Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    whom: Whom,
}

/// Tells a gateway to do something.
#[derive(Debug, clap::Args)]
pub(super) struct TellArgs {
    #[command(flatten)]
    whom: Whom,
}

/// Runs `rouse calls`.
pub(super) fn calls(args: &CallsArgs) -> Exit {
    run(&args.whom, async |client| match &args.id {
        Some(id) => call(&client, id, args.whom.json).await,
        None => {
            let path = list(
                "/api/calls",
                &[
                    ("agent", args.agent.as_deref()),
                    ("number", args.number.as_deref()),
                    ("outcome", args.outcome.map(Outcome::label)),
                    ("limit", Some(&args.limit.to_string())),
                ],
            );
            let page: CallPage = client.get(&path).await?;
            print(args.whom.json, &page, show::calls)
        }
    })
}

/// Runs `rouse devices`.
pub(super) fn devices(args: &DevicesArgs) -> Exit {
    if let Some(entry) = &args.entry {
        return entry::run(entry);
    }
    run(&args.whom, async |client| {
        let state = match (args.awake, args.asleep) {
            (true, _) => Some("awake"),
            (false, true) => Some("asleep"),
            (false, false) => None,
        };
        let path = list(
            "/api/devices",
            &[
                ("agent", args.agent.as_deref()),
                ("state", state),
                ("limit", Some(&args.limit.to_string())),
            ],
        );
        let page: DevicePage = client.get(&path).await?;
        print(args.whom.json, &page, show::devices)
    })
}

/// Runs `rouse push`.
pub(super) fn push(args: &PushArgs) -> Exit {
    run(&args.whom, async |client| {
        let path = format!("/api/push/{}", escaped(&args.agent));
        let report: PushReport = client.post(&path).await?;
        print(args.whom.json, &report, show::pushes)?;
        let are_taken = report.pushes.iter().all(|push| push.verdict == "accepted");
        if report.pushes.is_empty() || !are_taken {
            anyhow::bail!("not every device could be pushed");
        }
        Ok(())
    })
}

/// Runs `rouse trace`.
pub(super) fn trace(args: &TraceArgs) -> Exit {
    if let (Some(agent), true) = (&args.agent, args.debug) {
        return debug(args, agent);
    }
    if let (Some(agent), Some(file)) = (&args.agent, &args.pcap) {
        return capture(args, agent, file);
    }
    run(&args.whom, async |client| {
        let path = list("/api/events", &[("agent", args.agent.as_deref())]);
        let mut events = client.follow(&path).await?;
        if !args.whom.json {
            output::progress("following; Ctrl-C ends it");
        }
        while let Some(event) = events.next().await? {
            if args.whom.json {
                output::line(serde_json::to_string(&event)?);
            } else {
                output::line(show::event(&event));
            }
        }
        anyhow::bail!("the gateway has ended the stream: it stops, or we were too slow")
    })
}

/// Runs `rouse trace --debug`.
fn debug(args: &TraceArgs, agent: &str) -> Exit {
    run(&args.whom, async |client| {
        let path = format!("/api/debug/{}", escaped(agent));
        if args.minutes == 0 {
            client.delete(&path).await?;
            output::progress("it is logged no more");
            return Ok(());
        }
        let path = format!("{path}?minutes={}", args.minutes);
        let watched: Watched = client.put(&path).await?;
        print(args.whom.json, &watched, |watched| {
            vec![format!(
                "{} is in the gateway's log for {} min: its messages (sip::wire) and steps (rouse::watch)",
                watched.agent, args.minutes
            )]
        })
    })
}

/// Runs `rouse trace --pcap`.
fn capture(args: &TraceArgs, agent: &str, file: &PathBuf) -> Exit {
    run(&args.whom, async |client| {
        let path = list("/api/capture", &[("agent", Some(agent))]);
        let mut pieces = client.pieces(&path).await?;
        let wrong = || format!("cannot write to {}", file.display());
        let mut out = fs::File::create(file).with_context(wrong)?;
        output::progress("capturing; Ctrl-C ends it");
        while let Some(piece) = pieces.next().await? {
            out.write_all(&piece).with_context(wrong)?;
        }
        anyhow::bail!("the gateway has ended the capture: it stops")
    })
}

/// Runs `rouse reload` and `rouse drain`.
pub(super) fn tell(args: &TellArgs, path: &str) -> Exit {
    run(&args.whom, async |client| Ok(client.command(path).await?))
}

/// Runs `rouse top`.
pub(super) fn top(args: &TopArgs) -> Exit {
    run(&args.whom, async |client| {
        top::run(&client, args.whom.json).await
    })
}

/// Asks for one call, by its name or the end of it.
async fn call(client: &Client, id: &str, json: bool) -> anyhow::Result<()> {
    let mut id = id.to_owned();
    if id.len() < 16 {
        let page: CallPage = client.get("/api/calls?limit=500").await?;
        let ends = page.calls.iter().filter(|call| call.id.ends_with(&id));
        let ends: Vec<&str> = ends.map(|call| &*call.id).collect();
        match ends[..] {
            [one] => one.clone_into(&mut id),
            [] => {}
            [..] => anyhow::bail!("several calls' names end so: {}", ends.join(", ")),
        }
    }
    let story: CallStory = client.get(&format!("/api/calls/{}", escaped(&id))).await?;
    print(json, &story, show::story)
}

fn print<T: Serialize>(
    json: bool,
    what: &T,
    show: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<()> {
    if json {
        output::line(serde_json::to_string_pretty(what)?);
    } else {
        for line in show(what) {
            output::line(line.trim_end());
        }
    }
    Ok(())
}

fn run(whom: &Whom, ask: impl AsyncFnOnce(Client) -> anyhow::Result<()>) -> Exit {
    let asked = runtime().and_then(|runtime| {
        let client = whom.client()?;
        runtime.block_on(ask(client))
    });
    match asked {
        Ok(()) => Exit::Done,
        Err(error) => fail(&error),
    }
}

impl Whom {
    /// The gateway that is meant.
    fn client(&self) -> anyhow::Result<Client> {
        let known = Known::read(&self.config);
        let address = self.admin.clone().or(known.address);
        let address = address.unwrap_or_else(|| ADDRESS.to_owned());
        let file = self.token_file.clone().or(known.token_file);
        let token = match (file, std::env::var("ROUSE__ADMIN__TOKEN").ok()) {
            (Some(file), inline) if self.token_file.is_some() || inline.is_none() => {
                let token = fs::read_to_string(&file);
                let token = token.with_context(|| {
                    let file = file.display();
                    format!("cannot read the token in {file}; --token-file names another file")
                })?;
                Some(token.trim().to_owned())
            }
            (_, inline) => inline,
        };
        Ok(Client::new(
            &address,
            token.map(Token::new),
            known.certificate.as_deref(),
        )?)
    }
}

/// What a configuration says of its `[admin]`, as far as it can be read.
#[derive(Debug, Default)]
struct Known {
    address: Option<String>,
    token_file: Option<PathBuf>,
    certificate: Option<PathBuf>,
}

impl Known {
    fn read(path: &PathBuf) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default(); // none there: the defaults hold
        let table: toml::Table = text.parse().unwrap_or_default(); // its mistakes are for `check`
        let admin = table.get("admin").and_then(toml::Value::as_table);
        let text = |key: &str| {
            let variable = std::env::var(format!("ROUSE__ADMIN__{}", key.to_uppercase()));
            let written = || Some(admin?.get(key)?.as_str()?.to_owned());
            variable
                .ok()
                .or_else(written)
                .filter(|text| !text.is_empty())
        };
        let certificate = text("certificate").map(PathBuf::from);
        let scheme = if certificate.is_some() {
            "https"
        } else {
            "http"
        };
        Self {
            address: text("address").map(|address| format!("{scheme}://{}", reachable(&address))),
            token_file: text("token_file").map(PathBuf::from),
            certificate,
        }
    }
}

/// The address to connect to for one that is listened on.
fn reachable(address: &str) -> String {
    address
        .replace("0.0.0.0:", "127.0.0.1:")
        .replace("[::]:", "[::1]:")
}

/// A path with what is asked for.
fn list(path: &str, asked: &[(&str, Option<&str>)]) -> String {
    let mut path = path.to_owned();
    let mut mark = '?';
    for (name, value) in asked {
        if let Some(value) = value {
            // Writing to a string does not fail.
            write!(path, "{mark}{name}={}", escaped(value)).unwrap_or_default();
            mark = '&';
        }
    }
    path
}

/// A part of a path or query.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").unwrap_or_default();
        }
    }
    escaped
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let known = Outcome::ALL
        .into_iter()
        .find(|outcome| outcome.label() == text);
    known.ok_or_else(|| {
        let all: Vec<&str> = Outcome::ALL.into_iter().map(Outcome::label).collect();
        format!("choose one of {}", all.join(", "))
    })
}

/// The state in a list.
const fn state(of: DeviceState) -> &'static str {
    match of {
        DeviceState::Awake => "awake",
        DeviceState::Asleep => "asleep",
    }
}

/// Whose an event is.
fn agent_of(event: &Live) -> &str {
    match event {
        Live::Call { call, .. } => &call.agent,
        Live::Device { agent, .. } => agent.as_deref().unwrap_or("-"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_escaped() {
        let path = list(
            "/api/calls",
            &[
                ("agent", Some("a b&c")),
                ("number", None),
                ("limit", Some("3")),
            ],
        );
        assert_eq!(path, "/api/calls?agent=a%20b%26c&limit=3");
        assert_eq!(escaped("1001@pbx.example.com"), "1001@pbx.example.com");
        assert_eq!(escaped("../x"), "..%2Fx");
    }

    #[test]
    fn the_address_and_the_token_stand_in_the_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rouse.toml");
        let text =
            "[admin]\naddress = \"0.0.0.0:8061\"\ntoken_file = \"t\"\n[[upstream]]\nnonsense = 1\n";
        fs::write(&file, text).unwrap();
        let known = Known::read(&file);
        assert_eq!(known.address.as_deref(), Some("http://127.0.0.1:8061"));
        assert_eq!(known.token_file, Some("t".into()));
        let nothing = Known::read(&folder.path().join("none"));
        assert!(nothing.address.is_none() && nothing.token_file.is_none());
    }

    #[test]
    fn an_unknown_outcome_is_answered_with_the_known_ones() {
        assert_eq!(outcome("cancelled"), Ok(Outcome::Cancelled));
        assert!(outcome("lost").unwrap_err().contains("unreachable"));
    }
}
