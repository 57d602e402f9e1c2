//! The hosts of a [`super::Topology`], whose documentation has the plan of their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Lab, NetNs};

/// The IPv4 VIP that clients route to the balancer.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The IPv6 VIP that clients route to the balancer.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// Subnet of balancer and backends.
pub(super) const BACK: u8 = 1;
/// Subnet of balancer and client, or balancer and router.
pub(super) const FRONT: u8 = 2;
/// Subnet of router and client.
pub(super) const BEYOND: u8 = 3;
/// Last byte of the addresses of the bypass.
pub(super) const BYPASS: u8 = 3;
/// Last byte of the first backend's address.
pub(super) const FIRST_BACKEND: u8 = 11;

/// Bridge of balancer and backends, and of the client if it shares the link.
pub(super) const BACK_BRIDGE: &str = "back";
/// Bridge of balancer and client, or router, if the balancer has two interfaces.
pub(super) const FRONT_BRIDGE: &str = "front";

/// Address of host `host` in subnet `subnet`.
#[must_use]
pub const fn subnet_v4(subnet: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 80, subnet, host)
}

/// Address of host `host` in subnet `subnet`.
#[must_use]
pub fn subnet_v6(subnet: u8, host: u8) -> Ipv6Addr {
    // The digits of the decimal number, read as a hexadecimal one.
    let host = u16::from(host);
    let digits = host / 100 * 0x100 + host / 10 % 10 * 0x10 + host % 10;
    Ipv6Addr::new(0xfd80, 0, 0, u16::from(subnet), 0, 0, 0, digits)
}

/// A host of a topology.
#[derive(Clone)]
pub struct Host {
    /// Its namespace.
    pub ns: NetNs,
    /// IPv4 address by which its neighbours know it.
    pub v4: Ipv4Addr,
    /// IPv6 address by which its neighbours know it.
    pub v6: Ipv6Addr,
    /// MAC address of `eth0`.
    pub mac: [u8; 6],
}

impl Host {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.ns.name()
    }

    /// Its address of a family.
    #[must_use]
    pub const fn address(&self, v6: bool) -> IpAddr {
        if v6 {
            IpAddr::V6(self.v6)
        } else {
            IpAddr::V4(self.v4)
        }
    }
}

pub(super) fn new_host(lab: &Lab, name: &str, subnet: u8, host: u8) -> Host {
    let v4 = subnet_v4(subnet, host);
    let [a, b, c, d] = v4.octets();
    let ns = lab.namespace(name);
    // Packets may come in on another interface than replies to them would leave by.
    ns.sysctl("net/ipv4/conf/all/rp_filter", "0");
    ns.sysctl("net/ipv4/conf/default/rp_filter", "0");
    ns.sysctl("net/ipv6/conf/default/accept_dad", "0");
    Host {
        ns,
        v4,
        v6: subnet_v6(subnet, host),
        mac: [2, 0, a, b, c, d],
    }
}

/// A host with one interface, on a bridge of the switch.
pub(super) fn build_host(
    lab: &Lab,
    switch: &NetNs,
    bridge: &str,
    name: &str,
    subnet: u8,
    last: u8,
) -> Host {
    let host = new_host(lab, name, subnet, last);
    host.ns.cable("eth0", switch, name, Some(host.mac));
    switch.bridge_port(bridge, name);
    add_addresses(&host.ns, "eth0", subnet, last);
    host
}

pub(super) fn build_balancer(lab: &Lab, switch: &NetNs, two_interfaces: bool) -> Host {
    let mut balancer = new_host(lab, "balancer", BACK, 1);
    // DNAT's replies of flows that XDP does not know, and replies of other modes, are forwarded.
    forward(&balancer.ns);
    balancer.ns.sysctl("net/ipv4/conf/all/send_redirects", "0");
    balancer
        .ns
        .sysctl("net/ipv4/conf/default/send_redirects", "0");
    let back = if two_interfaces {
        let [a, b, c, d] = subnet_v4(FRONT, 1).octets();
        let front_mac = [2, 0, a, b, c, d];
        balancer
            .ns
            .cable("eth0", switch, "balancer-front", Some(front_mac));
        switch.bridge_port(FRONT_BRIDGE, "balancer-front");
        balancer
            .ns
            .cable("eth1", switch, "balancer", Some(balancer.mac));
        balancer.mac = front_mac;
        "eth1"
    } else {
        balancer
            .ns
            .cable("eth0", switch, "balancer", Some(balancer.mac));
        "eth0"
    };
    switch.bridge_port(BACK_BRIDGE, "balancer");
    add_addresses(&balancer.ns, back, BACK, 1);
    add_addresses(&balancer.ns, "eth0", FRONT, 1);
    balancer
}

pub(super) fn forward(ns: &NetNs) {
    ns.sysctl("net/ipv4/ip_forward", "1");
    ns.sysctl("net/ipv6/conf/all/forwarding", "1");
}

pub(super) fn add_addresses(ns: &NetNs, interface: &str, subnet: u8, host: u8) {
    ns.ip(&format!(
        "addr add {}/24 dev {interface}",
        subnet_v4(subnet, host)
    ));
    ns.ip(&format!(
        "addr add {}/64 dev {interface} nodad",
        subnet_v6(subnet, host)
    ));
}

pub(super) fn default_route(ns: &NetNs, subnet: u8, host: u8) {
    ns.ip(&format!(
        "-4 route replace default via {}",
        subnet_v4(subnet, host)
    ));
    ns.ip(&format!(
        "-6 route replace default via {}",
        subnet_v6(subnet, host)
    ));
}

pub(super) fn route(ns: &NetNs, destination: &str, subnet: u8, host: u8) {
    let (v4, v6) = (subnet_v4(subnet, host), subnet_v6(subnet, host));
    let gateway = if destination.contains(':') {
        IpAddr::V6(v6)
    } else {
        IpAddr::V4(v4)
    };
    ns.ip(&format!("route replace {destination} via {gateway}"));
}

pub(super) fn on_link_routes(ns: &NetNs) {
    ns.ip("route replace 10.80.2.0/24 dev eth0");
    ns.ip("-6 route replace fd80:0:0:2::/64 dev eth0");
}

pub(super) fn put_vips_on_loopback(ns: &NetNs) {
    ns.ip(&format!("addr replace {VIP_V4}/32 dev lo"));
    ns.ip(&format!("addr replace {VIP_V6}/128 dev lo nodad"));
}
