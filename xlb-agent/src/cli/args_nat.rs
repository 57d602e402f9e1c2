//! `nat`: what its verbs take.

use clap::{Args, Subcommand};
use clap_complete::ArgValueCandidates;

use super::candidates;

/// Verbs of `nat`.
#[derive(Debug, Subcommand)]
pub(super) enum NatCommand {
    /// List connections with their source ports, states and when they expire.
    #[command(after_help = "Example:\n  xlb-agent nat list web --limit 20")]
    List(NatListArgs),
    /// List source addresses with how many of their ports are taken.
    #[command(after_help = "Example:\n  xlb-agent nat sources -o wide")]
    Sources,
}

/// What `nat list` takes.
#[derive(Debug, Args)]
pub(super) struct NatListArgs {
    /// The service whose connections are listed; those of all without it.
    #[arg(add = ArgValueCandidates::new(candidates::services))]
    pub(super) service: Option<String>,
    /// Connections that are listed at most.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) limit: u32,
}
