//! Changes that commands made at run time, on top of the configuration file.
//!
//! The file says what should be; the list of [`Change`]s says what the operator has changed since,
//! and is kept in the state directory. The list stays short: a change that takes back an earlier
//! one removes it, and the list never names a backend's weight or state twice.

mod fold;
mod record;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

pub use record::{Touched, record, record_on};

use super::{
    AllDown, Backend, Config, Fragments, Policy, Pool, Service, Udp, check_invariants,
    invariants::pool_advice, limits::DEFAULT_UDP_IDLE_TIMEOUT, suggest,
};
use crate::{api::Change, config::OnRemove};

/// A backend: name of the pool, address and port.
pub type BackendKey = (String, SocketAddr);

/// What the operator wants of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Nothing new is sent to it, and its connections move away at once.
    Disabled,
    /// It gets no new connection and keeps those that it has.
    Draining {
        /// Time after which connections that are left are moved, from when the drain began.
        /// `None`: never.
        timeout: Option<Duration>,
    },
}

/// A configuration with the changes of run time merged into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The configuration in force; as sound as the file's.
    pub config: Config,
    /// Backends that the operator has disabled or drains.
    pub admin: BTreeMap<BackendKey, Admin>,
    /// Backends that are removed, and what was said about their connections: those of the file, and
    /// what the owner of this adds.
    pub removed: BTreeMap<BackendKey, Option<OnRemove>>,
    /// Changes that no longer fit: their place in the list, and why.
    pub stale: Vec<(usize, String)>,
}

/// Merges changes into a configuration. A change that no longer fits is left out and returned as
/// stale. The configuration must satisfy [`check_invariants`], and so does the result.
#[must_use]
pub fn apply(config: &Config, changes: &[Change]) -> Merged {
    let merged = merge(config, changes, |_| Ok(()));
    // Most changes add nothing, and then the check, which looks at every backend, is not needed.
    if !changes.iter().any(adds) || check_invariants(&merged.config).is_empty() {
        return merged;
    }
    // The file has come to be at odds with some change. Rare enough to look for it step by step.
    merge(config, changes, |config| {
        check_invariants(config)
            .first()
            .cloned()
            .map_or(Ok(()), Err)
    })
}

fn merge(
    config: &Config,
    changes: &[Change],
    allowed: impl Fn(&Config) -> Result<(), String>,
) -> Merged {
    let mut merged = Merged {
        config: config.clone(),
        admin: BTreeMap::new(),
        removed: BTreeMap::new(),
        stale: Vec::new(),
    };
    for (index, change) in changes.iter().enumerate() {
        // Only what adds can be at odds with the rest.
        let before = adds(change).then(|| merged.config.clone());
        let result = merged.step(change).and_then(|()| match before {
            None => Ok(()),
            Some(before) => allowed(&merged.config).inspect_err(|_| merged.config = before),
        });
        if let Err(reason) = result {
            merged.stale.push((index, reason));
        }
    }
    merged
}

/// Whether a change puts something into the configuration that can be at odds with the rest.
const fn adds(change: &Change) -> bool {
    match change {
        Change::BackendAdd { .. } | Change::ServiceAdd { .. } => true,
        Change::BackendRemove { .. }
        | Change::BackendEnable { .. }
        | Change::BackendDisable { .. }
        | Change::BackendDrain { .. }
        | Change::BackendUndrain { .. }
        | Change::BackendWeight { .. }
        | Change::ServiceRemove { .. } => false,
    }
}

