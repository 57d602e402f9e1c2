//! The agent's half of the rule of a packet: how slots move, settle and are adopted.
//!
//! The agent is the only writer of slots. It may die between any two of its writes, and packets
//! pass between any two of them; the order in which these functions give their writes is therefore
//! part of what they decide. All of it is pure; time is in seconds of CLOCK_MONOTONIC.

mod collect;
mod settle;

use std::collections::BTreeSet;

pub use collect::{flow_is_over, may_delete, pending_is_over};
pub use settle::Settler;
use xlb_common::slot::SlotWord;

/// A write to a slot. Each is a store or two, in the order that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the slot's last miss to now, then its word, then its last miss again: the slot begins
    /// to move, or moves elsewhere. Before the word, since an agent that dies must leave no mark
    /// with an old miss; after it, since an agent may be stopped between the two for long, while
    /// flows begin that a slot without a mark does not note.
    Mark {
        /// Slot within the pool.
        slot: u32,
        /// Its word.
        word: SlotWord,
    },
    /// Sets the slot's word.
    Word {
        /// Slot within the pool.
        slot: u32,
        /// Its word.
        word: SlotWord,
    },
    /// Sets the slot's word, then its entry in the ring to the word's `stable`.
    Settle {
        /// Slot within the pool.
        slot: u32,
        /// Its word.
        word: SlotWord,
    },
}

impl Write {
    /// The slot and the word that it gets.
    #[must_use]
    pub const fn word(self) -> (u32, SlotWord) {
        match self {
            Self::Mark { slot, word } | Self::Word { slot, word } | Self::Settle { slot, word } => {
                (slot, word)
            }
        }
    }
}

/// Carries writes out on a copy of the words, to plan on.
pub fn apply(words: &mut [SlotWord], writes: &[Write]) {
    for (slot, word) in writes.iter().map(|write| write.word()) {
        if let Some(entry) = words.get_mut(slot as usize) {
            *entry = word;
        }
    }
}

/// Gives slots new targets: `wanted` has the number of a backend for each slot, 0 where none
/// accepts, and there the target stays.
///
/// Before the first of these writes, the backends have to be written and the pool marked as
/// moving. `stable` does not change, since flows without a record belong there. A slot that gets
/// back the target that it once had keeps its mark, since flows begun meanwhile live elsewhere.
pub fn retarget(words: &[SlotWord], wanted: &[u16]) -> impl Iterator<Item = Write> {
    (0u32..)
        .zip(words.iter().zip(wanted))
        .filter_map(|(slot, (&word, &wanted))| retarget_one(slot, word, wanted))
}

#[inline]
fn retarget_one(slot: u32, word: SlotWord, wanted: u16) -> Option<Write> {
    if wanted == 0 || wanted == word.target() {
        return None;
    }
    if word.stable() == 0 {
        // No flow ever belonged here, so there is nothing to keep.
        let word = word.with_stable(wanted).with_target(wanted);
        return Some(Write::Settle { slot, word });
    }
    let word = word
        .with_target(wanted)
        .with_mark(true)
        .with_settling(false);
    Some(Write::Mark { slot, word })
}

/// Gives up the flows of dead backends: slots whose `stable` is dead take their target. Follows
/// [`retarget`], so that the targets live; marks stay, since records may point elsewhere.
pub fn bury(words: &[SlotWord], is_dead: impl Fn(u16) -> bool) -> impl Iterator<Item = Write> {
    (0u32..)
        .zip(words)
        .filter_map(move |(slot, &word)| bury_one(slot, word, &is_dead))
}

#[inline]
fn bury_one(slot: u32, word: SlotWord, is_dead: impl Fn(u16) -> bool) -> Option<Write> {
    let (stable, target) = (word.stable(), word.target());
    if stable == target || target == 0 || !is_dead(stable) || is_dead(target) {
        return None;
    }
    let word = word.with_stable(target).with_settling(false);
    Some(Write::Settle { slot, word })
}

/// The writes of [`retarget`], and after them those of [`bury`] on what they make of the words.
pub fn change(words: &[SlotWord], wanted: &[u16], is_dead: impl Fn(u16) -> bool) -> Vec<Write> {
    let (mut writes, mut buried) = (Vec::new(), Vec::new());
    for (slot, (&word, &wanted)) in (0u32..).zip(words.iter().zip(wanted)) {
        let target = word.target();
        // Nearly all of them: neither has a reason to write.
        if word.stable() == target && (wanted == target || wanted == 0) {
            continue;
        }
        let write = retarget_one(slot, word, wanted);
        let word = write.map_or(word, |write| write.word().1);
        writes.extend(write);
        buried.extend(bury_one(slot, word, &is_dead));
    }
    writes.append(&mut buried);
    writes
}

/// Marks every slot, before a service that kept a record of every flow stops to do so: its records
/// may point away from the `stable` of any slot, and nobody looks for them in one without a mark.
/// The next round of settling takes the mark from where there are none.
pub fn mark_all(words: &[SlotWord]) -> impl Iterator<Item = Write> {
    (0u32..)
        .zip(words)
        .filter(|(_, word)| !word.is_marked() && word.stable() != 0)
        .map(|(slot, word)| Write::Mark {
            slot,
            word: word.with_mark(true),
        })
}

