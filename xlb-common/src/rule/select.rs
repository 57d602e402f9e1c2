//! The decisions of the rule, a function for each kind of packet.

use super::{
    Flow, HANDSHAKE_WINDOW, Insert, Kind, PENDING_TTL_S, Pending, SlotWord, Tables, Verdict, What,
    without,
};

/// Decides where a packet goes.
///
/// `always_tracked`: the policy decides per flow (round-robin, least-connections), and every flow is
/// recorded. For such a service, and for one of UDP that tracks its flows, every slot counts as
/// marked: `slot` is then the slot's word [with the mark](SlotWord::with_mark), which other services
/// of the pool do not see.
#[inline(always)]
pub fn select<T: Tables>(
    tables: &mut T,
    slot: SlotWord,
    packet: Kind,
    always_tracked: bool,
) -> Verdict {
    select_without::<T, 0>(tables, slot, packet, always_tracked)
}

/// [`select`] with the parts of the rule in `OFF` switched off, for the simulation.
#[inline(always)]
pub fn select_without<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    packet: Kind,
    always_tracked: bool,
) -> Verdict {
    if !slot.is_marked() {
        return Verdict::to(slot.stable(), What::Rest);
    }
    if packet == Kind::Datagram {
        return Verdict::to(slot.target(), What::Datagram);
    }
    if packet == Kind::TrackedDatagram {
        // No datagram begins a handshake.
        let flow = tables.flow();
        return datagram::<T, OFF>(tables, slot, flow, always_tracked);
    }
    let (pending, flow) = if on::<OFF>(without::PENDING_READ_FIRST) {
        let pending = tables.pending();
        (pending, tables.flow())
    } else {
        let flow = tables.flow();
        (tables.pending(), flow)
    };
    let pending = match pending {
        Some(pending) if alive::<T, OFF>(tables, pending) => Some(pending),
        Some(_) | None => None,
    };
    match packet {
        Kind::Syn { isn } => syn::<T, OFF>(tables, slot, isn, pending, flow, always_tracked),
        Kind::Segment { sequence } => {
            segment::<T, OFF>(tables, slot, sequence, pending, flow, always_tracked)
        }
        Kind::Untracked | Kind::Datagram | Kind::TrackedDatagram => {
            let backend = match (pending, flow) {
                (Some(pending), _) => pending.backend,
                (None, Some(flow)) => flow.backend,
                (None, None) => slot.stable(),
            };
            Verdict::to(backend, What::Untracked)
        }
    }
}

/// Whether a part of the rule is in force.
#[inline(always)]
const fn on<const OFF: u32>(part: u32) -> bool {
    OFF & part == 0
}

/// Whether a record of `PENDING` still counts.
#[inline(always)]
fn alive<T: Tables, const OFF: u32>(tables: &mut T, pending: Pending) -> bool {
    pending.confirmed
        || !on::<OFF>(without::TTL)
        || age_s(tables.now_s(), pending.time_s) <= PENDING_TTL_S
}

/// Seconds since `then_s`; 0 for a time that another CPU's clock put a moment ahead.
#[inline(always)]
#[must_use]
pub const fn age_s(now_s: u32, then_s: u32) -> u32 {
    now_s.saturating_sub(then_s)
}

/// Whether established flows may be sent to the backend.
#[inline(always)]
fn ok<T: Tables, const OFF: u32>(tables: &mut T, backend: u16) -> bool {
    !on::<OFF>(without::DEAD_MOVES) || tables.flags(backend).ok()
}

