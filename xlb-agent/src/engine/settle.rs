//! Settling: how pools that have changed come to rest, records are collected, and numbers of backends
//! come free. The decisions are those of [`crate::slots`].

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    mem::offset_of,
    time::Duration,
};

use xlb_common::{
    maps::{Backend, Pool, backend_cause, protocol, service_state},
    slot::SlotWord,
};
use xlb_control::config::{Config, Settle, Udp};

use super::{
    Engine, EngineError, PoolState,
    find::Finder,
    goal, key_of,
    policies::is_tracked,
    pools::store_slot,
    round::{Found, Owner, Round},
};

/// Rounds take at most one part in so many of a CPU.
const REST_PER_WORK: u32 = 20;

/// Seconds between two looks at records that may have grown old.
const COLLECT_S: u32 = 10;

/// What [`Engine`] remembers of rounds.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// What the round that runs is to find out.
    running: Option<Running>,
    /// Counts the times when the tables of records became others.
    generation: u64,
    /// No round begins before this, in seconds of CLOCK_MONOTONIC.
    next_s: u32,
    /// Records are looked at again at this time at the latest, if there are any.
    collect_s: u32,
    /// Whether there may be records.
    records: bool,
    recorded: Recorded,
    /// Numbers of backends whose pool is gone, which records may name still.
    pub(super) quarantine: BTreeSet<u16>,
}

/// What waits for the end of a round.
#[derive(Debug)]
struct Running {
    /// Backends that no slot named when it began: pool and number.
    unnamed: Vec<(String, u16)>,
    /// Numbers without a pool when it began.
    quarantine: Vec<u16>,
    /// Open connections of backends when it began, where a policy counts them.
    counted: BTreeMap<u16, i64>,
}

/// Records, as they were counted last.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// Records of handshakes that are pending.
    pub pending: u64,
    /// Records of flows.
    pub flows: u64,
    /// Records of either kind by backend.
    pub by_backend: BTreeMap<u16, u64>,
}

impl Engine {
    /// Records, as the last round counted them.
    #[must_use]
    pub const fn last_count(&self) -> &Recorded {
        &self.rounds.recorded
    }

    /// Begins a round if something may settle, grow old or come free. Its result goes to
    /// [`Self::finish_round`]; until then there is no other.
    ///
    /// # Errors
    ///
    /// When no more files can be opened.
    pub fn begin_round(&mut self, config: &Config, now_s: u32) -> io::Result<Option<Round>> {
        if self.rounds.running.is_some() || now_s < self.rounds.next_s {
            return Ok(None);
        }
        let names: Vec<String> = self.pools.keys().cloned().collect();
        let waiting = names
            .iter()
            .filter(|name| self.begin_settling(config, name, now_s))
            .count();
        let unnamed = self.unnamed();
        let quarantine: Vec<u16> = self.rounds.quarantine.iter().copied().collect();
        let tracks = || self.services.values().any(|(_, entry)| is_tracked(entry));
        let collects = now_s >= self.rounds.collect_s && (self.rounds.records || tracks());
        if waiting == 0 && unnamed.is_empty() && quarantine.is_empty() && !collects {
            return Ok(None);
        }
        let owners = self.owners(config);
        let counted = self.connections();
        let round = Round {
            records: self.dataplane.records()?,
            generation: self.rounds.generation,
            orphan_idle_s: owners.values().map(|owner| owner.idle_s).max().unwrap_or(0),
            owners,
            hash_key: self.dataplane.spec().hash_key,
            now_s,
        };
        self.rounds.running = Some(Running {
            unnamed,
            quarantine,
            counted,
        });
        Ok(Some(round))
    }

    /// Begins to settle a pool; `true`: the end of the round is waited for.
    fn begin_settling(&mut self, config: &Config, name: &str, now_s: u32) -> bool {
        let Some(pool) = self.pools.get(name) else {
            return false;
        };
        let never = config.dataplane.settle == Settle::Never;
        if never || !pool.moving || now_s < pool.settle_due_s {
            return false;
        }
        let idle_s = self.idle_s(config, name);
        if !self.rounds.records {
            self.rounds.records = true;
            self.rounds.collect_s = now_s.saturating_add(COLLECT_S);
        }
        let words = self.words(pool);
        let misses = self.last_misses(pool);
        let Some(pool) = self.pools.get_mut(name) else {
            return false;
        };
        let writes = pool.settler.begin(&words, &misses, idle_s, now_s);
        if !pool.settler.is_waiting() {
            let marked = words.iter().zip(&misses);
            let oldest_s = marked
                .filter(|(word, _)| word.is_marked())
                .map(|(_, &miss_s)| miss_s)
                .min();
            let Some(oldest_s) = oldest_s else {
                self.come_to_rest(name);
                return false;
            };
            pool.settle_due_s = oldest_s.saturating_add(idle_s).saturating_add(1);
        }
        let (offset, waits) = (pool.ring_offset, pool.settler.is_waiting());
        for write in writes {
            store_slot(self.maps(), offset, write, now_s);
        }
        waits
    }

