//! Collecting: which records may be deleted, and how.
//!
//! A packet may write a record at any time, and the kernel deletes by key whatever stands there. So
//! a record is not deleted where it is found idle: it gets a tombstone by compare-and-exchange of
//! its word, beside which packets write no new record; after an RCU grace period it is read again,
//! and deleted if the tombstone still stands and nobody has touched it, else the tombstone goes.

use xlb_common::{
    record::{FlowValue, TOMBSTONE},
    rule::{PENDING_TTL_S, age_s},
};

/// Whether a record of `PENDING` may get its tombstone.
#[must_use]
pub fn pending_is_over(value: FlowValue, idle_s: u32, now_s: u32) -> bool {
    let pending = value.pending();
    let life_s = if pending.confirmed {
        idle_s
    } else {
        PENDING_TTL_S
    };
    age_s(now_s, pending.time_s) > life_s
}

/// Whether a record of `FLOWS` may get its tombstone.
#[must_use]
pub fn flow_is_over(value: FlowValue, idle_s: u32, now_s: u32) -> bool {
    age_s(now_s, value.flow().seen_s) > idle_s
}

/// Whether a record that got its tombstone when it was `found` may be deleted, now that a grace
/// period has passed and it reads as `now`.
#[must_use]
pub fn may_delete(found: FlowValue, now: FlowValue) -> bool {
    now.word == found.word_with_tombstone(true)
        && now.flags() & TOMBSTONE != 0
        && now.seen_s == found.seen_s
        && now.isn == found.isn
}

#[cfg(test)]
mod tests {
    use xlb_common::record::CONFIRMED;

    use super::*;

    #[test]
    fn handshakes_end_after_their_ttl_and_flows_after_the_idle_time() {
        let pending = FlowValue::new(1, 0, 7, 5, 100);
        assert!(!pending_is_over(pending, 3600, 164));
        assert!(pending_is_over(pending, 3600, 165));
        let confirmed = FlowValue::new(1, CONFIRMED, 7, 5, 100);
        assert!(!pending_is_over(confirmed, 3600, 3700));
        assert!(pending_is_over(confirmed, 3600, 3701));
        assert!(!flow_is_over(pending, 3600, 3700));
        assert!(flow_is_over(pending, 3600, 3701));
    }

    #[test]
    fn a_record_that_was_touched_is_not_deleted() {
        let found = FlowValue::new(1, 0, 7, 5, 100);
        let buried = FlowValue {
            word: found.word_with_tombstone(true),
            ..found
        };
        assert!(may_delete(found, buried));
        assert!(!may_delete(found, found));
        for touched in [
            FlowValue {
                seen_s: 101,
                ..buried
            },
            FlowValue { isn: 6, ..buried },
            FlowValue::new(2, TOMBSTONE, 7, 5, 100),
            FlowValue::new(1, TOMBSTONE, 8, 5, 100),
        ] {
            assert!(!may_delete(found, touched));
        }
    }
}
