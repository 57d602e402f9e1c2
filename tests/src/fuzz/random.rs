//! Random numbers that are the same for a seed for ever (SplitMix64), so that a printed seed gives its
//! frames again.

/// A source of chance.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn long(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below another one, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.long()) * end.max(1) as u128) >> 64) as usize
    }

    /// A number between two, the second one not included.
    pub(super) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to.saturating_sub(from))
    }

    /// Whether something happens that does so in so many of a hundred cases.
    pub(super) fn percent(&mut self, of_hundred: usize) -> bool {
        self.below(100) < of_hundred
    }

    pub(super) fn coin(&mut self) -> bool {
        self.percent(50)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.long() as u8
    }

    pub(super) fn half(&mut self) -> u16 {
        self.long() as u16
    }

    pub(super) fn word(&mut self) -> u32 {
        self.long() as u32
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.byte()).collect()
    }

    /// One of some, which are not none.
    pub(super) fn pick<T: Copy + Default>(&mut self, of: &[T]) -> T {
        let at = self.below(of.len());
        of.get(at).copied().unwrap_or_default()
    }
}
