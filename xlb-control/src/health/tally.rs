//! What a target's probes came to, counted.

use std::time::Duration;

use super::outcome::{Code, Outcome};

/// Upper bounds of [`Tally::latencies`], in seconds.
pub const LATENCY_BOUNDS_S: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// Results of a target's probes since it is probed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Results by [`Code`], in the order of [`Code::ALL`].
    by_code: [u64; Code::ALL.len()],
    /// Probes that were answered, by how long they took: each counts where its bound is the first
    /// that it does not exceed, and in the last place if it exceeds all.
    latencies: [u64; LATENCY_BOUNDS_S.len() + 1],
    /// How long they took together.
    latency_sum: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let code = outcome.code();
        if let Some(count) = self.by_code.get_mut(code as usize) {
            *count += 1;
        }
        if code != Code::L4Ok {
            return;
        }
        let seconds = outcome.latency.as_secs_f64();
        let place = LATENCY_BOUNDS_S.partition_point(|&bound| bound < seconds);
        if let Some(count) = self.latencies.get_mut(place) {
            *count += 1;
        }
        self.latency_sum += outcome.latency;
    }

    /// Results by code.
    pub fn by_code(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        Code::ALL.into_iter().zip(self.by_code)
    }

    /// Probes that were answered, by the upper bound of how long they took, in seconds. Each is
    /// counted at one bound.
    pub fn latencies(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let bounds = LATENCY_BOUNDS_S.into_iter().chain([f64::INFINITY]);
        bounds.zip(self.latencies)
    }

    /// How long the probes took together that were answered.
    #[must_use]
    pub const fn latency_sum(&self) -> Duration {
        self.latency_sum
    }
}

#[cfg(test)]
mod tests {
    use super::{super::outcome::ProbeResult, *};

    fn outcome(result: ProbeResult, micros: u64) -> Outcome {
        Outcome {
            result,
            latency: Duration::from_micros(micros),
        }
    }

    #[test]
    fn results_are_counted_by_code_and_latency() {
        let mut tally = Tally::default();
        for micros in [500, 501, 9_000_000] {
            tally.add(&outcome(ProbeResult::Ok, micros));
        }
        tally.add(&outcome(ProbeResult::Refused, 70));
        tally.add(&outcome(ProbeResult::TimedOut, 1_000_000));
        let counts: Vec<u64> = tally.by_code().map(|(_, count)| count).collect();
        assert_eq!(counts, [3, 1, 1, 0]);
        let latencies: Vec<(f64, u64)> =
            tally.latencies().filter(|&(_, count)| count > 0).collect();
        assert_eq!(latencies, [(0.000_5, 1), (0.001, 1), (f64::INFINITY, 1)]);
        assert_eq!(tally.latency_sum(), Duration::from_micros(9_001_001));
    }
}
