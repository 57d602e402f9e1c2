//! The demonstration that `cargo xtask demo` runs, and the small server that the lab's backends run.

use std::process::ExitCode;

use clap::Parser;
use xlb_tests::lab::serve;

#[derive(Parser)]
enum Command {
    /// Serves HTTP and an echo of UDP datagrams until it is killed.
    Serve(serve::ServeOptions),
}

fn main() -> ExitCode {
    let Command::Serve(options) = Command::parse();
    match serve::main(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("serve as {}: {error}", options.name);
            ExitCode::FAILURE
        }
    }
}
