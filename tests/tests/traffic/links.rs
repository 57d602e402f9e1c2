//! Links of the balancer that go down, come back, get another name, or are made anew.

use xlb_tests::lab::wait_until;

use crate::{
    next_hops::{NEW_MAC, announce_changes},
    plain::{LIMIT, Plain},
};

/// Waits until backends are unresolved, and until they are there again.
#[track_caller]
fn wait_for_state(plain: &Plain, state: &str) {
    for host in &plain.topology.backends {
        for v6 in [false, true] {
            plain.wait_for_state(host.address(v6), state);
        }
    }
}

/// Expects backends to be unresolved for a reason that has these words.
#[track_caller]
fn expect_detail(plain: &Plain, words: &str) {
    let health = plain.health(plain.topology.backends[0].address(false));
    let detail = health["detail"].as_str().expect("a sentence");
    assert!(detail.contains(words), "{health}");
}

#[test]
fn a_link_that_loses_its_carrier_comes_back() {
    let plain = Plain::two_interfaces("carrier", 2);
    wait_for_state(&plain, "up");
    plain.expect_answers(&["backend1", "backend2"]);
    plain.topology.switch.ip("link set balancer down");
    wait_for_state(&plain, "unresolved");
    expect_detail(&plain, "leaves by eth1, which is down");
    plain.topology.switch.ip("link set balancer up");
    wait_for_state(&plain, "up");
    plain.expect_answers(&["backend1", "backend2"]);
}

#[test]
fn a_link_that_is_taken_down_comes_back() {
    let plain = Plain::two_interfaces("down", 2);
    let balancer = &plain.topology.balancer.ns;
    balancer.sysctl("net/ipv6/conf/eth1/keep_addr_on_down", "1");
    plain.expect_answers(&["backend1", "backend2"]);
    balancer.ip("link set eth1 down");
    wait_for_state(&plain, "unresolved");
    balancer.ip("link set eth1 up");
    wait_for_state(&plain, "up");
    plain.expect_answers(&["backend1", "backend2"]);
}

#[test]
fn a_link_that_gets_another_name_is_used_on() {
    let plain = Plain::two_interfaces("rename", 2);
    let balancer = &plain.topology.balancer.ns;
    plain.expect_answers(&["backend1", "backend2"]);
    balancer.ip("link set eth1 name back0");
    wait_until("the agent knows the name", LIMIT, || {
        let status = plain.agent.cli(&["status", "-o", "json"]);
        status["interfaces"][1]["name"] == "back0"
    });
    plain.expect_answers(&["backend1", "backend2"]);
    // What the agent learns after that is as right as before.
    balancer.ip("-4 neigh flush dev back0");
    balancer.ip("-6 neigh flush dev back0");
    wait_for_state(&plain, "up");
    plain.expect_answers(&["backend1", "backend2"]);
}

#[test]
fn a_link_that_is_made_anew_is_used_again() {
    let plain = Plain::two_interfaces("anew", 2);
    let (balancer, switch) = (&plain.topology.balancer, &plain.topology.switch);
    plain.expect_answers(&["backend1", "backend2"]);
    balancer.ns.ip("link del eth1");
    wait_for_state(&plain, "unresolved");
    let status = plain.agent.cli(&["status", "-o", "json"]);
    assert_eq!(status["interfaces"][1]["mode"], "detached");
    // A change may come meanwhile, and does not make the agent forget the link.
    plain.agent.cli(&["reload", "-o", "json"]);
    balancer.ns.cable("eth1", switch, "balancer", None);
    switch.bridge_port("back", "balancer");
    balancer.ns.ip("addr add 10.80.1.1/24 dev eth1");
    balancer.ns.ip("addr add fd80:0:0:1::1/64 dev eth1 nodad");
    wait_for_state(&plain, "up");
    plain.expect_answers(&["backend1", "backend2"]);
}

#[test]
fn a_link_with_a_foreign_program_does_not_keep_the_agent_from_following_others() {
    let plain = Plain::two_interfaces("foreign", 1);
    let (balancer, switch) = (&plain.topology.balancer, &plain.topology.switch);
    let host = &plain.topology.backends[0];
    plain.expect_answers(&["backend1"]);
    balancer.ns.ip("link del eth0");
    let mac = Some(balancer.mac);
    balancer.ns.cable("new0", switch, "balancer-front", mac);
    switch.bridge_port("front", "balancer-front");
    let foreign = plain.topology.lab.bpffs().join("pass");
    let foreign = foreign.display();
    balancer
        .ns
        .ip(&format!("link set dev new0 xdpdrv pinned {foreign}"));
    balancer.ns.ip("link set new0 name eth0");

    announce_changes(&host.ns);
    host.ns.ip(&format!("link set eth0 address {NEW_MAC}"));
    plain.wait_for_next_hop(host.address(false), NEW_MAC);
    let status = plain.agent.cli(&["status", "-o", "json"]);
    assert_eq!(status["interfaces"][1]["name"], "eth0");
    assert_eq!(status["interfaces"][1]["mode"], "detached");

    balancer.ns.ip("link set dev eth0 xdpdrv off");
    balancer.ns.ip("addr add 10.80.2.1/24 dev eth0");
    balancer.ns.ip("addr add fd80:0:0:2::1/64 dev eth0 nodad");
    for v6 in [false, true] {
        wait_until("requests are answered", LIMIT, || plain.is_answered(v6));
    }
}
