//! What the daemon tells of itself.

use std::{collections::BTreeMap, net::IpAddr};

use xlb_common::{
    maps::{backend_flag, feature},
    next_hop::NextHop,
    reason::{Action, Reason},
};
use xlb_control::{
    api::{
        BackendState, BackendStatus, Change, ChangeStatus, Counters, HealthStatus, InterfaceStatus,
        MapStatus, Origin, PoolStatus, ProgramStatus, ReasonCount, ServiceHealth, ServiceStatus,
        Status,
    },
    config::{AllDown, Backend, Pool, Service, overrides},
    health::{State, Target},
};

use super::{Daemon, explain::interface, now_s};
use crate::{
    engine::{self, goal},
    netlink,
    plan::Intent,
    ring,
};

impl Daemon {
    pub(super) fn status(&self) -> Status {
        let services = self.service_list();
        let dataplane = self.engine.dataplane.status();
        let (program, interfaces, maps) = match dataplane {
            Ok(status) => (
                ProgramStatus {
                    id: status.program.id,
                    features: feature::ALL
                        .iter()
                        .filter(|(bit, _)| status.program.features & bit != 0)
                        .map(|&(_, name)| name.to_owned())
                        .collect(),
                    translated_bytes: status.program.translated_bytes,
                    jited_bytes: status.program.jited_bytes,
                    verified_instructions: status.program.verified_instructions,
                },
                self.interfaces(&status.interfaces),
                status
                    .maps
                    .iter()
                    .map(|map| MapStatus {
                        name: map.name.to_owned(),
                        used: map.used.unwrap_or(0),
                        capacity: u64::from(map.entries),
                        bytes: map.memory_bytes.unwrap_or(0),
                    })
                    .collect(),
            ),
            Err(error) => {
                tracing::error!(%error, "reading the program's state");
                let program = ProgramStatus {
                    id: 0,
                    features: Vec::new(),
                    translated_bytes: 0,
                    jited_bytes: 0,
                    verified_instructions: 0,
                };
                (program, Vec::new(), Vec::new())
            }
        };
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            config: self.options.config.display().to_string(),
            config_revision: self.revision,
            last_reload_error: self.last_reload_error.clone(),
            health: services
                .iter()
                .map(|service| service.health)
                .max()
                .unwrap_or(ServiceHealth::Up),
            program,
            interfaces,
            pools: self
                .merged
                .config
                .pools
                .values()
                .map(|pool| self.pool_status(pool))
                .collect(),
            reasons: self.reasons(&services),
            services,
            changes: self.changes_kept(),
            maps,
        }
    }

    fn changes_kept(&self) -> Vec<ChangeStatus> {
        if self.changes.is_empty() {
            return Vec::new();
        }
        // Places in the list are other ones after each change of it.
        let merged = overrides::apply(&self.file, &self.changes);
        let stale = |index| {
            let mut found = merged.stale.iter();
            found.find(|(place, _)| *place == index)
        };
        let numbered = self.changes.iter().enumerate();
        numbered
            .map(|(index, change)| ChangeStatus {
                change: change.clone(),
                stale: stale(index).map(|(_, reason)| reason.clone()),
            })
            .collect()
    }

    fn interfaces(&self, attached: &[crate::dataplane::InterfaceStatus]) -> Vec<InterfaceStatus> {
        let mode = |ifindex: u32| {
            let found = attached
                .iter()
                .find(|interface| interface.ifindex == ifindex);
            found
                .and_then(|interface| interface.mode)
                .map_or_else(|| "detached".to_owned(), |mode| mode.to_string())
        };
        let missing = self
            .interfaces
            .view
            .missing
            .iter()
            .map(|name| InterfaceStatus {
                name: name.clone(),
                index: 0,
                mode: "detached".to_owned(),
                up: false,
            });
        self.interfaces
            .view
            .present
            .iter()
            .map(|interface| InterfaceStatus {
                name: interface.name.clone(),
                index: interface.ifindex,
                mode: mode(interface.ifindex),
                up: interface.up,
            })
            .chain(missing)
            .collect()
    }

    /// Packets by reason. Those that were forwarded are counted by attachment, so that their sum
    /// stands for both ways of leaving.
    fn reasons(&self, services: &[ServiceStatus]) -> Vec<ReasonCount> {
        let counted = self
            .engine
            .dataplane
            .maps()
            .reasons
            .reasons()
            .unwrap_or_default();
        let forwarded = services
            .iter()
            .map(|service| service.counters.packets + service.counters.reply_packets);
        let mut reasons = vec![(Reason::Transmitted, forwarded.sum())];
        reasons.extend(counted);
        reasons
            .into_iter()
            .filter(|&(_, packets)| packets > 0)
            .map(|(reason, packets)| ReasonCount {
                reason: reason.name().to_owned(),
                action: match reason.action() {
                    Action::Pass => "pass",
                    Action::Drop => "drop",
                    Action::Tx => "tx",
                    Action::Redirect => "redirect",
                }
                .to_owned(),
                packets,
            })
            .collect()
    }

    fn pool_status(&self, pool: &Pool) -> PoolStatus {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let Some(state) = self.engine.pools.get(&pool.name) else {
            return PoolStatus {
                name: pool.name.clone(),
                ring_slots: pool.ring_slots,
                ring_hash: String::new(),
                backends: count(pool.backends.len()),
                accepting: 0,
                moving_slots: 0,
                moving_since_s: None,
            };
        };
        let words = self.engine.words(state);
        let members: Vec<ring::Member> = state
            .backends
            .iter()
            .map(|(&number, entry)| ring::Member {
                identity: crate::endpoint::of(entry),
                weight: u32::from(entry.weight),
                number,
            })
            .collect();
        let targets: Vec<u16> = words.iter().map(|word| word.target()).collect();
        let moving = words.iter().filter(|word| word.is_marked()).count();
        PoolStatus {
            name: pool.name.clone(),
            ring_slots: pool.ring_slots,
            ring_hash: ring::ring_hash(self.engine.key(), &members, &targets),
            backends: count(pool.backends.len()),
            accepting: state.accepting,
            moving_slots: count(moving),
            moving_since_s: (moving > 0)
                .then(|| u64::from(now_s().saturating_sub(state.moving_since_s))),
        }
    }

    pub(super) fn service_list(&self) -> Vec<ServiceStatus> {
        self.merged
            .config
            .services
            .values()
            .map(|service| self.service_status(service))
            .collect()
    }

    fn service_status(&self, service: &Service) -> ServiceStatus {
        let pool = self.engine.pools.get(&service.pool);
        let configured = self.merged.config.pools.get(&service.pool);
        let backends = configured.map_or(0, |pool| pool.backends.len());
        let accepting = pool.map_or(0, |pool| pool.accepting);
        let should_serve = configured.map_or(0, |pool| {
            let serving = |backend: &&Backend| {
                backend.weight > 0
                    && !self
                        .intents
                        .contains_key(&(pool.name.clone(), backend.endpoint()))
            };
            pool.backends.iter().filter(serving).count()
        });
        let health = if accepting == 0 {
            match service.all_down {
                AllDown::Panic if should_serve > 0 => ServiceHealth::Panic,
                AllDown::Panic | AllDown::Drop => ServiceHealth::Down,
            }
        } else if (accepting as usize) < should_serve {
            ServiceHealth::Degraded
        } else {
            ServiceHealth::Up
        };
        let key = engine::key_of(&goal::of_service(service));
        let counters = match (self.engine.services.get(&key), pool) {
            (Some((_, entry)), Some(pool)) => pool
                .backends
                .values()
                .map(|backend| self.engine.counters(entry, backend))
                .fold(Counters::default(), add),
            (_, None) | (None, Some(_)) => Counters::default(),
        };
        ServiceStatus {
            name: service.name.clone(),
            vip: service.vip,
            port: service.port,
            protocol: service.protocol,
            forward: service.forward,
            pool: service.pool.clone(),
            policy: service.policy,
            affinity: service.affinity,
            udp: service.udp,
            all_down: service.all_down,
            health,
            backends: u32::try_from(backends).unwrap_or(u32::MAX),
            accepting,
            origin: if self.file.services.contains_key(&service.name) {
                Origin::File
            } else {
                Origin::Runtime
            },
            counters,
        }
    }

    pub(super) fn backend_list(&self) -> Vec<BackendStatus> {
        let pools = self.merged.config.pools.values();
        pools.flat_map(|pool| self.backends_of(pool)).collect()
    }

    fn backends_of(&self, pool: &Pool) -> Vec<BackendStatus> {
        let Some(state) = self.engine.pools.get(&pool.name) else {
            return Vec::new();
        };
        let words = self.engine.words(state);
        let (mut slots, mut leaving) = (BTreeMap::new(), BTreeMap::new());
        for word in words {
            *slots.entry(word.target()).or_default() += 1;
            if word.stable() != word.target() {
                *leaving.entry(word.stable()).or_default() += 1;
            }
        }
        let recorded = &self.engine.last_count().by_backend;
        let open = self.engine.connections();
        // Those of a dead one go to others as soon as they talk.
        let recorded_of = |number: u16, flags: u16| match flags & backend_flag::DEAD {
            0 => recorded.get(&number).copied().unwrap_or(0),
            _ => 0,
        };
        let one = |number: u16, entry: &xlb_common::maps::Backend| {
            let endpoint = crate::endpoint::of(entry);
            let hop = NextHop(entry.next_hop);
            let services = self.engine.services.values();
            BackendStatus {
                pool: pool.name.clone(),
                endpoint,
                weight: entry.weight,
                state: self.state_of(pool, endpoint, entry.flags),
                number,
                drain_ends_in_s: (entry.drain_deadline_s != 0)
                    .then(|| u64::from(entry.drain_deadline_s.saturating_sub(now_s()))),
                slots: slots.get(&number).copied().unwrap_or(0),
                leaving_slots: leaving.get(&number).copied().unwrap_or(0),
                recorded_flows: recorded_of(number, entry.flags),
                open_connections: open.get(&number).map(|&count| count.max(0).unsigned_abs()),
                next_hop: hop.is_known().then(|| self.hop_text(hop)),
                origin: self.origin(pool, endpoint),
                counters: services
                    .filter(|(_, service)| service.pool == state.number)
                    .map(|(_, service)| self.engine.counters(service, entry))
                    .fold(Counters::default(), add),
            }
        };
        state
            .backends
            .iter()
            .map(|(&number, entry)| one(number, entry))
            .collect()
    }

    fn hop_text(&self, hop: NextHop) -> String {
        let [a, b, c, d, e, f] = hop.mac();
        let name = interface(self.engine.dataplane.maps(), hop.egress());
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} {name}")
    }

    fn origin(&self, pool: &Pool, endpoint: std::net::SocketAddr) -> Origin {
        let added = self.changes.iter().any(|change| {
            matches!(change, Change::BackendAdd { pool: name, endpoint: at, .. }
                if *name == pool.name && *at == endpoint)
        });
        if added { Origin::Runtime } else { Origin::File }
    }

    fn state_of(&self, pool: &Pool, endpoint: std::net::SocketAddr, flags: u16) -> BackendState {
        if !pool
            .backends
            .iter()
            .any(|backend| backend.endpoint() == endpoint)
        {
            return BackendState::Draining;
        }
        match self.intents.get(&(pool.name.clone(), endpoint)) {
            Some(Intent::Drain { .. }) => return BackendState::Draining,
            Some(Intent::Disabled) => return BackendState::Disabled,
            Some(Intent::Serve) | None => (),
        }
        if self
            .next_hops
            .get(&endpoint.ip())
            .is_none_or(|(hop, _)| !hop.is_known())
        {
            return BackendState::Unresolved;
        }
        let checked = pool
            .check
            .as_ref()
            .map(|check| self.probes.checker.state(&Target::new(endpoint, check)));
        match checked {
            Some(Some(State::Down)) if flags & backend_flag::DOWN == 0 => BackendState::Panic,
            Some(Some(State::Down)) => BackendState::Down,
            Some(Some(State::Unknown) | None) => BackendState::Unknown,
            Some(Some(State::Up)) | None => BackendState::Up,
        }
    }

    /// Why there is no next hop to an address, in a sentence.
    fn obstacle(&self, address: IpAddr) -> Option<String> {
        let tables = self.tables.borrow().clone();
        let why = netlink::resolve(&tables, address, &self.interfaces.view.indexes()).err();
        why.map(|why| why.to_string())
    }

    pub(super) fn health_list(&self, service: Option<&str>) -> Result<Vec<HealthStatus>, String> {
        let services: Vec<&Service> = match service {
            None => self.merged.config.services.values().collect(),
            Some(name) => vec![self.merged.config.services.get(name).ok_or_else(|| {
                format!("there is no service {name}: see `xlb-agent service list`")
            })?],
        };
        let mut list = Vec::new();
        for service in services {
            let Some(pool) = self.merged.config.pools.get(&service.pool) else {
                continue;
            };
            for backend in &pool.backends {
                let endpoint = backend.endpoint();
                let flags = self
                    .engine
                    .backend(&pool.name, endpoint)
                    .map_or(0, |(_, entry)| entry.flags);
                let snapshot = pool
                    .check
                    .as_ref()
                    .and_then(|check| self.probes.checker.snapshot(&Target::new(endpoint, check)));
                let state = self.state_of(pool, endpoint, flags);
                // What a probe came to says less than why none can be sent.
                let obstacle = (state == BackendState::Unresolved)
                    .then(|| self.obstacle(endpoint.ip()))
                    .flatten();
                list.push(HealthStatus {
                    service: service.name.clone(),
                    pool: pool.name.clone(),
                    endpoint,
                    state,
                    reason: snapshot
                        .as_ref()
                        .map_or("NONE".to_owned(), |s| s.code.to_string()),
                    detail: obstacle
                        .or_else(|| snapshot.as_ref().map(|s| s.detail.to_string()))
                        .unwrap_or_default(),
                    rise: snapshot.as_ref().map_or(0, |s| s.rise),
                    fall: snapshot.as_ref().map_or(0, |s| s.fall),
                    since_s: snapshot.as_ref().map_or(0, |s| s.since.elapsed().as_secs()),
                    latency_us: snapshot
                        .as_ref()
                        .and_then(|s| s.latency)
                        .map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
                });
            }
        }
        Ok(list)
    }
}

fn add(a: Counters, b: Counters) -> Counters {
    Counters {
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        connections: a.connections + b.connections,
        reply_packets: a.reply_packets + b.reply_packets,
        reply_bytes: a.reply_bytes + b.reply_bytes,
    }
}
