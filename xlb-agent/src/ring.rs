//! The Maglev ring of a pool: which backend a slot's new flows go to.
//!
//! Each backend has its own permutation of the slots, and the backends take turns in claiming the
//! next free slot of theirs (Eisenbud et al., Maglev, NSDI'16, section 3.4). The result is a pure
//! function of key and set of backends, so that the nodes of a fleet agree without talking.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
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

/// A member while the ring is built.
struct Turn {
    order: (u64, SocketAddr),
    number: u16,
    weight: u32,
    /// Weight that has come together since its last turn.
    saved: u64,
    next: u32,
    skip: u32,
}

/// Fills `out`, a number for each slot, with the ring of `members`; with 0 if none has weight.
///
/// Slots are dealt in rounds: the heaviest member takes a slot in each, another one whenever its
/// weight of the rounds since its last turn has come up to the heaviest's. `out.len()` should be a
/// prime and at least a hundred times the number of members.
pub fn build(key: [u8; 16], members: &[Member], out: &mut [u16]) {
    out.fill(0);
    let slots = u32::try_from(out.len()).unwrap_or(u32::MAX);
    let mut turns: Vec<Turn> = members
        .iter()
        .filter(|member| member.weight > 0 && member.number != 0)
        .map(|member| Turn::new(key, member, slots))
        .collect();
    turns.sort_by_key(|turn| turn.order);
    turns.dedup_by_key(|turn| turn.order.1);
    let Some(heaviest) = turns.iter().map(|turn| u64::from(turn.weight)).max() else {
        return;
    };
    for turn in &mut turns {
        // Half a turn ahead, so that shares are rounded to the nearest slot and not down.
        turn.saved = heaviest / 2;
    }
    let mut free = slots;
    while free > 0 {
        for turn in &mut turns {
            turn.saved += u64::from(turn.weight);
            if turn.saved < heaviest {
                continue;
            }
            turn.saved -= heaviest;
            turn.claim(out, slots);
            free -= 1;
            if free == 0 {
                break;
            }
        }
    }
}

impl Turn {
    fn new(key: [u8; 16], member: &Member, slots: u32) -> Self {
        let hash = identity_hash(key, member.identity);
        // Two draws from the one hash: where the permutation begins, and its step.
        let slots_64 = u64::from(slots.max(1));
        let next = (mix(hash ^ 1) % slots_64) as u32;
        let mut skip = (mix(hash ^ 2) % (slots_64 - 1).max(1)) as u32 + 1;
        // With a prime number of slots every step reaches all of them; with another, not.
        while common_divisor(skip, slots) > 1 {
            skip = if skip + 1 < slots { skip + 1 } else { 1 };
        }
        Self {
            order: (hash, member.identity),
            number: member.number,
            weight: member.weight,
            saved: 0,
            next,
            skip,
        }
    }

