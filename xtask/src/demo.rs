//! `cargo xtask demo`: the demonstration, after all that it needs.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};

use crate::{build, process, setup, test, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the demonstration; --help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Sets up, builds, and becomes the demonstration: signals and the exit code are its own.
pub(crate) fn run(options: &Options) -> Result<()> {
    test::ensure_root("demo")?;
    setup::ensure_tools()?;
    build::ebpf()?;
    process::say("Building the agent and the demonstration");
    process::run(build::host_cargo().args(["build", "--package", "xlb-agent"]))?;
    process::run(build::host_cargo().args(["build", "--package", "xlb-tests", "--bin", "demo"]))?;
    let demo = workspace::binary("demo", false);
    let error = Command::new(&demo)
        .arg("--agent")
        .arg(workspace::binary("xlb-agent", false))
        .args(&options.arguments)
        .exec();
    Err(error).with_context(|| format!("start {}", demo.display()))
}
