use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use xlb_common::next_hop::NextHop;

use super::*;
use crate::slots::Write;

const KEY: [u8; 16] = [7; 16];
const SLOTS: usize = 251;
const NOW_S: u32 = 1_000;

fn build_ring(members: &[ring::Member], out: &mut [u16]) {
    ring::build(KEY, members, out);
}

fn member(last: u8) -> MemberGoal {
    MemberGoal {
        endpoint: SocketAddr::from(([10, 0, 1, last], 8080)),
        weight: 1,
        intent: Intent::Serve,
        well: true,
        next_hop: NextHop::new([2, 0, 0, 0, 0, last], 1),
        outer_source: IpAddr::from([10, 0, 1, 1]),
    }
}

/// A pool of three that has come to rest, with what its maps hold.
struct Pool {
    goal: PoolGoal,
    backends: Vec<(u16, Backend)>,
    words: Vec<SlotWord>,
}

impl Pool {
    fn new() -> Self {
        let mut pool = Self {
            goal: PoolGoal {
                pool: 1,
                members: vec![member(11), member(12), member(13)],
                down_grace: Grace::For(Duration::from_secs(10)),
                slow_start_s: 0,
                on_remove: OnRemove::Drain,
                removed: BTreeMap::new(),
            },
            backends: Vec::new(),
            words: vec![SlotWord::default(); SLOTS],
        };
        pool.step(NOW_S);
        pool
    }

    /// Plans, and carries the plan out on the values.
    fn step(&mut self, now_s: u32) -> PoolPlan {
        let mut next = 0;
        let actual = PoolActual {
            backends: &self.backends,
            words: &self.words,
        };
        let plan = plan_pool(actual, &self.goal, build_ring, now_s, || {
            next += 1;
            Some(self.backends.len() as u16 + next)
        })
        .unwrap();
        for op in &plan.ops {
            match *op {
                Op::WriteBackend { number, entry } => self.backends.push((number, entry)),
                Op::UpdateBackend { number, entry } => {
                    let known = self.backends.iter_mut().find(|(known, _)| *known == number);
                    known.unwrap().1 = entry;
                }
                Op::Moving { .. } => {}
                Op::Slot(write) => slots::apply(&mut self.words, &[write]),
            }
        }
        plan
    }

    fn number(&self, last: u8) -> u16 {
        let endpoint = member(last).endpoint;
        let known = self
            .backends
            .iter()
            .find(|(_, entry)| endpoint::of(entry) == endpoint);
        known.unwrap().0
    }

    fn count(&self, wanted: impl Fn(SlotWord) -> bool) -> usize {
        self.words.iter().filter(|word| wanted(**word)).count()
    }
}

#[test]
fn a_new_pool_is_at_rest_with_a_share_for_each() {
    let mut pool = Pool::new();
    assert_eq!(pool.count(SlotWord::is_marked), 0);
    for last in [11, 12, 13] {
        let number = pool.number(last);
        assert!((60..110).contains(&pool.count(|word| word.stable() == number)));
    }
    assert_eq!(pool.step(NOW_S).ops, []);
}

#[test]
fn what_is_written_comes_before_what_names_it() {
    let mut pool = Pool::new();
    pool.goal.members.push(member(14));
    let ops = pool.step(NOW_S).ops;
    assert!(matches!(ops[0], Op::WriteBackend { .. }));
    assert_eq!(ops[1], Op::Moving { pool: 1 });
    assert!(
        ops[2..]
            .iter()
            .all(|op| matches!(op, Op::Slot(Write::Mark { .. })))
    );
}

#[test]
fn a_backend_that_drains_keeps_what_is_stable_and_gets_nothing_new() {
    let mut pool = Pool::new();
    let number = pool.number(12);
    let before = pool.count(|word| word.stable() == number);
    pool.goal.members[1].intent = Intent::Drain { deadline_s: None };
    pool.step(NOW_S);
    assert_eq!(pool.count(|word| word.stable() == number), before);
    assert_eq!(pool.count(|word| word.target() == number), 0);
}

#[test]
fn a_drain_that_is_over_moves_what_is_left() {
    let mut pool = Pool::new();
    let number = pool.number(12);
    pool.goal.members[1].intent = Intent::Drain {
        deadline_s: Some(NOW_S + 5),
    };
    assert_eq!(pool.step(NOW_S).wake_s, Some(NOW_S + 5));
    assert!(pool.count(|word| word.stable() == number) > 0);
    pool.step(NOW_S + 5);
    assert_eq!(pool.count(|word| word.stable() == number), 0);
}

