//! `rouse serve`: the gateway as a process. Start, say where it listens, run until a signal.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::holder::holder;
use crate::cli::{ConfigArgs, Exit, fail, load, output, runtime};
use crate::config::Config;
use crate::io::transport::BindError;
use crate::proto::Transport;
use crate::proto::settings::Listener;
use crate::server::{self, ServeError};
use crate::telemetry;

/// Starts the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs `rouse serve`.
pub(super) fn run(arguments: &ServeArgs) -> Exit {
    let config = match load(&arguments.config.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Err(error) = telemetry::init(&config.log) {
        return fail(&error.into());
    }
    let served = runtime().and_then(|runtime| runtime.block_on(Box::pin(serve(config))));
    match served {
        Ok(()) => Exit::Done,
        Err(error) => fail(&error),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before the start, so that a signal during it is not lost.
    let mut signals = Signals::new().context("cannot listen to signals")?;
    let listeners = config.settings.listeners.clone();
    let mut running = tokio::select! {
        started = server::start(config) => started.map_err(explain)?,
        name = signals.next() => {
            output::line(format!("{name}: stopped before it had started"));
            return Ok(());
        }
    };
    for (listener, address) in listeners.iter().zip(running.addresses()) {
        output::line(listening(listener, *address));
    }
    tokio::select! {
        name = signals.next() => output::line(format!("{name}: stopping")),
        () = running.shard_ended() => return Err(ServeError::ShardEnded.into()),
    }
    tokio::select! {
        () = running.stop() => output::line("stopped"),
        name = signals.next() => output::line(format!("{name} again: not waiting any longer")),
    }
    Ok(())
}

/// The signals that ask us to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

fn listening(listener: &Listener, address: SocketAddr) -> String {
    let port = match listener.advertise_port {
        0 => address.port(),
        port => port,
    };
    let (label, host) = (listener.transport.label(), &listener.advertise_host);
    format!("listening on {label} {address}, known as {host}:{port}")
}

fn explain(error: ServeError) -> anyhow::Error {
    match error {
        ServeError::Bind(BindError::Listen {
            transport,
            address,
            error,
        }) => anyhow::Error::msg(cannot_listen(transport, address, &error)),
        ServeError::Bind(_)
        | ServeError::Store(_)
        | ServeError::Push(_)
        | ServeError::Resolver(_)
        | ServeError::ShardEnded => error.into(),
    }
}

/// Says in one sentence why an address cannot be listened on, and what to do.
fn cannot_listen(transport: Transport, address: SocketAddr, error: &io::Error) -> String {
    let what = format!("cannot listen on {} {address}", transport.label());
    let port = address.port();
    let kind = error.kind();
    let reason = if kind == ErrorKind::AddrInUse {
        let flag = if transport == Transport::Udp {
            "u"
        } else {
            "t"
        };
        let who = holder(transport, address).map_or_else(
            || format!("find who has it with: ss -l{flag}np sport = :{port}"),
            |holder| format!("{holder} has it"),
        );
        format!("the port is taken; {who}; stop that, or change [[listen]] address")
    } else if kind == ErrorKind::PermissionDenied && port < 1024 {
        let program = std::env::current_exe();
        let program = program.map_or_else(|_| "rouse".into(), |path| path.display().to_string());
        format!(
            "ports below 1024 need a right; \
             take one above, or: setcap cap_net_bind_service=+ep {program}"
        )
    } else if kind == ErrorKind::AddrNotAvailable {
        "this machine has no such address; correct [[listen]] address".to_owned()
    } else {
        error.to_string()
    };
    format!("{what}: {reason}")
}