    /// Ends a round: slots settle of which nobody used `stable` meanwhile, marks go where no record
    /// points elsewhere, and numbers come free that nothing names any more.
    ///
    /// # Errors
    ///
    /// When a map is full.
    pub fn finish_round(&mut self, found: Option<Found>, now_s: u32) -> Result<(), EngineError> {
        let Some(running) = self.rounds.running.take() else {
            return Ok(());
        };
        let found = found.filter(|found| found.generation == self.rounds.generation);
        let Some(found) = found else {
            // It failed, or the tables that it read are no longer those in force.
            self.rounds.next_s = now_s.saturating_add(1);
            for pool in self.pools.values_mut() {
                pool.settler.interrupt();
            }
            return Ok(());
        };
        let pause_s = (found.took * REST_PER_WORK).as_secs();
        let pause_s = u32::try_from(pause_s).unwrap_or(u32::MAX);
        self.rounds.next_s = now_s.saturating_add(pause_s.max(1));
        let backlog = found.collected > 0;
        self.rounds.collect_s = now_s.saturating_add(if backlog { 1 } else { COLLECT_S });
        let waiting: Vec<String> = self
            .pools
            .iter()
            .filter(|(_, pool)| pool.settler.is_waiting())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &waiting {
            self.finish_settling(name, &found, now_s);
        }
        self.correct_connections(&running.counted, &found);
        self.reclaim(&running, &found)?;
        self.rounds.records = found.pending + found.flows > 0
            || self.pools.values().any(|pool| pool.moving)
            || self.services.values().any(|(_, entry)| is_tracked(entry));
        tracing::debug!(
            pending = found.pending,
            flows = found.flows,
            collected = found.collected,
            pools = waiting.len(),
            took_ms = found.took.as_millis(),
            "a round of settling has ended"
        );
        self.rounds.recorded = Recorded {
            pending: found.pending,
            flows: found.flows,
            by_backend: found.by_backend,
        };
        Ok(())
    }

    fn finish_settling(&mut self, name: &str, found: &Found, now_s: u32) {
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        let words = self.words(pool);
        let misses = self.last_misses(pool);
        let elsewhere: BTreeSet<u32> = (0u32..)
            .zip(&words)
            .filter(|&(slot, word)| {
                found
                    .backends
                    .get(&(pool.number, slot))
                    .is_some_and(|backends| {
                        backends.iter().any(|&backend| backend != word.stable())
                    })
            })
            .map(|(slot, _)| slot)
            .collect();
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let writes = pool.settler.finish(&words, &misses, &elsewhere);
        // Records keep the rest from settling, which end by and by.
        pool.settle_due_s = now_s.saturating_add(if writes.is_empty() { COLLECT_S } else { 1 });
        let offset = pool.ring_offset;
        for &write in &writes {
            store_slot(self.maps(), offset, write, now_s);
        }
        let mut words = words;
        crate::slots::apply(&mut words, &writes);
        if !words.iter().any(|word| word.is_marked()) {
            self.come_to_rest(name);
        }
    }

    /// No slot has a mark, and the ring is a copy of every `stable`: the program need not look at
    /// the words of the slots any more.
    fn come_to_rest(&mut self, name: &str) {
        self.set_moving(name, false);
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        pool.moving = false;
        pool.moving_since_s = 0;
        let number = pool.number;
        let since = offset_of!(Pool, moving_since_s);
        let _ = self.maps().pools.store_u32(number, since, 0);
        tracing::info!(pool = name, "every slot is at rest");
    }

    /// For how long the slots of a pool wait, seconds: for the longest of its services. Datagrams
    /// that are not tracked move with their slot and need no record, so where there are only these,
    /// nothing is waited for.
    fn idle_s(&self, config: &Config, name: &str) -> u32 {
        let Some(state) = self.pools.get(name) else {
            return 0;
        };
        let connections = state
            .services
            .iter()
            .any(|key| key.protocol != protocol::UDP);
        let of_connections = config
            .pools
            .get(name)
            .filter(|_| connections)
            .map_or(0, |pool| seconds(pool.idle_timeout));
        let tracked = state.services.iter().any(|key| {
            let known = self.services.get(key);
            key.protocol == protocol::UDP && known.is_some_and(|(_, entry)| is_tracked(entry))
        });
        if !tracked {
            return of_connections;
        }
        let in_front = config.services.values();
        let of_datagrams = in_front
            .filter(|service| service.pool == name && service.udp == Udp::Tracked)
            .map(|service| seconds(service.udp_idle_timeout))
            .max();
        of_connections.max(of_datagrams.unwrap_or(0))
    }

