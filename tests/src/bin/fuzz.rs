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
    print(&options, &report);
    if report.differences.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(options: &fuzz::Options, report: &fuzz::Report) {
    let tally = &report.tally;
    if options.json {
        let reasons: serde_json::Map<_, _> = Reason::ALL
            .iter()
            .zip(&tally.reasons)
            .map(|(reason, count)| (reason.name().to_owned(), (*count).into()))
            .collect();
        let object = serde_json::json!({
            "seed": options.seed,
            "frames": tally.frames,
            "cases": report.cases,
            "seconds": report.seconds,
            "forwarded": tally.forwarded,
            "malformed": tally.malformed,
            "malformed_forwarded": tally.malformed_forwarded,
            "reasons": reasons,
            "differences": report.differences,
        });
        println!("{object}");
        return;
    }
    for difference in &report.differences {
        println!("{difference}");
    }
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
}
