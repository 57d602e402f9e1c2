//! What becomes of a packet: bodies of `POST /v1/explain`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Affinity, Forward, Policy, Protocol};

/// The body of `POST /v1/explain`: a packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// Address and port that it is from.
    pub source: SocketAddr,
    /// Address and port that it is for.
    pub destination: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// Whether it opens a connection of TCP.
    pub syn: bool,
    /// Sequence number. `None`: of a SYN another than any that is recorded, of another segment one
    /// that continues the handshake that is recorded.
    pub sequence: Option<u32>,
    /// Whether it is the first fragment of a datagram, whose others go the same way.
    #[serde(default)]
    pub fragment: bool,
}

/// The answer: what the data path would do with the packet, and what it would look at for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet.
    pub packet: ExplainRequest,
    /// The service that it is for, or whose reply it is.
    pub service: Option<ExplainedService>,
    /// The slot that its flow falls into.
    pub slot: Option<ExplainedSlot>,
    /// The flow's record among pending handshakes.
    pub pending: Option<ExplainedRecord>,
    /// The flow's record among established flows.
    pub flow: Option<ExplainedRecord>,
    /// Backends that slot and records name, by number.
    pub backends: Vec<ExplainedBackend>,
    /// What becomes of the packet.
    pub verdict: ExplainedVerdict,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// A service, as it stands in the maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedService {
    /// Number in the maps.
    pub number: u32,
    /// Name, where a configuration tells it.
    pub name: Option<String>,
    /// How packets reach the backends; `None`: as no agent of this version says.
    pub forward: Option<Forward>,
    /// Name of its pool.
    pub pool: String,
    /// How the backend of a new connection is picked.
    pub policy: Policy,
    /// What connections have in common that go to one backend.
    pub affinity: Option<Affinity>,
    /// Whether every flow is recorded, in a slot that moves or not.
    pub tracked: bool,
    /// Whether slots of its pool move, so that the slots' words are read instead of the ring.
    pub moving: bool,
    /// Whether none of its backends is well, and packets are dropped.
    pub refuses: bool,
}

/// A slot of a pool's ring. Backends are named by number; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedSlot {
    /// Its place in the ring.
    pub slot: u32,
    /// Slots of the ring.
    pub ring_slots: u32,
    /// Hash of the flow.
    pub hash: u32,
    /// What the ring says, which decides while the pool is at rest.
    pub ring: u16,
    /// Where flows without a record belong.
    pub stable: u16,
    /// Where new flows go.
    pub target: u16,
    /// Whether the slot moves, so that flows are looked up.
    pub marked: bool,
    /// Whether the agent is about to make `target` the stable backend.
    pub settling: bool,
    /// Seconds since a flow without a record last used `stable`, in a slot that moves.
    pub last_miss_age_s: Option<u32>,
}

/// A flow's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRecord {
    /// Number of the backend.
    pub backend: u16,
    /// The client's initial sequence number.
    pub initial_sequence: u32,
    /// Seconds since it was last touched.
    pub age_s: u32,
    /// A pending one is established, and found no room among the others.
    pub confirmed: bool,
    /// The agent is about to delete it.
    pub tombstone: bool,
    /// A pending one is too old to count.
    pub expired: bool,
}

/// A backend that slot or records name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedBackend {
    /// Number.
    pub number: u16,
    /// Address and port; `None`: no map has room for the number.
    pub endpoint: Option<SocketAddr>,
    /// What names it: `ring`, `stable`, `target`, `policy`, `PENDING`, `FLOWS`; or `reply`.
    pub named_by: Vec<String>,
    /// Whether a backend stands under the number.
    pub used: bool,
    /// Gets no new connections.
    pub drain: bool,
    /// Failed its checks, or can't be reached.
    pub down: bool,
    /// Its connections are moved away.
    pub dead: bool,
    /// MAC address of the next hop, and the interface that leads there.
    pub next_hop: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedVerdict {
    /// What is done with it.
    pub action: ExplainedAction,
    /// Backend that it is sent to.
    pub backend: Option<SocketAddr>,
    /// Name of the reason that is counted, where the packet is not sent to a backend.
    pub reason: Option<String>,
    /// Why.
    pub why: String,
}

/// What is done with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExplainedAction {
    /// It is sent to a backend.
    Forward,
    /// It is a backend's reply, and sent to the client as from the virtual address.
    Reply,
    /// It goes on into the host's network stack.
    Pass,
    /// It is dropped.
    Drop,
}
