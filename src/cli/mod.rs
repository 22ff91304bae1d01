//! The command line: what can be asked of the program, and its exit codes.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};

mod certs;
mod check;
pub mod demo;
mod holder;
mod ladder;
mod operator;
mod output;
mod pages;
mod reach;
mod serve;

/// A mobile push gateway and SIP proxy: wakes sleeping agents' phones and delivers Asterisk's
/// calls to them.
#[derive(Debug, Parser)]
#[command(name = "rouse", version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 64 wrong usage, 78 wrong configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the gateway; it runs until SIGTERM or SIGINT.
    Serve(serve::ServeArgs),
    /// Look at a configuration, its certificates, and whether Asterisk and the push services answer.
    Check(check::CheckArgs),
    /// Make certificates for development: a CA, and a server certificate that it signs.
    Certs(certs::CertsArgs),
    /// Play a call to a sleeping phone, with stand-ins for Asterisk, the push service and the phone.
    Demo(demo::DemoArgs),
    /// Show the last calls of a running gateway, or tell one step by step: why it rang, or did not.
    Calls(operator::CallsArgs),
    /// Show the registered devices of a running gateway.
    Devices(operator::DevicesArgs),
    /// Push an agent's devices for a test.
    Push(operator::PushArgs),
    /// Follow what happens in a running gateway.
    Trace(operator::TraceArgs),
    /// Show a running gateway at a glance, again every second.
    Top(operator::TopArgs),
    /// Have a running gateway read its configuration again, as SIGHUP does; its log says what came of it.
    Reload(operator::TellArgs),
    /// Have a running gateway refuse new calls from now on; those under way go on.
    Drain(operator::TellArgs),
    /// Print a script that completes the command line in a shell.
    Completions(pages::CompletionsArgs),
    /// Write the manual pages.
    Man(pages::ManArgs),
}

/// Which configuration file.
#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The configuration file.
    #[arg(
        short,
        long,
        value_name = "FILE",
        env = "ROUSE_CONFIG",
        default_value = "config/rouse.toml"
    )]
    config: PathBuf,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done,
    Failed,
    Usage,
    Configuration,
}

impl From<Exit> for ExitCode {
    // 64 and 78 are sysexits.h's EX_USAGE and EX_CONFIG.
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Usage => Self::from(64),
            Exit::Configuration => Self::from(78),
        }
    }
}

/// Runs the program with the arguments of a command line, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // dropped: nobody reads it any more.
            error.print().ok();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return exit.into();
        }
    };
    let exit = match arguments.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Certs(arguments) => certs::run(&arguments),
        Command::Demo(arguments) => play(arguments),
        Command::Calls(arguments) => operator::calls(&arguments),
        Command::Devices(arguments) => operator::devices(&arguments),
        Command::Push(arguments) => operator::push(&arguments),
        Command::Trace(arguments) => operator::trace(&arguments),
        Command::Top(arguments) => operator::top(&arguments),
        Command::Reload(arguments) => operator::tell(&arguments, "/api/reload"),
        Command::Drain(arguments) => operator::tell(&arguments, "/api/drain"),
        Command::Completions(arguments) => pages::completions(&arguments),
        Command::Man(arguments) => pages::man(&arguments),
    };
    exit.into()
}

/// Reads the configuration, or prints its mistakes.
fn load(path: &Path) -> Result<Config, Exit> {
    config::load(path).map_err(|mistakes| {
        output::complain(&mistakes);
        let count = mistakes.list().len();
        let s = if count == 1 { "" } else { "s" };
        output::complain(format!("{count} mistake{s} in the configuration"));
        Exit::Configuration
    })
}

/// Plays the demo.
fn play(arguments: demo::DemoArgs) -> Exit {
    let played = runtime().and_then(|runtime| runtime.block_on(demo::run(arguments)));
    match played {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::Failed,
        Err(error) => fail(&error),
    }
}

/// Prints an error with its causes on one line.
fn fail(error: &anyhow::Error) -> Exit {
    output::complain(format!("{error:#}"));
    Exit::Failed
}

/// Makes a runtime with one thread per core.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")
}
