//! Pools: their place in the arena, their backends, their slots.

use std::mem::offset_of;

use xlb_common::{
    limits::{BLOCK_ENTRIES, NAME_BYTES},
    maps::{Backend, Pool, backend_flag},
    slot::SlotWord,
};
use xlb_control::{config::Config, health::Target};

use super::{
    Engine, EngineError, PoolState, allocate,
    goal::{self, World},
};
use crate::{
    dataplane::{MappedArray, Maps},
    plan::{self, Op, PoolActual},
    slots::Write,
};

/// Slots, over all pools, of rings whose making is remembered, which takes about a hundred bytes each.
const SLOTS_REMEMBERED_MAX: usize = 1 << 19;

impl Engine {
    /// Reads pools and backends out of the maps, and repairs what a crash left half done: the ring
    /// is a copy of `stable`, and nothing settles.
    pub(super) fn adopt_pools(&mut self) {
        let maps = self.dataplane.maps_mut();
        let records: Vec<(u32, Pool)> = (0u32..)
            .zip(maps.pools.iter())
            .filter(|(_, pool)| pool.name[0] != 0)
            .collect();
        let backends: Vec<(u16, Backend)> = (0u16..=u16::MAX)
            .zip(maps.backends.iter())
            .filter(|(_, entry)| entry.flags & backend_flag::USED != 0)
            .collect();
        for (number, record) in records {
            let end = record
                .name
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(NAME_BYTES);
            let name = String::from_utf8_lossy(&record.name[..end]).into_owned();
            let mut moving = false;
            for index in record.ring_offset..record.ring_offset + record.ring_slots {
                let index = index as usize;
                let word = SlotWord(maps.slots.load(index).unwrap_or(0)).with_settling(false);
                let _ = maps.slots.store(index, word.0);
                let _ = maps.ring.store(index, word.stable());
                moving |= word.is_marked();
            }
            let state = PoolState {
                backends: backends
                    .iter()
                    .filter(|(_, entry)| entry.pool == number)
                    .copied()
                    .collect(),
                // A crash may have left the state in which the program looks at the slots' words.
                moving: moving || record.moving_since_s != 0,
                moving_since_s: record.moving_since_s,
                ..PoolState::new(number, record.ring_offset, record.ring_slots)
            };
            for &number in state.backends.keys() {
                self.numbers.insert(number);
            }
            self.pools.insert(name, state);
        }
    }

    /// Gives a pool a number and a place in the arena. A pool whose ring has another size now gets
    /// a new place, which moves its connections. `true`: it has no backends yet.
    pub(super) fn ensure_pool(&mut self, name: &str, ring_slots: u32) -> Result<bool, EngineError> {
        if self
            .pools
            .get(name)
            .is_some_and(|pool| pool.ring_slots == ring_slots)
        {
            return Ok(false);
        }
        if let Some(old) = self.pools.remove(name) {
            self.forget_pool(&old);
        }
        let mut taken: Vec<u32> = self.pools.values().map(|pool| pool.number).collect();
        taken.sort_unstable();
        let last = self.dataplane.spec().sizes.pools - 1;
        let number = allocate::number(taken.into_iter(), last).ok_or(EngineError::Full("pools"))?;
        let ranges = self
            .pools
            .values()
            .map(|pool| pool.ring_offset..pool.ring_offset + pool.ring_slots)
            .collect();
        let end = self.dataplane.spec().sizes.arena_blocks * BLOCK_ENTRIES as u32;
        let ring_offset =
            allocate::range(ranges, ring_slots, end).ok_or(EngineError::Full("rings"))?;
        let maps = self.maps();
        for index in ring_offset..ring_offset + ring_slots {
            let _ = maps.slots.store(index as usize, 0);
            let _ = maps.ring.store(index as usize, 0);
        }
        let mut bytes = [0; NAME_BYTES];
        for (to, from) in bytes.iter_mut().zip(name.bytes().take(NAME_BYTES - 1)) {
            *to = from;
        }
        let _ = maps.pools.write(
            number,
            Pool {
                name: bytes,
                ring_offset,
                ring_slots,
                moving_since_s: 0,
                reserved: [0; 13],
            },
        );
        self.pools.insert(
            name.to_owned(),
            PoolState::new(number, ring_offset, ring_slots),
        );
        Ok(true)
    }

