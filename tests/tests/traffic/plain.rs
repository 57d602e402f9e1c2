//! A lab with one `dnat` service for each family, whose backends are not checked: what becomes of
//! them is for their next hops alone to say.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use xlb_tests::lab::{
    Agent, Backend, BackendKind, Host, Lab, NetNs, Topology, VIP_V4, VIP_V6, wait_until,
};

use crate::flows;

/// How long the agent may take to follow the kernel. The kernel gives up on a neighbour after three
/// seconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

const PORT: u16 = 80;
const BACKEND_PORT: u16 = 8080;
/// Requests of a client: enough to meet three backends but once in a hundred thousand times.
const REQUESTS: usize = 32;

/// An address that every backend has on its loopback, and that no link has.
pub(crate) const fn far(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xfa, 0, 0, 0, 0, 7))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))
    }
}

/// A client, a balancer with an agent, and backends with nginx on all their addresses.
pub(crate) struct Plain {
    /// First, since what is first is dropped first.
    pub(crate) agent: Agent,
    _servers: Vec<Backend>,
    pub(crate) topology: Topology,
}

impl Plain {
    /// The backends of the topology, and others, behind a balancer with one interface.
    pub(crate) fn one_link(label: &str, backends: u8, others: &[IpAddr]) -> Self {
        let topology = Topology::one_link(&Lab::new(label), backends);
        Self::start(topology, others)
    }

    /// The same with two interfaces.
    pub(crate) fn two_interfaces(label: &str, backends: u8) -> Self {
        let topology = Topology::two_interfaces(&Lab::new(label), backends);
        Self::start(topology, &[])
    }

    /// A client behind a router, and one backend.
    pub(crate) fn routed_client(label: &str) -> Self {
        let topology = Topology::routed_client(&Lab::new(label), 1);
        Self::start(topology, &[])
    }

    /// The backends of the topology, and others.
    pub(crate) fn start(topology: Topology, others: &[IpAddr]) -> Self {
        let own = topology.backends.iter();
        let own = own.flat_map(|host| [false, true].map(|v6| host.address(v6)));
        let addresses: Vec<IpAddr> = own.chain(others.iter().copied()).collect();
        Self::start_with(topology, &addresses)
    }

    /// One backend for each family, [`far`], which is routed to the first host of two.
    pub(crate) fn far(label: &str) -> Self {
        let topology = Topology::one_link(&Lab::new(label), 2);
        for host in &topology.backends {
            for v6 in [false, true] {
                host.ns.ip(&format!("addr add {} dev lo nodad", far(v6)));
            }
        }
        let first = &topology.backends[0];
        for v6 in [false, true] {
            let route = format!("route add {} via {}", far(v6), first.address(v6));
            topology.balancer.ns.ip(&route);
        }
        Self::start_with(topology, &[far(false), far(true)])
    }

    /// These backends and no others.
    pub(crate) fn start_with(topology: Topology, addresses: &[IpAddr]) -> Self {
        let servers = topology.backends.iter().map(start_nginx).collect();
        let config = config(&topology, addresses);
        let agent = Agent::start(&topology.balancer.ns, &config);
        Self {
            agent,
            _servers: servers,
            topology,
        }
    }

    /// Requests of both families, each answered by one of these backends, and each of them
    /// answers some.
    #[track_caller]
    pub(crate) fn expect_answers(&self, names: &[&str]) {
        for v6 in [false, true] {
            let answers = flows::curl(&self.topology.client.ns, target(v6), REQUESTS);
            let backends: BTreeSet<&str> = answers.iter().map(|a| a.backend.as_str()).collect();
            assert_eq!(backends, names.iter().copied().collect(), "{}", target(v6));
        }
    }

    /// Whether a request is answered.
    pub(crate) fn is_answered(&self, v6: bool) -> bool {
        let url = format!("http://{}/", target(v6));
        let mut curl = self.topology.client.ns.command("curl");
        curl.args(["-sS", "--max-time", "1", &url]);
        curl.output().expect("run curl").status.success()
    }

