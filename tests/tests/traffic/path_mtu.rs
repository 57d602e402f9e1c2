//! Path MTU discovery: links that take smaller packets than both ends think, on either side of the
//! balancer. A transfer comes through only if the one who sends too much is told.

use std::net::{IpAddr, SocketAddr};

use xlb_tests::lab::{
    Agent, Backend, BackendKind, Decapsulator, Host, Replies, Topology, VIP_V4, VIP_V6,
};

use crate::{
    behind::{behind_a_router, config, config_across},
    flows,
    plain::reason_of,
    stage::{IPERF, Setting, Stage},
};

/// Bytes of a transfer.
const TRANSFER_BYTES: u64 = 2 << 20;
/// What the small link takes.
const SMALL_MTU: u16 = 1400;
const PORT: u16 = 5201;

#[test]
fn a_backend_under_dnat_learns_of_a_small_link_to_an_ipv4_client() {
    small_link_to_client("mtu-dnat-4", "dnat", false);
}

#[test]
fn a_backend_under_dnat_learns_of_a_small_link_to_an_ipv6_client() {
    small_link_to_client("mtu-dnat-6", "dnat", true);
}

#[test]
fn a_backend_under_l2_dsr_learns_of_a_small_link_to_an_ipv4_client() {
    small_link_to_client("mtu-dsr-4", "l2-dsr", false);
}

#[test]
fn a_backend_under_l2_dsr_learns_of_a_small_link_to_an_ipv6_client() {
    small_link_to_client("mtu-dsr-6", "l2-dsr", true);
}

#[test]
fn a_backend_under_ipip_learns_of_a_small_link_to_an_ipv4_client() {
    small_link_to_client("mtu-ipip-4", "ipip", false);
}

#[test]
fn a_backend_under_ipip_learns_of_a_small_link_to_an_ipv6_client() {
    small_link_to_client("mtu-ipip-6", "ipip", true);
}

#[test]
fn a_backend_under_gue_learns_of_a_small_link_to_an_ipv4_client() {
    small_link_to_client("mtu-gue-4", "gue", false);
}

#[test]
fn a_backend_under_gue_learns_of_a_small_link_to_an_ipv6_client() {
    small_link_to_client("mtu-gue-6", "gue", true);
}

#[test]
fn a_backend_under_full_nat_learns_of_a_small_link_to_an_ipv4_client() {
    small_link_to_client("mtu-fnat-4", "full-nat", false);
}

#[test]
fn a_backend_under_full_nat_learns_of_a_small_link_to_an_ipv6_client() {
    small_link_to_client("mtu-fnat-6", "full-nat", true);
}

/// The router in front of the client has a small link to it, and says so to the VIP.
fn small_link_to_client(label: &str, forward: &'static str, v6: bool) {
    let stage = Stage::build(label, Setting::new(forward, v6));
    let [client, router] = stage.clients();
    let to = client.address(v6);
    router
        .ns
        .ip(&format!("route replace {to} dev eth1 mtu {SMALL_MTU}"));
    flows::iperf(&client.ns, stage.target(IPERF), TRANSFER_BYTES, true);
    assert_ne!(reason_of(&stage.agent, "icmp-error"), 0);
    for host in stage.clients().into_iter().chain(&stage.topology.backends) {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

#[test]
fn a_client_learns_of_ipip_and_of_a_small_link_behind_it() {
    small_link_in_tunnel("mtu-in-ipip", "ipip", 0, false);
}

#[test]
fn a_client_learns_of_gue_and_of_a_small_link_behind_it() {
    small_link_in_tunnel("mtu-in-gue", "gue", 8, false);
}

#[test]
fn a_client_learns_of_ipip_over_the_other_family_and_of_a_small_link_behind_it() {
    small_link_in_tunnel("mtu-across-ipip", "ipip", 0, true);
}

#[test]
fn a_client_learns_of_gue_over_the_other_family_and_of_a_small_link_behind_it() {
    small_link_in_tunnel("mtu-across-gue", "gue", 8, true);
}

/// The link of the balancer has no room for an outer header, and one behind it has less.
/// `inner_bytes`: what stands between that header and the packet.
fn small_link_in_tunnel(label: &str, forward: &str, inner_bytes: u16, across: bool) {
    let topology = behind_a_router(label, Replies::Direct, Some(SMALL_MTU));
    let [host, _] = [&topology.backends[0], &topology.backends[1]];
    let _unpacker = Decapsulator::start(&host.ns);
    let (agent, _server) = start(&topology, &config_across(forward, PORT, across));
    for v6 in [false, true] {
        flows::iperf(&topology.client.ns, vip(v6), TRANSFER_BYTES, false);
        let outer = inner_bytes + if v6 != across { 40 } else { 20 };
        assert_eq!(known_mtu(&topology.client, vip(v6).ip()), SMALL_MTU - outer);
    }
    assert_ne!(reason_of(&agent, "too-big-answered"), 0);
    assert_ne!(reason_of(&agent, "tunnel-too-big"), 0);
    for host in [&topology.client, host] {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

#[test]
fn a_client_learns_of_a_small_link_behind_dnat() {
    small_link_behind("mtu-behind", |_| config("dnat", PORT));
}

#[test]
fn a_client_learns_of_a_small_link_behind_full_nat() {
    small_link_behind("mtu-behind-fnat", |topology| {
        let sources = [false, true].map(|v6| topology.balancer.address(v6).to_string());
        let keys = format!("\nnat_source = {sources:?}\nnat_ports = \"1024-30000\"\n");
        config("full-nat", PORT).replacen('\n', &keys, 1)
    });
}

/// The router behind the balancer has a small link to the backends, and says so to the balancer or to
/// the client.
fn small_link_behind(label: &str, config: impl FnOnce(&Topology) -> String) {
    let topology = behind_a_router(label, Replies::ViaBalancer, Some(SMALL_MTU));
    let (agent, _server) = start(&topology, &config(&topology));
    for v6 in [false, true] {
        flows::iperf(&topology.client.ns, vip(v6), TRANSFER_BYTES, false);
        assert_eq!(known_mtu(&topology.client, vip(v6).ip()), SMALL_MTU);
    }
    assert_ne!(reason_of(&agent, "icmp-error"), 0);
    for host in [&topology.client, &topology.backends[0]] {
        assert_eq!(flows::bad_packets(host), [], "{}", host.name());
    }
}

const fn vip(v6: bool) -> SocketAddr {
    let vip = if v6 {
        IpAddr::V6(VIP_V6)
    } else {
        IpAddr::V4(VIP_V4)
    };
    SocketAddr::new(vip, PORT)
}

/// iperf3 on the first backend, and an agent with a service of each family.
fn start(topology: &Topology, config: &str) -> (Agent, Backend) {
    let host = &topology.backends[0];
    let server = Backend::start(&host.ns, host.name(), BackendKind::Iperf { port: PORT });
    (Agent::start(&topology.balancer.ns, config), server)
}

/// The path MTU that a host has learnt.
fn known_mtu(host: &Host, to: IpAddr) -> u16 {
    let route = host.ns.ip(&format!("route get {to}"));
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    let mtu = words.nth(1).and_then(|mtu| mtu.parse().ok());
    mtu.unwrap_or_else(|| panic!("no MTU was learnt: {route}"))
}
