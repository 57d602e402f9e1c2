//! A client, a balancer with a real agent, and backends; and what stands in the maps.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use xlb_common::slot::SlotWord;
use xlb_tests::lab::{
    Agent, Backend, Host, KeepAlive, KeepAliveConnection, KeepAliveOptions, Lab, Topology, VIP_V4,
    VIP_V6, wait_until,
};

/// Slots of each ring: few, so that all fit into the first block of the arena.
pub(crate) const RING_SLOTS: usize = 1021;

/// Where the services answer.
pub(crate) const WEB_PORT: u16 = 80;

/// Where the backends answer HTTP.
pub(crate) const HTTP_PORT: u16 = 8080;

const LIMIT: Duration = Duration::from_secs(10);

/// A balancer in a lab.
pub(crate) struct Stage {
    /// First, since what is first is dropped first.
    pub(crate) agent: Agent,
    _servers: Vec<Backend>,
    pub(crate) topology: Topology,
}

/// A configuration: the weight of each backend that is in the pool, by its place.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) weights: Vec<(usize, u16)>,
    pub(crate) pool: String,
    pub(crate) service: String,
}

impl Setup {
    pub(crate) fn new(weights: &[(usize, u16)]) -> Self {
        Self {
            weights: weights.to_vec(),
            pool: format!("ring_slots = {RING_SLOTS}\n"),
            service: String::new(),
        }
    }
}

impl Stage {
    pub(crate) fn build(label: &str, backends: u8, setup: &Setup) -> Self {
        let topology = Topology::one_link(&Lab::new(label), backends);
        let servers = topology
            .backends
            .iter()
            .map(|host| Backend::on_host(host, HTTP_PORT, 7000))
            .collect();
        let text = config(&topology, setup);
        let agent = Agent::start(&topology.balancer.ns, &text);
        let stage = Self {
            agent,
            _servers: servers,
            topology,
        };
        stage.wait_until_all_serve(setup);
        stage
    }

    /// The name of a backend by its address and port.
    pub(crate) fn name_of(&self, endpoint: &str) -> String {
        let hosts = &self.topology.backends;
        let found = hosts.iter().enumerate().find(|&(place, _)| {
            [false, true]
                .map(|v6| self.endpoint(place, v6).to_string())
                .contains(&endpoint.to_owned())
        });
        let (_, host) = found.unwrap_or_else(|| panic!("no backend has {endpoint}"));
        host.name().to_owned()
    }

    /// Writes a configuration beside the agent's own and returns its path.
    pub(crate) fn write_other(&self, setup: &Setup) -> PathBuf {
        let text = config(&self.topology, setup);
        self.topology.lab.write_file("new.toml", &text)
    }

    /// Makes a configuration the agent's own.
    pub(crate) fn write_own(&self, setup: &Setup) {
        self.agent.write_config(&config(&self.topology, setup));
    }

    /// Reloads, and waits until the next hops of new backends are known.
    pub(crate) fn reload(&self, setup: &Setup) {
        self.write_own(setup);
        self.agent.cli(&["reload", "-o", "json"]);
        self.wait_until_all_serve(setup);
    }

    fn wait_until_all_serve(&self, setup: &Setup) {
        wait_until("every backend is up", LIMIT, || {
            let list = self.agent.cli(&["backend", "list", "-o", "json"]);
            let rows = list.as_array().expect("backends are a list");
            setup.weights.iter().all(|&(place, _)| {
                [false, true].into_iter().all(|v6| {
                    let endpoint = self.endpoint(place, v6).to_string();
                    rows.iter().any(|row| {
                        row["endpoint"] == endpoint
                            && (row["state"] == "up" || row["state"] == "disabled")
                    })
                })
            })
        });
    }

    pub(crate) fn host(&self, place: usize) -> &Host {
        &self.topology.backends[place]
    }

    pub(crate) fn endpoint(&self, place: usize, v6: bool) -> SocketAddr {
        SocketAddr::new(self.host(place).address(v6), HTTP_PORT)
    }

    pub(crate) fn vip(v6: bool) -> SocketAddr {
        if v6 {
            SocketAddr::new(VIP_V6.into(), WEB_PORT)
        } else {
            SocketAddr::new(VIP_V4.into(), WEB_PORT)
        }
    }

    /// The slot words of both pools, as they stand in the map.
    pub(crate) fn words(&self) -> Vec<SlotWord> {
        let map = self.agent.pin_directory().join("v1/SLOTS");
        let map = map.display().to_string();
        let first = ["key", "0", "0", "0", "0"];
        let command = ["bpftool", "-j", "map", "lookup", "pinned", &map];
        let ns = &self.topology.balancer.ns;
        let json = ns.exec(&[command.as_slice(), &first].concat());
        let block: serde_json::Value = serde_json::from_str(&json).expect("JSON of bpftool");
        let bytes: Vec<u8> = block["value"]
            .as_array()
            .expect("bytes")
            .iter()
            .map(|byte| {
                let digits = byte.as_str().expect("a byte").trim_start_matches("0x");
                u8::from_str_radix(digits, 16).expect("hexadecimal digits")
            })
            .collect();
        bytes
            .chunks_exact(8)
            .take(2 * RING_SLOTS)
            .map(|word| SlotWord(u64::from_ne_bytes(word.try_into().expect("eight bytes"))))
            .collect()
    }

    /// Opens connections, and waits until each has been answered.
    pub(crate) fn connect(&self, v6: bool, connections: usize) -> KeepAlive {
        let options = KeepAliveOptions {
            timeout: Duration::from_secs(3),
            ..KeepAliveOptions::new(Self::vip(v6), connections)
        };
        let client = KeepAlive::start(&self.topology.client.ns, options);
        wait_until("each connection has been answered", LIMIT, || {
            let snapshot = client.snapshot();
            let mut connections = snapshot.iter();
            connections.all(|connection| connection.answers >= 2)
        });
        client
    }
}

/// The connections that a backend has, and the others.
pub(crate) fn of_backend(
    connections: &[KeepAliveConnection],
    host: &Host,
) -> (Vec<KeepAliveConnection>, Vec<KeepAliveConnection>) {
    connections
        .iter()
        .cloned()
        .partition(|connection| connection.backend == host.name())
}

/// A service and a pool of each family.
fn config(topology: &Topology, setup: &Setup) -> String {
    let mut text = "[dataplane]\ninterfaces = [\"eth0\"]\n".to_owned();
    for (name, v6) in [("web", false), ("web6", true)] {
        let backends: String = setup
            .weights
            .iter()
            .map(|&(place, weight)| {
                let address = topology.backends[place].address(v6);
                format!(
                    "    {{ address = \"{address}\", port = {HTTP_PORT}, weight = {weight} }},\n"
                )
            })
            .collect();
        let (vip, pool, service) = (Stage::vip(v6).ip(), &setup.pool, &setup.service);
        text += &format!(
            "\n[[pool]]\nname = \"{name}\"\n{pool}backends = [\n{backends}]\n\n\
             [[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {WEB_PORT}\n\
             forward = \"dnat\"\npool = \"{name}\"\n{service}"
        );
    }
    text
}
