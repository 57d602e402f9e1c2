//! What netlink says: interfaces, next hops of backends, routes of replies.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Context;
use xlb_common::{limits::MAX_ROUTES, next_hop::NextHop};

use super::{
    Daemon,
    world::{self, NextHops},
};
use crate::{dataplane::RouteKey, netlink};

/// How long a start may wait for neighbours. Those that are there answer in milliseconds.
const NEIGHBOURS_LIMIT: Duration = Duration::from_secs(1);

impl Daemon {
    /// Waits until the neighbours that backends are reached by are known, or do not answer.
    ///
    /// The kernel forgets neighbours that only XDP sends to. An agent that took over without asking
    /// would stop what flows to them, and one that starts afresh would give all slots to the first
    /// that answers, and then move them.
    pub(super) async fn meet_neighbours(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + NEIGHBOURS_LIMIT;
        while self.lacks_neighbours() {
            match tokio::time::timeout_at(deadline, self.tables.changed()).await {
                Ok(changed) => changed.context("read neighbours")?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether a backend has no next hop only because nobody has asked for it, or no answer has
    /// come yet. What is lacking is asked for.
    fn lacks_neighbours(&self) -> bool {
        let tables = self.tables.borrow().clone();
        let allowed = self.interfaces.ways_out();
        self.want_neighbours(&tables, &allowed);
        let lacks = |address| {
            let resolved = netlink::resolve(&tables, address, &allowed);
            matches!(resolved, Err(netlink::Unresolved::NeighbourUnknown { .. }))
        };
        world::addresses(&self.merged.config).into_iter().any(lacks)
    }

    /// Takes in what netlink says: interfaces, next hops, routes of replies.
    pub(super) fn look_around(&mut self) -> anyhow::Result<()> {
        let tables = self.tables.borrow_and_update().clone();
        self.follow_interfaces(&tables);
        let allowed = self.interfaces.ways_out();
        let egress = self.interfaces.egress();
        self.set_client_routes(&tables, &allowed, &egress)?;
        let next_hops = self.resolve_next_hops();
        self.tell_of_obstacles(&tables, &allowed, &next_hops);
        if next_hops == self.next_hops {
            return Ok(());
        }
        let changed: BTreeSet<_> = next_hops
            .iter()
            .filter(|(address, hop)| self.next_hops.get(*address) != Some(*hop))
            .map(|(&address, _)| address)
            .collect();
        self.next_hops = next_hops;
        let affected: Vec<String> = self
            .merged
            .config
            .pools
            .values()
            .filter(|pool| {
                pool.backends
                    .iter()
                    .any(|backend| changed.contains(&backend.address))
            })
            .map(|pool| pool.name.clone())
            .filter(|name| self.engine.pools.contains_key(name))
            .collect();
        affected.iter().try_for_each(|name| self.update_pool(name))
    }

    /// Says in the log which backends cannot be sent to and why, and which can be sent to again. A
    /// neighbour that was only just asked for is no news yet, and one that does not answer is asked
    /// again and again.
    fn tell_of_obstacles(
        &mut self,
        tables: &netlink::Tables,
        allowed: &BTreeSet<u32>,
        next_hops: &NextHops,
    ) {
        self.unresolved
            .retain(|address| next_hops.contains_key(address));
        for (&address, (hop, _)) in next_hops {
            if hop.is_known() {
                if self.unresolved.remove(&address) {
                    tracing::info!("{address} is resolved: it is sent to");
                }
                continue;
            }
            match netlink::resolve(tables, address, allowed) {
                Ok(_) | Err(netlink::Unresolved::NeighbourUnknown { .. }) => (),
                Err(why) => {
                    if self.unresolved.insert(address) {
                        tracing::warn!("{address} is not sent to: {why}");
                    }
                }
            }
        }
    }

    fn set_client_routes(
        &mut self,
        tables: &netlink::Tables,
        allowed: &BTreeSet<u32>,
        egress: &BTreeMap<u32, u16>,
    ) -> anyhow::Result<()> {
        let routes = netlink::client_routes(tables, allowed, MAX_ROUTES as usize);
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        for (prefix, prefix_len, next_hop) in routes.entries {
            let hop =
                next_hop.and_then(|hop| Some(NextHop::new(hop.mac, *egress.get(&hop.ifindex)?)));
            let hop = hop.unwrap_or(NextHop::NONE);
            let length = u32::from(prefix_len);
            match prefix {
                std::net::IpAddr::V4(prefix) => v4.insert(
                    RouteKey {
                        prefix_bits: length,
                        address: prefix.octets(),
                    },
                    hop,
                ),
                std::net::IpAddr::V6(prefix) => v6.insert(
                    RouteKey {
                        prefix_bits: length,
                        address: prefix.octets(),
                    },
                    hop,
                ),
            };
        }
        for address in tables.addresses() {
            match address.address {
                std::net::IpAddr::V4(own) => {
                    v4.insert(
                        RouteKey {
                            prefix_bits: 32,
                            address: own.octets(),
                        },
                        NextHop::LOCAL,
                    );
                }
                std::net::IpAddr::V6(own) => {
                    v6.insert(
                        RouteKey {
                            prefix_bits: 128,
                            address: own.octets(),
                        },
                        NextHop::LOCAL,
                    );
                }
            }
        }
        let maps = self.engine.dataplane.maps_mut();
        maps.routes4
            .apply(&v4)
            .context("set the IPv4 routes of replies")?;
        maps.routes6
            .apply(&v6)
            .context("set the IPv6 routes of replies")?;
        Ok(())
    }

    /// Resolves the next hops of all backends, and asks the kernel to keep them known.
    pub(super) fn resolve_next_hops(&self) -> NextHops {
        let tables = self.tables.borrow().clone();
        let allowed = self.interfaces.ways_out();
        let egress = self.interfaces.egress();
        self.want_neighbours(&tables, &allowed);
        world::resolve_all(&self.merged.config, &tables, &allowed, &egress)
    }

    fn want_neighbours(&self, tables: &netlink::Tables, allowed: &BTreeSet<u32>) {
        let mut wanted = netlink::wanted_gateways(tables, allowed);
        for address in world::addresses(&self.merged.config) {
            wanted.append(&mut netlink::wanted(tables, address, allowed));
        }
        self.netlink.want(wanted);
    }
}
