//! The lab of the churn: three nodes with agents, backends with real decapsulation, a pool and a
//! service for each case, so that each begins at rest.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use serde_json::Value;
use xlb_agent::ring::{self, Member};
use xlb_common::{flow::FlowKey, maps::protocol};

use super::server::Server;
use crate::lab::{Agent, Decapsulator, Fleet, Lab, VIP_V4, agent_binary, wait_until};

/// Nodes of the fleet.
pub(super) const NODES: usize = 3;
/// Slots of each ring.
const RING_SLOTS: u32 = 4001;
/// Key of the fleet.
const KEY: &str = "00112233445566778899aabbccddeeff";
/// Entries of the tables of flows: few enough that a flood fills them.
const TABLE: u32 = 2048;
/// How long backends may take to be well.
const WELL_LIMIT: Duration = Duration::from_secs(20);

/// A case's pool: index and name.
#[derive(Clone, Copy)]
pub(super) struct Pool {
    pub(super) name: &'static str,
    pub(super) port: u16,
}

impl Pool {
    pub(super) fn target(self) -> SocketAddr {
        SocketAddr::new(VIP_V4.into(), self.port)
    }
}

/// What keeps connections where they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Nothing,
    Transitions,
    /// Transitions, and backends that pass on what is another's.
    SecondChance,
}

impl Scheme {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "without transitions",
            Self::Transitions => "with transitions",
            Self::SecondChance => "with second chance",
        }
    }
}

pub(super) struct Stage {
    /// First, since what is first is dropped first.
    pub(super) agents: Vec<Agent>,
    pub(super) servers: Vec<Server>,
    decapsulators: Vec<Decapsulator>,
    pub(super) scheme: Scheme,
    pub(super) fleet: Fleet,
    /// Backends that pools have from the start; there is one more.
    pub(super) backends: usize,
}

impl Stage {
    pub(super) fn build(backends: usize, pools: &[Pool], scheme: Scheme) -> Self {
        let fleet = Fleet::build(&Lab::new("churn"), NODES as u8, backends as u8 + 1);
        let ports: Vec<u16> = pools.iter().map(|pool| pool.port).collect();
        let mut decapsulation = Decapsulator::config(&["10.80.0.0/16"], &[IpAddr::V4(VIP_V4)]);
        if scheme == Scheme::SecondChance {
            decapsulation += "peers = [\"10.80.1.0/24\"]\n";
        }
        let mut decapsulators = Vec::new();
        let mut servers = Vec::new();
        for (number, host) in (1u8..).zip(&fleet.backends) {
            decapsulators.push(Decapsulator::start_with(&host.ns, &decapsulation));
            servers.push(Server::start(&host.ns, number, ports.clone()));
        }
        let agents = (0..NODES)
            .map(|node| {
                let config = config(&fleet, backends, pools, scheme);
                let mut agent = Agent::prepare(&agent_binary(), &fleet.nodes[node].ns, &config);
                if scheme == Scheme::Nothing {
                    agent.run_with(&["--without-transitions"]);
                }
                agent.start_again();
                agent
            })
            .collect();
        let stage = Self {
            agents,
            servers,
            decapsulators,
            scheme,
            fleet,
            backends,
        };
        stage.wait_until_well();
        stage
    }

    /// Waits until every backend that should be is up on every node.
    pub(super) fn wait_until_well(&self) {
        for agent in &self.agents {
            wait_until("every backend is up", WELL_LIMIT, || {
                let health = agent.cli(&["health", "-o", "json"]);
                let mut backends = health.as_array().expect("health is a list").iter();
                backends.all(|it| it["state"] == "up" || it["state"] == "draining")
            });
        }
    }

    /// Packets that backends have passed on to others.
    pub(super) fn passed_on(&self) -> u64 {
        if self.scheme != Scheme::SecondChance {
            return 0;
        }
        let sides = self.decapsulators.iter();
        sides.map(|side| side.packets("passed-on")).sum()
    }

    /// Gives a command to every agent.
    pub(super) fn tell(&self, words: &[&str]) {
        for agent in &self.agents {
            agent.cli(&[words, &["-o", "json"]].concat());
        }
    }

    /// Address and port of a backend in a pool.
    pub(super) fn endpoint(&self, index: usize, pool: Pool) -> SocketAddr {
        SocketAddr::V4(SocketAddrV4::new(self.fleet.backends[index].v4, pool.port))
    }

    /// A number in the entry of a pool or service in `status`, on each node.
    pub(super) fn numbers(&self, list: &str, name: &str, pointer: &str) -> Vec<u64> {
        let of = |agent: &Agent| {
            let status: Value = agent.cli(&["status", "-o", "json"]);
            let mut entries = status[list].as_array().expect("a list").iter();
            let entry = entries.find(|entry| entry["name"] == name);
            entry.and_then(|entry| entry.pointer(pointer)?.as_u64())
        };
        let numbers = self.agents.iter().map(|agent| of(agent).unwrap_or(0));
        numbers.collect()
    }

    /// The ring of a pool whose backends have these weights: a backend's index and 1, each slot.
    pub(super) fn ring(&self, pool: Pool, weights: &[u32]) -> Vec<u16> {
        let members: Vec<Member> = (0usize..)
            .zip(weights)
            .map(|(index, &weight)| Member {
                identity: self.endpoint(index, pool),
                weight,
                number: index as u16 + 1,
            })
            .collect();
        let mut ring = vec![0; RING_SLOTS as usize];
        ring::build(key(), &members, &mut ring);
        ring
    }

    /// The slot of a connection.
    pub(super) fn slot(pool: Pool, client: SocketAddr) -> usize {
        let key = key();
        let half = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().expect("eight bytes"));
        let flow = FlowKey::between(client, pool.target(), protocol::TCP).expect("one family");
        flow.slot([half(0), half(8)], RING_SLOTS) as usize
    }
}

fn key() -> [u8; 16] {
    std::array::from_fn(|at| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).expect("digits"))
}

fn config(fleet: &Fleet, backends: usize, pools: &[Pool], scheme: Scheme) -> String {
    let second_chance = scheme == Scheme::SecondChance;
    let mut config = format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\nhash_key = \"{KEY}\"\n\
         max_flows = {TABLE}\nmax_pending = {TABLE}\n"
    );
    for Pool { name, port } in pools {
        let backends: String = fleet.backends[..backends]
            .iter()
            .map(|host| {
                format!(
                    "{{ address = \"{}\", port = {port}, weight = 2 }},",
                    host.v4
                )
            })
            .collect();
        let grace = if name.contains("dead") { "2s" } else { "30s" };
        config += &format!(
            "[[pool]]\nname = \"{name}\"\nring_slots = {RING_SLOTS}\nbackends = [{backends}]\n\
             down_grace = \"{grace}\"\n\
             check = {{ type = \"tcp\", interval = \"500ms\", timeout = \"500ms\", rise = 1, fall = 2 }}\n\
             [[service]]\nname = \"{name}\"\nvip = \"{VIP_V4}\"\nport = {port}\n\
             forward = \"ipip\"\npool = \"{name}\"\nsecond_chance = {second_chance}\n"
        );
    }
    config
}
