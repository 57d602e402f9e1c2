//! What the program remembers of a datagram that comes in fragments.

use core::ptr;

use crate::{flow::FlowKey, maps::Backend};

/// What every fragment's length and offset but the last one's are multiples of, in bytes (RFC 791).
pub const UNIT_BYTES: u32 = 8;

/// Pieces of a datagram that are kept apart at most. Fragments that come in their order are one piece.
pub const PIECES_MAX: usize = 8;

/// Seconds that the fragments of a datagram of IPv4 are waited for: Linux's `ipfrag_time`, within RFC 791's
/// bounds. Identifications of 16 bits come again soon (RFC 4963), so that longer would be worse.
pub const LIFETIME4_S: u32 = 30;

/// The same of IPv6 (RFC 8200, section 4.5).
pub const LIFETIME6_S: u32 = 60;

/// The protocol of the endpoints in `VIPS4` and `VIPS6` that stand for fragments to a service which
/// chooses for them by addresses: that of the fragment header of IPv6, which no service has. In place of
/// the port is the service's protocol.
pub const ENDPOINT_PROTOCOL: u8 = 44;

/// The port of such an endpoint, in network byte order.
#[inline(always)]
#[must_use]
pub const fn endpoint_port_be(protocol: u8) -> u16 {
    (protocol as u16).to_be()
}

/// The key of a datagram in `FRAGMENTS`: that of a flow, with the identification in place of ports. Of
/// IPv6 the protocol is not part of it (RFC 8200, section 4.5).
#[inline(always)]
#[must_use]
pub const fn key(ends: &FlowKey, identification_be: u32) -> FlowKey {
    FlowKey {
        source: ends.source,
        destination: ends.destination,
        source_port_be: identification_be as u16,
        destination_port_be: (identification_be >> 16) as u16,
        protocol: if ends.family == 6 { 0 } else { ends.protocol },
        family: ends.family,
        reserved: 0,
    }
}

/// What tells a backend from one that has got its number since.
#[inline(always)]
#[must_use]
pub const fn identity(backend: &Backend) -> u32 {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = backend.address;
    u32::from_ne_bytes([a, b, c, d])
        ^ u32::from_ne_bytes([e, f, g, h])
        ^ u32::from_ne_bytes([i, j, k, l])
        ^ u32::from_ne_bytes([m, n, o, p])
        ^ backend.port_be as u32
}

/// Bits of [`FragmentRecord::flags`].
pub mod fragment_flag {
    /// The datagram is a reply of the backend.
    pub const REPLY: u16 = 1 << 0;
    /// Its fragments contradict one another: what still comes of it is dropped (RFC 5722).
    pub const BROKEN: u16 = 1 << 1;
}

/// Where the first fragment of a datagram went, and what has been seen of the datagram: value of
/// `FRAGMENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct FragmentRecord {
    /// Number of the service.
    pub service: u32,
    /// Number of the backend that it is for, or of that it is from.
    pub backend: u16,
    /// Bits of [`fragment_flag`].
    pub flags: u16,
    /// [`identity`] of the backend.
    pub identity: u32,
    /// Hash of the flow.
    pub hash: u32,
    /// When the first fragment was seen, in seconds of CLOCK_MONOTONIC.
    pub seen_s: u32,
    /// Where the datagram ends, in units; 0: its last fragment was not seen.
    pub end: u32,
    /// Pieces of the datagram that were seen, which neither overlap nor touch: 0 is none.
    pub pieces: [Piece; PIECES_MAX],
}

const _: () = assert!(size_of::<FragmentRecord>() == 56);

/// A piece of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Piece(pub u32);

impl Piece {
    /// From a unit to before another one, which is greater.
    #[inline(always)]
    #[must_use]
    pub const fn new(start: u32, end: u32) -> Self {
        Self(start << 16 | end)
    }

    /// Its first unit.
    #[inline(always)]
    #[must_use]
    pub const fn start(self) -> u32 {
        self.0 >> 16
    }

    /// The unit after its last one; 0: there is no piece.
    #[inline(always)]
    #[must_use]
    pub const fn end(self) -> u32 {
        self.0 & 0xffff
    }
}

/// What a fragment is to those of its datagram that were seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// A part that was missing.
    Part,
    /// The last part that was missing.
    Whole,
    /// All of it was there.
    Again,
    /// Some of it was there, or it ends where the datagram can't end: it contradicts the others.
    Contradiction,
    /// There are too many pieces to keep them apart.
    Scattered,
}

/// What a look through the pieces finds. The program keeps it in a map: of what is there the verifier knows
/// nothing, and so does not walk on for each case by itself.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Search {
    /// Where the piece begins that the fragment makes with its neighbours.
    from: u32,
    /// Where that ends.
    to: u32,
    /// Places of the piece before, of the piece behind, and of none, each plus one; 0: there is no such.
    left: u32,
    right: u32,
    free: u32,
    /// Not 0: all of it was there.
    again: u32,
    /// Not 0: some of it was there.
    overlaps: u32,
    /// Not 0: there is something behind it.
    is_inner: u32,
}

/// Writes a word into memory, not into a register.
#[inline(always)]
fn put(word: &mut u32, value: u32) {
    // SAFETY: it is a reference.
    unsafe { ptr::write_volatile(word, value) };
}

/// Reads a word that was written so.
#[inline(always)]
fn get(word: &u32) -> u32 {
    // SAFETY: it is a reference.
    unsafe { ptr::read_volatile(word) }
}

