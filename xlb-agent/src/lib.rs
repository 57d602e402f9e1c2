//! The xlb agent: daemon and command line.

pub mod logging;
pub mod options;
pub mod ring;