    /// Claims the next free slot of the permutation; there has to be one.
    fn claim(&mut self, out: &mut [u16], slots: u32) {
        loop {
            let slot = self.next;
            // `next` is below `slots`, so one subtraction replaces a division.
            let (stepped, overflowed) = self.next.overflowing_add(self.skip);
            self.next = if overflowed || stepped >= slots {
                stepped.wrapping_sub(slots)
            } else {
                stepped
            };
            let entry = &mut out[slot as usize];
            if *entry == 0 {
                *entry = self.number;
                return;
            }
        }
    }
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

const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 16] = *b"0123456789abcdef";

    fn member(number: u16, weight: u32) -> Member {
        let [high, low] = number.to_be_bytes();
        Member {
            identity: SocketAddr::from(([10, 0, high, low], 8080)),
            weight,
            number,
        }
    }

    fn ring(members: &[Member], slots: usize) -> Vec<u16> {
        let mut out = vec![7; slots];
        build(KEY, members, &mut out);
        out
    }

    fn count(ring: &[u16], number: u16) -> usize {
        ring.iter().filter(|&&entry| entry == number).count()
    }

    fn moved(before: &[u16], after: &[u16]) -> usize {
        before.iter().zip(after).filter(|(a, b)| a != b).count()
    }

    /// The ring of ten backends must never change: it would move every connection of every fleet.
    #[test]
    fn the_ring_is_what_it_was() {
        let members: Vec<Member> = (1..=10).map(|n| member(n, u32::from(n))).collect();
        let ring = ring(&members, 1021);
        assert_eq!(ring_hash(KEY, &members, &ring), "f75cc79f4ecf4119");
    }

    #[test]
    fn equal_weights_differ_by_one_slot_at_most() {
        let members: Vec<Member> = (1..=100).map(|n| member(n, 3)).collect();
        let ring = ring(&members, 16_381);
        for number in 1..=100 {
            assert!((163..=164).contains(&count(&ring, number)), "{number}");
        }
    }

    #[test]
    fn slots_follow_weights() {
        let weights = [1, 2, 3, 50, 100, 844];
        let members: Vec<Member> = (1..).zip(weights).map(|(n, w)| member(n, w)).collect();
        let ring = ring(&members, 65_537);
        for member in &members {
            let ideal = 65_537.0 * f64::from(member.weight) / 1000.0;
            let real = count(&ring, member.number) as f64;
            // Each is rounded to a whole slot, and the heaviest gets what the others leave.
            assert!(
                (real - ideal).abs() <= 3.0,
                "{member:?}: {real} not {ideal}"
            );
        }
    }

    #[test]
    fn without_weight_there_is_no_slot() {
        assert_eq!(ring(&[], 11), [0; 11]);
        assert_eq!(ring(&[member(1, 0)], 11), [0; 11]);
        assert_eq!(ring(&[member(1, 0), member(2, 5)], 11), [2; 11]);
        assert_eq!(ring(&[member(3, 1)], 1), [3]);
        build(KEY, &[member(1, 1)], &mut []);
    }

    #[test]
    fn a_size_that_is_not_prime_is_filled_as_well() {
        for slots in [2, 4, 6, 12, 100, 4096] {
            assert!(!ring(&[member(1, 1), member(2, 2)], slots).contains(&0));
        }
    }

    #[test]
    fn a_backend_that_leaves_moves_little_more_than_its_own() {
        for n in [4u16, 16, 100] {
            let members: Vec<Member> = (1..=n).map(|n| member(n, 1)).collect();
            let slots = 65_537;
            let before = ring(&members, slots);
            let after = ring(&members[1..], slots);
            let ideal = count(&before, 1);
            let extra = moved(&before, &after) - ideal;
            println!("{n} backends, one leaves: {ideal} slots are its own, {extra} more move");
            // Maglev's paper accepts about as much; here 65,537 is 655 times the largest n.
            assert!(extra * 100 <= slots * 4, "{n}: {extra} of {slots}");
        }
    }

    #[test]
    fn another_key_or_port_gives_another_ring() {
        let members: Vec<Member> = (1..=8).map(|n| member(n, 1)).collect();
        let ring = ring(&members, 1021);
        let mut other = vec![0; 1021];
        build([1; 16], &members, &mut other);
        assert!(moved(&ring, &other) > 700);
        let mut moved_ports = members.clone();
        for member in &mut moved_ports {
            member.identity.set_port(8081);
        }
        build(KEY, &moved_ports, &mut other);
        assert!(moved(&ring, &other) > 700);
    }

    proptest! {
        #[test]
        fn nodes_agree_whatever_the_order_and_the_numbers(
            weights in proptest::collection::vec(0u32..20, 1..24),
            order in Just(()).prop_perturb(|(), mut rng| rng.next_u64()),
        ) {
            let members: Vec<Member> =
                (1..).zip(&weights).map(|(n, &w)| member(n, w)).collect();
            // The other node has them in another order, and under other numbers.
            let mut elsewhere: Vec<Member> = members
                .iter()
                .map(|member| Member { number: 1000 - member.number, ..*member })
                .collect();
            elsewhere.sort_by_key(|member| mix(order ^ u64::from(member.number)));
            let (here, there) = (ring(&members, 503), ring(&elsewhere, 503));
            for (&here, &there) in here.iter().zip(&there) {
                prop_assert!(here == 0 && there == 0 || here == 1000 - there);
            }
            prop_assert_eq!(
                ring_hash(KEY, &members, &here),
                ring_hash(KEY, &elsewhere, &there)
            );
        }
    }

    /// Run by hand in release: `cargo test -p xlb-agent --release ring::tests::fast -- --ignored`.
    #[test]
    #[ignore = "measures, and means something only in release"]
    fn fast_enough_to_build_at_every_change() {
        let members: Vec<Member> = (1..=1000).map(|n| member(n, 1)).collect();
        let mut out = vec![0; 65_537];
        let start = std::time::Instant::now();
        for _ in 0..20 {
            build(KEY, &members, &mut out);
        }
        let once = start.elapsed() / 20;
        println!("1,000 backends, 65,537 slots: {once:?}");
        assert!(once < std::time::Duration::from_millis(5));
    }
}
