//! Backends that no link of the balancer has, behind a router.

use std::net::{IpAddr, SocketAddr};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Replies, VIP_V4, VIP_V6, wait_until,
};

use crate::{
    behind::{behind_a_router, config},
    flows,
    plain::{LIMIT, far},
};

const PORT: u16 = 80;
const REQUESTS: usize = 8;

#[test]
fn ipip_reaches_a_backend_behind_a_router_in_both_families() {
    let topology = behind_a_router("tunnel", Replies::Direct, None);
    let [host, router] = [&topology.backends[0], &topology.backends[1]];
    let unpacker = Decapsulator::start(&host.ns);
    let vips = [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)].map(|vip| SocketAddr::new(vip, PORT));
    let http = vips.to_vec();
    let _server = Backend::start(&host.ns, host.name(), BackendKind::Nginx { http });
    let _agent = Agent::start(&topology.balancer.ns, &config("ipip", PORT));
    for vip in vips {
        let before = (unpacker.packets("delivered"), flows::forwarded(router));
        let answers = flows::curl(&topology.client.ns, vip, REQUESTS);
        let client = topology.client.address(vip.is_ipv6());
        assert!(answers.iter().all(|answer| answer.client == client));
        // SYN, ACK, request and FIN of each, by the router and out of the outer header.
        let least = 4 * REQUESTS as u64;
        wait_until("the last packets have come", LIMIT, || {
            unpacker.packets("delivered") - before.0 >= least
        });
        assert!(flows::forwarded(router) - before.1 >= least, "{vip}");
    }
}

/// Commands bring a backend of the other family than the VIP, and take it away again.
#[test]
fn a_backend_of_the_other_family_comes_and_goes() {
    let topology = behind_a_router("tunnel-family", Replies::Direct, None);
    let host = &topology.backends[0];
    let unpacker = Decapsulator::start(&host.ns);
    let vip = SocketAddr::new(VIP_V4.into(), PORT);
    let http = vec![vip];
    let _server = Backend::start(&host.ns, host.name(), BackendKind::Nginx { http });
    let mut agent = Agent::start(&topology.balancer.ns, &config("ipip", PORT));
    let [v4, v6] = [false, true].map(|v6| SocketAddr::new(far(v6), PORT).to_string());
    let is_mixed = |agent: &Agent| {
        let status = agent.cli(&["status", "-o", "json"]);
        let features = status["program"]["features"].as_array().cloned();
        features
            .expect("features")
            .iter()
            .any(|name| name == "mixed")
    };
    let serves = |agent: &Agent| {
        let before = unpacker.packets("delivered");
        flows::curl(&topology.client.ns, vip, REQUESTS);
        wait_until("the last packets have come", LIMIT, || {
            unpacker.packets("delivered") - before >= 4 * REQUESTS as u64
        });
        is_mixed(agent)
    };
    assert!(!serves(&agent), "one family needs nothing of the other");
    agent.cli(&["backend", "add", "v4", &v6, "-o", "json"]);
    agent.cli(&["backend", "disable", "v4", &v4, "-o", "json"]);
    wait_until("the other backend is resolved", LIMIT, || {
        let list = agent.cli(&["backend", "list", "v4", "-o", "json"]);
        let backends = list.as_array().expect("backends are a list");
        backends
            .iter()
            .any(|backend| backend["state"] == "up" && backend["endpoint"] == v6)
    });
    assert!(serves(&agent));
    agent.restart();
    assert!(serves(&agent));
    // One that leaves keeps its connections, and so what they need.
    agent.cli(&["backend", "enable", "v4", &v4, "-o", "json"]);
    agent.cli(&["backend", "remove", "v4", &v6, "-o", "json"]);
    assert!(serves(&agent));
    agent.restart();
    assert!(serves(&agent));
}
