//! What a configuration would change, as a pure function of what is in force, what would be, and
//! the plans of the pools, which are those that would be carried out.

mod lines;
mod ring;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr};

pub use lines::{ANOTHER_KEY, host_lines};
pub use ring::{Outlook, Shares, carry_out};
use xlb_control::{
    api::{DiffKind, FlowsCut, PoolDiff, ServiceDiff, SlotsDiff},
    config::{Config, Forward, Protocol, Service, Udp, overrides::Merged},
};

use crate::engine::{ServiceKey, goal};

/// Recorded flows of each service, by the number of the backend that they live on.
pub type Recorded = BTreeMap<(ServiceKey, u16), u64>;

/// Both sides, and what the agent knows of the host.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is in force.
    pub now: &'a Merged,
    /// What would be.
    pub then: &'a Merged,
    /// What would become of the pools of either side, by name.
    pub outlooks: &'a BTreeMap<String, Outlook>,
}

impl Facts<'_> {
    /// Whether any flow would be cut, so that it is worth counting those that are recorded.
    #[must_use]
    pub fn cuts(&self) -> bool {
        self.outlooks
            .values()
            .any(|outlook| !outlook.dropped.is_empty())
            || self
                .now
                .config
                .services
                .values()
                .any(|service| self.all_cut(service).is_some())
    }

    /// Every service of either side, by name.
    #[must_use]
    pub fn services(&self, recorded: &Recorded) -> Vec<ServiceDiff> {
        let (now, then) = (&self.now.config.services, &self.then.config.services);
        let mut names: Vec<&String> = now.keys().chain(then.keys()).collect();
        names.sort_unstable();
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| self.service(now.get(name), then.get(name), recorded))
            .collect()
    }

    fn service(
        &self,
        now: Option<&Service>,
        then: Option<&Service>,
        recorded: &Recorded,
    ) -> Option<ServiceDiff> {
        let service = then.or(now)?;
        let mut changes = match (now, then) {
            (Some(now), Some(then)) => lines::service_lines(now, then),
            (Some(_), None) | (None, Some(_)) | (None, None) => Vec::new(),
        };
        if then.is_some() {
            changes.extend(self.pool_lines(&service.pool));
        }
        let flows_cut = now.map_or_else(FlowsCut::default, |now| self.cut(now, recorded));
        let slots = match then {
            None => SlotsDiff::default(),
            Some(then) => self.slots(now, then),
        };
        let change = match (now, then) {
            (None, _) => DiffKind::Added,
            (_, None) => DiffKind::Removed,
            (Some(_), Some(_))
                if changes.is_empty() && slots.moving == 0 && flows_cut.is_none() =>
            {
                DiffKind::Unchanged
            }
            (Some(_), Some(_)) => DiffKind::Changed,
        };
        Some(ServiceDiff {
            service: service.name.clone(),
            vip: service.vip,
            port: service.port,
            protocol: service.protocol,
            change,
            changes,
            pool: service.pool.clone(),
            slots,
            flows_cut,
        })
    }

    /// What would move for a service that is there afterwards.
    fn slots(&self, now: Option<&Service>, then: &Service) -> SlotsDiff {
        let Some(outlook) = self.outlooks.get(&then.pool) else {
            return SlotsDiff::default();
        };
        let Some(before) = now.and_then(|now| self.outlooks.get(&now.pool)) else {
            return SlotsDiff {
                moving: 0,
                ideal: 0,
                ..outlook.slots()
            };
        };
        if now.and_then(|now| self.all_cut(now)).is_none() {
            return outlook.slots();
        }
        SlotsDiff {
            ring: outlook.after.ring,
            moving: outlook.after.ring,
            ideal: ring::ideal(&before.before, &outlook.after),
        }
    }

    /// The flows of a service of today that would be cut.
    fn cut(&self, now: &Service, recorded: &Recorded) -> FlowsCut {
        let key = key_of(now);
        let count = |lives: &dyn Fn(u16) -> bool| {
            recorded
                .iter()
                .filter(|((service, backend), _)| *service == key && lives(*backend))
                .map(|(_, flows)| flows)
                .sum()
        };
        let outlook = self.outlooks.get(&now.pool);
        if let Some(all) = self.all_cut(now) {
            return FlowsCut {
                datagrams: false,
                all: Some(all),
                backends: Vec::new(),
                slots: outlook.map_or(0, |outlook| outlook.before.ring),
                recorded: count(&|_| true),
            };
        }
        let dropped = outlook.map_or(&[][..], |outlook| &outlook.dropped);
        let backends = dropped.iter().map(|&(_, endpoint)| endpoint).collect();
        if self.is_stateless(now) {
            let slots = outlook.map_or(0, |outlook| outlook.moving.max(outlook.cut_slots));
            return FlowsCut {
                datagrams: slots > 0,
                all: None,
                backends,
                slots,
                recorded: 0,
            };
        }
        FlowsCut {
            datagrams: false,
            all: None,
            backends,
            slots: outlook.map_or(0, |outlook| outlook.cut_slots),
            recorded: count(&|number| dropped.iter().any(|&(dropped, _)| dropped == number)),
        }
    }

    /// Whether the flows of a service of today would be datagrams without a record.
    fn is_stateless(&self, now: &Service) -> bool {
        let key = key_of(now);
        let mut services = self.then.config.services.values();
        let then = services.find(|then| key_of(then) == key);
        now.protocol == Protocol::Udp && then.is_none_or(|then| then.udp == Udp::Stateless)
    }

    /// Why all flows of a service of today would be cut. Its flows know it by its address, whatever
    /// its name.
    fn all_cut(&self, now: &Service) -> Option<String> {
        let key = key_of(now);
        let services = &self.then.config.services;
        let Some(then) = services.values().find(|then| key_of(then) == key) else {
            return Some(format!(
                "no service answers at {} any more",
                lines::address(now)
            ));
        };
        if then.pool != now.pool {
            return Some(format!(
                "all connections move: another pool, {} instead of {}",
                then.pool, now.pool
            ));
        }
        let ring = |config: &Config| config.pools.get(&now.pool).map(|pool| pool.ring_slots);
        if ring(&self.now.config) != ring(&self.then.config) {
            return Some("all connections move: another size of the ring".to_owned());
        }
        if then.affinity != now.affinity {
            return Some("all connections move: another affinity".to_owned());
        }
        // The other modes deliver the packet as it is, and one of their backends may take the
        // other's.
        let rewrites = |service: &Service| service.forward == Forward::Dnat;
        (rewrites(then) != rewrites(now)).then(|| {
            format!(
                "all connections end: {} instead of {} reaches the backends under another address",
                then.forward, now.forward
            )
        })
    }

    /// Pools without a service on either side, those that would change.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolDiff> {
        let (now, then) = (&self.now.config, &self.then.config);
        let served = |name: &String| {
            let mut services = now.services.values().chain(then.services.values());
            services.any(|service| service.pool == *name)
        };
        self.outlooks
            .iter()
            .filter(|(name, _)| !served(name))
            .filter_map(|(name, outlook)| {
                let change = match (now.pools.contains_key(name), then.pools.contains_key(name)) {
                    (false, _) => DiffKind::Added,
                    (true, false) => DiffKind::Removed,
                    (true, true) => DiffKind::Changed,
                };
                let changes = self.pool_lines(name);
                let slots = outlook.slots();
                if change == DiffKind::Changed && changes.is_empty() && slots.moving == 0 {
                    return None;
                }
                Some(PoolDiff {
                    pool: name.clone(),
                    change,
                    changes,
                    slots,
                })
            })
            .collect()
    }

    fn pool_lines(&self, name: &str) -> Vec<String> {
        let (Some(now), Some(then)) = (
            self.now.config.pools.get(name),
            self.then.config.pools.get(name),
        ) else {
            return Vec::new();
        };
        let dropped: Vec<SocketAddr> = self
            .outlooks
            .get(name)
            .map(|outlook| outlook.dropped.iter().map(|&(_, at)| at).collect())
            .unwrap_or_default();
        lines::pool_lines(now, then, &dropped)
    }
}

/// By what the data path knows a service.
fn key_of(service: &Service) -> ServiceKey {
    ServiceKey {
        at: service.at(),
        protocol: goal::protocol_number(service.protocol),
    }
}
