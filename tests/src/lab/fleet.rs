//! A fleet: a client behind a router that spreads flows over several balancers, and backends.

use super::{
    Lab, NetNs,
    hosts::{
        BACK, BACK_BRIDGE, BEYOND, FIRST_BACKEND, Host, VIP_V4, add_addresses, build_host,
        default_route, forward, new_host, subnet_v4,
    },
};

/// Last byte of the router's address on the link of balancers and backends.
const ROUTER: u8 = 10;

/// Balancers are 10.80.1.1, .2, .., the router 10.80.1.10, backends 10.80.1.11, .12, .. on one link;
/// the client is 10.80.3.2 behind the router. Backends answer by the router.
pub struct Fleet {
    /// The lab that it is part of.
    pub lab: Lab,
    /// The bridge that joins all but the client.
    pub switch: NetNs,
    /// The client.
    pub client: Host,
    /// The router.
    pub router: Host,
    /// The balancers.
    pub nodes: Vec<Host>,
    /// The backends.
    pub backends: Vec<Host>,
}

impl Fleet {
    /// Builds hosts and links.
    #[must_use]
    pub fn build(lab: &Lab, nodes: u8, backends: u8) -> Self {
        let switch = lab.namespace("switch");
        switch.bridge(BACK_BRIDGE);
        let host = |name: &str, last| build_host(lab, &switch, BACK_BRIDGE, name, BACK, last);
        let router = host("router", ROUTER);
        forward(&router.ns);
        // By address and port, so that the flows of one client spread.
        router.ns.sysctl("net/ipv4/fib_multipath_hash_policy", "1");
        router.ns.sysctl("net/ipv4/conf/all/send_redirects", "0");
        router.ns.sysctl("net/ipv4/conf/eth0/send_redirects", "0");
        let client = new_host(lab, "client", BEYOND, 2);
        client
            .ns
            .cable("eth0", &router.ns, "eth1", Some(client.mac));
        add_addresses(&router.ns, "eth1", BEYOND, 1);
        add_addresses(&client.ns, "eth0", BEYOND, 2);
        default_route(&client.ns, BEYOND, 1);
        let nodes: Vec<Host> = (1..=nodes)
            .map(|last| host(&format!("node{last}"), last))
            .collect();
        for node in &nodes {
            default_route(&node.ns, BACK, ROUTER);
        }
        let backends: Vec<Host> = (0..backends)
            .map(|index| host(&format!("backend{}", index + 1), FIRST_BACKEND + index))
            .collect();
        for backend in &backends {
            default_route(&backend.ns, BACK, ROUTER);
        }
        let fleet = Self {
            lab: lab.clone(),
            switch,
            client,
            router,
            nodes,
            backends,
        };
        fleet.route(|_| true);
        fleet
    }

    /// Spreads flows over the nodes of these indexes.
    pub fn route(&self, serves: impl Fn(usize) -> bool) {
        let hops: String = (1..=self.nodes.len() as u8)
            .filter(|last| serves(usize::from(*last) - 1))
            .map(|last| format!(" nexthop via {} weight 1", subnet_v4(BACK, last)))
            .collect();
        self.router.ns.ip(&format!("route replace {VIP_V4}{hops}"));
    }

    /// Cuts a backend off, as [`super::Topology::cut`] does.
    pub fn cut(&self, backend: &Host) {
        self.switch
            .ip(&format!("link set {} nomaster", backend.name()));
    }

    /// Ends what [`Fleet::cut`] began.
    pub fn mend(&self, backend: &Host) {
        self.switch
            .ip(&format!("link set {} master {BACK_BRIDGE}", backend.name()));
    }
}
