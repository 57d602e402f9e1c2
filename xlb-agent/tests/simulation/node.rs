//! A balancer node: its maps, and what a packet sees of them.

use std::collections::{BTreeMap, BTreeSet};

use xlb_common::{
    maps::backend_flag,
    record::{CONFIRMED, Flow, FlowValue, Pending, TOMBSTONE},
    rule::{BackendFlags, Insert, SlotWord, Tables},
};

use crate::{agent::Agent, off::Off, services::SERVICES, world::World};

/// Slots of the pool; prime.
pub(crate) const SLOTS: usize = 7;
/// Numbers for backends, 0 included: few, so that they are used again soon.
pub(crate) const NUMBERS: usize = 8;

/// The slot of a flow.
pub(crate) fn slot_of(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b9) % SLOTS as u32
}

/// A BPF hash with a bound.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) records: BTreeMap<u32, FlowValue>,
    pub(crate) capacity: usize,
}

impl Table {
    fn insert(&mut self, key: u32, value: FlowValue, off: Off) -> Insert {
        if self.records.contains_key(&key) {
            return Insert::Exists;
        }
        if self.records.len() >= self.capacity {
            if off != Off::NothingEvicted {
                return Insert::Full;
            }
            let oldest = self.records.iter().min_by_key(|(_, value)| value.seen_s);
            if let Some((&oldest, _)) = oldest {
                self.records.remove(&oldest);
            }
        }
        self.records.insert(key, value);
        Insert::Inserted
    }

    fn touch(&mut self, key: u32, isn: Option<u32>, now_s: u32) {
        if let Some(value) = self.records.get_mut(&key) {
            value.seen_s = now_s;
            value.isn = isn.unwrap_or(value.isn);
        }
    }
}

/// A node of the fleet.
pub(crate) struct Node {
    /// Whether it announces its VIPs.
    pub(crate) announced: bool,
    /// Whether it runs at all.
    pub(crate) alive: bool,
    /// Which of its lives this is.
    pub(crate) life: u32,
    pub(crate) moving: bool,
    /// Services that keep a record of every flow.
    pub(crate) tracked: [bool; SERVICES],
    pub(crate) words: Vec<SlotWord>,
    pub(crate) ring: Vec<u16>,
    pub(crate) last_miss_s: Vec<u32>,
    pub(crate) pending: Table,
    pub(crate) flows: Table,
    pub(crate) flags: [BackendFlags; NUMBERS],
    /// The server that a number stands for.
    pub(crate) server: [Option<u8>; NUMBERS],
    /// Packets inside the program, by the order in which they came.
    pub(crate) inside: BTreeSet<u64>,
    pub(crate) agent: Agent,
}

impl Node {
    pub(crate) fn new(capacity: (usize, usize)) -> Self {
        let table = |capacity| Table {
            records: BTreeMap::new(),
            capacity,
        };
        Self {
            announced: false,
            alive: false,
            life: 0,
            moving: false,
            tracked: [false; SERVICES],
            words: vec![SlotWord::default(); SLOTS],
            ring: vec![0; SLOTS],
            last_miss_s: vec![0; SLOTS],
            pending: table(capacity.0),
            flows: table(capacity.1),
            flags: [BackendFlags(0); NUMBERS],
            server: [None; NUMBERS],
            inside: BTreeSet::new(),
            agent: Agent::default(),
        }
    }

    /// The server behind a number.
    pub(crate) fn server_of(&self, number: u16) -> Option<u8> {
        self.server.get(usize::from(number)).copied().flatten()
    }

    /// The number of a server.
    pub(crate) fn number_of(&self, server: u8) -> Option<u16> {
        (1..NUMBERS as u16).find(|&number| self.server_of(number) == Some(server))
    }

    /// A number that nothing names.
    pub(crate) fn free_number(&self) -> Option<u16> {
        (1..NUMBERS as u16).find(|&number| self.server_of(number).is_none())
    }

