//! The rule of a packet: which backend it goes to while its slot moves, and what is recorded.
//!
//! One pure function for the XDP program and for the simulation that checks it against an oracle.
//! A slot at rest is answered from its word. In a marked slot, a flow that has a record goes where
//! the record says, and one without belongs to `stable`. Nothing is ever evicted: a new flow that
//! finds no room goes to `stable` and needs no record.
//!
//! The order of the accesses matters, because other CPUs and the agent work in between: `PENDING`
//! is read before `FLOWS`, and `FLOWS` is written before `PENDING` is deleted, so that a flow that
//! is being promoted is seen in one of them at any time.

mod select;
#[cfg(test)]
mod tests;

pub use select::{age_s, select, select_without};

pub use crate::record::{CONFIRMED, Flow, FlowValue, Pending, TOMBSTONE};
pub use crate::slot::{BackendFlags, SlotWord};

/// For how long a handshake's record counts, seconds. Covers retransmitted SYN-ACKs: five of them,
/// the last 31 s after the first and waited for until 63 s (RFC 6298 doubles from 1 s).
pub const PENDING_TTL_S: u32 = 64;

/// How far from the initial sequence number a segment may be to count as the handshake's end.
/// What a client sends before its first acknowledgement is within its initial window.
pub const HANDSHAKE_WINDOW: u32 = 65_536;

/// What a packet is to the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP with SYN and without ACK.
    Syn {
        /// Its sequence number, host order.
        isn: u32,
    },
    /// Any other TCP segment. FIN and RST too: half-closed connections still talk, and a forged
    /// RST must not delete a route.
    Segment {
        /// Its sequence number, host order.
        sequence: u32,
    },
    /// An ICMP error, or a fragment without ports: follows its flow and records nothing.
    /// Those of a stateless UDP service are a `Datagram`.
    Untracked,
    /// UDP of a service without tracking: moves with its slot.
    Datagram,
    /// UDP of a service that tracks its flows: a miss is a new flow.
    TrackedDatagram,
}

/// What was decided, and why. Names are those of counters.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// The slot has no mark.
    Rest = 0,
    /// UDP without tracking, in a slot that moves.
    Datagram,
    /// An ICMP error or a fragment.
    Untracked,
    /// A SYN that is recorded in `PENDING`: a new connection.
    SynRecorded,
    /// A SYN to `stable`, which needs no record: a new connection.
    SynUnrecorded,
    /// A SYN that was seen before.
    SynAgain,
    /// A SYN that found no room: it went to where the record of its port already points.
    FullReused,
    /// A SYN that found no room: it went to `stable`.
    FullToStable,
    /// A SYN that found no room, and could not go to `stable`: dropped, the client retries.
    FullDropped,
    /// A SYN whose port's record is just being deleted: dropped, the client retries.
    TombstoneDropped,
    /// The end of a handshake: the flow stands in `FLOWS` now.
    Promoted,
    /// The end of a handshake that found no room in `FLOWS`: the flow stays in `PENDING`.
    Confirmed,
    /// A flow that has a record.
    Recorded,
    /// A flow without a record: it belongs to `stable`.
    Missed,
    /// A flow whose backend is gone: it goes to `target`.
    Moved,
    /// A datagram that begins a recorded flow.
    FlowRecorded,
    /// A datagram that begins a flow and found no room in `FLOWS`: it went to `stable`.
    FlowFull,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Number of the backend; 0 if there is none, or if the packet is dropped.
    pub backend: u16,
    /// Why.
    pub what: What,
}

impl Verdict {
    #[inline(always)]
    const fn to(backend: u16, what: What) -> Self {
        Self { backend, what }
    }

    #[inline(always)]
    const fn drop(what: What) -> Self {
        Self { backend: 0, what }
    }

    /// Whether the packet is to be dropped, so that the client sends it again.
    #[inline(always)]
    #[must_use]
    pub const fn is_drop(self) -> bool {
        matches!(self.what, What::FullDropped | What::TombstoneDropped)
    }

    /// Whether the packet begins a connection or a flow, as far as the rule can tell.
    #[inline(always)]
    #[must_use]
    pub const fn begins(self) -> bool {
        matches!(
            self.what,
            What::SynRecorded
                | What::SynUnrecorded
                | What::FullReused
                | What::FullToStable
                | What::FlowRecorded
                | What::FlowFull
        )
    }
}

/// What came of an insertion that replaces nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// The record stands.
    Inserted,
    /// The key has a record already, which was left as it is.
    Exists,
    /// There is no room.
    Full,
}

