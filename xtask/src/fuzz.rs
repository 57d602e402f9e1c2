//! `cargo xtask fuzz`: the program against its reference model, after all that this needs.

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};

use crate::{build, process, setup, test, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the program that does it; --help lists them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Sets up, builds, and becomes the program: signals and the exit code are its own.
pub(crate) fn run(options: &Options) -> Result<()> {
    test::ensure_root("fuzz")?;
    setup::ensure_tools()?;
    build::ebpf()?;
    process::say("Building the fuzzer");
    process::run(build::host_cargo().args(["build", "--package", "xlb-tests", "--bin", "fuzz"]))?;
    let fuzz = workspace::binary("fuzz", false);
    let error = Command::new(&fuzz).args(&options.arguments).exec();
    Err(error).with_context(|| format!("start {}", fuzz.display()))
}
