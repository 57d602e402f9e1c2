//! The validated model of a configuration file.
//!
//! A value of [`Config`] is sound: names are unique, every pool that a service names exists,
//! families fit the forwarding modes, and every default has been filled in.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{At, Ports, Vip};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What holds for the host.
    pub dataplane: Dataplane,
    /// Pools of backends by name. A pool written inline in a service has the service's name.
    pub pools: BTreeMap<String, Pool>,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
}

/// `[dataplane]`: what holds for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataplane {
    /// Interfaces on which packets are taken in, by name. With one, packets leave where they came
    /// in; with two or more they may be redirected.
    pub interfaces: Vec<String>,
    /// VLAN devices on top of these interfaces that packets may leave by, by name.
    pub vlans: Vec<String>,
    /// How the program is attached.
    pub mode: Mode,
    /// Key of the flow hash. Every node of a fleet needs the same one. `None`: generated once and
    /// kept in the state directory.
    pub hash_key: Option<HashKey>,
    /// Outer source address of encapsulated IPv4. `None`: what the route to the backend prefers.
    pub tunnel_source_v4: Option<std::net::Ipv4Addr>,
    /// Outer source address of encapsulated IPv6. `None`: what the route to the backend prefers.
    pub tunnel_source_v6: Option<std::net::Ipv6Addr>,
    /// When slots that have moved come to rest.
    pub settle: Settle,
    /// Bound of the table of flows that begin while slots move.
    pub max_flows: u32,
    /// Bound of the table of handshakes that are pending while slots move.
    pub max_pending: u32,
    /// Datagrams whose fragments are remembered, so that they go where the first one went.
    pub max_fragmented: u32,
    /// Source addresses of packets to backends under `full-nat`, of either family, each once.
    pub nat_source: Vec<IpAddr>,
    /// Source ports of these packets.
    pub nat_ports: PortRange,
    /// For how long these ports stay taken.
    pub nat_timeouts: NatTimeouts,
}

/// Times after its last packet for which a connection under `full-nat` keeps its source port, in whole
/// seconds. Those of open connections are the pool's `idle_timeout`, and the service's
/// `udp_idle_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatTimeouts {
    /// Its handshake is not complete.
    pub tcp_syn: Duration,
    /// One side has closed it.
    pub tcp_fin_wait: Duration,
    /// Both sides have.
    pub tcp_time_wait: Duration,
    /// One side has reset it.
    pub tcp_close: Duration,
    /// The backend has not answered its datagrams.
    pub udp: Duration,
}

impl Default for NatTimeouts {
    /// Those of Linux' `nf_conntrack`, but for TIME-WAIT, which is as long as Linux' own
    /// (`TCP_TIMEWAIT_LEN`).
    fn default() -> Self {
        Self {
            tcp_syn: Duration::from_secs(60),
            tcp_fin_wait: Duration::from_secs(120),
            tcp_time_wait: Duration::from_secs(60),
            tcp_close: Duration::from_secs(10),
            udp: Duration::from_secs(30),
        }
    }
}

impl fmt::Display for NatTimeouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            tcp_syn,
            tcp_fin_wait,
            tcp_time_wait,
            tcp_close,
            udp,
        } = *self;
        let text = humantime::format_duration;
        write!(
            f,
            "tcp_syn {}, tcp_fin_wait {}, tcp_time_wait {}, tcp_close {}, udp {}",
            text(tcp_syn),
            text(tcp_fin_wait),
            text(tcp_time_wait),
            text(tcp_close),
            text(udp)
        )
    }
}

/// A range of ports, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not less than the first.
    pub last: u16,
}

impl Default for PortRange {
    /// All but those that need a privilege.
    fn default() -> Self {
        Self {
            first: 1024,
            last: u16::MAX,
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// When slots that have moved come to rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Settle {
    /// When no connection has needed what was for the idle timeout.
    #[default]
    Auto,
    /// Never: on a node of a fleet whose routers may send a connection to another node, which has no
    /// record of it.
    Never,
}

/// A 128-bit key, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u8; 16]);

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// How the XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Native where the driver can, generic with a warning where it can't.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack, after the kernel has built an skb: slow, works everywhere.
    Generic,
}

/// `[[pool]]`: backends that share a Maglev ring and a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Name, unique among pools.
    pub name: String,
    /// Slots of the Maglev ring; prime. Another size moves every connection.
    pub ring_slots: u32,
    /// Backends in the order of the file, each address and port once.
    pub backends: Vec<Backend>,
    /// How a backend shows that it is well. `None`: always taken as well.
    pub check: Option<Check>,
    /// How long a backend that is down keeps its established connections.
    pub down_grace: Grace,
    /// After how long without packets a connection may be forgotten while slots move.
    pub idle_timeout: Duration,
    /// What happens to a backend that is no longer in the file.
    pub on_remove: OnRemove,
    /// How long a backend that comes back, or is new, takes until it has its whole share of new
    /// connections. Zero: it has it at once.
    pub slow_start: Duration,
}

/// For how long something that is down keeps its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// For this long; zero moves them at once.
    For(Duration),
    /// They are never moved.
    Forever,
}

