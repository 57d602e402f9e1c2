//! The cases: what changes under connections that stay open, and what became of these.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    client::Client,
    flood::{Flood, nodes_of_flows},
    stage::{Pool, Stage},
};
use crate::lab::wait_until;

/// How long a change may take until agents see it.
pub(super) const SEEN_LIMIT: Duration = Duration::from_secs(15);
/// How long connections are watched after a change.
const AFTER: Duration = Duration::from_secs(2);
/// How long the router is watched: longer than any connection is silent.
const WATCH: Duration = Duration::from_millis(800);

/// Connections, at least, that begin while slots move: so many that some are of moving slots, and
/// of a node that goes.
const LATE_MIN: usize = 200;

/// What changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Drain,
    Weight,
    Three,
    Node,
    NodeAndBackend,
    Flap,
    Dead,
}

/// A case.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) pool: Pool,
    pub(super) change: Change,
    /// Packets of each spoofed flow that arrive meanwhile.
    pub(super) flood: u32,
}

/// What came of a case in one lab.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) connections: usize,
    pub(super) slots_moved: u64,
    pub(super) nodes_moved: u64,
    pub(super) moved: usize,
    /// Broken connections of the dead backend.
    pub(super) broken_dead: usize,
    /// Broken connections that began while slots moved.
    pub(super) broken_late: usize,
    /// Other broken connections, which nothing excuses.
    pub(super) broken_other: usize,
    /// Connections without an exchange in the second before, and in the second after the change.
    pub(super) silent: usize,
    /// Spoofed flows that have to arrive, and packets with SYN that nodes have counted.
    pub(super) flood: Option<(u64, u64)>,
    /// Packets that backends passed on to others.
    pub(super) passed_on: u64,
    pub(super) example: Option<String>,
}

impl Outcome {
    pub(super) const fn broken(&self) -> usize {
        self.broken_dead + self.broken_late + self.broken_other
    }
}

/// Runs a case. Afterwards nodes and backends are there again.
pub(super) fn run(stage: &mut Stage, case: Case, connections: usize, spoofed: u32) -> Outcome {
    let mut outcome = Outcome::default();
    let pool = case.pool;
    let client = Client::start(&stage.fleet.client.ns);
    client.open(pool.target(), connections, false);
    let packets = stage.numbers("services", pool.name, "/counters/packets");
    assert!(
        packets.iter().all(|&it| it > 0),
        "the router spreads flows over the nodes: {packets:?}"
    );
    let router = stage.fleet.router.ns.clone();
    let node_changes = matches!(case.change, Change::Node | Change::NodeAndBackend);
    let nodes_before = node_changes.then(|| nodes_of_flows(&router, pool.port, WATCH));
    let counted = |stage: &Stage| -> u64 {
        let counted = stage.numbers("services", pool.name, "/counters/connections");
        counted.iter().sum()
    };
    let counted_before = counted(stage);
    let flood = (case.flood > 0).then(|| {
        let ns = &stage.fleet.client.ns;
        // Queues of a busy machine drop some, so more are sent than have to arrive.
        let flood = Flood::start(ns, pool.port, spoofed / 4 * 5, case.flood > 1);
        thread::sleep(Duration::from_millis(500));
        flood
    });
    wait_until("every connection talks", SEEN_LIMIT, || client.mark() == 0);
    let (done, moved_meanwhile) = change(stage, case, &client, connections);
    if let Some(before) = nodes_before {
        // A node that has come back has its flows again: look while it is away.
        if case.change == Change::Node {
            stage.fleet.route(|node| node != 0);
        }
        let after = nodes_of_flows(&router, pool.port, WATCH);
        stage.fleet.route(|_| true);
        let moved = after
            .iter()
            .filter(|(port, node)| before.get(port).is_some_and(|before| before != *node));
        outcome.nodes_moved = 1;
        outcome.moved += moved.count();
    }
    if case.change != Change::Node {
        outcome.slots_moved = slots_moved(stage, pool).max(moved_meanwhile);
    }
    thread::sleep(AFTER.saturating_sub(done.elapsed()));
    if case.change == Change::Dead {
        thread::sleep(Duration::from_secs(6));
    }
    if let Some(flood) = flood {
        flood.finish();
        outcome.flood = Some((u64::from(spoofed), counted(stage) - counted_before));
    }
    judge(stage, case, &client, done, &mut outcome);
    drop(client);
    restore(stage, case);
    outcome
}

fn slots_moved(stage: &Stage, pool: Pool) -> u64 {
    let marked = stage.numbers("pools", pool.name, "/moving_slots");
    marked.into_iter().min().unwrap_or(0)
}

