//! Plans the changes of one pool.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
};

use xlb_common::{
    maps::{Backend, backend_cause, backend_flag, outer_sum, outer_sum6},
    slot::SlotWord,
};
use xlb_control::config::{Grace, OnRemove};

use super::{Intent, MemberGoal, Op, PoolActual, PoolGoal, ramp};
use crate::{endpoint, engine::accepts, ring, slots};

/// What is to be done for a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolPlan {
    /// Operations in a safe order.
    pub ops: Vec<Op>,
    /// Backends that get new connections.
    pub accepting: u32,
    /// Whether no backend is well.
    pub all_down: bool,
    /// When something changes by itself next, in seconds of CLOCK_MONOTONIC.
    pub wake_s: Option<u32>,
}

/// Plans the changes of one pool. `ring` fills a ring for its members, as [`ring::build`] does; `free`
/// gives numbers that nothing names.
///
/// # Errors
///
/// When the numbers are used up.
pub fn plan_pool(
    actual: PoolActual<'_>,
    goal: &PoolGoal,
    ring: impl FnOnce(&[ring::Member], &mut [u16]),
    now_s: u32,
    mut free: impl FnMut() -> Option<u16>,
) -> Result<PoolPlan, NumbersUsedUp> {
    let serving = goal.members.iter().filter(|member| can_serve(member));
    let all_down = !serving.clone().any(|member| member.well);
    let mut planned = Planned {
        wake_s: None,
        ops: Vec::new(),
        entries: Vec::with_capacity(actual.backends.len()),
    };
    let mut known_backends = KnownBackends::of(actual.backends);
    let others_serve = actual.backends.iter().any(|(_, entry)| accepts(entry));
    let slow_start_s = if others_serve && !all_down {
        goal.slow_start_s
    } else {
        0
    };
    let mut positions = None;
    let mut serving = Vec::with_capacity(goal.members.len());
    for member in &goal.members {
        let known = known_backends.find(member.endpoint);
        let mut entry = wanted_entry(goal.pool, member, known, all_down, now_s);
        entry.serving_since_s = serving_since_s(known, &entry, slow_start_s, now_s);
        let number = match known {
            Some((number, _)) => number,
            None => {
                let positions = positions.get_or_insert_with(|| free_positions(actual));
                entry.position = positions.next().unwrap_or(u16::MAX);
                free().ok_or(NumbersUsedUp)?
            }
        };
        bury_if_due(
            &mut entry,
            member,
            goal.down_grace,
            all_down,
            now_s,
            &mut planned.wake_s,
        );
        planned.add(number, known, entry);
        if can_serve(member) && (member.well || all_down) {
            serving.push((member, number, entry.serving_since_s));
        }
    }
    planned.entries.sort_unstable_by_key(|&(number, _)| number);
    let is_gone = |&&(number, _): &&(u16, Backend)| planned.flags(number).is_none();
    let gone: Vec<(u16, Backend)> = actual.backends.iter().filter(is_gone).copied().collect();
    for (number, entry) in gone {
        let known = Some((number, entry));
        planned.add(number, known, removed(entry, goal, all_down));
    }
    planned.entries.sort_unstable_by_key(|&(number, _)| number);
    let members = planned.shares(&serving, goal.slow_start_s, now_s);
    let mut wanted = vec![0u16; actual.words.len()];
    ring(&members, &mut wanted);
    planned.move_slots(actual.words, &wanted, goal.pool);
    Ok(PoolPlan {
        accepting: if all_down { 0 } else { members.len() as u32 },
        all_down,
        wake_s: planned.wake_s,
        ops: planned.ops,
    })
}

/// Every number of a backend is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all numbers of backends are taken: remove backends, or wait until removed ones have drained"
)]
pub struct NumbersUsedUp;

struct Planned {
    ops: Vec<Op>,
    /// Flags of the backends, by their numbers.
    entries: Vec<(u16, u16)>,
    wake_s: Option<u32>,
}

