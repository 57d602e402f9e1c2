//! What an agent does when there is no change to make: it settles slots, collects records and
//! frees numbers.

use xlb_agent::slots;
use xlb_common::{record::FlowValue, rule::BackendFlags};

use crate::{
    agent::{Buried, Job, Op, Scan},
    node::{NUMBERS, Node, SLOTS, Table, is_buried, slot_of},
    off::Off,
    plan::push,
    world::World,
};

impl World {
    /// Goes on with settling or collecting, or begins it.
    pub(crate) fn work(&mut self, index: usize) {
        let job = std::mem::take(&mut self.nodes[index].agent.job);
        let job = match job {
            Job::None => self.begin(index),
            Job::SettleGrace(until, scan) => match self.waited(index, until) {
                Ok(()) => Job::SettleScan(scan),
                Err(until) => Job::SettleGrace(Some(until), scan),
            },
            Job::SettleScan(scan) => self.scan(index, scan),
            Job::Bury(list, pending, cursor) => self.find_idle(index, list, pending, cursor),
            Job::BuryNext(mut list, pending, key, found) => {
                let off = self.off;
                let records = &mut self.nodes[index].table(pending).records;
                if off == Off::TombstoneFirst {
                    records.remove(&key);
                } else if let Some(value) = records.get_mut(&key)
                    && value.word == found.word
                {
                    // This is the compare-and-exchange.
                    value.word = found.word_with_tombstone(true);
                    list.push((pending, key, found));
                }
                Job::Bury(list, pending, Some(key))
            }
            Job::BuryGrace(until, list) => match self.waited(index, until) {
                Ok(()) => Job::Delete(list, None),
                Err(until) => Job::BuryGrace(Some(until), list),
            },
            Job::Delete(list, None) => self.look_again(index, list),
            Job::Delete(list, Some((pending, key))) => {
                self.note(|| {
                    format!("agent of node {index}: deletes key {key}, pending: {pending}")
                });
                self.nodes[index].table(pending).records.remove(&key);
                Job::Delete(list, None)
            }
        };
        self.nodes[index].agent.job = job;
    }

    /// Whether the packets that were inside when the wait began have left.
    fn waited(&self, index: usize, until: Option<u64>) -> Result<(), u64> {
        let until = until.unwrap_or(self.next_packet);
        let oldest = self.nodes[index].inside.first();
        if oldest.is_some_and(|&oldest| oldest < until) && self.off != Off::Grace {
            return Err(until);
        }
        Ok(())
    }

    fn begin(&mut self, index: usize) -> Job {
        if !self.nodes[index].announced {
            return Job::None;
        }
        if self.rng.chance(40) {
            return Job::Bury(Vec::new(), true, None);
        }
        let (idle_s, now_s, off) = (self.idle_s, self.now_s, self.off);
        let misses = self.misses(index);
        let marked = self.nodes[index].words.iter().any(|word| word.is_marked());
        let node = &mut self.nodes[index];
        let mut scan = Scan::default();
        if !marked && node.moving {
            node.agent.queue.push_back(Op::Moving(false));
            return Job::None;
        }
        let writes = node
            .agent
            .settler
            .begin(&node.words, &misses, idle_s, now_s);
        push(&mut node.agent.queue, &writes, off);
        // What is named now may still be in a packet's hands until the grace period is over.
        scan.named = slots::in_use(&node.words);
        scan.named.extend(&node.ring);
        scan.misses_s = misses;
        Job::SettleGrace(None, scan)
    }

    /// The last misses as the agent knows them: the latest of the nodes that announce.
    fn misses(&self, index: usize) -> Vec<u32> {
        if self.off == Off::IdleFromLastMiss {
            return vec![self.changed_s; SLOTS];
        }
        if self.off == Off::FleetAgrees {
            return self.nodes[index].last_miss_s.clone();
        }
        let own = &self.nodes[index];
        (0..SLOTS)
            .map(|slot| {
                let target = own.server_of(own.words[slot].target());
                let nodes = self.nodes.iter().filter(|node| node.announced);
                let miss_s = |node: &Node| {
                    let word = node.words[slot];
                    // A node that has not begun to move the slot notes no misses.
                    let moves = word.is_marked() || node.server_of(word.stable()) == target;
                    if moves {
                        node.last_miss_s[slot]
                    } else {
                        self.now_s
                    }
                };
                nodes.map(miss_s).max().unwrap_or(self.now_s)
            })
            .collect()
    }

