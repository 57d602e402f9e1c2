//! What `cargo xtask churn` runs.

use std::process::ExitCode;

use clap::Parser;
use xlb_tests::churn;

/// Changes backends and nodes of a fleet under connections that stay open, and counts those that
/// break: with xlb's transitions, without, and with second chance besides.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    churn: churn::Options,
}

fn main() -> ExitCode {
    churn::run(&Arguments::parse().churn)
}
