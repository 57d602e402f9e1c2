//! From what should be to what must be written: pure functions over values.
//!
//! A pool is planned by itself, so that the cost of a change does not grow with the number of
//! services. The operations come in the order in which they are safe to carry out: backends, then
//! the services' `MOVING`, then slots.

mod pool;
mod ramp;

use std::{collections::BTreeMap, net::SocketAddr};

pub use pool::{NumbersUsedUp, PoolPlan, plan_pool};
use xlb_common::{maps::Backend, next_hop::NextHop, slot::SlotWord};
use xlb_control::config::{Grace, OnRemove};

use crate::slots::Write;

/// A pool as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolGoal {
    /// Number of the pool.
    pub pool: u32,
    /// Backends, in the order of the configuration.
    pub members: Vec<MemberGoal>,
    /// How long a backend that is down keeps its connections.
    pub down_grace: Grace,
    /// Seconds that a backend which comes back takes until it has its whole share.
    pub slow_start_s: u32,
    /// What becomes of the connections of a backend that is no longer configured.
    pub on_remove: OnRemove,
    /// What was said of them about single backends.
    pub removed: BTreeMap<SocketAddr, OnRemove>,
}

/// A backend as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberGoal {
    /// Address and port.
    pub endpoint: SocketAddr,
    /// Share of new connections.
    pub weight: u16,
    /// What the operator wants of it.
    pub intent: Intent,
    /// Whether its checks say that it is well, or say nothing yet.
    pub well: bool,
    /// Where its frames go, if that is known.
    pub next_hop: NextHop,
    /// Source of outer headers; unspecified where none are used.
    pub outer_source: std::net::IpAddr,
}

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It serves.
    Serve,
    /// It gets no new connections.
    Drain {
        /// When those that are left are moved, in seconds of CLOCK_MONOTONIC; `None`: never.
        deadline_s: Option<u32>,
    },
    /// It gets nothing, and its connections move at once.
    Disabled,
}

/// A pool as it is.
#[derive(Clone, Copy, Debug)]
pub struct PoolActual<'a> {
    /// The pool's backends with their numbers.
    pub backends: &'a [(u16, Backend)],
    /// Words of the pool's slots.
    pub words: &'a [SlotWord],
}

/// Something to write.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// Writes a backend that nothing names yet.
    WriteBackend {
        /// Its number.
        number: u16,
        /// The entry.
        entry: Backend,
    },
    /// Changes a backend that is in use: each field by its own store.
    UpdateBackend {
        /// Its number.
        number: u16,
        /// The entry as it should be.
        entry: Backend,
    },
    /// Makes the program read the slot words of the pool's services.
    Moving {
        /// The pool.
        pool: u32,
    },
    /// Writes a slot of the pool.
    Slot(Write),
}

/// The same plan without its care for connections: each slot belongs to its new backend at once. What
/// this breaks is what transitions are good for.
#[must_use]
pub fn without_transitions(ops: Vec<Op>) -> Vec<Op> {
    ops.into_iter()
        .filter_map(|op| match op {
            Op::Moving { .. } => None,
            Op::Slot(write) => {
                let (slot, word) = write.word();
                let word = SlotWord::rest(word.target());
                Some(Op::Slot(Write::Settle { slot, word }))
            }
            Op::WriteBackend { .. } | Op::UpdateBackend { .. } => Some(op),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_transitions_a_slot_belongs_to_its_target_at_once() {
        let word = SlotWord::marked(1, 2);
        let ops = vec![
            Op::Moving { pool: 1 },
            Op::Slot(Write::Mark { slot: 7, word }),
        ];
        let word = SlotWord::rest(2);
        assert_eq!(
            without_transitions(ops),
            [Op::Slot(Write::Settle { slot: 7, word })]
        );
    }
}
