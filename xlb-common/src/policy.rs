//! How a policy that decides by connection picks a backend.

use crate::hash;

/// Slots beside the other candidate's that are looked at for a backend that is not the first
/// candidate: with two backends of equal weight, three in a hundred choices are left without one.
const NEIGHBOURS: u32 = 4;

/// What a backend has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Connections that are open.
    pub connections: u32,
    /// Its share of connections, relative to the others; 0: it gets no new ones.
    pub weight: u16,
}

impl Load {
    /// Of a backend that gets no new connections.
    pub const NONE: Self = Self {
        connections: 0,
        weight: 0,
    };

    /// Whether it would have less to do than another, for its weight, with one connection more each.
    #[inline(always)]
    #[must_use]
    pub const fn is_less_than(self, other: Self) -> bool {
        (self.connections as u64 + 1) * (other.weight as u64)
            < (other.connections as u64 + 1) * (self.weight as u64)
    }
}

/// The pool that [`least_connections`] picks from.
pub trait Candidates {
    /// Where new flows of a slot go.
    fn target(&self, slot: u32) -> u16;
    /// What a backend has to do.
    fn load(&self, backend: u16) -> Load;
}

/// Of two backends the one with fewer open connections for its weight; 0 if neither gets new ones.
///
/// The two are those of the flow's own slot and of another one that the hash names, so that each
/// comes up in proportion to its weight. Two at random do nearly as well as all of them, and don't
/// send every connection of a moment to the same backend (Mitzenmacher, The Power of Two Choices in
/// Randomized Load Balancing, 2001).
#[inline(always)]
pub fn least_connections<C: Candidates>(candidates: &C, flow_hash: u32, slots: u32) -> u16 {
    let first = candidates.target(hash::slot(flow_hash, slots));
    let mut slot = hash::slot(hash::another(flow_hash), slots);
    let mut second = candidates.target(slot);
    // Neighbours in a Maglev ring have nothing to do with one another.
    for _ in 0..NEIGHBOURS {
        if second != first {
            break;
        }
        slot += 1;
        if slot >= slots {
            slot = 0;
        }
        second = candidates.target(slot);
    }
    let (one, other) = (candidates.load(first), candidates.load(second));
    if one.weight == 0 && other.weight == 0 {
        0
    } else if one.weight == 0 || other.weight != 0 && other.is_less_than(one) {
        second
    } else {
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::FlowHash;

    const SLOTS: u32 = 1021;

    /// Backends 1, 2, .. with their loads, and the backends that own slots by chance, each as often
    /// as its weight says.
    struct Pool(Vec<Load>, Vec<u16>);

    impl Pool {
        fn new(loads: &[(u32, u16)]) -> Self {
            let load = |&(connections, weight)| Load {
                connections,
                weight,
            };
            let owners = (1..)
                .zip(loads)
                .flat_map(|(number, &(_, weight))| vec![number; weight.into()]);
            Self(loads.iter().map(load).collect(), owners.collect())
        }

        fn pick(&self, flow: u32) -> u16 {
            let hash = FlowHash::new([1, 2]).word(flow.into()).finish();
            least_connections(self, hash, SLOTS)
        }
    }

    impl Candidates for Pool {
        fn target(&self, slot: u32) -> u16 {
            assert!(slot < SLOTS);
            let chance = FlowHash::new([3, 4]).word(slot.into()).finish();
            self.1[chance as usize % self.1.len()]
        }

        fn load(&self, backend: u16) -> Load {
            self.0[usize::from(backend) - 1]
        }
    }

    #[test]
    fn the_less_loaded_of_two_gets_the_connection() {
        let pool = Pool::new(&[(100, 1), (10, 1)]);
        let to_second = (0..1000).filter(|&flow| pool.pick(flow) == 2).count();
        // Only where every slot that was looked at was the first one's.
        assert!(to_second > 950, "{to_second}");
        let pool = Pool::new(&[(100, 20), (10, 1)]);
        let to_second = (0..1000).filter(|&flow| pool.pick(flow) == 2).count();
        assert_eq!(to_second, 0, "all of them could go to the first");
    }

    #[test]
    fn a_backend_that_gets_none_is_passed_over() {
        let mut pool = Pool::new(&[(0, 1), (50, 1)]);
        pool.0[0] = Load::NONE;
        for flow in 0..100 {
            assert!([0, 2].contains(&pool.pick(flow)));
        }
        pool.0[1] = Load::NONE;
        assert_eq!(pool.pick(1), 0);
    }

    #[test]
    fn connections_even_out() {
        let mut pool = Pool::new(&[(0, 1), (0, 1), (40, 1), (0, 3)]);
        for flow in 0..600 {
            let backend = pool.pick(flow);
            pool.0[usize::from(backend) - 1].connections += 1;
        }
        for load in &pool.0 {
            // 640 connections over a weight of six.
            let share = load.connections / u32::from(load.weight);
            assert!((95..120).contains(&share), "{:?}", pool.0);
        }
    }
}
