//! Packets that were dropped in the last minute.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use xlb_common::reason::{Action, Reason};
use xlb_control::api::RecentDrops;

use super::reason_counts;

/// Time between two samples: what is shown is of a minute, and of this much more at most.
const EVERY: Duration = Duration::from_secs(5);
/// How far is looked back.
const WINDOW: Duration = Duration::from_secs(60);

/// Packets by reason, in the order of [`Reason::ALL`].
type Counts = Vec<(Reason, u64)>;

/// What the counters were in the last minute.
#[derive(Debug, Default)]
pub(in crate::daemon) struct Drops {
    /// Oldest first. The first one is a [`WINDOW`] old if there is one that is.
    samples: VecDeque<(Instant, Counts)>,
}

impl Drops {
    /// Whether it is time for another sample.
    pub(in crate::daemon) fn is_due(&self, now: Instant) -> bool {
        let last = self.samples.back();
        last.is_none_or(|(at, _)| now.saturating_duration_since(*at) >= EVERY)
    }

    /// Takes a sample in.
    pub(in crate::daemon) fn add(&mut self, counts: Counts, now: Instant) {
        self.samples.push_back((now, counts));
        let is_old = |at: Instant| now.saturating_duration_since(at) >= WINDOW;
        while self.samples.get(1).is_some_and(|(at, _)| is_old(*at)) {
            self.samples.pop_front();
        }
    }

    /// What was dropped since the oldest sample.
    pub(in crate::daemon) fn since(&self, counts: &Counts, now: Instant) -> RecentDrops {
        let Some((at, before)) = self.samples.front() else {
            return RecentDrops::default();
        };
        let before = |reason: Reason| {
            let found = before.iter().find(|(known, _)| *known == reason);
            found.map_or(0, |&(_, packets)| packets)
        };
        let reasons = counts
            .iter()
            .filter(|(reason, _)| reason.action() == Action::Drop)
            .map(|&(reason, packets)| (reason, packets.saturating_sub(before(reason))));
        RecentDrops {
            seconds: now.saturating_duration_since(*at).as_secs(),
            reasons: reason_counts(reasons),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all_down: u64, transmitted: u64) -> Counts {
        vec![
            (Reason::AllDown, all_down),
            (Reason::Transmitted, transmitted),
        ]
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let start = Instant::now();
        let mut drops = Drops::default();
        assert_eq!(drops.since(&counts(9, 9), start), RecentDrops::default());
        // One drop a second, sampled when it is due.
        for second in 0..200 {
            let now = start + Duration::from_secs(second);
            if drops.is_due(now) {
                drops.add(counts(second, 1000 * second), now);
            }
        }
        assert_eq!(drops.samples.len(), 13);
        let recent = drops.since(&counts(199, 0), start + Duration::from_secs(199));
        assert_eq!(recent.seconds, 64);
        let [drop] = recent.reasons.as_slice() else {
            panic!("{recent:?}");
        };
        assert_eq!((drop.reason.as_str(), drop.packets), ("all-down", 64));
    }
}
