//! Open connections under `least-connections`: from SYN to FIN or RST, each counted once
//! (docs/policies.md).

use xlb_common::{
    flow::FlowKey,
    record::{COUNTED, FlowValue},
    rule::{Verdict, What},
};

use super::balance::Model;

/// What was recorded of a flow before a packet.
pub(super) struct Counted {
    pending: Option<FlowValue>,
    flow: Option<FlowValue>,
}

/// Whether a segment ends its connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends(bool);

impl Ends {
    pub(super) fn by(flags: u8) -> Self {
        Self(flags & 0x05 != 0)
    }
}

impl Counted {
    pub(super) fn of(model: &Model, key: &FlowKey) -> Self {
        Self {
            pending: model.pending.of(key),
            flow: model.flows.of(key),
        }
    }
}

impl Model {
    /// Follows with counts and marks what a packet has done to the records of its flow.
    pub(super) fn count(&mut self, key: &FlowKey, before: &Counted, verdict: Verdict, ends: Ends) {
        match verdict.what {
            What::SynRecorded => {
                self.release(before.pending);
                self.mark(key, true, true);
                self.add(verdict.backend, 1);
            }
            What::FlowRecorded => {
                self.release(before.flow);
                self.mark(key, false, true);
                self.add(verdict.backend, 1);
            }
            What::Promoted => {
                let isn = before.pending.map(|pending| pending.isn);
                let replaced = before.flow.filter(|flow| Some(flow.isn) != isn);
                self.release(replaced);
                let counted = before.pending.is_some_and(FlowValue::is_counted);
                self.mark(key, false, counted);
            }
            // Another connection in the record of one that may have ended.
            What::FullReused => {
                let pending = before.pending.is_some();
                let record = if pending {
                    self.pending.of(key)
                } else {
                    self.flows.of(key)
                };
                if let Some(record) = record.filter(|record| !record.is_counted()) {
                    self.add(record.backend(), 1);
                    self.mark(key, pending, true);
                }
            }
            What::Rest
            | What::Datagram
            | What::Untracked
            | What::SynUnrecorded
            | What::SynAgain
            | What::FullToStable
            | What::FullDropped
            | What::TombstoneDropped
            | What::Confirmed
            | What::Recorded
            | What::Missed
            | What::Moved
            | What::FlowFull => {}
        }
        if !verdict.is_drop() && (ends.0 || verdict.what == What::Moved) {
            let flow = self.flows.of(key);
            self.release(flow.or(self.pending.of(key)));
            self.mark(key, flow.is_none(), false);
        }
    }

    /// A record that counted is no more.
    fn release(&mut self, record: Option<FlowValue>) {
        if let Some(record) = record.filter(|record| record.is_counted()) {
            self.add(record.backend(), -1);
        }
    }

    fn mark(&mut self, key: &FlowKey, pending: bool, counted: bool) {
        let table = if pending {
            &mut self.pending
        } else {
            &mut self.flows
        };
        if let Some(value) = table.of(key) {
            let bit = u64::from(COUNTED) << 16;
            let word = if counted {
                value.word | bit
            } else {
                value.word & !bit
            };
            table.set_word(key, word);
        }
    }

    fn add(&mut self, number: u16, by: i64) {
        if let Some(place) = usize::from(number).checked_sub(1)
            && let Some(backend) = self.world.backends.get_mut(place)
        {
            backend.connections += by;
        }
    }
}
