//! What the daemon tells of services.

use xlb_control::{
    api::{BackendState, Counters, Origin, ServiceHealth, ServiceStatus},
    config::{AllDown, Backend, Service},
};

use super::add;
use crate::{
    daemon::Daemon,
    engine::{self, goal},
};

impl Daemon {
    pub(in crate::daemon) fn service_list(&self) -> Vec<ServiceStatus> {
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
            let in_panic = || {
                configured.is_some_and(|pool| {
                    let mut backends = pool.backends.iter().map(Backend::endpoint);
                    backends.any(|endpoint| {
                        let entry = self.engine.backend(&pool.name, endpoint);
                        let flags = entry.map_or(0, |(_, entry)| entry.flags);
                        self.state_of(pool, endpoint, flags) == BackendState::Panic
                    })
                })
            };
            match service.all_down {
                AllDown::Panic if in_panic() => ServiceHealth::Panic,
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
}
