//! What the daemon knows of the world: next hops, health, and what the operator asked for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use xlb_common::next_hop::NextHop;
use xlb_control::{
    config::{Config, Forward, OnRemove, Pool, Service, overrides::BackendKey},
    health::{Checker, State, Target},
};

use crate::{engine::goal::World, netlink, plan::Intent};

/// Next hops by backend address, as they were last resolved.
pub(super) type NextHops = HashMap<IpAddr, (NextHop, Option<IpAddr>)>;

/// A view of the daemon's knowledge.
pub(super) struct Known<'a> {
    /// Next hops.
    pub(super) next_hops: &'a NextHops,
    /// Health checks.
    pub(super) checker: &'a Checker,
    /// What commands ask of backends.
    pub(super) intents: &'a BTreeMap<(String, SocketAddr), Intent>,
    /// What they said of the connections of backends that they removed.
    pub(super) removed: &'a BTreeMap<BackendKey, Option<OnRemove>>,
}

/// Of what was said of removed backends, what is about one pool.
pub(super) fn removed_from(
    pool: &str,
    removed: &BTreeMap<BackendKey, Option<OnRemove>>,
) -> BTreeMap<SocketAddr, OnRemove> {
    let said = removed.iter().filter(|((of, _), _)| of == pool);
    said.filter_map(|((_, endpoint), word)| Some((*endpoint, (*word)?)))
        .collect()
}

impl World for Known<'_> {
    fn intent(&self, pool: &str, endpoint: SocketAddr) -> Intent {
        self.intents
            .get(&(pool.to_owned(), endpoint))
            .copied()
            .unwrap_or(Intent::Serve)
    }

    fn removed(&self, pool: &str) -> BTreeMap<SocketAddr, OnRemove> {
        removed_from(pool, self.removed)
    }

    fn is_well(&self, pool: &Pool, endpoint: SocketAddr) -> bool {
        let Some(check) = &pool.check else {
            return true;
        };
        match self.checker.state(&Target::new(endpoint, check)) {
            Some(State::Down) => false,
            Some(State::Up | State::Unknown) | None => true,
        }
    }

    fn next_hop(&self, address: IpAddr) -> (NextHop, Option<IpAddr>) {
        self.next_hops
            .get(&address)
            .copied()
            .unwrap_or((NextHop::NONE, None))
    }
}

/// Resolves the next hop of every backend; `egress` gives an interface's index in `EGRESS`.
#[must_use]
pub(super) fn resolve_all(
    config: &Config,
    tables: &Arc<netlink::Tables>,
    allowed: &BTreeSet<u32>,
    egress: &BTreeMap<u32, u16>,
) -> NextHops {
    let listeners = listeners(config).map(|address| (address, (NextHop::LOCAL, None)));
    addresses(config)
        .into_iter()
        .map(|address| {
            let hop = netlink::resolve(tables, address, allowed).ok();
            let known = hop.and_then(|hop| {
                let index = *egress.get(&hop.ifindex)?;
                Some((NextHop::new(hop.mac, index), hop.prefsrc))
            });
            (address, known.unwrap_or((NextHop::NONE, None)))
        })
        .chain(listeners)
        .collect()
}

/// Addresses of all backends that frames are sent to, each once.
#[must_use]
pub(super) fn addresses(config: &Config) -> BTreeSet<IpAddr> {
    let listening: BTreeSet<&str> = local_services(config)
        .map(|service| service.pool.as_str())
        .collect();
    let pools = config.pools.values();
    pools
        .filter(|pool| !listening.contains(pool.name.as_str()))
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.address)
        .collect()
}

/// Addresses at which services of this host's own stack listen.
fn listeners(config: &Config) -> impl Iterator<Item = IpAddr> {
    local_services(config)
        .filter_map(|service| config.pools.get(&service.pool))
        .flat_map(|pool| &pool.backends)
        .map(|backend| backend.address)
}

/// Services of this host's own stack.
pub(super) fn local_services(config: &Config) -> impl Iterator<Item = &Service> {
    let services = config.services.values();
    services.filter(|service| service.forward == Forward::Local)
}
