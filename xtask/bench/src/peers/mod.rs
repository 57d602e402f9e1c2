//! xlb next to what people use on a plain kernel, with real traffic: processor time of client,
//! balancer and backend together.
//!
//! All of a contender runs on one processor, one contender at a time, and all take turns in rounds.
//! The time is that of the client's thread, of the servers' processes and of the kernel's threads for
//! soft interrupts; what soft interrupts do on top of a process is charged to it (see [`clock`]).

mod client;
mod config;
mod site;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::{
    client::{Work, work},
    config::{BULK_BYTES, BULK_PATH},
    site::{Kind, Offloads, Site},
};
use crate::{
    clock,
    progress::{self, say},
    statistics::{Interval, median},
};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds.
    rounds: usize,
    /// Connections of a run.
    connections: u64,
    /// Requests of a run on connections that stay open.
    requests: u64,
    /// Files of 16 MiB of a run.
    files: u64,
}

impl Effort {
    /// All of it.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            rounds: 11,
            connections: 4_000,
            requests: 20_000,
            files: 16,
        }
    }

    /// What fits into half a minute.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            rounds: 3,
            connections: 1_000,
            requests: 4_000,
            files: 4,
        }
    }
}

/// What a contender takes: medians, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct PeerEntry {
    /// Its name.
    pub name: String,
    /// A connection with one request.
    pub cpu_us_per_connection: f64,
    /// A request on a connection that stays open.
    pub cpu_us_per_request: f64,
    /// A MiB, where network devices do nothing for the hosts.
    pub cpu_us_per_mib: f64,
    /// A MiB, where they do what they do by default.
    pub cpu_us_per_mib_defaults: f64,
    /// As a multiple of what xlb takes in dnat mode in the same rounds.
    pub relative_to_xlb_dnat: Option<Relative>,
}

/// Multiples, a kind of work each.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Relative {
    /// Of a connection.
    pub connection: Ratio,
    /// Of a request.
    pub request: Ratio,
    /// Of a MiB without offloads.
    pub mib: Ratio,
}

/// A median of ratios, and where it lies.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// Where it lies.
    pub interval: Interval,
}

/// What is done in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Connections,
    Requests,
    Bytes,
}

/// Samples of a contender, in microseconds, a figure each round.
#[derive(Clone, Debug, Default)]
struct Samples {
    connection: Vec<f64>,
    request: Vec<f64>,
    mib: Vec<f64>,
    mib_defaults: Vec<f64>,
}

/// Measures all contenders.
///
/// # Errors
///
/// When a request fails: then a figure would mean nothing.
pub fn measure(agent: &Path, effort: &Effort) -> Result<Vec<PeerEntry>> {
    let mut sites = Vec::new();
    for kind in Kind::ALL {
        say(&format!("three hosts for {}", kind.name()));
        sites.push((Site::build(agent, kind), Samples::default()));
    }
    let _pinned = clock::Pinned::to_last();
    for (site, _) in &sites {
        site.set_offloads(Offloads::None);
    }
    say("real traffic, without offloads");
    for round in 0..effort.rounds {
        progress::step("round", round, effort.rounds);
        for (site, samples) in &mut sites {
            samples
                .connection
                .push(run(site, Task::Connections, effort)?);
            samples.request.push(run(site, Task::Requests, effort)?);
            samples.mib.push(run(site, Task::Bytes, effort)?);
        }
    }
    for (site, _) in &sites {
        site.set_offloads(Offloads::Defaults);
    }
    say("real traffic, with the defaults");
    for round in 0..effort.rounds {
        progress::step("round", round, effort.rounds);
        for (site, samples) in &mut sites {
            samples.mib_defaults.push(run(site, Task::Bytes, effort)?);
        }
    }
    let named: Vec<(String, Samples)> = sites
        .into_iter()
        .map(|(site, samples)| (site.kind.name(), samples))
        .collect();
    Ok(entries(&named))
}