    fn owners(&self, config: &Config) -> Finder<Owner> {
        let mut owners = Vec::new();
        for service in config.services.values() {
            let key = key_of(&goal::of_service(service));
            let (Some(pool), Some((_, entry))) =
                (self.pools.get(&service.pool), self.services.get(&key))
            else {
                continue;
            };
            let tracked = is_tracked(entry);
            let has_connections = entry.protocol != protocol::UDP;
            let of_pool = config.pools.get(&service.pool);
            let owner = Owner {
                pool: pool.number,
                ring_slots: pool.ring_slots,
                idle_s: if has_connections {
                    of_pool.map_or(0, |pool| seconds(pool.idle_timeout))
                } else if tracked {
                    seconds(service.udp_idle_timeout)
                } else {
                    // What is left from when they were tracked.
                    0
                },
                needs_marks: has_connections && !tracked,
                by_client: entry.state & service_state::CLIENT_IP != 0,
            };
            owners.push((key, owner));
        }
        owners.into_iter().collect()
    }

    fn last_misses(&self, pool: &PoolState) -> Vec<u32> {
        let misses = &self.dataplane.maps().last_miss;
        (pool.ring_offset..pool.ring_offset + pool.ring_slots)
            .map(|index| misses.load(index as usize).unwrap_or(0))
            .collect()
    }

    /// Backends that are no longer configured and that no slot names.
    fn unnamed(&self) -> Vec<(String, u16)> {
        let mut unnamed = Vec::new();
        for (name, pool) in &self.pools {
            let removed: Vec<u16> = pool
                .backends
                .iter()
                .filter(|(_, entry)| is_removed(entry))
                .map(|(&number, _)| number)
                .collect();
            if removed.is_empty() {
                continue;
            }
            let named = crate::slots::in_use(&self.words(pool));
            let free = removed.into_iter().filter(|number| !named.contains(number));
            unnamed.extend(free.map(|number| (name.clone(), number)));
        }
        unnamed
    }

    /// Gives back the numbers that neither slots nor records name.
    fn reclaim(&mut self, running: &Running, found: &Found) -> Result<(), EngineError> {
        for &number in &running.quarantine {
            if !found.by_backend.contains_key(&number) && self.rounds.quarantine.remove(&number) {
                self.numbers.give_back(number);
            }
        }
        for (name, number) in &running.unnamed {
            if found.by_backend.contains_key(number) || self.slots_name(name, *number) {
                continue;
            }
            let Some(pool) = self.pools.get_mut(name) else {
                continue;
            };
            // It may have been configured again meanwhile, or its pool made anew.
            if !pool.backends.get(number).is_some_and(is_removed) {
                continue;
            }
            let removed = pool.backends.remove(number);
            // Until the next round, since a packet may have read it where the endpoint was.
            self.rounds.quarantine.insert(*number);
            // Its endpoint must not lead to whoever gets the number next.
            self.sync_replies(name)?;
            let flags = offset_of!(Backend, flags);
            let _ = self.maps().backends.store_u16(u32::from(*number), flags, 0);
            if let Some(entry) = removed {
                let backend = crate::endpoint::of(&entry);
                tracing::info!(pool = name, %backend, "the removed backend has no connection left");
            }
        }
        Ok(())
    }

    fn slots_name(&self, pool: &str, number: u16) -> bool {
        self.pools.get(pool).is_some_and(|pool| {
            let words: Vec<SlotWord> = self.words(pool);
            crate::slots::in_use(&words).contains(&number)
        })
    }

    /// Takes note that `PENDING` and `FLOWS` may be other maps now.
    pub(super) fn records_have_moved(&mut self) {
        self.rounds.generation += 1;
        for pool in self.pools.values_mut() {
            pool.settler.interrupt();
        }
    }

    /// Takes numbers that records name though no backend has them: of pools that an earlier agent
    /// forgot.
    pub(super) fn adopt_records(&mut self) -> io::Result<()> {
        let mut named = BTreeSet::new();
        let maps = self.dataplane.maps();
        for records in [&maps.pending, &maps.flows] {
            records.for_each(|_, value| {
                named.insert(value.backend());
            })?;
        }
        self.rounds.records =
            !named.is_empty() || self.services.values().any(|(_, entry)| is_tracked(entry));
        for number in named {
            if !self.numbers.contains(number) {
                self.numbers.insert(number);
                self.rounds.quarantine.insert(number);
            }
        }
        Ok(())
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

fn is_removed(entry: &Backend) -> bool {
    entry.cause & backend_cause::REMOVED != 0
}
