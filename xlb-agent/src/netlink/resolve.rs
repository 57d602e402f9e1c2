//! From a destination to the next hop that a packet for it is sent to.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;

use super::NeighbourKey;
use super::model::{Address, Hop, NeighbourState as S, Route, RouteKind, Table};
use super::tables::Tables;

/// Where a packet is sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHop {
    /// The interface that it leaves by.
    pub ifindex: u32,
    /// The hardware address that it is sent to.
    pub mac: [u8; 6],
    /// The neighbour's address: the destination itself, or a router.
    pub via: IpAddr,
    /// The source address of packets of this host's own to the destination (outer headers).
    pub prefsrc: Option<IpAddr>,
}

/// Why there is no next hop.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unresolved {
    /// The destination is one of this host's addresses.
    #[error("{0} is an address of this host")]
    Local(IpAddr),
    /// Broadcast, anycast or multicast.
    #[error("{0} is not the address of one host")]
    NotUnicast(IpAddr),
    /// A link-local address means nothing without its interface.
    #[error("{0} is link-local, and its interface is not known")]
    LinkLocal(IpAddr),
    /// No route matches.
    #[error("there is no route to {0}")]
    NoRoute(IpAddr),
    /// The best route discards packets.
    #[error("the route to {destination} is {kind}")]
    Discarded {
        /// The destination.
        destination: IpAddr,
        /// `blackhole`, `unreachable` or `prohibit`.
        kind: &'static str,
    },
    /// The best route leaves by an interface that xlb does not use.
    #[error(
        "the route to {destination} leaves by {interface}, which is not one of xlb's interfaces"
    )]
    OtherInterface {
        /// The destination.
        destination: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// All routes leave by links that are down.
    #[error("the route to {destination} leaves by {interface}, which is down")]
    LinkDown {
        /// The destination.
        destination: IpAddr,
        /// The interface's name.
        interface: String,
    },
    /// The route names an interface that is not there.
    #[error("the route to {destination} leaves by interface {ifindex}, which does not exist")]
    LinkMissing {
        /// The destination.
        destination: IpAddr,
        /// Its number.
        ifindex: u32,
    },
    /// The route wraps packets (a light-weight tunnel), which xlb cannot do for it.
    #[error("the route to {0} encapsulates packets, which xlb does not follow")]
    Encapsulates(IpAddr),
    /// The route only names a next-hop object.
    #[error(
        "the route to {0} names its next hop by an object only; set net.ipv4.nexthop_compat_mode to 1"
    )]
    NextHopObject(IpAddr),
    /// The neighbour's hardware address is not known yet.
    #[error("the hardware address of {via} on {interface} is not known yet ({state})")]
    NeighbourUnknown {
        /// The neighbour.
        via: IpAddr,
        /// The interface's name.
        interface: String,
        /// What the kernel says of it.
        state: &'static str,
    },
    /// The neighbour does not answer.
    #[error("{via} on {interface} does not answer ARP or neighbour discovery")]
    NeighbourFailed {
        /// The neighbour.
        via: IpAddr,
        /// The interface's name.
        interface: String,
    },
}

/// The next hop of a packet to `destination`, over one of the interfaces `allowed`.
///
/// Routes are taken as the kernel does: longest prefix, then smallest metric. A route whose links
/// are all down is passed over. Of a multipath route the first way counts that is up, allowed and
/// has a usable neighbour: always the same one while nothing changes, where the kernel would
/// spread flows over all of them.
///
/// # Errors
///
/// The reason why nothing can be sent, as a sentence for the operator.
pub fn resolve(
    tables: &Tables,
    destination: IpAddr,
    allowed: &BTreeSet<u32>,
) -> Result<NextHop, Unresolved> {
    let (route, hops) = live_route(tables, destination)?;
    first_usable(tables, destination, route, &hops, allowed)
}

/// The neighbours that must be known before packets to `destination` can be sent: the
/// destination, or the routers of the best route, all of them under multipath. Empty when no
/// neighbour would help.
#[must_use]
pub fn wanted(
    tables: &Tables,
    destination: IpAddr,
    allowed: &BTreeSet<u32>,
) -> BTreeSet<NeighbourKey> {
    let Ok((_, hops)) = live_route(tables, destination) else {
        return BTreeSet::new();
    };
    hops.iter()
        .filter(|hop| allowed.contains(&hop.ifindex) && !hop.encapsulates)
        .map(|hop| (hop.ifindex, hop.gateway.unwrap_or(destination)))
        .collect()
}

/// The routers of all routes over the interfaces `allowed`, which replies to clients go through.
#[must_use]
pub fn wanted_gateways(tables: &Tables, allowed: &BTreeSet<u32>) -> BTreeSet<NeighbourKey> {
    tables
        .routes(Table::Main)
        .filter(|route| route.kind == RouteKind::Unicast)
        .flat_map(|route| live_hops(tables, route))
        .filter(|hop| allowed.contains(&hop.ifindex) && !hop.encapsulates)
        .filter_map(|hop| Some((hop.ifindex, hop.gateway?)))
        .collect()
}

