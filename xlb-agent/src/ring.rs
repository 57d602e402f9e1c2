//! The Maglev ring of a pool: which backend a slot's new flows go to.
//!
//! Each backend has its own permutation of the slots, and the backends take turns in claiming the
//! next free slot of theirs (Eisenbud et al., Maglev, NSDI'16, section 3.4). The result is a pure
//! function of key and set of backends, so that the nodes of a fleet agree without talking.

mod deal;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use self::deal::Table;

/// A backend as the ring sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Address and port: what the nodes of a fleet know it by.
    pub identity: SocketAddr,
    /// Its share, relative to the others; 0: none.
    pub weight: u32,
    /// Its number on this host, not 0; what is written into the ring.
    pub number: u16,
}

/// Fills `out`, a number for each slot, with the ring of `members`; with 0 if none has weight.
///
/// Slots are dealt in rounds: the heaviest member takes a slot in each, another one whenever its
/// weight of the rounds since its last turn has come up to the heaviest's. `out.len()` should be a
/// prime and at least a hundred times the number of members.
pub fn build(key: [u8; 16], members: &[Member], out: &mut [u16]) {
    out.fill(0);
    let Ok(slots) = u32::try_from(out.len()) else {
        return;
    };
    if slots == 0 {
        return;
    }
    let mut order: Vec<(u64, &Member)> = members
        .iter()
        .filter(|member| member.weight > 0 && member.number != 0)
        .map(|member| (identity_hash(key, member.identity), member))
        .collect();
    order.sort_by_key(|&(hash, member)| (hash, member.identity));
    order.dedup_by_key(|&mut (_, member)| member.identity);
    let weights = order.iter().map(|(_, member)| member.weight);
    let Some(heaviest) = weights.max() else {
        return;
    };
    let table = Table::new(slots);
    let hands = order
        .iter()
        .map(|&(hash, member)| {
            // Two draws from the one hash: where the permutation begins, and its step.
            let first = (mix(hash ^ 1) % u64::from(slots)) as u32;
            let step = (mix(hash ^ 2) % u64::from(slots - 1).max(1)) as u32 + 1;
            table.hand(first, step, member.weight, heaviest, member.number)
        })
        .collect();
    table.deal(hands, out);
}

/// A fingerprint of a ring as 16 hexadecimal digits: over the identities of the slots' backends,
/// not their numbers, which differ between the nodes of a fleet.
#[must_use]
pub fn ring_hash(key: [u8; 16], members: &[Member], ring: &[u16]) -> String {
    let identities: HashMap<u16, u64> = members
        .iter()
        .map(|member| (member.number, identity_hash(key, member.identity)))
        .collect();
    let hash = ring.iter().fold(ring.len() as u64, |hash, number| {
        mix(hash ^ identities.get(number).copied().unwrap_or(0))
    });
    format!("{hash:016x}")
}

/// A keyed hash of address and port.
fn identity_hash(key: [u8; 16], identity: SocketAddr) -> u64 {
    let key = u128::from_le_bytes(key);
    let address = match identity.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let words = [
        key as u64,
        (key >> 64) as u64,
        address as u64,
        (address >> 64) as u64,
        u64::from(identity.port()),
    ];
    words.into_iter().fold(0, |hash, word| mix(hash ^ word))
}

/// A bijection in which every bit of the input changes about half of the output: the finalizer of
/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), after its increment, so that 0 is not mapped to 0.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