/// What the rule needs to know, and may do, for the flow and the slot at hand.
///
/// Concerning `BPF_MAP_TYPE_HASH`: records are read by [`FlowValue::read`]. `overwrite_*` replaces
/// the element (`BPF_ANY`), since a write through a pointer may hit an element that is already
/// another key's; `touch_*` and `confirm_pending` write through the pointer of the last lookup,
/// since a replaced element can be invisible for an instant to a lookup on another CPU, which
/// would cost an established flow its route. `confirm_pending` does so by compare-and-exchange of
/// the word, whose tag fails where the element is another key's.
pub trait Tables {
    /// `CLOCK_MONOTONIC` in seconds; asked for only when needed.
    fn now_s(&mut self) -> u32;
    /// The record in `PENDING`, expired or not.
    fn pending(&mut self) -> Option<Pending>;
    /// The record in `FLOWS`.
    fn flow(&mut self) -> Option<Flow>;
    /// What is known of a backend; nothing of number 0.
    fn flags(&mut self, backend: u16) -> BackendFlags;
    /// The policy's choice for a new flow, where every flow is tracked; 0 if it has none.
    fn choose(&mut self) -> u16;
    /// Records a handshake, if none is recorded.
    fn insert_pending(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert;
    /// Records a handshake in place of another.
    fn overwrite_pending(&mut self, backend: u16, isn: u32, now_s: u32);
    /// Sets the time of the record in `PENDING`.
    fn touch_pending(&mut self, now_s: u32);
    /// Sets time and initial sequence number of the record in `PENDING`.
    fn reopen_pending(&mut self, isn: u32, now_s: u32);
    /// Sets `CONFIRMED` and the time of the record in `PENDING`.
    fn confirm_pending(&mut self, now_s: u32);
    /// Deletes the record in `PENDING`.
    fn delete_pending(&mut self);
    /// Records a flow, if none is recorded.
    fn insert_flow(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert;
    /// Records a flow in place of another.
    fn overwrite_flow(&mut self, backend: u16, isn: u32, now_s: u32);
    /// Sets the time of the record in `FLOWS`.
    fn touch_flow(&mut self, now_s: u32);
    /// Sets time and initial sequence number of the record in `FLOWS`.
    fn reopen_flow(&mut self, isn: u32, now_s: u32);
    /// Notes that a flow without a record used the slot's `stable`; writes only what changes.
    fn touch_last_miss(&mut self, now_s: u32);
}

/// Parts of the rule that the simulation switches off in turn, to show that it would notice. In
/// production none is, and the compiler removes what asks.
pub mod without {
    /// Read `FLOWS` before `PENDING`.
    pub const PENDING_READ_FIRST: u32 = 1;
    /// Delete from `PENDING` before writing `FLOWS`.
    pub const FLOWS_WRITTEN_FIRST: u32 = 1 << 1;
    /// Forget that a SYN was seen before.
    pub const SYN_FOLLOWS_PENDING: u32 = 1 << 2;
    /// Forget that a SYN belongs to a recorded flow.
    pub const SYN_FOLLOWS_FLOW: u32 = 1 << 3;
    /// Send a port that is used again to `target`, although its old record points elsewhere.
    pub const PORT_USED_AGAIN: u32 = 1 << 4;
    /// Leave a SYN to `stable` unrecorded although a record points elsewhere.
    pub const RECORD_BESIDE_FLOW: u32 = 1 << 5;
    /// Rely on `stable` while the agent settles.
    pub const SETTLING_RECORDS: u32 = 1 << 6;
    /// Do not note the use of `stable` by a SYN.
    pub const MISS_OF_SYN: u32 = 1 << 7;
    /// Do not note the use of `stable` by a SYN that found no room.
    pub const MISS_OF_FULL: u32 = 1 << 8;
    /// Do not note the use of `stable` by a segment.
    pub const MISS_OF_SEGMENT: u32 = 1 << 9;
    /// Write records beside tombstones.
    pub const TOMBSTONE: u32 = 1 << 10;
    /// Without room, ignore the record that the port has.
    pub const FULL_FOLLOWS_FLOW: u32 = 1 << 11;
    /// Without room, send to a `stable` that is down.
    pub const FULL_DROPS_DOWN: u32 = 1 << 12;
    /// Take any segment for the end of the pending handshake.
    pub const SEQUENCE: u32 = 1 << 13;
    /// Forget a flow that finds no room in `FLOWS` after the TTL.
    pub const CONFIRM: u32 = 1 << 14;
    /// Do not note that a recorded flow was used.
    pub const TOUCH_FLOW: u32 = 1 << 15;
    /// Let a SYN overwrite a confirmed flow.
    pub const CONFIRMED_STAYS: u32 = 1 << 16;
    /// Believe in handshakes for ever.
    pub const TTL: u32 = 1 << 17;
    /// Send flows to backends that are dead.
    pub const DEAD_MOVES: u32 = 1 << 18;
    /// Leave a SYN to `stable` unrecorded although an older handshake of its port is recorded.
    pub const RECORD_BESIDE_PENDING: u32 = 1 << 19;
    /// Do not note the use of `stable` by a flow that has a record.
    pub const MISS_OF_RECORDED: u32 = 1 << 20;
}