    /// Plans a pool and carries the plan out.
    ///
    /// # Errors
    ///
    /// When the numbers of backends are used up.
    pub fn update_pool(
        &mut self,
        config: &Config,
        name: &str,
        world: &impl World,
        now_s: u32,
    ) -> Result<(), EngineError> {
        let (Some(pool), Some(state)) = (config.pools.get(name), self.pools.get_mut(name)) else {
            return Ok(());
        };
        state.goal = Some(goal::of_pool(state.number, config, pool, world));
        self.bring_in_line(name, now_s)
    }

    /// As [`Self::update_pool`] does, where all that may have changed since is whether those backends
    /// are well that are probed by `target`.
    ///
    /// # Errors
    ///
    /// When the numbers of backends are used up.
    pub fn update_health(
        &mut self,
        config: &Config,
        name: &str,
        target: &Target,
        world: &impl World,
        now_s: u32,
    ) -> Result<(), EngineError> {
        let (Some(pool), Some(state)) = (config.pools.get(name), self.pools.get_mut(name)) else {
            return Ok(());
        };
        let Some(goal) = &mut state.goal else {
            return self.update_pool(config, name, world, now_s);
        };
        for member in &mut goal.members {
            let check = pool.check.as_ref();
            if check.is_some_and(|check| target.is_of(member.endpoint, check)) {
                member.well = world.is_well(pool, member.endpoint);
            }
        }
        self.bring_in_line(name, now_s)
    }

    /// Plans a pool for its goal and carries the plan out.
    fn bring_in_line(&mut self, name: &str, now_s: u32) -> Result<(), EngineError> {
        let mut words = std::mem::take(&mut self.words);
        let Some(state) = self.pools.get(name) else {
            return Ok(());
        };
        words.clear();
        words.extend(self.load_words(state));
        let backends: Vec<(u16, Backend)> = state
            .backends
            .iter()
            .map(|(&number, &entry)| (number, entry))
            .collect();
        let last = self.dataplane.spec().sizes.backends - 1;
        let key = self.key;
        let mut fresh = Vec::new();
        let Some(state) = self.pools.get_mut(name) else {
            return Ok(());
        };
        let (Some(goal), rings) = (&state.goal, &mut state.rings) else {
            return Ok(());
        };
        let planned = plan::plan_pool(
            PoolActual {
                backends: &backends,
                words: &words,
            },
            goal,
            |members, ring| rings.build(key, members, ring),
            now_s,
            || {
                let number = self.numbers.take(last)?;
                fresh.push(number);
                Some(number)
            },
        );
        if planned.is_err() {
            fresh
                .into_iter()
                .for_each(|number| self.numbers.give_back(number));
        }
        let mut plan = planned?;
        if self.without_transitions {
            plan.ops = plan::without_transitions(plan.ops);
        }
        for op in &plan.ops {
            self.carry_out(name, *op, now_s);
        }
        self.words = words;
        let moves = plan.ops.iter().any(|op| matches!(op, Op::Slot(_)));
        if let Some(state) = self.pools.get_mut(name) {
            if moves {
                state.settler.interrupt();
                state.settle_due_s = 0;
            }
            state.accepting = plan.accepting;
            state.all_down = plan.all_down;
            state.wake_s = plan.wake_s;
        }
        Ok(())
    }

    /// What has to be done ahead for the next failover of a large pool, beside the event loop, if it
    /// was not yet.
    pub fn prepare_ring(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let remembered = |pool: &PoolState| pool.rings.slots_remembered();
        let in_use: usize = self.pools.values().map(remembered).sum();
        let room = SLOTS_REMEMBERED_MAX.saturating_sub(in_use);
        let mut fitting = self
            .pools
            .values_mut()
            .filter(|pool| pool.ring_slots as usize <= room);
        fitting.find_map(|pool| pool.rings.prepare())
    }

