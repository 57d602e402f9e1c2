//! The tables of endpoints, which lead to services by their VIPs, and back to them from backends.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
    net::SocketAddr,
};

use xlb_common::{
    endpoint::{Endpoint4, Endpoint6, EndpointKey, EndpointTarget},
    fragment,
    maps::{backend_cause, forward, service_option},
    nat,
};

use super::{
    Engine, EngineError, PoolState,
    wide::{Rest, WideReply},
};
use crate::{
    dataplane::{Maps, Table, TableEntry},
    endpoint,
};

/// Where replies of a pool's backends lead, by the backend's address, port and protocol number, and
/// whether the backend leaves the pool. An endpoint that left one service, where it still has
/// connections, for another is that one's.
pub(super) type Replies = BTreeMap<(SocketAddr, u8), (EndpointTarget, bool)>;

impl Engine {
    /// Brings the tables of VIPs in line with the services, and those of replies with the pools.
    pub(super) fn sync_endpoints(&mut self) -> Result<(), EngineError> {
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in &names {
            if let Some(pool) = self.pools.get(name) {
                let (replies, wide) = self.replies_of(pool);
                if let Some(pool) = self.pools.get_mut(name) {
                    pool.replies = replies;
                    pool.wide_replies = wide;
                }
            }
        }
        let mut replies: BTreeMap<(SocketAddr, u8), EndpointTarget> = BTreeMap::new();
        for (&at, &(to, leaves)) in self.pools.values().flat_map(|pool| &pool.replies) {
            if leaves {
                replies.entry(at).or_insert(to);
            } else {
                replies.insert(at, to);
            }
        }
        let (v4, v6) = by_family(
            replies
                .iter()
                .map(|(&(at, protocol), &to)| (at, protocol, to)),
        );
        let exact = self
            .services
            .iter()
            .filter_map(|(key, &(number, service))| {
                let port = key.at.ports.one().filter(|_| key.at.vip.is_one())?;
                Some((key.at.vip.address(), port, number, service))
            });
        let (vips4, vips6) = by_family(exact.flat_map(|(vip, port, number, service)| {
            let protocol = service.protocol;
            let by_address = service.options & service_option::FRAGMENTS_BY_ADDRESS != 0;
            let fragments = by_address.then(|| {
                let at = SocketAddr::new(vip, protocol.into());
                (at, fragment::ENDPOINT_PROTOCOL, target(number, 0))
            });
            [
                (SocketAddr::new(vip, port), protocol, target(number, 0)),
                (
                    SocketAddr::new(vip, 0),
                    0,
                    target(EndpointTarget::ADDRESS_ONLY, 0),
                ),
            ]
            .into_iter()
            .chain(fragments)
        }));
        let (sources4, sources6) = by_family(self.sources.iter().map(|&(number, address)| {
            let at = SocketAddr::new(address, 0);
            (at, nat::SOURCE, target(number + 1, 0))
        }));
        let (vips4, vips6) = ([vips4, sources4].concat(), [vips6, sources6].concat());
        let wide = self.add_wide_after(&vips4, &vips6)?;
        let maps = self.dataplane.maps_mut();
        sync(&mut maps.replies4, &v4, "REPLIES4")?;
        sync(&mut maps.replies6, &v6, "REPLIES6")?;
        sync(&mut maps.vips4, &vips4, "VIPS4")?;
        sync(&mut maps.vips6, &vips6, "VIPS6")?;
        match wide {
            Some(rest) => self.drop_wide(&rest),
            None => Ok(()),
        }
    }

    /// Brings the tables of ports in line, but for what goes. A port that leaves a range for a service of
    /// its own stands among the exact endpoints first, so that no packet finds nothing.
    fn add_wide_after(
        &mut self,
        vips4: &[(Endpoint4, EndpointTarget)],
        vips6: &[(Endpoint6, EndpointTarget)],
    ) -> Result<Option<Rest>, EngineError> {
        if !self.has_wide()? {
            return Ok(None);
        }
        let maps = self.dataplane.maps_mut();
        // Where there is no room before others have gone, it follows afterwards.
        for &(key, to) in vips4 {
            let _ = maps.vips4.insert(key, to);
        }
        for &(key, to) in vips6 {
            let _ = maps.vips6.insert(key, to);
        }
        self.add_wide()
    }

