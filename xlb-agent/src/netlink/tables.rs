//! A copy of the kernel's tables in memory, changed by [`Change`]s and asked by pure functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::NeighbourKey;

/// Most routes that are kept; a full table of the Internet holds about a million.
pub const ROUTES_MAX: usize = 1 << 21;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it, which a change of name leaves alone.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Up by its administrator and running (RFC 2863).
    pub up: bool,
    /// Largest payload of a frame, in bytes.
    pub mtu: u32,
}

/// An address of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface that it is on.
    pub ifindex: u32,
    /// The address itself.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix_len: u8,
    /// Whether new packets to other hosts may take it as their source: of global scope, and not
    /// secondary, tentative, deprecated or found to be a duplicate.
    pub preferred: bool,
}

/// The routing tables that are looked at, in the kernel's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Table 255: this host's own addresses, broadcast and multicast.
    Local,
    /// Table 254.
    Main,
}

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Takes it in: the destination is this host.
    Local,
    /// Broadcast, anycast or multicast.
    NotUnicast,
    /// Drops it in silence.
    Blackhole,
    /// Answers that the host is unreachable.
    Unreachable,
    /// Answers that it is prohibited.
    Prohibit,
    /// Ends the lookup in this table.
    Throw,
}

/// One way of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The interface that it leaves by.
    pub ifindex: u32,
    /// The router's address; none when the destination is on the link. May be IPv6 under an IPv4
    /// route (RFC 8950).
    pub gateway: Option<IpAddr>,
    /// The kernel has marked it dead.
    pub dead: bool,
    /// It wraps packets (a light-weight tunnel), which a MAC address alone cannot stand for.
    pub encapsulates: bool,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The table that it stands in.
    pub table: Table,
    /// First address of its prefix.
    pub prefix: IpAddr,
    /// Length of the prefix in bits.
    pub prefix_len: u8,
    /// Its metric; the smallest wins.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// The source address that it names.
    pub prefsrc: Option<IpAddr>,
    /// Its ways; more than one under multipath; none when it only names a next-hop object.
    pub hops: Vec<Hop>,
}

/// State of a neighbour (RFC 4861 section 7.3.2, and the kernel's own).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Nothing has been asked yet.
    None,
    /// Asked, and no answer yet.
    Incomplete,
    /// Confirmed not long ago.
    Reachable,
    /// Known, not confirmed for a while.
    Stale,
    /// In use, about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// Did not answer.
    Failed,
    /// Needs no resolution.
    Noarp,
    /// Set by the administrator.
    Permanent,
}

impl NeighbourState {
    /// Whether packets may be sent to the hardware address that the entry holds.
    #[must_use]
    pub fn is_usable(self) -> bool {
        match self {
            Self::Permanent
            | Self::Noarp
            | Self::Reachable
            | Self::Stale
            | Self::Delay
            | Self::Probe => true,
            Self::None | Self::Incomplete | Self::Failed => false,
        }
    }
}

/// An entry of the neighbour table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its hardware address, when it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its state.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The hardware address, if packets may be sent to it.
    #[must_use]
    pub fn usable_mac(&self) -> Option<[u8; 6]> {
        self.mac.filter(|_| self.state.is_usable())
    }
}

/// One step from the kernel's tables of a moment ago to those of now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link is new or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new.
    Route {
        /// The route.
        route: Route,
        /// It takes the place of the one with the same prefix and metric.
        replaces: bool,
        /// It comes after those with the same prefix and metric, not before.
        appends: bool,
    },
    /// A route is gone.
    RouteGone(Route),
    /// A neighbour is new or has changed.
    Neighbour(NeighbourKey, Neighbour),
    /// A neighbour is gone.
    NeighbourGone(NeighbourKey),
}

impl Change {
    /// Whether routes may have changed in ways that the kernel does not tell. IPv4 routes of a
    /// link that goes down, or of a source address that goes, vanish without a message; replacing
    /// and appending is told in ways that differ between the families. After such a change the
    /// routes are read again; what [`Tables::apply`] made of it only bridges the time until then.
    #[must_use]
    pub fn leaves_routes_in_doubt(&self) -> bool {
        match self {
            Self::Link(_)
            | Self::LinkGone(_)
            | Self::AddressGone(_)
            | Self::Route { .. }
            | Self::RouteGone(_) => true,
            Self::Address(_) | Self::Neighbour(..) | Self::NeighbourGone(_) => false,
        }
    }
}

type Lengths = BTreeMap<(Table, bool, u8), BTreeMap<IpAddr, Vec<Route>>>;

/// The kernel's tables. A clone is cheap, and a later change copies only the part that it touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// The tables have been read once. Before that nothing is known, and nothing may be concluded.
    pub complete: bool,
    /// Routes beyond [`ROUTES_MAX`] that were left out.
    pub routes_left_out: usize,
    links: Arc<BTreeMap<u32, Link>>,
    addresses: Arc<Vec<Address>>,
    routes: Arc<Lengths>,
    routes_count: usize,
    neighbours: Arc<BTreeMap<NeighbourKey, Neighbour>>,
}

