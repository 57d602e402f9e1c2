//! A configuration as the data path has it: what the agent makes of a file and of the network.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use xlb_common::{
    maps::{backend_flag, forward, protocol, service_state},
    slot::{BackendFlags, SlotWord},
};

use super::tables::Record;

/// Everything that decides what becomes of a frame.
#[derive(Clone, Debug)]
pub struct World {
    /// Bits of [`xlb_common::maps::feature`].
    pub features: u32,
    /// Key of the flow hash.
    pub hash_key: [u64; 2],
    /// Interfaces by their index in `EGRESS`, from 1. Frames come in on the first.
    pub interfaces: Vec<Interface>,
    /// Services by number, from 1.
    pub services: Vec<Service>,
    /// Pools, which services name by their place.
    pub pools: Vec<Pool>,
    /// Backends by number, from 1.
    pub backends: Vec<Backend>,
    /// Next hops of replies.
    pub routes: Vec<Route>,
    /// What `PENDING` holds at first, and the room that it has.
    pub pending: (Vec<Record>, usize),
    /// The same of `FLOWS`.
    pub flows: (Vec<Record>, usize),
}

/// An interface that frames leave by.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// MAC address.
    pub mac: [u8; 6],
    /// Largest IP packet; 0: not known.
    pub mtu: u16,
    /// The kernel's number.
    pub ifindex: u32,
    /// The tag that frames leave with, as it stands in memory; 0: none.
    pub tag: u32,
}

/// A virtual address with its port.
#[derive(Clone, Debug)]
pub struct Service {
    /// Address and port, or the first of several.
    pub vip: SocketAddr,
    /// Bits that its addresses have in common.
    pub bits: u8,
    /// The last of its ports.
    pub last_port: u16,
    /// [`protocol::TCP`] or [`protocol::UDP`].
    pub protocol: u8,
    /// One of [`forward`].
    pub forward: u8,
    /// Place of its pool.
    pub pool: usize,
    /// Bits of [`service_state`], but for `MOVING`.
    pub state: u32,
    /// Whether packets may name an alternative.
    pub second_chance: bool,
    /// Whether fragments go by their addresses.
    pub fragments_by_address: bool,
    /// Index in `COUNTERS` of the pool's backend at position 0.
    pub counter_base: u32,
    /// Turns that were taken under `round-robin`.
    pub turns: u32,
}

/// Where replies of a backend to a service under `dnat` come from.
#[derive(Clone, Debug)]
pub struct Replier {
    /// The backend's address.
    pub address: IpAddr,
    /// Its port, or, if it has none of its own, the service's.
    pub ports: RangeInclusive<u16>,
    /// The service's protocol.
    pub protocol: u8,
    /// Place of the service.
    pub service: usize,
    /// Number of the backend.
    pub backend: u16,
}

/// A pool: its ring and its turns.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Numbers of its backends.
    pub members: Vec<u16>,
    /// The slots.
    pub slots: Vec<SlotWord>,
    /// Backends in the order of their turns.
    pub sequence: Vec<u16>,
    /// First entry of both in the arenas.
    pub offset: u32,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Address and port; port 0: whichever the packet has, under `dnat`.
    pub address: SocketAddr,
    /// Source of outer headers.
    pub outer_source: IpAddr,
    /// Where frames to it go, if that is known.
    pub next_hop: Option<Way>,
    /// Bits of [`backend_flag`].
    pub flags: u16,
    /// Position among its pool's backends.
    pub position: u16,
    /// Share of new connections.
    pub weight: u16,
    /// Open connections, as `least-connections` counts them.
    pub connections: i64,
}

/// A MAC address behind an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where frames are sent to.
    pub mac: [u8; 6],
    /// Index of the interface in `EGRESS`.
    pub egress: u16,
}

/// The next hop towards a prefix.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The prefix's address.
    pub prefix: IpAddr,
    /// Its length.
    pub bits: u8,
    /// The way; `None`: addresses of this host.
    pub way: Option<Way>,
}

impl World {
    /// Whether the program was loaded with a feature.
    #[must_use]
    pub fn has(&self, feature: u32) -> bool {
        self.features & feature != 0
    }

