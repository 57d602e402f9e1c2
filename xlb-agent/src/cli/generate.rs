//! What a package installs besides the binary, made from the definition of the command line.

use std::{io, path::Path};

use anyhow::Context;
use clap::{CommandFactory, ValueEnum};
use clap_complete::env::Shells;

use super::{Cli, Exit, print};

/// The variable by which a shell's script asks the binary for candidates.
const VARIABLE: &str = "COMPLETE";

/// A shell that can be told how commands go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// GNU bash.
    Bash,
    /// Z shell.
    Zsh,
    /// The friendly interactive shell.
    Fish,
}

impl Shell {
    const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Prints the script of a shell. It asks the binary for what may follow, so that it never is of
/// another version than the binary.
pub(super) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let shells = Shells::builtins();
    let name = env!("CARGO_PKG_NAME");
    let script = shells
        .completer(shell.name())
        .context("the shell is not known")?;
    let mut text = Vec::new();
    script.write_registration(VARIABLE, name, name, name, &mut text)?;
    print::text_out(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Well)
}

/// Writes a page for each command into a directory.
pub(super) fn man(directory: &Path) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(directory)
        .and_then(|()| pages(directory))
        .with_context(|| format!("write manual pages into {}", directory.display()))?;
    Ok(Exit::Well)
}

fn pages(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_command_has_a_page_that_man_renders() {
        fn count(command: &clap::Command) -> usize {
            let subs = command.get_subcommands();
            1 + subs
                .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
                .map(count)
                .sum::<usize>()
        }
        let directory = tempfile::tempdir().unwrap();
        man(directory.path()).unwrap();
        let pages: Vec<_> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(pages.len(), count(&Cli::command()));
        let page = directory.path().join("xlb-agent-backend-drain.1");
        let run = Command::new("man")
            .args(["--warnings", "-P", "cat", "-l"])
            .arg(page)
            .env("MANWIDTH", "100")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && run.stderr.is_empty(), "{run:?}");
        for words in [
            "xlb-agent-backend-drain",
            "--wait",
            "Example:",
            "--timeout 5m",
        ] {
            assert!(text.contains(words), "`{words}` is missing in {text}");
        }
    }
}
