//! The control plane: how long the agent takes to start and to apply a change, and what it needs.
//!
//! A change is timed from outside: from the line of the agent's log that says what was asked or
//! found, to the last slot that was seen to change in the memory that the program reads. The state
//! directory is in memory; on a disk, a change waits for that first.

mod plan;
mod stage;
mod watch;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use serde::Serialize;
use xlb_agent::ring;

use self::{
    plan::{POOL, Plan},
    stage::Stage,
    watch::Slots,
};
use crate::{
    clock,
    progress::{self, say},
    statistics::{Summary, median},
};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Numbers of services that are compared.
    services: Vec<u32>,
    /// A number of services that is too large for many trials.
    many_services: Option<u32>,
    /// Trials of each change.
    trials: usize,
    /// Starts of each size.
    starts: usize,
    /// Backends and slots of single pools.
    pools: Vec<(u32, u32)>,
    /// For how long the agent is watched at rest.
    rest: Duration,
}

/// Backends of each of many services.
const BACKENDS: u32 = 10;
/// Backends of each where there are so many services that ten each would be more than xlb takes.
const FEWER_BACKENDS: u32 = 5;
/// The default size of a ring.
const RING_SLOTS: u32 = 16_381;
/// A small ring, for many services.
const SMALL_RING_SLOTS: u32 = 1_021;
/// The sizes of Maglev's paper (NSDI'16, section 5.3).
const MAGLEV_SLOTS: [u32; 2] = [65_537, 655_373];
/// Time from probe to probe where a failure is to be noticed soon.
const FAST_CHECK_MS: u32 = 50;
/// Time from probe to probe of larger pools.
const CHECK_MS: u32 = 1_000;
/// Backends that are probed while the agent is at rest, and in the pools that the bounds are about.
const PROBED: u32 = 1_000;

impl Effort {
    /// All of it.
    #[must_use]
    pub fn full() -> Self {
        Self {
            services: vec![1, 100, 1_000],
            many_services: Some(10_000),
            trials: 15,
            starts: 5,
            pools: vec![
                (10, MAGLEV_SLOTS[0]),
                (100, MAGLEV_SLOTS[0]),
                (PROBED, MAGLEV_SLOTS[0]),
                (10_000, MAGLEV_SLOTS[1]),
            ],
            rest: Duration::from_secs(20),
        }
    }

    /// What fits into half a minute.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            services: vec![1, 100, 1_000],
            many_services: None,
            trials: 5,
            starts: 1,
            pools: vec![(10, MAGLEV_SLOTS[0]), (PROBED, MAGLEV_SLOTS[0])],
            rest: Duration::from_secs(5),
        }
    }
}

/// What was measured. Times are in milliseconds, medians unless they are summaries.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Control {
    /// By number of services.
    pub services: Vec<Services>,
    /// By size of one pool.
    pub pools: Vec<PoolTimes>,
    /// Time to build a ring.
    pub ring: Vec<RingBuild>,
    /// The agent at rest.
    pub rest: Option<Rest>,
}

/// A configuration of so many services.
#[derive(Clone, Debug, Serialize)]
pub struct Services {
    /// Services.
    pub services: u32,
    /// Backends of each.
    pub backends_each: u32,
    /// From nothing to the first answer, all in the maps.
    pub start_ms: Summary,
    /// The same where an earlier agent's maps are adopted.
    pub restart_ms: Summary,
    /// A backend's weight by the control API, to the answer.
    pub change_api_ms: Summary,
    /// The same by the command line, to its end.
    pub change_cli_ms: Option<Summary>,
    /// The same from the agent's decision to the last slot.
    pub change_apply_ms: Option<Summary>,
    /// From the finding that a backend is down to the last slot.
    pub failover_apply_ms: Option<Summary>,
    /// Memory.
    pub memory: Memory,
}

/// Memory of the agent and of its maps, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Of the agent alone.
    pub agent_mib: f64,
    /// Of the maps, in the kernel.
    pub maps_mib: f64,
}

/// One pool.
#[derive(Clone, Debug, Serialize)]
pub struct PoolTimes {
    /// Its backends.
    pub backends: u32,
    /// Slots of its ring.
    pub slots: u32,
    /// A backend's weight, from the agent's decision to the last slot.
    pub change_apply_ms: Option<Summary>,
    /// From the finding that a backend is down to the last slot.
    pub failover_apply_ms: Option<Summary>,
    /// Memory.
    pub memory: Memory,
}

