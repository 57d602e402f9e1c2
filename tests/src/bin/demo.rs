//! The demonstration that `cargo xtask demo` runs, and the small server that the lab's backends run.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xlb_tests::{demo, lab::serve};

/// Shows what xlb does, in a lab of network namespaces: spreads requests, outlives backends that
/// are killed or cut off, drains a backend, and outlives its own agent.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: demo::Options,
}

#[derive(Subcommand)]
enum Command {
    /// Serves HTTP and an echo of UDP datagrams until it is killed.
    #[command(hide = true)]
    Serve(serve::ServeOptions),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => demo::run(&arguments.demo),
        Some(Command::Serve(options)) => match serve::main(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("serve as {}: {error}", options.name);
                ExitCode::FAILURE
            }
        },
    }
}
