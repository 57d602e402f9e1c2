//! The xlb agent: daemon and command line.
