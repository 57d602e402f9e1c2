//! What is remembered of datagrams.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use xlb_common::{
    fragment::{self, Added, FragmentRecord, Piece, UNIT_BYTES, fragment_flag},
    reason::Reason,
};

use super::{Part, step, way};
use crate::{
    family::Family,
    maps::FRAGMENTS,
    packet::{Packet, Ports},
};

const SECOND_NS: u64 = 1_000_000_000;

#[inline(always)]
fn now_s() -> u32 {
    // SAFETY: the helper takes nothing and gives a number.
    (unsafe { bpf_ktime_get_coarse_ns() } / SECOND_NS) as u32
}

/// Notes the key of a fragment's datagram, and what a record of it would begin with.
#[inline(always)]
pub fn note_key<F: Family>(packet: &Packet<F>, part: &Part) -> Result<(), Reason> {
    let none = Ports {
        source_be: 0,
        destination_be: 0,
    };
    let step = step()?;
    step.key = fragment::key(
        &F::flow_key(packet, none, part.number),
        part.fragment.identification_be,
    );
    let (_, end) = part.range();
    step.record.pieces[0] = Piece::new(0, end / UNIT_BYTES);
    Ok(())
}

/// What is remembered of the datagram, if that is not too old; else null.
#[inline(always)]
pub fn remembered<F: Family>() -> Result<*mut FragmentRecord, Reason> {
    let key = &step()?.key;
    let Some(record) = FRAGMENTS.get_ptr_mut(key) else {
        return Ok(ptr::null_mut());
    };
    // SAFETY: the pointer is to a value of the map, which stays memory of the map.
    let seen_s = unsafe { (*record).seen_s };
    if now_s().wrapping_sub(seen_s) >= F::FRAGMENTS_LIFETIME_S {
        return Ok(ptr::null_mut());
    }
    Ok(record)
}

/// Adds a fragment to what has been seen of its datagram, and notes where that goes. When it is whole, it is
/// forgotten.
#[inline(always)]
pub fn add(part: &Part, record: *mut FragmentRecord) -> Result<(), Reason> {
    // SAFETY: as in `remembered`. Another CPU may add another fragment at the same time, and what it notes may
    // be lost: then the record ends by its age. The kernel may even give the memory to another datagram, whose
    // service and backend are then checked as this one's are.
    let record = unsafe { &mut *record };
    if record.flags & fragment_flag::BROKEN != 0 {
        return Err(Reason::FragmentOverlap);
    }
    let step = step()?;
    let (start, end) = part.range();
    let added = record.add(&mut step.search, start, end, part.fragment.more);
    match added {
        Added::Part | Added::Whole => {}
        Added::Again => return Err(Reason::FragmentOverlap),
        Added::Contradiction => {
            record.flags |= fragment_flag::BROKEN;
            return Err(Reason::FragmentOverlap);
        }
        Added::Scattered => return Err(Reason::FragmentScattered),
    }
    if way::is_first(step.way) {
        // It is never missing from what is remembered.
        return Err(Reason::FragmentOverlap);
    }
    step.record.service = record.service;
    step.record.backend = record.backend;
    step.record.flags = record.flags;
    step.record.identity = record.identity;
    step.record.hash = record.hash;
    if matches!(added, Added::Whole) {
        let key = &step.key;
        let _ = FRAGMENTS.remove(key);
    }
    Ok(())
}

/// Remembers where a fragment went, if it is the first of a datagram.
#[inline(always)]
pub fn remember() -> Result<(), Reason> {
    let step = step()?;
    if !way::is_first(step.way) {
        return Ok(());
    }
    step.record.seen_s = now_s();
    // The other pieces and the end are always zeros: nothing else is written there. Without a record, the
    // other fragments are dropped, and counted then.
    let (key, record) = (&step.key, &step.record);
    let _ = FRAGMENTS.insert(key, record, 0);
    Ok(())
}
