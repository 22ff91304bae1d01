//! `rouse serve`: the gateway as a process. Start, say where it listens, run until a signal.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::holder::holder;
use crate::cli::{ConfigArgs, Exit, fail, load, output, runtime};
use crate::config::{self, Config};
use crate::io::supervisor::Supervisor;
use crate::io::takeover::{self, Door, Successor};
use crate::io::transport::BindError;
use crate::proto::Transport;
use crate::proto::settings::Listener;
use crate::server::{self, Control, Heritage, Running, ServeError};
use crate::telemetry::{self, Filter};

/// Starts the gateway.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Take over from the process that serves now: its sockets, its store and the calls that wait
    /// for phones. It ends when its other calls have. Without one this is an ordinary start.
    #[arg(long)]
    takeover: bool,
}

/// Runs `rouse serve`.
pub(super) fn run(arguments: &ServeArgs) -> Exit {
    let config = match load(&arguments.config.config) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let filter = match telemetry::init(&config.log) {
        Ok(filter) => filter,
        Err(error) => return fail(&error.into()),
    };
    let process = Process {
        file: arguments.config.config.clone(),
        filter,
        supervisor: Supervisor::from_environment(),
        takes_over: arguments.takeover,
    };
    let served = runtime().and_then(|runtime| runtime.block_on(Box::pin(process.serve(config))));
    telemetry::flush();
    match served {
        Ok(()) => Exit::Done,
        Err(error) => fail(&error),
    }
}

/// The process around the gateway.
struct Process {
    /// The configuration's file, to read it again.
    file: PathBuf,
    filter: Filter,
    supervisor: Supervisor,
    takes_over: bool,
}

impl Process {
    async fn serve(self, config: Config) -> anyhow::Result<()> {
        // Before the start, so that a signal during it is not lost.
        let mut signals = Signals::new().context("cannot listen to signals")?;
        let listeners = config.settings.listeners.clone();
        let socket = takeover::socket_of(&config.store.path);
        let heritage = self.heritage(&socket)?;
        let mut running = tokio::select! {
            started = server::start_with(config, heritage) => started.map_err(explain)?,
            name = signals.end() => {
                output::line(format!("{name}: stopped before it had started"));
                return Ok(());
            }
        };
        for (listener, address) in listeners.iter().zip(running.addresses()) {
            output::line(listening(listener, *address));
        }
        if let Some(address) = running.admin_address() {
            output::line(format!("operators are served on {address}"));
        }
        self.supervisor.ready();
        self.keep_sockets(&running);
        let door = Door::open(&socket);
        let door = door.inspect_err(|error| tracing::warn!(%error, "no process can take over"));
        let end = self.run(&mut running, &mut signals, door.ok()).await?;
        let mut relay = None;
        let why = match end {
            End::Signal(name) => format!("{name}: stopping"),
            End::Succeeded(successor) => {
                let pid = successor.pid;
                relay = Some(running.control().listen_to(successor));
                format!("process {pid} has taken over: stopping")
            }
        };
        self.drain(running.control(), &why, &mut signals).await;
        tokio::select! {
            () = running.stop() => output::line("stopped"),
            name = signals.end() => output::line(format!("{name} again: not waiting any longer")),
        }
        if let Some(relay) = relay {
            relay.abort();
        }
        Ok(())
    }

    /// Has the service manager keep what we listen on, for a start after whatever end.
    fn keep_sockets(&self, running: &Running) {
        if !self.supervisor.wants_sockets() {
            return;
        }
        match running.network().sockets() {
            Ok(sockets) => self.supervisor.keep(&sockets),
            Err(error) => tracing::warn!(%error, "no copies of our sockets"),
        }
    }

    /// Where sockets are that are bound already.
    fn heritage(&self, socket: &Path) -> anyhow::Result<Heritage> {
        let heritage = Heritage::from_environment();
        let heritage = heritage.context("cannot use the sockets of the service manager")?;
        if self.takes_over {
            return Ok(heritage.from_process(socket.to_owned()));
        }
        Ok(heritage)
    }