/// The best route that has a way which is up, and these ways.
fn live_route(tables: &Tables, destination: IpAddr) -> Result<(&Route, Vec<&Hop>), Unresolved> {
    if destination.is_multicast() || destination.is_unspecified() {
        return Err(Unresolved::NotUnicast(destination));
    }
    if let Some(local) = tables.matching(Table::Local, destination).next() {
        check_kind(local, destination)?;
    }
    if matches!(destination, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Err(Unresolved::LinkLocal(destination));
    }
    let mut first_obstacle = None;
    for route in tables.matching(Table::Main, destination) {
        check_kind(route, destination)?;
        if route.hops.is_empty() {
            return Err(Unresolved::NextHopObject(destination));
        }
        let mut live = Vec::with_capacity(route.hops.len());
        for hop in &route.hops {
            match obstacle(tables, destination, hop) {
                None => live.push(hop),
                Some(why) => {
                    first_obstacle.get_or_insert(why);
                }
            }
        }
        if !live.is_empty() {
            return Ok((route, live));
        }
    }
    Err(first_obstacle.unwrap_or(Unresolved::NoRoute(destination)))
}

/// The ways of a route that are up.
pub(super) fn live_hops<'a>(tables: &Tables, route: &'a Route) -> Vec<&'a Hop> {
    route
        .hops
        .iter()
        .filter(|hop| obstacle(tables, route.prefix, hop).is_none())
        .collect()
}

fn check_kind(route: &Route, destination: IpAddr) -> Result<(), Unresolved> {
    let discarded = |kind| Err(Unresolved::Discarded { destination, kind });
    match route.kind {
        RouteKind::Unicast => Ok(()),
        RouteKind::Local => Err(Unresolved::Local(destination)),
        RouteKind::NotUnicast => Err(Unresolved::NotUnicast(destination)),
        RouteKind::Blackhole => discarded("blackhole"),
        RouteKind::Unreachable => discarded("unreachable"),
        RouteKind::Prohibit => discarded("prohibit"),
        RouteKind::Throw => Err(Unresolved::NoRoute(destination)),
    }
}

fn obstacle(tables: &Tables, destination: IpAddr, hop: &Hop) -> Option<Unresolved> {
    let Some(link) = tables.link(hop.ifindex) else {
        return Some(Unresolved::LinkMissing {
            destination,
            ifindex: hop.ifindex,
        });
    };
    if !link.up || hop.dead {
        return Some(Unresolved::LinkDown {
            destination,
            interface: link.name.clone(),
        });
    }
    None
}

/// The first of `hops` that packets to `destination` can be sent by.
pub(super) fn first_usable(
    tables: &Tables,
    destination: IpAddr,
    route: &Route,
    hops: &[&Hop],
    allowed: &BTreeSet<u32>,
) -> Result<NextHop, Unresolved> {
    let mut first_reason = None;
    for hop in hops {
        match usable(tables, destination, hop, allowed) {
            Ok((mac, via)) => {
                let prefsrc = route
                    .prefsrc
                    .or_else(|| source_address(tables, hop.ifindex, destination));
                return Ok(NextHop {
                    ifindex: hop.ifindex,
                    mac,
                    via,
                    prefsrc,
                });
            }
            Err(why) => {
                first_reason.get_or_insert(why);
            }
        }
    }
    Err(first_reason.unwrap_or(Unresolved::NoRoute(destination)))
}

fn usable(
    tables: &Tables,
    destination: IpAddr,
    hop: &Hop,
    allowed: &BTreeSet<u32>,
) -> Result<([u8; 6], IpAddr), Unresolved> {
    let interface = tables
        .link(hop.ifindex)
        .map_or_else(String::new, |link| link.name.clone());
    if !allowed.contains(&hop.ifindex) {
        return Err(Unresolved::OtherInterface {
            destination,
            interface,
        });
    }
    // Not an obstacle that a lesser route gets around: that one would send the packet unwrapped.
    if hop.encapsulates {
        return Err(Unresolved::Encapsulates(destination));
    }
    let via = hop.gateway.unwrap_or(destination);
    let Some(neighbour) = tables.neighbour((hop.ifindex, via)) else {
        return Err(Unresolved::NeighbourUnknown {
            via,
            interface,
            state: "not asked for",
        });
    };
    if let Some(mac) = neighbour.usable_mac() {
        return Ok((mac, via));
    }
    Err(match neighbour.state {
        S::Failed => Unresolved::NeighbourFailed { via, interface },
        S::Incomplete => Unresolved::NeighbourUnknown {
            via,
            interface,
            state: "being asked for",
        },
        S::None => Unresolved::NeighbourUnknown {
            via,
            interface,
            state: "not asked for",
        },
        S::Reachable | S::Stale | S::Delay | S::Probe | S::Noarp | S::Permanent => {
            Unresolved::NeighbourUnknown {
                via,
                interface,
                state: "no Ethernet address",
            }
        }
    })
}

/// The source address that the kernel would take for a packet to `destination` by that interface:
/// one of the interface's, the one that shares the longest prefix (RFC 6724 rule 8), else of any
/// other. Host addresses (/32, /128) come last, since these are most often VIPs.
fn source_address(tables: &Tables, ifindex: u32, destination: IpAddr) -> Option<IpAddr> {
    let rank = |address: &Address| {
        let host = address.prefix_len == if address.address.is_ipv6() { 128 } else { 32 };
        (
            address.ifindex == ifindex,
            !host,
            common_bits(address.address, destination),
        )
    };
    tables
        .addresses()
        .iter()
        .rev()
        .filter(|a| a.preferred && a.address.is_ipv6() == destination.is_ipv6())
        .filter(|a| !a.address.is_loopback())
        .max_by_key(|address| rank(address))
        .map(|address| address.address)
}

fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
