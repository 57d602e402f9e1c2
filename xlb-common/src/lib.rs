//! What the kernel's and the agent's half of xlb share: packet headers, the keys and values of the
//! maps, the reasons of a packet's end, checksum, hash, and the rule that picks a backend; and what
//! the backend's decapsulation program needs of these.
//!
//! Nothing here allocates, does I/O or knows the time; all of it is tested on the host.
#![cfg_attr(not(test), no_std)]

pub mod checksum;
pub mod collect;
pub mod decap;
pub mod endpoint;
pub mod flow;
pub mod fragment;
pub mod gue;
pub mod hash;
pub mod limits;
pub mod maps;
pub mod nat;
pub mod next_hop;
pub mod policy;
pub mod reason;
pub mod record;
pub mod rule;
pub mod slot;
pub mod wide;
pub mod wire;
