//! What the demonstration measured, and what must hold of it.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use super::stage::{CHECK_FALL, CHECK_INTERVAL_MS, CHECK_TIMEOUT_MS};
use crate::lab::{KeepAliveConnection, Request};

/// What probing, deciding and the machine may add to the time that the check itself takes.
const FAILOVER_MARGIN_MS: f64 = 150.0;

/// Bound of the time from a fault to the start of the last request that failed.
pub(super) fn failover_bound_ms() -> f64 {
    f64::from(CHECK_INTERVAL_MS * CHECK_FALL + CHECK_TIMEOUT_MS) + FAILOVER_MARGIN_MS
}

/// All of it, as `--json` prints it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// New connections that the client began, each with one request.
    pub(super) requests: u64,
    /// Requests that failed before there was a fault.
    pub(super) failed_before_fault: u64,
    /// Answers by backend.
    pub(super) per_backend: BTreeMap<String, u64>,
    /// The smallest share of the requests that a backend got before any fault.
    pub(super) smallest_share: f64,
    pub(super) failover_ms: FailoverMs,
    pub(super) keep_alive: KeptConnections,
    pub(super) drain: Drain,
    pub(super) agent_kill: AgentKill,
    /// What should have held and did not.
    pub(super) failed_expectations: Vec<String>,
    /// Whether everything held.
    pub(super) ok: bool,
}

/// Start of the last request that failed, after the fault; `None` if none did.
#[derive(Debug, Default, Serialize)]
pub(super) struct FailoverMs {
    pub(super) kill: Option<f64>,
    pub(super) blackhole: Option<f64>,
}

/// Connections that stayed open while backends were killed and cut off.
#[derive(Debug, Default, Serialize)]
pub(super) struct KeptConnections {
    pub(super) connections: u64,
    /// Broke with the backend that they were on, which nobody can help.
    pub(super) broken_with_their_backend: u64,
    /// Broke although their backend was well.
    pub(super) broken_elsewhere: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Drain {
    /// New connections that reached the backend although it drained.
    pub(super) new_connections_after: u64,
    /// Open connections to the backend when the drain began.
    pub(super) kept_connections: u64,
    /// Connections, to any backend, that broke.
    pub(super) broken: u64,
    /// Requests that failed.
    pub(super) requests_failed: u64,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct AgentKill {
    /// UDP datagrams sent while the agent was killed, dead, and started again.
    pub(super) packets_sent: u64,
    /// Those that were not echoed.
    pub(super) packets_lost: u64,
    /// Requests over TCP that failed in that time.
    pub(super) requests_failed: u64,
}

/// A line of the summary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expectation {
    pub(super) what: &'static str,
    pub(super) measured: String,
    pub(super) required: String,
    pub(super) holds: bool,
}

impl Report {
    /// Counts requests and answers.
    pub(super) fn count(&mut self, requests: &[Request]) {
        self.requests += requests.len() as u64;
        for backend in requests.iter().filter_map(Request::backend) {
            *self.per_backend.entry(backend.to_owned()).or_default() += 1;
        }
    }

    /// Counts what became of kept connections while `backend` failed.
    pub(super) fn count_kept(&mut self, connections: &[KeepAliveConnection], backend: &str) {
        for connection in connections {
            self.keep_alive.connections += 1;
            let its_own = connection.backend == backend;
            if connection.broken.is_some() {
                self.keep_alive.broken_with_their_backend += u64::from(its_own);
                self.keep_alive.broken_elsewhere += u64::from(!its_own);
            }
        }
    }

    /// Sets `ok` and `failed_expectations`, once everything has been shown.
    pub(super) fn conclude(&mut self) {
        let failed = self.expectations().into_iter().filter(|row| !row.holds);
        self.failed_expectations = failed
            .map(|row| {
                format!(
                    "{}: {}, required is {}",
                    row.what, row.measured, row.required
                )
            })
            .collect();
        self.ok = self.failed_expectations.is_empty();
    }

    /// Sets them when something went wrong that is no measurement.
    pub(super) fn give_up(&mut self, why: &str) {
        self.failed_expectations = vec![why.to_owned()];
        self.ok = false;
    }

    /// What must hold.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        vec![
            none(
                "requests that failed before a fault",
                self.failed_before_fault,
            ),
            Expectation {
                what: "smallest share of a backend, of three",
                measured: format!("{:.0} %", self.smallest_share * 100.0),
                required: "at least 20 %".into(),
                holds: self.smallest_share >= 0.2,
            },
            failover("last failed request after a kill", self.failover_ms.kill),
            failover(
                "last failed request after a black hole",
                self.failover_ms.blackhole,
            ),
            none(
                "kept connections broken on other backends",
                self.keep_alive.broken_elsewhere,
            ),
            none(
                "new connections to a draining backend",
                self.drain.new_connections_after,
            ),
            Expectation {
                what: "kept connections on the draining backend",
                measured: self.drain.kept_connections.to_string(),
                required: "at least 1".into(),
                holds: self.drain.kept_connections >= 1,
            },
            none("connections broken by the drain", self.drain.broken),
            none(
                "requests that failed in the drain",
                self.drain.requests_failed,
            ),
            Expectation {
                what: "packets sent while the agent was dead",
                measured: self.agent_kill.packets_sent.to_string(),
                required: "at least 1".into(),
                holds: self.agent_kill.packets_sent >= 1,
            },
            none("packets lost with the agent", self.agent_kill.packets_lost),
            none(
                "requests that failed with the agent",
                self.agent_kill.requests_failed,
            ),
        ]
    }
}

