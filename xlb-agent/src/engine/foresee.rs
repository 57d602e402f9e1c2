//! What the engine would do, on paper: nothing is written.

use std::{collections::BTreeMap, io};

use xlb_common::{
    flow::FlowKey,
    limits::MAX_BACKENDS,
    maps::Backend,
    record::{CONFIRMED, FlowValue, TOMBSTONE},
    slot::SlotWord,
};
use xlb_control::config::Config;

use super::{
    Engine, EngineError,
    goal::{self, World},
    round::service_of,
};
use crate::{
    diff::{Outlook, Recorded, Shares},
    plan::{self, PoolActual},
};

impl Engine {
    /// What would become of a pool under another configuration, with the plan that
    /// [`Engine::apply`] would carry out.
    ///
    /// # Errors
    ///
    /// When the numbers of backends would be used up.
    pub fn outlook(
        &self,
        config: &Config,
        name: &str,
        world: &impl World,
        now_s: u32,
    ) -> Result<Outlook, EngineError> {
        let known = self.pools.get(name);
        let before = known.map(|pool| Shares::of(&self.words(pool), &pool.backends));
        let Some(pool) = config.pools.get(name) else {
            return Ok(Outlook::gone(before.unwrap_or_default()));
        };
        let kept = known.filter(|known| known.ring_slots == pool.ring_slots);
        let backends: Vec<(u16, Backend)> = kept.map_or_else(Vec::new, |kept| {
            let backends = kept.backends.iter();
            backends.map(|(&number, &entry)| (number, entry)).collect()
        });
        let words = kept.map_or_else(
            || vec![SlotWord::default(); pool.ring_slots as usize],
            |kept| self.words(kept),
        );
        let mut numbers = self.numbers.clone();
        let goal = goal::of_pool(kept.map_or(0, |kept| kept.number), config, pool, world);
        let actual = PoolActual {
            backends: &backends,
            words: &words,
        };
        let plan = plan::plan_pool(actual, &goal, self.key, now_s, || {
            numbers.take(MAX_BACKENDS)
        })?;
        Ok(Outlook::of(
            actual,
            &plan,
            before.filter(|_| kept.is_none()),
        ))
    }

    /// How many established flows are recorded of each service, by backend.
    ///
    /// # Errors
    ///
    /// When the tables of flows can't be read.
    pub fn recorded(&self) -> io::Result<Recorded> {
        let mut recorded: Recorded = BTreeMap::new();
        let mut count = |key: FlowKey, value: FlowValue| {
            *recorded
                .entry((service_of(&key), value.backend()))
                .or_insert(0) += 1;
        };
        let maps = self.dataplane.maps();
        maps.pending.for_each(|key, value| {
            if value.flags() & (CONFIRMED | TOMBSTONE) == CONFIRMED {
                count(key, value);
            }
        })?;
        maps.flows.for_each(|key, value| {
            if value.flags() & TOMBSTONE == 0 {
                count(key, value);
            }
        })?;
        Ok(recorded)
    }
}
