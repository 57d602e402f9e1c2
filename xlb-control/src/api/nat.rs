//! What the control API says of `full-nat`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::config::Protocol;

/// Connections under `full-nat`, and how many ports these take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatStatus {
    /// Ports of each source address and protocol.
    pub sources: Vec<NatSourceStatus>,
    /// The connections that were asked for, of which there may be more.
    pub connections: Vec<NatConnection>,
    /// How many more there are.
    pub left_out: u64,
}

/// Ports of a source address under one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSourceStatus {
    /// The address.
    pub source: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Ports that new connections may get; none of an address that is no longer configured.
    pub ports: u32,
    /// Ports that are taken.
    pub in_use: u32,
    /// The same by state.
    pub by_state: BTreeMap<String, u32>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatConnection {
    /// Name of the service; none if it is gone.
    pub service: Option<String>,
    /// The protocol.
    pub protocol: Protocol,
    /// State, as in the documentation of `full-nat`.
    pub state: String,
    /// Seconds until its port is free, if no packet comes.
    pub expires_in_s: u32,
    /// The client.
    pub client: SocketAddr,
    /// What the client connected to.
    pub vip: SocketAddr,
    /// Where the backend sees it come from.
    pub source: SocketAddr,
    /// The backend.
    pub backend: Option<SocketAddr>,
}
