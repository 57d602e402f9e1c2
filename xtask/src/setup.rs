//! `cargo xtask setup`: finds or installs what the build and the tests need.

use std::{process::Command, time::Instant};

use anyhow::{Result, bail};

use crate::{
    apt::Apt,
    by_hand,
    process::{self, say},
    requirements::{
        COMPILER_PACKAGES, LINKER_LLVM, LINKER_PACKAGES, LINKER_VERSION, Tool, missing_bench_tools,
        missing_kernel_tools, missing_parser_tools, missing_tools,
    },
    toolchain::{self, Missing, Toolchain},
    workspace,
};

const TESTS_NEED: &str = "The demonstration and the tests need";

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
    if Apt::find().is_none() {
        refuse_what_is_missing()?;
    }
    // The one group is of use without the other, so both are tried before either is complained of.
    let toolchain = match (ensure_toolchain(), ensure_tools()) {
        (toolchain, Ok(())) => toolchain?,
        (Ok(_), Err(tools)) => return Err(tools),
        (Err(toolchain), Err(tools)) => bail!("{toolchain:#}\n\n{tools:#}"),
    };
    say(&format!(
        "Ready: eBPF is built by {}, linked by {} ({:.1} s)",
        toolchain.compiler.name,
        toolchain.linker.display(),
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Names all that is missing together, where nothing can be installed.
fn refuse_what_is_missing() -> Result<()> {
    let missing = toolchain::choose(&toolchain::probe()).err();
    let tools = missing_tools();
    if let Some(missing) = missing {
        say(&format!("The build needs {missing}"));
    }
    if !tools.is_empty() {
        say(&format!("{TESTS_NEED} {}", commands(&tools)));
    }
    if missing.is_some() || !tools.is_empty() {
        bail!("{}", by_hand::commands(missing, &tools));
    }
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
        bail!("{}", by_hand::commands(Some(missing), &[]));
    };
    if missing == Missing::Compiler {
        let packages = [COMPILER_PACKAGES, LINKER_PACKAGES].concat();
        install_known(&apt, &packages, missing)?;
    }
    match toolchain::choose(&toolchain::probe()) {
        Ok(found) => Ok(found),
        Err(Missing::Linker { compiler_llvm }) => ensure_linker(&apt, compiler_llvm),
        Err(missing @ Missing::Compiler) => bail!("{}", by_hand::commands(Some(missing), &[])),
    }
}

/// Makes sure that all is there that the demonstration and the tests call.
pub(crate) fn ensure_tools() -> Result<()> {
    ensure(TESTS_NEED, missing_tools)
}

/// Makes sure that all is there that the benchmark calls besides.
pub(crate) fn ensure_bench_tools() -> Result<()> {
    ensure("The benchmark needs", missing_bench_tools)
}

/// Makes sure that all is there that boots kernels.
pub(crate) fn ensure_kernel_tools() -> Result<()> {
    ensure("To boot kernels takes", missing_kernel_tools)
}

/// Makes sure that all is there that builds the fuzzers of parsers.
pub(crate) fn ensure_parser_tools() -> Result<()> {
    ensure("To fuzz parsers takes", missing_parser_tools)
}

fn ensure(who_needs: &str, missing: impl Fn() -> Vec<Tool>) -> Result<()> {
    let before = missing();
    if before.is_empty() {
        return Ok(());
    }
    say(&format!("{who_needs} {}", commands(&before)));
    let Some(apt) = Apt::find() else {
        bail!("{}", by_hand::commands(None, &before));
    };
    apt.update()?;
    let packages: Vec<&str> = before.iter().map(|tool| apt.named(tool.package)).collect();
    apt.install(&packages)?;
    let after = missing();
    if !after.is_empty() {
        bail!("{}", by_hand::commands(None, &after));
    }
    Ok(())
}

fn ensure_linker(apt: &Apt, compiler_llvm: u32) -> Result<Toolchain> {
    let missing = Missing::Linker { compiler_llvm };
    if compiler_llvm > LINKER_LLVM {
        bail!("{}", by_hand::commands(Some(missing), &[]));
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
        .or_else(|missing| bail!("{}", by_hand::commands(Some(missing), &[])))
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
        bail!("{}", by_hand::commands(Some(missing), &[]));
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
