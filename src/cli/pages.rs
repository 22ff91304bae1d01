//! `rouse completions` and `rouse man`: what a shell and `man` want to know of the command line,
//! made from the command line itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, Exit, fail, output};

/// Prints a script that completes the command line in a shell.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// For which shell.
    shell: Shell,
}

/// Writes the manual pages.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Into which folder; it is made if it is missing.
    folder: PathBuf,
}

/// Runs `rouse completions`.
pub(super) fn completions(args: &CompletionsArgs) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "rouse", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end());
    Exit::Done
}

/// Runs `rouse man`.
pub(super) fn man(args: &ManArgs) -> Exit {
    let mut command = Arguments::command();
    command.build();
    let folder = &args.folder;
    let written = fs::create_dir_all(folder).and_then(|()| write(&command, "rouse", folder));
    match written.with_context(|| format!("cannot write to {}", folder.display())) {
        Ok(()) => Exit::Done,
        Err(error) => fail(&error),
    }
}

/// Writes the page of a command and those of the commands below it.
fn write(command: &Command, name: &str, folder: &Path) -> io::Result<()> {
    let mut page = Vec::new();
    let named = command
        .clone()
        .name(name.to_owned())
        .version(env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(named).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        write(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_its_page() {
        let folder = tempfile::tempdir().unwrap();
        let args = ManArgs {
            folder: folder.path().join("man"),
        };
        assert_eq!(man(&args), Exit::Done);
        for name in ["rouse", "rouse-serve", "rouse-calls", "rouse-top"] {
            let page = fs::read_to_string(args.folder.join(format!("{name}.1"))).unwrap();
            assert!(page.contains(".SH NAME"), "{name}");
        }
    }

    #[test]
    fn each_shell_has_its_script() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "rouse", &mut script);
            assert!(
                String::from_utf8(script).unwrap().contains("devices"),
                "{shell}"
            );
        }
    }
}
