//! The services in front of the pool: which one a flow belongs to, and what that asks of the rule.

use crate::{rng::Rng, world::World};

/// Services of a pool.
pub(crate) const SERVICES: usize = 3;

/// A service in front of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// TCP, by the ring.
    Ring,
    /// TCP, at times with a policy that decides by connection.
    Policy,
    /// UDP that tracks its flows.
    Datagrams,
}

/// Whose flows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mix {
    /// Only those of [`Service::Ring`].
    Ring,
    /// Only those of [`Service::Policy`].
    Policy,
    /// A third each.
    All,
}

impl Mix {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        match rng.below(100) {
            0..65 => Self::Ring,
            65..75 => Self::Policy,
            _ => Self::All,
        }
    }

    pub(crate) const fn service_of(self, key: u32) -> Service {
        match (self, key % 3) {
            (Self::Ring, _) | (Self::All, 0) => Service::Ring,
            (Self::Policy, _) | (Self::All, 1) => Service::Policy,
            (Self::All, _) => Service::Datagrams,
        }
    }
}

impl World {
    /// Which services keep a record of every flow, by the configuration.
    pub(crate) fn tracking(&self) -> [bool; SERVICES] {
        [false, self.by_connection, true]
    }
}
