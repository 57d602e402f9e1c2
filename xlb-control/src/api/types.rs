//! The bodies of the control API's requests and answers.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::config::{Affinity, AllDown, Forward, OnRemove, Policy, Ports, Protocol, Udp, Vip};

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Path of the configuration file.
    pub config: String,
    /// Counts applied configurations, from 1.
    pub config_revision: u64,
    /// SHA-256 of the file that is in force, as `sha256sum` prints it.
    #[serde(default)]
    pub config_sha256: String,
    /// The last reload, if there was one.
    #[serde(default)]
    pub last_reload: Option<LastReload>,
    /// Why the last reload was refused, if it was.
    pub last_reload_error: Option<String>,
    /// The worst of what holds for the services.
    pub health: ServiceHealth,
    /// Services by what holds for them.
    #[serde(default)]
    pub services_by_health: BTreeMap<ServiceHealth, u32>,
    /// Backends of all pools by state.
    #[serde(default)]
    pub backends_by_state: BTreeMap<BackendState, u32>,
    /// Slots of all rings that are marked as moving.
    #[serde(default)]
    pub moving_slots: u64,
    /// The XDP program.
    pub program: ProgramStatus,
    /// Interfaces that packets are taken from.
    pub interfaces: Vec<InterfaceStatus>,
    /// Pools and their rings.
    pub pools: Vec<PoolStatus>,
    /// Services.
    pub services: Vec<ServiceStatus>,
    /// Changes made at run time, on top of the file, in their order.
    pub changes: Vec<ChangeStatus>,
    /// How full the maps are.
    pub maps: Vec<MapStatus>,
    /// Packets by the reason of their exit from the program, those that are not 0.
    pub reasons: Vec<ReasonCount>,
    /// Packets that were dropped lately, by reason.
    #[serde(default)]
    pub recent_drops: RecentDrops,
}

/// The last time that the file was to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// Seconds since then.
    pub ago_s: u64,
    /// Whether it was taken; if not, what was in force stayed so.
    pub accepted: bool,
}

/// Packets that were dropped in the last minute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentDrops {
    /// Seconds that are looked back: a minute or a little more, and less right after the start.
    pub seconds: u64,
    /// Packets by reason, those that are not 0.
    pub reasons: Vec<ReasonCount>,
}

/// The program that is attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// The kernel's number of the program.
    pub id: u32,
    /// Features that it was loaded with.
    pub features: Vec<String>,
    /// Bytes of translated instructions.
    pub translated_bytes: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u32,
}

/// An interface that packets are taken from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// The kernel's number of the interface; 0 while it is missing.
    pub index: u32,
    /// How the program is attached: `native` or `generic`, `detached` while it is not.
    pub mode: String,
    /// Whether the link is up.
    pub up: bool,
}

/// A pool and its ring.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Name.
    pub name: String,
    /// Slots of its ring.
    pub ring_slots: u32,
    /// Hash over the ring's targets, equal on every node that agrees.
    pub ring_hash: String,
    /// Backends.
    pub backends: u32,
    /// Backends that get new connections.
    pub accepting: u32,
    /// Slots that are marked as moving.
    pub moving_slots: u32,
    /// Seconds since the first of them was marked.
    pub moving_since_s: Option<u64>,
}

/// What holds for a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceHealth {
    /// Every backend that should serve does.
    Up,
    /// Some don't.
    Degraded,
    /// None is well, and all are used.
    Panic,
    /// None is well, and packets are dropped.
    Down,
}

/// A service, as `service list` and `service show` print it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Name.
    pub name: String,
    /// Virtual IP address, or a prefix of such.
    pub vip: Vip,
    /// Virtual port, or several: a number, `"8000-8999"` or `"all"`.
    pub port: Ports,
    /// Transport protocol.
    pub protocol: Protocol,
    /// How packets reach the backends.
    pub forward: Forward,
    /// Name of its pool.
    pub pool: String,
    /// How the backend of a new connection is picked.
    #[serde(default)]
    pub policy: Policy,
    /// What connections have in common that go to one backend.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// Whether flows of UDP are remembered.
    #[serde(default)]
    pub udp: Udp,
    /// What happens when no backend is well.
    pub all_down: AllDown,
    /// What holds for it.
    pub health: ServiceHealth,
    /// Backends.
    pub backends: u32,
    /// Backends that get new connections.
    pub accepting: u32,
    /// Whether it comes from the file, or was added at run time.
    pub origin: Origin,
    /// Its traffic.
    pub counters: Counters,
}

/// Where a service or backend comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The configuration file.
    File,
    /// A command, kept in the state directory.
    Runtime,
}

/// Traffic of a service or backend since it was set up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Packets sent to backends.
    pub packets: u64,
    /// Bytes of the frames of those packets, as received.
    pub bytes: u64,
    /// New connections: TCP packets with SYN and without ACK.
    pub connections: u64,
    /// Replies that came back through the balancer.
    pub reply_packets: u64,
    /// Bytes of the frames of those replies.
    pub reply_bytes: u64,
}

