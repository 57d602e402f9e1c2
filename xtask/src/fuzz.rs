//! `cargo xtask fuzz`: the program against its reference model, and parsers against inputs that reach
//! ever more of them, after all that this needs.

use std::{fs, os::unix::process::CommandExt, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{build, process, setup, test, workspace};

/// What parses in user space: targets of `tests/fuzz`.
const PARSERS: [&str; 4] = ["config", "capture", "netlink", "api"];

/// Has the compiler count which edges of the program were taken, for libFuzzer, and tell it of
/// comparisons: LLVM's SanitizerCoverage.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                        -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

/// Longest input, in bytes: configurations of a dozen services fit.
const MAX_INPUT_BYTES: u32 = 4096;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fuzz what parses in user space, instead: configuration, captures, answers of netlink, and the
    /// control API.
    #[arg(long)]
    parsers: bool,
    /// With --parsers: inputs of each.
    #[arg(long, requires = "parsers", default_value_t = 100_000)]
    runs: u32,
    /// Arguments of the program that does it; --help lists them.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        conflicts_with = "parsers"
    )]
    arguments: Vec<String>,
}

/// Sets up, builds, and fuzzes.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.parsers {
        setup::ensure_parser_tools()?;
        build::ebpf()?;
        return parsers(options.runs);
    }
    test::ensure_root("fuzz")?;
    setup::ensure_tools()?;
    build::ebpf()?;
    process::say("Building the fuzzer");
    process::run(build::host_cargo().args(["build", "--package", "xlb-tests", "--bin", "fuzz"]))?;
    let fuzz = workspace::binary("fuzz", false);
    // It becomes the program: signals and the exit code are its own.
    let error = Command::new(&fuzz).args(&options.arguments).exec();
    Err(error).with_context(|| format!("start {}", fuzz.display()))
}

/// Fuzzes each parser with so many inputs. What is found that reaches something new is kept for the
/// next time.
///
/// # Errors
///
/// When an input breaks what is held to be true; it is kept, and how to run it again is said.
pub(crate) fn parsers(runs: u32) -> Result<()> {
    process::say("Building the fuzzers of parsers");
    let host = host_target()?;
    let place = workspace::target_dir().join("fuzz");
    // A target is named, so that what runs while building is built without these flags.
    process::run(
        build::host_cargo()
            .args(["build", "--manifest-path"])
            .arg(workspace::root().join("tests/fuzz/Cargo.toml"))
            .args(["--bins", "--target", &host, "--target-dir"])
            .arg(&place)
            .env("RUSTFLAGS", COVERAGE),
    )?;
    for parser in PARSERS {
        process::say(&format!("Fuzzing {parser} with {runs} inputs"));
        let program = place.join(&host).join("debug").join(parser);
        let found = place.join("corpus").join(parser);
        let broken = place.join("broken").join(parser);
        for directory in [&found, &broken] {
            fs::create_dir_all(directory)
                .with_context(|| format!("make {}", directory.display()))?;
        }
        let mut command = Command::new(&program);
        command
            .arg(&found)
            .arg(seeds(parser))
            .arg(format!("-runs={runs}"))
            .arg(format!("-max_len={MAX_INPUT_BYTES}"))
            .arg(format!("-artifact_prefix={}/", broken.display()))
            .args([
                "-timeout=20",
                "-rss_limit_mb=4096",
                "-verbosity=0",
                "-print_final_stats=1",
            ]);
        if process::run(&mut command).is_err() {
            bail!(
                "{parser} broke on an input that is in {}: run `{} FILE` to see it again, and add the \
                 file to {}",
                broken.display(),
                program.display(),
                seeds(parser).display()
            );
        }
    }
    Ok(())
}

fn seeds(parser: &str) -> PathBuf {
    workspace::root().join("tests/fuzz/seeds").join(parser)
}

/// The target that this machine's programs are built for.
fn host_target() -> Result<String> {
    let output = Command::new("rustc")
        .args(["--print", "host-tuple"])
        .output()
        .context("start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || text.is_empty() {
        bail!(
            "rustc does not say which target it builds for: {}",
            output.status
        );
    }
    Ok(text)
}
