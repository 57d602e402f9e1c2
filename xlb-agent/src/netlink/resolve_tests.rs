//! Tests of [`super`], by values.

use super::super::fixtures::{
    add, address, allowed, hop, host, ip, link, mac, neighbour, special, tables, unicast,
};
use super::super::model::{Change, NeighbourState, Route, RouteKind};
use super::*;

fn next_hop(ifindex: u32, last: u8, via: &str) -> NextHop {
    NextHop {
        ifindex,
        mac: mac(last),
        via: ip(via),
        prefsrc: Some(ip("10.0.0.2")),
    }
}

fn to(tables: &Tables, destination: &str) -> Result<NextHop, Unresolved> {
    resolve(tables, ip(destination), &allowed())
}

#[test]
fn on_link_goes_to_the_neighbour_and_others_to_the_gateway() {
    let host = host();
    assert_eq!(to(&host, "10.0.0.7"), Ok(next_hop(2, 7, "10.0.0.7")));
    assert_eq!(to(&host, "203.0.113.5"), Ok(next_hop(2, 1, "10.0.0.1")));
}

#[test]
fn each_reason_has_its_sentence() {
    let mut host = host();
    host.apply(special("10.66.0.0/16", RouteKind::Blackhole));
    host.apply(special("10.67.0.0/16", RouteKind::Throw));
    host.apply(add(unicast("2001:db8:68::/48", 0, vec![hop(99, None)])));
    host.apply(add(unicast("10.69.0.0/16", 0, vec![])));
    let wrapped = Hop {
        encapsulates: true,
        ..hop(2, None)
    };
    host.apply(add(unicast("10.70.0.0/16", 0, vec![wrapped])));
    host.apply(neighbour(2, "10.0.0.8", 8, NeighbourState::Failed));
    host.apply(neighbour(2, "10.0.0.9", 9, NeighbourState::Incomplete));
    let says = |destination| to(&host, destination).expect_err("unresolved").to_string();
    assert_eq!(says("10.0.0.2"), "10.0.0.2 is an address of this host");
    assert_eq!(
        says("224.0.0.1"),
        "224.0.0.1 is not the address of one host"
    );
    assert_eq!(
        says("fe80::1"),
        "fe80::1 is link-local, and its interface is not known"
    );
    assert_eq!(says("2001:db8::1"), "there is no route to 2001:db8::1");
    assert_eq!(says("10.66.0.1"), "the route to 10.66.0.1 is blackhole");
    assert_eq!(says("10.67.0.1"), "there is no route to 10.67.0.1");
    assert!(says("2001:db8:68::1").ends_with("leaves by interface 99, which does not exist"));
    assert!(says("10.69.0.1").contains("by an object only"));
    assert!(says("10.70.0.1").contains("encapsulates"));
    assert!(says("10.9.0.1").contains("leaves by mgmt, which is not one of xlb's interfaces"));
    assert_eq!(
        says("10.0.0.8"),
        "10.0.0.8 on eth0 does not answer ARP or neighbour discovery"
    );
    assert!(says("10.0.0.9").ends_with("10.0.0.9 on eth0 is not known yet (being asked for)"));
    assert!(says("10.0.0.10").ends_with("10.0.0.10 on eth0 is not known yet (not asked for)"));
}

#[test]
fn every_usable_state_is_used_and_no_other() {
    use NeighbourState as S;
    for (state, usable) in [
        (S::Permanent, true),
        (S::Noarp, true),
        (S::Reachable, true),
        (S::Stale, true),
        (S::Delay, true),
        (S::Probe, true),
        (S::None, false),
        (S::Incomplete, false),
        (S::Failed, false),
    ] {
        let mut host = host();
        host.apply(neighbour(2, "10.0.0.7", 7, state));
        assert_eq!(to(&host, "10.0.0.7").is_ok(), usable, "{state:?}");
    }
}

#[test]
fn longest_prefix_wins_then_the_smallest_metric() {
    let mut host = host();
    host.apply(neighbour(3, "10.1.0.1", 31, NeighbourState::Reachable));
    host.apply(add(unicast(
        "203.0.113.0/24",
        50,
        vec![hop(2, Some("10.0.0.7"))],
    )));
    assert_eq!(to(&host, "203.0.113.5").map(|h| h.mac), Ok(mac(7)));
    host.apply(add(unicast(
        "203.0.113.0/24",
        10,
        vec![hop(3, Some("10.1.0.1"))],
    )));
    assert_eq!(
        to(&host, "203.0.113.5").map(|h| (h.ifindex, h.mac)),
        Ok((3, mac(31)))
    );
    assert_eq!(to(&host, "203.0.114.5").map(|h| h.mac), Ok(mac(1)));
}

#[test]
fn a_route_whose_link_is_down_is_passed_over() {
    let mut host = host();
    host.apply(add(unicast(
        "203.0.113.0/24",
        10,
        vec![hop(3, Some("10.1.0.1"))],
    )));
    host.apply(link(3, "eth1", false));
    assert_eq!(to(&host, "203.0.113.5").map(|h| h.mac), Ok(mac(1)));
    host.apply(link(2, "eth0", false));
    let down = Unresolved::LinkDown {
        destination: ip("203.0.113.5"),
        interface: "eth1".into(),
    };
    assert_eq!(to(&host, "203.0.113.5"), Err(down));
}

