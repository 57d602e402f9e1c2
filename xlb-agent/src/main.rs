//! `xlb-agent`: the daemon and its command line in one binary.

use std::{io, process::ExitCode};

use clap::{CommandFactory, Parser};
use xlb_agent::cli::{self, Cli};

fn main() -> ExitCode {
    // Ends the process if it is a shell that asks how a command may go on.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    match cli::run(&Cli::parse()) {
        Ok(exit) => exit.into(),
        // Whoever reads our output may stop early, as `head` does: that is no failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}");
            // Complaints about a file begin with its name, where editors look for it.
            let gap = if text.contains('\n') { '\n' } else { ' ' };
            eprintln!("error:{gap}{text}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