#[inline(always)]
fn syn<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    isn: u32,
    pending: Option<Pending>,
    flow: Option<Flow>,
    always_tracked: bool,
) -> Verdict {
    let tombstone = on::<OFF>(without::TOMBSTONE);
    if let Some(pending) = pending {
        if on::<OFF>(without::SYN_FOLLOWS_PENDING)
            && pending.isn == isn
            && ok::<T, OFF>(tables, pending.backend)
        {
            let now_s = tables.now_s();
            tables.touch_pending(now_s);
            return Verdict::to(pending.backend, What::SynAgain);
        }
        // An established flow that stands in PENDING for want of room is worth as much as one in
        // FLOWS: a SYN with another number, perhaps forged, must not take its route.
        if on::<OFF>(without::CONFIRMED_STAYS)
            && pending.confirmed
            && ok::<T, OFF>(tables, pending.backend)
        {
            if tables.flags(pending.backend).is_down() {
                return Verdict::drop(What::FullDropped);
            }
            if tombstone && pending.tombstone {
                return Verdict::drop(What::TombstoneDropped);
            }
            let now_s = tables.now_s();
            tables.reopen_pending(isn, now_s);
            return Verdict::to(pending.backend, What::FullReused);
        }
    }
    let buried = tombstone && matches!(flow, Some(flow) if flow.tombstone);
    let mut want = 0;
    if let Some(flow) = flow
        && !buried
    {
        if on::<OFF>(without::SYN_FOLLOWS_FLOW)
            && flow.isn == isn
            && ok::<T, OFF>(tables, flow.backend)
        {
            // Where there was no room, this record is all that the handshake has.
            let now_s = tables.now_s();
            tables.touch_flow(now_s);
            return Verdict::to(flow.backend, What::SynAgain);
        }
        // A policy that decides by connection does so for a port that is used again as well: the
        // ports of a busy client are hardly ever new.
        if on::<OFF>(without::PORT_USED_AGAIN)
            && !always_tracked
            && tables.flags(flow.backend).accepts()
        {
            want = flow.backend;
        }
    }
    if want == 0 {
        want = wanted(tables, slot, always_tracked);
    }
    let settling = on::<OFF>(without::SETTLING_RECORDS) && slot.is_settling();
    // A record of an older connection of this port must be replaced: a late segment of that one
    // could still promote it, and take this one's route.
    let beside = on::<OFF>(without::RECORD_BESIDE_FLOW) && flow.is_some()
        || on::<OFF>(without::RECORD_BESIDE_PENDING) && pending.is_some();
    if want == slot.stable() && !beside && !settling && !always_tracked {
        if on::<OFF>(without::MISS_OF_SYN) {
            let now_s = tables.now_s();
            tables.touch_last_miss(now_s);
        }
        return Verdict::to(want, What::SynUnrecorded);
    }
    if buried {
        return Verdict::drop(What::TombstoneDropped);
    }
    let now_s = tables.now_s();
    match tables.insert_pending(want, isn, now_s) {
        Insert::Inserted => Verdict::to(want, What::SynRecorded),
        Insert::Exists => record_again::<T, OFF>(tables, want, isn, now_s),
        Insert::Full => full::<T, OFF>(tables, slot, isn, flow, settling),
    }
}

/// Where a new flow goes.
#[inline(always)]
fn wanted<T: Tables>(tables: &mut T, slot: SlotWord, always_tracked: bool) -> u16 {
    if always_tracked {
        let chosen = tables.choose();
        if chosen != 0 {
            return chosen;
        }
    }
    slot.target()
}

/// A SYN whose handshake is already recorded: by another CPU a moment ago, or from an older
/// connection of the same port.
#[inline(always)]
fn record_again<T: Tables, const OFF: u32>(
    tables: &mut T,
    want: u16,
    isn: u32,
    now_s: u32,
) -> Verdict {
    if let Some(other) = tables.pending() {
        if on::<OFF>(without::TOMBSTONE) && other.tombstone {
            return Verdict::drop(What::TombstoneDropped);
        }
        if on::<OFF>(without::SYN_FOLLOWS_PENDING)
            && other.isn == isn
            && age_s(now_s, other.time_s) <= PENDING_TTL_S
            && ok::<T, OFF>(tables, other.backend)
        {
            tables.touch_pending(now_s);
            return Verdict::to(other.backend, What::SynAgain);
        }
    }
    tables.overwrite_pending(want, isn, now_s);
    Verdict::to(want, What::SynRecorded)
}

/// A SYN that found no room in `PENDING`.
#[inline(always)]
fn full<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    isn: u32,
    flow: Option<Flow>,
    settling: bool,
) -> Verdict {
    let now_s = tables.now_s();
    if let Some(flow) = flow
        && on::<OFF>(without::FULL_FOLLOWS_FLOW)
    {
        if tables.flags(flow.backend).is_down() {
            return Verdict::drop(What::FullDropped);
        }
        tables.reopen_flow(isn, now_s);
        return Verdict::to(flow.backend, What::FullReused);
    }
    if settling || on::<OFF>(without::FULL_DROPS_DOWN) && tables.flags(slot.stable()).is_down() {
        return Verdict::drop(What::FullDropped);
    }
    if on::<OFF>(without::MISS_OF_FULL) {
        tables.touch_last_miss(now_s);
    }
    Verdict::to(slot.stable(), What::FullToStable)
}

