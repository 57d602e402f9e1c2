//! Watches the slots of a pool from outside, in the memory that the program reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use aya::maps::{Array, Map};
use xlb_common::{
    limits::NAME_BYTES,
    maps::{Pool, name},
};

use crate::{
    daemon::Daemon,
    maps::{Words, open_map, open_map_data},
};

/// The slots of one pool.
pub(super) struct Slots {
    words: Words,
    first: usize,
    count: usize,
}

impl Slots {
    /// Finds the pool by its name in the agent's own record. The agent must not make its maps larger
    /// from now on.
    pub(super) fn open(daemon: &Daemon, pool: &str) -> Arc<Self> {
        let ns = daemon.ns();
        let (first, count) = find_pool(open_map(ns, &daemon.pin(name::POOLS)), pool);
        Arc::new(Self {
            words: Words::of(&open_map_data(ns, &daemon.pin(name::SLOTS))),
            first,
            count,
        })
    }

    /// Watches until told to stop. Every change is seen that is still there after the time of a
    /// look at all slots, which is some tens of microseconds.
    pub(super) fn watch(self: &Arc<Self>) -> Watch {
        let slots = Arc::clone(self);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let (ready, begun) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut known: Vec<u64> = slots.read().collect();
            let mut changes = Changes::default();
            let _ = ready.send(());
            while !stopped.load(Ordering::Relaxed) {
                if slots.update(&mut known) {
                    let now = Instant::now();
                    changes.first.get_or_insert(now);
                    changes.last = Some(now);
                }
                thread::yield_now();
            }
            changes
        });
        begun.recv().expect("the watcher begins");
        Watch { stop, thread }
    }

    fn read(&self) -> impl Iterator<Item = u64> + '_ {
        (self.first..self.first + self.count).map(|index| self.words.load(index))
    }

    /// Takes over what is new. `false`: nothing is.
    fn update(&self, known: &mut [u64]) -> bool {
        let mut changed = false;
        for (known, now) in known.iter_mut().zip(self.read()) {
            changed |= *known != now;
            *known = now;
        }
        changed
    }
}

/// When slots were seen to change.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changes {
    /// The first time.
    pub(super) first: Option<Instant>,
    /// The last time.
    pub(super) last: Option<Instant>,
}

/// A watcher at work.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Changes>,
}

impl Watch {
    /// Ends it, and tells what it saw.
    pub(super) fn stop(self) -> Changes {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watcher does not panic")
    }
}

/// First slot and number of slots of a pool.
fn find_pool(map: Map, pool: &str) -> (usize, usize) {
    const BYTES: usize = size_of::<Pool>();
    let pools = Array::<_, [u8; BYTES]>::try_from(map).expect("an array of pools");
    let record = pools
        .iter()
        .map(|record| record.expect("a record"))
        .find(|record| is_named(record, pool))
        .unwrap_or_else(|| panic!("the agent has no pool {pool}"));
    let word = |at: usize| {
        let bytes = record[at..at + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes) as usize
    };
    (
        word(std::mem::offset_of!(Pool, ring_offset)),
        word(std::mem::offset_of!(Pool, ring_slots)),
    )
}

fn is_named(record: &[u8], pool: &str) -> bool {
    let name = &record[..NAME_BYTES];
    let end = name.iter().position(|&byte| byte == 0);
    name[..end.unwrap_or(NAME_BYTES)] == *pool.as_bytes()
}
