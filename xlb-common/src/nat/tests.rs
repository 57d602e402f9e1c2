//! States, and the allocation of ports.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const NONE: Says = Says {
    syn: false,
    fin: false,
    rst: false,
};
const SYN: Says = Says { syn: true, ..NONE };
const FIN: Says = Says { fin: true, ..NONE };
const RST: Says = Says { rst: true, ..NONE };

fn run(steps: &[(Sender, Says)]) -> u8 {
    steps.iter().fold(state::OPENING, |old, &(from, says)| {
        after_segment(old, from, says)
    })
}

#[test]
fn a_connection_opens_and_closes() {
    use Sender::{Backend, Client};
    let open = [(Client, SYN), (Backend, SYN), (Client, NONE)];
    assert_eq!(run(&open[..1]), state::OPENING);
    assert_eq!(run(&open[..2]), state::ANSWERED);
    assert_eq!(run(&open), state::ESTABLISHED);
    let then = |steps: &[(Sender, Says)]| run(&[&open, steps].concat());
    assert_eq!(
        then(&[(Client, FIN), (Backend, NONE)]),
        state::CLIENT_CLOSED
    );
    assert_eq!(
        then(&[(Backend, FIN), (Client, NONE)]),
        state::BACKEND_CLOSED
    );
    assert_eq!(then(&[(Client, FIN), (Client, FIN)]), state::CLIENT_CLOSED);
    let closed = [(Client, FIN), (Backend, FIN), (Client, NONE)];
    assert_eq!(then(&closed), state::CLOSED);
    assert_eq!(
        then(&[&closed[..], &[(Client, SYN)]].concat()),
        state::OPENING
    );
    assert_eq!(
        then(&[&closed[..], &[(Backend, SYN)]].concat()),
        state::CLOSED
    );
    assert_eq!(then(&[(Backend, RST)]), state::RESET);
    assert_eq!(then(&[(Backend, RST), (Client, NONE)]), state::ESTABLISHED);
    assert_eq!(then(&[(Client, SYN)]), state::ESTABLISHED);
}

/// Ports, and whose they are: what the program would send and translate.
#[derive(Default)]
struct Table {
    words: HashMap<u32, Word>,
    owner: HashMap<u32, usize>,
}

const IDLE_S: u32 = 300;

impl Ports for Table {
    fn read(&mut self, index: u32) -> Option<Word> {
        Some(self.words.get(&index).copied().unwrap_or_default())
    }

    fn exchange(&mut self, index: u32, old: Word, new: Word) -> bool {
        if self.words.get(&index).copied().unwrap_or_default() != old {
            return false;
        }
        self.words.insert(index, new);
        true
    }
}

fn pool(length: u32, first: u16, last: u16) -> NatPool {
    NatPool {
        sources: [3, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        length,
        first,
        last,
        timeouts: Timeouts::default(),
    }
}

#[test]
fn every_port_of_a_small_pool_is_found_and_then_none() {
    for (length, first, last) in [(1, 1024, 9), (2, 65_530, 5), (2, 1024, 15)] {
        let (mut table, pool) = (Table::default(), pool(length, first, last));
        let all = length * (u32::from(last) + 1);
        for n in 0..all {
            let hash = n.wrapping_mul(0x9e37_79b9);
            let (index, word) =
                allocate(&mut table, &pool, hash, false, 7, |word| word).expect("a port");
            assert!((first..=first + last).contains(&port_of(index)));
            assert!([3, 5][..length as usize].contains(&source_of(index)));
            table.words.insert(
                index,
                word.used(state::ESTABLISHED, &pool.timeouts, IDLE_S, 7),
            );
        }
        assert_eq!(table.words.len(), all as usize);
        assert_eq!(
            allocate(&mut table, &pool, 1, false, 7, |word| word),
            Err(Refused::Exhausted)
        );
        assert!(
            allocate(&mut table, &pool, 1, true, 7, |word| word).is_ok(),
            "UDP has its own"
        );
        assert_eq!(
            allocate(&mut table, &pool, 1, false, 7 + IDLE_S, |word| word),
            Err(Refused::Exhausted)
        );
        assert!(allocate(&mut table, &pool, 1, false, 8 + IDLE_S, |word| word).is_ok());
    }
    assert_eq!(
        allocate(&mut Table::default(), &pool(0, 1, 1), 1, false, 7, |word| {
            word
        }),
        Err(Refused::Exhausted)
    );
}

proptest! {
    /// Whatever is opened, used and waited for: no port has two connections, and none is given away
    /// before its timeout.
    #[test]
    fn no_port_has_two_connections(
        steps in prop::collection::vec((any::<u32>(), 0u8..12, 0u32..40), 1..300)
    ) {
        let (mut table, pool) = (Table::default(), pool(2, 2000, 3));
        let mut now_s = 1000;
        for (connection, (hash, state, wait_s)) in steps.into_iter().enumerate() {
            now_s += wait_s;
            let before = table.words.clone();
            let Ok((index, word)) = allocate(&mut table, &pool, hash, false, now_s, |word| word) else {
                // Only a full pool refuses.
                let taken = before.values().filter(|word| !word.is_free(now_s)).count();
                prop_assert_eq!(taken, 8);
                continue;
            };
            let old = before.get(&index).copied().unwrap_or_default();
            prop_assert!(old.until_s() < now_s);
            prop_assert!(!old.is_live(now_s));
            prop_assert_eq!(word.generation(), old.generation() + 1);
            prop_assert_eq!(word.state(), state::CLAIMED);
            let state = state.max(state::MOVED);
            table.words.insert(index, word.used(state, &pool.timeouts, IDLE_S, now_s));
            table.owner.insert(index, connection);
        }
    }
}

#[test]
fn the_table_of_states_is_what_the_rules_say() {
    for from in [Sender::Client, Sender::Backend] {
        for bits in 0..8 {
            let says = Says {
                syn: bits & 1 != 0,
                fin: bits & 2 != 0,
                rst: bits & 4 != 0,
            };
            for old in 0..state::NAMES.len() as u8 {
                let table = |row: u32| AFTER[row as usize][usize::from(old)];
                assert_eq!(
                    table(row(from, false, says)),
                    after_segment(old, from, says)
                );
                assert_eq!(table(row(from, true, says)), after_datagram(old, from));
            }
        }
    }
}
