//! A round: what is done beside the event loop while slots settle and records grow old. It may take
//! long, since it reads every record.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    time::{Duration, Instant},
};

use xlb_common::{
    collect::{Exchange, table},
    hash,
    maps::FlowKey,
    record::{FlowValue, TOMBSTONE},
};

use super::find::Finder;
use crate::{
    dataplane::{Records, rcu_grace_period},
    slots,
};

/// Records that one round deletes at most; the next one goes on.
const COLLECTED_MAX: usize = 65_536;

/// What a round has to know of the services.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// Number of the pool.
    pub(super) pool: u32,
    /// Slots of its ring.
    pub(super) ring_slots: u32,
    /// For how long records are kept, seconds.
    pub(super) idle_s: u32,
    /// Whether packets look for records in marked slots only, so that records that point elsewhere
    /// need the mark.
    pub(super) needs_marks: bool,
    /// Whether the hash takes the client's address only.
    pub(super) by_client: bool,
}

/// A round that is to be run beside the event loop.
#[derive(Debug)]
pub struct Round {
    pub(super) records: Records,
    pub(super) generation: u64,
    pub(super) owners: Finder<Owner>,
    /// For how long records are kept whose service is gone, seconds.
    pub(super) orphan_idle_s: u32,
    pub(super) hash_key: [u64; 2],
    pub(super) now_s: u32,
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Found {
    pub(super) generation: u64,
    /// Backends of records, by the number of the pool and the slot.
    pub(super) backends: HashMap<(u32, u32), BTreeSet<u16>>,
    /// Records by backend.
    pub(super) by_backend: BTreeMap<u16, u64>,
    /// Records by backend that stand for an open connection of it.
    pub(super) counted: BTreeMap<u16, u64>,
    /// Those of them that were deleted.
    pub(super) released: BTreeMap<u16, u64>,
    /// Records of `PENDING`.
    pub(super) pending: u64,
    /// Records of `FLOWS`.
    pub(super) flows: u64,
    /// Records that were deleted.
    pub(super) collected: u64,
    /// How long the round took.
    pub(super) took: Duration,
}

/// A record that is over: in `PENDING` or not, and what it said.
type Over = (bool, FlowKey, FlowValue);

impl Round {
    /// Waits until the packets that were inside have left, reads the records, and deletes those that
    /// are over.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn run(mut self) -> io::Result<Found> {
        let begun = Instant::now();
        rcu_grace_period();
        let mut found = Found {
            generation: self.generation,
            ..Found::default()
        };
        let mut over = Vec::new();
        let mut unearthed = Vec::new();
        // Records go from the one to the other, so in this order none is overlooked.
        for is_pending in [true, false] {
            let records = if is_pending {
                &self.records.pending
            } else {
                &self.records.flows
            };
            records.for_each(|key, value| {
                let idle_s = self.note(&mut found, &key, value);
                let count = if is_pending {
                    &mut found.pending
                } else {
                    &mut found.flows
                };
                *count += 1;
                let is_over = if is_pending {
                    slots::pending_is_over(value, idle_s, self.now_s)
                } else {
                    slots::flow_is_over(value, idle_s, self.now_s)
                };
                if is_over && over.len() < COLLECTED_MAX {
                    over.push((is_pending, key, value));
                } else if !is_over && value.flags() & TOMBSTONE != 0 {
                    // An agent that gave it one has died.
                    unearthed.push(exchange(is_pending, key, value, false));
                }
            })?;
        }
        self.records.exchange(&unearthed)?;
        self.collect(&over, &mut found)?;
        found.took = begun.elapsed();
        Ok(found)
    }

    /// Notes where a record points; gives the seconds for which it is kept.
    fn note(&self, found: &mut Found, key: &FlowKey, value: FlowValue) -> u32 {
        *found.by_backend.entry(value.backend()).or_default() += 1;
        if value.is_counted() {
            *found.counted.entry(value.backend()).or_default() += 1;
        }
        let Some(owner) = self.owners.find(key) else {
            return self.orphan_idle_s;
        };
        if !owner.needs_marks {
            return owner.idle_s;
        }
        let hash = if owner.by_client {
            key.client_hash(self.hash_key)
        } else {
            key.hash(self.hash_key)
        };
        let slot = hash::slot(hash, owner.ring_slots);
        let backends = found.backends.entry((owner.pool, slot)).or_default();
        backends.insert(value.backend());
        owner.idle_s
    }

    /// Deletes the records that nobody touches meanwhile.
    fn collect(&mut self, over: &[Over], found: &mut Found) -> io::Result<()> {
        if over.is_empty() {
            return Ok(());
        }
        let buried: Vec<Exchange> = over
            .iter()
            .map(|&(is_pending, key, value)| exchange(is_pending, key, value, true))
            .collect();
        self.records.exchange(&buried)?;
        rcu_grace_period();
        let mut unearthed = Vec::new();
        for &(is_pending, key, value) in over {
            let records = if is_pending {
                &self.records.pending
            } else {
                &self.records.flows
            };
            let Some(now) = records.get(&key)? else {
                continue;
            };
            if slots::may_delete(value, now) {
                if self.records.remove(is_pending, &key)? {
                    found.collected += 1;
                    if value.is_counted() {
                        *found.released.entry(value.backend()).or_default() += 1;
                    }
                }
            } else if now.flags() & TOMBSTONE != 0 {
                unearthed.push(exchange(is_pending, key, now, false));
            }
        }
        self.records.exchange(&unearthed)
    }
}

/// Sets the tombstone of a record, or takes it away.
fn exchange(is_pending: bool, key: FlowKey, value: FlowValue, buried: bool) -> Exchange {
    Exchange {
        key,
        table: if is_pending {
            table::PENDING
        } else {
            table::FLOWS
        },
        old: value.word,
        new: value.word_with_tombstone(buried),
    }
}
