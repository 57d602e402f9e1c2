//! `cargo xtask kernels`: xlb on kernels that others have, each booted in an emulated machine.

mod boot;
mod image;
mod modules;
mod packages;
mod report;

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, bail};

use crate::{
    build,
    process::{self, say},
    setup, workspace,
};
use packages::Kernel;
use report::Report;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Boots only the kernels whose release contains one of these words.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
}

/// Downloads, builds, boots one kernel after the other, and prints a line for each.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure_kernel_tools()?;
    build::ebpf()?;
    say("Building what runs in the emulated machine");
    process::run(build::host_cargo().args(["build", "--package", "xlb-agent"]))?;
    let binaries = ["--bin", "guest", "--bin", "demo"];
    process::run(
        build::host_cargo()
            .args(["build", "--package", "xlb-tests"])
            .args(binaries),
    )?;
    let directory = workspace::target_dir().join("kernels");
    let mut kernels = packages::find()?;
    kernels.retain(|kernel| {
        options.filters.is_empty()
            || options
                .filters
                .iter()
                .any(|word| kernel.package.contains(word))
    });
    if kernels.is_empty() {
        bail!("no kernel is named like {}", options.filters.join(" or "));
    }
    let mut failed = 0;
    for kernel in &kernels {
        let report = one(kernel, &directory);
        println!("{report}");
        if !report.passed() {
            failed += 1;
        }
        if process::signal_received().is_some() {
            bail!("stopped by a signal");
        }
    }
    if failed > 0 {
        bail!("{failed} of {} kernels failed", kernels.len());
    }
    Ok(())
}

/// One kernel, whatever becomes of it.
fn one(kernel: &Kernel, directory: &Path) -> Report {
    let start = Instant::now();
    let directory = directory.join(&kernel.package);
    let outcome = prepare_and_boot(kernel, &directory);
    Report::new(kernel, outcome, start.elapsed())
}

fn prepare_and_boot(kernel: &Kernel, directory: &Path) -> Result<Vec<report::Finding>> {
    let unpacked = packages::unpack(kernel, directory)?;
    let image = image::build(&unpacked, directory)
        .with_context(|| format!("make the first file system for {}", kernel.package))?;
    say(&format!("Booting {}", unpacked.release));
    boot::boot(&unpacked, &image, directory)
}
