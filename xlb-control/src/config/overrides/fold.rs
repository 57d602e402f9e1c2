//! How a new change is folded into the list of earlier ones, so that none of them is about the same
//! thing.

use std::net::SocketAddr;

use super::{Admin, Merged, find, resolve_backend, resolve_pool, service_of, unknown_service};
use crate::{
    api::Change,
    config::{
        Config, Service,
        rules::{self, Role},
    },
};

/// What a change is folded against.
pub(super) struct Fold<'a> {
    pub(super) file: &'a Config,
    pub(super) current: &'a Merged,
}

/// The new list, and what was done.
pub(super) type Folded = (Vec<Change>, String);

impl Fold<'_> {
    pub(super) fn fold(&self, changes: &[Change], new: Change) -> Result<Folded, String> {
        match new {
            Change::BackendAdd {
                pool,
                endpoint,
                weight,
            } => self.add_backend(changes, &pool, endpoint, weight),
            Change::BackendRemove {
                pool,
                endpoint,
                connections,
            } => {
                let pool = self.backend(&pool, endpoint)?;
                let mut list = without(changes, |kind| kind.is_about(&pool, endpoint));
                if self.in_file(&pool, endpoint) {
                    list.push(Change::BackendRemove {
                        pool: pool.clone(),
                        endpoint,
                        connections,
                    });
                }
                Ok((list, format!("removed {endpoint} from pool `{pool}`")))
            }
            Change::BackendEnable { pool, endpoint } => self.clear(changes, &pool, endpoint, false),
            Change::BackendUndrain { pool, endpoint } => self.clear(changes, &pool, endpoint, true),
            Change::BackendDisable { pool, endpoint } => {
                let pool = self.backend(&pool, endpoint)?;
                let mut list = without(changes, |kind| kind.is_admin(&pool, endpoint));
                let done = format!("disabled {endpoint} in pool `{pool}`");
                list.push(Change::BackendDisable { pool, endpoint });
                Ok((list, done))
            }
            Change::BackendDrain {
                pool,
                endpoint,
                timeout_s,
            } => self.drain(changes, &pool, endpoint, timeout_s),
            Change::BackendWeight {
                pool,
                endpoint,
                weight,
            } => self.weigh(changes, &pool, endpoint, weight),
            Change::ServiceAdd { .. } => self.add_service(changes, new),
            Change::ServiceRemove { name } => self.remove_service(changes, name),
        }
    }

    fn add_backend(
        &self,
        changes: &[Change],
        pool: &str,
        endpoint: SocketAddr,
        weight: u16,
    ) -> Result<Folded, String> {
        rules::address_for(endpoint.ip(), Role::Backend).map_err(rules::Fault::sentence)?;
        let pool = resolve_pool(&self.current.config, pool)?;
        if self.weight(&self.current.config, &pool, endpoint).is_some() {
            return Err(format!(
                "backend {endpoint} is in pool `{pool}` already; \
                 `xlb-agent backend weight` changes its weight"
            ));
        }
        // Also drops earlier changes that have become stale.
        let mut list = without(changes, |kind| kind.is_about(&pool, endpoint));
        let done = format!("added {endpoint} to pool `{pool}` with weight {weight}");
        match self.weight(self.file, &pool, endpoint) {
            Some(in_file) if in_file == weight => {}
            Some(_) => list.push(Change::BackendWeight {
                pool,
                endpoint,
                weight,
            }),
            None => list.push(Change::BackendAdd {
                pool,
                endpoint,
                weight,
            }),
        }
        Ok((list, done))
    }

    fn drain(
        &self,
        changes: &[Change],
        pool: &str,
        endpoint: SocketAddr,
        timeout_s: Option<u64>,
    ) -> Result<Folded, String> {
        let pool = self.backend(pool, endpoint)?;
        if self.admin(&pool, endpoint) == Some(Admin::Disabled) {
            return Err(format!(
                "backend {endpoint} of pool `{pool}` is disabled, and has no connections to keep; \
                 enable it first with `xlb-agent backend enable`"
            ));
        }
        let mut list = without(changes, |kind| kind.is_admin(&pool, endpoint));
        let until = match timeout_s {
            Some(seconds) => format!("for at most {seconds} s"),
            None => "until its connections have ended".to_owned(),
        };
        let done = format!("draining {endpoint} in pool `{pool}` {until}");
        list.push(Change::BackendDrain {
            pool,
            endpoint,
            timeout_s,
        });
        Ok((list, done))
    }

    /// Ends a drain, or lets a disabled backend serve again.
    fn clear(
        &self,
        changes: &[Change],
        pool: &str,
        endpoint: SocketAddr,
        undrain: bool,
    ) -> Result<Folded, String> {
        let pool = self.backend(pool, endpoint)?;
        let name = format!("backend {endpoint} of pool `{pool}`");
        let cleared = || without(changes, |kind| kind.is_admin(&pool, endpoint));
        match (self.admin(&pool, endpoint), undrain) {
            (Some(Admin::Disabled), false) => {
                Ok((cleared(), format!("enabled {endpoint} in pool `{pool}`")))
            }
            (Some(Admin::Draining { .. }), true) => Ok((
                cleared(),
                format!("ended the drain of {endpoint} in pool `{pool}`"),
            )),
            (None, false) => Ok((changes.to_vec(), format!("{name} was enabled already"))),
            (None, true) => Ok((changes.to_vec(), format!("{name} was not draining"))),
            (Some(Admin::Disabled), true) => Err(format!(
                "{name} is disabled, not draining; use `xlb-agent backend enable`"
            )),
            (Some(Admin::Draining { .. }), false) => Err(format!(
                "{name} is draining, not disabled; use `xlb-agent backend undrain`"
            )),
        }
    }

    fn weigh(
        &self,
        changes: &[Change],
        pool: &str,
        endpoint: SocketAddr,
        weight: u16,
    ) -> Result<Folded, String> {
        let pool = self.backend(pool, endpoint)?;
        let done = format!("weight of {endpoint} in pool `{pool}` is {weight}");
        let mut list = without(changes, |kind| {
            matches!(kind, Change::BackendWeight { .. }) && kind.is_about(&pool, endpoint)
        });
        if let Some(in_file) = self.weight(self.file, &pool, endpoint) {
            if in_file != weight {
                list.push(Change::BackendWeight {
                    pool,
                    endpoint,
                    weight,
                });
            }
            return Ok((list, done));
        }
        for change in &mut list {
            if let Change::BackendAdd {
                pool: of,
                endpoint: added,
                weight: old,
            } = change
                && *of == pool
                && *added == endpoint
            {
                *old = weight;
            }
        }
        Ok((list, done))
    }

    fn add_service(&self, changes: &[Change], new: Change) -> Result<Folded, String> {
        let Some(service) = service_of(&self.current.config, &new)? else {
            return Ok((changes.to_vec(), String::new()));
        };
        rules::name(&service.name).map_err(rules::Fault::sentence)?;
        rules::vip(service.vip).map_err(rules::Fault::sentence)?;
        if let Some(port) = service.port.one() {
            rules::port(port).map_err(rules::Fault::sentence)?;
        }
        if self.current.config.services.contains_key(&service.name) {
            return Err(format!(
                "service `{}` exists already; choose another name",
                service.name
            ));
        }
        let done = format!(
            "added service `{}` in front of pool `{}`",
            service.name, service.pool
        );
        if self.in_file_as(&service) {
            // The file's service was removed, and comes back as it was.
            let is_removal = |change: &Change| matches!(change, Change::ServiceRemove { name } if *name == service.name);
            return Ok((without(changes, is_removal), done));
        }
        let mut list = changes.to_vec();
        list.push(Change::ServiceAdd {
            name: service.name,
            vip: service.vip,
            port: service.port,
            protocol: service.protocol,
            forward: service.forward,
            pool: service.pool,
        });
        Ok((list, done))
    }

    fn remove_service(&self, changes: &[Change], name: String) -> Result<Folded, String> {
        if !self.current.config.services.contains_key(&name) {
            return Err(unknown_service(&self.current.config, &name));
        }
        let is_added =
            |change: &Change| matches!(change, Change::ServiceAdd { name: of, .. } if *of == name);
        let done = format!("removed service `{name}`");
        let mut list = without(changes, is_added);
        let is_removed = list
            .iter()
            .any(|change| matches!(change, Change::ServiceRemove { name: of } if *of == name));
        if self.file.services.contains_key(&name) && !is_removed {
            list.push(Change::ServiceRemove { name });
        }
        Ok((list, done))
    }

    /// Whether the file has a service that is the same in all that a command can say.
    fn in_file_as(&self, service: &Service) -> bool {
        self.file
            .services
            .get(&service.name)
            .is_some_and(|in_file| {
                let said = Service {
                    policy: in_file.policy,
                    affinity: in_file.affinity,
                    udp: in_file.udp,
                    udp_idle_timeout: in_file.udp_idle_timeout,
                    all_down: in_file.all_down,
                    second_chance: in_file.second_chance,
                    fragments: in_file.fragments,
                    announce: in_file.announce,
                    ..service.clone()
                };
                said == *in_file
            })
    }

    /// The name of the pool of a backend that exists.
    fn backend(&self, pool: &str, endpoint: SocketAddr) -> Result<String, String> {
        resolve_backend(&self.current.config, pool, endpoint).map(|pool| pool.name.clone())
    }

    fn in_file(&self, pool: &str, endpoint: SocketAddr) -> bool {
        self.weight(self.file, pool, endpoint).is_some()
    }

    fn weight(&self, config: &Config, pool: &str, endpoint: SocketAddr) -> Option<u16> {
        let pool = config.pools.get(pool)?;
        find(pool, endpoint).map(|backend| backend.weight)
    }

    fn admin(&self, pool: &str, endpoint: SocketAddr) -> Option<Admin> {
        let key = (pool.to_owned(), endpoint);
        self.current.admin.get(&key).copied()
    }
}

