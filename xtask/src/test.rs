//! `cargo xtask test`: all tests, and a look at what they left behind.

use std::{process::Command, thread};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use crate::{
    build,
    leftovers::{self, Snapshot},
    process::{self, say},
    setup, workspace,
};

/// End-to-end tests measure time, so a machine of many cores runs fewer than one a core.
const MAX_TEST_THREADS: usize = 8;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs only the tests whose names contain one of these words.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Builds, runs all tests, and fails if a test failed or left something behind.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure_root("test")?;
    setup::ensure_tools()?;
    build::ebpf()?;
    say("Building the binaries that the tests start");
    process::run(build::host_cargo().args(["build", "--workspace"]))?;

    leftovers::adopt_orphans()?;
    let before = Snapshot::take();
    let failures: Vec<String> = stages(&options.filters)
        .into_iter()
        .filter_map(run_stage)
        .collect();
    let left = leftovers::settle(&before);
    for thing in &left {
        eprintln!("left behind: {thing}");
    }
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    if !left.is_empty() {
        bail!(
            "the tests left {} thing(s) behind, listed above",
            left.len()
        );
    }
    say("All tests passed and left nothing behind");
    Ok(())
}

/// Fails with the command to type if the user is not root.
pub(crate) fn ensure_root(command: &str) -> Result<()> {
    if !geteuid().is_root() {
        bail!(
            "`cargo xtask {command}` makes network namespaces and loads programs into the kernel, \
             so it needs root: type `sudo -E env \"PATH=$PATH\" cargo xtask {command}`"
        );
    }
    Ok(())
}

/// The stages have the same packages, so that cargo builds nothing twice with other features.
fn stages(filters: &[String]) -> Vec<(&'static str, Command)> {
    let stage = |name, targets: &[&str]| {
        let mut command = build::host_cargo();
        command
            .args(["test", "--workspace", "--no-fail-fast"])
            .args(targets)
            .env("XLB_AGENT", workspace::binary("xlb-agent", false))
            .arg("--")
            .args(filters);
        if std::env::var_os("RUST_TEST_THREADS").is_none() {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            command.env("RUST_TEST_THREADS", cores.min(MAX_TEST_THREADS).to_string());
        }
        (name, command)
    };
    vec![
        stage("Host tests", &["--lib", "--bins"]),
        stage("Examples in the documentation", &["--doc"]),
        stage("Data-path and end-to-end tests", &["--test", "*"]),
    ]
}

fn run_stage((name, mut command): (&'static str, Command)) -> Option<String> {
    // A signal during one stage ends the whole run.
    if process::signal_received().is_some() {
        return None;
    }
    say(name);
    process::run_group(&mut command)
        .with_context(|| name)
        .err()
        .map(|error| format!("{error:#}"))
}
