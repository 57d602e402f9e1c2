//! An agent: one write at a time, so that packets and crashes come between any two of them.

use std::collections::{BTreeSet, VecDeque};

use xlb_agent::slots::{self, Settler, Write};
use xlb_common::{
    maps::backend_flag,
    record::FlowValue,
    rule::{BackendFlags, SlotWord},
};

use crate::{off::Off, plan::push, services::Service, world::World};

/// A store, or a system call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Backend(u16, Option<u8>),
    Flags(u16, BackendFlags),
    Moving(bool),
    /// Whether a service keeps a record of every flow.
    Tracked(Service, bool),
    LastMiss(u32),
    Word(u32, SlotWord),
    Ring(u32, u16),
    /// Copies a slot from a node that announces.
    Copy(u32),
    /// Begins to announce, if what was copied still holds.
    Announce,
}

/// What an agent remembers; all of it is gone after a crash.
#[derive(Default)]
pub(crate) struct Agent {
    pub(crate) queue: VecDeque<Op>,
    pub(crate) dirty: bool,
    pub(crate) settler: Settler,
    pub(crate) job: Job,
}

/// What an agent is about when there is no change to make.
#[derive(Default)]
pub(crate) enum Job {
    #[default]
    None,
    /// Waits for packets older than this, if it has been set.
    SettleGrace(Option<u64>, Scan),
    SettleScan(Scan),
    /// Goes through a table's keys to give tombstones.
    Bury(Buried, bool, Option<u32>),
    BuryNext(Buried, bool, u32, FlowValue),
    BuryGrace(Option<u64>, Buried),
    Delete(Buried, Option<(bool, u32)>),
}

/// Records that got a tombstone: table, key, and what they were before.
pub(crate) type Buried = Vec<(bool, u32, FlowValue)>;

/// A scan of both tables.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) second_table: bool,
    pub(crate) cursor: Option<u32>,
    pub(crate) elsewhere: BTreeSet<u32>,
    pub(crate) named: BTreeSet<u16>,
    /// Last misses when the round began.
    pub(crate) misses_s: Vec<u32>,
}

impl World {
    /// Lets the agent of a node do the next thing.
    pub(crate) fn agent_step(&mut self, node: usize) {
        if !self.nodes[node].alive {
            return;
        }
        if let Some(op) = self.nodes[node].agent.queue.pop_front() {
            self.carry_out(node, op);
            return;
        }
        if self.nodes[node].agent.dirty && self.nodes[node].announced {
            let agent = &mut self.nodes[node].agent;
            agent.dirty = false;
            agent.settler.interrupt();
            if matches!(agent.job, Job::SettleGrace(..) | Job::SettleScan(..)) {
                agent.job = Job::None;
            }
            self.plan(node);
            return;
        }
        self.work(node);
    }

    /// Kills the agent of a node; another one adopts what it finds.
    pub(crate) fn agent_crash(&mut self, node: usize) {
        let off = self.off;
        let node = &mut self.nodes[node];
        if !node.announced {
            return;
        }
        node.agent = Agent {
            dirty: true,
            ..Agent::default()
        };
        if off == Off::Adopt {
            return;
        }
        let writes: Vec<Write> = slots::adopt(&node.words, &node.ring).collect();
        if node.words.iter().any(|word| word.is_marked()) {
            node.agent.queue.push_back(Op::Moving(true));
        }
        push(&mut node.agent.queue, &writes, off);
    }

    fn carry_out(&mut self, index: usize, op: Op) {
        let now_s = self.now_s;
        let off = self.off;
        self.note(|| format!("agent of node {index}: {op:?}"));
        if let Op::Flags(number, flags) = op
            && flags.has(backend_flag::DEAD)
            && let Some(id) = self.nodes[index].server_of(number)
        {
            // A node may get to know of a death when it is already over.
            self.server_died(id);
        }
        if let Op::Word(slot, word) = op {
            self.slot_changes(index, slot, word);
        }
        let node = &mut self.nodes[index];
        match op {
            Op::Backend(number, server) => node.server[usize::from(number)] = server,
            Op::Flags(number, flags) => node.flags[usize::from(number)] = flags,
            Op::Moving(moving) => node.moving = moving,
            Op::Tracked(service, tracked) => node.tracked[service as usize] = tracked,
            Op::LastMiss(slot) => {
                if off != Off::MissOfChange {
                    node.last_miss_s[slot as usize] = now_s;
                }
            }
            Op::Word(slot, word) => node.words[slot as usize] = word,
            Op::Ring(slot, number) => node.ring[slot as usize] = number,
            Op::Copy(slot) => self.copy_slot(index, slot as usize),
            Op::Announce => self.announce(index),
        }
    }
}