/// What happens to the connections of a backend that is removed from the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnRemove {
    /// No new connections; established ones go on until they have been idle for the idle timeout.
    #[default]
    Drain,
    /// Established connections move at once, which breaks them.
    Drop,
}

/// A backend of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Address that packets are sent to.
    pub address: IpAddr,
    /// Port of the backend; 0: whichever the packet has. With `l2-dsr`, `ipip` and `gue` the packet's
    /// port is not changed in any case, and this one is only the check's.
    pub port: u16,
    /// Share of new connections, relative to the other backends. 0: none.
    pub weight: u16,
}

impl Backend {
    /// Address and port, by which a backend is known within its pool.
    #[must_use]
    pub const fn endpoint(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is probed.
    pub kind: CheckKind,
    /// Time from the start of one probe to the start of the next.
    pub interval: Duration,
    /// Time after which a probe without an answer has failed.
    pub timeout: Duration,
    /// Successes in a row after which a backend that was down is up.
    pub rise: u32,
    /// Failures in a row after which a backend that was up is down.
    pub fall: u32,
    /// Port to probe instead of the backend's.
    pub port: Option<u16>,
}

/// What a health check probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// A TCP connection can be opened.
    Tcp,
}

/// `[[service]]`: a virtual address and port, and the pool behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, unique among services.
    pub name: String,
    /// Virtual IP address, or a prefix of such.
    pub vip: Vip,
    /// Virtual port, or several.
    pub port: Ports,
    /// Transport protocol.
    pub protocol: Protocol,
    /// How packets reach the backend.
    pub forward: Forward,
    /// Name of the pool behind it.
    pub pool: String,
    /// How the backend of a new connection is picked.
    pub policy: Policy,
    /// What connections have in common that go to one backend. `None`: nothing, each is on its own.
    pub affinity: Option<Affinity>,
    /// Whether flows of UDP are remembered. Always stateless for TCP, which needs no choice.
    pub udp: Udp,
    /// After how long without packets a tracked flow of UDP is forgotten.
    pub udp_idle_timeout: Duration,
    /// What happens to new connections when no backend is well.
    pub all_down: AllDown,
    /// Whether packets of connections that this balancer knows nothing of name an alternative to the
    /// backend that they are sent to, while slots move.
    pub second_chance: bool,
    /// Where datagrams go that come in fragments.
    pub fragments: Fragments,
    /// Whether the agent puts the VIP on an interface and announces it.
    pub announce: Option<Announce>,
}

impl Service {
    /// Where it takes packets in.
    #[must_use]
    pub const fn at(&self) -> At {
        At {
            vip: self.vip,
            ports: self.port,
        }
    }
}

/// Transport protocol of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// SCTP, IP protocol 132.
    Sctp,
}

/// How a packet reaches its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    /// The destination is rewritten; replies come back through the balancer.
    Dnat,
    /// The frame is sent to the backend's MAC address, the packet unchanged; the backend answers
    /// the client directly.
    L2Dsr,
    /// The packet is put into another IP packet (IPv4 in IPv4, IPv6 in IPv6); the backend unpacks
    /// it and answers the client directly.
    Ipip,
    /// As `ipip`, with a UDP header between the two (Generic UDP Encapsulation), by whose source
    /// port receivers and routers spread flows.
    Gue,
    /// The packet goes up to this host's own stack; the only backend is the listener there.
    Local,
    /// Source and destination are rewritten; replies come back to the source, which is this host's.
    FullNat,
}

/// How the backend of a new connection is picked, always in proportion to the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// By a hash of the flow, which needs no record of a connection.
    #[default]
    Maglev,
    /// In turn.
    RoundRobin,
    /// Of two backends that hashes of the flow name, the one with fewer open connections.
    LeastConnections,
}

impl Policy {
    /// Whether only a record can say where a connection went.
    #[must_use]
    pub const fn decides_by_connection(self) -> bool {
        match self {
            Self::Maglev => false,
            Self::RoundRobin | Self::LeastConnections => true,
        }
    }
}

/// What connections have in common that go to one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// The client's address.
    ClientIp,
}

/// Whether flows of UDP are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Udp {
    /// Every datagram is hashed anew, so that a change of backends moves a share of the flows.
    #[default]
    Stateless,
    /// A flow stays with its backend until it has been idle for the idle timeout.
    Tracked,
}

/// Where datagrams go that come in fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fragments {
    /// Where their flow goes: the first fragment has the ports, and the others follow it.
    #[default]
    Follow,
    /// Where a hash of their addresses says, so that every node of a fleet chooses alike for every
    /// fragment.
    Address,
}

/// What happens to a service none of whose backends is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllDown {
    /// All backends are taken as well: the check may be what is broken.
    #[default]
    Panic,
    /// Packets are dropped.
    Drop,
}

/// How a VIP is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Announce {
    /// The address is put on an interface, and announced by gratuitous ARP (RFC 5227) or
    /// unsolicited neighbour advertisements (RFC 4861, section 7.2.6).
    Arp,
}
