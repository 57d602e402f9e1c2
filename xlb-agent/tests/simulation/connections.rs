//! Clients and servers, and the oracle that knows where each connection lives.

use std::collections::BTreeSet;

use xlb_common::{
    maps::backend_flag::DEAD,
    rule::{Kind, SlotWord, What},
};

use crate::{node::slot_of, off::Off, services::Service, world::World};

/// Flows of the flood lie beyond those of clients.
const FLOOD: u32 = 1 << 20;

/// How long a server tries to finish a handshake, seconds; less than `PENDING_TTL_S`.
const HANDSHAKE_S: u32 = 63;

/// What a client may send before it hears from its server: ten segments (RFC 6928).
const INITIAL_WINDOW: u32 = 14_600;

/// Why a connection may break: the classes of `consistency.md` that bear on established ones.
pub(crate) mod excuse {
    /// Its server was given up.
    pub(crate) const DEAD: usize = 0;
    /// It was idle for the idle time.
    pub(crate) const IDLE: usize = 1;
    /// Its SYN needed no record, and a copy of it went elsewhere: a later one, or one that was
    /// inside the program at the same time.
    pub(crate) const SYN_COPY: usize = 2;
    /// It began while its slot was moving, or was always to be recorded, and another node handled
    /// it later.
    pub(crate) const NODE: usize = 3;
    /// A flow of UDP that found no room for its record.
    pub(crate) const FULL: usize = 4;
    /// It was not established when its slot changed: its SYN was inside the program while the slot
    /// was taken from a server that was given up, or so were its first datagrams, while it got
    /// another target.
    pub(crate) const HANDSHAKE: usize = 5;

    /// How many there are.
    pub(crate) const COUNT: usize = 6;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Opening,
    Open,
    /// The client has sent FIN, and still talks.
    HalfClosed,
    Closed,
}

/// A connection of a client.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) key: u32,
    isn: u32,
    pub(crate) state: State,
    /// The server whose SYN-ACK came first.
    pub(crate) owner: Option<u8>,
    /// Servers whose SYN-ACK is on its way, and since when.
    answers: Vec<(u8, u32)>,
    /// Where copies of its SYN went, and why, in the order in which they set out.
    syns: Vec<Option<(usize, u8, What)>>,
    syn_s: u32,
    /// Bytes that were sent.
    sent: u32,
    /// Whether its server has heard of its being open.
    heard: bool,
    last_s: u32,
    /// Nodes that handled it; one that has left and joined again is another.
    nodes: BTreeSet<u32>,
    begun_moving: bool,
    /// Copies of its SYN, or datagrams before the first was answered, inside the program.
    syns_inside: u32,
    /// Whether two of them were inside at once.
    overtaken: bool,
    /// Whether its slot changed meanwhile, as [`excuse::HANDSHAKE`] says.
    slot_changed: bool,
    /// Whether someone forged a SYN of it.
    forged: bool,
    /// Servers that were given up since it began.
    given_up: BTreeSet<u8>,
    pub(crate) excuses: [bool; excuse::COUNT],
}

impl Connection {
    /// A connection whose client is about to send its first packet.
    pub(crate) fn new(key: u32, isn: u32, begun_moving: bool, now_s: u32) -> Self {
        Self {
            key,
            isn,
            state: State::Opening,
            owner: None,
            answers: Vec::new(),
            syns: Vec::new(),
            syn_s: now_s,
            sent: 0,
            heard: false,
            last_s: now_s,
            nodes: BTreeSet::new(),
            begun_moving,
            syns_inside: 0,
            overtaken: false,
            slot_changed: false,
            forged: false,
            given_up: BTreeSet::new(),
            excuses: [false; excuse::COUNT],
        }
    }

    /// One of its first packets enters the program.
    pub(crate) fn enters(&mut self) {
        self.syns_inside += 1;
        self.overtaken |= self.syns_inside > 1;
    }

    /// It has left the program.
    pub(crate) fn leaves(&mut self) {
        self.syns_inside -= 1;
    }
}

