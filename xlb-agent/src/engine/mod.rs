//! Keeps the maps in line with the goal: the thin layer that carries out plans, and the mirror of
//! what stands in the maps, which is read from them at start.

pub mod allocate;
mod connections;
mod find;
mod foresee;
pub mod goal;
mod nat;
mod policies;
mod pools;
mod replies;
mod round;
mod services;
mod settle;
mod wide;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use xlb_common::{
    maps::{AttachmentCounters, Backend, Service, backend_flag, feature, forward},
    nat::SOURCES_OF_FAMILY,
    slot::SlotWord,
};
use xlb_control::{
    api::Counters,
    config::{At, Config, Ports, Vip},
};

use crate::{
    dataplane::{Dataplane, DataplaneError, Maps, Sizes, Spec},
    endpoint,
    engine::goal::World,
    plan::{NumbersUsedUp, PoolGoal},
    ring::Rings,
    slots::Settler,
};
pub use foresee::Side;
pub use round::{Found, Round};
pub use settle::Recorded;
use settle::Rounds;
pub use wide::find as find_wide;

/// Identity of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Addresses and ports.
    pub at: At,
    /// Protocol number.
    pub protocol: u8,
}

/// What can go wrong while the maps are brought in line.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel refused something.
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    /// Every number of a backend is taken.
    #[error(transparent)]
    Numbers(#[from] NumbersUsedUp),
    /// The tables of flows can't be read.
    #[error("read the tables of flows: {0}")]
    Flows(#[from] std::io::Error),
    /// The tables of services of several ports or addresses can't be read or written.
    #[error("bring the tables of services of several ports or addresses in line: {0}")]
    Wide(std::io::Error),
    /// A map has no room, though it was sized for the configuration.
    #[error("no room for {0}: restart the agent, which makes larger maps")]
    Full(&'static str),
}

/// A pool as it stands in the maps.
#[derive(Debug)]
pub struct PoolState {
    /// Its number.
    pub number: u32,
    /// First slot in the arena.
    pub ring_offset: u32,
    /// Slots.
    pub ring_slots: u32,
    /// Its backends by number.
    pub backends: BTreeMap<u16, Backend>,
    /// Backends that get new connections because they are well.
    pub accepting: u32,
    /// Whether no backend is well.
    pub all_down: bool,
    /// Whether the program reads the pool's slot words.
    pub moving: bool,
    /// When the first of the slots that move now was marked, in seconds of CLOCK_MONOTONIC.
    pub moving_since_s: u32,
    /// When it has to be planned again though nothing happens, in seconds of CLOCK_MONOTONIC.
    pub wake_s: Option<u32>,
    /// The services in front of it.
    services: Vec<ServiceKey>,
    /// Its backends' endpoints, as they stand in the tables of replies.
    replies: replies::Replies,
    /// Replies of its backends that keep their ports, as they stand in the tables of ports.
    wide_replies: Vec<wide::WideReply>,
    /// Whose turn it is under `round-robin`, as it stands in the maps; `None`: not known yet.
    sequence: Option<Vec<u16>>,
    settler: Settler,
    /// What it was planned for last.
    goal: Option<PoolGoal>,
    rings: Rings,
    /// Before this no slot can settle, in seconds of CLOCK_MONOTONIC.
    settle_due_s: u32,
}

impl PoolState {
    /// A pool without backends, at rest.
    fn new(number: u32, ring_offset: u32, ring_slots: u32) -> Self {
        Self {
            number,
            ring_offset,
            ring_slots,
            backends: BTreeMap::new(),
            accepting: 0,
            all_down: false,
            moving: false,
            moving_since_s: 0,
            wake_s: None,
            services: Vec::new(),
            replies: BTreeMap::new(),
            wide_replies: Vec::new(),
            sequence: None,
            settler: Settler::new(),
            goal: None,
            rings: Rings::default(),
            settle_due_s: 0,
        }
    }
}

/// The maps, and their mirror.
#[derive(Debug)]
pub struct Engine {
    /// The kernel's part.
    pub dataplane: Dataplane,
    key: [u8; 16],
    /// Pools by name.
    pub pools: BTreeMap<String, PoolState>,
    /// Services by identity, with their numbers.
    pub services: BTreeMap<ServiceKey, (u32, Service)>,
    /// Numbers of backends that are taken.
    numbers: allocate::Numbers,
    rounds: Rounds,
    /// Whether connections move together with slots: see `plan::without_transitions`.
    pub without_transitions: bool,
    /// Room for the words of a pool's slots: fresh memory costs more than to read them.
    words: Vec<SlotWord>,
    /// Counts of open connections that stray from the records, by backend.
    drifts: BTreeMap<u16, connections::Drift>,
    /// Source addresses of full NAT, with their numbers.
    sources: Vec<(u32, IpAddr)>,
}

/// Which pools are to be brought in line.
pub enum Pools<'a> {
    /// All of them.
    All,
    /// Those of these names.
    Some(&'a BTreeSet<String>),
}

impl Engine {
    /// Takes over what stands in the maps; empty maps are a host without a past.
    ///
    /// # Errors
    ///
    /// When the tables of flows can't be read.
    pub fn adopt(dataplane: Dataplane, key: [u8; 16]) -> Result<Self, EngineError> {
        let mut engine = Self {
            dataplane,
            key,
            pools: BTreeMap::new(),
            services: BTreeMap::new(),
            numbers: allocate::Numbers::new(),
            rounds: Rounds::default(),
            without_transitions: false,
            words: Vec::new(),
            drifts: BTreeMap::new(),
            sources: Vec::new(),
        };
        engine.adopt_pools();
        let maps = engine.dataplane.maps();
        engine.services = (0u32..)
            .zip(maps.services.iter())
            .filter(|(_, service)| service.family != 0)
            .map(|(number, service)| (key_of(&service), (number, service)))
            .collect();
        engine.index_services();
        engine.adopt_records()?;
        Ok(engine)
    }

    /// Brings services and pools in line with a whole configuration; of the pools that stand
    /// already, only `changed` ones are looked at.
    ///
    /// # Errors
    ///
    /// When the kernel refuses something, or a map is full.
    pub fn apply(
        &mut self,
        config: &Config,
        spec: &Spec,
        changed: Pools<'_>,
        world: &impl World,
        now_s: u32,
    ) -> Result<(), EngineError> {
        self.resize(config, spec)?;
        for (name, pool) in &config.pools {
            let is_new = self.ensure_pool(name, pool.ring_slots)?;
            let is_changed = match changed {
                Pools::All => true,
                Pools::Some(names) => names.contains(name),
            };
            if is_new || is_changed {
                self.update_pool(config, name, world, now_s)?;
            }
        }
        self.apply_services(config)?;
        self.drop_pools(config);
        self.refresh_states(config, now_s);
        if self.dataplane.spec().features != spec.features {
            // What services did until now is no longer needed.
            self.resize(config, spec)?;
        }
        Ok(())
    }

    /// Makes room for a configuration of which one pool has changed.
    ///
    /// # Errors
    ///
    /// When the kernel refuses something.
    pub fn make_room(&mut self, config: &Config, spec: &Spec) -> Result<(), EngineError> {
        let needed = sizes(config, Some(self));
        let in_force = self.dataplane.spec();
        let has_room = needed.max(&in_force.sizes) == in_force.sizes;
        // A backend may be of a family that the service had none of.
        if has_room && spec.features & !in_force.features == 0 {
            return Ok(());
        }
        self.resize(config, spec)
    }

    /// Makes maps large enough, and loads the program that the configuration wants.
    fn resize(&mut self, config: &Config, spec: &Spec) -> Result<(), EngineError> {
        let mut spec = spec.clone();
        spec.sizes = sizes(config, Some(self));
        // A service goes on as it is until its state says otherwise.
        let states = self.services.values().map(|(_, entry)| entry.state);
        spec.features |= goal::features_of_state(states.fold(0, |all, state| all | state));
        if self.has_backends_across() {
            spec.features |= goal::FEATURES_ACROSS;
        }
        if self.has_own_ports() {
            spec.features |= feature::WIDE;
        }
        // Endpoints are copied into tables that grow, but to other places, so that nothing of them
        // has to be brought in line here.
        let grown = self.dataplane.reload(&spec, |_| Ok(()))?;
        if !grown.is_empty() {
            self.records_have_moved();
        }
        Ok(())
    }

    /// Whether a service puts packets into outer headers of another family, to backends that are
    /// leaving among others.
    fn has_backends_across(&self) -> bool {
        self.pools.values().any(|pool| {
            let services = pool
                .services
                .iter()
                .filter_map(|key| self.services.get(key));
            let mut families = services
                .filter(|(_, service)| matches!(service.forward, forward::IPIP | forward::GUE))
                .map(|(_, service)| service.family);
            families.any(|family| pool.backends.values().any(|entry| entry.family != family))
        })
    }

    /// Whether a backend takes the port that its packets have, under `dnat`; backends that are leaving
    /// among others.
    fn has_own_ports(&self) -> bool {
        let mut pools = self.pools.values();
        pools.any(|pool| {
            let has_portless = pool.backends.values().any(|entry| entry.port_be == 0);
            let services = pool.services.iter();
            has_portless
                && services
                    .filter_map(|key| self.services.get(key))
                    .any(|(_, service)| wide::needs_feature(service, true))
        })
    }

    /// Traffic of a backend under one service.
    #[must_use]
    pub fn counters(&self, service: &Service, backend: &Backend) -> Counters {
        let index = service.counter_base + u32::from(backend.position);
        let read = self
            .dataplane
            .maps()
            .counters
            .read(index)
            .unwrap_or_default();
        let AttachmentCounters {
            packets,
            bytes,
            connections,
            reply_packets,
            reply_bytes,
            ..
        } = read;
        Counters {
            packets,
            bytes,
            connections,
            reply_packets,
            reply_bytes,
        }
    }

    /// Words of a pool's slots.
    #[must_use]
    pub fn words(&self, pool: &PoolState) -> Vec<SlotWord> {
        self.load_words(pool).collect()
    }

    fn load_words(&self, pool: &PoolState) -> impl Iterator<Item = SlotWord> {
        let first = pool.ring_offset as usize;
        let slots = &self.dataplane.maps().slots;
        let words = slots.load_range(first..first + pool.ring_slots as usize);
        words.map(SlotWord)
    }

    /// The pool's backend with an address and port.
    #[must_use]
    pub fn backend(&self, pool: &str, endpoint: SocketAddr) -> Option<(u16, Backend)> {
        let pool = self.pools.get(pool)?;
        pool.backends
            .iter()
            .find(|(_, entry)| endpoint::of(entry) == endpoint)
            .map(|(&number, &entry)| (number, entry))
    }

    /// The key of rings.
    #[must_use]
    pub const fn key(&self) -> [u8; 16] {
        self.key
    }

    fn maps(&mut self) -> &mut Maps {
        self.dataplane.maps_mut()
    }
}

/// Identity of a service by its entry.
#[must_use]
pub fn key_of(service: &Service) -> ServiceKey {
    let address = Vip::from(endpoint::address(service.vip, service.family));
    let (first, last) = (
        u16::from_be(service.port_be),
        u16::from_be(service.last_port_be),
    );
    ServiceKey {
        at: At {
            vip: address.within(service.vip_bits).unwrap_or(address),
            ports: Ports::range(first, last).unwrap_or(first.into()),
        },
        protocol: service.protocol,
    }
}

/// Whether a backend gets new connections.
#[must_use]
pub const fn accepts(entry: &Backend) -> bool {
    const ALL: u16 =
        backend_flag::USED | backend_flag::DRAIN | backend_flag::DOWN | backend_flag::DEAD;
    entry.flags & ALL == backend_flag::USED && entry.weight > 0
}

/// Room that is left for changes, as a factor.
const HEADROOM: u32 = 2;

/// Sizes that a configuration needs, with headroom; `engine` adds what still drains.
#[must_use]
pub fn sizes(config: &Config, engine: Option<&Engine>) -> Sizes {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let live = engine.map_or(0, |engine| {
        count(
            engine
                .pools
                .values()
                .map(|pool| pool.backends.len())
                .sum::<usize>(),
        )
    });
    let backends: u32 = count(config.pools.values().map(|pool| pool.backends.len()).sum());
    let slots: u32 = config.pools.values().map(|pool| pool.ring_slots).sum();
    let by_pool = goal::services_by_pool(config);
    let attachments: u32 = config
        .pools
        .values()
        .map(|pool| {
            let services = by_pool.get(pool.name.as_str()).map_or(0, Vec::len);
            services::counter_capacity(count(pool.backends.len())) * count(services)
        })
        .sum();
    let vips = config.services.values();
    let table = |n: u32| {
        (n * 4)
            .next_power_of_two()
            .max(xlb_common::limits::ENDPOINT_TABLE_MIN)
    };
    let v4 = count(vips.clone().filter(|service| service.vip.is_ipv4()).count());
    let v6 = count(vips.filter(|service| service.vip.is_ipv6()).count());
    let replies = table(backends.max(live));
    // The room that exists counts as needed while pools and counters may move within it.
    Sizes {
        vips4: table(v4 * 3 + SOURCES_OF_FAMILY as u32),
        vips6: table(v6 * 3 + SOURCES_OF_FAMILY as u32),
        replies4: replies,
        replies6: replies,
        services: (count(config.services.len()) + 1) * HEADROOM + 8,
        backends: ((backends.max(live) + 1) * HEADROOM + 8)
            .min(xlb_common::limits::MAX_BACKENDS + 1),
        pools: (count(config.pools.len()) + 1) * HEADROOM + 8,
        arena_blocks: (slots * HEADROOM)
            .div_ceil(xlb_common::limits::BLOCK_ENTRIES as u32)
            .max(16),
        pending: config.dataplane.max_pending,
        flows: config.dataplane.max_flows,
        fragmented: config.dataplane.max_fragmented,
        counters: attachments * HEADROOM + 64,
        nat_ports: nat::ports_needed(config),
        nat_flows: nat::flows_needed(config),
    }
}