#[inline(always)]
fn segment<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    sequence: u32,
    pending: Option<Pending>,
    flow: Option<Flow>,
    always_tracked: bool,
) -> Verdict {
    if let Some(pending) = pending
        && (pending.confirmed
            || !on::<OFF>(without::SEQUENCE)
            || sequence.wrapping_sub(pending.isn) <= HANDSHAKE_WINDOW)
    {
        if !ok::<T, OFF>(tables, pending.backend) {
            return Verdict::to(slot.target(), What::Moved);
        }
        let now_s = tables.now_s();
        recorded_at_stable::<T, OFF>(tables, slot, pending.backend, now_s, always_tracked);
        let what = if promote::<T, OFF>(tables, pending, flow, now_s) {
            What::Promoted
        } else {
            What::Confirmed
        };
        return Verdict::to(pending.backend, what);
    }
    if let Some(flow) = flow {
        let now_s = tables.now_s();
        if on::<OFF>(without::TOUCH_FLOW) {
            tables.touch_flow(now_s);
        }
        if ok::<T, OFF>(tables, flow.backend) {
            recorded_at_stable::<T, OFF>(tables, slot, flow.backend, now_s, always_tracked);
            return Verdict::to(flow.backend, What::Recorded);
        }
        return Verdict::to(slot.target(), What::Moved);
    }
    if on::<OFF>(without::MISS_OF_SEGMENT) {
        let now_s = tables.now_s();
        tables.touch_last_miss(now_s);
    }
    if ok::<T, OFF>(tables, slot.stable()) {
        Verdict::to(slot.stable(), What::Missed)
    } else {
        Verdict::to(slot.target(), What::Moved)
    }
}

/// A flow that needs `stable` although it has a record here: another node of the fleet, to which a
/// router may send it, has none. Without this the fleet would settle while the flow talks. Flows of
/// a policy that decides by connection are lost on another node wherever they are, and keep no slot
/// from settling.
#[inline(always)]
fn recorded_at_stable<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    backend: u16,
    now_s: u32,
    always_tracked: bool,
) {
    if on::<OFF>(without::MISS_OF_RECORDED)
        && !always_tracked
        && backend == slot.stable()
        && backend != slot.target()
    {
        tables.touch_last_miss(now_s);
    }
}

/// Moves a handshake's record from `PENDING` to `FLOWS`; where that has no room, or holds a record
/// that is just being deleted, the record stays and is confirmed. Whether it was moved.
#[inline(always)]
fn promote<T: Tables, const OFF: u32>(
    tables: &mut T,
    pending: Pending,
    flow: Option<Flow>,
    now_s: u32,
) -> bool {
    if !on::<OFF>(without::FLOWS_WRITTEN_FIRST) {
        tables.delete_pending();
    }
    let written = match flow {
        Some(flow) if on::<OFF>(without::TOMBSTONE) && flow.tombstone => false,
        Some(_) => {
            tables.overwrite_flow(pending.backend, pending.isn, now_s);
            true
        }
        // Another packet of the same flow may have been faster.
        None => tables.insert_flow(pending.backend, pending.isn, now_s) != Insert::Full,
    };
    if written {
        if on::<OFF>(without::FLOWS_WRITTEN_FIRST) {
            tables.delete_pending();
        }
    } else if pending.confirmed {
        tables.touch_pending(now_s);
    } else if on::<OFF>(without::CONFIRM) {
        tables.confirm_pending(now_s);
    }
    written
}

#[inline(always)]
fn datagram<T: Tables, const OFF: u32>(
    tables: &mut T,
    slot: SlotWord,
    flow: Option<Flow>,
    always_tracked: bool,
) -> Verdict {
    let now_s = tables.now_s();
    if let Some(flow) = flow
        && (flow.tombstone || ok::<T, OFF>(tables, flow.backend))
    {
        tables.touch_flow(now_s);
        return Verdict::to(flow.backend, What::Recorded);
    }
    let want = wanted(tables, slot, always_tracked);
    if flow.is_some() {
        tables.overwrite_flow(want, 0, now_s);
        return Verdict::to(want, What::FlowRecorded);
    }
    match tables.insert_flow(want, 0, now_s) {
        Insert::Inserted => Verdict::to(want, What::FlowRecorded),
        Insert::Exists => match tables.flow() {
            Some(other) => Verdict::to(other.backend, What::Recorded),
            None => Verdict::to(want, What::FlowFull),
        },
        Insert::Full => {
            tables.touch_last_miss(now_s);
            if ok::<T, OFF>(tables, slot.stable()) {
                Verdict::to(slot.stable(), What::FlowFull)
            } else {
                Verdict::to(slot.target(), What::FlowFull)
            }
        }
    }
}
