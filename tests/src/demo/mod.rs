//! The demonstration: real traffic, real faults, and what they cost.
//!
//! Everything is measured by the client, from outside. `report` says what must hold.

mod acts;
mod report;
mod show;
mod stage;

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use report::Report;
use show::Show;
use stage::Stage;

/// How the demonstration is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The agent's binary. Default: XLB_AGENT, or xlb-agent next to this program.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout, and everything else on stderr.
    #[arg(long)]
    json: bool,
    /// Leave the lab up, and say how to look around in it.
    #[arg(long)]
    keep: bool,
}

/// Runs the demonstration. It succeeds if all that it shows holds.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let show = Show::new(options.json);
    // What a lab cannot do ends in a panic, whose message says all that there is to say.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!(
            "\nThe demonstration ends early: {}",
            message(panic.payload())
        );
    }));
    let mut report = Report::default();
    let performance = catch_unwind(AssertUnwindSafe(|| {
        let stage = perform(options, &show, &mut report);
        report.conclude();
        show.table(&report.expectations());
        for expectation in &report.failed_expectations {
            show.line(&format!("Does not hold: {expectation}"));
        }
        if options.keep {
            keep(&stage, &show);
        }
    }));
    if let Err(panic) = performance {
        report.give_up(message(panic.as_ref()));
    }
    if options.json {
        let json = serde_json::to_string(&report).expect("a report is plain data");
        println!("{json}");
    }
    if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for a reason unknown")
}

fn perform(options: &Options, show: &Show, report: &mut Report) -> Stage {
    show.title("A lab of network namespaces: a client, a balancer, three backends");
    let mut stage = Stage::build(options.agent.as_deref(), options.keep);
    for line in stage.description() {
        show.line(&line);
    }
    acts::spread(&stage, show, report);
    acts::kill(&mut stage, show, report);
    acts::black_hole(&stage, show, report);
    acts::drain(&stage, show, report);
    acts::agent_kill(&mut stage, show, report);
    stage
}

fn keep(stage: &Stage, show: &Show) {
    let script = stage.keep();
    show.title("The lab stays up");
    for line in stage.how_to_look_around(&script) {
        show.line(&line);
    }
}
