//! Small networks of a client, a balancer and backends, each for IPv4 and IPv6 at once.
//!
//! | host | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | balancer, towards backends | 10.80.1.1 | fd80:0:0:1::1 |
//! | backend 1, 2, .. | 10.80.1.11, .12, .. | fd80:0:0:1::11, ::12, .. |
//! | balancer, towards the client | 10.80.2.1 | fd80:0:0:2::1 |
//! | client, or the router in front of it | 10.80.2.2 | fd80:0:0:2::2 |
//! | router, towards the client | 10.80.3.1 | fd80:0:0:3::1 |
//! | client behind the router | 10.80.3.2 | fd80:0:0:3::2 |
//! | VIP | 192.0.2.10 | 2001:db8::10 |
//!
//! Every prefix is 24 or 64 bits long. Every host has its interface `eth0`; a balancer with two has
//! the client on `eth0` and the backends on `eth1`, and one with one has both subnets on `eth0`. A
//! MAC address is `02:00` and the first IPv4 address of the interface, so 10.80.1.11 has
//! `02:00:0a:50:01:0b`. IPv6 addresses show the last byte of the IPv4 address as decimal digits.
//!
//! Hosts on one link hang on a bridge in the namespace `switch`, where a host's port has its name;
//! so a cable can be cut without that either end sees its link go down.
//!
//! Clients and routers route the VIPs to the balancer. Backends send replies to the client by the
//! balancer until [`Topology::route_replies`] says otherwise.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Lab, NetNs};

/// The IPv4 VIP that clients route to the balancer.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The IPv6 VIP that clients route to the balancer.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// Subnet of balancer and backends.
const BACK: u8 = 1;
/// Subnet of balancer and client, or balancer and router.
const FRONT: u8 = 2;
/// Subnet of router and client.
const BEYOND: u8 = 3;
/// Last byte of the first backend's address.
const FIRST_BACKEND: u8 = 11;

/// Bridge of balancer and backends, and of the client if it shares the link.
const BACK_BRIDGE: &str = "back";
/// Bridge of balancer and client, or router, if the balancer has two interfaces.
const FRONT_BRIDGE: &str = "front";

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

/// What varies between topologies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Backends.
    pub backends: u8,
    /// Whether the balancer has an interface for the client and another for the backends.
    pub two_interfaces: bool,
    /// Whether the client is behind a router.
    pub routed_client: bool,
}

/// How backends' replies reach the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// Through the balancer, which destination NAT needs.
    ViaBalancer,
    /// Directly, as with direct server return. Only where client and backends share the link.
    Direct,
}

/// A client, a balancer and backends.
pub struct Topology {
    /// The lab that it is part of.
    pub lab: Lab,
    /// Its shape.
    pub shape: Shape,
    /// The bridges that join hosts.
    pub switch: NetNs,
    /// The client.
    pub client: Host,
    /// The router in front of the client, if there is one.
    pub router: Option<Host>,
    /// The balancer. Its addresses here are those towards the backends.
    pub balancer: Host,
    /// The backends.
    pub backends: Vec<Host>,
}

impl Topology {
    /// Everybody on one link; the balancer has one interface.
    #[must_use]
    pub fn one_link(lab: &Lab, backends: u8) -> Self {
        Self::build(
            lab,
            Shape {
                backends,
                two_interfaces: false,
                routed_client: false,
            },
        )
    }

    /// As [`Topology::one_link`], but the client is behind a router that is on the link.
    #[must_use]
    pub fn routed_client(lab: &Lab, backends: u8) -> Self {
        Self::build(
            lab,
            Shape {
                backends,
                two_interfaces: false,
                routed_client: true,
            },
        )
    }

    /// The client is on one interface of the balancer, the backends on another.
    #[must_use]
    pub fn two_interfaces(lab: &Lab, backends: u8) -> Self {
        Self::build(
            lab,
            Shape {
                backends,
                two_interfaces: true,
                routed_client: false,
            },
        )
    }

    /// Builds any shape.
    #[must_use]
    pub fn build(lab: &Lab, shape: Shape) -> Self {
        let switch = lab.namespace("switch");
        switch.bridge(BACK_BRIDGE);
        if shape.two_interfaces {
            switch.bridge(FRONT_BRIDGE);
        }
        let front_bridge = if shape.two_interfaces {
            FRONT_BRIDGE
        } else {
            BACK_BRIDGE
        };
        let balancer = build_balancer(lab, &switch, shape);
        let (client, router) = if shape.routed_client {
            let router = build_host(lab, &switch, front_bridge, "router", FRONT, 2);
            forward(&router.ns);
            let client = new_host(lab, "client", BEYOND, 2);
            client
                .ns
                .cable("eth0", &router.ns, "eth1", Some(client.mac));
            add_addresses(&router.ns, "eth1", BEYOND, 1);
            add_addresses(&client.ns, "eth0", BEYOND, 2);
            default_route(&client.ns, BEYOND, 1);
            (client, Some(router))
        } else {
            (
                build_host(lab, &switch, front_bridge, "client", FRONT, 2),
                None,
            )
        };
        // Next to the balancer is whoever has the second address of its front link.
        let neighbour = router.as_ref().unwrap_or(&client);
        for vip in [IpAddr::V4(VIP_V4), IpAddr::V6(VIP_V6)] {
            route(&neighbour.ns, &vip.to_string(), FRONT, 1);
        }
        default_route(&neighbour.ns, FRONT, 1);
        if shape.routed_client {
            default_route(&balancer.ns, FRONT, 2);
        }
        let backends = (0..shape.backends)
            .map(|index| {
                let name = format!("backend{}", index + 1);
                build_host(
                    lab,
                    &switch,
                    BACK_BRIDGE,
                    &name,
                    BACK,
                    FIRST_BACKEND + index,
                )
            })
            .collect();
        let topology = Self {
            lab: lab.clone(),
            shape,
            switch,
            client,
            router,
            balancer,
            backends,
        };
        topology.route_replies(Replies::ViaBalancer);
        topology
    }

