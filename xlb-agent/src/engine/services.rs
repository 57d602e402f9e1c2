//! Services: their entries, and the tables of endpoints that lead to them.

use std::{collections::BTreeMap, mem::offset_of};

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, backend_cause, forward, service_state},
};
use xlb_control::config::Config;

use super::{AnyEndpoint, Engine, EngineError, PoolState, ServiceKey, allocate, goal, key_of};
use crate::{
    dataplane::{Maps, Table, TableEntry},
    endpoint,
};

/// Counters that a service has for a pool of so many backends: some to spare, so that a few more
/// backends do not move them.
pub(super) fn counter_capacity(backends: u32) -> u32 {
    (backends + backends / 2 + 4).next_power_of_two()
}

impl Engine {
    /// Brings services in line with the configuration. A service that changes in more than its
    /// state gets a new number, so that a packet sees the old one or the new one, whole.
    pub(super) fn apply_services(&mut self, config: &Config) -> Result<(), EngineError> {
        let old = std::mem::take(&mut self.services);
        let mut next: BTreeMap<ServiceKey, (u32, Service)> = BTreeMap::new();
        let mut numbers: Vec<u32> = old.values().map(|&(number, _)| number).collect();
        let mut ranges: Vec<std::ops::Range<u32>> = old
            .values()
            .map(|(_, service)| {
                service.counter_base..service.counter_base + service.counter_capacity
            })
            .collect();
        let sizes = self.dataplane.spec().sizes;
        for service in config.services.values() {
            let Some(pool) = self.pools.get(&service.pool) else {
                continue;
            };
            let mut entry = goal::of_service(service);
            entry.pool = pool.number;
            entry.ring_offset = pool.ring_offset;
            entry.ring_slots = pool.ring_slots;
            entry.state = state_of(pool, goal::refuses(service));
            let needed = pool
                .backends
                .values()
                .map(|entry| u32::from(entry.position) + 1)
                .max()
                .unwrap_or(0);
            let key = key_of(&entry);
            if let Some(&(number, known)) = old.get(&key)
                && same(&known, &entry)
                && known.counter_capacity >= needed
            {
                entry.counter_base = known.counter_base;
                entry.counter_capacity = known.counter_capacity;
                next.insert(key, (number, entry));
                continue;
            }
            entry.counter_capacity = counter_capacity(needed);
            entry.counter_base =
                allocate::range(ranges.clone(), entry.counter_capacity, sizes.counters)
                    .ok_or(EngineError::Full("counters"))?;
            ranges.push(entry.counter_base..entry.counter_base + entry.counter_capacity);
            numbers.sort_unstable();
            let number = allocate::number(numbers.iter().copied(), sizes.services - 1)
                .ok_or(EngineError::Full("services"))?;
            numbers.push(number);
            let maps = self.maps();
            let _ = maps
                .counters
                .zero_range(entry.counter_base, entry.counter_capacity);
            let _ = maps.services.write(number, entry);
            next.insert(key, (number, entry));
        }
        self.services = next;
        let (services, pools) = (self.services.clone(), self.pools.clone());
        sync_tables(self.maps(), &services, &pools)?;
        self.retire(&old);
        Ok(())
    }

    /// Clears entries that nothing leads to any more.
    fn retire(&mut self, old: &BTreeMap<ServiceKey, (u32, Service)>) {
        let kept: Vec<u32> = self.services.values().map(|&(number, _)| number).collect();
        let gone: Vec<u32> = old
            .values()
            .map(|&(number, _)| number)
            .filter(|number| !kept.contains(number))
            .collect();
        if gone.is_empty() && !self.dataplane.maps().wants_grace() {
            return;
        }
        crate::dataplane::rcu_grace_period();
        let maps = self.maps();
        maps.after_grace();
        for number in gone {
            let _ = maps.services.write(number, Service::default());
        }
    }

    /// Stores the state of every service.
    pub(super) fn refresh_states(&mut self, config: &Config) {
        let refusing: Vec<ServiceKey> = config
            .services
            .values()
            .filter(|service| goal::refuses(service))
            .map(|service| key_of(&goal::of_service(service)))
            .collect();
        let maps = self.dataplane.maps_mut();
        for (key, (number, service)) in &mut self.services {
            let Some(pool) = self.pools.values().find(|pool| pool.number == service.pool) else {
                continue;
            };
            let state = state_of(pool, refusing.contains(key));
            if state != service.state {
                service.state = state;
                let _ = maps
                    .services
                    .store_u32(*number, offset_of!(Service, state), state);
            }
        }
    }

    /// Stores `MOVING` for the services of a pool.
    pub(super) fn set_states(&mut self, pool: u32) {
        let maps = self.dataplane.maps_mut();
        for (number, service) in self.services.values_mut() {
            if service.pool == pool && service.state & service_state::MOVING == 0 {
                service.state |= service_state::MOVING;
                let _ = maps
                    .services
                    .store_u32(*number, offset_of!(Service, state), service.state);
            }
        }
    }

