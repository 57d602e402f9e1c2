//! Open connections under `least-connections`: the program counts them up and down, and here they are
//! brought back to what the records say, should they ever stray from it.

use std::collections::{BTreeMap, BTreeSet};

use xlb_common::maps::service_state;

use super::{Engine, round::Found};

/// Rounds in a row that have to find the same before a count is corrected.
const ROUNDS: u32 = 3;

/// What rounds found so far of a count that strays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drift {
    /// The least that it strays by; what is positive is missing.
    least: i64,
    /// Rounds in a row that found it so.
    rounds: u32,
}

impl Drift {
    /// Takes in a round, during which the count went from `before` to `after`, and which `found` so
    /// many records; what is to be added to the count.
    ///
    /// Connections begin and end during a round, so that one alone says little. What strays, strays
    /// the same way in all of them.
    fn correction(&mut self, before: i64, after: i64, found: i64) -> i64 {
        let off = if found > before.max(after) {
            found - before.max(after)
        } else {
            (found - before.min(after)).min(0)
        };
        if off.signum() != self.least.signum() {
            *self = Self {
                least: off,
                rounds: 0,
            };
        }
        if off.abs() < self.least.abs() {
            self.least = off;
        }
        self.rounds += 1;
        if self.rounds < ROUNDS {
            return 0;
        }
        std::mem::take(self).least
    }
}

impl Engine {
    /// Open connections of the backends of pools in front of which a service counts them, by the
    /// number of the backend. For an instant a count may be below nothing, where an end is counted
    /// before its beginning.
    #[must_use]
    pub fn connections(&self) -> BTreeMap<u16, i64> {
        let mut connections = BTreeMap::new();
        for pool in self.pools.values() {
            let mut services = pool
                .services
                .iter()
                .filter_map(|key| self.services.get(key));
            if !services.any(|(_, entry)| entry.state & service_state::LEAST_CONNECTIONS != 0) {
                continue;
            }
            for &number in pool.backends.keys() {
                let count = self.dataplane.maps().connections.read(number.into());
                connections.insert(number, count.unwrap_or(0).cast_signed());
            }
        }
        connections
    }

    /// Takes deleted records out of the counts, and corrects what strays. `before`: the counts when
    /// the round began.
    pub(super) fn correct_connections(&mut self, before: &BTreeMap<u16, i64>, found: &Found) {
        let count = |by_backend: &BTreeMap<u16, u64>, number: u16| {
            by_backend
                .get(&number)
                .map_or(0, |&count| count.cast_signed())
        };
        self.drifts.retain(|number, _| before.contains_key(number));
        let connections = &mut self.dataplane.maps_mut().connections;
        let numbers: BTreeSet<u16> = found
            .released
            .keys()
            .chain(before.keys())
            .copied()
            .collect();
        for number in numbers {
            let released = count(&found.released, number);
            let mut change = -released;
            if let Some(&before) = before.get(&number) {
                let after = connections.read(number.into()).unwrap_or(0).cast_signed();
                let drift = self.drifts.entry(number).or_default();
                let counted = count(&found.counted, number);
                change += drift.correction(before, after, counted);
            }
            if change != 0 {
                let _ = connections.add_u64(number.into(), 0, change.cast_unsigned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_left_alone() {
        let mut drift = Drift::default();
        for _ in 0..5 {
            assert_eq!(drift.correction(10, 10, 10), 0);
            // Connections began and ended meanwhile.
            assert_eq!(drift.correction(10, 14, 12), 0);
            assert_eq!(drift.correction(14, 9, 9), 0);
        }
    }

    #[test]
    fn a_count_that_strays_is_corrected_by_the_least_that_it_strays() {
        let mut drift = Drift::default();
        assert_eq!(drift.correction(10, 10, 13), 0);
        assert_eq!(drift.correction(10, 11, 15), 0);
        assert_eq!(drift.correction(12, 10, 17), 3);
        assert_eq!(drift, Drift::default());
        for _ in 0..2 {
            assert_eq!(drift.correction(5, 5, 0), 0);
        }
        assert_eq!(drift.correction(7, 6, 2), -4);
    }

    #[test]
    fn chance_corrects_nothing() {
        let mut drift = Drift::default();
        for _ in 0..5 {
            assert_eq!(drift.correction(10, 10, 12), 0);
            assert_eq!(drift.correction(10, 10, 11), 0);
            assert_eq!(drift.correction(10, 10, 9), 0);
            assert_eq!(drift.correction(10, 10, 12), 0);
            assert_eq!(drift.correction(10, 10, 10), 0);
        }
    }
}