    /// Interfaces of the balancer.
    #[must_use]
    pub const fn interfaces(&self) -> &'static [&'static str] {
        if self.shape.two_interfaces {
            &["eth0", "eth1"]
        } else {
            &["eth0"]
        }
    }

    /// Says how replies of the backends reach the client.
    pub fn route_replies(&self, replies: Replies) {
        for backend in &self.backends {
            match replies {
                Replies::ViaBalancer => default_route(&backend.ns, BACK, 1),
                Replies::Direct => {
                    assert!(
                        !self.shape.two_interfaces,
                        "client and backends share no link"
                    );
                    on_link_routes(&backend.ns);
                    if self.shape.routed_client {
                        default_route(&backend.ns, FRONT, 2);
                    }
                }
            }
        }
        if replies == Replies::Direct {
            let neighbour = self.router.as_ref().unwrap_or(&self.client);
            neighbour.ns.ip("route replace 10.80.1.0/24 dev eth0");
            neighbour.ns.ip("-6 route replace fd80:0:0:1::/64 dev eth0");
        }
    }

    /// Puts the VIPs on the loopback of every backend, and keeps the backends from answering ARP
    /// for them: what direct server return and encapsulation need there.
    pub fn put_vips_on_backends(&self) {
        for backend in &self.backends {
            backend.ns.sysctl("net/ipv4/conf/all/arp_ignore", "1");
            backend.ns.sysctl("net/ipv4/conf/all/arp_announce", "2");
            put_vips_on_loopback(&backend.ns);
        }
    }

    /// Makes the VIPs local addresses of the balancer.
    pub fn put_vips_on_balancer(&self) {
        put_vips_on_loopback(&self.balancer.ns);
    }

    /// Cuts a backend off: its cable hangs loose from the switch, which nobody sees who does not look
    /// there, since the link stays up. Every packet to the backend and from it is lost.
    pub fn cut(&self, backend: &Host) {
        self.switch
            .ip(&format!("link set {} nomaster", backend.name()));
    }

    /// Ends what [`Topology::cut`] began.
    pub fn mend(&self, backend: &Host) {
        self.switch
            .ip(&format!("link set {} master {BACK_BRIDGE}", backend.name()));
    }
}

fn new_host(lab: &Lab, name: &str, subnet: u8, host: u8) -> Host {
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
fn build_host(lab: &Lab, switch: &NetNs, bridge: &str, name: &str, subnet: u8, last: u8) -> Host {
    let host = new_host(lab, name, subnet, last);
    host.ns.cable("eth0", switch, name, Some(host.mac));
    switch.bridge_port(bridge, name);
    add_addresses(&host.ns, "eth0", subnet, last);
    host
}

fn build_balancer(lab: &Lab, switch: &NetNs, shape: Shape) -> Host {
    let mut balancer = new_host(lab, "balancer", BACK, 1);
    // DNAT's replies of flows that XDP does not know, and replies of other modes, are forwarded.
    forward(&balancer.ns);
    balancer.ns.sysctl("net/ipv4/conf/all/send_redirects", "0");
    balancer
        .ns
        .sysctl("net/ipv4/conf/default/send_redirects", "0");
    let back = if shape.two_interfaces {
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

fn forward(ns: &NetNs) {
    ns.sysctl("net/ipv4/ip_forward", "1");
    ns.sysctl("net/ipv6/conf/all/forwarding", "1");
}

fn add_addresses(ns: &NetNs, interface: &str, subnet: u8, host: u8) {
    ns.ip(&format!(
        "addr add {}/24 dev {interface}",
        subnet_v4(subnet, host)
    ));
    ns.ip(&format!(
        "addr add {}/64 dev {interface} nodad",
        subnet_v6(subnet, host)
    ));
}

fn default_route(ns: &NetNs, subnet: u8, host: u8) {
    ns.ip(&format!(
        "-4 route replace default via {}",
        subnet_v4(subnet, host)
    ));
    ns.ip(&format!(
        "-6 route replace default via {}",
        subnet_v6(subnet, host)
    ));
}

fn route(ns: &NetNs, destination: &str, subnet: u8, host: u8) {
    let (v4, v6) = (subnet_v4(subnet, host), subnet_v6(subnet, host));
    let gateway = if destination.contains(':') {
        IpAddr::V6(v6)
    } else {
        IpAddr::V4(v4)
    };
    ns.ip(&format!("route replace {destination} via {gateway}"));
}

fn on_link_routes(ns: &NetNs) {
    ns.ip("route replace 10.80.2.0/24 dev eth0");
    ns.ip("-6 route replace fd80:0:0:2::/64 dev eth0");
}

fn put_vips_on_loopback(ns: &NetNs) {
    ns.ip(&format!("addr replace {VIP_V4}/32 dev lo"));
    ns.ip(&format!("addr replace {VIP_V6}/128 dev lo nodad"));
}