    /// Brings replies and states in line after a pool has changed by itself.
    ///
    /// # Errors
    ///
    /// When a map is full.
    pub fn pool_changed(&mut self, config: &Config, name: &str) -> Result<(), EngineError> {
        let Some(pool) = self.pools.get(name) else {
            return Ok(());
        };
        let outgrown = pool
            .backends
            .values()
            .map(|entry| u32::from(entry.position) + 1)
            .max();
        let number = pool.number;
        let mut of_pool = self
            .services
            .values()
            .filter(|(_, service)| service.pool == number);
        if of_pool.any(|(_, service)| Some(service.counter_capacity) < outgrown) {
            self.apply_services(config)?;
        }
        self.refresh_states(config);
        Ok(())
    }
}

fn state_of(pool: &PoolState, refuses: bool) -> u32 {
    let moving = if pool.moving {
        service_state::MOVING
    } else {
        0
    };
    let refuse = if refuses && pool.all_down {
        service_state::REFUSE
    } else {
        0
    };
    moving | refuse
}

/// Whether two entries differ in nothing but state and counters.
fn same(a: &Service, b: &Service) -> bool {
    let plain = |service: &Service| Service {
        state: 0,
        counter_base: 0,
        counter_capacity: 0,
        ..*service
    };
    plain(a) == plain(b)
}

/// Brings the four tables of endpoints in line with services and backends.
pub(super) fn sync_tables(
    maps: &mut Maps,
    services: &BTreeMap<ServiceKey, (u32, Service)>,
    pools: &BTreeMap<String, PoolState>,
) -> Result<(), EngineError> {
    let target = |service: u32, backend: u16| EndpointTarget {
        service,
        backend,
        reserved: 0,
    };
    let (mut vips4, mut vips6) = (Vec::new(), Vec::new());
    let (mut replies4, mut replies6) = (Vec::new(), Vec::new());
    for (&(vip, port, protocol), (number, service)) in services {
        for (key, target) in [
            (AnyEndpoint::new(vip, port, protocol), target(*number, 0)),
            (
                AnyEndpoint::new(vip, 0, 0),
                target(EndpointTarget::ADDRESS_ONLY, 0),
            ),
        ] {
            match key {
                AnyEndpoint::V4(key) => vips4.push((key, target)),
                AnyEndpoint::V6(key) => vips6.push((key, target)),
            }
        }
        if service.forward != forward::DNAT {
            continue;
        }
        let Some(pool) = pools.values().find(|pool| pool.number == service.pool) else {
            continue;
        };
        for (&backend, entry) in &pool.backends {
            let at = endpoint::of(entry);
            let leaves = entry.cause & backend_cause::REMOVED != 0;
            match AnyEndpoint::new(at.ip(), at.port(), protocol) {
                AnyEndpoint::V4(key) => replies4.push((leaves, key, target(*number, backend))),
                AnyEndpoint::V6(key) => replies6.push((leaves, key, target(*number, backend))),
            }
        }
    }
    let (replies4, replies6) = (without_rivals(replies4), without_rivals(replies6));
    sync(&mut maps.replies4, &replies4).map_err(|()| EngineError::Full("REPLIES4"))?;
    sync(&mut maps.replies6, &replies6).map_err(|()| EngineError::Full("REPLIES6"))?;
    sync(&mut maps.vips4, &vips4).map_err(|()| EngineError::Full("VIPS4"))?;
    sync(&mut maps.vips6, &vips6).map_err(|()| EngineError::Full("VIPS6"))
}

/// An endpoint of two services is one that left a service, where it still has connections, for
/// another: its replies are those of the service that has it now.
fn without_rivals<K: Copy + Eq + std::hash::Hash>(
    mut replies: Vec<(bool, K, EndpointTarget)>,
) -> Vec<(K, EndpointTarget)> {
    replies.sort_by_key(|&(leaves, ..)| leaves);
    let mut seen = std::collections::HashSet::new();
    replies.retain(|&(_, key, _)| seen.insert(key));
    replies
        .into_iter()
        .map(|(_, key, target)| (key, target))
        .collect()
}

/// Set difference: what is no longer wanted goes, what is new or differs is set.
fn sync<E: TableEntry>(table: &mut Table<E>, wanted: &[(E::Key, EndpointTarget)]) -> Result<(), ()>
where
    E::Key: std::hash::Hash,
{
    let keys: std::collections::HashSet<E::Key> = wanted.iter().map(|&(key, _)| key).collect();
    let stale: Vec<E::Key> = table
        .iter()
        .map(|(key, _)| key)
        .filter(|key| !keys.contains(key))
        .collect();
    for key in stale {
        let _ = table.remove(key);
    }
    for &(key, target) in wanted {
        if table.get(key) == Some(target) || table.set(key, target) {
            continue;
        }
        if table.insert(key, target).is_err() {
            // Graves may be in the way.
            crate::dataplane::rcu_grace_period();
            table.after_grace();
            table.insert(key, target).map_err(|_| ())?;
        }
    }
    Ok(())
}