fn none(what: &'static str, count: u64) -> Expectation {
    Expectation {
        what,
        measured: count.to_string(),
        required: "0".into(),
        holds: count == 0,
    }
}

/// A fault after which nothing failed was not applied.
fn failover(what: &'static str, measured_ms: Option<f64>) -> Expectation {
    let bound_ms = failover_bound_ms();
    Expectation {
        what,
        measured: measured_ms.map_or_else(|| "none failed".into(), |ms| format!("{ms:.0} ms")),
        required: format!("at most {bound_ms:.0} ms"),
        holds: measured_ms.is_some_and(|ms| ms <= bound_ms),
    }
}

/// Requests that had failed when the fault came.
pub(super) fn failed_before(requests: &[Request], fault: Instant) -> u64 {
    let failed = requests
        .iter()
        .filter(|request| request.failed() && request.ended < fault);
    failed.count() as u64
}

/// Requests that failed.
pub(super) fn failed(requests: &[Request]) -> u64 {
    requests.iter().filter(|request| request.failed()).count() as u64
}

/// Start of the last request that failed after the fault, in milliseconds after the fault; less
/// than 0 if it was under way when the fault came. `None` if none failed.
pub(super) fn failover_ms(requests: &[Request], fault: Instant) -> Option<f64> {
    let failed = requests
        .iter()
        .filter(|request| request.failed() && request.ended >= fault);
    let last = failed.map(|request| request.started).max()?;
    let ms = if last >= fault {
        (last - fault).as_secs_f64() * 1e3
    } else {
        (fault - last).as_secs_f64() * -1e3
    };
    Some((ms * 10.0).round() / 10.0)
}

/// The smallest share of the answers that one of `backends` gave.
pub(super) fn smallest_share<'a>(
    requests: &[Request],
    backends: impl Iterator<Item = &'a str>,
) -> f64 {
    let count = |name| {
        requests
            .iter()
            .filter(|request| request.backend() == Some(name))
            .count()
    };
    let least = backends.map(count).min().unwrap_or(0);
    least as f64 / requests.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lab::Outcome;

    fn request(start: Instant, started_ms: u64, took_ms: u64, answered: bool) -> Request {
        let started = start + Duration::from_millis(started_ms);
        Request {
            started,
            ended: started + Duration::from_millis(took_ms),
            outcome: if answered {
                Outcome::Answered("web1".into())
            } else {
                Outcome::TimedOut
            },
        }
    }

    /// A report of which everything holds.
    fn sound() -> Report {
        Report {
            smallest_share: 0.3,
            failover_ms: FailoverMs {
                kill: Some(200.0),
                blackhole: Some(450.0),
            },
            drain: Drain {
                kept_connections: 3,
                ..Drain::default()
            },
            agent_kill: AgentKill {
                packets_sent: 4000,
                ..AgentKill::default()
            },
            ..Report::default()
        }
    }

    #[test]
    fn failover_is_the_start_of_the_last_failure_after_the_fault() {
        let start = Instant::now();
        let fault = start + Duration::from_millis(100);
        let requests = [
            request(start, 10, 5, false),
            request(start, 90, 200, false),
            request(start, 150, 200, false),
            request(start, 180, 2, true),
            request(start, 240, 200, false),
            request(start, 260, 2, true),
        ];
        assert_eq!(failed_before(&requests, fault), 1);
        assert_eq!(failover_ms(&requests, fault), Some(140.0));
        assert_eq!(failover_ms(&requests[..2], fault), Some(-10.0));
        assert_eq!(failover_ms(&requests[..1], fault), None);
    }

    #[test]
    fn a_sound_report_is_ok() {
        let mut report = sound();
        report.conclude();
        assert!(report.ok, "{:?}", report.failed_expectations);
    }

    /// Makes one expectation fail.
    type Spoil = fn(&mut Report);

    #[test]
    fn each_expectation_can_fail_and_is_named() {
        let spoil: [(&str, Spoil); 12] = [
            ("before a fault", |report| report.failed_before_fault = 1),
            ("smallest share", |report| report.smallest_share = 0.1),
            ("after a kill", |report| {
                report.failover_ms.kill = Some(450.1)
            }),
            ("after a kill", |report| report.failover_ms.kill = None),
            ("after a black hole", |report| {
                report.failover_ms.blackhole = None
            }),
            ("on other backends", |report| {
                report.keep_alive.broken_elsewhere = 1
            }),
            ("to a draining backend", |report| {
                report.drain.new_connections_after = 1
            }),
            ("on the draining backend", |report| {
                report.drain.kept_connections = 0
            }),
            ("broken by the drain", |report| report.drain.broken = 1),
            ("in the drain", |report| report.drain.requests_failed = 1),
            ("packets lost", |report| report.agent_kill.packets_lost = 1),
            ("failed with the agent", |report| {
                report.agent_kill.requests_failed = 1
            }),
        ];
        for (name, spoil) in spoil {
            let mut report = sound();
            spoil(&mut report);
            report.conclude();
            assert!(!report.ok, "{name}");
            assert_eq!(report.failed_expectations.len(), 1, "{name}");
            assert!(report.failed_expectations[0].contains(name), "{name}");
        }
    }
}
