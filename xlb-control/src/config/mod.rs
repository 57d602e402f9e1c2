//! The configuration file: its model, how it is read, and every complaint about it.

mod model;

pub use model::*;
