//! What the daemon tells of pools.

use xlb_control::{api::PoolStatus, config::Pool};

use crate::{
    daemon::{Daemon, now_s},
    ring,
};

impl Daemon {
    pub(super) fn pool_status(&self, pool: &Pool) -> PoolStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let Some(state) = self.engine.pools.get(&pool.name) else {
            return PoolStatus {
                name: pool.name.clone(),
                ring_slots: pool.ring_slots,
                ring_hash: String::new(),
                backends: count(pool.backends.len()),
                accepting: 0,
                moving_slots: 0,
                moving_since_s: None,
            };
        };
        let words = self.engine.words(state);
        let members: Vec<ring::Member> = state
            .backends
            .iter()
            .map(|(&number, entry)| ring::Member {
                identity: crate::endpoint::of(entry),
                weight: u32::from(entry.weight),
                number,
            })
            .collect();
        let targets: Vec<u16> = words.iter().map(|word| word.target()).collect();
        let moving = words.iter().filter(|word| word.is_marked()).count();
        PoolStatus {
            name: pool.name.clone(),
            ring_slots: pool.ring_slots,
            ring_hash: ring::ring_hash(self.engine.key(), &members, &targets),
            backends: count(pool.backends.len()),
            accepting: state.accepting,
            moving_slots: count(moving),
            moving_since_s: (moving > 0)
                .then(|| u64::from(now_s().saturating_sub(state.moving_since_s))),
        }
    }
}