    /// Whether an address is one of the services'.
    #[must_use]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.services
            .iter()
            .any(|service| contains(service.vip.ip(), service.bits, address))
    }

    /// The service of an endpoint, by its place: of those that it is one of, the one with the longest
    /// prefix of addresses, and then the one with one port before that with a range and that with all.
    #[must_use]
    pub fn service_at(&self, endpoint: SocketAddr, protocol: u8) -> Option<usize> {
        self.services
            .iter()
            .enumerate()
            .filter(|(_, service)| service.protocol == protocol && service.takes(endpoint))
            .max_by_key(|(_, service)| service.specificity())
            .map(|(place, _)| place)
    }

    /// The service, by its place, and the number of the backend that replies from an endpoint under
    /// `dnat`.
    #[must_use]
    pub fn replier(&self, endpoint: SocketAddr, protocol: u8) -> Option<(usize, u16)> {
        self.repliers()
            .find(|it| {
                it.address == endpoint.ip()
                    && it.ports.contains(&endpoint.port())
                    && it.protocol == protocol
            })
            .map(|it| (it.service, it.backend))
    }

    /// Where replies of backends under `dnat` come from.
    pub fn repliers(&self) -> impl Iterator<Item = Replier> {
        self.services
            .iter()
            .enumerate()
            .filter(|(_, service)| service.forward == forward::DNAT)
            .flat_map(move |(place, service)| {
                self.pools[service.pool].members.iter().map(move |&number| {
                    let backend = &self.backends[usize::from(number) - 1];
                    let port = backend.address.port();
                    Replier {
                        address: backend.address.ip(),
                        ports: if port == 0 {
                            service.vip.port()..=service.last_port
                        } else {
                            port..=port
                        },
                        protocol: service.protocol,
                        service: place,
                        backend: number,
                    }
                })
            })
    }

    /// A backend by its number.
    #[must_use]
    pub fn backend(&self, number: u16) -> Option<&Backend> {
        self.backends.get(usize::from(number).checked_sub(1)?)
    }

    /// What is known of a backend; nothing of one that there is not.
    #[must_use]
    pub fn flags(&self, number: u16) -> BackendFlags {
        BackendFlags(self.backend(number).map_or(0, |backend| backend.flags))
    }

    /// The longest prefix that an address is in.
    #[must_use]
    pub fn route(&self, to: IpAddr) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| contains(route.prefix, route.bits, to))
            .max_by_key(|route| route.bits)
    }

    /// State of a service with what its pool adds.
    #[must_use]
    pub fn state(&self, service: &Service) -> u32 {
        let moving = self.pools[service.pool]
            .slots
            .iter()
            .any(|slot| slot.is_marked());
        service.state | if moving { service_state::MOVING } else { 0 }
    }
}

/// Bits of an address.
#[must_use]
pub fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Whether a prefix contains an address.
#[must_use]
pub fn contains(prefix: IpAddr, bits: u8, address: IpAddr) -> bool {
    let (of, width) = match prefix {
        IpAddr::V4(prefix) => (u128::from(u32::from(prefix)), 32),
        IpAddr::V6(prefix) => (u128::from(prefix), 128),
    };
    let at = match address {
        IpAddr::V4(address) if prefix.is_ipv4() => u128::from(u32::from(address)),
        IpAddr::V6(address) if prefix.is_ipv6() => u128::from(address),
        IpAddr::V4(_) | IpAddr::V6(_) => return false,
    };
    (of ^ at).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}

impl Backend {
    /// Whether the number is taken.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.flags & backend_flag::USED != 0
    }
}

impl Service {
    /// Whether a bit of its state is set.
    #[must_use]
    pub fn has(&self, state: u32) -> bool {
        self.state & state != 0
    }

    /// Whether what is sent to an endpoint is for it.
    #[must_use]
    pub fn takes(&self, endpoint: SocketAddr) -> bool {
        contains(self.vip.ip(), self.bits, endpoint.ip())
            && (self.vip.port()..=self.last_port).contains(&endpoint.port())
    }

    /// Whether it has one address and one port.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.bits == whole(self.vip.ip()) && !self.has_several_ports()
    }

    /// Whether it has several ports.
    #[must_use]
    pub fn has_several_ports(&self) -> bool {
        self.vip.port() != self.last_port
    }

    /// What decides between services that take the same.
    #[must_use]
    pub fn specificity(&self) -> (u8, u8) {
        let ports = match (self.vip.port(), self.last_port) {
            (first, last) if first == last => 2,
            (0, u16::MAX) => 0,
            _ => 1,
        };
        (self.bits, ports)
    }

    /// Whether its packets get an outer header.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        matches!(self.forward, forward::IPIP | forward::GUE)
    }

    /// Whether it is of TCP.
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.protocol == protocol::TCP
    }
}
