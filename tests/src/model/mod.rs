//! What xlb should do with a frame, in plain Rust: written from the RFCs and the documentation, not
//! from the program, so that the two can be held against one another.
//!
//! It shares with the program what is a contract between kernel and agent and has proofs of its own:
//! the values of the maps, the names of reasons, the hash of a flow, and the rule that picks a
//! backend. Everything else it does again, and in another way where there is one: it works on byte
//! vectors in network byte order, sums whole headers, and looks through lists.

mod balance;
mod between;
mod bytes;
mod connections;
mod fragments;
mod icmp;
mod leave;
mod outer;
mod packet;
mod select;
mod tables;
mod tags;
mod world;

pub use balance::{Expected, Model};
pub use bytes::{sum, updated};
pub use tables::{Record, Records};
pub use world::*;

/// Bytes of an Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options (RFC 791).
pub const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header (RFC 8200).
pub const IPV6_BYTES: usize = 40;
/// Bytes of a TCP header without options (RFC 9293).
pub const TCP_BYTES: usize = 20;
/// Bytes of a UDP header (RFC 768).
pub const UDP_BYTES: usize = 8;
/// Bytes of an ICMP message that every message has (RFC 792, RFC 4443).
pub const ICMP_BYTES: usize = 8;
/// UDP port of tunnels by `gue` (IANA).
pub const GUE_PORT: u16 = 6080;
