//! `bench`: what xlb costs, measured. `cargo xtask bench` builds all that it needs and runs it.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use xlb_bench::control;

/// Measures what xlb costs.
#[derive(Debug, Parser)]
struct Options {
    /// The agent's binary. Default: XLB_AGENT, or xlb-agent next to this program.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// The object of the benchmark's own eBPF programs.
    #[arg(long, value_name = "PATH", hide = true)]
    programs: Option<PathBuf>,
    /// Where the report goes.
    #[arg(long, value_name = "PATH", hide = true)]
    report: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout, and everything else on stderr.
    #[arg(long)]
    json: bool,
    /// Measure less, in about two minutes.
    #[arg(long)]
    quick: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    use_memory_for_files();
    let agent = options.agent.unwrap_or_else(xlb_tests::lab::agent_binary);
    let effort = if options.quick {
        control::Effort::quick()
    } else {
        control::Effort::full()
    };
    let control = control::measure(&agent, &effort);
    println!(
        "{}",
        serde_json::to_string_pretty(&control).expect("plain data")
    );
    ExitCode::SUCCESS
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
