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
//! | bypass, towards backends | 10.80.1.3 | fd80:0:0:1::3 |
//! | bypass, towards the client | 10.80.2.3 | fd80:0:0:2::3 |
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
//! balancer until [`Topology::route_replies`] says otherwise. The bypass is a router from the link of
//! the backends to that of the client, where these are two; it is there once replies go by it.

use std::{net::IpAddr, sync::OnceLock};

use super::{
    Lab, NetNs,
    hosts::{
        BACK, BACK_BRIDGE, BEYOND, BYPASS, FIRST_BACKEND, FRONT, FRONT_BRIDGE, Host, VIP_V4,
        VIP_V6, add_addresses, build_balancer, build_host, default_route, forward, new_host,
        on_link_routes, put_vips_on_loopback, route,
    },
};

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
    /// Through the balancer, which destination NAT needs. Where that is not used, the balancer's
    /// kernel is their router.
    ViaBalancer,
    /// Without the balancer, as with direct server return: over the link that client and backends
    /// share, or by the bypass where they share none.
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
    bypass: OnceLock<Host>,
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
        let balancer = build_balancer(lab, &switch, shape.two_interfaces);
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
            bypass: OnceLock::new(),
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
        let shared_link = !self.shape.two_interfaces;
        for backend in &self.backends {
            match replies {
                Replies::ViaBalancer => default_route(&backend.ns, BACK, 1),
                Replies::Direct if shared_link => {
                    on_link_routes(&backend.ns);
                    if self.shape.routed_client {
                        default_route(&backend.ns, FRONT, 2);
                    }
                }
                Replies::Direct => {
                    self.bypass.get_or_init(|| self.build_bypass());
                    default_route(&backend.ns, BACK, BYPASS);
                }
            }
        }
        if replies == Replies::Direct && shared_link {
            let neighbour = self.router.as_ref().unwrap_or(&self.client);
            neighbour.ns.ip("route replace 10.80.1.0/24 dev eth0");
            neighbour.ns.ip("-6 route replace fd80:0:0:1::/64 dev eth0");
        }
    }

    fn build_bypass(&self) -> Host {
        let (lab, switch) = (&self.lab, &self.switch);
        let bypass = build_host(lab, switch, FRONT_BRIDGE, "bypass", FRONT, BYPASS);
        bypass.ns.cable("eth1", switch, "bypass-back", None);
        switch.bridge_port(BACK_BRIDGE, "bypass-back");
        add_addresses(&bypass.ns, "eth1", BACK, BYPASS);
        forward(&bypass.ns);
        if self.shape.routed_client {
            default_route(&bypass.ns, FRONT, 2);
        }
        bypass
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

    /// Ends what [`Topology::put_vips_on_balancer`] began.
    pub fn take_vips_off_balancer(&self) {
        for vip in [format!("{VIP_V4}/32"), format!("{VIP_V6}/128")] {
            self.balancer.ns.ip(&format!("addr del {vip} dev lo"));
        }
    }

    /// Lets the link of balancer and backends take larger packets than others, so that what clients
    /// send fits with an outer header.
    pub fn widen_back_link(&self, mtu: u16) {
        let widen = |ns: &NetNs, interface: &str| {
            ns.ip(&format!("link set {interface} mtu {mtu}"));
        };
        for backend in &self.backends {
            widen(&self.switch, backend.name());
            widen(&backend.ns, "eth0");
        }
        widen(&self.switch, self.balancer.name());
        let [.., back] = self.interfaces() else {
            panic!("a balancer has interfaces");
        };
        widen(&self.balancer.ns, back);
        // A bridge takes what the narrowest of its ports does, unless it is told.
        widen(&self.switch, BACK_BRIDGE);
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
