//! What `cargo xtask fuzz` runs.

use std::process::ExitCode;

use clap::Parser;
use xlb_common::reason::Reason;
use xlb_tests::fuzz;

/// Holds the program against the reference model, on configurations and frames that chance makes.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    fuzz: fuzz::Options,
}

fn main() -> ExitCode {
    let options = Arguments::parse().fuzz;
    let report = match fuzz::run(&options) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    for difference in &report.differences {
        println!("{difference}");
    }
    let tally = &report.tally;
    for (reason, count) in Reason::ALL.iter().zip(&tally.reasons) {
        println!("{:26} {count}", reason.name());
    }
    println!(
        "{} frames in {} cases, {:.0} a second; {} forwarded, {} malformed, {} of these forwarded; {} differences",
        tally.frames,
        report.cases,
        tally.frames as f64 / report.seconds,
        tally.forwarded,
        tally.malformed,
        tally.malformed_forwarded,
        report.differences.len(),
    );
    if report.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
