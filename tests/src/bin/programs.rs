//! What the verifier makes of each program: a line a program and set of features.

use std::process::ExitCode;

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use clap::Parser;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use xlb_tests::programs::{
    load::{self, BALANCER, DECAPSULATOR},
    measure, sets,
};

/// The user that it becomes: `nobody`.
const NOBODY: u32 = 65_534;

/// Loads every program with every set of features, and prints a line each: program, features,
/// instructions verified, bytes translated.
#[derive(Parser)]
struct Arguments {
    /// As a user other than root, with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN alone, which is what the
    /// agent needs.
    #[arg(long)]
    as_agent: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let (balancer, decapsulator) = (load::object(BALANCER)?, load::object(DECAPSULATOR)?);
    if arguments.as_agent {
        become_agent().context("keep the agent's capabilities alone")?;
    }
    println!("{}", measure::decapsulator(&decapsulator)?);
    for features in sets() {
        for measure in measure::balancer(&balancer, features)? {
            println!("{measure}");
        }
    }
    Ok(())
}

/// Gives up all that the agent does not need.
fn become_agent() -> Result<()> {
    let kept: CapsHashSet = [
        Capability::CAP_BPF,
        Capability::CAP_PERFMON,
        Capability::CAP_NET_ADMIN,
    ]
    .into();
    for capability in caps::all() {
        if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    nix::sys::prctl::set_keepcaps(true)?;
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    Ok(())
}
