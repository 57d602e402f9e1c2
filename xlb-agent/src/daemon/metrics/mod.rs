//! Metrics for Prometheus: read when somebody asks, on the control socket and, where the operator
//! wants it, at an address.

mod encode;
mod families;
mod process;

use std::{net::SocketAddr, time::SystemTime};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use xlb_common::{maps::name, reason::Reason};
use xlb_control::{
    api::{BackendStatus, Counters, NatSourceStatus, Status},
    health::{Tally, Target},
};

use super::{Daemon, api::Command};
use crate::engine::{self, goal};

/// What one answer is made of.
#[derive(Debug)]
pub struct Sample {
    status: Status,
    backends: Vec<BackendStatus>,
    /// Traffic of backends under each service.
    traffic: Vec<Traffic>,
    /// Probes of backends.
    probes: Vec<Probes>,
    /// Packets by reason, but for those that are counted by attachment.
    reasons: Vec<(Reason, u64)>,
    /// Ports of `full-nat`.
    nat: Vec<NatSourceStatus>,
    reloads: Reloads,
    started: SystemTime,
}

#[derive(Debug)]
struct Traffic {
    service: String,
    pool: String,
    backend: SocketAddr,
    counters: Counters,
}

#[derive(Debug)]
struct Probes {
    pool: String,
    backend: SocketAddr,
    tally: Tally,
}

/// What became of configurations since the agent started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reloads {
    /// Whether the last one was taken.
    pub(super) last_was_taken: bool,
    /// When one was taken last.
    pub(super) last_taken: SystemTime,
    /// How many were refused.
    pub(super) refused: u64,
}

impl Reloads {
    /// The file was taken at the start.
    pub(super) fn at_start() -> Self {
        Self {
            last_was_taken: true,
            last_taken: SystemTime::now(),
            refused: 0,
        }
    }

    pub(super) fn add(&mut self, taken: bool) {
        self.last_was_taken = taken;
        if taken {
            self.last_taken = SystemTime::now();
        } else {
            self.refused += 1;
        }
    }
}

impl Daemon {
    /// What there is to measure.
    pub(super) fn sample(&self) -> Sample {
        let mut status = self.status();
        // Records are counted in rounds; to count them for every scrape would take a CPU.
        let recorded = self.engine.last_count();
        for map in &mut status.maps {
            if map.name == name::PENDING {
                map.used = Some(recorded.pending);
            } else if map.name == name::FLOWS {
                map.used = Some(recorded.flows);
            }
        }
        let reasons = self.engine.dataplane.maps().reasons.reasons();
        Sample {
            status,
            backends: self.backend_list(),
            traffic: self.traffic(),
            probes: self.probes_made(),
            reasons: reasons.unwrap_or_default().into_iter().collect(),
            nat: self.nat_usage(),
            reloads: self.reloads,
            started: self.started_at,
        }
    }

    fn traffic(&self) -> Vec<Traffic> {
        let mut traffic = Vec::new();
        for service in self.merged.config.services.values() {
            let key = engine::key_of(&goal::of_service(service));
            let (Some((_, entry)), Some(pool)) = (
                self.engine.services.get(&key),
                self.engine.pools.get(&service.pool),
            ) else {
                continue;
            };
            traffic.extend(pool.backends.values().map(|backend| Traffic {
                service: service.name.clone(),
                pool: service.pool.clone(),
                backend: crate::endpoint::of(backend),
                counters: self.engine.counters(entry, backend),
            }));
        }
        traffic
    }

    fn probes_made(&self) -> Vec<Probes> {
        let mut probes = Vec::new();
        for pool in self.merged.config.pools.values() {
            let Some(check) = &pool.check else { continue };
            for backend in &pool.backends {
                let target = Target::new(backend.endpoint(), check);
                if let Some(tally) = self.probes.checker.tally(&target) {
                    probes.push(Probes {
                        pool: pool.name.clone(),
                        backend: backend.endpoint(),
                        tally,
                    });
                }
            }
        }
        probes
    }
}

/// Serves metrics at an address until the process ends.
///
/// # Errors
///
/// The address can't be listened at.
pub(super) async fn serve(
    address: SocketAddr,
    sender: mpsc::Sender<Command>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listen for scrapes of metrics at {address} (--metrics)"))?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!("metrics are at http://{address}/metrics");
    let router = Router::new()
        .route("/metrics", get(answer))
        .with_state(sender);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

/// Answers a scrape.
pub(super) async fn answer(State(sender): State<mpsc::Sender<Command>>) -> Response {
    const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let (reply, answer) = oneshot::channel();
    if sender.send(Command::Metrics(reply)).await.is_err() {
        return super::api::stopping();
    }
    let Ok(sample) = answer.await else {
        return super::api::stopping();
    };
    match encode::text(*sample) {
        Ok(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => super::api::failed(&format!("write the metrics: {error}")),
    }
}
