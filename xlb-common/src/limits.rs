//! The bounds of the data path. Each has its one home here.

/// Entries of a block of an arena. An arena is an array map whose values are such blocks, since an
/// array of single `u16` would take eight bytes an entry.
pub const BLOCK_ENTRIES: usize = 4096;

/// Places that a lookup in an endpoint table looks at before it gives up. The agent makes the table
/// larger when an endpoint would lie further from its home.
pub const ENDPOINT_PROBES: u32 = 8;

/// Smallest number of entries of an endpoint table; a power of two.
pub const ENDPOINT_TABLE_MIN: u32 = 64;

/// Largest number of entries of an endpoint table; a power of two.
pub const ENDPOINT_TABLE_MAX: u32 = 1 << 20;

/// Interfaces that packets can leave by; 0 means none, so one less can be used.
pub const MAX_EGRESS: u32 = 64;

/// Prefixes, a family, in the table of next hops of replies.
pub const MAX_ROUTES: u32 = 16_384;

/// Addresses and prefixes, a family, that lead to a table of ports.
pub const MAX_WIDE_ADDRESSES: u32 = 16_384;

/// Prefixes of ports in the tables that these lead to.
pub const MAX_PORTS: u32 = 131_072;

/// Backends of a host, over all pools: their numbers are 16 bits wide, and 0 means none.
pub const MAX_BACKENDS: u32 = 65_535;

/// Bytes of the ring buffer of events.
pub const EVENTS_BYTES: u32 = 64 * 1024;

/// Bytes of a pool's name in the agent's record, padded with zeros.
pub const NAME_BYTES: usize = 64;

/// Prefixes, a family, that a backend takes encapsulated packets from, or passes packets on to.
pub const MAX_BALANCER_PREFIXES: u32 = 1024;

/// Backends, a family, that a backend knows the way to, to pass packets on to them.
pub const MAX_ALTERNATIVES: u32 = 1024;

/// Bytes of the ring buffer of events of the decapsulation program.
pub const DECAP_EVENTS_BYTES: u32 = 16 * 1024;

/// VIPs, a family, that a backend takes encapsulated packets for.
pub const MAX_BACKEND_VIPS: u32 = 65_536;

/// Extension headers of an IPv6 packet that are looked through: RFC 8200, section 4.1, has seven in all.
pub const EXTENSION_HEADERS_MAX: u32 = 8;
