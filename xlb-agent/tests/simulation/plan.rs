//! What an agent writes to bring its node from where it is to the configuration.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
};

use xlb_agent::{
    ring,
    slots::{self, Write},
};
use xlb_common::rule::SlotWord;

use crate::{
    agent::Op,
    node::{NUMBERS, SLOTS, flags_of},
    off::Off,
    services::Service,
    world::World,
};

impl World {
    /// Plans what brings a node from where it is to the configuration.
    pub(crate) fn plan(&mut self, index: usize) {
        let (off, by_connection) = (self.off, self.by_connection);
        let mut ops = VecDeque::new();
        let mut members = Vec::new();
        let mut dead = BTreeSet::new();
        let node = &mut self.nodes[index];
        let mut server_of = node.server;
        for (&id, server) in &self.servers {
            let known = server_of.iter().position(|&known| known == Some(id));
            let flags = flags_of(
                server.draining || !server.configured,
                server.down,
                server.dead,
            );
            let number = match known {
                Some(number) => number,
                None if server.configured => {
                    let free = (1..NUMBERS).find(|&number| server_of[number].is_none());
                    // All numbers are taken: the backend has to wait.
                    let Some(free) = free else { continue };
                    ops.push_back(Op::Backend(free as u16, Some(id)));
                    server_of[free] = Some(id);
                    free
                }
                None => continue,
            };
            if known.is_none() || node.flags[number] != flags {
                ops.push_back(Op::Flags(number as u16, flags));
            }
            if server.dead {
                dead.insert(number as u16);
            }
            if flags.accepts() {
                members.push(ring::Member {
                    identity: SocketAddr::from(([10, 0, 0, id], 80)),
                    weight: server.weight,
                    number: number as u16,
                });
            }
        }
        let mut wanted = vec![0; SLOTS];
        ring::build(self.key, &members, &mut wanted);
        let mut words = node.words.clone();
        let mut writes: Vec<Write> = slots::retarget(&words, &wanted)
            .map(|write| without_transition(off, &node.words, write))
            .collect();
        slots::apply(&mut words, &writes);
        if off == Off::MarkOfDead {
            writes.extend(
                slots::bury(&words, |number| dead.contains(&number)).map(|write| {
                    let (slot, word) = write.word();
                    Write::Settle {
                        slot,
                        word: word.with_mark(false),
                    }
                }),
            );
        } else {
            writes.extend(slots::bury(&words, |number| dead.contains(&number)));
        }
        slots::apply(&mut words, &writes);
        let policy = Service::Policy;
        let tracked = node.tracked[policy as usize];
        if tracked && !by_connection && off != Off::MarksOfPolicy {
            writes.extend(slots::mark_all(&words));
        }
        if tracked != by_connection && off == Off::MarksBeforePolicy {
            ops.push_back(Op::Tracked(policy, by_connection));
        }
        let moves = writes.iter().any(|write| write.word().1.is_marked());
        if moves && off != Off::MovingFirst {
            ops.push_back(Op::Moving(true));
        }
        push(&mut ops, &writes, off);
        if moves && off == Off::MovingFirst {
            ops.push_back(Op::Moving(true));
        }
        if tracked != by_connection && off != Off::MarksBeforePolicy {
            ops.push_back(Op::Tracked(policy, by_connection));
        }
        if off == Off::Quarantine {
            let servers = &self.servers;
            for (number, id) in server_of.iter().enumerate() {
                if let Some(id) = id
                    && servers.get(id).is_none_or(|server| !server.configured)
                {
                    ops.push_back(Op::Backend(number as u16, None));
                }
            }
        }
        node.agent.queue = ops;
    }
}

/// Takes writes apart into stores.
pub(crate) fn push(queue: &mut VecDeque<Op>, writes: &[Write], off: Off) {
    for &write in writes {
        match write {
            Write::Mark { slot, word } => {
                queue.extend([Op::LastMiss(slot), Op::Word(slot, word), Op::LastMiss(slot)]);
            }
            Write::Word { slot, word } => queue.push_back(Op::Word(slot, word)),
            Write::Settle { slot, word } if off == Off::WordBeforeRing => {
                queue.extend([Op::Ring(slot, word.stable()), Op::Word(slot, word)]);
            }
            Write::Settle { slot, word } => {
                queue.extend([Op::Word(slot, word), Op::Ring(slot, word.stable())]);
            }
        }
    }
}

/// A change of slots with a rule switched off, or as it is.
fn without_transition(off: Off, before: &[SlotWord], write: Write) -> Write {
    let (slot, word) = write.word();
    if off == Off::StableStays {
        let word = SlotWord::rest(word.target());
        return Write::Settle { slot, word };
    }
    let was_marked = before[slot as usize].is_marked();
    if off == Off::MarkOfReturn && was_marked && word.stable() == word.target() {
        let word = word.with_mark(false);
        return Write::Mark { slot, word };
    }
    write
}
