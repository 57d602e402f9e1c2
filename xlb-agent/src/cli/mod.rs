//! The command line: it parses, asks the control API, and prints. It knows nothing of the agent
//! but that API; `run`, `unload` and `replay`, and the same of a backend, are the verbs that do without it,
//! and `explain` can.

mod args;
mod args_backend;
mod args_config;
mod args_explain;
mod args_nat;
mod args_replay;
mod args_service;
mod backend_host;
mod candidates;
mod check;
mod client;
mod diff;
mod drain;
mod explain;
mod generate;
mod import;
mod names;
mod print;
mod replay;
#[cfg(test)]
mod samples;
mod tables;
#[cfg(test)]
mod tests;
mod units;
mod values;

use std::{path::Path, process::ExitCode};

pub use args::Cli;
use args::Command;
use args_config::ConfigCommand;

use crate::{daemon, logging, options::DEFAULT_CONFIG};

/// How a command ended that did not fail with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Well,
    /// The command has said what is wrong.
    NotWell,
    /// `status` found no agent.
    AgentDown,
    /// `diff` found something that would change.
    Differs,
    /// `diff` could not be done, and has said why.
    Trouble,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Well => Self::SUCCESS,
            Exit::NotWell | Exit::Differs => Self::FAILURE,
            Exit::Trouble => Self::from(2),
            Exit::AgentDown => Self::from(3),
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// When the input is bad, or when the agent refuses or does not answer.
pub fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let output = cli.global.output();
    match &cli.command {
        Command::Check(args) => check::check(&args.file, output),
        Command::Version => print::version(output).map(|()| Exit::Well),
        Command::Status => client::status(&cli.global),
        Command::Health(args) => client::health(&cli.global, args.service.as_deref()),
        Command::Backend(command) => client::backend(&cli.global, command),
        Command::Nat(command) => client::nat(&cli.global, command),
        Command::Service(command) => client::service(&cli.global, command),
        Command::Reload(args) if args.dry_run => diff::diff(&cli.global, None),
        Command::Reload(_) => client::reload(&cli.global),
        Command::Diff(args) => diff::diff(&cli.global, Some(&args.file)),
        Command::Explain(args) => explain::explain(&cli.global, args),
        Command::Replay(args) => replay::replay(&cli.global, args),
        Command::Run(args) => {
            logging::init(args.log)?;
            let mut options = cli.global.options(&args.config)?;
            options.without_transitions = args.without_transitions;
            options.metrics = args.metrics;
            daemon::run(options).map(|()| Exit::Well)
        }
        Command::Config(ConfigCommand::Import(args)) => import::import(args, output),
        Command::Completions(args) => generate::completions(args.shell),
        Command::Man(args) => generate::man(&args.directory),
        Command::Unload => {
            let options = cli.global.options(Path::new(DEFAULT_CONFIG))?;
            print::changed(output, &daemon::unload(&options)?).map(|()| Exit::Well)
        }
    }
}
