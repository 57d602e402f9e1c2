//! The Internet checksum (RFC 1071), and how it follows a change (RFC 1624).
//!
//! Words are taken as the machine loads them: the one's-complement sum does not depend on the byte
//! order (RFC 1071, section 2, B).

/// Folds a sum of 16-bit words to 16 bits, adding the carries back in.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The change of a checksum when 32 bits `old` become `new`: to be added to others of its kind and
/// given to [`update`].
#[inline(always)]
#[must_use]
pub const fn difference32(old: u32, new: u32) -> u64 {
    (!old) as u64 + new as u64
}

/// The change of a checksum when 16 bits `old` become `new`.
#[inline(always)]
#[must_use]
pub const fn difference16(old: u16, new: u16) -> u64 {
    (!old) as u64 + new as u64
}

/// The checksum after a change whose differences add up to `difference` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub const fn update(checksum: u16, difference: u64) -> u16 {
    !fold((!checksum) as u64 + difference)
}

/// The checksum of an IPv4 header after its TTL was made one less: the byte of a word that is the first
/// in the packet lost one, so that the checksum's gains one, and what is carried out of it comes back
/// in. Never all ones, which no header with a TTL has (RFC 1141).
#[inline(always)]
#[must_use]
pub const fn after_hop(checksum: u16) -> u16 {
    let sum = checksum as u32 + u16::from_ne_bytes([1, 0]) as u32;
    let carried = (sum >= 0xffff) as u32;
    (sum + carried) as u16
}

/// The checksum over 16-bit words that add up to `sum`.
#[inline(always)]
#[must_use]
pub const fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// Sum of the 16-bit words of 32 bits, to be given to [`finish`].
#[inline(always)]
#[must_use]
pub const fn sum32(word: u32) -> u64 {
    word as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 as it is written, over bytes.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn an_update_equals_a_new_sum(mut bytes in prop::collection::vec(any::<u8>(), 40), new: u32, port: u16) {
            let before = naive(&bytes);
            let old = u32::from_ne_bytes(bytes[8..12].try_into().unwrap());
            let old_port = u16::from_ne_bytes(bytes[20..22].try_into().unwrap());
            bytes[8..12].copy_from_slice(&new.to_ne_bytes());
            bytes[20..22].copy_from_slice(&port.to_ne_bytes());
            let after = update(before, difference32(old, new) + difference16(old_port, port));
            // 0 and 0xffff are both zero in one's complement; a sum of all-zero bytes is the only
            // one that tells them apart.
            prop_assert_eq!(after % 0xffff, naive(&bytes) % 0xffff);
        }

        #[test]
        fn a_hop_changes_the_checksum_as_a_new_sum_does(
            mut header in prop::collection::vec(any::<u8>(), 20),
            ttl in 1..=255_u8,
        ) {
            (header[8], header[10], header[11]) = (ttl, 0, 0);
            let before = naive(&header);
            header[8] -= 1;
            prop_assert_eq!(after_hop(before) % 0xffff, naive(&header) % 0xffff);
        }

        #[test]
        fn finish_agrees_with_the_rfc(words in prop::collection::vec(any::<u32>(), 1..10)) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            prop_assert_eq!(finish(words.iter().map(|&word| sum32(word)).sum()), naive(&bytes));
        }
    }
}
