//! Next hops that change while traffic flows: the agent follows the kernel, and says where it
//! cannot send.

use std::{net::IpAddr, time::Duration};

use xlb_tests::lab::{Host, Lab, Load, LoadOptions, NetNs, Topology, wait_until};

use crate::plain::{LIMIT, Plain, far, link_local, mac, target};

/// MAC address that nobody in a lab has.
pub(crate) const NEW_MAC: &str = "02:00:00:00:00:99";

/// Has a host tell its neighbours when its MAC address changes.
pub(crate) fn announce_changes(ns: &NetNs) {
    ns.sysctl("net/ipv4/conf/eth0/arp_notify", "1");
    ns.sysctl("net/ipv6/conf/eth0/ndisc_notify", "1");
}

/// Has the balancer forget neighbours, as if their entries had expired.
pub(crate) fn forget<'a>(plain: &Plain, neighbours: impl IntoIterator<Item = &'a Host>) {
    for host in neighbours {
        for v6 in [false, true] {
            let entry = format!("neigh del {} dev eth0", host.address(v6));
            plain.topology.balancer.ns.ip(&entry);
        }
    }
}

#[test]
fn a_backend_that_announces_another_mac_address_is_sent_to_there() {
    let plain = Plain::one_link("mac", 1, &[]);
    let host = &plain.topology.backends[0];
    plain.expect_answers(&["backend1"]);
    announce_changes(&host.ns);
    host.ns.ip(&format!("link set eth0 address {NEW_MAC}"));
    for v6 in [false, true] {
        plain.wait_for_next_hop(host.address(v6), NEW_MAC);
    }
    plain.expect_answers(&["backend1"]);
}

#[test]
fn a_backend_that_changes_its_mac_address_in_silence_is_found_again() {
    let topology = Topology::one_link(&Lab::new("silent"), 1);
    // The kernel takes a neighbour for reachable for half a minute, and five seconds more.
    for family in ["ipv4", "ipv6"] {
        let of = |key| format!("net/{family}/neigh/eth0/{key}");
        let balancer = &topology.balancer.ns;
        balancer.sysctl(&of("base_reachable_time_ms"), "500");
        balancer.sysctl(&of("delay_first_probe_time"), "0");
        balancer.sysctl(&of("retrans_time_ms"), "100");
    }
    let plain = Plain::start(topology, &[]);
    let host = &plain.topology.backends[0];
    plain.expect_answers(&["backend1"]);
    host.ns.ip(&format!("link set eth0 address {NEW_MAC}"));
    for v6 in [false, true] {
        plain.wait_for_next_hop(host.address(v6), NEW_MAC);
    }
    plain.expect_answers(&["backend1"]);
}

#[test]
fn a_backend_with_no_host_is_unresolved_until_there_is_one() {
    let absent = [false, true].map(|v6| {
        let address = if v6 { "fd80:0:0:1::77" } else { "10.80.1.77" };
        address.parse::<IpAddr>().expect("an address")
    });
    let plain = Plain::one_link("absent", 2, &absent);
    for address in absent {
        plain.wait_for_state(address, "unresolved");
        assert!(plain.backend(address)["next_hop"].is_null());
        assert_eq!(plain.backend(address)["slots"], 0);
        let health = plain.health(address);
        assert_eq!(health["state"], "unresolved");
        let detail = health["detail"].as_str().expect("a sentence");
        assert!(detail.contains(&format!("{address} on eth0")), "{health}");
    }
    plain.expect_answers(&["backend1", "backend2"]);

    let host = &plain.topology.backends[1];
    host.ns.ip("addr add 10.80.1.77/24 dev eth0");
    host.ns.ip("addr add fd80:0:0:1::77/64 dev eth0 nodad");
    for address in absent {
        plain.wait_for_state(address, "up");
        assert_ne!(plain.backend(address)["slots"], 0);
    }
    plain.expect_answers(&["backend1", "backend2"]);
    for address in absent {
        assert_ne!(plain.backend(address)["counters"]["connections"], 0);
        assert_eq!(plain.health(address)["detail"], "");
    }
}