/// Backends by their endpoints. Most often they come in the order in which they are asked for.
struct KnownBackends<'a> {
    backends: &'a [(u16, Backend)],
    /// The one after that which was asked for last.
    next: usize,
    by_endpoint: Option<HashMap<SocketAddr, usize>>,
}

impl<'a> KnownBackends<'a> {
    const fn of(backends: &'a [(u16, Backend)]) -> Self {
        Self {
            backends,
            next: 0,
            by_endpoint: None,
        }
    }

    fn find(&mut self, endpoint: SocketAddr) -> Option<(u16, Backend)> {
        let backends = self.backends;
        let at_next = backends.get(self.next);
        if at_next.is_none_or(|(_, entry)| endpoint::of(entry) != endpoint) {
            let by_endpoint = self.by_endpoint.get_or_insert_with(|| {
                let endpoints = backends.iter().map(|(_, entry)| endpoint::of(entry));
                endpoints.zip(0..).collect()
            });
            self.next = *by_endpoint.get(&endpoint)?;
        }
        let found = backends.get(self.next).copied();
        self.next += 1;
        found
    }
}

impl Planned {
    fn add(&mut self, number: u16, known: Option<(u16, Backend)>, entry: Backend) {
        match known {
            None => self.ops.push(Op::WriteBackend { number, entry }),
            Some((_, old)) if old != entry => self.ops.push(Op::UpdateBackend { number, entry }),
            Some(_) => (),
        }
        self.entries.push((number, entry.flags));
    }

    /// Flags of a backend; the entries have to be in order.
    fn flags(&self, number: u16) -> Option<u16> {
        let at = self
            .entries
            .binary_search_by_key(&number, |&(number, _)| number);
        self.entries.get(at.ok()?).map(|&(_, flags)| flags)
    }

    /// The members of the ring with their shares; each comes with its number, and with the time since
    /// when it serves. While one of them starts slowly, all weights are counted in steps of it.
    fn shares(
        &mut self,
        serving: &[(&MemberGoal, u16, u32)],
        slow_start_s: u32,
        now_s: u32,
    ) -> Vec<ring::Member> {
        let mut starting = false;
        let mut members: Vec<ring::Member> = serving
            .iter()
            .map(|&(member, number, since_s)| {
                let (steps, next_s) = ramp::steps(since_s, slow_start_s, now_s);
                if let Some(next_s) = next_s {
                    starting = true;
                    self.wake_s = Some(self.wake_s.map_or(next_s, |wake_s| wake_s.min(next_s)));
                }
                ring::Member {
                    identity: member.endpoint,
                    weight: u32::from(member.weight) * steps,
                    number,
                }
            })
            .collect();
        if !starting {
            // The ring of a pool at rest is that of its weights as they are.
            for member in &mut members {
                member.weight /= ramp::STEPS;
            }
        }
        members
    }

    /// Gives the slots their targets, then moves those whose backend is dead.
    fn move_slots(&mut self, words: &[SlotWord], wanted: &[u16], pool: u32) {
        let is_dead = |number: u16| {
            let flags = self.flags(number);
            flags.is_none_or(|flags| flags & backend_flag::DEAD != 0)
        };
        let writes = slots::change(words, wanted, is_dead);
        if writes.iter().any(|write| write.word().1.is_marked()) {
            self.ops.push(Op::Moving { pool });
        }
        self.ops.extend(writes.into_iter().map(Op::Slot));
    }
}

/// Positions that no backend of the pool has, the lowest first.
fn free_positions(actual: PoolActual<'_>) -> impl Iterator<Item = u16> + use<> {
    let backends = actual.backends.iter();
    let taken: BTreeSet<u16> = backends.map(|(_, entry)| entry.position).collect();
    (0..=u16::MAX).filter(move |position| !taken.contains(position))
}

/// When a backend began to take up new connections slowly; 0: it has its whole share.
fn serving_since_s(
    known: Option<(u16, Backend)>,
    entry: &Backend,
    slow_start_s: u32,
    now_s: u32,
) -> u32 {
    if !accepts(entry) {
        return 0;
    }
    match known {
        Some((_, known)) if accepts(&known) => known.serving_since_s,
        Some(_) | None if slow_start_s > 0 => now_s.max(1),
        Some(_) | None => 0,
    }
}

