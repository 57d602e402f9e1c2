//! `config`: what its verbs take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::import::Source;

/// Verbs of `config`.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Translate the configuration of IPVS or keepalived.
    ///
    /// The configuration goes to stdout. What has no equivalent is named on stderr with its line.
    /// The exit code is 1 if xlb would refuse the result, which is printed all the same.
    #[command(after_help = "\
Example:
  ipvsadm -S -n | xlb-agent config import --from ipvsadm - > xlb.toml
  xlb-agent config import --from keepalived /etc/keepalived/keepalived.conf > xlb.toml")]
    Import(ImportArgs),
}

/// What `config import` takes.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// What the file is.
    #[arg(long, value_name = "SOURCE")]
    pub(super) from: Source,
    /// The interface that packets come in by; without it the one that the file names, or eth0.
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// The file to read; `-` reads stdin.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
}
