//! What a configuration would change: bodies of `POST /v1/diff`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Ports, Protocol, Vip};

/// The body of `POST /v1/diff`. The agent opens no file that a client names: the text comes along.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffRequest {
    /// The configuration to compare with the one in force. `None`: the file that the agent was
    /// started with, as it is now.
    pub config: Option<ConfigText>,
}

/// The text of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    /// Name of the file, for complaints about it.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

/// The answer: what would change, with the changes of run time taken into account on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Name of the file.
    pub file: String,
    /// What would change for the host, a line each.
    pub host: Vec<String>,
    /// Every service of either side, by name.
    pub services: Vec<ServiceDiff>,
    /// Pools that no service is in front of on either side, those that would change.
    pub pools: Vec<PoolDiff>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

impl Diff {
    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.host.is_empty()
            && self.pools.is_empty()
            && self
                .services
                .iter()
                .all(|service| service.change == DiffKind::Unchanged)
    }
}

/// What would become of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiffKind {
    /// It stays as it is.
    #[default]
    Unchanged,
    /// It is new.
    Added,
    /// It changes.
    Changed,
    /// It goes.
    Removed,
}

/// A service, as it would be; one that goes as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDiff {
    /// Name.
    pub service: String,
    /// Virtual IP address, or a prefix of such.
    pub vip: Vip,
    /// Virtual port, or several.
    pub port: Ports,
    /// Transport protocol.
    pub protocol: Protocol,
    /// What would become of it.
    pub change: DiffKind,
    /// What would change, the service's own first, then its pool's, a line each.
    pub changes: Vec<String>,
    /// Its pool.
    pub pool: String,
    /// What would move on the pool's ring.
    pub slots: SlotsDiff,
    /// Flows that would be cut.
    pub flows_cut: FlowsCut,
}

/// A pool without a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolDiff {
    /// Name.
    pub pool: String,
    /// What would become of it.
    pub change: DiffKind,
    /// What would change, a line each.
    pub changes: Vec<String>,
    /// What would move on its ring.
    pub slots: SlotsDiff,
}

/// What would move on a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsDiff {
    /// Slots of the ring.
    pub ring: u32,
    /// Slots whose new connections would go to another backend than they do now.
    pub moving: u32,
    /// The ideal: as many slots have to move, whatever the ring, for each backend to get its share.
    pub ideal: u32,
}

/// Established flows that would be cut. Flows of slots at rest are recorded nowhere, so that their
/// number is not known: `slots` says how large their share is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsCut {
    /// The flows are datagrams of which nothing is recorded, and move with their slots.
    pub datagrams: bool,
    /// Why all flows of the service would move or end.
    pub all: Option<String>,
    /// Backends whose flows would be moved away from them.
    pub backends: Vec<SocketAddr>,
    /// Slots of the ring whose flows would be moved away, those that are not recorded.
    pub slots: u32,
    /// Recorded flows among those that would be cut.
    pub recorded: u64,
}

impl FlowsCut {
    /// Whether no flow would be cut.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}
