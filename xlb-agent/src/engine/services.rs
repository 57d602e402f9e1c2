//! Services: their entries, and the tables of endpoints that lead to them.

use std::{collections::BTreeMap, mem::offset_of};

use xlb_common::maps::{Service, protocol, service_state};
use xlb_control::config::{Config, Forward};

use super::{
    Engine, EngineError, PoolState, ServiceKey, allocate, goal, key_of, policies::is_tracked,
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
            if service.forward == Forward::FullNat {
                entry.idle_s = super::nat::idle_s(service, config.pools.get(&service.pool));
            }
            let needed = counters_needed(pool);
            let key = key_of(&entry);
            let mut wish = Wish::of(service);
            if let Some((_, known)) = old.get(&key) {
                // Another policy follows once everything else stands.
                wish.policy = known.state & service_state::POLICY;
            }
            entry.state = state_of(pool, wish);
            if let Some(&(number, known)) = old.get(&key)
                && same(&known, &entry)
                && known.number == number
                && known.counter_capacity >= needed
            {
                // Its state follows once everything else stands.
                next.insert(key, (number, known));
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
            entry.number = number;
            let maps = self.maps();
            let _ = maps
                .counters
                .zero_range(entry.counter_base, entry.counter_capacity);
            let _ = maps.services.write(number, entry);
            next.insert(key, (number, entry));
        }
        self.services = next;
        self.index_services();
        self.sync_sources(config);
        self.sync_endpoints()?;
        self.retire(&old);
        Ok(())
    }

    /// Has each pool know the services in front of it.
    pub(super) fn index_services(&mut self) {
        let mut by_pool: BTreeMap<u32, Vec<ServiceKey>> = BTreeMap::new();
        for (&key, (_, service)) in &self.services {
            by_pool.entry(service.pool).or_default().push(key);
        }
        for pool in self.pools.values_mut() {
            pool.services = by_pool.remove(&pool.number).unwrap_or_default();
        }
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
    pub(super) fn refresh_states(&mut self, config: &Config, now_s: u32) {
        let wishes = wishes(config.services.values());
        let names: Vec<String> = self.pools.keys().cloned().collect();
        for name in &names {
            self.refresh_states_of(name, &wishes, now_s);
        }
    }

    fn refresh_states_of(&mut self, name: &str, wishes: &BTreeMap<ServiceKey, Wish>, now_s: u32) {
        let stops_to_track = |key: &ServiceKey| {
            let wish = wishes.get(key).map_or(0, |wish| wish.policy);
            let known = self.services.get(key);
            known.is_some_and(|(_, entry)| is_tracked(entry) && entry.protocol != protocol::UDP)
                && wish & service_state::TRACKED == 0
        };
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        // Datagrams without tracking ask for no record.
        if pool.services.iter().any(stops_to_track) {
            self.mark_all(name, now_s);
        }
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        let maps = self.dataplane.maps_mut();
        for key in &pool.services {
            let Some((number, service)) = self.services.get_mut(key) else {
                continue;
            };
            let Some(&wish) = wishes.get(key) else {
                continue;
            };
            let state = state_of(pool, wish);
            if state != service.state {
                service.state = state;
                let _ = maps
                    .services
                    .store_u32(*number, offset_of!(Service, state), state);
            }
        }
        self.sync_sequence(name);
    }

    /// Stores `MOVING` for the services of a pool, or takes it away.
    pub(super) fn set_moving(&mut self, name: &str, moving: bool) {
        let Some(pool) = self.pools.get(name) else {
            return;
        };
        let maps = self.dataplane.maps_mut();
        for key in &pool.services {
            let Some((number, service)) = self.services.get_mut(key) else {
                continue;
            };
            let state = if moving {
                service.state | service_state::MOVING
            } else {
                service.state & !service_state::MOVING
            };
            if state != service.state {
                service.state = state;
                let _ = maps
                    .services
                    .store_u32(*number, offset_of!(Service, state), state);
            }
        }
    }

    /// Brings replies and states in line after a pool has changed by itself.
    ///
    /// # Errors
    ///
    /// When a map is full.
    pub fn pool_changed(
        &mut self,
        config: &Config,
        name: &str,
        now_s: u32,
    ) -> Result<(), EngineError> {
        let Some(pool) = self.pools.get(name) else {
            return Ok(());
        };
        let needed = counters_needed(pool);
        let services = pool.services.iter();
        let outgrown = services
            .filter_map(|key| self.services.get(key))
            .any(|(_, service)| service.counter_capacity < needed);
        if outgrown {
            self.apply_services(config)?;
        }
        self.sync_replies(name)?;
        let in_front = config.services.values();
        let wishes = wishes(in_front.filter(|service| service.pool == name));
        self.refresh_states_of(name, &wishes, now_s);
        Ok(())
    }
}

/// What the configuration says of a service's state.
#[derive(Clone, Copy)]
struct Wish {
    /// Whether it refuses packets while none of its backends is well.
    refuses: bool,
    /// Bits of its policy.
    policy: u32,
}

impl Wish {
    fn of(service: &xlb_control::config::Service) -> Self {
        Self {
            refuses: goal::refuses(service),
            policy: goal::policy_state(service),
        }
    }
}

fn wishes<'a>(
    services: impl Iterator<Item = &'a xlb_control::config::Service>,
) -> BTreeMap<ServiceKey, Wish> {
    services
        .map(|service| (key_of(&goal::of_service(service)), Wish::of(service)))
        .collect()
}

/// Counters that a service needs for a pool's backends.
fn counters_needed(pool: &PoolState) -> u32 {
    let positions = pool.backends.values().map(|entry| entry.position);
    positions.max().map_or(0, |last| u32::from(last) + 1)
}

fn state_of(pool: &PoolState, wish: Wish) -> u32 {
    let moving = if pool.moving {
        service_state::MOVING
    } else {
        0
    };
    let refuse = if wish.refuses && pool.all_down {
        service_state::REFUSE
    } else {
        0
    };
    moving | refuse | wish.policy
}

/// Whether two entries differ in nothing but what changes by itself.
fn same(a: &Service, b: &Service) -> bool {
    let plain = |service: &Service| Service {
        state: 0,
        counter_base: 0,
        counter_capacity: 0,
        number: 0,
        sequence_length: 0,
        ..*service
    };
    plain(a) == plain(b)
}
