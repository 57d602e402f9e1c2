//! The keyed hash of a flow, which picks its slot.
//!
//! A multiply-and-fold hash over 64-bit words: a few nanoseconds in eBPF, where jhash takes twice
//! that. Its key keeps a stranger from choosing flows that fall into one slot; it is no message
//! authentication code.

/// Odd, with bits spread evenly: 2^64 divided by the golden ratio (Knuth, TAOCP 3, section 6.4).
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash in the making.
#[derive(Clone, Copy)]
pub struct FlowHash(u64, u64);

impl FlowHash {
    /// Starts a hash under a 128-bit key.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: [u64; 2]) -> Self {
        Self(key[0], key[1])
    }

    /// Takes in a word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let mixed = (self.0 ^ word).wrapping_mul(MULTIPLIER);
        Self((mixed ^ (mixed >> 32)).wrapping_add(self.1), self.1)
    }

    /// The hash.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u32 {
        let mixed = self.0.wrapping_mul(MULTIPLIER);
        (mixed >> 32) as u32
    }
}

/// The slot of a hash in a ring of `slots` slots, by multiply and shift, which needs no division.
#[inline(always)]
#[must_use]
pub const fn slot(hash: u32, slots: u32) -> u32 {
    ((hash as u64 * slots as u64) >> 32) as u32
}

/// Another hash of the same flow, which tells nothing of the first (MurmurHash3's finalizer).
#[inline(always)]
#[must_use]
pub const fn another(hash: u32) -> u32 {
    let mixed = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
    mixed ^ (mixed >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

    fn v4(source: u32, destination: u32, ports: u32) -> u32 {
        FlowHash::new(KEY)
            .word(u64::from(source) | u64::from(destination) << 32)
            .word(u64::from(ports) | 6 << 32)
            .finish()
    }

    /// Pearson's chi-squared over the slots, divided by its degrees of freedom: about 1 for a hash
    /// that spreads like chance.
    fn unevenness(hashes: impl Iterator<Item = u32>, slots: u32) -> f64 {
        let mut counts = vec![0u32; slots as usize];
        let mut total = 0u32;
        for hash in hashes {
            counts[slot(hash, slots) as usize] += 1;
            total += 1;
        }
        let expected = f64::from(total) / f64::from(slots);
        counts
            .iter()
            .map(|&count| (f64::from(count) - expected).powi(2) / expected)
            .sum::<f64>()
            / f64::from(slots - 1)
    }

    #[test]
    fn flows_that_differ_little_spread_evenly() {
        let vip = u32::from_le_bytes([192, 0, 2, 10]);
        let one_client =
            (0..65_536u32).map(|port| v4(0x0500_000a, vip, port.to_be() >> 16 | 0xbb01_0000));
        let one_port =
            (0..65_536u32).map(|host| v4((0x0a00_0000 | host).to_be(), vip, 0x1234_bb01));
        for (name, value) in [
            ("ports", unevenness(one_client, 1021)),
            ("hosts", unevenness(one_port, 1021)),
        ] {
            assert!((0.7..1.4).contains(&value), "{name}: {value}");
        }
    }

    #[test]
    fn another_key_gives_other_slots() {
        let with = |key: [u64; 2]| FlowHash::new(key).word(1).word(2).finish();
        assert_ne!(with(KEY), with([KEY[0] ^ 1, KEY[1]]));
        assert_ne!(with(KEY), with([KEY[0], KEY[1] ^ 1]));
    }

    #[test]
    fn another_hash_is_spread_evenly_over_the_flows_of_a_slot() {
        let of_one_slot = (0..2_000_000u32)
            .map(|port| v4(0x0500_000a, port, port))
            .filter(|&hash| slot(hash, 61) == 17)
            .map(another);
        let value = unevenness(of_one_slot, 61);
        assert!((0.6..1.5).contains(&value), "{value}");
    }

    #[test]
    fn a_slot_is_below_the_number_of_slots() {
        assert_eq!(slot(0, 65_537), 0);
        assert_eq!(slot(u32::MAX, 65_537), 65_536);
    }
}
