//! The bounds and the defaults of a configuration. Each has its one home here.

use std::{ops::RangeInclusive, time::Duration};

/// Bytes of a configuration file: some 20 times what 1,000 services with 10 backends take.
pub const MAX_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of a name. The agent keeps names padded with zeros to 64 bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Bytes of an interface's name: the kernel's `IFNAMSIZ` without the final zero.
pub const MAX_INTERFACE_BYTES: usize = 15;

/// Interfaces that packets are taken from.
pub const MAX_INTERFACES: usize = 63;

/// Prefixes, a family, that a backend takes encapsulated packets from, or passes packets on to.
pub const MAX_BALANCER_PREFIXES: usize = 1024;

/// VIPs, a family, that a backend takes encapsulated packets for.
pub const MAX_BACKEND_VIPS: usize = 65_536;

/// Slots of a pool's ring. Prime and at least [`SLOTS_PER_BACKEND`] times the backends (Maglev,
/// NSDI'16, section 5.3).
pub const DEFAULT_RING_SLOTS: u32 = 16_381;

/// Fewest and most slots of a ring. 251 is the largest prime under 2^8, for labs; 1,048,573 the
/// largest under 2^20, whose ring takes 2 MB of the CPU's cache.
pub const RING_SLOTS: RangeInclusive<u32> = 251..=1_048_573;

/// Slots that a ring should have for each backend, so that their shares differ by about 1 % at most
/// (Maglev, NSDI'16, section 5.3).
pub const SLOTS_PER_BACKEND: usize = 100;

/// Backends of a host, over all pools: their numbers are 16 bits wide, and 0 means none.
pub const MAX_BACKENDS: usize = 65_535;

/// Entries of the tables that find services of several ports or addresses: twice as many fit into the
/// data path, since a table that changes stands there twice for a moment.
pub const MAX_PORT_ENTRIES: usize = 65_536;

/// Prefixes and addresses, a family, that have such a service, and backends of such under `dnat`.
pub const MAX_WIDE_ADDRESSES: usize = 8_192;

/// Weight of a backend that gives none.
pub const DEFAULT_WEIGHT: u16 = 1;

/// Bound of the table of flows that begin while slots move.
pub const DEFAULT_MAX_FLOWS: u32 = 131_072;

/// Bound of the table of handshakes that are pending while slots move.
pub const DEFAULT_MAX_PENDING: u32 = 65_536;

/// Datagrams whose fragments are remembered.
pub const DEFAULT_MAX_FRAGMENTED: u32 = 16_384;

/// Addresses of a family in `nat_source`: each takes about 20 MB of the kernel's memory.
pub(super) const MAX_NAT_SOURCES: usize = 16;

/// With fewer `nat_ports`, `check` warns: a minute's connections at 17 a second.
pub(super) const FEW_NAT_PORTS: u16 = 1024;

/// What a timeout in `nat_timeouts` may be.
pub(super) const NAT_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// What `max_flows`, `max_pending` and `max_fragmented` may be. The kernel allocates the tables in full, at about 100
/// bytes an entry.
pub const TABLE_ENTRIES: RangeInclusive<u32> = 1_024..=16_777_216;

/// Time from one probe to the next, when a check gives none.
pub const DEFAULT_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Time after which a probe has failed, when a check gives none.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// What a check's interval and timeout may be.
pub const CHECK_TIME: RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(3600);

/// Successes in a row until a backend is up, when a check gives none.
pub const DEFAULT_RISE: u32 = 2;

/// Failures in a row until a backend is down, when a check gives none.
pub const DEFAULT_FALL: u32 = 3;

/// What `rise` and `fall` may be.
pub const CHECK_COUNT: RangeInclusive<u32> = 1..=100;

/// How long a backend that is down keeps its connections.
pub const DEFAULT_DOWN_GRACE: Duration = Duration::from_secs(10);

/// What `down_grace` may be, when it is not `forever`.
pub const DOWN_GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 86_400);

/// What `slow_start` may be. The agent counts in whole seconds.
pub const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(86_400);

/// After how long without packets a connection may be forgotten while slots move.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// After how long without packets a tracked flow of UDP is forgotten: as with IPVS.
pub const DEFAULT_UDP_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// What `idle_timeout` and `udp_idle_timeout` may be. The data path counts in whole seconds.
pub const IDLE_TIMEOUT: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
