//! A slot of a pool's Maglev ring while it moves, and what the data path knows of a backend.

use crate::maps::backend_flag;

/// What a slot means, in one word, so that the data path sees all of it or none of a change.
///
/// `stable` is where flows without a record belong, `target` is where new ones go. A slot without
/// a mark has no record in any table, and both are equal.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotWord(pub u64);

const _: () = assert!(size_of::<SlotWord>() == 8);

/// Packets of the slot have to be looked up: a record may point away from `stable`.
const MARK: u64 = 1 << 32;
/// The agent is about to make `target` the stable backend: nothing may newly rely on `stable`.
const SETTLING: u64 = 1 << 33;

impl SlotWord {
    /// A slot at rest.
    #[inline(always)]
    #[must_use]
    pub const fn rest(backend: u16) -> Self {
        Self(backend as u64 | (backend as u64) << 16)
    }

    /// A slot that moves from `stable` to `target`.
    #[inline(always)]
    #[must_use]
    pub const fn marked(stable: u16, target: u16) -> Self {
        Self(stable as u64 | (target as u64) << 16 | MARK)
    }

    /// Where flows without a record belong.
    #[inline(always)]
    #[must_use]
    pub const fn stable(self) -> u16 {
        self.0 as u16
    }

    /// Where new flows go.
    #[inline(always)]
    #[must_use]
    pub const fn target(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether packets of the slot have to be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn is_marked(self) -> bool {
        self.0 & MARK != 0
    }

    /// Whether the agent is about to make `target` the stable backend.
    #[inline(always)]
    #[must_use]
    pub const fn is_settling(self) -> bool {
        self.0 & SETTLING != 0
    }

    /// The same with another `stable`.
    #[inline(always)]
    #[must_use]
    pub const fn with_stable(self, stable: u16) -> Self {
        Self(self.0 & !0xffff | stable as u64)
    }

    /// The same with another `target`.
    #[inline(always)]
    #[must_use]
    pub const fn with_target(self, target: u16) -> Self {
        Self(self.0 & !0xffff_0000 | (target as u64) << 16)
    }

    /// The same with or without the mark.
    #[inline(always)]
    #[must_use]
    pub const fn with_mark(self, marked: bool) -> Self {
        if marked {
            Self(self.0 | MARK)
        } else {
            Self(self.0 & !MARK)
        }
    }

    /// The same, settling or not.
    #[inline(always)]
    #[must_use]
    pub const fn with_settling(self, settling: bool) -> Self {
        if settling {
            Self(self.0 | SETTLING)
        } else {
            Self(self.0 & !SETTLING)
        }
    }
}

/// What the data path knows of a backend: bits of [`backend_flag`].
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BackendFlags(pub u16);

const _: () = assert!(size_of::<BackendFlags>() == 2);

impl BackendFlags {
    /// Whether any of the bits is set.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// The same with the bits set or cleared.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, bits: u16, set: bool) -> Self {
        if set {
            Self(self.0 | bits)
        } else {
            Self(self.0 & !bits)
        }
    }

    /// Whether established flows may be sent to it.
    #[inline(always)]
    #[must_use]
    pub const fn ok(self) -> bool {
        self.0 & (backend_flag::USED | backend_flag::DEAD) == backend_flag::USED
    }

    /// Whether new flows may be sent to it.
    #[inline(always)]
    #[must_use]
    pub const fn accepts(self) -> bool {
        self.0
            & (backend_flag::USED | backend_flag::DRAIN | backend_flag::DOWN | backend_flag::DEAD)
            == backend_flag::USED
    }

    /// Whether a new flow that was sent to it would find nobody.
    #[inline(always)]
    #[must_use]
    pub const fn is_down(self) -> bool {
        self.0 & (backend_flag::USED | backend_flag::DOWN | backend_flag::DEAD)
            != backend_flag::USED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_a_word_is_its_own() {
        let word = SlotWord::marked(0xfffe, 0x8001);
        assert_eq!((word.stable(), word.target()), (0xfffe, 0x8001));
        assert!(word.is_marked() && !word.is_settling());
        let word = word.with_settling(true).with_stable(7).with_target(0xffff);
        assert_eq!((word.stable(), word.target()), (7, 0xffff));
        assert!(word.is_marked() && word.is_settling());
        let word = word.with_mark(false).with_settling(false).with_target(7);
        assert_eq!(word, SlotWord::rest(7));
    }

    #[test]
    fn a_backend_accepts_only_when_nothing_speaks_against_it() {
        use backend_flag as bit;
        let cases = [
            // bits, ok, accepts, is_down
            (0, false, false, true),
            (bit::USED, true, true, false),
            (bit::USED | bit::DRAIN, true, false, false),
            (bit::USED | bit::DOWN, true, false, true),
            (bit::USED | bit::DOWN | bit::DEAD, false, false, true),
            (bit::USED | bit::DEAD, false, false, true),
            (bit::DRAIN, false, false, true),
        ];
        for (bits, ok, accepts, down) in cases {
            let flags = BackendFlags(bits);
            assert_eq!(
                (flags.ok(), flags.accepts(), flags.is_down()),
                (ok, accepts, down),
                "{bits:#06b}"
            );
        }
    }
}