    /// What `backend list` says of the backend with an address.
    #[track_caller]
    pub(crate) fn backend(&self, address: IpAddr) -> Value {
        self.row(&["backend", "list", "-o", "json"], address)
    }

    /// What `health` says of the backend with an address.
    #[track_caller]
    pub(crate) fn health(&self, address: IpAddr) -> Value {
        self.row(&["health", "-o", "json"], address)
    }

    #[track_caller]
    fn row(&self, words: &[&str], address: IpAddr) -> Value {
        let list = self.agent.cli(words);
        let endpoint = SocketAddr::new(address, BACKEND_PORT).to_string();
        let rows = list.as_array().expect("a list").iter();
        let mut found = rows.filter(|row| row["endpoint"] == endpoint.as_str());
        let row = found.next().cloned();
        row.unwrap_or_else(|| panic!("{endpoint} is not in {list}"))
    }

    /// Waits until a backend is in a state.
    #[track_caller]
    pub(crate) fn wait_for_state(&self, address: IpAddr, state: &str) {
        wait_until(&format!("{address} is {state}"), LIMIT, || {
            self.backend(address)["state"] == state
        });
        assert_eq!(self.health(address)["state"], state);
    }

    /// Waits until a backend is sent to at a MAC address.
    #[track_caller]
    pub(crate) fn wait_for_next_hop(&self, address: IpAddr, mac: &str) {
        wait_until(&format!("{address} is at {mac}"), LIMIT, || {
            let row = self.backend(address);
            let next_hop = row["next_hop"].as_str();
            next_hop.is_some_and(|next_hop| next_hop.starts_with(mac))
        });
    }

    /// Packets whose way ended for a reason.
    pub(crate) fn reason(&self, reason: &str) -> u64 {
        reason_of(&self.agent, reason)
    }
}

/// Packets whose way ended for a reason, as `status` says.
pub(crate) fn reason_of(agent: &Agent, reason: &str) -> u64 {
    let status = agent.cli(&["status", "-o", "json"]);
    let reasons = status["reasons"].as_array().expect("reasons are a list");
    let found = reasons.iter().find(|found| found["reason"] == reason);
    found.map_or(0, |found| found["packets"].as_u64().expect("a number"))
}

/// Where clients find the service of a family.
pub(crate) const fn target(v6: bool) -> SocketAddr {
    let vip = if v6 {
        IpAddr::V6(VIP_V6)
    } else {
        IpAddr::V4(VIP_V4)
    };
    SocketAddr::new(vip, PORT)
}

/// A MAC address as `ip` and the agent write it.
pub(crate) fn mac(host: &Host) -> String {
    host.mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The link-local address of `eth0`.
pub(crate) fn link_local(ns: &NetNs) -> String {
    let words = ["ip", "-json", "-6", "addr", "show", "dev", "eth0"];
    let shown: Value = serde_json::from_str(&ns.exec(&words)).expect("JSON of ip");
    let addresses = shown[0]["addr_info"].as_array().expect("addresses").iter();
    let mut found = addresses.filter(|address| address["scope"] == "link");
    let address = found.next().and_then(|address| address["local"].as_str());
    address.expect("a link-local address").to_owned()
}

fn start_nginx(host: &Host) -> Backend {
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let http = any.map(|any| SocketAddr::new(any, BACKEND_PORT)).to_vec();
    Backend::start(&host.ns, host.name(), BackendKind::Nginx { http })
}

fn config(topology: &Topology, addresses: &[IpAddr]) -> String {
    let interfaces = topology.interfaces();
    let service = |v6: bool| {
        let family = if v6 { "v6" } else { "v4" };
        let addresses = addresses.iter().filter(|address| address.is_ipv6() == v6);
        let backends: String = addresses
            .map(|address| format!("  {{ address = \"{address}\", port = {BACKEND_PORT} }},\n"))
            .collect();
        let (vip, port) = (target(v6).ip(), PORT);
        format!(
            "\n[[service]]\nname = \"{family}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"\n\
             forward = \"dnat\"\nbackends = [\n{backends}]\n"
        )
    };
    format!(
        "[dataplane]\ninterfaces = {interfaces:?}\n{}{}",
        service(false),
        service(true)
    )
}
