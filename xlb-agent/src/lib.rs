//! The xlb agent: daemon and command line.

pub mod announce;
pub mod backend;
pub mod cli;
pub mod daemon;
pub mod dataplane;
pub mod diff;
pub mod endpoint;
pub mod engine;
pub mod explain;
pub mod import;
pub mod lock;
pub mod logging;
pub mod netlink;
pub mod options;
pub mod plan;
pub mod replay;
pub mod ring;
pub mod sequence;
pub mod slots;