    /// Brings the tables of replies in line with one pool.
    pub(super) fn sync_replies(&mut self, name: &str) -> Result<(), EngineError> {
        let Some(pool) = self.pools.get(name) else {
            return Ok(());
        };
        let (wanted, wide) = self.replies_of(pool);
        if wide != pool.wide_replies {
            if let Some(pool) = self.pools.get_mut(name) {
                pool.wide_replies = wide;
            }
            self.sync_wide()?;
        }
        let Some(pool) = self.pools.get(name) else {
            return Ok(());
        };
        if wanted == pool.replies {
            return Ok(());
        }
        let maps = self.dataplane.maps_mut();
        for (&(at, protocol), &(to, _)) in &pool.replies {
            if !wanted.contains_key(&(at, protocol)) {
                remove_reply(maps, at, protocol, to);
            }
        }
        for (&(at, protocol), &(to, leaves)) in &wanted {
            if pool.replies.get(&(at, protocol)) == Some(&(to, leaves)) || leaves {
                continue;
            }
            match EndpointKey::of(at, protocol) {
                EndpointKey::V4(key) => set(&mut maps.replies4, key, to, "REPLIES4"),
                EndpointKey::V6(key) => set(&mut maps.replies6, key, to, "REPLIES6"),
            }?;
        }
        if let Some(pool) = self.pools.get_mut(name) {
            pool.replies = wanted;
        }
        Ok(())
    }

    /// Where replies of a pool's backends lead: those that come from one port, and those that keep the
    /// port that the client's packets had.
    fn replies_of(&self, pool: &PoolState) -> (Replies, Vec<WideReply>) {
        let mut replies = Replies::new();
        let mut wide = Vec::new();
        for key in &pool.services {
            let Some(&(number, service)) = self.services.get(key) else {
                continue;
            };
            if service.forward != forward::DNAT {
                continue;
            }
            for (&backend, entry) in &pool.backends {
                let at = endpoint::of(entry);
                let leaves = entry.cause & backend_cause::REMOVED != 0;
                let to = target(number, backend);
                let (own, ports) = (at.port(), key.at.ports);
                match if own == 0 { ports.one() } else { Some(own) } {
                    Some(port) => {
                        let at = SocketAddr::new(at.ip(), port);
                        replies.insert((at, service.protocol), (to, leaves));
                    }
                    None => wide.push((at.ip(), ports, service.protocol, to, leaves)),
                }
            }
        }
        (replies, wide)
    }
}

const fn target(service: u32, backend: u16) -> EndpointTarget {
    EndpointTarget {
        service,
        backend,
        reserved: 0,
    }
}

/// Removes an endpoint, unless it leads elsewhere by now: a backend may have gone to another pool.
fn remove_reply(maps: &mut Maps, at: SocketAddr, protocol: u8, to: EndpointTarget) {
    match EndpointKey::of(at, protocol) {
        EndpointKey::V4(key) => remove(&mut maps.replies4, key, to),
        EndpointKey::V6(key) => remove(&mut maps.replies6, key, to),
    }
}

fn remove<E: TableEntry>(table: &mut Table<E>, key: E::Key, to: EndpointTarget) {
    if table.get(key) == Some(to) {
        table.remove(key);
    }
}

type Wanted<K> = Vec<(K, EndpointTarget)>;

fn by_family(
    endpoints: impl Iterator<Item = (SocketAddr, u8, EndpointTarget)>,
) -> (Wanted<Endpoint4>, Wanted<Endpoint6>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (at, protocol, to) in endpoints {
        match EndpointKey::of(at, protocol) {
            EndpointKey::V4(key) => v4.push((key, to)),
            EndpointKey::V6(key) => v6.push((key, to)),
        }
    }
    (v4, v6)
}

/// Set difference: what is no longer wanted goes, what is new or differs is set.
fn sync<E: TableEntry>(
    table: &mut Table<E>,
    wanted: &[(E::Key, EndpointTarget)],
    name: &'static str,
) -> Result<(), EngineError>
where
    E::Key: Hash,
{
    let keys: HashSet<E::Key> = wanted.iter().map(|&(key, _)| key).collect();
    let stale: Vec<E::Key> = table
        .iter()
        .map(|(key, _)| key)
        .filter(|key| !keys.contains(key))
        .collect();
    for key in stale {
        let _ = table.remove(key);
    }
    wanted
        .iter()
        .try_for_each(|&(key, target)| set(table, key, target, name))
}

fn set<E: TableEntry>(
    table: &mut Table<E>,
    key: E::Key,
    target: EndpointTarget,
    name: &'static str,
) -> Result<(), EngineError> {
    if table.get(key) == Some(target) || table.set(key, target) || table.insert(key, target).is_ok()
    {
        return Ok(());
    }
    // Graves may be in the way.
    crate::dataplane::rcu_grace_period();
    table.after_grace();
    table
        .insert(key, target)
        .map_err(|_| EngineError::Full(name))
}