#[test]
fn a_backend_that_is_down_keeps_its_connections_for_the_grace() {
    let mut pool = Pool::new();
    let number = pool.number(13);
    pool.goal.members[2].well = false;
    let plan = pool.step(NOW_S);
    assert_eq!((plan.accepting, plan.wake_s), (2, Some(NOW_S + 10)));
    assert_eq!(pool.count(|word| word.target() == number), 0);
    assert!(pool.count(|word| word.stable() == number) > 0);
    pool.step(NOW_S + 10);
    assert_eq!(pool.count(|word| word.stable() == number), 0);
}

#[test]
fn one_without_a_next_hop_is_not_sent_to() {
    let mut pool = Pool::new();
    let number = pool.number(11);
    pool.goal.members[0].next_hop = NextHop::NONE;
    pool.step(NOW_S);
    assert_eq!(pool.count(|word| word.target() == number), 0);
    assert_ne!(pool.backends[0].1.flags & backend_flag::DOWN, 0);
}

#[test]
fn when_none_is_well_all_are_used_and_nothing_moves() {
    let mut pool = Pool::new();
    let (before, words) = (pool.backends.clone(), pool.words.clone());
    for member in &mut pool.goal.members {
        member.well = false;
    }
    let plan = pool.step(NOW_S);
    assert_eq!((plan.all_down, plan.accepting), (true, 0));
    assert_eq!(pool.words, words);
    // The next agent is to know what the checks said, and the program is not to act on it.
    for ((_, now), (_, then)) in pool.backends.iter().zip(&before) {
        assert_eq!(now.cause, backend_cause::FAILING);
        assert_eq!(Backend { cause: 0, ..*now }, *then);
    }
}

#[test]
fn a_backend_that_is_disabled_or_dropped_is_left_at_once() {
    let mut pool = Pool::new();
    let (disabled, dropped) = (pool.number(11), pool.number(12));
    pool.goal.members[0].intent = Intent::Disabled;
    pool.goal.members.remove(1);
    pool.goal.on_remove = OnRemove::Drop;
    pool.step(NOW_S);
    let named = |word: SlotWord| word.stable() == disabled || word.stable() == dropped;
    assert_eq!(pool.count(named), 0);
}

#[test]
fn what_is_said_of_a_removed_backend_stands_above_what_the_pool_says() {
    for (on_remove, said, stays) in [
        (OnRemove::Drain, OnRemove::Drop, false),
        (OnRemove::Drop, OnRemove::Drain, true),
    ] {
        let mut pool = Pool::new();
        let number = pool.number(12);
        let endpoint = pool.goal.members.remove(1).endpoint;
        pool.goal.on_remove = on_remove;
        pool.goal.removed.insert(endpoint, said);
        pool.step(NOW_S);
        assert_eq!(pool.count(|word| word.stable() == number) > 0, stays);
        // The next agent knows it from the maps alone.
        pool.goal.removed.clear();
        pool.step(NOW_S);
        assert_eq!(pool.count(|word| word.stable() == number) > 0, stays);
    }
}

#[test]
fn a_removed_backend_that_returns_keeps_its_number_and_position() {
    let mut pool = Pool::new();
    let before = pool.backends[1];
    let returning = pool.goal.members.remove(1);
    pool.step(NOW_S);
    assert_eq!(pool.backends[1].1.cause, backend_cause::REMOVED);
    pool.goal.members.push(returning);
    pool.step(NOW_S);
    assert_eq!(pool.backends[1], before);
}

#[test]
fn a_backend_that_comes_back_takes_its_slots_step_by_step() {
    let mut pool = Pool::new();
    pool.goal.slow_start_s = 30;
    let targets = |pool: &Pool| {
        let number = pool.number(11);
        let words = pool.words.iter();
        words.filter(|word| word.target() == number).count()
    };
    assert_eq!(pool.step(NOW_S).wake_s, None, "who is there has its share");
    let whole = targets(&pool);
    pool.goal.members[0].well = false;
    pool.step(NOW_S + 10);
    assert_eq!(targets(&pool), 0);
    pool.goal.members[0].well = true;
    let mut now_s = NOW_S + 20;
    let mut counts = Vec::new();
    while let Some(next_s) = pool.step(now_s).wake_s {
        counts.push(targets(&pool));
        now_s = next_s;
    }
    counts.push(targets(&pool));
    assert_eq!(now_s, NOW_S + 50);
    assert!((8..=14).contains(&counts[0]), "{counts:?}");
    assert!(counts.is_sorted() && counts.len() > 8, "{counts:?}");
    assert_eq!(counts.last(), Some(&whole));

    // Where nobody else serves, there is no time for it.
    for member in &mut pool.goal.members {
        member.well = false;
    }
    pool.step(now_s + 1);
    pool.goal.members[0].well = true;
    pool.step(now_s + 2);
    assert!(targets(&pool) > 200);
}
