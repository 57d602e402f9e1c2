//! What policies need besides slots: sequences of turns, and marks when a service stops to record
//! every flow.

use std::mem::offset_of;

use xlb_common::maps::{Service, service_state};

use super::{Engine, accepts};
use crate::{plan::Op, sequence, slots};

impl Engine {
    /// Brings a pool's sequence of turns in line with its backends, where a service wants one.
    pub(super) fn sync_sequence(&mut self, name: &str) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        let mut services = pool
            .services
            .iter()
            .filter_map(|key| self.services.get(key));
        let rotates = services.any(|(_, entry)| entry.state & service_state::ROUND_ROBIN != 0);
        let wanted = if rotates {
            let members = pool.backends.iter().filter(|(_, entry)| accepts(entry));
            let members: Vec<(u16, u16)> = members
                .map(|(&number, entry)| (number, entry.weight))
                .collect();
            sequence::build(&members, pool.ring_slots)
        } else {
            Vec::new()
        };
        let maps = self.dataplane.maps_mut();
        // Where a sequence grows, its entries stand before anybody reads that far; where it shrinks,
        // what is left behind names backends of which the program sees that they get nothing new.
        if pool.sequence.as_ref() != Some(&wanted) {
            for (place, &number) in (pool.ring_offset as usize..).zip(&wanted) {
                let _ = maps.sequences.store(place, number);
            }
        }
        let length = u32::try_from(wanted.len()).unwrap_or(0);
        for key in &pool.services {
            let Some((number, entry)) = self.services.get_mut(key) else {
                continue;
            };
            if entry.sequence_length != length {
                entry.sequence_length = length;
                let at = offset_of!(Service, sequence_length);
                let _ = maps.services.store_u32(*number, at, length);
            }
        }
        pool.sequence = Some(wanted);
    }

    /// Marks the slots of a pool in front of which a service stops to record every flow, before it
    /// does: see [`slots::mark_all`].
    pub(super) fn mark_all(&mut self, name: &str, now_s: u32) {
        let Some(pool) = self.pools.get_mut(name) else {
            return;
        };
        // A round that is under way does not look for the records of this service.
        pool.settler.interrupt();
        pool.settle_due_s = 0;
        let number = pool.number;
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        let words = self.words(pool);
        self.carry_out(name, Op::Moving { pool: number }, now_s);
        for write in slots::mark_all(&words) {
            self.carry_out(name, Op::Slot(write), now_s);
        }
    }
}

pub(super) const fn is_tracked(entry: &Service) -> bool {
    entry.state & service_state::TRACKED != 0
}