    pub(super) fn carry_out(&mut self, name: &str, op: Op, now_s: u32) {
        let Some(state) = self.pools.get_mut(name) else {
            return;
        };
        let maps = self.dataplane.maps_mut();
        match op {
            Op::WriteBackend { number, entry } => {
                let _ = maps.backends.write(u32::from(number), entry);
                let _ = maps.connections.store_u64(u32::from(number), 0, 0);
                state.backends.insert(number, entry);
            }
            Op::UpdateBackend { number, entry } => {
                store_backend(&mut maps.backends, u32::from(number), &entry);
                state.backends.insert(number, entry);
            }
            Op::Moving { pool: _ } => {
                if !state.moving {
                    state.moving = true;
                    state.moving_since_s = now_s.max(1);
                    let _ = maps.pools.store_u32(
                        state.number,
                        offset_of!(Pool, moving_since_s),
                        state.moving_since_s,
                    );
                }
                self.set_moving(name, true);
            }
            Op::Slot(write) => store_slot(maps, state.ring_offset, write, now_s),
        }
    }

    /// Forgets pools that are no longer configured; their services are gone by now.
    pub(super) fn drop_pools(&mut self, config: &Config) {
        let gone: Vec<String> = self
            .pools
            .keys()
            .filter(|name| !config.pools.contains_key(*name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(pool) = self.pools.remove(&name) {
                self.forget_pool(&pool);
            }
        }
    }

    fn forget_pool(&mut self, pool: &PoolState) {
        let maps = self.dataplane.maps_mut();
        for &number in pool.backends.keys() {
            let flags = offset_of!(Backend, flags);
            let _ = maps.backends.store_u16(u32::from(number), flags, 0);
            // Records may name it still.
            self.rounds.quarantine.insert(number);
        }
        let _ = maps.pools.write(
            pool.number,
            Pool {
                name: [0; NAME_BYTES],
                ring_offset: 0,
                ring_slots: 0,
                moving_since_s: 0,
                reserved: [0; 13],
            },
        );
    }
}

/// Carries out a write of a slot.
pub(super) fn store_slot(maps: &mut Maps, ring_offset: u32, write: Write, now_s: u32) {
    let (slot, word) = write.word();
    let at = (ring_offset + slot) as usize;
    match write {
        Write::Mark { .. } => {
            let _ = maps.last_miss.store(at, now_s);
            let _ = maps.slots.store(at, word.0);
            let _ = maps.last_miss.store(at, now_s);
        }
        Write::Word { .. } => {
            let _ = maps.slots.store(at, word.0);
        }
        Write::Settle { .. } => {
            let _ = maps.slots.store(at, word.0);
            let _ = maps.ring.store(at, word.stable());
        }
    }
}

/// Changes a backend that packets are sent to: each field by a store of its own, so that the
/// program never sees half of one.
fn store_backend(backends: &mut MappedArray<Backend>, at: u32, entry: &Backend) {
    let _ = backends.store_u64(at, offset_of!(Backend, next_hop), entry.next_hop);
    let _ = backends.store_u16(at, offset_of!(Backend, flags), entry.flags);
    let _ = backends.store_u16(at, offset_of!(Backend, weight), entry.weight);
    let _ = backends.store_u16(at, offset_of!(Backend, cause), entry.cause);
    let since = offset_of!(Backend, down_since_s);
    let _ = backends.store_u32(at, since, entry.down_since_s);
    let deadline = offset_of!(Backend, drain_deadline_s);
    let _ = backends.store_u32(at, deadline, entry.drain_deadline_s);
    let serving = offset_of!(Backend, serving_since_s);
    let _ = backends.store_u32(at, serving, entry.serving_since_s);
    // The source of outer headers and the sum over it change together, which takes three stores: a
    // packet in between has a wrong outer checksum and is lost. It changes only when the host's
    // own address does.
    let known = backends.read(at);
    if known.is_some_and(|known| known.outer_source != entry.outer_source) {
        let source = offset_of!(Backend, outer_source);
        for (offset, part) in [0, 8].into_iter().zip(entry.outer_source.chunks_exact(8)) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(part);
            let _ = backends.store_u64(at, source + offset, u64::from_ne_bytes(bytes));
        }
        let _ = backends.store_u16(at, offset_of!(Backend, outer_sum), entry.outer_sum);
    }
}
