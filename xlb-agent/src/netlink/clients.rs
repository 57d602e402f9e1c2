//! The table of next hops for replies to clients, which may be anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::model::{Neighbour, RouteKind, Table};
use super::resolve::{NextHop, first_usable, live_hops, resolve};
use super::tables::{Tables, mask};

/// A prefix, its length, and the next hop of clients in it. `None` is a miss: the data path asks
/// the kernel (`bpf_fib_lookup`).
pub type ClientRoute = (IpAddr, u8, Option<NextHop>);

/// The table, and what did not fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientRoutes {
    /// The entries, shortest prefixes first.
    pub entries: Vec<ClientRoute>,
    /// Entries that did not fit; clients in them are misses, never sent the wrong way.
    pub left_out: usize,
}

type Prefixes = BTreeMap<(bool, u8, IpAddr), Option<NextHop>>;

/// The next hops of clients in any network, at most `limit` of them.
///
/// A route with a gateway over one of the interfaces `allowed` gives the gateway. A prefix on the
/// link gives a miss, and each usable neighbour in it an entry of its own. A route over another
/// interface, one that discards, and one whose gateway is not resolved give a miss. A route that
/// says the same as the one around it is no entry, so that a full table of the Internet through
/// one router is one entry.
///
/// When there are too many, neighbours are left out first, then the longest prefixes; the prefix
/// around one left out becomes a miss if it says something else.
#[must_use]
pub fn client_routes(tables: &Tables, allowed: &BTreeSet<u32>, limit: usize) -> ClientRoutes {
    let mut prefixes = route_prefixes(tables, allowed);
    drop_redundant(&mut prefixes);
    let mut left_out = shrink(&mut prefixes, limit);
    let hosts = neighbour_hosts(tables, allowed);
    let room = limit - prefixes.len();
    left_out += hosts.len().saturating_sub(room);
    prefixes.extend(hosts.into_iter().take(room));
    let entries = prefixes
        .into_iter()
        .map(|((_, len, prefix), hop)| (prefix, len, hop))
        .collect();
    ClientRoutes { entries, left_out }
}

fn route_prefixes(tables: &Tables, allowed: &BTreeSet<u32>) -> Prefixes {
    let mut prefixes = Prefixes::new();
    let mut settled = BTreeSet::new();
    for route in tables.routes(Table::Main) {
        let key = (route.prefix.is_ipv6(), route.prefix_len, route.prefix);
        // Clients have no link-local or multicast addresses.
        let v6_local = matches!(route.prefix, IpAddr::V6(v6) if v6.is_unicast_link_local());
        if v6_local || route.prefix.is_multicast() || settled.contains(&key) {
            continue;
        }
        let live = live_hops(tables, route);
        if route.kind == RouteKind::Unicast && live.is_empty() && !route.hops.is_empty() {
            // Its links are down: a larger metric, or the prefix around it, takes over.
            continue;
        }
        settled.insert(key);
        let through_gateway = route.kind == RouteKind::Unicast
            && live.first().is_some_and(|hop| hop.gateway.is_some());
        let hop = through_gateway
            .then(|| first_usable(tables, route.prefix, route, &live, allowed).ok())
            .flatten()
            // A way without gateway resolves to the prefix itself, which is no client.
            .filter(|hop| hop.via != route.prefix)
            // The source address is of no use to replies, and would keep equal entries apart.
            .map(|hop| NextHop {
                prefsrc: None,
                ..hop
            });
        prefixes.insert(key, hop);
    }
    prefixes
}

fn neighbour_hosts(
    tables: &Tables,
    allowed: &BTreeSet<u32>,
) -> Vec<((bool, u8, IpAddr), Option<NextHop>)> {
    let host = |((ifindex, address), neighbour): ((u32, IpAddr), &Neighbour)| {
        if !allowed.contains(&ifindex) || neighbour.usable_mac().is_none() {
            return None;
        }
        let hop = resolve(tables, address, allowed).ok()?;
        let v6 = address.is_ipv6();
        let len = if v6 { 128 } else { 32 };
        (hop.via == address && hop.ifindex == ifindex).then_some((
            (v6, len, address),
            Some(NextHop {
                prefsrc: None,
                ..hop
            }),
        ))
    };
    tables.neighbours().filter_map(host).collect()
}

/// The value of the nearest prefix around, if there is one.
fn around(
    prefixes: &Prefixes,
    (v6, len, prefix): (bool, u8, IpAddr),
) -> Option<(bool, u8, IpAddr)> {
    (0..len)
        .rev()
        .map(|shorter| (v6, shorter, mask(prefix, shorter)))
        .find(|key| prefixes.contains_key(key))
}

