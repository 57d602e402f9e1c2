//! Next hops: what the agent knows of the kernel's links, addresses, routes and neighbours.
//!
//! ```text
//!   kernel --multicast--> task --apply--> Tables --publish (coalesced)--> watch::Receiver
//!          <--dump, NTF_USE, addresses--- task <--want(set of neighbours)-- Handle
//! ```
//!
//! [`task`] is the only part that does I/O. [`decode`] turns messages into [`Change`]s of [`model`],
//! [`tables`] holds what they add up to, and [`mod@resolve`], [`clients`] and [`interfaces`] are pure
//! questions asked of it; [`refresh`] decides which neighbours the kernel is asked to probe, and when.
//!
//! Only the tables `local` and `main` are looked at, in this order, as the kernel's own first and
//! second rule do. Other rules, other tables, VRFs, source-specific routes and routes for a type of
//! service are ignored.

pub mod clients;
pub mod decode;
pub mod interfaces;
pub mod model;
pub mod refresh;
mod requests;
pub mod resolve;
mod socket;
pub mod tables;
pub mod task;

#[cfg(test)]
pub(crate) mod fixtures;

pub use clients::{ClientRoute, ClientRoutes, client_routes};
pub use interfaces::{Interface, InterfaceTracker, InterfaceView};
pub use model::Change;
pub use resolve::{NextHop, Unresolved, resolve, wanted, wanted_gateways};
pub use tables::Tables;
pub use task::{AddressOutcome, Handle, NetlinkError, spawn};

/// A neighbour by the interface that it is reached by and its address.
pub type NeighbourKey = (u32, std::net::IpAddr);