/// State of a backend as the data path uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendState {
    /// Gets new connections.
    Up,
    /// Not known yet: its first probe has not ended.
    Unknown,
    /// Failed its checks: gets no new connection.
    Down,
    /// Its next hop's MAC address is not known: it is not sent to.
    Unresolved,
    /// Gets no new connection, keeps those that it has.
    Draining,
    /// Taken out by the operator: gets no new connection.
    Disabled,
    /// Failed its checks, but is sent to because every backend did.
    Panic,
}

/// A backend, as `backend list` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Name of its pool.
    pub pool: String,
    /// Address and port.
    pub endpoint: SocketAddr,
    /// Weight in force.
    pub weight: u16,
    /// State.
    pub state: BackendState,
    /// Number by which rings name it.
    pub number: u16,
    /// Slots of the ring whose new connections go to it.
    pub slots: u32,
    /// Slots whose older connections still go to it although new ones don't.
    pub leaving_slots: u32,
    /// Seconds until the connections that are left are moved, if it drains for a time only.
    pub drain_ends_in_s: Option<u64>,
    /// Connections that are recorded as its own, because they began while their slot moved or their
    /// service records all of them; as counted a few seconds ago.
    #[serde(default)]
    pub recorded_flows: u64,
    /// Connections that are open, where a service in front of the pool counts them
    /// (`least-connections`).
    #[serde(default)]
    pub open_connections: Option<u64>,
    /// MAC address of the next hop, and the interface that leads there.
    pub next_hop: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// Its traffic, summed over the services of the pool.
    pub counters: Counters,
}

/// Health of a backend, as `health` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HealthStatus {
    /// Name of the service.
    pub service: String,
    /// Name of its pool.
    pub pool: String,
    /// Address and port.
    pub endpoint: SocketAddr,
    /// State.
    pub state: BackendState,
    /// Reason code in HAProxy's vocabulary: `L4OK`, `L4TOUT`, `L4CON`, `UNK`, or `NONE` without a
    /// check.
    pub reason: String,
    /// What the check came to, in words; of a backend that is unresolved, why it is.
    pub detail: String,
    /// Successes in a row.
    pub rise: u32,
    /// Failures in a row.
    pub fall: u32,
    /// Seconds since the state changed.
    pub since_s: u64,
    /// How long the last probe took, in microseconds.
    pub latency_us: Option<u64>,
}

/// How full a map is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MapStatus {
    /// Name of the map.
    pub name: String,
    /// Entries in use; none where nobody counts them.
    pub used: Option<u64>,
    /// Entries that fit; of the maps that hold rings, slots.
    pub capacity: u64,
    /// Memory that the map takes, in bytes.
    pub bytes: u64,
}

/// How many packets left the program for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    /// Name of the reason.
    pub reason: String,
    /// What became of the packets: `pass`, `drop`, `tx` or `redirect`.
    pub action: String,
    /// Packets.
    pub packets: u64,
}

/// A change at run time: the body of `POST /v1/changes`. Kept in the state directory, so that it
/// outlives the agent, until the file no longer has what it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Add a backend to a pool.
    BackendAdd {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
        /// Weight.
        weight: u16,
    },
    /// Remove a backend from a pool.
    BackendRemove {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
        /// What happens to its connections. `None`: what the pool says.
        connections: Option<OnRemove>,
    },
    /// Let a backend that was disabled serve again.
    BackendEnable {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
    },
    /// Send nothing new to a backend, and move its connections away at once.
    BackendDisable {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
    },
    /// Send no new connection to a backend, keep those that it has.
    BackendDrain {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
        /// Seconds after which connections that are left are moved. `None`: never.
        timeout_s: Option<u64>,
    },
    /// Let a backend that drains serve again.
    BackendUndrain {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
    },
    /// Give a backend another weight.
    BackendWeight {
        /// Pool, or service whose pool is meant.
        pool: String,
        /// Address and port.
        endpoint: SocketAddr,
        /// Weight.
        weight: u16,
    },
    /// Add a service in front of a pool that exists.
    ServiceAdd {
        /// Name.
        name: String,
        /// Virtual IP address, or a prefix of such.
        vip: Vip,
        /// Virtual port, or several.
        port: Ports,
        /// Transport protocol.
        protocol: Protocol,
        /// How packets reach the backends.
        forward: Forward,
        /// Name of the pool.
        pool: String,
    },
    /// Remove a service.
    ServiceRemove {
        /// Name.
        name: String,
    },
}

/// A change at run time that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeStatus {
    /// The change.
    pub change: Change,
    /// Why it has no effect, if the file has come to be at odds with it.
    pub stale: Option<String>,
}

/// The answer to a request that changed something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What was done, a line each.
    pub done: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// The answer to a request that failed, with a status code of 4xx or 5xx.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// What went wrong and what to do about it.
    pub error: String,
}
