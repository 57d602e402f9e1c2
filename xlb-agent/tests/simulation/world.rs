//! The world of a history: nodes behind a router, servers, clients, and what happens to them.

use std::collections::BTreeMap;

use xlb_common::rule::{Kind, Verdict, What};

use crate::{
    connections::{Connection, excuse},
    node::{NUMBERS, Node, View, slot_of},
    off::Off,
    rng::Rng,
    services::{Mix, Service},
};

/// Packets that may be inside the program at once, each in the middle of another.
const MAX_DEPTH: usize = 4;

/// What a history is mostly about. Some races need a slot that nobody uses, or a record that is
/// just being deleted, which hardly happens where everything happens at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Focus {
    /// Everything.
    Mixed,
    /// Few clients, long silence: slots settle, under a flood.
    Settling,
    /// Ports used again after long silence: records are collected.
    Collecting,
}

impl Focus {
    /// Shares, of 1,000, of clients, agent, flood, time, changes and crashes; the rest is the
    /// fleet's.
    const fn shares(self) -> [usize; 6] {
        match self {
            Self::Mixed => [600, 200, 80, 60, 30, 15],
            Self::Settling => [250, 420, 130, 90, 40, 60],
            Self::Collecting => [430, 330, 30, 90, 60, 50],
        }
    }
}

/// A server of the fleet, as the configuration and its checks see it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Server {
    pub(crate) configured: bool,
    pub(crate) weight: u32,
    pub(crate) draining: bool,
    pub(crate) down: bool,
    pub(crate) dead: bool,
}

/// What there is to count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) packets: u64,
    pub(crate) opened: u64,
    pub(crate) established: u64,
    pub(crate) changes: u64,
    pub(crate) crashes: u64,
    pub(crate) promoted: u64,
    pub(crate) confirmed: u64,
    pub(crate) full: u64,
    pub(crate) excused: [u64; excuse::COUNT],
}

/// Everything.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) off: Off,
    pub(crate) mix: Mix,
    /// Whether the configuration has the policy of [`Service::Policy`] decide by connection.
    pub(crate) by_connection: bool,
    pub(crate) key: [u8; 16],
    pub(crate) idle_s: u32,
    pub(crate) now_s: u32,
    pub(crate) changed_s: u32,
    pub(crate) keys: u32,
    pub(crate) nodes: Vec<Node>,
    /// What the router's hash starts from.
    pub(crate) router: u32,
    pub(crate) servers: BTreeMap<u8, Server>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) next_packet: u64,
    pub(crate) tally: Tally,
    /// Connections broken without an excuse, and what happened to them.
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Option<Vec<String>>,
    /// Flows of the packets that are inside the program, each in the middle of the one before.
    pub(crate) inside: Vec<u32>,
    lives: u32,
    focus: Focus,
    pub(crate) capacity: (usize, usize),
}

impl World {
    pub(crate) fn new(seed: u64, off: Off) -> Self {
        let mut rng = Rng::new(seed);
        let focus = match rng.below(4) {
            0 | 1 => Focus::Mixed,
            2 => Focus::Settling,
            _ => Focus::Collecting,
        };
        let capacity = match rng.below(3) {
            _ if focus == Focus::Settling => (1 + rng.below(3), 1 + rng.below(3)),
            0 => (1 + rng.below(4), 1 + rng.below(4)),
            1 => (2 + rng.below(6), 4 + rng.below(24)),
            _ => (64, 64),
        };
        let nodes = if rng.chance(60) { 1 } else { 2 + rng.below(2) };
        let mix = Mix::draw(&mut rng);
        let by_connection = rng.chance(70);
        let mut world = Self {
            off,
            mix,
            by_connection,
            key: rng
                .next()
                .to_le_bytes()
                .repeat(2)
                .try_into()
                .unwrap_or_default(),
            focus,
            idle_s: match focus {
                Focus::Mixed => 70 + rng.below(130) as u32,
                Focus::Settling | Focus::Collecting => 70,
            },
            now_s: 10_000,
            changed_s: 10_000,
            keys: match focus {
                Focus::Mixed => 4 + rng.below(24) as u32,
                Focus::Settling | Focus::Collecting => 2 + rng.below(5) as u32,
            },
            nodes: (0..nodes).map(|_| Node::new(capacity)).collect(),
            router: 0,
            servers: BTreeMap::new(),
            connections: Vec::new(),
            next_packet: 1,
            tally: Tally::default(),
            broken: Vec::new(),
            trace: None,
            inside: Vec::new(),
            lives: 0,
            capacity,
            rng,
        };
        let servers = 2 + world.rng.below(3) as u8;
        for id in 1..=servers {
            let weight = 1 + world.rng.below(3) as u32;
            let server = Server {
                configured: true,
                weight,
                ..Server::default()
            };
            world.servers.insert(id, server);
        }
        for index in 0..nodes {
            world.start_node(index);
        }
        world
    }