    pub(crate) fn table(&mut self, pending: bool) -> &mut Table {
        if pending {
            &mut self.pending
        } else {
            &mut self.flows
        }
    }
}

/// What a packet sees: every access lets the rest of the world go on before it.
pub(crate) struct View<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) node: usize,
    pub(crate) key: u32,
    pub(crate) slot: usize,
    pub(crate) now_s: Option<u32>,
}

impl View<'_> {
    fn node(&mut self) -> &mut Node {
        self.world.pause(self.key);
        &mut self.world.nodes[self.node]
    }
}

impl Tables for View<'_> {
    fn now_s(&mut self) -> u32 {
        *self.now_s.get_or_insert(self.world.now_s)
    }

    fn pending(&mut self) -> Option<Pending> {
        let key = self.key;
        Some(self.node().pending.records.get(&key)?.pending())
    }

    fn flow(&mut self) -> Option<Flow> {
        let key = self.key;
        Some(self.node().flows.records.get(&key)?.flow())
    }

    fn flags(&mut self, backend: u16) -> BackendFlags {
        let flags = self.node().flags;
        flags.get(usize::from(backend)).copied().unwrap_or_default()
    }

    fn choose(&mut self) -> u16 {
        let flags = self.node().flags;
        let accepting: Vec<u16> = (1..NUMBERS as u16)
            .filter(|&number| flags[usize::from(number)].accepts())
            .collect();
        self.world.rng.pick(&accepting).unwrap_or(0)
    }

    fn insert_pending(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let (key, off) = (self.key, self.world.off);
        let value = FlowValue::new(backend, 0, key, isn, now_s);
        self.node().pending.insert(key, value, off)
    }

    fn overwrite_pending(&mut self, backend: u16, isn: u32, now_s: u32) {
        let key = self.key;
        let value = FlowValue::new(backend, 0, key, isn, now_s);
        self.node().pending.records.insert(key, value);
    }

    fn touch_pending(&mut self, now_s: u32) {
        let key = self.key;
        self.node().pending.touch(key, None, now_s);
    }

    fn reopen_pending(&mut self, isn: u32, now_s: u32) {
        let key = self.key;
        self.node().pending.touch(key, Some(isn), now_s);
    }

    fn confirm_pending(&mut self, now_s: u32) {
        let key = self.key;
        if let Some(value) = self.node().pending.records.get_mut(&key) {
            value.word |= u64::from(CONFIRMED) << 16;
            value.seen_s = now_s;
        }
    }

    fn delete_pending(&mut self) {
        let key = self.key;
        self.node().pending.records.remove(&key);
    }

    fn insert_flow(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let (key, off) = (self.key, self.world.off);
        let value = FlowValue::new(backend, 0, key, isn, now_s);
        self.node().flows.insert(key, value, off)
    }

    fn overwrite_flow(&mut self, backend: u16, isn: u32, now_s: u32) {
        let key = self.key;
        let value = FlowValue::new(backend, 0, key, isn, now_s);
        self.node().flows.records.insert(key, value);
    }

    fn touch_flow(&mut self, now_s: u32) {
        let key = self.key;
        self.node().flows.touch(key, None, now_s);
    }

    fn reopen_flow(&mut self, isn: u32, now_s: u32) {
        let key = self.key;
        self.node().flows.touch(key, Some(isn), now_s);
    }

    fn touch_last_miss(&mut self, now_s: u32) {
        let slot = self.slot;
        self.node().last_miss_s[slot] = now_s;
    }
}

/// Whether a record has a tombstone.
pub(crate) fn is_buried(value: &FlowValue) -> bool {
    value.flags() & TOMBSTONE != 0
}

/// The flags of a backend that is configured.
pub(crate) fn flags_of(draining: bool, down: bool, dead: bool) -> BackendFlags {
    BackendFlags(backend_flag::USED)
        .with(backend_flag::DRAIN, draining)
        .with(backend_flag::DOWN, down)
        .with(backend_flag::DEAD, dead)
}
