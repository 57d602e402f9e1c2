//! The control API: HTTP/JSON on a Unix socket, its types and its client.

mod client;
mod diff;
mod explain;
mod types;

pub use client::{Client, ClientError};
pub use diff::*;
pub use explain::*;
pub use types::*;