impl Merged {
    /// Merges one change, or says why it does not fit.
    fn step(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::BackendAdd {
                pool,
                endpoint,
                weight,
            } => self.add_backend(pool, *endpoint, *weight),
            Change::BackendRemove {
                pool,
                endpoint,
                connections,
            } => {
                let key = self.key(pool, *endpoint)?;
                self.pool_mut(&key.0)?
                    .backends
                    .retain(|backend| backend.endpoint() != key.1);
                self.admin.remove(&key);
                self.removed.insert(key, *connections);
                Ok(())
            }
            Change::BackendDisable { pool, endpoint } => {
                let key = self.key(pool, *endpoint)?;
                self.admin.insert(key, Admin::Disabled);
                Ok(())
            }
            Change::BackendDrain {
                pool,
                endpoint,
                timeout_s,
            } => {
                let key = self.key(pool, *endpoint)?;
                let timeout = timeout_s.map(Duration::from_secs);
                self.admin.insert(key, Admin::Draining { timeout });
                Ok(())
            }
            Change::BackendEnable { pool, endpoint }
            | Change::BackendUndrain { pool, endpoint } => {
                let key = self.key(pool, *endpoint)?;
                self.admin.remove(&key);
                Ok(())
            }
            Change::BackendWeight {
                pool,
                endpoint,
                weight,
            } => {
                let (pool, endpoint) = self.key(pool, *endpoint)?;
                for backend in &mut self.pool_mut(&pool)?.backends {
                    if backend.endpoint() == endpoint {
                        backend.weight = *weight;
                    }
                }
                Ok(())
            }
            Change::ServiceAdd { .. } => self.add_service(change),
            Change::ServiceRemove { name } => match self.config.services.remove(name) {
                Some(_) => Ok(()),
                None => Err(unknown_service(&self.config, name)),
            },
        }
    }

    fn add_backend(&mut self, pool: &str, endpoint: SocketAddr, weight: u16) -> Result<(), String> {
        let name = resolve_pool(&self.config, pool)?;
        let pool = self.pool_mut(&name)?;
        if find(pool, endpoint).is_some() {
            return Err(format!("backend {endpoint} is in pool `{name}` already"));
        }
        pool.backends.push(Backend {
            address: endpoint.ip(),
            port: endpoint.port(),
            weight,
        });
        self.removed.remove(&(name, endpoint));
        Ok(())
    }

    fn add_service(&mut self, change: &Change) -> Result<(), String> {
        let Some(service) = service_of(&self.config, change)? else {
            return Ok(());
        };
        if self.config.services.contains_key(&service.name) {
            return Err(format!("service `{}` exists already", service.name));
        }
        self.config.services.insert(service.name.clone(), service);
        Ok(())
    }

    /// Finds a backend by the name of its pool, or of a service in front of it.
    fn key(&self, pool: &str, endpoint: SocketAddr) -> Result<BackendKey, String> {
        resolve_backend(&self.config, pool, endpoint).map(|pool| (pool.name.clone(), endpoint))
    }

    fn pool_mut(&mut self, name: &str) -> Result<&mut Pool, String> {
        let advice = format!("there is no pool `{name}`");
        self.config.pools.get_mut(name).ok_or(advice)
    }
}

/// The service that a change adds; nothing when it adds none.
fn service_of(config: &Config, change: &Change) -> Result<Option<Service>, String> {
    let Change::ServiceAdd {
        name,
        vip,
        port,
        protocol,
        forward,
        pool,
    } = change
    else {
        return Ok(None);
    };
    Ok(Some(Service {
        name: name.clone(),
        vip: *vip,
        port: *port,
        protocol: *protocol,
        forward: *forward,
        pool: resolve_pool(config, pool)?,
        policy: Policy::default(),
        affinity: None,
        udp: Udp::default(),
        udp_idle_timeout: DEFAULT_UDP_IDLE_TIMEOUT,
        all_down: AllDown::default(),
        second_chance: false,
        fragments: Fragments::default(),
        announce: None,
    }))
}

/// The name of a pool, which may be given by the name of a service in front of it.
fn resolve_pool(config: &Config, name: &str) -> Result<String, String> {
    if config.pools.contains_key(name) {
        return Ok(name.to_owned());
    }
    if let Some(service) = config.services.get(name) {
        return Ok(service.pool.clone());
    }
    let advice = match suggest::nearest(name, config.services.keys().map(String::as_str)) {
        Some(service)
            if suggest::nearest(name, config.pools.keys().map(String::as_str)).is_none() =>
        {
            format!("did you mean service `{service}`?")
        }
        Some(_) | None => pool_advice(config, name),
    };
    Err(format!("there is no pool or service `{name}`; {advice}"))
}

/// The pool of a backend that exists.
fn resolve_backend<'a>(
    config: &'a Config,
    pool: &str,
    endpoint: SocketAddr,
) -> Result<&'a Pool, String> {
    let name = resolve_pool(config, pool)?;
    let pool = config
        .pools
        .get(&name)
        .ok_or_else(|| format!("there is no pool `{name}`"))?;
    if find(pool, endpoint).is_some() {
        return Ok(pool);
    }
    let names: Vec<String> = pool
        .backends
        .iter()
        .map(|backend| backend.endpoint().to_string())
        .collect();
    let advice = if names.is_empty() {
        "it has none".to_owned()
    } else {
        suggest::advice(&endpoint.to_string(), names.iter().map(String::as_str))
    };
    Err(format!("pool `{name}` has no backend {endpoint}; {advice}"))
}

fn find(pool: &Pool, endpoint: SocketAddr) -> Option<&Backend> {
    pool.backends
        .iter()
        .find(|backend| backend.endpoint() == endpoint)
}

fn unknown_service(config: &Config, name: &str) -> String {
    if config.services.is_empty() {
        return format!("there is no service `{name}`, nor any other");
    }
    let advice = suggest::advice(name, config.services.keys().map(String::as_str));
    format!("there is no service `{name}`; {advice}")
}
