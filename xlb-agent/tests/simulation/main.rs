//! The rules of "no change breaks a connection", simulated.
//!
//! Random histories of changes, checks that fail, connections that open, talk, idle and close,
//! SYNs sent again and copied, ports used again, floods against tiny tables, forged packets,
//! agents that die between any two of their writes, packets that are overtaken by anything
//! between any two of their accesses, and nodes that come and go behind a router. The packet's
//! rule, the agent's decisions and the ring are the ones of production; an oracle knows where each
//! connection lives, and which ones may break.
//!
//! `XLB_SIMULATION_HISTORIES` sets the number of histories, `XLB_SIMULATION_SEED` replays one
//! with a trace. Ten thousand, and each part of the rules switched off in turn, take half a minute:
//!
//! ```text
//! XLB_SIMULATION_HISTORIES=10000 cargo test --release -p xlb-agent --test simulation -- --nocapture
//! ```

mod agent;
mod connections;
mod datagrams;
mod fleet;
mod node;
mod off;
mod plan;
mod rng;
mod services;
mod work;
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use off::{Expected, LATE, Off};
use world::{Tally, World};

/// Events of a history, each of up to a few dozen packets or writes.
const STEPS: usize = 600;

/// Histories that are played unless the environment says otherwise: a few seconds' worth.
const HISTORIES: u64 = 1500;

fn histories() -> u64 {
    let set = std::env::var("XLB_SIMULATION_HISTORIES");
    let set = set.ok().and_then(|set| set.parse().ok());
    set.unwrap_or(HISTORIES)
}

fn play(seed: u64, off: Off) -> World {
    let mut world = World::new(seed, off);
    world.play(STEPS);
    world
}

/// What came of histories: the sum of what happened, and the seeds that broke a connection.
#[derive(Default)]
struct Outcome {
    total: Tally,
    broken: BTreeMap<u64, String>,
}

/// Plays histories on all CPUs; `stop_at_first`: none after the lowest seed found so far.
fn play_all(seeds: Range<u64>, off: Off, stop_at_first: bool) -> Outcome {
    let next = AtomicU64::new(seeds.start);
    let end = AtomicU64::new(seeds.end);
    let outcome = Mutex::new(Outcome::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let mut world = play(seed, off);
                    let mut outcome = outcome.lock().expect("no other thread has panicked");
                    outcome.total.add(&world.tally);
                    if let Some(broken) = world.broken.pop() {
                        outcome.broken.insert(seed, broken);
                        if stop_at_first {
                            end.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    outcome.into_inner().expect("no thread has panicked")
}

#[test]
fn no_connection_breaks_but_those_that_may() {
    let count = histories();
    let Outcome { total, broken } = play_all(0..count, Off::Nothing, false);
    println!("{count} histories: {total:#?}");
    for (seed, broken) in broken.iter().take(5) {
        println!("XLB_SIMULATION_SEED={seed}: {broken}");
    }
    assert!(
        broken.is_empty(),
        "{} histories broke a connection",
        broken.len()
    );
    // A simulation in which nothing happens finds nothing.
    assert!(total.established > count * 20 && total.changes > count * 20);
    assert!(total.promoted > count && total.confirmed > count && total.full > count);
}

#[test]
fn every_rule_is_needed() {
    let count = histories();
    let mut wrong = Vec::new();
    for &(off, expected) in Off::ALL {
        let found = play_all(Off::worth_playing(expected, count), off, true).broken;
        let found = found.first_key_value().map(|(&seed, _)| seed);
        println!("without {off:?}: {found:?}");
        match (found, expected) {
            (None, Expected::Soon | Expected::In(_)) => {
                wrong.push(format!("{off:?}: found nothing"))
            }
            (None, Expected::Late) if count >= LATE => {
                wrong.push(format!("{off:?}: found nothing"));
            }
            (Some(seed), Expected::Never(why)) => {
                wrong.push(format!("{off:?}: seed {seed}, although {why}"));
            }
            (Some(_), Expected::Soon | Expected::Late | Expected::In(_))
            | (None, Expected::Late | Expected::Never(_)) => (),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Prints what happens in one history.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("XLB_SIMULATION_SEED") else {
        return;
    };
    let seed = seed.parse().expect("XLB_SIMULATION_SEED is a number");
    let mut world = World::new(seed, Off::Nothing);
    world.trace = Some(Vec::new());
    world.play(STEPS);
    println!("{}", world.trace.unwrap_or_default().join("\n"));
}
