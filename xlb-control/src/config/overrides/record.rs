//! How a new change is checked and recorded.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Merged, apply, find, fold::Fold, merge, resolve_pool};
use crate::{
    api::{Change, Changed},
    config::{Config, decode::uneven, invariants::check_pool},
};

/// Checks a change against the file's configuration with the earlier changes merged into it, and
/// folds it into their list. The pool is recorded by its own name, though a service's may be given.
/// Returns what was done; a change that changes nothing says so.
///
/// # Errors
///
/// A sentence that says why the change is refused; then the list is as it was.
pub fn record(changes: &mut Vec<Change>, new: Change, config: &Config) -> Result<Changed, String> {
    let current = apply(config, changes);
    let fold = Fold {
        file: config,
        current: &current,
    };
    let (folded, done) = fold.fold(changes, new)?;
    let after = apply(config, &folded);
    // What was stale before stays so; what only now does not fit is the new change's fault.
    if after.stale.len() > current.stale.len()
        && let Some((_, reason)) = after.stale.last()
    {
        return Err(reason.clone());
    }
    *changes = folded;
    let warnings = warnings(&current.config, &after.config);
    Ok(Changed {
        done: vec![done],
        warnings,
    })
}

/// What a recorded change was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touched {
    /// Backends of a pool.
    Pool {
        /// Its name.
        name: String,
        /// The pool as it was in the merger, for [`Merged::replace`].
        before: Box<Merged>,
    },
    /// The set of services.
    Services,
}

/// As [`record`], for a list whose merger with the file's configuration is known. A change of a
/// backend is merged too, but for `stale`, which takes no longer where there are more services. One
/// of the services is not: the merger has to be made anew.
///
/// # Errors
///
/// As for [`record`]; then the list and the merger are as they were.
pub fn record_on(
    changes: &mut Vec<Change>,
    new: Change,
    file: &Config,
    merged: &mut Merged,
) -> Result<(Changed, Touched), String> {
    let Some((named, endpoint)) = new.backend() else {
        return Ok((record(changes, new, file)?, Touched::Services));
    };
    let name = resolve_pool(&merged.config, named)?;
    let adds = super::adds(&new);
    let fold = Fold {
        file,
        current: merged,
    };
    let (folded, done) = fold.fold(changes, new)?;
    let part = part_of(file, &name);
    let before = merge(&part, &about(changes, &name), |_| Ok(()));
    let after = merge(&part, &about(&folded, &name), |_| Ok(()));
    if after.stale.len() > before.stale.len()
        && let Some((_, reason)) = after.stale.last()
    {
        return Err(reason.clone());
    }
    // The pool as it will be, not the change: what takes back a removal leaves no change to look at.
    let pool = after.config.pools.get(&name).filter(|_| adds);
    if let Some(broken) = pool.and_then(|pool| check_pool(&merged.config, pool)) {
        return Err(broken);
    }
    debug_assert!(find_in(&after, &name, endpoint) || find_in(merged, &name, endpoint));
    let warnings = warnings(&before.config, &after.config);
    *changes = folded;
    let before = Box::new(merged.replace(&name, after));
    Ok((
        Changed {
            done: vec![done],
            warnings,
        },
        Touched::Pool { name, before },
    ))
}

fn find_in(merged: &Merged, pool: &str, endpoint: SocketAddr) -> bool {
    let pool = merged.config.pools.get(pool);
    pool.is_some_and(|pool| find(pool, endpoint).is_some())
}

/// One pool of a configuration, without the services in front of it.
fn part_of(config: &Config, pool: &str) -> Config {
    Config {
        dataplane: config.dataplane.clone(),
        pools: config
            .pools
            .get_key_value(pool)
            .map(|(name, pool)| (name.clone(), pool.clone()))
            .into_iter()
            .collect(),
        services: BTreeMap::new(),
    }
}

/// The changes of one pool's backends.
fn about(changes: &[Change], pool: &str) -> Vec<Change> {
    changes
        .iter()
        .filter(|change| change.backend().is_some_and(|(of, _)| of == pool))
        .cloned()
        .collect()
}

impl Merged {
    /// Takes over one pool from a merger that has nothing else; gives such a one with the pool as it
    /// was.
    pub fn replace(&mut self, name: &str, part: Self) -> Self {
        let before = Self {
            config: part_of(&self.config, name),
            admin: self
                .admin
                .extract_if(.., |(pool, _), _| pool == name)
                .collect(),
            removed: self
                .removed
                .extract_if(.., |(pool, _), _| pool == name)
                .collect(),
            stale: Vec::new(),
        };
        self.config.pools.extend(part.config.pools);
        self.admin.extend(part.admin);
        self.removed.extend(part.removed);
        before
    }
}

/// Warnings that hold for a configuration and did not for the one before.
fn warnings(before: &Config, after: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for (name, pool) in &after.pools {
        let Some(old) = before.pools.get(name).filter(|old| *old != pool) else {
            continue;
        };
        if let Some(warning) = uneven(pool).filter(|_| uneven(old).is_none()) {
            warnings.push(warning);
        }
        let serves = |pool: &crate::config::Pool| pool.backends.iter().any(|b| b.weight > 0);
        if serves(old) && !serves(pool) {
            warnings.push(format!(
                "pool `{name}` has no backend with a weight left: it gets no new connections"
            ));
        }
    }
    warnings
}
