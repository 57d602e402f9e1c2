//! When a target is probed.

use std::time::{Duration, Instant};

/// Time between the first probes of targets that are added together, so that ten thousand of them
/// are decided within a second, and no instant has more than a few.
const FIRST_PROBE_SPACING: Duration = Duration::from_micros(100);

/// When a target is probed: once soon, if its state is not known, and then at a phase of its own in
/// each interval.
///
/// The phase is what spreads a thousand targets over the interval. No two probes in a row start
/// more than an interval apart (a probe that outlasts the interval delays the next one), so that
/// with a timeout of at most the interval, `fall` failures are in after at most
/// `interval * fall + timeout`.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    interval: Duration,
    due: Instant,
    /// Time from the first probe to the second.
    second_after: Duration,
}

impl Schedule {
    /// The schedule of a target whose state is not known, `place` of `count` that are added
    /// together. `phase` is between 0 and 1.
    pub(super) fn deciding(
        interval: Duration,
        place: u32,
        count: u32,
        phase: f64,
        now: Instant,
    ) -> Self {
        let window = interval.min(FIRST_PROBE_SPACING.saturating_mul(count));
        let offset = window.mul_f64(f64::from(place) / f64::from(count.max(1)));
        Self {
            interval,
            due: now + offset,
            second_after: interval.mul_f64(phase),
        }
    }

    /// The schedule of a target whose state is known: nothing hurries, and two results close
    /// together would count as two in a row. `phase` is between 0 and 1.
    pub(super) fn adopted(interval: Duration, phase: f64, now: Instant) -> Self {
        Self {
            interval,
            due: now + interval.mul_f64(phase),
            second_after: interval,
        }
    }

    /// When the next probe starts.
    pub(super) const fn due(&self) -> Instant {
        self.due
    }

    /// Takes note that the probe that was due has ended.
    ///
    /// The next one is counted from when this one was due, not from when it ended or was really
    /// started: what is late once does not stay late.
    pub(super) fn ended(&mut self, now: Instant) {
        let next = self.due + std::mem::replace(&mut self.second_after, self.interval);
        self.due = next.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(1);

    #[test]
    fn first_probes_are_soon_and_apart() {
        let now = Instant::now();
        let offset = |interval, place, count| {
            Schedule::deciding(interval, place, count, 0.5, now).due() - now
        };
        assert_eq!(offset(INTERVAL, 0, 1), Duration::ZERO);
        assert_eq!(offset(INTERVAL, 500, 1_000), Duration::from_millis(50));
        assert_eq!(offset(INTERVAL, 999, 1_000), Duration::from_micros(99_900));
        let short = Duration::from_millis(10);
        assert_eq!(offset(short, 500, 1_000), Duration::from_millis(5));
    }

    #[test]
    fn the_phase_comes_with_the_second_probe_and_the_period_is_the_interval() {
        let now = Instant::now();
        let mut schedule = Schedule::deciding(INTERVAL, 0, 1, 0.25, now);
        let mut dues = Vec::new();
        for _ in 0..4 {
            dues.push((schedule.due() - now).as_millis());
            schedule.ended(schedule.due() + Duration::from_millis(3));
        }
        assert_eq!(dues, vec![0, 250, 1_250, 2_250]);
    }

    #[test]
    fn an_adopted_target_waits_for_its_phase() {
        let now = Instant::now();
        let mut schedule = Schedule::adopted(INTERVAL, 0.25, now);
        assert_eq!(schedule.due() - now, Duration::from_millis(250));
        schedule.ended(schedule.due());
        assert_eq!(schedule.due() - now, Duration::from_millis(1_250));
    }

    #[test]
    fn a_probe_that_outlasts_the_interval_delays_the_next_and_no_more() {
        let now = Instant::now();
        let mut schedule = Schedule::adopted(INTERVAL, 0.0, now);
        schedule.ended(now + Duration::from_millis(3_500));
        assert_eq!(schedule.due() - now, Duration::from_millis(3_500));
        schedule.ended(now + Duration::from_millis(3_501));
        assert_eq!(schedule.due() - now, Duration::from_millis(4_500));
    }
}
