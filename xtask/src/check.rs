//! `cargo xtask check`: everything that can be told without running xlb.

use std::{process::Command, time::Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::{
    build, licences,
    process::{self, say, shown},
    setup, structure, workspace,
};

/// One check: what it is called, how to see its failure again, and the check itself.
struct Step {
    name: &'static str,
    reproduce: String,
    run: Box<dyn FnMut() -> Result<()>>,
}

/// Runs all checks and then reports all that failed.
pub(crate) fn run() -> Result<()> {
    let mut failures = Vec::new();
    for mut step in steps() {
        say(step.name);
        let started = Instant::now();
        let outcome = (step.run)();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => eprintln!("    ok ({seconds:.1} s)"),
            Err(error) => {
                eprintln!("    FAILED ({seconds:.1} s): {error:#}");
                failures.push(format!("  {}: {}", step.name, step.reproduce));
            }
        }
    }
    if !failures.is_empty() {
        bail!(
            "{} check(s) failed; to see each again:\n{}",
            failures.len(),
            failures.join("\n")
        );
    }
    say("All checks passed");
    Ok(())
}

fn steps() -> Vec<Step> {
    vec![
        command_step("Formatting", {
            let mut command = build::host_cargo();
            command.args(["fmt", "--all", "--check"]);
            command
        }),
        command_step("Formatting of the eBPF crate", {
            let mut command = ebpf_on_host();
            command.args(["fmt", "--check"]);
            command
        }),
        command_step("Formatting of the fuzzers", {
            let mut command = fuzzers("fmt");
            command.arg("--check");
            command
        }),
        // The crates of the host include the objects, so these come before their lints.
        Step {
            name: "The eBPF objects, and that they can't panic",
            reproduce: "cargo xtask build".to_owned(),
            run: Box::new(build::ebpf),
        },
        command_step("Lints", {
            let mut command = build::host_cargo();
            command.args([
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]);
            command
        }),
        command_step("Lints of the eBPF crate", ebpf_lints()),
        Step {
            name: "A compiler for the fuzzers",
            reproduce: "cargo xtask fuzz --parsers".to_owned(),
            run: Box::new(setup::ensure_parser_tools),
        },
        command_step("Lints of the fuzzers", {
            let mut command = fuzzers("clippy");
            command
                .arg("--target-dir")
                .arg(workspace::target_dir())
                .args(["--", "-D", "warnings"]);
            command
        }),
        command_step("Documentation", {
            let mut command = build::host_cargo();
            command.args([
                "doc",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ]);
            command.env("RUSTDOCFLAGS", "-D warnings");
            command
        }),
        command_step("Documentation of the eBPF crate", ebpf_documentation()),
        Step {
            name: "Licences of the dependencies",
            reproduce: "cargo xtask check".to_owned(),
            run: Box::new(check_licences),
        },
        Step {
            name: "Structure of the repository",
            reproduce: "cargo xtask check".to_owned(),
            run: Box::new(check_structure),
        },
    ]
}

/// A command of cargo on the crate of the fuzzers, which is apart from the workspace.
fn fuzzers(command: &str) -> Command {
    let mut cargo = build::host_cargo();
    cargo
        .args([command, "--manifest-path"])
        .arg(workspace::root().join("tests/fuzz/Cargo.toml"));
    cargo
}

fn command_step(name: &'static str, mut command: Command) -> Step {
    // A step's own variables are part of how to see its failure again; the object's path is not,
    // since the agent's build script finds it by itself.
    let variables: String = command
        .get_envs()
        .filter(|(name, _)| *name == "RUSTFLAGS" || *name == "RUSTDOCFLAGS")
        .filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)))
        .map(|(name, value)| format!("{name}='{value}' "))
        .collect();
    let dir = if command.get_current_dir() == Some(&workspace::ebpf_crate()) {
        "cd xlb-ebpf && "
    } else {
        ""
    };
    let typed = shown(&command).replacen(&workspace::cargo().display().to_string(), "cargo", 1);
    Step {
        name,
        reproduce: format!("{dir}{variables}{typed}"),
        run: Box::new(move || process::run(&mut command)),
    }
}

/// The cargo of the host in the crate of the eBPF programs.
fn ebpf_on_host() -> Command {
    let mut command = Command::new(workspace::cargo());
    command.current_dir(workspace::ebpf_crate());
    command
}

fn ebpf_lints() -> Command {
    let mut command = ebpf_as_if_for_host("clippy");
    command.args(["--", "-D", "warnings"]);
    command
}

fn ebpf_documentation() -> Command {
    let mut command = ebpf_as_if_for_host("doc");
    command
        .args(["--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// The Rust of a distribution has neither clippy nor rustdoc, and those of another Rust can't build
/// its `core`. So the crate is checked as if it were for the host, which has a `core` and unwinds no
/// panic.
fn ebpf_as_if_for_host(subcommand: &str) -> Command {
    let mut command = ebpf_on_host();
    command
        .args([subcommand, "--target-dir"])
        .arg(workspace::target_dir().join("ebpf-lints"))
        .env("RUSTFLAGS", "-C panic=abort")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command
}

fn metadata(dir: &std::path::Path) -> Result<Metadata> {
    MetadataCommand::new()
        .cargo_path(workspace::cargo())
        .manifest_path(dir.join("Cargo.toml"))
        .exec()
        .with_context(|| format!("read the dependencies of {}", dir.display()))
}

fn check_licences() -> Result<()> {
    let mut refused = licences::refused(&metadata(&workspace::root())?);
    refused.extend(licences::refused(&metadata(&workspace::ebpf_crate())?));
    if !refused.is_empty() {
        bail!("\n    {}", refused.join("\n    "));
    }
    Ok(())
}

fn check_structure() -> Result<()> {
    let mut found = structure::forbidden_dependencies(&metadata(&workspace::root())?)?;
    found.extend(
        structure::stray_entries()?
            .into_iter()
            .map(|entry| format!("{entry} does not belong at the top of the repository")),
    );
    if !found.is_empty() {
        bail!("\n    {}", found.join("\n    "));
    }
    Ok(())
}