impl World {
    /// A client does something; inside a packet of flow `key`, often one of the same flow.
    pub(crate) fn client(&mut self, key: Option<u32>) {
        let key = match key {
            Some(key) if key < self.keys && self.rng.chance(60) => key,
            Some(_) | None => self.rng.below(self.keys as usize) as u32,
        };
        let is_udp = self.mix.service_of(key) == Service::Datagrams;
        let Some(index) = self.live(key) else {
            if is_udp {
                self.open_flow(key);
            } else {
                self.open(key);
            }
            return;
        };
        if is_udp {
            self.use_flow(index);
            return;
        }
        match self.connections[index].state {
            State::Opening => {
                // The answer takes a round trip, and no packet is inside the program for as long.
                if self.rng.chance(30) || self.inside.contains(&key) {
                    self.syn(index);
                } else {
                    self.establish(index);
                }
            }
            State::Open | State::HalfClosed => match self.rng.below(100) {
                0..70 => self.talk(index),
                70..76 => self.syn_copy(index),
                // Forged, by someone who knows the ports; not during the handshake.
                76..82 if self.connections[index].heard && !self.inside.contains(&key) => {
                    let isn = self.forged_number(index, 1 << 31);
                    self.connections[index].forged = true;
                    self.stray(key, Kind::Syn { isn });
                }
                76..82 => self.talk(index),
                82..85 => self.reset(index),
                85..88 => self.stray(key, Kind::Untracked),
                88..90 => self.straggler(index),
                90..95 => {
                    self.connections[index].state = State::HalfClosed;
                    self.fin(index);
                }
                _ => {
                    self.talk(index);
                    self.connections[index].state = State::Closed;
                }
            },
            State::Closed => (),
        }
    }

    fn live(&self, key: u32) -> Option<usize> {
        (0..self.connections.len()).rev().find(|&index| {
            let connection = &self.connections[index];
            connection.key == key && connection.state != State::Closed
        })
    }

    /// A new connection of a port that may have been used before. A port is not used again while a
    /// packet of its older connection is still inside the program: that takes microseconds, and
    /// using it again takes round trips.
    fn open(&mut self, key: u32) {
        if self.inside.contains(&key) {
            return;
        }
        self.forget_closed();
        self.tally.opened += 1;
        let isn = self.rng.next() as u32;
        let begun_moving = self.is_moving(key);
        self.connections
            .push(Connection::new(key, isn, begun_moving, self.now_s));
        self.syn(self.connections.len() - 1);
    }

    /// Keeps the last closed connections, whose packets may still wander about.
    pub(crate) fn forget_closed(&mut self) {
        // Packets inside the program know connections by their places.
        if self.connections.len() > 200 && self.inside.is_empty() {
            let mut closed = 0;
            self.connections.reverse();
            self.connections.retain(|connection| {
                closed += u32::from(connection.state == State::Closed);
                connection.state != State::Closed || closed < 50
            });
            self.connections.reverse();
        }
    }

    /// Whether the slot of a flow is not at rest for it, or is not the same on all nodes.
    fn is_moving(&self, key: u32) -> bool {
        let slot = slot_of(key) as usize;
        let service = self.mix.service_of(key) as usize;
        let mut stable = None;
        self.nodes.iter().filter(|node| node.alive).any(|node| {
            let word = node.words[slot];
            let server = node.server_of(word.stable());
            let other = stable.is_some_and(|stable| stable != server);
            stable = Some(server);
            other || word.is_marked() || node.tracked[service]
        })
    }

    /// Sends a packet of a connection; where it arrives.
    pub(crate) fn send(&mut self, index: usize, kind: Kind) -> (usize, Option<u8>, What) {
        let (now_s, idle_s) = (self.now_s, self.idle_s);
        let node = self.route(self.connections[index].key);
        let connection = &mut self.connections[index];
        if now_s - connection.last_s > idle_s {
            connection.excuses[excuse::IDLE] = true;
        }
        connection.last_s = now_s;
        connection.nodes.insert(self.nodes[node].life);
        let key = connection.key;
        let (server, what) = self.packet(node, key, kind);
        (node, server, what)
    }