fn drop_redundant(prefixes: &mut Prefixes) {
    let redundant: Vec<_> = prefixes
        .iter()
        .filter(|(key, hop)| {
            around(prefixes, **key).is_some_and(|outer| prefixes.get(&outer) == Some(hop))
        })
        .map(|(key, _)| *key)
        .collect();
    // Each says the same as the one around it, which may itself go: then both say the same as the
    // one around that.
    for key in redundant {
        prefixes.remove(&key);
    }
}

/// Takes out the longest prefixes until at most `limit` are left; says how many went.
fn shrink(prefixes: &mut Prefixes, limit: usize) -> usize {
    let surplus = prefixes.len().saturating_sub(limit);
    if surplus == 0 {
        return 0;
    }
    let mut longest_first: Vec<_> = prefixes.keys().copied().collect();
    longest_first.sort_by_key(|(_, len, _)| std::cmp::Reverse(*len));
    for key in longest_first.into_iter().take(surplus) {
        let hop = prefixes.remove(&key).flatten();
        if let Some(outer) = around(prefixes, key)
            && let Some(value) = prefixes.get_mut(&outer)
            && *value != hop
        {
            *value = None;
        }
    }
    surplus
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{
        add, allowed, hop, host, ip, link, mac, neighbour, special, unicast,
    };
    use super::super::model::NeighbourState;
    use super::*;

    fn routes(tables: &Tables, limit: usize) -> (Vec<(String, Option<u8>)>, usize) {
        let routes = client_routes(tables, &allowed(), limit);
        let text = |(prefix, len, hop): ClientRoute| {
            (format!("{prefix}/{len}"), hop.map(|hop| hop.mac[5]))
        };
        (
            routes.entries.into_iter().map(text).collect(),
            routes.left_out,
        )
    }

    fn entry(prefix: &str, last: Option<u8>) -> (String, Option<u8>) {
        (prefix.to_owned(), last)
    }

    #[test]
    fn gateways_prefixes_and_neighbours_each_have_their_entry() {
        let expected = vec![
            entry("0.0.0.0/0", Some(1)),
            entry("10.9.0.0/16", None),
            entry("10.0.0.0/24", None),
            entry("10.0.0.1/32", Some(1)),
            entry("10.0.0.7/32", Some(7)),
        ];
        assert_eq!(routes(&host(), 100), (expected, 0));
        let hop = NextHop {
            ifindex: 2,
            mac: mac(7),
            via: ip("10.0.0.7"),
            prefsrc: None,
        };
        let entries = client_routes(&host(), &allowed(), 100).entries;
        assert!(entries.contains(&(ip("10.0.0.7"), 32, Some(hop))));
    }

    #[test]
    fn neighbours_are_left_out_first_then_the_longest_prefixes_which_become_misses() {
        let left = vec![
            entry("0.0.0.0/0", Some(1)),
            entry("10.9.0.0/16", None),
            entry("10.0.0.0/24", None),
        ];
        assert_eq!(routes(&host(), 3), (left, 2));
        // The default route may not claim what 10.0.0.0/24 said: it is a miss, too.
        let left = vec![entry("0.0.0.0/0", None), entry("10.9.0.0/16", None)];
        assert_eq!(routes(&host(), 2), (left, 3));
        assert_eq!(routes(&host(), 0), (vec![], 5));
    }

    #[test]
    fn routes_that_say_the_same_as_the_one_around_are_no_entries() {
        let mut host = host();
        for third in 0..=255 {
            let to = format!("198.18.{third}.0/24");
            host.apply(add(unicast(&to, 0, vec![hop(2, Some("10.0.0.1"))])));
        }
        let (entries, left_out) = routes(&host, 5);
        assert_eq!((entries.len(), left_out), (5, 0));
    }

    #[test]
    fn discarded_and_unresolved_routes_are_misses_and_dead_ones_yield() {
        let mut host = host();
        host.apply(special("198.51.100.0/24", RouteKind::Blackhole));
        host.apply(add(unicast(
            "203.0.113.0/24",
            0,
            vec![hop(3, Some("10.1.0.1"))],
        )));
        let (entries, _) = routes(&host, 100);
        assert!(entries.contains(&entry("198.51.100.0/24", None)));
        assert!(entries.contains(&entry("203.0.113.0/24", None)));
        host.apply(neighbour(3, "10.1.0.1", 31, NeighbourState::Reachable));
        assert!(
            routes(&host, 100)
                .0
                .contains(&entry("203.0.113.0/24", Some(31)))
        );
        host.apply(link(3, "eth1", false));
        assert!(
            !routes(&host, 100)
                .0
                .iter()
                .any(|(prefix, _)| prefix == "203.0.113.0/24")
        );
    }
}
