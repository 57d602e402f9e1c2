//! Everything that somebody types who builds xlb, tries it out or works on it: `cargo xtask COMMAND`.

mod apt;
mod bench;
mod build;
mod by_hand;
mod check;
mod churn;
mod demo;
mod fuzz;
mod kernels;
mod leftovers;
mod licences;
mod object_file;
mod process;
mod requirements;
mod setup;
mod structure;
mod test;
mod toolchain;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, checks, tests and shows xlb.
///
/// Start with the demonstration, which does all that it needs: sudo -E env "PATH=$PATH" cargo xtask demo
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Finds or installs all that the build and the tests need.
    ///
    /// On Debian and Ubuntu it installs what is missing with apt-get and cargo; on other systems, and
    /// for what apt does not have, it prints the commands to type. It starts no service. When nothing is missing it uses no network.
    ///
    /// Example: cargo xtask setup --check
    #[command(verbatim_doc_comment)]
    Setup(setup::Options),
    /// Builds the eBPF objects and the agent.
    ///
    /// The agent lands in target/debug/xlb-agent, or in target/release/xlb-agent with --release.
    ///
    /// Example: cargo xtask build --release
    #[command(verbatim_doc_comment)]
    Build(build::Options),
    /// Checks formatting, lints, documentation, the eBPF objects, licences and structure.
    ///
    /// All checks run, whatever the others find. Each failure is listed at the end with the command
    /// that shows it again.
    ///
    /// Example: cargo xtask check
    #[command(verbatim_doc_comment)]
    Check,
    /// Runs all tests: on the host, in the kernel, and end to end in network namespaces.
    ///
    /// It needs root. Afterwards it makes sure that no namespace, process, pin or program is left.
    ///
    /// Example: cargo xtask test drain
    #[command(verbatim_doc_comment)]
    Test(test::Options),
    /// Shows a virtual IP that outlives its backends, in a lab of network namespaces.
    ///
    /// It needs root. What follows the command's name is passed on to the demonstration.
    ///
    /// Example: cargo xtask demo --json
    #[command(verbatim_doc_comment)]
    Demo(demo::Options),
    /// Measures what xlb costs, and writes target/bench/report.html.
    ///
    /// It needs root, and a machine that does nothing else. What follows the command's name is passed
    /// on to the benchmark.
    ///
    /// Example: cargo xtask bench --quick
    #[command(verbatim_doc_comment)]
    Bench(bench::Options),
    /// Changes backends and nodes under thousands of connections, and counts those that break.
    ///
    /// It needs root. What follows the command's name is passed on.
    ///
    /// Example: cargo xtask churn --quick
    #[command(verbatim_doc_comment)]
    Churn(churn::Options),
    /// Holds the program against a model of it, on configurations and frames that chance makes.
    ///
    /// It needs root. What follows the command's name is passed on. With --parsers, what parses in user
    /// space is fuzzed instead, guided by what inputs reach; that needs no root.
    ///
    /// Example: cargo xtask fuzz --frames 1000000
    #[command(verbatim_doc_comment)]
    Fuzz(fuzz::Options),
    /// Boots Debian's kernels in an emulated machine, and loads, forwards and unpacks there.
    ///
    /// It prints a line a kernel. A kernel that could not be booted is a failure. Kernels are downloaded
    /// by apt-get into target/kernels, and not installed; it takes some minutes a kernel.
    ///
    /// Example: cargo xtask kernels 6.1.0
    #[command(verbatim_doc_comment)]
    Kernels(kernels::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Setup(options) => setup::run(&options),
        Command::Build(options) => build::run(&options),
        Command::Check => check::run(),
        Command::Test(options) => test::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Churn(options) => churn::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Kernels(options) => kernels::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            match process::signal_received() {
                // What a shell expects of a command that a signal ended.
                Some(signal) => ExitCode::from(128 + signal),
                None => ExitCode::FAILURE,
            }
        }
    }
}
