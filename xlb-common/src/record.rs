//! A record of the tables `PENDING` and `FLOWS`.
//!
//! The kernel hands a deleted element of a BPF hash to the next key at once, while another CPU may
//! still hold a pointer to it. So a value says whose it is: a tag of its key stands in the same
//! word as the backend, and a record whose tag is another key's counts as none.

/// Value of `PENDING` and of `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowValue {
    /// Backend (bits 0 to 15), flags (16 to 31) and tag of the key (32 to 63).
    pub word: u64,
    /// Initial sequence number of the client, host order; 0 for UDP.
    pub isn: u32,
    /// `CLOCK_MONOTONIC` in seconds: in `PENDING` the last SYN, or the last packet of a confirmed
    /// flow; in `FLOWS` the last packet.
    pub seen_s: u32,
}

const _: () = assert!(size_of::<FlowValue>() == 16);
const _: () = assert!(align_of::<FlowValue>() == 8);

/// The flow is established, but found no room in `FLOWS`.
pub const CONFIRMED: u16 = 1;
/// The agent is about to delete the record.
pub const TOMBSTONE: u16 = 1 << 1;
/// The record stands for one of the open connections of its backend, as `CONNECTIONS` counts them.
/// Whoever takes the bit away, or the record with it, takes one from the count.
pub const COUNTED: u16 = 1 << 2;

/// What `PENDING` says of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where its SYN was sent.
    pub backend: u16,
    /// Initial sequence number of the client.
    pub isn: u32,
    /// Time of the last SYN, or of the last packet of a confirmed flow, seconds.
    pub time_s: u32,
    /// The flow is established, but found no room in `FLOWS`.
    pub confirmed: bool,
    /// The agent is about to delete the record.
    pub tombstone: bool,
}

/// What `FLOWS` says of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it lives.
    pub backend: u16,
    /// Initial sequence number of the client; 0 for UDP.
    pub isn: u32,
    /// Time of its last packet, seconds.
    pub seen_s: u32,
    /// The agent is about to delete the record.
    pub tombstone: bool,
}

impl FlowValue {
    /// A record of `backend` for the key with this tag.
    #[inline(always)]
    #[must_use]
    pub const fn new(backend: u16, flags: u16, tag: u32, isn: u32, seen_s: u32) -> Self {
        Self {
            word: Self::pack(backend, flags, tag),
            isn,
            seen_s,
        }
    }

    /// The word of a record.
    #[inline(always)]
    #[must_use]
    pub const fn pack(backend: u16, flags: u16, tag: u32) -> u64 {
        backend as u64 | (flags as u64) << 16 | (tag as u64) << 32
    }

    /// The backend of the record.
    #[inline(always)]
    #[must_use]
    pub const fn backend(self) -> u16 {
        self.word as u16
    }

    /// The flags of the record.
    #[inline(always)]
    #[must_use]
    pub const fn flags(self) -> u16 {
        (self.word >> 16) as u16
    }

    /// The tag of the record's key.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u32 {
        (self.word >> 32) as u32
    }

    /// Whether it stands for an open connection of its backend.
    #[inline(always)]
    #[must_use]
    pub const fn is_counted(self) -> bool {
        self.flags() & COUNTED != 0
    }

    /// The word with `COUNTED` set or cleared, for a compare-and-exchange.
    #[inline(always)]
    #[must_use]
    pub const fn word_with_counted(self, set: bool) -> u64 {
        let bit = (COUNTED as u64) << 16;
        if set {
            self.word | bit
        } else {
            self.word & !bit
        }
    }

    /// The word with `TOMBSTONE` set or cleared, for the agent's compare-and-exchange.
    #[inline(always)]
    #[must_use]
    pub const fn word_with_tombstone(self, set: bool) -> u64 {
        let bit = (TOMBSTONE as u64) << 16;
        if set {
            self.word | bit
        } else {
            self.word & !bit
        }
    }

    /// Reads a record that others may write, or whose element may just be given to another key.
    /// `None` if it is not the record of the key with this tag.
    ///
    /// # Safety
    ///
    /// `value` points to a `FlowValue` that stays mapped while this runs.
    #[inline(always)]
    #[must_use]
    pub unsafe fn read(value: *const Self, tag: u32) -> Option<Self> {
        // The word is read on both sides of the rest: if it is this key's both times, then what
        // lies between is this key's as well.
        // SAFETY: the caller promises that `value` is mapped; volatile, since others write to it.
        let (before, isn, seen_s, after) = unsafe {
            (
                (&raw const (*value).word).read_volatile(),
                (&raw const (*value).isn).read_volatile(),
                (&raw const (*value).seen_s).read_volatile(),
                (&raw const (*value).word).read_volatile(),
            )
        };
        if (before >> 32) as u32 != tag || (after >> 32) as u32 != tag {
            return None;
        }
        Some(Self {
            word: after,
            isn,
            seen_s,
        })
    }

    /// The value as a record of `PENDING`.
    #[inline(always)]
    #[must_use]
    pub const fn pending(self) -> Pending {
        Pending {
            backend: self.backend(),
            isn: self.isn,
            time_s: self.seen_s,
            confirmed: self.flags() & CONFIRMED != 0,
            tombstone: self.flags() & TOMBSTONE != 0,
        }
    }

    /// The value as a record of `FLOWS`.
    #[inline(always)]
    #[must_use]
    pub const fn flow(self) -> Flow {
        Flow {
            backend: self.backend(),
            isn: self.isn,
            seen_s: self.seen_s,
            tombstone: self.flags() & TOMBSTONE != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let value = FlowValue::new(0xfffe, CONFIRMED | TOMBSTONE, 0xdead_beef, 7, 9);
        assert_eq!(
            value.pending(),
            Pending {
                backend: 0xfffe,
                isn: 7,
                time_s: 9,
                confirmed: true,
                tombstone: true,
            }
        );
        let cleared = FlowValue {
            word: value.word_with_tombstone(false),
            ..value
        };
        assert_eq!(
            cleared.flow(),
            Flow {
                backend: 0xfffe,
                isn: 7,
                seen_s: 9,
                tombstone: false,
            }
        );
        assert_eq!(cleared.word_with_tombstone(true), value.word);
    }

    #[test]
    fn a_record_is_counted_or_not() {
        let value = FlowValue::new(3, CONFIRMED, 17, 7, 9);
        let counted = FlowValue {
            word: value.word_with_counted(true),
            ..value
        };
        assert!(counted.is_counted() && !value.is_counted());
        assert_eq!(
            counted.word,
            FlowValue::pack(3, CONFIRMED | COUNTED, 17),
            "nothing else changes"
        );
        assert_eq!(counted.word_with_counted(false), value.word);
    }

    #[test]
    fn a_record_of_another_key_counts_as_none() {
        let value = FlowValue::new(3, 0, 17, 7, 9);
        // SAFETY: `value` lives on this stack.
        let (own, other) = unsafe { (FlowValue::read(&value, 17), FlowValue::read(&value, 18)) };
        assert_eq!(own, Some(value));
        assert_eq!(other, None);
    }
}