/// The changes but for those that a test picks.
fn without(changes: &[Change], is_picked: impl Fn(&Change) -> bool) -> Vec<Change> {
    changes
        .iter()
        .filter(|change| !is_picked(change))
        .cloned()
        .collect()
}

impl Change {
    /// The pool and the backend that a change is about.
    pub(super) fn backend(&self) -> Option<(&str, SocketAddr)> {
        match self {
            Self::BackendAdd { pool, endpoint, .. }
            | Self::BackendRemove { pool, endpoint, .. }
            | Self::BackendEnable { pool, endpoint }
            | Self::BackendDisable { pool, endpoint }
            | Self::BackendDrain { pool, endpoint, .. }
            | Self::BackendUndrain { pool, endpoint }
            | Self::BackendWeight { pool, endpoint, .. } => Some((pool, *endpoint)),
            Self::ServiceAdd { .. } | Self::ServiceRemove { .. } => None,
        }
    }

    fn is_about(&self, pool: &str, endpoint: SocketAddr) -> bool {
        self.backend() == Some((pool, endpoint))
    }

    /// Whether a change sets or clears what the operator wants of a backend.
    fn is_admin(&self, pool: &str, endpoint: SocketAddr) -> bool {
        let is_admin = match self {
            Self::BackendEnable { .. }
            | Self::BackendDisable { .. }
            | Self::BackendDrain { .. }
            | Self::BackendUndrain { .. } => true,
            Self::BackendAdd { .. }
            | Self::BackendRemove { .. }
            | Self::BackendWeight { .. }
            | Self::ServiceAdd { .. }
            | Self::ServiceRemove { .. } => false,
        };
        is_admin && self.is_about(pool, endpoint)
    }
}
