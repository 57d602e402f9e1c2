//! The configuration of these tests: a service of each kind, with one backend each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xlb_agent::endpoint;
use xlb_common::maps::{
    Backend, NextHop, Service, backend_flag, feature, forward, outer_sum, outer_sum6, protocol,
};

use crate::frame::{Carries, Frame};

/// Every feature that a configuration can use.
pub(crate) const ALL_FEATURES: u32 = feature::EVERY;

/// The loopback interface of the namespace, which test runs seem to come in on.
pub(crate) const LOOPBACK: u32 = 1;
/// Index in `EGRESS` of the interface that packets come in on.
pub(crate) const SAME: u16 = 1;
/// Index in `EGRESS` of an interface that the program takes for another one.
pub(crate) const OTHER: u16 = 2;
pub(crate) const MTU: u16 = 1500;

pub(crate) const BACKEND_PORT: u16 = 8080;
pub(crate) const CLIENT_PORT: u16 = 40_000;
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];

/// A service, of which there is one for each combination, with one backend each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind {
    pub(crate) v6: bool,
    pub(crate) protocol: u8,
    pub(crate) forward: u8,
}

impl Kind {
    pub(crate) fn all() -> Vec<Self> {
        let mut kinds = Vec::new();
        for v6 in [false, true] {
            for protocol in [protocol::TCP, protocol::UDP] {
                for forward in [forward::DNAT, forward::L2_DSR, forward::IPIP, forward::GUE] {
                    kinds.push(Self {
                        v6,
                        protocol,
                        forward,
                    });
                }
            }
        }
        kinds
    }

    pub(crate) const fn new(v6: bool, protocol: u8, forward: u8) -> Self {
        Self {
            v6,
            protocol,
            forward,
        }
    }

    /// Number of the service and of its backend.
    pub(crate) fn number(self) -> u16 {
        let at = Self::all().iter().position(|&kind| kind == self);
        1 + at.expect("one of them all") as u16
    }

    pub(crate) fn vip(self) -> SocketAddr {
        SocketAddr::new(vip(self.v6), 80 + u16::from(self.forward))
    }

    /// Index of the counters of its backend, which stands at position 1.
    pub(crate) fn counter(self) -> u32 {
        u32::from(self.number()) * 2 + 1
    }

    /// First slot of its ring.
    pub(crate) fn slot(self) -> u32 {
        u32::from(self.number()) * 16
    }

    /// A packet of a client that opens a connection, or a datagram.
    pub(crate) fn request(self) -> Frame {
        let carries = if self.protocol == protocol::TCP {
            Carries::Syn(1000)
        } else {
            Carries::Udp
        };
        to_vip(self.vip(), carries)
    }

    /// What the program should make of a request under `dnat`, or of the frame within a tunnel.
    pub(crate) fn forwarded(self, request: &Frame) -> Frame {
        request.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(self.number());
            frame.ttl -= 1;
            if self.forward == forward::DNAT {
                frame.destination = SocketAddr::new(self.backend(), BACKEND_PORT);
            }
        })
    }

    pub(crate) fn backend(self) -> IpAddr {
        backend_address(self.v6, self.number())
    }

    pub(crate) fn service(self) -> Service {
        Service {
            vip: endpoint::bytes(self.vip().ip()),
            port_be: self.vip().port().to_be(),
            protocol: self.protocol,
            family: if self.v6 { 6 } else { 4 },
            forward: self.forward,
            ring_offset: self.slot(),
            ring_slots: 1,
            counter_base: u32::from(self.number()) * 2,
            number: self.number().into(),
            ..Service::default()
        }
    }
}

pub(crate) fn client(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 7))
    } else {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7))
    }
}

pub(crate) fn vip(v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10))
    } else {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10))
    }
}

pub(crate) fn backend_address(v6: bool, number: u16) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, number))
    } else {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + u32::from(number)))
    }
}

pub(crate) fn outer_source(v6: bool) -> IpAddr {
    backend_address(v6, 200)
}

pub(crate) fn backend_mac(number: u16) -> [u8; 6] {
    let [high, low] = number.to_be_bytes();
    [2, 0, 0, 1, high, low]
}

pub(crate) fn egress_mac(egress: u16) -> [u8; 6] {
    [2, 0, 0, 2, 0, egress as u8]
}

/// A client's packet to a VIP, from the router to this host.
pub(crate) fn to_vip(vip: SocketAddr, carries: Carries) -> Frame {
    Frame {
        source_mac: ROUTER_MAC,
        destination_mac: egress_mac(SAME),
        source: SocketAddr::new(client(vip.is_ipv6()), CLIENT_PORT),
        destination: vip,
        ttl: 61,
        carries,
        payload: b"what a client has to say".to_vec(),
    }
}

pub(crate) fn backend(v6: bool, number: u16) -> Backend {
    let outer = match (outer_source(v6), backend_address(v6, number)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => outer_sum(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => outer_sum6(from.octets(), to.octets()),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    Backend {
        next_hop: NextHop::new(backend_mac(number), SAME).0,
        flags: backend_flag::USED,
        port_be: BACKEND_PORT.to_be(),
        position: 1,
        outer_sum: outer,
        address: endpoint::bytes(backend_address(v6, number)),
        outer_source: endpoint::bytes(outer_source(v6)),
        family: if v6 { 6 } else { 4 },
        reserved: [0; 15],
        pool: 0,
        weight: 1,
        cause: 0,
        down_since_s: 0,
        drain_deadline_s: 0,
        serving_since_s: 0,
        reserved_end: [0; 11],
    }
}