/// What an agent finds after another one died between any two writes: the writes that mend it.
/// The pool moves if any word has a mark afterwards.
pub fn adopt(words: &[SlotWord], ring: &[u16]) -> impl Iterator<Item = Write> {
    (0u32..)
        .zip(words.iter().zip(ring))
        .filter_map(|(slot, (&found, &ring))| {
            let word = found.with_settling(false);
            if ring != word.stable() {
                Some(Write::Settle { slot, word })
            } else if word != found {
                Some(Write::Word { slot, word })
            } else {
                None
            }
        })
}

/// The slots of a node that joins: those of a peer, marked where they move. It has none of the
/// peer's records.
pub fn join(peer: &[SlotWord]) -> impl Iterator<Item = Write> {
    (0u32..).zip(peer).map(|(slot, &word)| {
        if word.stable() == word.target() {
            let word = SlotWord::rest(word.stable());
            Write::Settle { slot, word }
        } else {
            let word = SlotWord::marked(word.stable(), word.target());
            Write::Mark { slot, word }
        }
    })
}

/// Starts the idle clock of every slot that moves again: a router may have sent other flows here.
pub fn restart_clock(words: &[SlotWord]) -> impl Iterator<Item = Write> {
    (0u32..)
        .zip(words)
        .filter(|(_, word)| word.is_marked())
        .map(|(slot, &word)| Write::Mark {
            slot,
            word: word.with_settling(false),
        })
}

/// Backends that slots name. Their numbers are not to be given to others, and neither are those
/// that a ring or a record names.
#[must_use]
pub fn in_use(words: &[SlotWord]) -> BTreeSet<u16> {
    words
        .iter()
        .flat_map(|word| [word.stable(), word.target()])
        .filter(|&number| number != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: SlotWord = SlotWord::rest(1);

    fn one(mut writes: impl Iterator<Item = Write>) -> Option<Write> {
        let first = writes.next();
        assert_eq!(writes.next(), None);
        first
    }

    #[test]
    fn a_slot_moves_and_comes_back_with_its_mark() {
        let word = SlotWord::marked(1, 2);
        assert_eq!(
            one(retarget(&[REST], &[2])),
            Some(Write::Mark { slot: 0, word })
        );
        let back = SlotWord::marked(1, 1);
        assert_eq!(
            one(retarget(&[word.with_settling(true)], &[1])),
            Some(Write::Mark {
                slot: 0,
                word: back
            })
        );
        assert_eq!(one(retarget(&[back], &[1])), None);
    }

    #[test]
    fn targets_stay_when_nobody_accepts() {
        assert_eq!(one(retarget(&[SlotWord::marked(1, 2)], &[0])), None);
    }

    #[test]
    fn an_empty_slot_takes_its_first_backend_at_once() {
        let word = SlotWord::rest(3);
        let wanted = [3, 3];
        let mut writes = retarget(&[SlotWord::default(), SlotWord::marked(0, 2)], &wanted)
            .collect::<Vec<_>>()
            .into_iter();
        assert_eq!(writes.next(), Some(Write::Settle { slot: 0, word }));
        let word = SlotWord::marked(3, 3);
        assert_eq!(writes.next(), Some(Write::Settle { slot: 1, word }));
    }

    #[test]
    fn only_a_dead_stable_with_a_living_target_is_given_up() {
        let words = [
            SlotWord::marked(1, 2).with_settling(true),
            SlotWord::marked(2, 1),
            SlotWord::rest(1),
            SlotWord::marked(1, 3),
        ];
        assert_eq!(
            one(bury(&words, |number| number == 1 || number == 3)),
            Some(Write::Settle {
                slot: 0,
                word: SlotWord::marked(2, 2)
            })
        );
    }

    #[test]
    fn a_change_is_both_at_once() {
        let words = [
            REST,
            SlotWord::marked(1, 2),
            SlotWord::rest(2),
            SlotWord::default(),
        ];
        let wanted = [2, 3, 2, 3];
        let is_dead = |number: u16| number == 1;
        let mut after = words;
        let mut writes: Vec<Write> = retarget(&words, &wanted).collect();
        apply(&mut after, &writes);
        writes.extend(bury(&after, is_dead));
        assert_eq!(change(&words, &wanted, is_dead), writes);
    }

    #[test]
    fn marks_are_for_slots_that_have_none() {
        let words = [REST, SlotWord::marked(1, 2), SlotWord::default()];
        assert_eq!(
            one(mark_all(&words)),
            Some(Write::Mark {
                slot: 0,
                word: SlotWord::marked(1, 1)
            })
        );
    }

    #[test]
    fn adoption_clears_settling_and_mends_the_ring() {
        let moving = SlotWord::marked(1, 2);
        let words = [REST, moving.with_settling(true), moving, REST];
        let writes: Vec<Write> = adopt(&words, &[1, 1, 1, 2]).collect();
        assert_eq!(
            writes,
            [
                Write::Word {
                    slot: 1,
                    word: moving
                },
                Write::Settle {
                    slot: 3,
                    word: REST
                },
            ]
        );
    }

    #[test]
    fn a_node_that_joins_moves_where_its_peer_does() {
        let mut words = vec![SlotWord::default(); 3];
        let peer = [
            REST,
            SlotWord::marked(1, 2).with_settling(true),
            SlotWord::marked(2, 2),
        ];
        let writes: Vec<Write> = join(&peer).collect();
        apply(&mut words, &writes);
        assert_eq!(words, [REST, SlotWord::marked(1, 2), SlotWord::rest(2)]);
        assert_eq!(in_use(&words), BTreeSet::from([1, 2]));
    }
}