    /// Reads the next record, in the order of keys; ends the round after the last one.
    fn scan(&mut self, index: usize, mut scan: Scan) -> Job {
        let (off, mix) = (self.off, self.mix);
        let node = &mut self.nodes[index];
        let pending = scan.second_table == (off == Off::ScanOrder);
        let table = if pending { &node.pending } else { &node.flows };
        if let Some((key, value)) = next(table, scan.cursor) {
            let slot = slot_of(key);
            // Of a service that keeps a record of every flow, no packet asks for the mark.
            let needs_mark = !node.tracked[mix.service_of(key) as usize] && off != Off::Scan;
            if value.backend() != node.words[slot as usize].stable() && needs_mark {
                scan.elsewhere.insert(slot);
            }
            scan.named.insert(value.backend());
            scan.cursor = Some(key);
            return Job::SettleScan(scan);
        }
        if !scan.second_table {
            scan.second_table = true;
            scan.cursor = None;
            return Job::SettleScan(scan);
        }
        let misses = if off == Off::ReadAgain {
            std::mem::take(&mut scan.misses_s)
        } else {
            self.misses(index)
        };
        let node = &mut self.nodes[index];
        let mut named = scan.named;
        named.extend(slots::in_use(&node.words));
        named.extend(&node.ring);
        let writes = node
            .agent
            .settler
            .finish(&node.words, &misses, &scan.elsewhere);
        push(&mut node.agent.queue, &writes, off);
        for number in 1..NUMBERS as u16 {
            let id = node.server[usize::from(number)];
            let removed = id.is_some_and(|id| {
                let server = self.servers.get(&id);
                server.is_none_or(|server| !server.configured)
            });
            if removed && !named.contains(&number) {
                let queue = &mut node.agent.queue;
                queue.push_back(Op::Flags(number, BackendFlags(0)));
                queue.push_back(Op::Backend(number, None));
                node.agent.dirty = true;
            }
        }
        Job::None
    }

    /// Looks at the next record of a table, whether it is idle.
    fn find_idle(&mut self, index: usize, list: Buried, pending: bool, cursor: Option<u32>) -> Job {
        let (idle_s, now_s) = (self.idle_s, self.now_s);
        let table = self.nodes[index].table(pending);
        let Some((key, value)) = next(table, cursor) else {
            return match pending {
                true => Job::Bury(list, false, None),
                false if list.is_empty() => Job::None,
                false => Job::BuryGrace(None, list),
            };
        };
        let over = if pending {
            slots::pending_is_over(value, idle_s, now_s)
        } else {
            slots::flow_is_over(value, idle_s, now_s)
        };
        if over {
            return Job::BuryNext(list, pending, key, value);
        }
        // A tombstone that an agent left behind when it died.
        if is_buried(&value)
            && let Some(value) = table.records.get_mut(&key)
        {
            value.word = value.word_with_tombstone(false);
        }
        Job::Bury(list, pending, Some(key))
    }

    /// Reads a record with a tombstone again; it is deleted in a step of its own.
    fn look_again(&mut self, index: usize, mut list: Buried) -> Job {
        let Some((pending, key, found)) = list.pop() else {
            return Job::None;
        };
        let second_look = self.off != Off::SecondLook;
        let records = &mut self.nodes[index].table(pending).records;
        if let Some(value) = records.get_mut(&key) {
            if !second_look || slots::may_delete(found, *value) {
                return Job::Delete(list, Some((pending, key)));
            }
            if is_buried(value) {
                value.word = value.word_with_tombstone(false);
            }
        }
        Job::Delete(list, None)
    }
}

/// The record after `cursor`.
fn next(table: &Table, cursor: Option<u32>) -> Option<(u32, FlowValue)> {
    let from = cursor.map_or(0, |cursor| cursor + 1);
    let mut range = table.records.range(from..);
    range.next().map(|(&key, &value)| (key, value))
}