    /// A node at rest on the configuration, as the fleet begins.
    fn start_node(&mut self, index: usize) {
        self.begin_life(index);
        self.nodes[index].announced = true;
        self.nodes[index].tracked = self.tracking();
        self.nodes[index].agent.dirty = true;
        // The first plan takes all slots at once, since no flow ever belonged anywhere.
        for _ in 0..64 {
            self.agent_step(index);
            if self.nodes[index].agent.queue.is_empty() && !self.nodes[index].agent.dirty {
                break;
            }
        }
    }

    /// What a node knows of flows is gone when it leaves, so it comes back as another.
    pub(crate) fn begin_life(&mut self, index: usize) {
        self.lives += 1;
        self.nodes[index].life = self.lives;
        self.nodes[index].alive = true;
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!(
                "{:6} {}{}",
                self.now_s,
                "  ".repeat(self.inside.len()),
                text()
            ));
        }
    }

    /// Plays a history.
    pub(crate) fn play(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step(None);
            if !self.broken.is_empty() {
                return;
            }
        }
    }

    /// Lets other things happen while a packet is between two accesses.
    pub(crate) fn pause(&mut self, key: u32) {
        if self.inside.len() >= MAX_DEPTH || !self.rng.chance(15) {
            return;
        }
        for _ in 0..=self.rng.below(3) {
            if self.rng.chance(50) {
                let nodes = self.nodes.len();
                let node = self.rng.below(nodes);
                let steps = 1 + self.rng.below(6);
                for _ in 0..steps {
                    self.agent_step(node);
                }
            } else {
                self.step(Some(key));
            }
        }
    }

    /// Something happens. Inside a packet (`key` is its flow) time hardly passes.
    fn step(&mut self, key: Option<u32>) {
        let nodes = self.nodes.len();
        let node = self.rng.below(nodes);
        let mut drawn = self.rng.below(1000);
        let kind = self.focus.shares().iter().position(|&share| {
            let hit = drawn < share;
            drawn = drawn.saturating_sub(share);
            hit
        });
        match kind {
            Some(0) => self.client(key),
            Some(1) => {
                for _ in 0..=self.rng.below(8) {
                    self.agent_step(node);
                }
            }
            Some(2) => self.flood(),
            Some(3) if key.is_none() => self.pass_time(),
            Some(4) => self.change(),
            Some(5) => {
                self.tally.crashes += 1;
                self.note(|| format!("agent of node {node} crashes"));
                self.agent_crash(node);
            }
            None if nodes > 1 && key.is_none() => self.fleet(node),
            Some(_) | None => (),
        }
    }

    fn pass_time(&mut self) {
        let seconds = match self.rng.below(10) {
            _ if self.focus != Focus::Mixed => 1 + self.rng.below(self.idle_s as usize + 20),
            0..6 => 1 + self.rng.below(3),
            6..9 => 5 + self.rng.below(25),
            _ => 30 + self.rng.below(40),
        };
        self.now_s += seconds as u32;
        // Most connections talk often enough that they are never idle for the idle time.
        let quiet = self.focus != Focus::Mixed && self.rng.chance(50);
        if !quiet {
            self.keep_alive();
        }
        for node in 0..self.nodes.len() {
            for _ in 0..self.rng.below(40) {
                self.agent_step(node);
            }
        }
    }

    /// The configuration, or what checks say of a server.
    fn change(&mut self) {
        self.tally.changes += 1;
        self.changed_s = self.now_s;
        if self.mix != Mix::Ring && self.rng.chance(15) {
            self.by_connection = !self.by_connection;
            let by_connection = self.by_connection;
            self.note(|| format!("policy by connection: {by_connection}"));
            for node in &mut self.nodes {
                node.agent.dirty = true;
            }
            return;
        }
        let id = 1 + self.rng.below(6) as u8;
        let others = self
            .servers
            .iter()
            .filter(|(other, server)| {
                **other != id && server.configured && !server.draining && !server.down
            })
            .count();
        let action = self.rng.below(12);
        let weight = 1 + self.rng.below(3) as u32;
        let drop_it = self.rng.chance(15);
        let server = self.servers.entry(id).or_default();
        let dead = server.dead;
        match action {
            0..4 => {
                server.configured = true;
                server.draining = false;
                server.weight = weight;
                server.dead = server.down && server.dead;
            }
            4..6 => {
                server.configured = false;
                server.dead |= drop_it && others > 0;
            }
            6 => server.draining = true,
            7 => server.draining = false,
            8 => server.down = true,
            9 | 10 => {
                server.down = false;
                server.dead = false;
            }
            // The grace is over.
            _ => server.dead |= server.down && others > 0,
        }
        let now = *server;
        if now.dead && !dead {
            self.server_died(id);
        }
        self.note(|| format!("server {id}: {now:?}"));
        for node in &mut self.nodes {
            node.agent.dirty = true;
        }
    }

    /// Sends a packet of a flow through a node.
    pub(crate) fn packet(&mut self, node: usize, key: u32, kind: Kind) -> (Option<u8>, What) {
        self.tally.packets += 1;
        let id = self.next_packet;
        self.next_packet += 1;
        self.nodes[node].inside.insert(id);
        self.inside.push(key);
        let verdict = self.inside(node, key, kind);
        self.inside.pop();
        let server = self.nodes[node].server_of(verdict.backend);
        self.nodes[node].inside.remove(&id);
        match verdict.what {
            What::Promoted => self.tally.promoted += 1,
            What::Confirmed => self.tally.confirmed += 1,
            What::FullReused | What::FullToStable | What::FullDropped => self.tally.full += 1,
            What::Rest
            | What::Datagram
            | What::Untracked
            | What::SynRecorded
            | What::SynUnrecorded
            | What::SynAgain
            | What::TombstoneDropped
            | What::Recorded
            | What::Missed
            | What::Moved
            | What::FlowRecorded
            | What::FlowFull => (),
        }
        self.note(|| {
            let slot = slot_of(key);
            let what = verdict.what;
            format!("node {node} key {key} (slot {slot}) {kind:?} -> {server:?} {what:?}")
        });
        (server, verdict.what)
    }

    fn inside(&mut self, node: usize, key: u32, kind: Kind) -> Verdict {
        let slot = slot_of(key) as usize;
        let rest = |backend| Verdict {
            backend,
            what: What::Rest,
        };
        let service = self.mix.service_of(key);
        // Both stand in one word.
        let moving = self.nodes[node].moving;
        let tracked = self.nodes[node].tracked[service as usize];
        self.pause(key);
        if !moving && !tracked {
            return rest(self.nodes[node].ring[slot]);
        }
        let word = self.nodes[node].words[slot];
        self.pause(key);
        let word = match tracked && self.off != Off::TrackedIsMarked {
            true => word.with_mark(true),
            false => word,
        };
        let off = self.off;
        let always = tracked && service == Service::Policy;
        let mut view = View {
            world: self,
            node,
            key,
            slot,
            now_s: None,
        };
        let verdict = off.select(&mut view, word, kind, always);
        debug_assert!(usize::from(verdict.backend) < NUMBERS);
        verdict
    }
}

impl Tally {
    /// Adds another history's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.opened += other.opened;
        self.established += other.established;
        self.changes += other.changes;
        self.crashes += other.crashes;
        self.promoted += other.promoted;
        self.confirmed += other.confirmed;
        self.full += other.full;
        for (sum, more) in self.excused.iter_mut().zip(other.excused) {
            *sum += more;
        }
    }
}