impl Tables {
    /// Applies a change; says whether it changed anything.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Link(link) => {
                if self.links.get(&link.ifindex) == Some(&link) {
                    return false;
                }
                Arc::make_mut(&mut self.links).insert(link.ifindex, link);
                true
            }
            Change::LinkGone(ifindex) => self.remove_link(ifindex),
            Change::Address(address) => self.set_address(address),
            Change::AddressGone(address) => {
                let before = self.addresses.len();
                if self
                    .addresses
                    .iter()
                    .any(|known| same_address(known, &address))
                {
                    Arc::make_mut(&mut self.addresses).retain(|a| !same_address(a, &address));
                }
                self.addresses.len() != before
            }
            Change::Route {
                route,
                replaces,
                appends,
            } => self.add_route(route, replaces, appends),
            Change::RouteGone(route) => self.remove_route(&route),
            Change::Neighbour(key, neighbour) => {
                if self.neighbours.get(&key) == Some(&neighbour) {
                    return false;
                }
                Arc::make_mut(&mut self.neighbours).insert(key, neighbour);
                true
            }
            Change::NeighbourGone(key) => {
                self.neighbours.contains_key(&key)
                    && Arc::make_mut(&mut self.neighbours).remove(&key).is_some()
            }
        }
    }

    /// The link of that number.
    #[must_use]
    pub fn link(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// The link of that name.
    #[must_use]
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// This host's addresses, in the kernel's order within an interface.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The entry of a neighbour.
    #[must_use]
    pub fn neighbour(&self, key: NeighbourKey) -> Option<&Neighbour> {
        self.neighbours.get(&key)
    }

    /// All neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = (NeighbourKey, &Neighbour)> {
        self.neighbours
            .iter()
            .map(|(key, neighbour)| (*key, neighbour))
    }

    /// All routes of a table, shortest prefixes first.
    pub fn routes(&self, table: Table) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .filter(move |((of, _, _), _)| *of == table)
            .flat_map(|(_, prefixes)| prefixes.values().flatten())
    }

    /// The routes of a table that match, the best first: longest prefix, then smallest metric.
    pub fn matching(&self, table: Table, destination: IpAddr) -> impl Iterator<Item = &Route> {
        let v6 = destination.is_ipv6();
        self.routes
            .range((table, v6, 0)..=(table, v6, 128))
            .rev()
            .filter_map(move |((_, _, len), prefixes)| prefixes.get(&mask(destination, *len)))
            .flatten()
    }

    fn remove_link(&mut self, ifindex: u32) -> bool {
        if !self.links.contains_key(&ifindex) {
            return false;
        }
        Arc::make_mut(&mut self.links).remove(&ifindex);
        Arc::make_mut(&mut self.addresses).retain(|address| address.ifindex != ifindex);
        Arc::make_mut(&mut self.neighbours).retain(|(of, _), _| *of != ifindex);
        true
    }

    fn set_address(&mut self, address: Address) -> bool {
        if self.addresses.contains(&address) {
            return false;
        }
        let addresses = Arc::make_mut(&mut self.addresses);
        match addresses
            .iter_mut()
            .find(|known| same_address(known, &address))
        {
            Some(known) => *known = address,
            None => addresses.push(address),
        }
        true
    }

    fn add_route(&mut self, route: Route, replaces: bool, appends: bool) -> bool {
        if self.routes_count >= ROUTES_MAX && !replaces {
            self.routes_left_out += 1;
            return false;
        }
        let key = (route.table, route.prefix.is_ipv6(), route.prefix_len);
        let known = self
            .routes
            .get(&key)
            .and_then(|prefixes| prefixes.get(&route.prefix));
        if known.is_some_and(|known| known.contains(&route)) {
            return false;
        }
        let same = Arc::make_mut(&mut self.routes)
            .entry(key)
            .or_default()
            .entry(route.prefix)
            .or_default();
        if replaces && let Some(old) = same.iter_mut().find(|old| old.metric == route.metric) {
            *old = route;
            return true;
        }
        let after =
            |old: &Route| old.metric < route.metric || appends && old.metric == route.metric;
        let at = same.partition_point(after);
        same.insert(at, route);
        self.routes_count += 1;
        true
    }

    fn remove_route(&mut self, route: &Route) -> bool {
        let key = (route.table, route.prefix.is_ipv6(), route.prefix_len);
        let known = self
            .routes
            .get(&key)
            .and_then(|prefixes| prefixes.get(&route.prefix));
        let same = |old: &Route| old.metric == route.metric && old.hops == route.hops;
        if !known.is_some_and(|known| known.iter().any(same)) {
            return false;
        }
        let lengths = Arc::make_mut(&mut self.routes);
        if let Some(prefixes) = lengths.get_mut(&key)
            && let Some(known) = prefixes.get_mut(&route.prefix)
        {
            let before = known.len();
            known.retain(|old| !same(old));
            self.routes_count -= before - known.len();
            if known.is_empty() {
                prefixes.remove(&route.prefix);
            }
            if prefixes.is_empty() {
                lengths.remove(&key);
            }
        }
        true
    }
}

fn same_address(a: &Address, b: &Address) -> bool {
    (a.ifindex, a.address, a.prefix_len) == (b.ifindex, b.address, b.prefix_len)
}

/// The first address of the prefix of `len` bits that `address` is in.
#[must_use]
pub fn mask(address: IpAddr, len: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let keep = u32::MAX
                .checked_shl(32 - u32::from(len.min(32)))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX
                .checked_shl(128 - u32::from(len.min(128)))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & keep))
        }
    }
}