    /// Serves until a signal asks for the end; returns its name.
    async fn run(
        &self,
        running: &mut Running,
        signals: &mut Signals,
        door: Option<Door>,
    ) -> anyhow::Result<End> {
        let control = running.control().clone();
        loop {
            tokio::select! {
                name = signals.next() => match name {
                    Some(name) => return Ok(End::Signal(name)),
                    None => self.reload(&control).await,
                },
                () = control.reload_wished() => self.reload(&control).await,
                successor = knock(door.as_ref()) => {
                    running.stop_admin().await;
                    if let Some(successor) = self.hand_over(&control, successor).await {
                        return Ok(End::Succeeded(successor));
                    }
                }
                () = running.shard_ended() => return Err(ServeError::ShardEnded.into()),
                () = self.supervisor.beat() => {
                    if control.is_alive() {
                        self.supervisor.alive();
                    }
                }
            }
        }
    }

    /// Gives another process all that it needs; `None` if it is gone before we have begun.
    async fn hand_over(&self, control: &Control, mut successor: Successor) -> Option<Successor> {
        let (sockets, note) = match control.hand_over().await {
            Ok(given) => given,
            Err(error) => {
                tracing::error!(%error, "cannot hand over");
                return None;
            }
        };
        self.supervisor.successor(successor.pid);
        if let Err(error) = successor.give(&sockets, &note).await {
            tracing::error!(%error, "whoever took over has gone");
        }
        Some(successor)
    }

    /// Reads the configuration again; a mistake in it leaves everything as it is.
    async fn reload(&self, control: &Control) {
        self.supervisor.reloading();
        let file = self.file.clone();
        match tokio::task::spawn_blocking(move || config::load(&file)).await {
            Ok(Ok(config)) => self.follow(control, config).await,
            Ok(Err(mistakes)) => {
                for mistake in mistakes.to_string().lines() {
                    tracing::error!(mistake, "configuration not reloaded");
                }
            }
            Err(error) => tracing::error!(%error, "configuration not reloaded"),
        }
        self.supervisor.ready();
    }

    async fn follow(&self, control: &Control, config: Config) {
        let filter = config.log.filter.clone();
        match control.reload(config).await {
            Ok(fixed) => {
                if let Err(error) = self.filter.change(&filter) {
                    tracing::error!(%error, "log filter not changed");
                }
                for key in fixed {
                    tracing::warn!(key, "changed, and holds only after a restart");
                }
                tracing::info!("configuration reloaded");
            }
            Err(error) => tracing::error!(%error, "configuration not reloaded"),
        }
    }

    /// Lets the calls under way end, but not for longer than is configured.
    async fn drain(&self, control: &Control, why: &str, signals: &mut Signals) {
        let grace = control.config().drain;
        output::line(why);
        self.supervisor.stopping("calls under way end");
        tokio::select! {
            left = control.drain(grace) => {
                if left > 0 {
                    tracing::warn!(left, ?grace, "calls under way did not end in time");
                }
            }
            name = signals.end() => {
                let left = control.unanswered();
                output::line(format!("{name} again: {left} calls under way are lost"));
            }
        }
    }
}

/// Why the process no longer serves.
enum End {
    /// This signal came.
    Signal(&'static str),
    /// Another process serves.
    Succeeded(Successor),
}

async fn knock(door: Option<&Door>) -> Successor {
    match door {
        Some(door) => door.knock().await,
        None => std::future::pending().await,
    }
}

/// The signals that ask us to stop, and the one that asks us to read the configuration again.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The end that is asked for, or `None` for another look at the configuration.
    async fn next(&mut self) -> Option<&'static str> {
        tokio::select! {
            _ = self.interrupt.recv() => Some("SIGINT"),
            _ = self.terminate.recv() => Some("SIGTERM"),
            _ = self.hang_up.recv() => None,
        }
    }

    async fn end(&mut self) -> &'static str {
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
        | ServeError::Admin(_)
        | ServeError::Resolver(_)
        | ServeError::Takeover(_)
        | ServeError::ShardEnded => error.into(),
        #[cfg(feature = "otlp")]
        ServeError::Otlp(_) => error.into(),
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
