//! Counts the open connections of backends, for `least-connections`: each stands in one record, whose
//! bit says that it is counted, so that it is counted once however often its end is seen.

use xlb_common::record::FlowValue;

use crate::{
    atomic::{exchange, fetch_add},
    maps::CONNECTIONS,
};

/// Adds to the count of a backend.
#[inline(always)]
pub fn add(backend: u16, connections: i64) {
    if let Some(count) = CONNECTIONS.get_ptr_mut(u32::from(backend)) {
        // SAFETY: the pointer is to a value of the map.
        unsafe { fetch_add(count, connections as u64) };
    }
}

/// Open connections of a backend.
#[inline(always)]
pub fn of(backend: u16) -> u32 {
    match CONNECTIONS.get_ptr(u32::from(backend)) {
        // SAFETY: the pointer is to a value of the map; others add to it, hence volatile.
        Some(count) => {
            let count = unsafe { count.read_volatile() } as i64;
            // An end may be counted before its beginning, on another CPU.
            if count < 0 { 0 } else { count as u32 }
        }
        None => 0,
    }
}

/// Takes the connection of a record out of the count, if it is in.
#[inline(always)]
pub fn release(record: *mut FlowValue, tag: u32) {
    change(record, tag, false);
}

/// Has the connection of a record counted, if it is not.
#[inline(always)]
pub fn take(record: *mut FlowValue, tag: u32) {
    change(record, tag, true);
}

#[inline(always)]
fn change(record: *mut FlowValue, tag: u32, counted: bool) {
    if record.is_null() {
        return;
    }
    // SAFETY: the pointer came from a lookup in this run of the program, under the RCU lock that
    // keeps its memory mapped; others write to it, hence volatile.
    let word = unsafe { (&raw const (*record).word).read_volatile() };
    let old = FlowValue {
        word,
        isn: 0,
        seen_s: 0,
    };
    if old.tag() != tag || old.is_counted() == counted {
        return;
    }
    let new = old.word_with_counted(counted);
    // SAFETY: as above. If somebody else was faster, it is they who count.
    if unsafe { exchange(&raw mut (*record).word, word, new) } {
        add(old.backend(), if counted { 1 } else { -1 });
    }
}
