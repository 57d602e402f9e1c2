//! What the daemon tells of itself.

mod backends;
pub(super) mod drops;
mod nat;
pub(super) mod pinned;
mod pools;
mod services;

use std::{collections::BTreeMap, time::Instant};

use tokio::sync::oneshot;
use xlb_common::{maps::feature, reason::Reason};
use xlb_control::{
    api::{
        BackendState, ChangeStatus, Counters, InterfaceStatus, LastReload, MapStatus, PoolStatus,
        ProgramStatus, ReasonCount, RecentDrops, ServiceHealth, ServiceStatus, Status,
    },
    config::{Forward, overrides},
};

use super::Daemon;
use crate::dataplane;

impl Daemon {
    /// Answers with the status. Records are counted in a thread of their own: a million of them take
    /// longer than the event loop may stand still.
    pub(super) fn answer_status(&self, reply: oneshot::Sender<Status>) {
        let mut status = self.status();
        let records = self.engine.dataplane.records();
        tokio::task::spawn_blocking(move || {
            match records.and_then(|records| records.count()) {
                Ok(counts) => {
                    for (name, used) in counts {
                        let map = status.maps.iter_mut().find(|map| map.name == name);
                        if let Some(map) = map {
                            map.used = Some(used);
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "counting records"),
            }
            // Whoever asked may have gone.
            let _ = reply.send(status);
        });
    }

    /// The status, without the number of records.
    pub(super) fn status(&self) -> Status {
        let services = self.service_list();
        let dataplane = self.engine.dataplane.status();
        let (program, interfaces, maps) = match dataplane {
            Ok(status) => (
                program_status(&status.program),
                self.interfaces(&status.interfaces),
                map_status(&status.maps),
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
        let pools: Vec<PoolStatus> = self
            .merged
            .config
            .pools
            .values()
            .map(|pool| self.pool_status(pool))
            .collect();
        let mut services_by_health = BTreeMap::new();
        for service in &services {
            *services_by_health.entry(service.health).or_default() += 1;
        }
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            config: self.options.config.display().to_string(),
            config_revision: self.revision,
            config_sha256: self.file_sha256.clone(),
            last_reload: self.last_reload.map(|(at, accepted)| LastReload {
                ago_s: at.elapsed().as_secs(),
                accepted,
            }),
            last_reload_error: self.last_reload_error.clone(),
            health: services
                .iter()
                .map(|service| service.health)
                .max()
                .unwrap_or(ServiceHealth::Up),
            program,
            interfaces,
            services_by_health,
            backends_by_state: self.backends_by_state(),
            moving_slots: pools.iter().map(|pool| u64::from(pool.moving_slots)).sum(),
            pools,
            recent_drops: self.recent_drops(),
            reasons: self.reasons(&services),
            services,
            changes: self.changes_kept(),
            maps,
        }
    }

    fn backends_by_state(&self) -> BTreeMap<BackendState, u32> {
        let mut states = BTreeMap::new();
        for pool in self.merged.config.pools.values() {
            for backend in &pool.backends {
                let endpoint = backend.endpoint();
                let entry = self.engine.backend(&pool.name, endpoint);
                let flags = entry.map_or(0, |(_, entry)| entry.flags);
                let state = self.state_of(pool, endpoint, flags);
                *states.entry(state).or_default() += 1;
            }
        }
        states
    }

    fn recent_drops(&self) -> RecentDrops {
        let counted = self.engine.dataplane.maps().reasons.reasons();
        counted.map_or_else(
            |_| RecentDrops::default(),
            |counts| self.drops.since(&counts, Instant::now()),
        )
    }

    /// Notes from time to time what was dropped so far.
    pub(super) fn note_drops(&mut self) {
        let now = Instant::now();
        if !self.drops.is_due(now) {
            return;
        }
        match self.engine.dataplane.maps().reasons.reasons() {
            Ok(counts) => self.drops.add(counts, now),
            Err(error) => tracing::error!(%error, "reading the counters of reasons"),
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

    fn interfaces(&self, attached: &[dataplane::InterfaceStatus]) -> Vec<InterfaceStatus> {
        let mode = |ifindex: u32| {
            let found = attached
                .iter()
                .find(|interface| interface.ifindex == ifindex);
            found
                .and_then(|interface| interface.mode)
                .map_or_else(|| "detached".to_owned(), |mode| mode.name().to_owned())
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
            .filter(|service| service.forward != Forward::Local)
            .map(|service| service.counters.packets + service.counters.reply_packets);
        let forwarded = [(Reason::Transmitted, forwarded.sum())];
        reason_counts(forwarded.into_iter().chain(counted))
    }
}

/// Packets by reason, those that are not 0.
fn reason_counts(counted: impl IntoIterator<Item = (Reason, u64)>) -> Vec<ReasonCount> {
    counted
        .into_iter()
        .filter(|&(_, packets)| packets > 0)
        .map(|(reason, packets)| ReasonCount {
            reason: reason.name().to_owned(),
            action: reason.action().name().to_owned(),
            packets,
        })
        .collect()
}

fn program_status(program: &dataplane::ProgramStatus) -> ProgramStatus {
    let features = feature::ALL.iter();
    ProgramStatus {
        id: program.id,
        features: features
            .filter(|(bit, _)| program.features & bit != 0)
            .map(|&(_, name)| name.to_owned())
            .collect(),
        translated_bytes: program.translated_bytes,
        jited_bytes: program.jited_bytes,
        verified_instructions: program.verified_instructions,
    }
}

fn map_status(maps: &[dataplane::MapStatus]) -> Vec<MapStatus> {
    let maps = maps.iter();
    maps.map(|map| MapStatus {
        name: map.name.to_owned(),
        used: map.used,
        capacity: map.entries,
        bytes: map.memory_bytes.unwrap_or(0),
    })
    .collect()
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
