//! A backend that no link of the balancer has, behind a router.

use std::net::IpAddr;

use xlb_tests::lab::{Lab, Replies, Topology, VIP_V4, VIP_V6};

use crate::plain::far;

/// The first backend is at [`far`] addresses too, behind the second, whose route there may have a
/// small MTU.
pub(crate) fn behind_a_router(label: &str, replies: Replies, mtu: Option<u16>) -> Topology {
    let topology = Topology::one_link(&Lab::new(label), 2);
    topology.route_replies(replies);
    let [host, router] = [&topology.backends[0], &topology.backends[1]];
    router.ns.sysctl("net/ipv4/ip_forward", "1");
    router.ns.sysctl("net/ipv6/conf/all/forwarding", "1");
    let mtu = mtu.map_or_else(String::new, |mtu| format!(" mtu {mtu}"));
    for v6 in [false, true] {
        let to = far(v6);
        host.ns.ip(&format!("addr add {to} dev lo nodad"));
        let via = host.address(v6);
        router.ns.ip(&format!("route add {to} via {via}{mtu}"));
        let via = router.address(v6);
        let route = format!("route add {to} via {via}");
        topology.balancer.ns.ip(&route);
    }
    topology
}

/// A configuration with a service of each family in front of that backend.
pub(crate) fn config(forward: &str, port: u16) -> String {
    config_across(forward, port, false)
}

/// The same, where the backend has an address of the other family than the VIP if it is `across`.
pub(crate) fn config_across(forward: &str, port: u16, across: bool) -> String {
    let service = |vip: IpAddr| {
        let name = if vip.is_ipv6() { "v6" } else { "v4" };
        let address = far(vip.is_ipv6() != across);
        format!(
            "\n[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\n\
             forward = \"{forward}\"\nbackends = [{{ address = \"{address}\", port = {port} }}]\n"
        )
    };
    format!(
        "[dataplane]\ninterfaces = [\"eth0\"]\n{}{}",
        service(VIP_V4.into()),
        service(VIP_V6.into())
    )
}
