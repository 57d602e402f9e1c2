//! What a plan would do to a pool's ring.

use std::{collections::BTreeMap, net::SocketAddr};

use xlb_common::{
    maps::{Backend, backend_flag},
    slot::SlotWord,
};
use xlb_control::api::SlotsDiff;

use crate::{
    endpoint,
    plan::{Op, PoolActual, PoolPlan},
    slots,
};

/// Slots of a ring by the backend that new connections go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Slots of the ring.
    pub ring: u32,
    /// Slots of each backend.
    pub slots: BTreeMap<SocketAddr, u32>,
}

/// What would become of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Who has which share today; nobody in a pool that is new.
    pub before: Shares,
    /// Who would have which; nobody in a pool that goes.
    pub after: Shares,
    /// Slots that would move from one backend to another. None where the ring is made anew.
    pub moving: u32,
    /// Backends that would lose their connections, with their numbers.
    pub dropped: Vec<(u16, SocketAddr)>,
    /// Slots whose flows without a record would lose their backend.
    pub cut_slots: u32,
}

impl Shares {
    /// The shares of backends in slots.
    #[must_use]
    pub fn of(words: &[SlotWord], backends: &BTreeMap<u16, Backend>) -> Self {
        let mut slots = BTreeMap::new();
        for word in words {
            if let Some(entry) = backends.get(&word.target()) {
                *slots.entry(endpoint::of(entry)).or_insert(0) += 1;
            }
        }
        Self {
            ring: count(words.len()),
            slots,
        }
    }
}

impl Outlook {
    /// The outlook of a pool whose plan would be carried out on `actual`. `before`: today's
    /// shares, where the ring is made anew and `actual` is empty.
    #[must_use]
    pub fn of(actual: PoolActual<'_>, plan: &PoolPlan, before: Option<Shares>) -> Self {
        let known: BTreeMap<u16, Backend> = actual.backends.iter().copied().collect();
        let mut backends = actual.backends.to_vec();
        let mut words = actual.words.to_vec();
        carry_out(plan, &mut backends, &mut words);
        let backends: BTreeMap<u16, Backend> = backends.into_iter().collect();
        let dropped = known
            .iter()
            .filter(|(number, entry)| !is_dead(entry) && backends.get(number).is_some_and(is_dead))
            .map(|(&number, entry)| (number, endpoint::of(entry)))
            .collect();
        let pairs = || actual.words.iter().zip(&words);
        let moves =
            |(old, new): &(&SlotWord, &SlotWord)| old.stable() != 0 && old.target() != new.target();
        let is_cut =
            |(old, new): &(&SlotWord, &SlotWord)| old.stable() != 0 && old.stable() != new.stable();
        Self {
            before: before.unwrap_or_else(|| Shares::of(actual.words, &known)),
            after: Shares::of(&words, &backends),
            moving: count(pairs().filter(moves).count()),
            dropped,
            cut_slots: count(pairs().filter(is_cut).count()),
        }
    }

    /// The outlook of a pool that goes.
    #[must_use]
    pub fn gone(before: Shares) -> Self {
        Self {
            before,
            ..Self::default()
        }
    }

    /// What would move, next to the ideal.
    #[must_use]
    pub fn slots(&self) -> SlotsDiff {
        SlotsDiff {
            ring: self.after.ring,
            moving: self.moving,
            ideal: ideal(&self.before, &self.after),
        }
    }
}

/// Carries a plan out on paper.
pub fn carry_out(plan: &PoolPlan, backends: &mut Vec<(u16, Backend)>, words: &mut [SlotWord]) {
    for op in &plan.ops {
        match *op {
            Op::WriteBackend { number, entry } | Op::UpdateBackend { number, entry } => {
                let mut known = backends.iter_mut();
                match known.find(|(known, _)| *known == number) {
                    Some((_, known)) => *known = entry,
                    None => backends.push((number, entry)),
                }
            }
            Op::Moving { pool: _ } => (),
            Op::Slot(write) => slots::apply(words, &[write]),
        }
    }
}

/// Slots that have to move, whatever the ring, for each backend to have its share: what those
/// gain that gain.
#[must_use]
pub(super) fn ideal(before: &Shares, after: &Shares) -> u32 {
    if before.slots.is_empty() || before.ring == 0 {
        return 0;
    }
    let (old_ring, new_ring) = (u64::from(before.ring), u64::from(after.ring));
    let gained: u64 = after
        .slots
        .iter()
        .map(|(endpoint, &slots)| {
            let had = before.slots.get(endpoint).copied().unwrap_or(0);
            (u64::from(slots) * old_ring).saturating_sub(u64::from(had) * new_ring)
        })
        .sum();
    u32::try_from(gained / old_ring).unwrap_or(u32::MAX)
}

fn is_dead(entry: &Backend) -> bool {
    entry.flags & backend_flag::DEAD != 0
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
