//! Changes of the configuration: by commands, and by the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use xlb_control::{
    api::{Change, Changed},
    config::{
        Config, OnRemove, Pool,
        overrides::{self, Admin, BackendKey, Merged, Touched},
    },
};

use super::{
    Daemon,
    api::Caller,
    files,
    interfaces::{Interfaces, Names},
    known, now_s, spec, state, warn_of_stale,
    world::NextHops,
};
use crate::{diff, engine::Pools, plan::Intent};

impl Daemon {
    pub(super) fn change(&mut self, change: Change, caller: Caller) -> Result<Changed, String> {
        tracing::info!(uid = caller.uid, ?change, "a change is asked for");
        let mut changes = self.changes.clone();
        let admin = self.merged.admin.clone();
        let said = removal(&change);
        let (changed, touched) =
            overrides::record_on(&mut changes, change, &self.file, &mut self.merged)?;
        if let (Some((endpoint, word)), Touched::Pool { name, .. }) = (said, &touched) {
            // The list of changes has no removal of a backend that a command had added.
            let key = (name.clone(), endpoint);
            self.merged.removed.insert(key, Some(word));
        }
        if let Err(error) = state::keep_changes(&self.options.state_dir, &changes) {
            self.take_back(touched);
            return Err(format!("{error:#}"));
        }
        let outcome = match &touched {
            Touched::Pool { name, .. } => self.pool_touched(name, &admin),
            Touched::Services => self.take_over(self.file.clone(), changes.clone()),
        };
        let Err(refusal) = outcome else {
            self.changes = changes;
            return Ok(changed);
        };
        // What the maps have no room for must not meet the next agent either.
        if let Err(error) = state::keep_changes(&self.options.state_dir, &self.changes) {
            tracing::error!(error = format!("{error:#}"), "taking back a change");
        }
        self.take_back(touched);
        Err(format!("{refusal:#}"))
    }

    /// Goes back to a pool as it was.
    fn take_back(&mut self, touched: Touched) {
        let Touched::Pool { name, before } = touched else {
            return;
        };
        let admin = self.merged.admin.clone();
        self.merged.replace(&name, *before);
        if let Err(error) = self.pool_touched(&name, &admin) {
            tracing::error!(
                error = format!("{error:#}"),
                "going back to what was in force"
            );
        }
    }

    /// Brings everything in line with a pool whose backends a command has changed. What this takes
    /// does not grow with the services. `admin_before`: what commands asked of backends before.
    fn pool_touched(
        &mut self,
        name: &str,
        admin_before: &BTreeMap<BackendKey, Admin>,
    ) -> anyhow::Result<()> {
        self.intents = self.intents_of(&self.merged.admin, admin_before);
        if let Some(pool) = self.merged.config.pools.get(name) {
            let mut addresses = pool.backends.iter().map(|backend| backend.address);
            let is_new = addresses.any(|address| !self.next_hops.contains_key(&address));
            let engine = &self.engine;
            self.probes
                .set_pool(pool, |pool, endpoint| known(engine, pool, endpoint));
            if is_new {
                // Those that are known stay: what becomes of them is seen, and told to their pools,
                // when netlink says so.
                for (address, hop) in self.resolve_next_hops() {
                    self.next_hops.entry(address).or_insert(hop);
                }
            }
            let grows = self.engine.pools.get(name);
            if grows.is_none_or(|state| state.backends.len() < pool.backends.len()) {
                let spec = spec(
                    &self.merged.config,
                    &self.interfaces.view,
                    self.engine.key(),
                );
                self.engine.make_room(&self.merged.config, &spec)?;
            }
        }
        self.update_pool(name)?;
        self.revision += 1;
        Ok(())
    }

    pub(super) fn reload(&mut self, caller: Caller) -> Result<Changed, String> {
        tracing::info!(
            uid = caller.uid,
            "reloading {}",
            self.options.config.display()
        );
        let outcome = files::load(&self.options.config)
            .map_err(|error| error.to_string())
            .and_then(|(loaded, sha256)| {
                self.acceptable(&loaded.config)?;
                let mut warnings: Vec<String> =
                    loaded.warnings.iter().map(ToString::to_string).collect();
                let key = state::hash_key(&loaded.config, &self.options.state_dir)
                    .map_err(|error| format!("{error:#}"))?;
                if key != self.engine.key() {
                    warnings.push(format!("dataplane.hash_key differs: {}", diff::ANOTHER_KEY));
                }
                if !loaded.warnings.is_empty() {
                    tracing::warn!("{}", loaded.warnings);
                }
                self.take_over(loaded.config, self.changes.clone())
                    .map_err(|error| format!("{error:#}"))?;
                self.file_sha256 = sha256;
                self.vips.announce_again();
                Ok(Changed {
                    done: vec![format!("{} is in force", self.options.config.display())],
                    warnings,
                })
            });
        if let Err(error) = &outcome {
            tracing::error!("{error}");
        }
        self.last_reload = Some((Instant::now(), outcome.is_ok()));
        self.reloads.add(outcome.is_ok());
        self.last_reload_error = outcome.as_ref().err().cloned();
        outcome
    }

