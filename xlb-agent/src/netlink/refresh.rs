//! When the kernel is asked to probe which neighbours, and when a change is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::NeighbourKey;
use super::model::NeighbourState;
use super::tables::Tables;

/// A neighbour is asked for again this long after the last time, if it is still not confirmed. The
/// kernel itself sends three probes a second apart for each time it is asked.
pub const RETRY: Duration = Duration::from_secs(1);
/// How fast neighbours may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At once after a pause.
    pub burst: u32,
    /// In a second, on the average.
    pub per_second: u32,
}

/// For neighbours that the configuration and the routes name.
pub const CONFIGURED: Pace = Pace {
    burst: 256,
    per_second: 512,
};
/// For neighbours that packets name. Anybody can send packets from addresses on the link that no host
/// has, and each of these costs the link three broadcasts.
pub const CLIENTS: Pace = Pace {
    burst: 128,
    per_second: 128,
};
/// Most neighbours that are kept resolved; backends have 16-bit numbers.
pub const WANTED_MAX: usize = 1 << 16;

/// Decides which neighbours the kernel is asked to probe.
///
/// Packets that the XDP program sends do not pass the kernel's neighbour table, so the kernel
/// takes no notice of a neighbour being in use, lets its entry go stale, and would not see that it
/// moved. The agent asks in its place: for entries that are missing, stale or failed; those that
/// are reachable or being probed are left alone.
#[derive(Debug)]
pub struct Refresher {
    pace: Pace,
    asked: BTreeMap<NeighbourKey, Instant>,
    /// Requests that may still be sent, and when this was counted.
    budget: Option<(u32, Instant)>,
}

impl Refresher {
    /// Nothing has been asked yet.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            asked: BTreeMap::new(),
            budget: None,
        }
    }

    /// The neighbours to ask for now, those that have waited longest first.
    pub fn due(
        &mut self,
        wanted: &BTreeSet<NeighbourKey>,
        tables: &Tables,
        now: Instant,
    ) -> Vec<NeighbourKey> {
        self.asked.retain(|key, _| wanted.contains(key));
        let mut due: Vec<_> = wanted
            .iter()
            .take(WANTED_MAX)
            .filter(|key| needs_asking(tables, **key))
            .map(|key| (self.asked.get(key).copied(), *key))
            .filter(|(asked, _)| asked.is_none_or(|asked| now >= asked + RETRY))
            .collect();
        due.sort_unstable();
        let budget = self.refill(now);
        due.truncate(budget as usize);
        let sent = u32::try_from(due.len()).unwrap_or(budget);
        self.budget = Some((budget - sent, now));
        for (_, key) in &due {
            self.asked.insert(*key, now);
        }
        due.into_iter().map(|(_, key)| key).collect()
    }

    fn refill(&self, now: Instant) -> u32 {
        let Pace { burst, per_second } = self.pace;
        let Some((left, counted)) = self.budget else {
            return burst;
        };
        let elapsed_ms = now
            .saturating_duration_since(counted)
            .as_millis()
            .min(60_000);
        let earned = elapsed_ms * u128::from(per_second) / 1_000;
        left.saturating_add(u32::try_from(earned).unwrap_or(burst))
            .min(burst)
    }
}

fn needs_asking(tables: &Tables, (ifindex, address): NeighbourKey) -> bool {
    if !tables.link(ifindex).is_some_and(|link| link.up) {
        return false;
    }
    let Some(neighbour) = tables.neighbour((ifindex, address)) else {
        return true;
    };
    match neighbour.state {
        NeighbourState::None | NeighbourState::Stale | NeighbourState::Failed => true,
        NeighbourState::Incomplete
        | NeighbourState::Reachable
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Noarp
        | NeighbourState::Permanent => false,
    }
}

/// Spaces events out: the first at once, and those after it not before a pause has passed.
#[derive(Debug)]
pub struct Coalescer {
    pause: Duration,
    last: Option<Instant>,
    pending: bool,
}

impl Coalescer {
    /// At most one event in `pause`.
    #[must_use]
    pub fn new(pause: Duration) -> Self {
        Self {
            pause,
            last: None,
            pending: false,
        }
    }

    /// Something has happened.
    pub fn note(&mut self) {
        self.pending = true;
    }

    /// When what has happened is to be told; `None` when nothing has.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.pending
            .then(|| self.last.map_or(now, |last| last + self.pause))
    }

    /// Whether to tell now; if so, it counts as told.
    pub fn take(&mut self, now: Instant) -> bool {
        let take = self.due(now).is_some_and(|due| due <= now);
        if take {
            self.last = Some(now);
            self.pending = false;
        }
        take
    }

    /// Sets the pause from now on.
    pub fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{host, ip, link, neighbour};
    use super::*;

    fn key(address: &str) -> NeighbourKey {
        (2, ip(address))
    }

    #[test]
    fn missing_stale_and_failed_neighbours_are_asked_for_again_and_others_left_alone() {
        let mut tables = host();
        tables.apply(neighbour(2, "10.0.0.8", 8, NeighbourState::Failed));
        tables.apply(neighbour(2, "10.0.0.9", 9, NeighbourState::Probe));
        let all = ["10.0.0.1", "10.0.0.7", "10.0.0.8", "10.0.0.9", "10.0.0.10"];
        let wanted: BTreeSet<_> = all.map(key).into();
        let start = Instant::now();
        let asked = vec![key("10.0.0.1"), key("10.0.0.8"), key("10.0.0.10")];
        let mut refresher = Refresher::new(CONFIGURED);
        assert_eq!(refresher.due(&wanted, &tables, start), asked);
        assert_eq!(refresher.due(&wanted, &tables, start + RETRY / 2), []);
        assert_eq!(refresher.due(&wanted, &tables, start + RETRY), asked);
        tables.apply(link(2, "eth0", false));
        assert_eq!(refresher.due(&wanted, &tables, start + RETRY * 3), []);
    }

    #[test]
    fn requests_are_bounded_and_all_come_to_their_turn() {
        let tables = host();
        let wanted: BTreeSet<_> = (0..1_000_u32)
            .map(|n| (2, std::net::Ipv4Addr::from_bits(0x0a00_0100 + n).into()))
            .collect();
        let start = Instant::now();
        let mut refresher = Refresher::new(CONFIGURED);
        let mut asked = BTreeSet::new();
        let first = refresher.due(&wanted, &tables, start);
        assert_eq!(first.len(), CONFIGURED.burst as usize);
        asked.extend(first);
        assert_eq!(refresher.due(&wanted, &tables, start), []);
        for tick in 1..=10_u32 {
            let due = refresher.due(&wanted, &tables, start + Duration::from_millis(250) * tick);
            assert!(due.len() <= (CONFIGURED.per_second / 4) as usize);
            asked.extend(due);
        }
        assert_eq!(asked.len(), 1_000);
    }

    #[test]
    fn a_burst_is_told_at_once_and_then_once_a_pause() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut coalescer = Coalescer::new(Duration::from_millis(5));
        assert!(!coalescer.take(at(0)));
        let mut told = Vec::new();
        for ms in 0..12 {
            for _ in 0..100 {
                coalescer.note();
                if coalescer.take(at(ms)) {
                    told.push(ms);
                }
            }
        }
        assert_eq!(told, [0, 5, 10]);
        assert_eq!(coalescer.due(at(12)), Some(at(15)));
        assert!(coalescer.take(at(15)));
        assert_eq!(coalescer.due(at(20)), None);
    }
}
