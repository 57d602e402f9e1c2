//! What xlb costs, measured: a packet, live frames, real traffic, and the control
//! plane.
//!
//! Everything is measured on the real agent and the programs that it loads. Where the lab can't be
//! built, or something does not do what is to be measured, a panic says so.

pub mod clock;
pub mod control;
pub mod cost;
pub mod daemon;
pub mod live;
pub mod machine;
pub mod maps;
pub mod peers;
pub mod progress;
pub mod report;
pub mod statistics;
