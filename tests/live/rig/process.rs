//! Child processes that do not outlive the test binary, however it ends.
//!
//! The kernel kills a child when the *thread* that made it ends (prctl(2), PR_SET_PDEATHSIG), and
//! each test is a thread: one thread of its own makes them all and lives as long as the process.

use std::process::{Child, Command};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::{io, thread};

type Order = (Command, SyncSender<io::Result<Child>>);

static KEEPER: OnceLock<Mutex<SyncSender<Order>>> = OnceLock::new();

/// Starts a program that dies with this process; the caller adds arguments and redirections.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(std::process::Stdio::null());
    command
}

/// Spawns what [`command`] began.
pub(crate) fn spawn(command: Command) -> Child {
    let program = format!("{command:?}");
    let (answer, answered) = sync_channel(1);
    keeper()
        .lock()
        .expect("no holder of this lock panics")
        .send((command, answer))
        .expect("the keeper never ends");
    answered
        .recv()
        .expect("the keeper answers each order")
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"))
}

fn keeper() -> &'static Mutex<SyncSender<Order>> {
    KEEPER.get_or_init(|| {
        let (orders, to_do) = sync_channel::<Order>(16);
        thread::spawn(move || {
            for (mut command, answer) in to_do {
                // dropped: a test that failed meanwhile does not want its child any more.
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(orders)
    })
}
