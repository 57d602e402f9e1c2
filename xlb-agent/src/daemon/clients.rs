//! Clients on a link: a reply whose next hop the program does not know is an event, upon which the
//! kernel is asked for the neighbour, and to keep it known for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use xlb_common::maps::{Event, event};

use super::Daemon;
use crate::{
    dataplane::Events,
    netlink::{self, NeighbourKey},
};

/// Clients that are kept known at most: about what the kernel's table of neighbours takes as it comes
/// (`net.ipv4.neigh.default.gc_thresh3`).
const CLIENTS_MAX: usize = 1_024;

/// A client that was missed and found is kept known for so long, which costs it a probe a minute.
/// After that the kernel forgets it when it likes, and the next reply is an event again.
const KEPT: Duration = Duration::from_secs(600);

/// A client that was missed and does not answer is forgotten after so long without replies to it.
const UNANSWERED: Duration = Duration::from_secs(10);

/// Events are read at most this often, and so many of them. A flood of replies to clients that no
/// host is fills the buffer, and more of the same tells nothing.
const EVENTS_PAUSE: Duration = Duration::from_millis(50);
const EVENTS_AT_ONCE: usize = 2_048;

/// Destinations of replies that had no next hop.
#[derive(Debug)]
pub(crate) struct Missed {
    events: Events,
    not_before: tokio::time::Instant,
}

impl Missed {
    pub(crate) fn new(events: Events) -> Self {
        Self {
            events,
            not_before: tokio::time::Instant::now(),
        }
    }

    /// Waits for the next ones. Loses none when it is cancelled.
    ///
    /// # Errors
    ///
    /// What the kernel says while waiting.
    pub(crate) async fn next(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        tokio::time::sleep_until(self.not_before).await;
        let events = self.events.next(EVENTS_AT_ONCE).await?;
        self.not_before = tokio::time::Instant::now() + EVENTS_PAUSE;
        Ok(events.iter().filter_map(destination).collect())
    }
}

fn destination(told: &Event) -> Option<IpAddr> {
    if told.kind != event::NEIGHBOUR_MISSING {
        return None;
    }
    match told.family {
        4 => {
            let [a, b, c, d, ..] = told.address;
            Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        6 => Some(IpAddr::V6(Ipv6Addr::from(told.address))),
        _ => None,
    }
}

/// Clients that are to be kept known.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// When each was last missed.
    missed: BTreeMap<NeighbourKey, Instant>,
}

impl Clients {
    /// Takes in who was missed. `known` says of whom the kernel knows the hardware address.
    fn miss(
        &mut self,
        missed: BTreeSet<NeighbourKey>,
        known: impl Fn(NeighbourKey) -> bool,
        now: Instant,
    ) {
        let new = missed.iter().filter(|key| !self.missed.contains_key(key));
        if self.missed.len() + new.count() > CLIENTS_MAX {
            // The others make room: who is known is served, and missed again if forgotten.
            self.missed
                .retain(|key, _| missed.contains(key) || !known(*key));
        }
        for key in missed {
            if self.missed.len() < CLIENTS_MAX || self.missed.contains_key(&key) {
                self.missed.insert(key, now);
            }
        }
    }

    /// Forgets whose time is over.
    fn age(&mut self, known: impl Fn(NeighbourKey) -> bool, now: Instant) {
        self.missed.retain(|key, missed| {
            let kept = if known(*key) { KEPT } else { UNANSWERED };
            now.saturating_duration_since(*missed) < kept
        });
    }

    fn wanted(&self) -> BTreeSet<NeighbourKey> {
        self.missed.keys().copied().collect()
    }
}

impl Daemon {
    /// Has the kernel find the neighbours that replies to these destinations go to.
    pub(super) fn on_missed(&mut self, destinations: &BTreeSet<IpAddr>) {
        let tables = self.tables.borrow().clone();
        let allowed = self.interfaces.ways_out();
        let missed = destinations
            .iter()
            .flat_map(|destination| netlink::wanted(&tables, *destination, &allowed))
            .collect();
        let known = |key| is_known(&tables, key);
        self.clients.miss(missed, known, Instant::now());
        self.netlink.want_clients(self.clients.wanted());
    }

    /// Has the kernel forget the clients that nobody has missed for a while.
    pub(super) fn age_clients(&mut self) {
        let tables = self.tables.borrow().clone();
        self.clients
            .age(|key| is_known(&tables, key), Instant::now());
        self.netlink.want_clients(self.clients.wanted());
    }
}

fn is_known(tables: &netlink::Tables, key: NeighbourKey) -> bool {
    tables
        .neighbour(key)
        .is_some_and(|neighbour| neighbour.usable_mac().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> NeighbourKey {
        (2, Ipv4Addr::from_bits(0x0a00_0000 + number).into())
    }

    fn keys(numbers: std::ops::Range<u32>) -> BTreeSet<NeighbourKey> {
        numbers.map(key).collect()
    }

    #[test]
    fn who_answers_is_kept_for_longer_than_who_does_not() {
        let start = Instant::now();
        let known = |of| of == key(1);
        let mut clients = Clients::default();
        clients.miss(keys(1..4), known, start);
        clients.age(known, start + UNANSWERED / 2);
        assert_eq!(clients.wanted(), keys(1..4));
        clients.miss(keys(2..3), known, start + UNANSWERED / 2);
        clients.age(known, start + UNANSWERED);
        assert_eq!(clients.wanted(), keys(1..3), "the second was missed again");
        clients.age(known, start + KEPT - UNANSWERED);
        assert_eq!(clients.wanted(), keys(1..2));
        clients.age(known, start + KEPT);
        assert_eq!(clients.wanted(), BTreeSet::new());
    }

    #[test]
    fn who_is_known_makes_room_and_no_more_are_kept_than_fit() {
        let now = Instant::now();
        let most = u32::try_from(CLIENTS_MAX).expect("it fits");
        let known = |of| of < key(100);
        let mut clients = Clients::default();
        clients.miss(keys(0..most), known, now);
        clients.miss(keys(most..most + 10), known, now);
        assert_eq!(clients.wanted(), keys(100..most + 10));
        clients.miss(keys(most + 10..most * 2), known, now);
        assert_eq!(clients.wanted(), keys(100..most + 100));
    }

    #[test]
    fn events_name_destinations_of_both_families() {
        let told = |kind, family, address: &[u8]| {
            let mut event = Event {
                kind,
                ifindex: 2,
                address: [0; 16],
                family,
                reserved: 0,
            };
            event.address[..address.len()].copy_from_slice(address);
            destination(&event)
        };
        let missing = event::NEIGHBOUR_MISSING;
        assert_eq!(
            told(missing, 4, &[10, 0, 0, 7]),
            Some(IpAddr::from([10, 0, 0, 7]))
        );
        let v6: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        assert_eq!(told(missing, 6, &v6.octets()), Some(IpAddr::V6(v6)));
        assert_eq!(told(missing, 5, &[1]), None);
        assert_eq!(told(99, 4, &[10, 0, 0, 7]), None);
    }
}
