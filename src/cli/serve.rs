//! `rouse serve`: the gateway as a process. Start, say where it listens, run until a signal.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::cli::holder::holder;
use crate::cli::{ConfigArgs, Exit, load, output};
use crate::proto::Transport;

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
    for warning in &config.warnings {
        output::complain(warning);
    }
    output::complain("the driver is still to come");
    Exit::Failed
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
