//! The fleet: nodes that leave and join, and the router before them.

use xlb_common::rule::{BackendFlags, SlotWord};

use crate::{
    agent::Op,
    node::{Node, SLOTS, flags_of},
    off::Off,
    rng::Rng,
    world::World,
};

impl World {
    /// The router takes a node out, lets one in, or spreads its flows anew.
    pub(crate) fn fleet(&mut self, index: usize) {
        let announced = self.nodes.iter().filter(|node| node.announced).count();
        let node = &mut self.nodes[index];
        match self.rng.below(3) {
            0 => self.router = self.router.wrapping_add(1),
            1 if node.announced && announced > 1 => {
                self.nodes[index] = Node::new(self.capacity);
                self.note(|| format!("node {index} leaves"));
                self.restart_clocks();
            }
            _ if !self.nodes[index].alive => {
                let tracked = self.tracking();
                let node = &mut self.nodes[index];
                node.moving = true;
                node.tracked = tracked;
                let slots = (0..SLOTS as u32).map(Op::Copy);
                node.agent.queue = slots.chain([Op::Announce]).collect();
                self.begin_life(index);
                self.note(|| format!("node {index} joins"));
            }
            _ => (),
        }
    }

    /// Copies a slot from a peer, with one's own numbers.
    pub(crate) fn copy_slot(&mut self, index: usize, slot: usize) {
        let word = self.peer_word(slot);
        let word = if word.stable() == word.target() {
            SlotWord::rest(self.own_number(index, word.stable()))
        } else {
            let stable = self.own_number(index, word.stable());
            SlotWord::marked(stable, self.own_number(index, word.target()))
        };
        let now_s = self.now_s;
        let node = &mut self.nodes[index];
        node.last_miss_s[slot] = now_s;
        node.words[slot] = word;
        node.ring[slot] = word.stable();
    }

    /// A slot of the first node that announces, in terms of servers.
    fn peer_word(&self, slot: usize) -> SlotWord {
        let Some(peer) = self.nodes.iter().find(|node| node.announced) else {
            return SlotWord::default();
        };
        let server = |number| u16::from(peer.server_of(number).unwrap_or(0));
        let word = peer.words[slot];
        if self.off == Off::JoinCopies {
            let target = server(word.target());
            return word.with_stable(target).with_target(target);
        }
        let (stable, target) = (server(word.stable()), server(word.target()));
        word.with_stable(stable).with_target(target)
    }

    /// The number of a server on a node that joins, which is given one if need be.
    fn own_number(&mut self, index: usize, server: u16) -> u16 {
        let id = server as u8;
        let flags = self.servers.get(&id).map(|server| {
            flags_of(
                server.draining || !server.configured,
                server.down,
                server.dead,
            )
        });
        let node = &mut self.nodes[index];
        if let Some(number) = node.number_of(id) {
            return number;
        }
        let Some(number) = node.free_number() else {
            return 0;
        };
        node.server[usize::from(number)] = Some(id);
        node.flags[usize::from(number)] = flags.unwrap_or(BackendFlags(0));
        number
    }

    /// A node announces what it copied, unless its peer's slots have changed meanwhile.
    pub(crate) fn announce(&mut self, index: usize) {
        let server = |number| u16::from(self.nodes[index].server_of(number).unwrap_or(0));
        let changed: Vec<u32> = (0..SLOTS)
            .filter(|&slot| {
                let (own, peer) = (self.nodes[index].words[slot], self.peer_word(slot));
                (server(own.stable()), server(own.target())) != (peer.stable(), peer.target())
            })
            .map(|slot| slot as u32)
            .collect();
        let node = &mut self.nodes[index];
        if changed.is_empty() {
            node.announced = true;
            node.agent.dirty = true;
            self.note(|| format!("node {index} announces"));
            self.restart_clocks();
        } else {
            let copies = changed.into_iter().map(Op::Copy);
            node.agent.queue = copies.chain([Op::Announce]).collect();
        }
    }

    /// Flows may come to any node now: the idle clock of every slot that moves starts again.
    fn restart_clocks(&mut self) {
        for node in &mut self.nodes {
            node.agent.settler.interrupt();
            for slot in 0..SLOTS {
                if node.words[slot].is_marked() {
                    node.last_miss_s[slot] = self.now_s;
                }
            }
        }
    }

    /// The node that the router sends a flow to.
    pub(crate) fn route(&self, key: u32) -> usize {
        let announced: Vec<usize> = (0..self.nodes.len())
            .filter(|&node| self.nodes[node].announced)
            .collect();
        let hash = Rng::new(u64::from(key) << 32 | u64::from(self.router)).below(announced.len());
        announced[hash]
    }
}
