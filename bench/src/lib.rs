//! What xlb costs, measured: the control plane.
//!
//! Everything is measured on the real agent and the programs that it loads. Where the lab can't be
//! built, or something does not do what is to be measured, a panic says so.

pub mod clock;
pub mod control;
pub mod daemon;
pub mod maps;
pub mod progress;
pub mod statistics;