/// Whether the operator wants the backend to serve and frames can reach it.
fn can_serve(member: &MemberGoal) -> bool {
    member.intent == Intent::Serve && member.weight > 0 && member.next_hop.is_known()
}

fn wanted_entry(
    pool: u32,
    member: &MemberGoal,
    known: Option<(u16, Backend)>,
    all_down: bool,
    now_s: u32,
) -> Backend {
    let mut entry = known.map_or_else(
        || endpoint::blank(pool, member.endpoint),
        |(_, entry)| entry,
    );
    entry.next_hop = member.next_hop.0;
    entry.weight = member.weight;
    entry.outer_source = endpoint::bytes(member.outer_source);
    match (member.outer_source, member.endpoint.ip()) {
        (IpAddr::V4(source), IpAddr::V4(address)) => {
            entry.outer_sum = outer_sum(source.octets(), address.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(address)) => {
            entry.outer_sum = outer_sum6(source.octets(), address.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    // A pool none of whose backends is well is used as if all were.
    let reachable = member.next_hop.is_known();
    let taken_as_well = member.well || (all_down && member.intent == Intent::Serve);
    let down = !(reachable && taken_as_well);
    let was_down = entry.flags & backend_flag::DOWN != 0;
    entry.flags = backend_flag::USED;
    if down {
        entry.flags |= backend_flag::DOWN;
        if !was_down {
            entry.down_since_s = now_s;
        }
    } else {
        entry.down_since_s = 0;
    }
    (entry.cause, entry.drain_deadline_s) = match member.intent {
        Intent::Serve => (0, 0),
        Intent::Drain { deadline_s } => (backend_cause::DRAINED, deadline_s.unwrap_or(0)),
        Intent::Disabled => (backend_cause::DISABLED, 0),
    };
    if !member.well {
        entry.cause |= backend_cause::FAILING;
    }
    if member.intent != Intent::Serve || member.weight == 0 {
        entry.flags |= backend_flag::DRAIN;
    }
    entry
}

/// Sets `DEAD` on a backend whose connections are to be moved, if another can take them.
fn bury_if_due(
    entry: &mut Backend,
    member: &MemberGoal,
    grace: Grace,
    all_down: bool,
    now_s: u32,
    wake_s: &mut Option<u32>,
) {
    if all_down {
        return;
    }
    let due_s = match member.intent {
        Intent::Disabled => Some(0),
        // A drain's deadline outlives the grace: a backend that drains may well fail its checks.
        Intent::Drain { deadline_s } => deadline_s,
        Intent::Serve if entry.flags & backend_flag::DOWN == 0 => None,
        Intent::Serve => match grace {
            Grace::Forever => None,
            Grace::For(time) => {
                let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
                Some(entry.down_since_s.saturating_add(seconds))
            }
        },
    };
    match due_s {
        Some(due_s) if due_s <= now_s => entry.flags |= backend_flag::DEAD,
        Some(due_s) => *wake_s = Some(wake_s.map_or(due_s, |wake_s: u32| wake_s.min(due_s))),
        None => (),
    }
}

/// What was said when the backend was removed stays with it.
fn removed(mut entry: Backend, goal: &PoolGoal, all_down: bool) -> Backend {
    const SAID: u16 = backend_cause::KEPT | backend_cause::DROPPED;
    let said = match goal.removed.get(&endpoint::of(&entry)) {
        Some(OnRemove::Drain) => backend_cause::KEPT,
        Some(OnRemove::Drop) => backend_cause::DROPPED,
        None => entry.cause & SAID,
    };
    entry.cause = backend_cause::REMOVED | said;
    entry.flags |= backend_flag::DRAIN;
    let drop = match said {
        0 => goal.on_remove == OnRemove::Drop,
        said => said == backend_cause::DROPPED,
    };
    if drop && !all_down {
        entry.flags |= backend_flag::DEAD;
    }
    entry
}

#[cfg(test)]
mod tests;
