//! The `rouse` program: everything is in the library, so that tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    rouse::cli::run(std::env::args_os())
}
