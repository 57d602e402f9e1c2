//! The tables of flows, as maps of the host.

use std::collections::HashMap;

use xlb_common::{
    flow::FlowKey,
    record::{CONFIRMED, Flow, FlowValue, Pending},
    rule::{Insert, Tables},
    slot::BackendFlags,
};

/// A record with its key.
pub type Record = (FlowKey, FlowValue);

/// A table with a bound.
#[derive(Clone, Debug)]
pub struct Records {
    records: HashMap<FlowKey, FlowValue>,
    room: usize,
}

impl Records {
    pub(super) fn new((records, room): &(Vec<Record>, usize)) -> Self {
        Self {
            records: records.iter().copied().collect(),
            room: *room,
        }
    }

    /// The record of a key, if it says that it is the key's.
    pub(super) fn of(&self, key: &FlowKey) -> Option<FlowValue> {
        let value = self.records.get(key)?;
        (value.tag() == key.tag()).then_some(*value)
    }

    fn insert(&mut self, key: FlowKey, value: FlowValue) -> Insert {
        if self.records.contains_key(&key) {
            Insert::Exists
        } else if self.records.len() >= self.room {
            Insert::Full
        } else {
            self.records.insert(key, value);
            Insert::Inserted
        }
    }

    fn overwrite(&mut self, key: FlowKey, value: FlowValue) {
        if self.insert(key, value) == Insert::Exists {
            self.records.insert(key, value);
        }
    }

    fn change(&mut self, key: &FlowKey, change: impl FnOnce(&mut FlowValue)) {
        if let Some(value) = self.records.get_mut(key)
            && value.tag() == key.tag()
        {
            change(value);
        }
    }

    /// Every record.
    pub fn iter(&self) -> impl Iterator<Item = (&FlowKey, &FlowValue)> {
        self.records.iter()
    }

    pub(super) fn set_word(&mut self, key: &FlowKey, word: u64) {
        self.change(key, |value| value.word = word);
    }
}

/// What the rule may ask and do for a packet.
pub(super) struct Access<'a> {
    pub(super) key: FlowKey,
    pub(super) now_s: u32,
    pub(super) pending: &'a mut Records,
    pub(super) flows: &'a mut Records,
    pub(super) flags: &'a dyn Fn(u16) -> BackendFlags,
    pub(super) choose: &'a mut dyn FnMut() -> u16,
    /// Whether a table was looked into.
    pub(super) looked_up: bool,
    /// Whether the use of `stable` was noted.
    pub(super) missed: bool,
}

impl Access<'_> {
    fn value(&self, backend: u16, isn: u32, now_s: u32) -> FlowValue {
        FlowValue::new(backend, 0, self.key.tag(), isn, now_s)
    }
}

impl Tables for Access<'_> {
    fn now_s(&mut self) -> u32 {
        self.now_s
    }

    fn pending(&mut self) -> Option<Pending> {
        self.looked_up = true;
        self.pending.of(&self.key).map(FlowValue::pending)
    }

    fn flow(&mut self) -> Option<Flow> {
        self.looked_up = true;
        self.flows.of(&self.key).map(FlowValue::flow)
    }

    fn flags(&mut self, backend: u16) -> BackendFlags {
        (self.flags)(backend)
    }

    fn choose(&mut self) -> u16 {
        (self.choose)()
    }

    fn insert_pending(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let value = self.value(backend, isn, now_s);
        self.pending.insert(self.key, value)
    }

    fn overwrite_pending(&mut self, backend: u16, isn: u32, now_s: u32) {
        let value = self.value(backend, isn, now_s);
        self.pending.overwrite(self.key, value);
    }

    fn touch_pending(&mut self, now_s: u32) {
        self.pending.change(&self.key, |value| value.seen_s = now_s);
    }

    fn reopen_pending(&mut self, isn: u32, now_s: u32) {
        self.pending
            .change(&self.key, |value| (value.isn, value.seen_s) = (isn, now_s));
    }

    fn confirm_pending(&mut self, now_s: u32) {
        self.pending.change(&self.key, |value| {
            value.word |= u64::from(CONFIRMED) << 16;
            value.seen_s = now_s;
        });
    }

    fn delete_pending(&mut self) {
        self.pending.records.remove(&self.key);
    }

    fn insert_flow(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let value = self.value(backend, isn, now_s);
        self.flows.insert(self.key, value)
    }

    fn overwrite_flow(&mut self, backend: u16, isn: u32, now_s: u32) {
        let value = self.value(backend, isn, now_s);
        self.flows.overwrite(self.key, value);
    }

    fn touch_flow(&mut self, now_s: u32) {
        self.flows.change(&self.key, |value| value.seen_s = now_s);
    }

    fn reopen_flow(&mut self, isn: u32, now_s: u32) {
        self.flows
            .change(&self.key, |value| (value.isn, value.seen_s) = (isn, now_s));
    }

    fn touch_last_miss(&mut self, _now_s: u32) {
        self.missed = true;
    }
}
