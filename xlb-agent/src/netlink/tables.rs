//! A copy of the kernel's tables in memory, changed by [`Change`]s and asked by pure functions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::NeighbourKey;
use super::model::{Address, Change, Link, Neighbour, Route, Table};

/// Most routes that are kept; a full table of the Internet holds about a million.
pub const ROUTES_MAX: usize = 1 << 21;

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
