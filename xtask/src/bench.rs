//! `cargo xtask bench`: the benchmark, after all that it needs.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};

use crate::{build, process, setup, test, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the benchmark; --help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Sets up, builds for speed, and becomes the benchmark: signals and the exit code are its own.
pub(crate) fn run(options: &Options) -> Result<()> {
    test::ensure_root("bench")?;
    setup::ensure_tools()?;
    setup::ensure_bench_tools()?;
    build::ebpf()?;
    process::say("Building the agent and the benchmark, optimized");
    process::run(build::host_cargo().args([
        "build",
        "--release",
        "--package",
        "xlb-agent",
        "--package",
        "xlb-bench",
    ]))?;
    let bench = workspace::binary("bench", true);
    let error = Command::new(&bench)
        .arg("--agent")
        .arg(workspace::binary("xlb-agent", true))
        .arg("--programs")
        .arg(build::benchmark_object())
        .arg("--report")
        .arg(workspace::target_dir().join("bench/report.html"))
        .args(&options.arguments)
        .exec();
    Err(error).with_context(|| format!("start {}", bench.display()))
}
