//! Flows of UDP that are tracked: the first datagram says where the others go.

use xlb_agent::slots;
use xlb_common::rule::{Kind, What};

use crate::{
    connections::{Connection, State, excuse},
    world::World,
};

impl World {
    /// A new flow, whose port may have been used before.
    pub(crate) fn open_flow(&mut self, key: u32) {
        if self.inside.contains(&key) {
            return;
        }
        self.forget_closed();
        self.tally.opened += 1;
        // Nobody keeps a record of it on another node.
        let begun_moving = true;
        self.connections
            .push(Connection::new(key, 0, begun_moving, self.now_s));
        // Nothing tells it from the older flow of its port, and that one was idle for the idle time.
        let record = self.nodes[self.route(key)].flows.records.get(&key);
        let follows_idle =
            record.is_some_and(|&value| slots::flow_is_over(value, self.idle_s, self.now_s));
        if let Some(connection) = self.connections.last_mut() {
            connection.excuses[excuse::IDLE] = follows_idle;
        }
        self.datagram(self.connections.len() - 1);
    }

    /// A client does something with a flow that it has.
    pub(crate) fn use_flow(&mut self, index: usize) {
        match self.rng.below(100) {
            0..85 => self.datagram(index),
            85..90 => self.stray(self.connections[index].key, Kind::Untracked),
            _ => self.connections[index].state = State::Closed,
        }
    }

    /// Sends a datagram of a flow.
    pub(crate) fn datagram(&mut self, index: usize) {
        let is_first = self.connections[index].owner.is_none();
        if is_first {
            self.connections[index].enters();
        }
        let (node, server, what) = self.send(index, Kind::TrackedDatagram);
        if is_first {
            self.connections[index].leaves();
        }
        self.note_if_dead(index, node, server);
        let connection = &mut self.connections[index];
        // Without a record, a flow that is known is like a new one.
        connection.excuses[excuse::FULL] |= what == What::FlowFull;
        if connection.state == State::Opening {
            connection.state = State::Open;
            connection.owner = server;
            self.tally.established += 1;
        }
        self.judge(index, node, server, what);
    }
}
