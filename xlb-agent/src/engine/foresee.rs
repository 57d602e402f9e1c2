//! What the engine would do, on paper: nothing is written.

use std::{collections::BTreeMap, io};

use xlb_common::{
    flow::FlowKey,
    limits::MAX_BACKENDS,
    maps::Backend,
    record::{CONFIRMED, FlowValue, TOMBSTONE},
    slot::SlotWord,
};
use xlb_control::config::{Config, Pool};

use super::{
    Engine, EngineError, PoolState, ServiceKey,
    find::Finder,
    goal::{self, World},
};
use crate::{
    diff::{self, Outlook, Recorded, Shares},
    plan::{self, PoolActual, PoolGoal, PoolPlan},
    ring,
};

/// A configuration, and what is known of its backends.
pub struct Side<'a, W> {
    /// The configuration.
    pub config: &'a Config,
    /// What is known.
    pub world: &'a W,
}

// Two references, whatever the second is to.
impl<W> Clone for Side<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for Side<'_, W> {}

/// A pool on paper.
struct Sketch {
    backends: Vec<(u16, Backend)>,
    words: Vec<SlotWord>,
}

impl Sketch {
    fn actual(&self) -> PoolActual<'_> {
        PoolActual {
            backends: &self.backends,
            words: &self.words,
        }
    }
}

impl Engine {
    /// What would become of a pool under another configuration, with the plan that
    /// [`Engine::apply`] would carry out. Backends that take up their share slowly are taken to
    /// have it, on both sides.
    ///
    /// # Errors
    ///
    /// When the numbers of backends would be used up.
    pub fn outlook(
        &self,
        name: &str,
        now: Side<'_, impl World>,
        then: Side<'_, impl World>,
        now_s: u32,
    ) -> Result<Outlook, EngineError> {
        let known = self.pools.get(name);
        let before = known.map(|pool| Shares::of(&self.words(pool), &pool.backends));
        let Some(pool) = then.config.pools.get(name) else {
            return Ok(Outlook::gone(before.unwrap_or_default()));
        };
        let Some(kept) = known.filter(|known| known.ring_slots == pool.ring_slots) else {
            let empty = Sketch {
                backends: Vec::new(),
                words: vec![SlotWord::default(); pool.ring_slots as usize],
            };
            let plan = self.plan_on(&empty, 0, pool, then, now_s)?;
            return Ok(Outlook::of(empty.actual(), &plan, before));
        };
        let mut sketch = Sketch {
            backends: kept
                .backends
                .iter()
                .map(|(&number, &entry)| (number, entry))
                .collect(),
            words: self.words(kept),
        };
        if let Some(pool) = now.config.pools.get(name)
            && starts_slowly(kept, pool, now_s)
        {
            let plan = self.plan_on(&sketch, kept.number, pool, now, now_s)?;
            diff::carry_out(&plan, &mut sketch.backends, &mut sketch.words);
        }
        let plan = self.plan_on(&sketch, kept.number, pool, then, now_s)?;
        Ok(Outlook::of(sketch.actual(), &plan, None))
    }

    fn plan_on(
        &self,
        sketch: &Sketch,
        number: u32,
        pool: &Pool,
        side: Side<'_, impl World>,
        now_s: u32,
    ) -> Result<PoolPlan, EngineError> {
        let goal = PoolGoal {
            slow_start_s: 0,
            ..goal::of_pool(number, side.config, pool, side.world)
        };
        let mut numbers = self.numbers.clone();
        Ok(plan::plan_pool(
            sketch.actual(),
            &goal,
            |members, ring| ring::build(self.key, members, ring),
            now_s,
            || numbers.take(MAX_BACKENDS),
        )?)
    }

    /// How many established flows are recorded of each service, by backend.
    ///
    /// # Errors
    ///
    /// When the tables of flows can't be read.
    pub fn recorded(&self) -> io::Result<Recorded> {
        let mut recorded: Recorded = BTreeMap::new();
        let services: Finder<ServiceKey> = self.services.keys().map(|&key| (key, key)).collect();
        let mut count = |key: FlowKey, value: FlowValue| {
            if let Some(&service) = services.find(&key) {
                *recorded.entry((service, value.backend())).or_insert(0) += 1;
            }
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

/// Whether a backend of the pool has not come to its whole share yet.
fn starts_slowly(state: &PoolState, pool: &Pool, now_s: u32) -> bool {
    let slow_start_s = pool.slow_start.as_secs();
    state.backends.values().any(|entry| {
        let since_s = entry.serving_since_s;
        since_s != 0 && u64::from(now_s.saturating_sub(since_s)) < slow_start_s
    })
}