impl FragmentRecord {
    /// Adds a fragment from a byte to before another, which is the datagram's last unless more follow.
    /// Nothing changes if it is no new part.
    #[inline(always)]
    pub fn add(
        &mut self,
        search: &mut Search,
        start_bytes: u32,
        end_bytes: u32,
        more: bool,
    ) -> Added {
        let start = start_bytes / UNIT_BYTES;
        let end = end_bytes.div_ceil(UNIT_BYTES);
        self.search(search, start, end);
        if get(&search.again) != 0 {
            return Added::Again;
        }
        let is_beyond = self.end != 0 && end > self.end;
        let is_cut = !more && get(&search.is_inner) != 0;
        if get(&search.overlaps) != 0 || is_beyond || is_cut {
            return Added::Contradiction;
        }
        let (left, right) = (get(&search.left), get(&search.right));
        let mut place = get(&search.free);
        if right != 0 {
            place = right;
        }
        if left != 0 {
            place = left;
        }
        if place == 0 {
            return Added::Scattered;
        }
        if right != 0 {
            self.pieces[(right - 1) as usize % PIECES_MAX] = Piece(0);
        }
        let (from, to) = (get(&search.from), get(&search.to));
        self.pieces[(place - 1) as usize % PIECES_MAX] = Piece::new(from, to);
        if !more {
            self.end = end;
        }
        if from == 0 && to == self.end {
            Added::Whole
        } else {
            Added::Part
        }
    }

    #[inline(always)]
    fn search(&self, search: &mut Search, start: u32, end: u32) {
        put(&mut search.from, start);
        put(&mut search.to, end);
        for word in [
            &mut search.left,
            &mut search.right,
            &mut search.free,
            &mut search.again,
            &mut search.overlaps,
            &mut search.is_inner,
        ] {
            put(word, 0);
        }
        for index in 0..PIECES_MAX {
            let piece = self.pieces[index];
            let number = index as u32 + 1;
            if piece.end() == 0 {
                put(&mut search.free, number);
            } else if piece.end() <= start {
                if piece.end() == start {
                    put(&mut search.from, piece.start());
                    put(&mut search.left, number);
                }
            } else if piece.start() >= end {
                put(&mut search.is_inner, 1);
                if piece.start() == end {
                    put(&mut search.to, piece.end());
                    put(&mut search.right, number);
                }
            } else if piece.start() <= start && end <= piece.end() {
                put(&mut search.again, 1);
            } else {
                put(&mut search.overlaps, 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As [`FragmentRecord::add`], with a mark for each unit.
    #[derive(Default)]
    struct Marks {
        seen: Vec<bool>,
        end: Option<usize>,
    }

    impl Marks {
        fn pieces(&self) -> usize {
            let mut before = false;
            let mut pieces = 0;
            for &is in &self.seen {
                pieces += usize::from(is && !before);
                before = is;
            }
            pieces
        }

        fn add(&mut self, start: usize, end: usize, more: bool) -> Added {
            self.seen.resize(self.seen.len().max(end), false);
            let there = self.seen[start..end].iter().filter(|seen| **seen).count();
            if there == end - start {
                return Added::Again;
            }
            let beyond = self.end.is_some_and(|known| end > known);
            let cut = !more && self.seen[end..].contains(&true);
            if there > 0 || beyond || cut {
                return Added::Contradiction;
            }
            let before = self.seen.clone();
            self.seen[start..end].fill(true);
            if self.pieces() > PIECES_MAX {
                self.seen = before;
                return Added::Scattered;
            }
            if !more {
                self.end = Some(end);
            }
            let whole = self
                .end
                .is_some_and(|end| self.seen[..end] == vec![true; end]);
            if whole { Added::Whole } else { Added::Part }
        }
    }

    proptest! {
        #[test]
        fn pieces_say_what_a_mark_for_each_unit_says(
            fragments in prop::collection::vec((0_usize..60, 1_usize..5, 0_usize..8, prop::bool::weighted(0.9)), 1..60)
        ) {
            let (mut record, mut marks) = (FragmentRecord::default(), Marks::default());
            for (start, units, short, more) in fragments {
                let bytes = units * 8 - if more { 0 } else { short };
                let from = (start * 8) as u32;
                let added = record.add(&mut Search::default(), from, from + bytes as u32, more);
                prop_assert_eq!(added, marks.add(start, start + units, more));
            }
        }
    }

    #[test]
    fn in_whatever_order_a_datagram_becomes_whole_at_its_last_part() {
        for order in [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ] {
            let mut record = FragmentRecord::default();
            let parts = [(0, 1480, true), (1480, 2960, true), (2960, 4008, false)];
            let added = order.map(|index| {
                let (start, end, more) = parts[index];
                record.add(&mut Search::default(), start, end, more)
            });
            assert_eq!(added, [Added::Part, Added::Part, Added::Whole], "{order:?}");
        }
    }

    #[test]
    fn of_ipv6_the_protocol_does_not_tell_datagrams_apart() {
        let ends = |family, protocol| FlowKey {
            source: [1, 0],
            destination: [2, 0],
            source_port_be: 0,
            destination_port_be: 0,
            protocol,
            family,
            reserved: 0,
        };
        assert_eq!(key(&ends(6, 17), 5), key(&ends(6, 60), 5));
        assert_ne!(key(&ends(4, 17), 5), key(&ends(4, 6), 5));
        assert_ne!(key(&ends(4, 17), 5), key(&ends(4, 17), 5 << 16));
    }
}
