//! `cargo xtask setup`: finds or installs what the build and the tests need.

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    apt::Apt,
    process::{self, say},
    requirements::{
        COMPILER_PACKAGES, LINKER_LLVM, LINKER_PACKAGES, LINKER_VERSION, Tool, missing_bench_tools,
        missing_tools,
    },
    toolchain::{self, Missing, Toolchain},
    workspace,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Reports what is there and what is missing, and changes nothing.
    #[arg(long)]
    check: bool,
}

/// Reports or installs everything.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.check {
        return report();
    }
    let started = Instant::now();
    let toolchain = ensure_toolchain();
    // The one group is of use without the other, so both are tried before either is complained of.
    let tools = ensure_tools();
    let toolchain = toolchain?;
    tools?;
    say(&format!(
        "Ready: eBPF is built by {}, linked by {} ({:.1} s)",
        toolchain.compiler.name,
        toolchain.linker.display(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Returns what builds the eBPF object, after installing it if need be.
pub(crate) fn ensure_toolchain() -> Result<Toolchain> {
    let missing = match toolchain::choose(&toolchain::probe()) {
        Ok(found) => return Ok(found),
        Err(missing) => missing,
    };
    say(&format!("The build needs {missing}"));
    let Some(apt) = Apt::find() else {
        bail!("{}", by_hand(Some(missing), &[]));
    };
    if missing == Missing::Compiler {
        let packages = [COMPILER_PACKAGES, LINKER_PACKAGES].concat();
        install_known(&apt, &packages, missing)?;
    }
    match toolchain::choose(&toolchain::probe()) {
        Ok(found) => Ok(found),
        Err(Missing::Linker { compiler_llvm }) => ensure_linker(&apt, compiler_llvm),
        Err(missing @ Missing::Compiler) => bail!("{}", by_hand(Some(missing), &[])),
    }
}

/// Makes sure that all is there that the demonstration and the tests call.
pub(crate) fn ensure_tools() -> Result<()> {
    ensure("The demonstration and the tests need", missing_tools)
}

/// Makes sure that all is there that the benchmark calls besides.
pub(crate) fn ensure_bench_tools() -> Result<()> {
    ensure("The benchmark needs", missing_bench_tools)
}

fn ensure(who_needs: &str, missing: impl Fn() -> Vec<Tool>) -> Result<()> {
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    say(&format!("{who_needs} {}", commands(&before)));
    let Some(apt) = Apt::find() else {
        bail!("{}", by_hand(None, &before));
    };
    let packages: Vec<&str> = before.iter().map(|tool| tool.package).collect();
    apt.update()?;
    apt.install(&packages)?;
    let after = missing();
    if !after.is_empty() {
        bail!("{}", by_hand(None, &after));
    }
    Ok(())
}

fn ensure_linker(apt: &Apt, compiler_llvm: u32) -> Result<Toolchain> {
    let missing = Missing::Linker { compiler_llvm };
    if compiler_llvm > LINKER_LLVM {
        bail!("{}", by_hand(Some(missing), &[]));
    }
    let llvm_config = format!("/usr/lib/llvm-{LINKER_LLVM}/bin/llvm-config");
    if !std::path::Path::new(&llvm_config).exists() || workspace::find_command("cc").is_none() {
        install_known(apt, &LINKER_PACKAGES, missing)?;
    }
    say(&format!(
        "Building bpf-linker {LINKER_VERSION}, which takes a minute or two"
    ));
    process::run(&mut install_linker())?;
    toolchain::choose(&toolchain::probe())
        .or_else(|missing| bail!("{}", by_hand(Some(missing), &[])))
}

fn install_linker() -> Command {
    let mut command = Command::new(workspace::cargo());
    // Outside of the checkout none of its cargo settings apply.
    command
        .current_dir("/")
        .env_remove("RUSTFLAGS")
        .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LINKER_LLVM}"));
    command.args(["install", "bpf-linker", "--locked", "--force"]);
    command.args(["--version", LINKER_VERSION, "--no-default-features"]);
    command.args(["--features", &format!("llvm-{LINKER_LLVM}")]);
    command
}

fn install_known(apt: &Apt, packages: &[&str], missing: Missing) -> Result<()> {
    apt.update()?;
    let unknown = apt.unknown(packages);
    if !unknown.is_empty() {
        say(&format!("apt does not know {}", unknown.join(" ")));
        bail!("{}", by_hand(Some(missing), &[]));
    }
    apt.install(packages)
}

fn report() -> Result<()> {
    let facts = toolchain::probe();
    let toolchain = toolchain::choose(&facts);
    let tools = missing_tools();
    eprintln!("The build:");
    for compiler in &facts.compilers {
        let sources = if compiler.has_sources {
            "with"
        } else {
            "without"
        };
        eprintln!(
            "  found    {} (1.{}, LLVM {}, {sources} the sources of its standard library)",
            compiler.name, compiler.minor, compiler.llvm
        );
    }
    if let Some(linker) = &facts.linker {
        let llvm = linker
            .llvm
            .map_or_else(|| "linked in".to_owned(), |llvm| llvm.to_string());
        eprintln!("  found    {} (LLVM {llvm})", linker.path.display());
    }
    match &toolchain {
        Ok(chosen) => eprintln!("  ready    {} builds the eBPF object", chosen.compiler.name),
        Err(missing) => eprintln!("  missing  {missing}"),
    }
    eprintln!("The demonstration and the tests:");
    if tools.is_empty() {
        eprintln!("  ready    all the tools they call are there");
    } else {
        eprintln!("  missing  {}", commands(&tools));
    }
    if toolchain.is_err() || !tools.is_empty() {
        bail!("something is missing; `cargo xtask setup` installs it, or says how to");
    }
    Ok(())
}

fn commands(tools: &[Tool]) -> String {
    let names: Vec<&str> = tools.iter().map(|tool| tool.command).collect();
    names.join(", ")
}

/// What to type on a system that setup does not know, or where it may install nothing.
fn by_hand(missing: Option<Missing>, tools: &[Tool]) -> String {
    let mut lines =
        vec!["setup can't install what is missing here. Type this yourself:".to_owned()];
    if missing == Some(Missing::Compiler) {
        lines.push("    rustup toolchain install nightly --component rust-src".to_owned());
    }
    if missing.is_some() {
        lines.push("    cargo install bpf-linker".to_owned());
    }
    if !tools.is_empty() {
        let packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
        lines.push(
            "and, with your system's package manager, install (by their names in Debian):".into(),
        );
        lines.push(format!("    {}", packages.join(" ")));
    }
    lines.push("Then run `cargo xtask setup` again.".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirements::TOOLS;

    #[test]
    fn by_hand_asks_only_for_what_is_missing() {
        let text = by_hand(Some(Missing::Linker { compiler_llvm: 23 }), &[]);
        assert!(text.contains("cargo install bpf-linker"));
        assert!(!text.contains("rustup toolchain"));

        let text = by_hand(Some(Missing::Compiler), &[]);
        assert!(text.contains("rustup toolchain install nightly --component rust-src"));

        let text = by_hand(None, &TOOLS[..2]);
        assert!(text.contains("    iproute2 ethtool"));
        assert!(!text.contains("cargo install"));
    }
}
