//! `replay`: what it takes.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::{
    Args,
    builder::{PathBufValueParser, TypedValueParser as _},
};

use super::args::OutputArg;
use crate::{
    options::DEFAULT_CONFIG,
    replay::{NextHops, SaidHop},
};

/// What `replay` takes.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The configuration file, of which all backends are taken to be well.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
    /// The capture, in the format pcap or pcapng; `-` reads stdin.
    #[arg(value_name = "CAPTURE")]
    pub(super) capture: PathBuf,
    /// The file that what leaves is written to, as pcapng: what is sent to the interface `sent`, what
    /// is left to the host to the interface `passed`, each with a comment.
    #[arg(
        short,
        long,
        value_name = "FILE",
        value_parser = PathBufValueParser::new().map(OutputArg::File)
    )]
    output: OutputArg,
    /// Print each line as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// The MAC address that frames go to: of all backends and clients, or, as in
    /// `10.0.1.7=02:00:0a:00:01:07`, of one. May be repeated.
    #[arg(long = "next-hop", value_name = "[ADDRESS=]MAC")]
    next_hops: Vec<SaidHop>,
    /// A file of MAC addresses as `ip neigh` prints them.
    #[arg(long = "next-hops", value_name = "FILE")]
    neighbours: Option<PathBuf>,
    /// The source of outer headers, where the configuration says none. May be repeated, for the other
    /// family.
    #[arg(long = "tunnel-source", value_name = "ADDRESS")]
    pub(super) tunnel_sources: Vec<IpAddr>,
}

impl ReplayArgs {
    /// The file that is written.
    ///
    /// # Errors
    ///
    /// When `-o` stood before `replay`, where it says how a result is printed.
    pub(super) fn file(&self) -> anyhow::Result<&Path> {
        match &self.output {
            OutputArg::File(file) => Ok(file),
            OutputArg::Format(_) => {
                anyhow::bail!(
                    "`-o` stands before `replay`; type `xlb-agent replay ... -o out.pcapng`"
                )
            }
        }
    }

    /// The next hops that are said.
    pub(super) fn next_hops(&self) -> anyhow::Result<NextHops> {
        let from_file = match &self.neighbours {
            Some(path) => NextHops::load(path)?,
            None => NextHops::default(),
        };
        Ok(NextHops::new(&self.next_hops, from_file))
    }
}