/// Does a task and returns what one of its units took, in microseconds.
fn run(site: &Site, task: Task, effort: &Effort) -> Result<f64> {
    let (asked, units) = match task {
        Task::Connections => (("/", effort.connections, false), effort.connections as f64),
        Task::Requests => (("/", effort.requests, true), effort.requests as f64),
        Task::Bytes => {
            const MIB: f64 = (1 << 20) as f64;
            let mib = (effort.files * BULK_BYTES) as f64 / MIB;
            ((BULK_PATH, effort.files, true), mib)
        }
    };
    let (path, requests, keep_alive) = asked;
    let wanted = Work {
        target: site.target,
        path,
        requests,
        keep_alive,
    };
    let through_xlb = site.connections_through_xlb();
    let pids = site.pids();
    let time = site.client.run(|| -> Result<Duration> {
        // Caches, neighbours and sockets are as they are in the middle of it.
        work(&Work {
            requests: requests.div_ceil(20),
            ..wanted
        })?;
        let before = time(&pids);
        work(&wanted)?;
        Ok(time(&pids) - before)
    });
    let time = time.with_context(|| format!("{} with {task:?}", site.kind.name()))?;
    if let (Task::Connections, Some(before)) = (task, through_xlb) {
        let passed = site.connections_through_xlb().unwrap_or(0) - before;
        anyhow::ensure!(
            passed >= requests,
            "only {passed} of {requests} connections went through {}",
            site.kind.name()
        );
    }
    Ok(time.as_secs_f64() * 1e6 / units)
}

/// Time of this thread, of these processes, and of what belongs to none.
fn time(pids: &[u32]) -> Duration {
    let processes: Duration = pids.iter().map(|&pid| clock::of_process(pid)).sum();
    clock::of_thread() + processes + clock::of_soft_interrupts()
}

fn entries(samples: &[(String, Samples)]) -> Vec<PeerEntry> {
    let xlb = samples
        .iter()
        .find(|(name, _)| name == "xlb-dnat")
        .map(|(_, samples)| samples);
    samples
        .iter()
        .filter_map(|(name, samples)| {
            let relative = xlb.and_then(|xlb| {
                Some(Relative {
                    connection: ratio(&samples.connection, &xlb.connection)?,
                    request: ratio(&samples.request, &xlb.request)?,
                    mib: ratio(&samples.mib, &xlb.mib)?,
                })
            });
            Some(PeerEntry {
                name: name.clone(),
                cpu_us_per_connection: median(&samples.connection)?,
                cpu_us_per_request: median(&samples.request)?,
                cpu_us_per_mib: median(&samples.mib)?,
                cpu_us_per_mib_defaults: median(&samples.mib_defaults)?,
                relative_to_xlb_dnat: relative,
            })
        })
        .collect()
}

/// The median of what one took over what the other took in the same round.
fn ratio(of: &[f64], to: &[f64]) -> Option<Ratio> {
    let ratios: Vec<f64> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    Some(Ratio {
        median: median(&ratios)?,
        interval: Interval::of_median(&ratios)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_are_compared_within_rounds() {
        let samples = |times: [f64; 3]| Samples {
            connection: times.to_vec(),
            request: times.to_vec(),
            mib: times.to_vec(),
            mib_defaults: times.to_vec(),
        };
        // The second round is slow for everybody.
        let all = [
            ("haproxy-tcp".to_owned(), samples([180.0, 400.0, 190.0])),
            ("xlb-dnat".to_owned(), samples([100.0, 200.0, 100.0])),
        ];
        let entries = entries(&all);
        assert_eq!(entries[0].cpu_us_per_connection, 190.0);
        let relative = entries[0].relative_to_xlb_dnat.expect("xlb is there");
        assert!((relative.connection.median - 1.9).abs() < 1e-9);
        let own = entries[1].relative_to_xlb_dnat.expect("xlb is there");
        assert_eq!(own.mib.median, 1.0);
    }
}
