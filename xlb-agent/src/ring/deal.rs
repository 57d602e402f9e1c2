//! Deals the slots of a ring.
//!
//! Most of the work is to pass over slots that are taken: the last slots that are free are looked for
//! in vain many times. So what is taken stands in a bitmap that fits into the first level of the
//! cache, a step of a permutation costs an addition and a multiplication, and once few slots are
//! free, a member looks which of these comes first in its permutation instead of walking along it.

/// What is the same for all members of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    slots: u32,
    /// 2^64 divided by the slots.
    unit: u64,
    /// What the division leaves.
    rest: u64,
    /// Whether every step reaches all slots.
    is_prime: bool,
}

/// A member while slots are dealt.
#[derive(Clone, Debug)]
pub(super) struct Hand {
    /// The slot of its permutation that it looks at next, as a part of the ring; see [`Table::part`].
    at: u64,
    /// From one slot of its permutation to the next, as a part of the ring.
    step: u64,
    /// Weight that has come together since its last turn.
    saved: u32,
    /// What the heaviest weighs more: so much has to be saved for a turn.
    lacks: u32,
    weight: u32,
    number: u16,
}

/// The slots that nobody has.
struct Free {
    /// A bit for each slot that is taken.
    taken: Vec<u64>,
    count: u32,
}

impl Table {
    /// For a ring of so many slots, at least one.
    pub(super) fn new(slots: u32) -> Self {
        let slots_64 = u64::from(slots.max(1));
        // 2^64 - 1 and one more.
        let (mut unit, mut rest) = (u64::MAX / slots_64, u64::MAX % slots_64 + 1);
        if rest == slots_64 {
            (unit, rest) = (unit.wrapping_add(1), 0);
        }
        Self {
            slots,
            unit,
            rest,
            is_prime: is_prime(slots),
        }
    }

    /// `count` slots as a part of the ring: count / slots * 2^64, rounded up.
    ///
    /// Parts add up modulo 2^64 as slots do modulo their number, by one instruction. They are too
    /// large by less than one each; a sum of `slots` parts is then too large by less than `slots`,
    /// which is far less than the 2^64 / `slots` between one slot and the next.
    const fn part(self, count: u32) -> u64 {
        let count = count as u64;
        let rest = count * self.rest;
        count
            .wrapping_mul(self.unit)
            .wrapping_add(rest.div_ceil(self.slots as u64))
    }

    /// The slot at a part of the ring: part * slots / 2^64, rounded down.
    const fn slot(self, part: u64) -> u32 {
        ((part as u128 * self.slots as u128) >> 64) as u32
    }

    /// A member whose permutation begins with the slot `first`; `step` is from 1 to the number of
    /// slots.
    pub(super) fn hand(
        self,
        first: u32,
        mut step: u32,
        weight: u32,
        heaviest: u32,
        number: u16,
    ) -> Hand {
        // With a prime number of slots every step reaches all of them; with another, not.
        while !self.is_prime && common_divisor(step, self.slots) > 1 {
            step = if step + 1 < self.slots { step + 1 } else { 1 };
        }
        Hand {
            at: self.part(first),
            step: self.part(step % self.slots),
            // Half a turn ahead, so that shares are rounded to the nearest slot and not down.
            saved: heaviest / 2,
            lacks: heaviest - weight,
            weight,
            number,
        }
    }

    /// Deals all slots, in rounds. At least one of the members has to be the heaviest.
    pub(super) fn deal(self, mut hands: Vec<Hand>, out: &mut [u16]) {
        let mut free = Free {
            taken: vec![0; out.len().div_ceil(64)],
            count: self.slots,
        };
        let mut last: Option<Vec<u32>> = None;
        while free.count > 0 {
            for hand in &mut hands {
                if !hand.has_a_turn() {
                    continue;
                }
                let slot = match &mut last {
                    None => hand.walk(self, &mut free.taken),
                    Some(last) => hand.pick(self, last),
                };
                out[slot as usize] = hand.number;
                free.count -= 1;
                if free.count == 0 {
                    break;
                }
                if last.is_none() && u64::from(free.count).pow(2) <= u64::from(self.slots) {
                    last = Some(free.list(self.slots));
                }
            }
        }
    }
}

impl Hand {
    pub(super) const fn number(&self) -> u16 {
        self.number
    }

    pub(super) const fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) const fn is_heaviest(&self) -> bool {
        self.lacks == 0
    }

    /// Whether it gets a slot in this round: the heaviest do in each, another one whenever its
    /// weight of the rounds since its last turn has come up to the heaviest's.
    pub(super) fn has_a_turn(&mut self) -> bool {
        if self.saved < self.lacks {
            self.saved += self.weight;
            return false;
        }
        self.saved -= self.lacks;
        true
    }

    /// The slot of its permutation that it looks at next.
    pub(super) const fn next(&self, table: Table) -> u32 {
        table.slot(self.at)
    }

    /// The same, and goes on.
    pub(super) const fn step(&mut self, table: Table) -> u32 {
        let slot = table.slot(self.at);
        self.at = self.at.wrapping_add(self.step);
        slot
    }

    /// What a slot is multiplied by, modulo 2^64, to get where it comes in the permutation, as a part
    /// of the ring, from slot 0 on.
    pub(super) const fn inverse(&self, table: Table) -> u64 {
        table.part(inverse(table.slot(self.step), table.slots))
    }

    /// Takes the next free slot of the permutation; there has to be one.
    fn walk(&mut self, table: Table, taken: &mut [u64]) -> u32 {
        loop {
            let slot = self.step(table);
            let (word, bit) = (&mut taken[slot as usize / 64], 1 << (slot % 64));
            if *word & bit == 0 {
                *word |= bit;
                return slot;
            }
        }
    }

    /// Takes that one of the free slots which comes first in the permutation.
    fn pick(&self, table: Table, free: &mut Vec<u32>) -> u32 {
        // Every slot before the next one is taken, so the distance from there says which is first.
        let inverse = self.inverse(table);
        let here = u64::from(self.next(table)).wrapping_mul(inverse);
        let place = (0..free.len()).min_by_key(|&place| {
            u64::from(free[place])
                .wrapping_mul(inverse)
                .wrapping_sub(here)
        });
        free.swap_remove(place.unwrap_or(0))
    }
}

impl Free {
    fn list(&self, slots: u32) -> Vec<u32> {
        let is_free = |&slot: &u32| self.taken[slot as usize / 64] >> (slot % 64) & 1 == 0;
        (0..slots).filter(is_free).collect()
    }
}

/// The number whose product with `number` leaves 1 when divided by `modulus`, by the extended
/// Euclidean algorithm; the two have no common divisor.
const fn inverse(number: u32, modulus: u32) -> u32 {
    let (mut a, mut b) = (modulus as i64, number as i64);
    let (mut of_a, mut of_b) = (0, 1);
    while b > 1 {
        let quotient = a / b;
        (a, b) = (b, a - quotient * b);
        (of_a, of_b) = (of_b, of_a - quotient * of_b);
    }
    (of_b.rem_euclid(modulus as i64)) as u32
}

/// The greatest number that divides both.
pub(crate) const fn common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn is_prime(number: u32) -> bool {
    let divisors = (2..).take_while(|&divisor: &u64| divisor * divisor <= u64::from(number));
    number > 1
        && divisors
            .into_iter()
            .all(|divisor| u64::from(number) % divisor != 0)
}
