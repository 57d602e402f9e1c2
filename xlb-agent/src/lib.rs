//! The xlb agent: daemon and command line.

pub mod announce;
pub mod cli;
pub mod dataplane;
pub mod lock;
pub mod logging;
pub mod netlink;
pub mod options;
pub mod ring;
pub mod slots;
