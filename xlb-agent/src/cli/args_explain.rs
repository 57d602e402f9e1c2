//! `explain`: what it takes.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use xlb_control::{api::ExplainRequest, config::Protocol};

use super::values;
use crate::options::DEFAULT_CONFIG;

/// What `explain` takes.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// Address and port that the packet is from, as in `203.0.113.9:51812`.
    #[arg(long, value_name = "ADDR:PORT", value_parser = values::endpoint)]
    src: SocketAddr,
    /// Address, port and protocol that it is for, as in `192.0.2.10:443/tcp`.
    #[arg(long, value_name = "ADDR:PORT/PROTOCOL", value_parser = values::destination)]
    dst: (SocketAddr, Protocol),
    /// It opens a connection of TCP, or an association of SCTP; without this it belongs to an established one.
    #[arg(long)]
    syn: bool,
    /// Its sequence number.
    ///
    /// Without it, a SYN is taken to open another connection than the one that is recorded, and
    /// another packet to continue the handshake that is recorded.
    #[arg(long, value_name = "NUMBER")]
    seq: Option<u32>,
    /// It is the first fragment of a datagram, whose others go the same way.
    #[arg(long)]
    fragment: bool,
    /// The configuration file, from which the hash key and names are taken if no agent answers.
    #[arg(short, long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    pub(super) config: PathBuf,
}

impl ExplainArgs {
    /// The packet, or why there can be none like it.
    pub(super) fn packet(&self) -> Result<ExplainRequest, String> {
        let (destination, protocol) = self.dst;
        if protocol == Protocol::Udp && (self.syn || self.seq.is_some()) {
            return Err("--syn and --seq are of TCP, and the destination is of UDP".to_owned());
        }
        if protocol == Protocol::Sctp && self.seq.is_some() {
            return Err("--seq is of TCP, and the destination is of SCTP".to_owned());
        }
        Ok(ExplainRequest {
            source: self.src,
            destination,
            protocol,
            syn: self.syn,
            sequence: self.seq,
            fragment: self.fragment,
        })
    }
}
