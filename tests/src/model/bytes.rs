//! Fields in network byte order, and the Internet checksum (RFC 1071, RFC 1624).

use std::net::IpAddr;

/// Sixteen bits at an offset.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// An IP address at an offset.
pub(crate) fn address(bytes: &[u8], at: usize, v6: bool) -> IpAddr {
    if v6 {
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[at..at + 16]);
        IpAddr::from(octets)
    } else {
        let mut octets = [0; 4];
        octets.copy_from_slice(&bytes[at..at + 4]);
        IpAddr::from(octets)
    }
}

/// An address as it stands in a header.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The one's complement sum of 16-bit words; an odd byte at the end counts as a word with a zero
/// (RFC 1071).
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    fold(words.sum())
}

/// Adds two such sums.
pub(crate) fn add(one: u16, other: u16) -> u16 {
    fold(u64::from(one) + u64::from(other))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum after bytes that it covers have changed (RFC 1624, equation 3). They begin at an even
/// offset, and are as many as before.
#[must_use]
pub fn updated(checksum: u16, old: &[u8], new: &[u8]) -> u16 {
    !add(!checksum, add(!sum(old), sum(new)))
}

/// Writes new bytes over old ones, and makes checksums follow, which stand at these offsets.
pub(crate) fn rewrite(frame: &mut [u8], at: usize, new: &[u8], checksums: &[usize]) {
    let old = frame[at..at + new.len()].to_vec();
    frame[at..at + new.len()].copy_from_slice(new);
    for &place in checksums {
        let checksum = updated(be16(frame, place), &old, new);
        frame[place..place + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}
