//! The Maglev ring of a pool: which backend a slot's new flows go to.
//!
//! Each backend has its own permutation of the slots, and the backends take turns in claiming the
//! next free slot of theirs (Eisenbud et al., Maglev, NSDI'16, section 3.4). The result is a pure
//! function of key and set of backends, so that the nodes of a fleet agree without talking.

mod deal;
mod history;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
};

pub(crate) use self::deal::common_divisor;
use self::{
    deal::{Hand, Table},
    history::History,
};

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
    if let Some((table, hands)) = hands(key, members, out.len()) {
        table.deal(hands, out);
    }
}

/// The members in the order in which they get slots. `None`: there is none, or no slot.
fn hands(key: [u8; 16], members: &[Member], slots: usize) -> Option<(Table, Vec<Hand>)> {
    let slots = u32::try_from(slots).ok().filter(|&slots| slots > 0)?;
    let mut order: Vec<(u64, &Member)> = members
        .iter()
        .filter(|member| member.weight > 0 && member.number != 0)
        .map(|member| (identity_hash(key, member.identity), member))
        .collect();
    order.sort_by_key(|&(hash, member)| (hash, member.identity));
    order.dedup_by_key(|&mut (_, member)| member.identity);
    let heaviest = order.iter().map(|(_, member)| member.weight).max()?;
    let table = Table::new(slots);
    let hand = |&(hash, member): &(u64, &Member)| {
        // Two draws from the one hash: where the permutation begins, and its step.
        let first = (mix(hash ^ 1) % u64::from(slots)) as u32;
        let step = (mix(hash ^ 2) % u64::from(slots - 1).max(1)) as u32 + 1;
        table.hand(first, step, member.weight, heaviest, member.number)
    };
    Some((table, order.iter().map(hand).collect()))
}

/// The rings of a pool, one after the other: the same as those of [`build`]. What was done for one is
/// remembered, so that a ring that lacks a few of its members comes quickly.
#[derive(Debug, Default)]
pub struct Rings {
    base: Option<Base>,
}

#[derive(Debug)]
struct Base {
    key: [u8; 16],
    dealt: Arc<Dealt>,
    /// Whether [`Rings::prepare`] was asked to.
    is_prepared: bool,
}

/// A ring that was dealt anew.
#[derive(Debug)]
struct Dealt {
    members: Vec<Member>,
    ring: Vec<u16>,
    history: OnceLock<History>,
}

impl Rings {
    /// As [`build`] does.
    pub fn build(&mut self, key: [u8; 16], members: &[Member], out: &mut [u16]) {
        if let Some(base) = &self.base
            && base.key == key
            && base.dealt.derive(members, out)
        {
            return;
        }
        build(key, members, out);
        self.base = is_worth_it(members.len(), out.len()).then(|| Base {
            key,
            dealt: Arc::new(Dealt {
                members: members.to_vec(),
                ring: out.to_vec(),
                history: OnceLock::new(),
            }),
            is_prepared: false,
        });
    }

    /// Slots of the ring that something is remembered of; 0: none.
    #[must_use]
    pub fn slots_remembered(&self) -> usize {
        let prepared = self.base.as_ref().filter(|base| base.is_prepared);
        prepared.map_or(0, |base| base.dealt.ring.len())
    }

    /// What has to be done ahead for a ring with fewer members, if it was not yet and is worth it. It
    /// takes some milliseconds, beside whatever else goes on.
    pub fn prepare(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        let base = self.base.as_mut().filter(|base| !base.is_prepared)?;
        base.is_prepared = true;
        let (key, dealt) = (base.key, Arc::clone(&base.dealt));
        Some(move || {
            // Of members of the same identity, one takes the place of another that leaves.
            if let Some((table, hands)) = hands(key, &dealt.members, dealt.ring.len())
                && hands.len() == dealt.members.len()
            {
                let history = History::of(table, hands, &dealt.ring);
                // There is no other.
                let _ = dealt.history.set(history);
            }
        })
    }
}

impl Dealt {
    /// Makes the ring of `members` of this one, if they are a part of its members.
    fn derive(&self, members: &[Member], out: &mut [u16]) -> bool {
        let mut left = members.iter().peekable();
        let mut without = Vec::new();
        for member in &self.members {
            if left.next_if_eq(&member).is_none() {
                without.push(member.number);
            }
        }
        if left.next().is_some() || out.len() != self.ring.len() {
            return false;
        }
        let history = self.history.get();
        if without.len() > MISSING_MAX || (!without.is_empty() && history.is_none()) {
            return false;
        }
        out.copy_from_slice(&self.ring);
        without.is_empty() || history.is_some_and(|history| history.without(&without, out))
    }
}

/// Members that a ring may lack and still be made of another: more are rarely worth it.
const MISSING_MAX: usize = 64;

/// Whether a ring without a member comes quicker from what is remembered. That goes by the square of
/// a member's share, since each slot that it had makes others get another one in the rounds after.
const fn is_worth_it(members: usize, slots: usize) -> bool {
    members * members >= 4 * slots
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
