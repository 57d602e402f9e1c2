//! `bench`: what xlb costs, measured. `cargo xtask bench` builds all that it needs and runs it.

use std::{
    any::Any,
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use xlb_bench::{
    control,
    cost::{
        self,
        harness::Programs,
        peer::{Peer, PeerOption},
    },
    live,
    machine::Machine,
    peers,
    report::{Results, bounds},
};

/// Measures what xlb costs: a packet, real traffic next to what others take for it, and the control
/// plane. The machine should do nothing else meanwhile.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    max_term_width = 100
)]
struct Options {
    /// The agent's binary. Default: XLB_AGENT, or xlb-agent next to this program.
    #[arg(long, value_name = "PATH", hide = true)]
    agent: Option<PathBuf>,
    /// The object of the benchmark's own eBPF programs.
    #[arg(long, value_name = "PATH", hide = true)]
    programs: PathBuf,
    /// Where the report goes.
    #[arg(long, value_name = "PATH")]
    report: PathBuf,
    /// Print one JSON object as the last line of stdout, and everything else on stderr.
    #[arg(long)]
    json: bool,
    /// Measure less, in about two minutes. Good for a look, too noisy for a claim.
    #[arg(long)]
    quick: bool,
    /// Measure these parts only.
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Measure somebody else's XDP program as well, pinned at PIN and configured as
    /// docs/benchmark.md says.
    #[arg(long = "peer", value_name = "NAME=PIN")]
    peers: Vec<PeerOption>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// The cost of a packet, by test runs.
    Cost,
    /// Live frames over a cable.
    Live,
    /// Real traffic, next to other balancers.
    Peers,
    /// The control plane.
    Control,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "error: the benchmark makes network namespaces and loads programs: run it as root"
        );
        return ExitCode::FAILURE;
    }
    use_memory_for_files();
    match run(&options) {
        Ok(results) if results.failed.is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Results> {
    let peers: Vec<Peer> = options
        .peers
        .iter()
        .map(Peer::open)
        .collect::<Result<_>>()?;
    let mut results = Results {
        machine: Machine::here(),
        quick: options.quick,
        ..Results::default()
    };
    for line in results.machine.lines() {
        eprintln!("{line}");
    }
    for part in parts(options) {
        // What can't be measured ends in a panic, whose message says all that there is to say.
        let measured = catch_unwind(AssertUnwindSafe(|| {
            measure(part, options, &peers, &mut results)
        }));
        let failed = match measured {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => format!("{error:#}"),
            Err(panic) => message(panic.as_ref()).to_owned(),
        };
        eprintln!("{part:?} could not be measured: {failed}");
        results.failed.push(format!("{part:?}: {failed}"));
    }
    results.bounds = bounds(&results);
    results.write_page(&options.report)?;
    let text = format!("{}\n{}", results.text(), options.report.display());
    if options.json {
        eprintln!("{text}");
        println!("{}", results.json());
    } else {
        println!("{text}");
    }
    Ok(results)
}

fn parts(options: &Options) -> BTreeSet<Part> {
    if options.only.is_empty() {
        Part::value_variants().iter().copied().collect()
    } else {
        options.only.iter().copied().collect()
    }
}

fn measure(part: Part, options: &Options, peers: &[Peer], results: &mut Results) -> Result<()> {
    let agent = options
        .agent
        .clone()
        .unwrap_or_else(xlb_tests::lab::agent_binary);
    let programs = || Programs::read(&options.programs);
    let quick = options.quick;
    match part {
        Part::Cost => {
            let effort = if quick {
                cost::Effort::quick()
            } else {
                cost::Effort::full()
            };
            cost::measure(&agent, &programs(), peers, &effort, &mut results.cost);
        }
        Part::Live => {
            let effort = if quick {
                live::Effort::quick()
            } else {
                live::Effort::full()
            };
            results.live = live::measure(&agent, &programs(), &effort);
        }
        Part::Peers => {
            let effort = if quick {
                peers::Effort::quick()
            } else {
                peers::Effort::full()
            };
            results.peers = peers::measure(&agent, &effort)?;
        }
        Part::Control => {
            let effort = if quick {
                control::Effort::quick()
            } else {
                control::Effort::full()
            };
            results.control = Some(control::measure(&agent, &effort));
        }
    }
    Ok(())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for a reason unknown")
}

/// Has the labs' files lie in memory, so that no disk is measured: the agent waits for a disk before
/// it carries out a change.
fn use_memory_for_files() {
    const MEMORY: &str = "/dev/shm";
    if std::env::var_os("TMPDIR").is_none() && std::path::Path::new(MEMORY).is_dir() {
        // SAFETY: no other thread runs yet.
        unsafe { std::env::set_var("TMPDIR", MEMORY) };
    }
}