    /// Makes a configuration, with changes on top, the one in force. If the maps can't follow, what
    /// was in force stays so.
    fn take_over(&mut self, file: Config, changes: Vec<Change>) -> anyhow::Result<()> {
        let merged = overrides::apply(&file, &changes);
        self.vips.prepare(&merged.config)?;
        let names = Names::from(&file.dataplane);
        let interfaces = if names == Names::from(&self.file.dataplane) {
            None
        } else {
            Some(self.take_interfaces(names)?)
        };
        warn_of_stale(&merged);
        let intents = self.intents_of(&merged.admin, &self.merged.admin);
        let hops = std::mem::take(&mut self.next_hops);
        let before = InForce {
            interfaces,
            file: std::mem::replace(&mut self.file, file),
            changes: std::mem::replace(&mut self.changes, changes),
            merged: std::mem::replace(&mut self.merged, merged),
            intents: std::mem::replace(&mut self.intents, intents),
        };
        self.next_hops = self.resolve_next_hops();
        let changed = self.changed_pools(&before, &hops);
        let everywhere = before.merged.config.dataplane != self.merged.config.dataplane;
        let outcome = self.apply(if everywhere {
            Pools::All
        } else {
            Pools::Some(&changed)
        });
        let others = before.interfaces.is_some();
        if outcome.is_err() {
            self.go_back_to(before);
        }
        if others {
            // Routes of replies lead to the interfaces that there are now.
            if let Err(error) = self.look_around() {
                tracing::error!(error = format!("{error:#}"), "following the interfaces");
            }
            self.forget_interfaces();
        }
        outcome
    }

    fn go_back_to(&mut self, before: InForce) {
        if let Some(interfaces) = before.interfaces {
            self.take_interfaces_back(interfaces);
        }
        self.file = before.file;
        self.changes = before.changes;
        self.merged = before.merged;
        self.intents = before.intents;
        self.next_hops = self.resolve_next_hops();
        if let Err(error) = self.apply(Pools::All) {
            tracing::error!(
                error = format!("{error:#}"),
                "going back to what was in force"
            );
        }
    }

    /// Names of the pools that are not what they were.
    fn changed_pools(&self, before: &InForce, hops_before: &NextHops) -> BTreeSet<String> {
        let is_changed = |(name, pool): &(&String, &Pool)| {
            let moved = pool.backends.iter().any(|backend| {
                let key = ((*name).clone(), backend.endpoint());
                self.next_hops.get(&backend.address) != hops_before.get(&backend.address)
                    || self.intents.get(&key) != before.intents.get(&key)
            });
            moved || before.merged.config.pools.get(*name) != Some(*pool)
        };
        let pools = self.merged.config.pools.iter();
        pools
            .filter(is_changed)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// What commands ask of backends. A drain that is running keeps its deadline, unless a new
    /// command gives it another timeout.
    pub(super) fn intents_of(
        &self,
        admin: &BTreeMap<BackendKey, Admin>,
        before: &BTreeMap<BackendKey, Admin>,
    ) -> BTreeMap<BackendKey, Intent> {
        let intent = |key: &BackendKey, admin: &Admin| match admin {
            Admin::Disabled => Intent::Disabled,
            Admin::Draining { timeout } => {
                let running = self.engine.backend(&key.0, key.1).and_then(|(_, entry)| {
                    let goes_on = before.get(key) == Some(admin);
                    (goes_on && entry.drain_deadline_s != 0).then_some(entry.drain_deadline_s)
                });
                let fresh = timeout.map(|timeout| {
                    now_s().saturating_add(u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX))
                });
                Intent::Drain {
                    deadline_s: timeout.and(running).or(fresh),
                }
            }
        };
        admin
            .iter()
            .map(|(key, admin)| (key.clone(), intent(key, admin)))
            .collect()
    }
}

/// What a removal says of the backend's connections.
fn removal(change: &Change) -> Option<(SocketAddr, OnRemove)> {
    if let Change::BackendRemove {
        endpoint,
        connections: Some(connections),
        ..
    } = change
    {
        Some((*endpoint, *connections))
    } else {
        None
    }
}

/// What was in force before a change.
struct InForce {
    /// If others were to take their place.
    interfaces: Option<Interfaces>,
    file: Config,
    changes: Vec<Change>,
    merged: Merged,
    intents: BTreeMap<BackendKey, Intent>,
}
