//! How a packet finds a service of several ports or addresses, after the tables of endpoints have
//! nothing of it: two tries, the first from an address to the number of a table, the second from that
//! and a port to what stands there.
//!
//! A table that changes gets another number: it is written whole before an address leads to it, and
//! removed a grace period after none does.

use crate::endpoint::EndpointTarget;

/// What an address is looked up for, before the address in the first trie's key.
pub mod direction {
    /// A packet's destination.
    pub const VIP: u32 = 0;
    /// A packet's source, where it may be the reply of a backend under `dnat`.
    pub const REPLY: u32 = 1;
}

/// Bits of a key of `WIDE4` or `WIDE6` before the address, all of which count.
pub const BITS_BEFORE_ADDRESS: u32 = 32;

/// Bits of a key of `PORTS` before the port, all of which count.
pub const BITS_BEFORE_PORT: u32 = 48;

/// Key of `WIDE4` as it stands in memory: direction and address.
#[inline(always)]
#[must_use]
pub const fn place4(direction: u32, address_be: u32) -> u64 {
    direction as u64 | (address_be as u64) << 32
}

/// Key of `PORTS` as it stands in memory: table, protocol and port.
#[inline(always)]
#[must_use]
pub const fn port(table: u32, protocol: u8, port_be: u16) -> u64 {
    table as u64 | (protocol as u64) << 32 | (port_be as u64) << 48
}

/// Value of `PORTS`.
#[inline(always)]
#[must_use]
pub const fn word(target: EndpointTarget) -> u64 {
    target.service as u64 | (target.backend as u64) << 32
}

/// What a value of `PORTS` says.
#[inline(always)]
#[must_use]
pub const fn target(word: u64) -> EndpointTarget {
    EndpointTarget {
        service: word as u32,
        backend: (word >> 32) as u16,
        reserved: 0,
    }
}