#[test]
fn of_a_multipath_route_the_first_usable_way_is_taken_and_all_are_wanted() {
    let mut host = host();
    let hops = vec![
        hop(4, Some("172.16.0.1")),
        hop(3, Some("10.1.0.1")),
        hop(2, Some("10.0.0.7")),
    ];
    host.apply(add(unicast("203.0.113.0/24", 0, hops)));
    assert_eq!(to(&host, "203.0.113.5").map(|h| h.mac), Ok(mac(7)));
    let both = BTreeSet::from([(2, ip("10.0.0.7")), (3, ip("10.1.0.1"))]);
    assert_eq!(wanted(&host, ip("203.0.113.5"), &allowed()), both);
}

#[test]
fn wanted_is_the_destination_or_its_router_and_nothing_where_nothing_helps() {
    let host = host();
    let wanted = |destination| wanted(&host, ip(destination), &allowed());
    assert_eq!(wanted("10.0.0.50"), BTreeSet::from([(2, ip("10.0.0.50"))]));
    assert_eq!(wanted("203.0.113.5"), BTreeSet::from([(2, ip("10.0.0.1"))]));
    assert_eq!(wanted("10.9.0.1"), BTreeSet::new());
    assert_eq!(wanted("10.0.0.2"), BTreeSet::new());
    assert_eq!(
        wanted_gateways(&host, &allowed()),
        BTreeSet::from([(2, ip("10.0.0.1"))])
    );
}

#[test]
fn gateways_may_be_ipv6_link_local_for_both_families() {
    let mut host = host();
    host.apply(address(2, "2001:db8::2/64"));
    host.apply(add(unicast("::/0", 1024, vec![hop(2, Some("fe80::1"))])));
    host.apply(add(unicast(
        "198.51.100.0/24",
        0,
        vec![hop(2, Some("fe80::1"))],
    )));
    host.apply(neighbour(2, "fe80::1", 61, NeighbourState::Delay));
    host.apply(neighbour(3, "fe80::1", 62, NeighbourState::Reachable));
    let v6 = NextHop {
        prefsrc: Some(ip("2001:db8::2")),
        ..next_hop(2, 61, "fe80::1")
    };
    assert_eq!(to(&host, "2001:db8:9::1"), Ok(v6));
    assert_eq!(to(&host, "198.51.100.1"), Ok(next_hop(2, 61, "fe80::1")));
}

#[test]
fn source_is_the_routes_else_the_closest_and_a_vip_only_at_last() {
    let named = Route {
        prefsrc: Some(ip("10.5.5.5")),
        ..unicast("10.5.0.0/16", 0, vec![hop(2, None)])
    };
    let mut host = host();
    host.apply(address(2, "10.0.0.6/32"));
    host.apply(add(named));
    host.apply(neighbour(2, "10.5.0.1", 5, NeighbourState::Reachable));
    assert_eq!(
        to(&host, "10.0.0.7").map(|h| h.prefsrc),
        Ok(Some(ip("10.0.0.2")))
    );
    assert_eq!(
        to(&host, "10.5.0.1").map(|h| h.prefsrc),
        Ok(Some(ip("10.5.5.5")))
    );
    let vip_only = tables([
        link(2, "eth0", true),
        address(2, "10.0.0.6/32"),
        add(unicast("10.0.0.0/24", 0, vec![hop(2, None)])),
        neighbour(2, "10.0.0.7", 7, NeighbourState::Reachable),
    ]);
    assert_eq!(
        to(&vip_only, "10.0.0.7").map(|h| h.prefsrc),
        Ok(Some(ip("10.0.0.6")))
    );
}

#[test]
fn replaced_and_removed_routes_move_the_next_hop() {
    let mut host = host();
    let over = |gateway| unicast("203.0.113.0/24", 0, vec![hop(2, Some(gateway))]);
    host.apply(add(over("10.0.0.1")));
    let replaced = Change::Route {
        route: over("10.0.0.7"),
        replaces: true,
        appends: false,
    };
    assert!(host.apply(replaced.clone()));
    assert!(!host.apply(replaced));
    assert_eq!(to(&host, "203.0.113.5").map(|h| h.via), Ok(ip("10.0.0.7")));
    assert!(host.apply(Change::RouteGone(over("10.0.0.7"))));
    assert!(!host.apply(Change::RouteGone(over("10.0.0.7"))));
    assert_eq!(to(&host, "203.0.113.5").map(|h| h.via), Ok(ip("10.0.0.1")));
}

#[test]
fn a_link_takes_its_neighbours_and_addresses_with_it() {
    let mut host = host();
    assert!(host.apply(Change::LinkGone(2)));
    assert_eq!(host.neighbours().count(), 0);
    assert_eq!(host.addresses(), []);
    let missing = Unresolved::LinkMissing {
        destination: ip("10.0.0.7"),
        ifindex: 2,
    };
    assert_eq!(to(&host, "10.0.0.7"), Err(missing));
}
