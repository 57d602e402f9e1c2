//! The tasks that probe, and their owner.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::sleep_until,
};

use super::{
    log_limit::LogLimit,
    machine::{Machine, Snapshot, State, Transition, Verdict},
    outcome::{Outcome, ProbeResult},
    probe,
    schedule::Schedule,
    tally::Tally,
};
use crate::config::{Check, CheckKind};

/// Most probes in flight that a checker is given: each holds a file open, so a process needs a limit
/// of open files (`RLIMIT_NOFILE`) above it.
pub const MAX_PROBES_IN_FLIGHT: usize = 4096;

/// What is probed and how. Equal targets are one, and are probed once, however many pools have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    address: SocketAddr,
    check: Check,
}

impl Target {
    /// The target of a backend's check. The check's own port, where it has one, takes the place of
    /// the backend's.
    #[must_use]
    pub fn new(endpoint: SocketAddr, check: &Check) -> Self {
        let port = check.port.unwrap_or(endpoint.port());
        Self {
            address: SocketAddr::new(endpoint.ip(), port),
            check: Check {
                port: None,
                ..check.clone()
            },
        }
    }

    /// Whether it is the target of a backend's check.
    #[must_use]
    pub fn is_of(&self, endpoint: SocketAddr, check: &Check) -> bool {
        let port = check.port.unwrap_or(endpoint.port());
        self.address == SocketAddr::new(endpoint.ip(), port)
            && self.check
                == Check {
                    port: None,
                    ..check.clone()
                }
    }

    /// Address and port that are probed.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How they are probed.
    #[must_use]
    pub const fn check(&self) -> &Check {
        &self.check
    }
}

/// News of a target: its state changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthEvent {
    /// The target.
    pub target: Target,
    /// The change.
    pub transition: Transition,
    /// What there was to say about the target right after it.
    pub snapshot: Snapshot,
}

type ProbeFuture = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type ProbeFn = dyn Fn(&Target) -> ProbeFuture + Send + Sync;

/// Probes a set of targets.
///
/// ```text
/// set_targets --spawns, aborts--> one task a target: sleep -> probe -> machine --events--> owner
/// snapshot    <------------------------- reads ------------------------'
/// ```
///
/// Only changes of state are events; everything else is read by [`Checker::snapshot`] when somebody
/// asks, so that a thousand results a second cost the owner nothing. An event may be older than the
/// last call of [`Checker::set_targets`]: the snapshot is the truth, the event a reason to look.
/// Dropping the checker ends its tasks.
pub struct Checker {
    shared: Arc<Shared>,
    watched: HashMap<Target, Watched>,
}

/// What all the tasks have in common.
struct Shared {
    events: mpsc::Sender<HealthEvent>,
    in_flight: Semaphore,
    local_trouble: Mutex<LogLimit>,
    probe: Box<ProbeFn>,
}

