//! The control API: HTTP/JSON on a Unix socket, its types and its client.

mod client;
mod diff;
mod explain;
mod nat;
mod types;

pub use client::{Client, ClientError};
pub use diff::*;
pub use explain::*;
pub use nat::*;
pub use types::*;