    fn syn(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        if connection.owner.is_none() && self.now_s - connection.syn_s > 2 * HANDSHAKE_S {
            connection.state = State::Closed;
            return;
        }
        let isn = connection.isn;
        let copy = connection.syns.len();
        connection.syns_inside += 1;
        connection.overtaken |= connection.syns_inside > 1;
        connection.syns.push(None);
        // A slot that begins to move while the first SYN is under way counts as moving.
        let (node, server, what) = self.send(index, Kind::Syn { isn });
        self.connections[index].leaves();
        let moving = self.is_moving(self.connections[index].key);
        let lost = self.rng.chance(10);
        self.note_if_dead(index, node, server);
        let Some(server) = server else { return };
        let silent =
            self.servers.get(&server).is_none_or(|server| server.down) && self.rng.chance(50);
        let now_s = self.now_s;
        let connection = &mut self.connections[index];
        connection.begun_moving |= moving && connection.owner.is_none();
        connection.syns[copy] = Some((node, server, what));
        if connection.state == State::Opening {
            connection.syn_s = now_s;
            if !lost && !silent {
                connection.answers.push((server, now_s));
            }
        }
    }

    /// A packet of a connection went to a server; that may be dead, or a node may think so.
    pub(crate) fn note_if_dead(&mut self, index: usize, node: usize, server: Option<u8>) {
        let Some(server) = server else { return };
        let number = self.nodes[node].number_of(server);
        let dead = self.servers.get(&server).is_none_or(|server| server.dead)
            || number.is_none_or(|number| self.nodes[node].flags[usize::from(number)].has(DEAD));
        if dead {
            self.connections[index].given_up.insert(server);
        }
    }

    /// The network delivers a copy of the SYN of an open connection.
    fn syn_copy(&mut self, index: usize) {
        let connection = &self.connections[index];
        // An attacker who also has the network deliver SYNs twice is one too many.
        if self.now_s - connection.syn_s < 2 && !connection.forged {
            self.syn(index);
        }
    }

    fn establish(&mut self, index: usize) {
        let now_s = self.now_s;
        let answers = &mut self.connections[index].answers;
        // A server that has not heard from its client gives up.
        answers.retain(|&(_, sent_s)| now_s - sent_s < HANDSHAKE_S);
        let answers = answers.clone();
        let Some((server, sent_s)) = self.rng.pick(&answers) else {
            return;
        };
        let connection = &mut self.connections[index];
        connection.state = State::Open;
        connection.owner = Some(server);
        connection.syn_s = sent_s;
        self.tally.established += 1;
        if self.rng.chance(80) {
            self.talk(index);
        }
    }

    /// Sends new data, or something again.
    fn talk(&mut self, index: usize) {
        let now_s = self.now_s;
        let (again, more) = (self.rng.chance(20), self.rng.below(40_000) as u32);
        let connection = &mut self.connections[index];
        if !connection.heard && now_s - connection.syn_s >= HANDSHAKE_S {
            // Its server has given up.
            connection.state = State::Closed;
            return;
        }
        let offset = if again {
            more % (connection.sent + 1)
        } else {
            let sent = connection.sent;
            connection.sent = sent.saturating_add(more);
            if !connection.heard {
                connection.sent = connection.sent.min(INITIAL_WINDOW);
            }
            sent.min(connection.sent)
        };
        let sequence = connection.isn.wrapping_add(1).wrapping_add(offset);
        let (node, server, what) = self.send(index, Kind::Segment { sequence });
        self.judge(index, node, server, what);
    }

    /// Sends FIN or RST of a connection, after which it may still talk.
    fn fin(&mut self, index: usize) {
        self.talk(index);
        self.delete_at_fin(self.connections[index].key);
    }

    /// A sequence number of an attacker, who would otherwise guess right once in 65,536 times.
    fn forged_number(&mut self, index: usize, far: u32) -> u32 {
        let off = far + self.rng.below(1 << 24) as u32;
        self.connections[index].isn.wrapping_add(off)
    }

    /// A forged RST, by someone who knows the ports but not the sequence number.
    fn reset(&mut self, index: usize) {
        let key = self.connections[index].key;
        let sequence = self.forged_number(index, 1 << 30);
        self.stray(key, Kind::Segment { sequence });
        self.delete_at_fin(key);
    }

    fn delete_at_fin(&mut self, key: u32) {
        if self.off == Off::FinKeeps {
            let node = self.route(key);
            self.nodes[node].flows.records.remove(&key);
        }
    }

    /// A packet that is nobody's business where it arrives.
    pub(crate) fn stray(&mut self, key: u32, kind: Kind) {
        let node = self.route(key);
        self.packet(node, key, kind);
    }

