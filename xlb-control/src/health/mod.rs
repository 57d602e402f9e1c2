//! Health checks: what a probe found, what follows from it, when to probe, and the tasks that do.
//!
//! [`Machine`] and the schedule are values that are told the time; [`Checker`] is the thin layer
//! that gives them a clock and sockets.

mod log_limit;
mod machine;
mod outcome;
mod probe;
mod schedule;
mod scheduler;
mod tally;
#[cfg(test)]
mod testing;

pub use machine::{Machine, Snapshot, State, Transition, Verdict};
pub use outcome::{Code, Outcome, ProbeResult};
pub use probe::connect;
pub use scheduler::{Checker, HealthEvent, MAX_PROBES_IN_FLIGHT, Target};
pub use tally::{LATENCY_BOUNDS_S, Tally};
