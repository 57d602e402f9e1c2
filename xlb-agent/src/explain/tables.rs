//! The tables of the rule, of which nothing is written.

use xlb_common::{
    record::{Flow, FlowValue, Pending},
    rule::{Insert, Tables},
    slot::BackendFlags,
};

use super::Facts;

/// What was read, as the rule wants it. Writes change nothing: no rule reads what it has written.
pub(super) struct ReadOnly<'a> {
    facts: &'a Facts,
}

impl<'a> ReadOnly<'a> {
    pub(super) const fn new(facts: &'a Facts) -> Self {
        Self { facts }
    }
}

impl Tables for ReadOnly<'_> {
    fn now_s(&mut self) -> u32 {
        self.facts.now_s
    }

    fn pending(&mut self) -> Option<Pending> {
        self.facts.pending.map(FlowValue::pending)
    }

    fn flow(&mut self) -> Option<Flow> {
        self.facts.flow.map(FlowValue::flow)
    }

    fn flags(&mut self, backend: u16) -> BackendFlags {
        let entry = self.facts.backends.get(&backend);
        BackendFlags(entry.map_or(0, |entry| entry.flags))
    }

    fn choose(&mut self) -> u16 {
        self.facts.choice
    }

    fn insert_pending(&mut self, _backend: u16, _isn: u32, _now_s: u32) -> Insert {
        inserted(self.facts.pending, self.facts.pending_room)
    }

    fn insert_flow(&mut self, _backend: u16, _isn: u32, _now_s: u32) -> Insert {
        inserted(self.facts.flow, self.facts.flows_room)
    }

    fn overwrite_pending(&mut self, _backend: u16, _isn: u32, _now_s: u32) {}
    fn touch_pending(&mut self, _now_s: u32) {}
    fn reopen_pending(&mut self, _isn: u32, _now_s: u32) {}
    fn confirm_pending(&mut self, _now_s: u32) {}
    fn delete_pending(&mut self) {}
    fn overwrite_flow(&mut self, _backend: u16, _isn: u32, _now_s: u32) {}
    fn touch_flow(&mut self, _now_s: u32) {}
    fn reopen_flow(&mut self, _isn: u32, _now_s: u32) {}
    fn touch_last_miss(&mut self, _now_s: u32) {}
}

/// What the kernel would say to an insertion.
const fn inserted(known: Option<FlowValue>, has_room: bool) -> Insert {
    if known.is_some() {
        Insert::Exists
    } else if has_room {
        Insert::Inserted
    } else {
        Insert::Full
    }
}
