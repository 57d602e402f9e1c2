//! What these tests share: a service with a policy in front of backends.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use xlb_tests::lab::{
    Agent, Backend, KeepAlive, KeepAliveOptions, Lab, Topology, VIP_V4, forgetful_config,
    wait_until,
};

pub(crate) const PORT: u16 = 8080;

/// A client, a balancer, and backends of which each has a weight.
pub(crate) struct Stage {
    pub(crate) agent: Agent,
    pub(crate) topology: Topology,
    weights: Vec<u16>,
}

impl Stage {
    /// `service`: further lines of the service, which has nothing else to say but where it is.
    pub(crate) fn new(label: &str, weights: &[u16], service: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), weights.len() as u8);
        let text = forgetful_config(&topology, weights, PORT, service);
        Self {
            agent: Agent::start(&topology.balancer.ns, &text),
            topology,
            weights: weights.to_vec(),
        }
    }

    /// Servers on all backends.
    pub(crate) fn serve(&self) -> Vec<Backend> {
        let hosts = self.topology.backends.iter();
        hosts
            .map(|host| Backend::on_host(host, PORT, PORT + 1))
            .collect()
    }

    /// Where clients connect to.
    pub(crate) fn target(&self) -> SocketAddr {
        SocketAddr::new(VIP_V4.into(), 80)
    }

    /// Writes another configuration for the first backends.
    pub(crate) fn write(&self, backends: usize, service: &str) {
        let text = forgetful_config(&self.topology, &self.weights[..backends], PORT, service);
        self.agent.write_config(&text);
    }

    /// The same, and the agent takes it over.
    pub(crate) fn reload(&self, backends: usize, service: &str) {
        self.write(backends, service);
        self.agent.cli(&["reload", "-o", "json"]);
    }

    /// Opens connections, and waits until each has had an answer.
    pub(crate) fn connect(&self, connections: usize) -> KeepAlive {
        let mut options = KeepAliveOptions::new(self.target(), connections);
        options.timeout = Duration::from_secs(5);
        let clients = KeepAlive::start(&self.topology.client.ns, options);
        self.answering(&clients, 1);
        clients
    }

    /// Waits until every connection has had so many answers more.
    pub(crate) fn answering(&self, clients: &KeepAlive, more: u64) {
        let before: Vec<u64> = clients.snapshot().iter().map(|one| one.answers).collect();
        wait_until("every connection answers", Duration::from_secs(20), || {
            let now = clients.snapshot();
            for connection in &now {
                assert_eq!(connection.broken, None, "to {}", connection.backend);
            }
            let mut pairs = now.iter().zip(&before);
            pairs.all(|(connection, before)| connection.answers >= before + more)
        });
    }

    /// How many connections each backend has.
    pub(crate) fn spread(&self, clients: &KeepAlive) -> Vec<usize> {
        let connections = clients.snapshot();
        let hosts = self.topology.backends.iter();
        hosts
            .map(|host| {
                let of_host = connections.iter().filter(|one| one.backend == host.name());
                of_host.count()
            })
            .collect()
    }

    /// Entries of a map in use.
    pub(crate) fn used(&self, map: &str) -> u64 {
        let status = self.agent.cli(&["status", "-o", "json"]);
        let maps = status["maps"].as_array().expect("maps");
        let map = maps
            .iter()
            .find(|entry| entry["name"] == map)
            .expect("the map");
        map["used"].as_u64().expect("a number")
    }

    /// A field of every backend, in the order of their addresses.
    pub(crate) fn backends(&self, field: &str) -> Vec<Value> {
        let list = self.agent.cli(&["backend", "list", "web", "-o", "json"]);
        let list = list.as_array().expect("backends are a list");
        let hosts = self.topology.backends.iter();
        hosts
            .filter_map(|host| {
                let endpoint = SocketAddr::new(host.v4.into(), PORT).to_string();
                let found = list.iter().find(|backend| backend["endpoint"] == endpoint);
                found.map(|backend| backend[field].clone())
            })
            .collect()
    }
}
