//! The xlb agent: daemon and command line.

pub mod cli;
pub mod logging;
pub mod options;
pub mod ring;
