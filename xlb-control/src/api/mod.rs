//! The control API: HTTP/JSON on a Unix socket, its types and its client.

mod types;

pub use types::*;