    /// A late packet of an older connection of the same port: the client's RST to a SYN-ACK that
    /// came too late carries its first sequence number.
    fn straggler(&mut self, index: usize) {
        let key = self.connections[index].key;
        let older = self.connections[..index]
            .iter()
            .rev()
            .find(|connection| connection.key == key);
        if let Some(older) = older {
            let sequence = older.isn.wrapping_add(1);
            self.stray(key, Kind::Segment { sequence });
        }
    }

    /// Spoofed SYNs, some with a second packet.
    pub(crate) fn flood(&mut self) {
        for _ in 0..=self.rng.below(6) {
            let key = FLOOD + self.rng.below(1 << 16) as u32;
            let isn = self.rng.next() as u32;
            if self.mix.service_of(key) == Service::Datagrams {
                self.stray(key, Kind::TrackedDatagram);
                continue;
            }
            self.stray(key, Kind::Syn { isn });
            if self.rng.chance(40) {
                let sequence = isn.wrapping_add(1);
                self.stray(key, Kind::Segment { sequence });
            }
        }
    }

    /// Connections that would soon have been idle for the idle time talk, but for a few.
    pub(crate) fn keep_alive(&mut self) {
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            let quiet_s = self.now_s - connection.last_s;
            let talks = matches!(connection.state, State::Open | State::HalfClosed);
            if talks && connection.heard && quiet_s + 71 > self.idle_s && self.rng.chance(95) {
                match self.mix.service_of(connection.key) {
                    Service::Ring | Service::Policy => self.talk(index),
                    Service::Datagrams => self.datagram(index),
                }
            }
        }
    }

    /// A server is given up, and its connections with it.
    pub(crate) fn server_died(&mut self, id: u8) {
        for connection in &mut self.connections {
            connection.given_up.insert(id);
        }
    }

    /// The agent of a node writes the word of a slot, in the middle of first packets.
    pub(crate) fn slot_changes(&mut self, node: usize, slot: u32, new: SlotWord) {
        let (mix, life) = (self.mix, self.nodes[node].life);
        let old = self.nodes[node].words[slot as usize];
        // Before a slot settles, packets that may have seen it otherwise are waited for.
        let taken = old.stable() != new.stable() && !old.is_settling();
        for connection in &mut self.connections {
            let is_inside = connection.syns_inside > 0 && connection.nodes.contains(&life);
            if is_inside && connection.owner.is_none() && slot_of(connection.key) == slot {
                let is_udp = mix.service_of(connection.key) == Service::Datagrams;
                connection.slot_changed |= is_udp || taken;
            }
        }
    }

    /// A segment has arrived: does the server know its connection?
    pub(crate) fn judge(&mut self, index: usize, node: usize, server: Option<u8>, what: What) {
        let is_udp = self.mix.service_of(self.connections[index].key) == Service::Datagrams;
        let connection = &mut self.connections[index];
        if connection.state == State::Closed {
            return;
        }
        if server == connection.owner {
            connection.heard = true;
            return;
        }
        connection.state = State::Closed;
        let owner = connection.owner;
        connection.excuses[excuse::DEAD] =
            owner.is_some_and(|owner| connection.given_up.contains(&owner));
        let syns = || connection.syns.iter().flatten();
        let split = syns().any(|syn| Some(syn.1) != connection.owner);
        let unrecorded = syns().any(|&(_, server, what)| {
            let needed_none = matches!(what, What::Rest | What::SynUnrecorded | What::FullToStable);
            needed_none && Some(server) == connection.owner
        });
        connection.excuses[excuse::SYN_COPY] = split && (unrecorded || connection.overtaken);
        connection.excuses[excuse::NODE] = connection.begun_moving && connection.nodes.len() > 1;
        // One datagram alone, whatever it has seen, is followed by the others.
        connection.excuses[excuse::HANDSHAKE] =
            connection.slot_changed && (connection.overtaken || !is_udp);
        if let Some(excuse) = connection.excuses.iter().position(|&excused| excused) {
            self.tally.excused[excuse] += 1;
            return;
        }
        let text = format!("node {node} sent it to {server:?} ({what:?}): {connection:?}");
        self.note(|| format!("BROKEN {text}"));
        self.broken.push(text);
    }
}
