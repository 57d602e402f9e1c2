//! Which targets are probed, and for which pools.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use tokio::sync::mpsc;
use xlb_common::maps::backend_cause;
use xlb_control::{
    config::{Config, Pool},
    health::{Checker, HealthEvent, Target, Verdict},
};

use crate::engine::Engine;

/// The checker, and the pools that each of its targets belongs to.
pub(super) struct Probes {
    /// The checker.
    pub(super) checker: Checker,
    pools: HashMap<Target, BTreeSet<String>>,
    targets: BTreeMap<String, HashMap<Target, SocketAddr>>,
}

impl Probes {
    /// Nothing is probed yet, and never more than `in_flight` at a time; events go to `events`.
    pub(super) fn new(events: mpsc::Sender<HealthEvent>, in_flight: usize) -> Self {
        Self {
            checker: Checker::new(events, in_flight),
            pools: HashMap::new(),
            targets: BTreeMap::new(),
        }
    }

    /// Probes what a configuration says. `known` tells what was known of a backend before.
    pub(super) fn set_all(
        &mut self,
        config: &Config,
        known: impl Fn(&str, SocketAddr) -> Option<Verdict>,
    ) {
        self.pools.clear();
        self.targets.clear();
        let mut desired = HashMap::new();
        for pool in config.pools.values() {
            let targets = targets_of(pool);
            for (target, &endpoint) in &targets {
                desired.insert(target.clone(), known(&pool.name, endpoint));
                let pools = self.pools.entry(target.clone()).or_default();
                pools.insert(pool.name.clone());
            }
            self.targets.insert(pool.name.clone(), targets);
        }
        self.checker.set_targets(&desired);
    }

    /// Probes what one pool says, after it has changed.
    pub(super) fn set_pool(
        &mut self,
        pool: &Pool,
        known: impl Fn(&str, SocketAddr) -> Option<Verdict>,
    ) {
        let new = targets_of(pool);
        let old = self.targets.insert(pool.name.clone(), new.clone());
        let old = old.unwrap_or_default();
        let mut leaving = Vec::new();
        for target in old.keys().filter(|target| !new.contains_key(*target)) {
            if let Some(pools) = self.pools.get_mut(target) {
                pools.remove(&pool.name);
                if pools.is_empty() {
                    self.pools.remove(target);
                    leaving.push(target.clone());
                }
            }
        }
        let mut coming = HashMap::new();
        for (target, &endpoint) in new.iter().filter(|(target, _)| !old.contains_key(*target)) {
            let pools = self.pools.entry(target.clone()).or_default();
            pools.insert(pool.name.clone());
            coming.insert(target.clone(), known(&pool.name, endpoint));
        }
        if !leaving.is_empty() || !coming.is_empty() {
            self.checker.change_targets(&leaving, &coming);
        }
    }

    /// Names of the pools with a backend that is probed by this target.
    pub(super) fn pools_of(&self, target: &Target) -> Vec<String> {
        let pools = self.pools.get(target).into_iter().flatten();
        pools.cloned().collect()
    }
}

/// What is probed for a pool, and a backend for each.
fn targets_of(pool: &Pool) -> HashMap<Target, SocketAddr> {
    let Some(check) = &pool.check else {
        return HashMap::new();
    };
    let backends = pool.backends.iter().map(|backend| backend.endpoint());
    backends
        .map(|endpoint| (Target::new(endpoint, check), endpoint))
        .collect()
}

/// What the maps say of a backend: an agent before this one may have found it down.
pub(super) fn known(engine: &Engine, pool: &str, endpoint: SocketAddr) -> Option<Verdict> {
    engine.backend(pool, endpoint).map(|(_, entry)| {
        if entry.cause & backend_cause::FAILING == 0 {
            Verdict::Up
        } else {
            Verdict::Down
        }
    })
}