/// The time to build a ring.
#[derive(Clone, Debug, Serialize)]
pub struct RingBuild {
    /// Backends.
    pub backends: u32,
    /// Slots.
    pub slots: u32,
    /// Time.
    pub build_ms: Summary,
}

/// The agent at rest.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rest {
    /// Backends that are probed once a second.
    pub backends: u32,
    /// Share of one processor.
    pub cpu_percent: f64,
    /// Processor time of a probe.
    pub cpu_us_per_probe: f64,
}

/// Measures the control plane with this agent.
#[must_use]
pub fn measure(agent: &Path, effort: &Effort) -> Control {
    let mut control = Control {
        ring: ring_builds(effort.trials),
        ..Control::default()
    };
    control.services = by_services(agent, effort);
    for &(backends, slots) in &effort.pools {
        let (times, rest) = by_pool(agent, effort, backends, slots);
        control.pools.push(times);
        control.rest = control.rest.or(rest);
    }
    control
}

fn ring_builds(trials: usize) -> Vec<RingBuild> {
    say("the time to build a ring");
    MAGLEV_SLOTS
        .into_iter()
        .map(|slots| {
            let members: Vec<ring::Member> = (1..=1_000_u16)
                .map(|number| ring::Member {
                    identity: SocketAddr::new(
                        Ipv4Addr::from_bits(u32::from(number) + (10 << 24)).into(),
                        80,
                    ),
                    weight: 1,
                    number,
                })
                .collect();
            let mut ring = vec![0; slots as usize];
            let times: Vec<Duration> = (0..trials)
                .map(|_| {
                    let started = Instant::now();
                    ring::build([7; 16], &members, &mut ring);
                    started.elapsed()
                })
                .collect();
            RingBuild {
                backends: 1_000,
                slots,
                build_ms: milliseconds(&times).expect("there are trials"),
            }
        })
        .collect()
}

/// All sizes at once, so that what disturbs the machine disturbs them alike.
fn by_services(agent: &Path, effort: &Effort) -> Vec<Services> {
    let plan = |services| Plan {
        services,
        backends: BACKENDS,
        ring_slots: RING_SLOTS,
        check_ms: Some(FAST_CHECK_MS),
    };
    let mut sizes: Vec<Size> = effort
        .services
        .iter()
        .map(|&services| Size::start(agent, plan(services), effort.starts))
        .collect();
    for trial in 0..effort.trials {
        progress::step("changes", trial, effort.trials);
        for size in &mut sizes {
            size.change(trial);
            size.change_by_command(trial);
            size.fail_over();
        }
    }
    let mut measured: Vec<Services> = sizes.into_iter().map(Size::finish).collect();
    if let Some(services) = effort.many_services {
        let plan = Plan {
            services,
            backends: FEWER_BACKENDS,
            ring_slots: SMALL_RING_SLOTS,
            check_ms: None,
        };
        let mut size = Size::start(agent, plan, 1);
        for trial in 0..3 {
            size.change(trial);
        }
        measured.push(size.finish());
    }
    measured
}

/// A configuration under measurement.
struct Size {
    stage: Stage,
    slots: std::sync::Arc<Slots>,
    starts: Vec<Duration>,
    restarts: Vec<Duration>,
    api: Vec<Duration>,
    cli: Vec<Duration>,
    applied: Vec<Duration>,
    failed_over: Vec<Duration>,
}

impl Size {
    fn start(agent: &Path, plan: Plan, starts: usize) -> Self {
        say(&format!(
            "{} services of {} backends",
            plan.services, plan.backends
        ));
        let mut stage = Stage::build(agent, plan);
        let (mut fresh, mut again) = (Vec::new(), Vec::new());
        for start in 0..starts {
            if start > 0 {
                stage.daemon.stop();
                stage.daemon.agent().unload();
            }
            fresh.push(stage.start());
            stage.daemon.stop();
            again.push(stage.start());
        }
        if plan.check_ms.is_some() {
            stage.wait_until_probed();
        }
        Self {
            slots: Slots::open(&stage.daemon, POOL),
            stage,
            starts: fresh,
            restarts: again,
            api: Vec::new(),
            cli: Vec::new(),
            applied: Vec::new(),
            failed_over: Vec::new(),
        }
    }