struct Watched {
    machine: Arc<Mutex<Machine>>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Checker {
    /// A checker without targets. Its events go to `events`; when that is full, the tasks that have
    /// something to tell wait. At most `in_flight` probes run at a time, later ones wait for their
    /// turn.
    #[must_use]
    pub fn new(events: mpsc::Sender<HealthEvent>, in_flight: usize) -> Self {
        Self::with_probe(events, in_flight, |target| match target.check.kind {
            CheckKind::Tcp => Box::pin(probe::connect(target.address, target.check.timeout)),
        })
    }

    fn with_probe(
        events: mpsc::Sender<HealthEvent>,
        in_flight: usize,
        probe: impl Fn(&Target) -> ProbeFuture + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                events,
                in_flight: Semaphore::new(in_flight.clamp(1, MAX_PROBES_IN_FLIGHT)),
                local_trouble: Mutex::default(),
                probe: Box::new(probe),
            }),
            watched: HashMap::new(),
        }
    }

    /// Makes `desired` the set of targets. Those that stay keep their state and their schedule;
    /// those that are new begin with the state given, if it is known from before.
    ///
    /// A new target without one takes over the state of a target that leaves and has the same
    /// address: another interval, say, is no reason to forget that a backend is down.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn set_targets(&mut self, desired: &HashMap<Target, Option<Verdict>>) {
        let leaving: Vec<Target> = self
            .watched
            .keys()
            .filter(|target| !desired.contains_key(*target))
            .cloned()
            .collect();
        self.change_targets(&leaving, desired);
    }

    /// As [`Self::set_targets`], for a set that differs from the one before by those that leave and
    /// those that come; a target that comes and is there already stays as it is.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn change_targets(
        &mut self,
        leaving: &[Target],
        coming: &HashMap<Target, Option<Verdict>>,
    ) {
        let left = self.remove(leaving);
        let added: Vec<(&Target, Option<Verdict>)> = coming
            .iter()
            .filter(|(target, _)| !self.watched.contains_key(*target))
            .map(|(target, known)| (target, known.or(left.get(&target.address).copied())))
            .collect();
        let count = u32::try_from(added.len()).unwrap_or(u32::MAX);
        let now = tokio::time::Instant::now().into_std();
        for (place, (target, known)) in (0..).zip(added) {
            let (interval, phase) = (target.check.interval, rand::random::<f64>());
            let (machine, schedule) = match known {
                None => (
                    Machine::new(&target.check, now),
                    Schedule::deciding(interval, place, count, phase, now),
                ),
                Some(verdict) => (
                    Machine::adopted(&target.check, verdict, now),
                    Schedule::adopted(interval, phase, now),
                ),
            };
            let watched = self.watch(target, machine, schedule);
            self.watched.insert(target.clone(), watched);
        }
    }

    /// Removes targets; returns what was known of their addresses. Where two of them differed, the
    /// address was well by the one that is easier to please.
    fn remove(&mut self, leaving: &[Target]) -> HashMap<SocketAddr, Verdict> {
        let mut left = HashMap::new();
        for target in leaving {
            let Some(watched) = self.watched.remove(target) else {
                continue;
            };
            match lock(&watched.machine).snapshot().state {
                State::Up => {
                    left.insert(target.address, Verdict::Up);
                }
                State::Down => {
                    left.entry(target.address).or_insert(Verdict::Down);
                }
                State::Unknown => {}
            }
        }
        left
    }

    fn watch(&self, target: &Target, machine: Machine, schedule: Schedule) -> Watched {
        let machine = Arc::new(Mutex::new(machine));
        let task = tokio::spawn(watch(
            Arc::clone(&self.shared),
            target.clone(),
            Arc::clone(&machine),
            schedule,
        ));
        Watched { machine, task }
    }

    /// What there is to say about a target. `None`: it is not one of the set.
    #[must_use]
    pub fn snapshot(&self, target: &Target) -> Option<Snapshot> {
        let watched = self.watched.get(target)?;
        Some(lock(&watched.machine).snapshot().clone())
    }

    /// What the probes of a target came to. `None`: it is not one of the set.
    #[must_use]
    pub fn tally(&self, target: &Target) -> Option<Tally> {
        let watched = self.watched.get(target)?;
        Some(lock(&watched.machine).tally().clone())
    }

    /// The state of a target, for those who need no more of it. `None`: it is not one of the set.
    #[must_use]
    pub fn state(&self, target: &Target) -> Option<State> {
        let watched = self.watched.get(target)?;
        Some(lock(&watched.machine).snapshot().state)
    }
}

/// Locks what no one holds for longer than it takes to copy it. A value behind a lock is whole
/// between any two statements here, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Probes one target until it is aborted, or nobody takes events any more.
async fn watch(
    shared: Arc<Shared>,
    target: Target,
    machine: Arc<Mutex<Machine>>,
    mut schedule: Schedule,
) {
    loop {
        sleep_until(schedule.due().into()).await;
        let Ok(permit) = shared.in_flight.acquire().await else {
            return;
        };
        let outcome = (shared.probe)(&target).await;
        drop(permit);

        let now = tokio::time::Instant::now().into_std();
        schedule.ended(now);
        shared.log_local_trouble(&target, &outcome, now);
        let news = {
            let mut machine = lock(&machine);
            let transition = machine.on_result(&outcome, now);
            transition.map(|transition| (transition, machine.snapshot().clone()))
        };
        if let Some((transition, snapshot)) = news {
            log(&target, &transition);
            let event = HealthEvent {
                target: target.clone(),
                transition,
                snapshot,
            };
            if shared.events.send(event).await.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    fn log_local_trouble(&self, target: &Target, outcome: &Outcome, now: Instant) {
        let ProbeResult::Local(detail) = &outcome.result else {
            return;
        };
        if let Some(suppressed) = lock(&self.local_trouble).admit(now) {
            tracing::warn!(
                backend = %target.address,
                detail,
                suppressed,
                "this host could not probe a backend, whose state stays as it was"
            );
        }
    }
}

fn log(target: &Target, transition: &Transition) {
    let Transition {
        from,
        to,
        code,
        detail,
        results_in_a_row,
        ..
    } = transition;
    let backend = target.address;
    match to {
        State::Down => tracing::warn!(
            %backend, %from, reason = %code, detail = %detail, results_in_a_row,
            "backend is down"
        ),
        State::Up | State::Unknown => tracing::info!(
            %backend, %from, reason = %code, detail = %detail, results_in_a_row,
            "backend is {to}"
        ),
    }
}

#[cfg(test)]
mod tests;
