//! What the daemon tells of backends and their health.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use xlb_common::{maps::backend_flag, next_hop::NextHop};
use xlb_control::{
    api::{BackendState, BackendStatus, Change, Counters, HealthStatus, Origin},
    config::{AllDown, Pool, Service},
    health::{State, Target},
};

use super::add;
use crate::{
    daemon::{Daemon, explain::interface, now_s},
    netlink,
    plan::Intent,
};

impl Daemon {
    pub(in crate::daemon) fn backend_list(&self) -> Vec<BackendStatus> {
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
        if hop == NextHop::LOCAL {
            return "this host".to_owned();
        }
        let [a, b, c, d, e, f] = hop.mac();
        let name = interface(self.engine.dataplane.maps(), hop.egress());
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} {name}")
    }

    fn origin(&self, pool: &Pool, endpoint: SocketAddr) -> Origin {
        let added = self.changes.iter().any(|change| {
            matches!(change, Change::BackendAdd { pool: name, endpoint: at, .. }
                if *name == pool.name && *at == endpoint)
        });
        if added { Origin::Runtime } else { Origin::File }
    }

    pub(super) fn state_of(&self, pool: &Pool, endpoint: SocketAddr, flags: u16) -> BackendState {
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
        let why = netlink::resolve(&tables, address, &self.interfaces.ways_out()).err();
        why.map(|why| why.to_string())
    }

    pub(in crate::daemon) fn health_list(
        &self,
        service: Option<&str>,
    ) -> Result<Vec<HealthStatus>, String> {
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
                let mut state = self.state_of(pool, endpoint, flags);
                if state == BackendState::Panic && service.all_down == AllDown::Drop {
                    // Nothing is sent there for this service.
                    state = BackendState::Down;
                }
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
