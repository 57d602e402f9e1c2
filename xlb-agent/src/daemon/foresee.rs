//! `diff`: what a configuration would change, by the plans that a reload would carry out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use xlb_common::next_hop::NextHop;
use xlb_control::{
    api::{Diff, DiffRequest},
    config::{
        Config, OnRemove, Pool,
        overrides::{self, BackendKey, Merged},
    },
    health::{State, Target, Verdict},
};

use super::{
    Daemon, known, now_s,
    world::{self, Known, NextHops},
};
use crate::{
    diff::{self, Facts, Outlook, Recorded},
    engine::{Side, goal::World},
    netlink::{self, Unresolved},
    plan::Intent,
};

/// Stands for the next hop of a backend that is new: its neighbour is asked for only when it is
/// configured, and is taken to answer then.
const ANSWERS_THEN: NextHop = NextHop::new([0; 6], 1);

impl Daemon {
    /// What a configuration would change. Nothing is written.
    ///
    /// # Errors
    ///
    /// What a reload of it would be refused for.
    pub(super) fn diff(&self, request: DiffRequest) -> Result<Diff, String> {
        let (name, loaded) = match request.config {
            None => {
                let loaded = Config::load(&self.options.config);
                (
                    self.options.config.display().to_string(),
                    loaded.map_err(|error| error.to_string())?,
                )
            }
            Some(config) => {
                let loaded = Config::parse(&config.name, &config.text);
                (config.name, loaded.map_err(|error| error.to_string())?)
            }
        };
        self.acceptable(&loaded.config)?;
        let then = overrides::apply(&loaded.config, &self.changes);
        let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.extend(self.newly_stale(&then));
        let (next_hops, unreachable) = self
            .foresee_next_hops(&then.config)
            .map_err(|error| format!("{error:#}"))?;
        warnings.extend(unreachable);
        let world = Foreseen {
            daemon: self,
            next_hops,
            intents: self.intents_of(&then.admin, &self.merged.admin),
            removed: then.removed.clone(),
        };
        let outlooks = self
            .outlooks(&then.config, &world)
            .map_err(|error| error.to_string())?;
        let facts = Facts {
            now: &self.merged,
            then: &then,
            outlooks: &outlooks,
        };
        let recorded = if facts.cuts() {
            self.engine
                .recorded()
                .map_err(|error| format!("read the tables of flows: {error}"))?
        } else {
            Recorded::new()
        };
        Ok(Diff {
            file: name,
            host: diff::host_lines(&self.merged.config.dataplane, &then.config.dataplane),
            services: facts.services(&recorded),
            pools: facts.pools(),
            warnings,
        })
    }

    /// Whether a reload would take the configuration.
    pub(super) fn acceptable(&self, file: &Config) -> Result<(), String> {
        let interfaces = self.interfaces_with((&file.dataplane).into());
        interfaces.map(drop).map_err(|error| format!("{error:#}"))
    }

    fn outlooks(
        &self,
        then: &Config,
        world: &Foreseen<'_>,
    ) -> Result<BTreeMap<String, Outlook>, crate::engine::EngineError> {
        let names: BTreeSet<&String> = self.engine.pools.keys().chain(then.pools.keys()).collect();
        let known = Known {
            next_hops: &self.next_hops,
            checker: &self.probes.checker,
            intents: &self.intents,
            removed: &self.merged.removed,
        };
        let now = Side {
            config: &self.merged.config,
            world: &known,
        };
        let then = Side {
            config: then,
            world,
        };
        names
            .into_iter()
            .map(|name| {
                let outlook = self.engine.outlook(name, now, then, now_s())?;
                Ok((name.clone(), outlook))
            })
            .collect()
    }

    /// Changes of run time that fit the file in force and would not fit the other one.
    fn newly_stale(&self, then: &Merged) -> Vec<String> {
        // Places in the list are other ones after each change of it.
        let now = overrides::apply(&self.file, &self.changes);
        let known: BTreeSet<usize> = now.stale.iter().map(|&(at, _)| at).collect();
        then.stale
            .iter()
            .filter(|(at, _)| !known.contains(at))
            .map(|(_, why)| format!("a change made at run time would no longer fit: {why}"))
            .collect()
    }

    /// Next hops as they would be, and what the operator should know of new backends.
    fn foresee_next_hops(&self, then: &Config) -> anyhow::Result<(NextHops, Vec<String>)> {
        let tables = self.tables.borrow().clone();
        let interfaces = self.interfaces_with((&then.dataplane).into())?;
        let (allowed, egress) = (interfaces.ways_out(), interfaces.egress());
        let mut next_hops = world::resolve_all(then, &tables, &allowed, &egress);
        let mut warnings = Vec::new();
        for address in world::addresses(then) {
            if self.next_hops.contains_key(&address) {
                continue;
            }
            match netlink::resolve(&tables, address, &allowed) {
                Ok(_) => (),
                Err(Unresolved::NeighbourUnknown { .. }) => {
                    next_hops.insert(address, (ANSWERS_THEN, None));
                }
                Err(why) => warnings.push(format!(
                    "backend {address} can't be reached and would get no connection: {why}"
                )),
            }
        }
        Ok((next_hops, warnings))
    }
}

/// What would be known of backends right after a reload.
struct Foreseen<'a> {
    daemon: &'a Daemon,
    next_hops: NextHops,
    intents: BTreeMap<(String, SocketAddr), Intent>,
    removed: BTreeMap<BackendKey, Option<OnRemove>>,
}

impl World for Foreseen<'_> {
    fn intent(&self, pool: &str, endpoint: SocketAddr) -> Intent {
        self.intents
            .get(&(pool.to_owned(), endpoint))
            .copied()
            .unwrap_or(Intent::Serve)
    }

    fn removed(&self, pool: &str) -> BTreeMap<SocketAddr, OnRemove> {
        world::removed_from(pool, &self.removed)
    }

    /// A backend that is not checked yet is as it stands in the maps, or well if it is new.
    fn is_well(&self, pool: &Pool, endpoint: SocketAddr) -> bool {
        let Some(check) = &pool.check else {
            return true;
        };
        let target = Target::new(endpoint, check);
        match self.daemon.probes.checker.state(&target) {
            Some(State::Down) => false,
            Some(State::Up | State::Unknown) => true,
            None => known(&self.daemon.engine, &pool.name, endpoint) != Some(Verdict::Down),
        }
    }

    fn next_hop(&self, address: IpAddr) -> (NextHop, Option<IpAddr>) {
        self.next_hops
            .get(&address)
            .copied()
            .unwrap_or((NextHop::NONE, None))
    }
}