    fn change(&mut self, trial: usize) {
        let times = self.stage.change(&self.slots, weight(trial));
        self.api.push(times.api);
        self.applied.extend(times.apply);
    }

    fn change_by_command(&mut self, trial: usize) {
        self.cli
            .extend(self.stage.change_by_command(weight(trial) + 2));
    }

    fn fail_over(&mut self) {
        self.failed_over.extend(self.stage.fail_over(&self.slots));
    }

    fn finish(self) -> Services {
        Services {
            services: self.stage.plan.services,
            backends_each: self.stage.plan.backends,
            start_ms: milliseconds(&self.starts).expect("it was started"),
            restart_ms: milliseconds(&self.restarts).expect("it was started again"),
            change_api_ms: milliseconds(&self.api).expect("it was changed"),
            change_cli_ms: milliseconds(&self.cli),
            change_apply_ms: milliseconds(&self.applied),
            failover_apply_ms: milliseconds(&self.failed_over),
            memory: memory(&self.stage),
        }
    }
}

fn by_pool(agent: &Path, effort: &Effort, backends: u32, slots: u32) -> (PoolTimes, Option<Rest>) {
    say(&format!("a pool of {backends} backends and {slots} slots"));
    let check_ms = match backends {
        0..PROBED => Some(FAST_CHECK_MS),
        PROBED => Some(CHECK_MS),
        _ => None,
    };
    let plan = Plan {
        services: 1,
        backends,
        ring_slots: slots,
        check_ms,
    };
    let mut stage = Stage::build(agent, plan);
    stage.start();
    if check_ms.is_some() {
        stage.wait_until_probed();
    }
    let rest = (backends == PROBED).then(|| at_rest(&stage, effort.rest));
    let watched = Slots::open(&stage.daemon, POOL);
    let (mut applied, mut failed_over) = (Vec::new(), Vec::new());
    for trial in 0..effort.trials {
        applied.extend(stage.change(&watched, weight(trial)).apply);
        if check_ms.is_some() {
            failed_over.extend(stage.fail_over(&watched));
        }
    }
    let times = PoolTimes {
        backends,
        slots,
        change_apply_ms: milliseconds(&applied),
        failover_apply_ms: milliseconds(&failed_over),
        memory: memory(&stage),
    };
    (times, rest)
}

fn at_rest(stage: &Stage, time: Duration) -> Rest {
    let pid = stage.daemon.pid();
    let (started, before) = (Instant::now(), clock::of_process(pid));
    std::thread::sleep(time);
    let used = clock::of_process(pid) - before;
    let wall = started.elapsed().as_secs_f64();
    let share = used.as_secs_f64() / wall;
    Rest {
        backends: PROBED,
        cpu_percent: share * 100.0,
        cpu_us_per_probe: share * 1e6 / f64::from(PROBED),
    }
}

/// Weights that take turns, so that every change changes something.
fn weight(trial: usize) -> u16 {
    if trial.is_multiple_of(2) { 2 } else { 1 }
}

fn memory(stage: &Stage) -> Memory {
    const MIB: f64 = 1024.0 * 1024.0;
    let status = stage
        .daemon
        .call(async |client| client.status().await)
        .unwrap_or_else(|error| panic!("ask for the status: {error}"));
    let maps: u64 = status.maps.iter().map(|map| map.bytes).sum();
    Memory {
        agent_mib: anonymous_kib(stage.daemon.pid()) / 1024.0,
        maps_mib: maps as f64 / MIB,
    }
}

/// Memory that belongs to a process alone; the maps that it maps are not among it.
fn anonymous_kib(pid: u32) -> f64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or_else(|| panic!("{path} has no RssAnon"))
}

fn milliseconds(times: &[Duration]) -> Option<Summary> {
    let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    Summary::of(&times)
}

/// How a change's cost grows with the number of services: the median at the most over that at one.
#[must_use]
pub fn growth(services: &[Services], of: impl Fn(&Services) -> Option<Summary>) -> Option<f64> {
    let of_many = |at: &Services| (at.services > 1).then(|| of(at)).flatten();
    let one: Vec<f64> = services
        .iter()
        .filter(|at| at.services == 1)
        .filter_map(|at| Some(of(at)?.median))
        .collect();
    let largest = services.iter().filter_map(of_many).map(|s| s.median);
    Some(largest.reduce(f64::max)? / median(&one)?)
}
