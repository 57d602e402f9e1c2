//! Next hops of replies, which go to any client.

use xlb_tests::lab::{Host, Lab, Replies, Topology, wait_until};

use crate::{
    flows,
    next_hops::{NEW_MAC, announce_changes, forget},
    plain::{LIMIT, Plain, far, link_local, target},
};

#[test]
fn a_client_that_announces_another_mac_address_gets_its_replies_there() {
    let plain = Plain::one_link("client-mac", 1, &[]);
    let client = &plain.topology.client;
    plain.expect_answers(&["backend1"]);
    announce_changes(&client.ns);
    client.ns.ip(&format!("link set eth0 address {NEW_MAC}"));
    for v6 in [false, true] {
        wait_until("the client is answered", LIMIT, || plain.is_answered(v6));
    }
    expect_no_lookups(&plain);
}

#[test]
fn a_client_that_the_kernel_has_forgotten_is_found_again() {
    let plain = Plain::one_link("client-unknown", 1, &[]);
    plain.expect_answers(&["backend1"]);
    forget(&plain, [&plain.topology.client]);
    for v6 in [false, true] {
        wait_until("the client is answered", LIMIT, || plain.is_answered(v6));
    }
    expect_no_lookups(&plain);
}

#[test]
fn replies_go_by_link_local_routers_too() {
    let plain = Plain::routed_client("reply-router");
    let router = plain.topology.router.as_ref().expect("a router");
    plain.expect_answers(&["backend1"]);
    expect_no_lookups(&plain);
    let gateway = link_local(&router.ns);
    let balancer = &plain.topology.balancer.ns;
    balancer.ip(&format!(
        "-6 route replace default via {gateway} dev eth0 metric 1"
    ));
    balancer.ip(&format!(
        "-4 route replace default via inet6 {gateway} dev eth0"
    ));
    expect_no_lookups(&plain);
}

/// The way back to a client moves from the link to a router, which a backend plays here.
#[test]
fn replies_follow_a_route_that_moves() {
    let topology = Topology::one_link(&Lab::new("reply-route"), 2);
    topology.route_replies(Replies::Direct);
    let [served, detour] = [&topology.backends[0], &topology.backends[1]].map(Host::clone);
    detour.ns.sysctl("net/ipv4/ip_forward", "1");
    detour.ns.sysctl("net/ipv6/conf/all/forwarding", "1");
    for v6 in [false, true] {
        let (client, balancer) = (topology.client.address(v6), topology.balancer.address(v6));
        let from = far(v6);
        topology
            .client
            .ns
            .ip(&format!("addr add {from} dev lo nodad"));
        let vip = target(v6).ip();
        let route = format!("route replace {vip} via {balancer} dev eth0 src {from}");
        topology.client.ns.ip(&route);
        let route = format!("route replace {from} via {client}");
        topology.balancer.ns.ip(&route);
        detour.ns.ip(&route);
        served
            .ns
            .ip(&format!("route replace {from} via {balancer}"));
    }
    let plain = Plain::start_with(topology, &[false, true].map(|v6| served.address(v6)));
    expect_no_lookups(&plain);
    assert_eq!(flows::forwarded(&detour), 0);
    for v6 in [false, true] {
        let route = format!("route replace {} via {}", far(v6), detour.address(v6));
        plain.topology.balancer.ns.ip(&route);
    }
    expect_no_lookups(&plain);
    assert_ne!(flows::forwarded(&detour), 0);
}

/// Waits until requests are answered without a lookup of the kernel's routes: the agent's table
/// knows the way.
#[track_caller]
fn expect_no_lookups(plain: &Plain) {
    wait_until("the table knows the way", LIMIT, || {
        let before = plain.reason("fib-lookup");
        plain.expect_answers(&["backend1"]);
        plain.reason("fib-lookup") == before
    });
}