#[test]
fn a_backend_that_stops_to_answer_is_not_sent_to_until_it_answers_again() {
    let plain = Plain::one_link("expires", 2, &[]);
    let (topology, host) = (&plain.topology, &plain.topology.backends[1]);
    plain.expect_answers(&["backend1", "backend2"]);
    // An entry that expires while its host is well is no reason to stop.
    forget(&plain, &topology.backends);
    for v6 in [false, true] {
        for host in &topology.backends {
            plain.wait_for_state(host.address(v6), "up");
        }
    }
    plain.expect_answers(&["backend1", "backend2"]);

    topology.cut(host);
    forget(&plain, [host]);
    for v6 in [false, true] {
        plain.wait_for_state(host.address(v6), "unresolved");
    }
    plain.expect_answers(&["backend1"]);
    topology.mend(host);
    for v6 in [false, true] {
        plain.wait_for_state(host.address(v6), "up");
    }
    plain.expect_answers(&["backend1", "backend2"]);
}

#[test]
fn a_route_that_moves_takes_its_backends_along() {
    let plain = Plain::far("route");
    let [one, other] = [&plain.topology.backends[0], &plain.topology.backends[1]];
    plain.expect_answers(&["backend1"]);
    for v6 in [false, true] {
        let to = far(v6);
        let gateway = other.address(v6);
        plain
            .topology
            .balancer
            .ns
            .ip(&format!("route replace {to} via {gateway}"));
    }
    plain.wait_for_next_hop(far(false), &mac(other));
    plain.wait_for_next_hop(far(true), &mac(other));
    plain.expect_answers(&["backend2"]);

    for v6 in [false, true] {
        plain
            .topology
            .balancer
            .ns
            .ip(&format!("route del {}", far(v6)));
        plain.wait_for_state(far(v6), "unresolved");
        let health = plain.health(far(v6));
        let detail = health["detail"].as_str().expect("a sentence");
        assert!(detail.contains("there is no route"), "{health}");
        let gateway = one.address(v6);
        let route = format!("route add {} via {gateway}", far(v6));
        plain.topology.balancer.ns.ip(&route);
        plain.wait_for_next_hop(far(v6), &mac(one));
    }
    plain.expect_answers(&["backend1"]);
}

#[test]
fn gateways_may_be_link_local_and_of_the_other_family() {
    let plain = Plain::far("link-local");
    let other = &plain.topology.backends[1];
    plain.expect_answers(&["backend1"]);
    let balancer = &plain.topology.balancer.ns;
    let gateway = link_local(&other.ns);
    balancer.ip(&format!(
        "-6 route replace {} via {gateway} dev eth0",
        far(true)
    ));
    balancer.ip(&format!(
        "-4 route replace {} via inet6 {gateway} dev eth0",
        far(false)
    ));
    for v6 in [false, true] {
        plain.wait_for_next_hop(far(v6), &mac(other));
    }
    plain.expect_answers(&["backend2"]);
}

/// The kernel may forget who is sent to by XDP alone, and an agent must not take that for a reason
/// to stop what flows.
#[test]
fn an_agent_that_starts_again_loses_no_packet_though_the_kernel_has_forgotten_the_backends() {
    let mut plain = Plain::one_link("again", 2, &[]);
    plain.expect_answers(&["backend1", "backend2"]);
    let client = &plain.topology.client.ns;
    // A SYN that is lost is sent again after a second.
    let options = LoadOptions {
        timeout: Duration::from_millis(900),
        ..LoadOptions::new(target(false))
    };
    let load = Load::start(client, options);
    plain.agent.stop();
    forget(&plain, &plain.topology.backends);
    let answered = load.answered();
    plain.agent.start_again();
    wait_until("requests are answered", LIMIT, || {
        load.answered() >= answered + 100
    });
    let requests = load.stop();
    let failed = requests.iter().filter(|request| request.failed()).count();
    assert_eq!(failed, 0, "of {} requests", requests.len());
}