/// Whether every node has a backend of the pool down.
fn all_find_it_down(stage: &Stage, pool: Pool) -> bool {
    let accepting = stage.numbers("pools", pool.name, "/accepting");
    accepting.iter().all(|&it| it < stage.backends as u64)
}

/// The backend that changes, where it is not the one that is added.
const CHANGED: usize = 1;

/// Brings the change about. Returns when it was complete, and the slots that moved on the way, where
/// they have come back by then.
fn change(stage: &mut Stage, case: Case, client: &Client, connections: usize) -> (Instant, u64) {
    let mut moved_meanwhile = 0;
    let pool = case.pool;
    let new = stage.endpoint(stage.backends, pool).to_string();
    let one = stage.endpoint(CHANGED, pool).to_string();
    let two = stage.endpoint(CHANGED + 1, pool).to_string();
    let add = ["backend", "add", pool.name, &new, "--weight", "2"];
    let late_connections = (connections / 8).max(LATE_MIN);
    let late = || client.open(pool.target(), late_connections, true);
    match case.change {
        Change::Add => stage.tell(&add),
        Change::Drain => stage.tell(&["backend", "drain", pool.name, &one]),
        Change::Weight => stage.tell(&["backend", "weight", pool.name, &one, "1"]),
        Change::Three => {
            let pause = || thread::sleep(Duration::from_millis(200));
            thread::scope(|scope| {
                // Connections begin between the changes, too.
                scope.spawn(late);
                stage.tell(&add);
                pause();
                stage.tell(&["backend", "weight", pool.name, &one, "1"]);
                pause();
                stage.tell(&["backend", "drain", pool.name, &two]);
            });
        }
        Change::Node => {
            stage.fleet.route(|node| node != 0);
            stage.agents[0].kill9();
            stage.agents[0].unload();
            stage.agents[0].start_again();
            stage.wait_until_well();
            stage.fleet.route(|_| true);
        }
        Change::NodeAndBackend => {
            stage.tell(&add);
            late();
            stage.fleet.route(|node| node != 0);
        }
        Change::Flap => {
            stage.servers[CHANGED].close(pool.port);
            wait_until("the check fails", SEEN_LIMIT, || {
                all_find_it_down(stage, pool)
            });
            moved_meanwhile = slots_moved(stage, pool);
            stage.servers[CHANGED].close(0);
            stage.wait_until_well();
        }
        Change::Dead => {
            stage.fleet.cut(&stage.fleet.backends[CHANGED]);
            wait_until("the check fails", SEEN_LIMIT, || {
                all_find_it_down(stage, pool)
            });
        }
    }
    client.mark();
    (Instant::now(), moved_meanwhile)
}

/// Brings backends back, for the next case.
fn restore(stage: &Stage, case: Case) {
    match case.change {
        Change::Dead => {
            stage.fleet.mend(&stage.fleet.backends[CHANGED]);
            // What comes back late would move slots of the next case.
            stage.wait_until_well();
        }
        Change::Add
        | Change::Drain
        | Change::Weight
        | Change::Three
        | Change::Node
        | Change::NodeAndBackend
        | Change::Flap => {}
    }
}

/// Weights of the pool's backends after the change.
fn weights_after(stage: &Stage, case: Case) -> Vec<u32> {
    let mut weights = vec![2; stage.backends];
    match case.change {
        Change::Add | Change::NodeAndBackend => weights.push(2),
        Change::Weight => weights[CHANGED] = 1,
        Change::Drain | Change::Flap | Change::Dead => weights[CHANGED] = 0,
        Change::Three => {
            weights.push(2);
            weights[CHANGED] = 1;
            weights[CHANGED + 1] = 0;
        }
        Change::Node => {}
    }
    weights
}

fn judge(stage: &Stage, case: Case, client: &Client, done: Instant, outcome: &mut Outcome) {
    let before = stage.ring(case.pool, &vec![2; stage.backends]);
    let after = stage.ring(case.pool, &weights_after(stage, case));
    let connections = client.lock();
    outcome.connections = connections.len();
    for connection in connections.iter() {
        let slot = Stage::slot(case.pool, connection.local);
        if before[slot] != after[slot] && outcome.nodes_moved == 0 {
            outcome.moved += 1;
        }
        let is_dead = case.change == Change::Dead && usize::from(connection.backend) == CHANGED + 1;
        let Some(how) = &connection.broken else {
            let in_time = |at: Instant| at - done < Duration::from_secs(1);
            if !is_dead && !connection.first_after.is_some_and(in_time) {
                outcome.silent += 1;
            }
            continue;
        };
        outcome.example.get_or_insert_with(|| how.clone());
        if is_dead {
            outcome.broken_dead += 1;
        } else if connection.late && case.change == Change::NodeAndBackend {
            outcome.broken_late += 1;
        } else {
            outcome.broken_other += 1;
        }
    }
}
