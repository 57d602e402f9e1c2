//! `cargo xtask build`: the eBPF objects, then the agent that carries them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    object_file,
    process::{self, say},
    setup, workspace,
};

/// Flags of the eBPF build: BTF for the kernel, and the instruction set that Linux has had since 5.1.
/// Packet headers are read at any alignment, which every kernel that runs XDP at speed allows.
const EBPF_FLAGS: &str = "-C debuginfo=2 -C target-cpu=v3 -C link-arg=--btf \
                          -C link-arg=--cpu-features=+allows-misaligned-mem-access";

/// The target that the object is built for. All machines that xlb runs on are little-endian.
const EBPF_TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Builds the agent optimized. The eBPF objects always are.
    #[arg(long)]
    release: bool,
}

/// The objects: the balancer's program, the one that decapsulates on backends, and the benchmark's.
const OBJECTS: [&str; 3] = ["xlb-ebpf", "xlb-decap", "bench"];

/// Builds the eBPF objects and the agent.
pub(crate) fn run(options: &Options) -> Result<()> {
    ebpf()?;
    say("Building the agent");
    let mut command = host_cargo();
    command.args(["build", "--package", "xlb-agent"]);
    if options.release {
        command.arg("--release");
    }
    process::run(&mut command)?;
    say(&format!(
        "Built {}",
        workspace::binary("xlb-agent", options.release).display()
    ));
    Ok(())
}

/// Builds the eBPF objects, and sets up their toolchain if need be.
pub(crate) fn ebpf() -> Result<()> {
    let toolchain = setup::ensure_toolchain()?;
    say(&format!(
        "Building the eBPF objects with {}",
        toolchain.compiler.name
    ));
    let mut command = toolchain.cargo()?;
    command
        .args(["build", "--release", "--target", EBPF_TARGET])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(workspace::ebpf_target_dir())
        .env("RUSTFLAGS", EBPF_FLAGS);
    process::run(&mut command)?;
    OBJECTS
        .iter()
        .try_for_each(|name| reject_panics(&object_path(name)))
}

/// Where an eBPF object is, or will be; the agent's build script looks there.
fn object_path(name: &str) -> PathBuf {
    workspace::ebpf_target_dir()
        .join(EBPF_TARGET)
        .join("release")
        .join(name)
}

/// Where the objects are that the agent carries.
pub(crate) fn balancer_objects() -> [PathBuf; 2] {
    [object_path(OBJECTS[0]), object_path(OBJECTS[1])]
}

/// Where the object of the benchmark's programs is.
pub(crate) fn benchmark_object() -> PathBuf {
    object_path(OBJECTS[2])
}

/// A cargo that builds the host's crates in the checkout, with the objects of this build.
pub(crate) fn host_cargo() -> Command {
    let mut command = Command::new(workspace::cargo());
    command
        .current_dir(workspace::root())
        .env("XLB_EBPF_OBJECT", object_path(OBJECTS[0]));
    command
}

fn reject_panics(object: &Path) -> Result<()> {
    let bytes = fs::read(object).with_context(|| format!("read {}", object.display()))?;
    let symbols = object_file::panic_symbols(&bytes)?;
    if !symbols.is_empty() {
        bail!(
            "the eBPF object {} can panic: {} (an index, a slice or an arithmetic operation that the \
             compiler can't prove to stay within bounds)",
            object.display(),
            symbols.join(", ")
        );
    }
    Ok(())
}
