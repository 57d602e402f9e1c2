//! Settling: how a slot that moves comes to rest.

use std::collections::BTreeSet;

use xlb_common::{rule::age_s, slot::SlotWord};

use super::Write;

/// Settles the slots of a pool in rounds. A round is
///
/// 1. [`Settler::begin`], whose writes are carried out;
/// 2. an RCU grace period, after which no packet acts on what it read before;
/// 3. a scan of `PENDING`, then of `FLOWS`: slots with a record, however old, that points away
///    from `stable`. Records move from the one to the other, so in this order none is overlooked.
///    A replaced element of a BPF hash moves to the head of its bucket, so the scan has to read
///    whole buckets under their lock (`BPF_MAP_LOOKUP_BATCH`), not key after key;
/// 4. [`Settler::finish`], with the last misses read anew.
///
/// Any other write to the pool's slots has to [`Settler::interrupt`] the round. A pool whose policy
/// tracks every flow is never settled; in a fleet, a round needs the latest misses of all nodes, and
/// a node on which the slot does not move yet misses now.
#[derive(Debug, Default)]
pub struct Settler {
    round: Vec<Candidate>,
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    slot: u32,
    word: SlotWord,
    last_miss_s: u32,
}

impl Settler {
    /// No round is under way.
    #[must_use]
    pub const fn new() -> Self {
        Self { round: Vec::new() }
    }

    /// Begins a round: marks the slots whose `stable` nobody has used for longer than `idle_s` as
    /// settling, and clears what an interrupted round left.
    ///
    /// The time counts from the last miss and not from the change, since a flow without a record
    /// may talk all the while.
    pub fn begin(
        &mut self,
        words: &[SlotWord],
        last_miss_s: &[u32],
        idle_s: u32,
        now_s: u32,
    ) -> Vec<Write> {
        self.round.clear();
        let mut writes = Vec::new();
        for (slot, (&word, &last_miss_s)) in (0u32..).zip(words.iter().zip(last_miss_s)) {
            let comes_home = word.stable() == word.target();
            // Both times are cut to seconds, so that only a larger difference is surely long enough.
            let idle = age_s(now_s, last_miss_s) > idle_s;
            let settling = word.is_marked() && !comes_home && idle;
            let next = word.with_settling(settling);
            if next != word {
                writes.push(Write::Word { slot, word: next });
            }
            if word.is_marked() && (comes_home || idle) {
                self.round.push(Candidate {
                    slot,
                    word: next,
                    last_miss_s,
                });
            }
        }
        writes
    }

    /// Whether a round is under way.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.round.is_empty()
    }

    /// Gives up the round: the slots have changed meanwhile.
    pub fn interrupt(&mut self) {
        self.round.clear();
    }

    /// Ends a round. `elsewhere`: slots with a record that points away from their `stable`.
    ///
    /// A slot takes its target as `stable` if `stable` was not used meanwhile; its mark stays until
    /// a later round, which looks for records.
    pub fn finish(
        &mut self,
        words: &[SlotWord],
        last_miss_s: &[u32],
        elsewhere: &BTreeSet<u32>,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        for candidate in self.round.drain(..) {
            let slot = candidate.slot;
            let (Some(&word), Some(&last_miss_s)) =
                (words.get(slot as usize), last_miss_s.get(slot as usize))
            else {
                continue;
            };
            if word != candidate.word {
                continue;
            }
            if word.stable() != word.target() {
                let settled = word.with_settling(false);
                writes.push(if last_miss_s == candidate.last_miss_s {
                    let word = settled.with_stable(word.target());
                    Write::Settle { slot, word }
                } else {
                    Write::Word {
                        slot,
                        word: settled,
                    }
                });
            } else if !elsewhere.contains(&slot) {
                let word = word.with_mark(false);
                writes.push(Write::Word { slot, word });
            }
        }
        writes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_S: u32 = 100;
    const MOVING: SlotWord = SlotWord::marked(1, 2);
    const HOME: SlotWord = SlotWord::marked(2, 2);

    fn begin(word: SlotWord, last_miss_s: u32) -> (Settler, Vec<Write>) {
        let mut settler = Settler::default();
        let writes = settler.begin(&[word], &[last_miss_s], IDLE_S, 1000);
        (settler, writes)
    }

    #[test]
    fn a_slot_that_nobody_used_settles_and_keeps_its_mark() {
        assert_eq!(begin(MOVING, 900).1, []);
        let (mut settler, writes) = begin(MOVING, 899);
        let settling = MOVING.with_settling(true);
        assert_eq!(
            writes,
            [Write::Word {
                slot: 0,
                word: settling
            }]
        );
        assert_eq!(
            settler.finish(&[settling], &[899], &BTreeSet::from([0])),
            [Write::Settle {
                slot: 0,
                word: HOME
            }]
        );
        assert!(!settler.is_waiting());
    }

    #[test]
    fn a_miss_in_the_last_moment_calls_it_off() {
        let (mut settler, _) = begin(MOVING, 899);
        assert_eq!(
            settler.finish(&[MOVING.with_settling(true)], &[1000], &BTreeSet::new()),
            [Write::Word {
                slot: 0,
                word: MOVING
            }]
        );
    }

    #[test]
    fn a_mark_goes_when_no_record_points_elsewhere() {
        let rest = SlotWord::rest(2);
        for (elsewhere, expected) in [
            (
                BTreeSet::new(),
                vec![Write::Word {
                    slot: 0,
                    word: rest,
                }],
            ),
            (BTreeSet::from([0]), vec![]),
        ] {
            // However recent the last miss is: nothing changes for whoever missed.
            let (mut settler, writes) = begin(HOME, 1000);
            assert_eq!(writes, []);
            assert_eq!(settler.finish(&[HOME], &[1000], &elsewhere), expected);
        }
    }

    #[test]
    fn a_change_ends_the_round_and_the_next_one_cleans_up() {
        let (mut settler, _) = begin(MOVING, 899);
        settler.interrupt();
        let left = MOVING.with_settling(true);
        assert_eq!(settler.finish(&[left], &[899], &BTreeSet::new()), []);
        assert_eq!(
            settler.begin(&[left], &[950], IDLE_S, 1000),
            [Write::Word {
                slot: 0,
                word: MOVING
            }]
        );
        let (mut settler, _) = begin(MOVING, 899);
        let other = SlotWord::marked(1, 3);
        assert_eq!(settler.finish(&[other], &[899], &BTreeSet::new()), []);
    }
}
