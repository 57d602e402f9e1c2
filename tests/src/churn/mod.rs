//! Changes of backends and nodes under connections that stay open: how many of these break, with
//! xlb's transitions, without, and with second chance besides.

mod at_rest;
mod cases;
mod client;
mod flood;
mod server;
mod stage;

use std::process::ExitCode;

pub use at_rest::{AtRest, Memory, Moving};
use cases::{Case, Change, Outcome};
use serde::Serialize;
use stage::{Pool, Scheme, Stage};

/// How it is run.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Print one JSON object as the last line of stdout, and everything else on stderr.
    #[arg(long)]
    json: bool,
    /// Fewer cases and connections: about a minute.
    #[arg(long)]
    quick: bool,
}

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections of a case.
    pub connections: usize,
    /// Backends from the start.
    pub backends: usize,
    /// Spoofed flows of a flood.
    pub spoofed: u32,
    /// Flows that a pool at rest gets.
    pub flows_at_rest: u32,
    /// Names of the cases; none: all.
    pub cases: &'static [&'static str],
}

const FULL: Size = Size {
    connections: 2000,
    backends: 16,
    spoofed: 200_000,
    flows_at_rest: 1_000_000,
    cases: &[],
};

const QUICK: Size = Size {
    connections: 500,
    backends: 16,
    spoofed: 20_000,
    flows_at_rest: 100_000,
    cases: &[
        "added",
        "drained",
        "node-and-backend",
        "added-under-spoofed-syns",
    ],
};

/// What is reported.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether all that should hold does.
    pub ok: bool,
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// A pool at rest.
    pub at_rest: AtRest,
    /// What does not hold.
    pub failed: Vec<String>,
}

/// What is reported of a case.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    /// Its name.
    pub name: String,
    /// Connections.
    pub connections: usize,
    /// Slots that got another target, and nodes that left.
    pub slots_moved: u64,
    /// Nodes that left.
    pub nodes_moved: u64,
    /// Connections whose slot got another target, or that another node has.
    pub moved: usize,
    /// Connections that broke.
    pub broken: usize,
    /// The same by what excuses them.
    pub broken_by_class: Classes,
    /// Connections that broke without transitions.
    pub broken_without_transitions: usize,
    /// Connections that broke with transitions and second chance.
    pub broken_with_second_chance: usize,
    /// Packets that backends passed on then.
    pub passed_on: u64,
    /// Spoofed flows sent, and SYNs that the nodes counted.
    pub flood: Option<(u64, u64)>,
}

/// Broken connections by what excuses them.
#[derive(Debug, Serialize)]
pub struct Classes {
    /// Their backend is dead.
    pub dead_backend: usize,
    /// They began while their slot moved, and another node got them.
    pub begun_while_moving: usize,
    /// Nothing does.
    pub none: usize,
}

fn all_cases() -> Vec<Case> {
    [
        ("added", Change::Add, 0),
        ("drained", Change::Drain, 0),
        ("node-removed-and-returned", Change::Node, 0),
        ("weight-changed", Change::Weight, 0),
        ("three-changes", Change::Three, 0),
        ("node-and-backend", Change::NodeAndBackend, 0),
        ("check-flaps", Change::Flap, 0),
        ("backend-dead", Change::Dead, 0),
        // What they leave in the tables is there for long, and later cases would find these full.
        ("added-under-spoofed-syns", Change::Add, 1),
        ("added-under-spoofed-handshakes", Change::Add, 2),
    ]
    .into_iter()
    .zip(8001..)
    .map(|((name, change, flood), port)| Case {
        pool: Pool { name, port },
        change,
        flood,
    })
    .collect()
}

/// Runs the cases, and succeeds if all that should hold does.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let report = perform(if options.quick { QUICK } else { FULL });
    let table = table(&report);
    if options.json {
        eprint!("{table}");
        let json = serde_json::to_string(&report).expect("a report is plain data");
        println!("{json}");
    } else {
        print!("{table}");
    }
    if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the cases with transitions, then without, then with second chance besides.
#[must_use]
pub fn perform(size: Size) -> Report {
    let mut cases = all_cases();
    cases.retain(|case| size.cases.is_empty() || size.cases.contains(&case.pool.name));
    let (with, at_rest) = {
        let mut stage = stage(size, &cases, Scheme::Transitions, Some(at_rest::POOL));
        let at_rest = at_rest::run(&stage, size.flows_at_rest);
        (play(&mut stage, size, &cases), at_rest)
    };
    let [without, chance] = [Scheme::Nothing, Scheme::SecondChance]
        .map(|scheme| play(&mut stage(size, &cases, scheme, None), size, &cases));
    let mut failed = at_rest.complaints();
    let mut reports = Vec::new();
    for (((case, outcome), without), chance) in cases.iter().zip(with).zip(without).zip(chance) {
        failed.extend(complaints(*case, &outcome, &without, &chance));
        reports.push(CaseReport {
            name: case.pool.name.to_owned(),
            connections: outcome.connections,
            slots_moved: outcome.slots_moved + outcome.nodes_moved,
            nodes_moved: outcome.nodes_moved,
            moved: outcome.moved,
            broken: outcome.broken(),
            broken_by_class: Classes {
                dead_backend: outcome.broken_dead,
                begun_while_moving: outcome.broken_late,
                none: outcome.broken_other,
            },
            broken_without_transitions: without.broken(),
            broken_with_second_chance: chance.broken(),
            passed_on: chance.passed_on,
            flood: outcome.flood,
        });
    }
    Report {
        ok: failed.is_empty(),
        cases: reports,
        at_rest,
        failed,
    }
}

/// A lab with a pool for each case, and this one.
fn stage(size: Size, cases: &[Case], scheme: Scheme, pool: Option<Pool>) -> Stage {
    eprintln!("{}: the lab", scheme.name());
    let pools = cases.iter().map(|case| case.pool).chain(pool);
    Stage::build(size.backends, &pools.collect::<Vec<_>>(), scheme)
}

fn play(stage: &mut Stage, size: Size, cases: &[Case]) -> Vec<Outcome> {
    let with = stage.scheme.name();
    let mut passed_on = 0;
    cases
        .iter()
        .map(|case| {
            let mut outcome = cases::run(stage, *case, size.connections, size.spoofed);
            let now = stage.passed_on();
            outcome.passed_on = now - std::mem::replace(&mut passed_on, now);
            eprintln!(
                "{with}: {}: {} of {} connections broke{}",
                case.pool.name,
                outcome.broken(),
                outcome.connections,
                outcome
                    .example
                    .as_ref()
                    .map(|how| format!(" ({how})"))
                    .unwrap_or_default()
            );
            outcome
        })
        .collect()
}

/// What should hold of a case and does not.
fn complaints(case: Case, outcome: &Outcome, without: &Outcome, chance: &Outcome) -> Vec<String> {
    let mut failed = Vec::new();
    let mut require = |holds: bool, what: String| {
        if !holds {
            failed.push(format!("{}: {what}", case.pool.name));
        }
    };
    let broken = outcome.broken_other;
    require(
        broken == 0,
        format!("{broken} connections broke without excuse"),
    );
    let moved = outcome.slots_moved + outcome.nodes_moved;
    require(moved > 0, "nothing moved".into());
    let silent = outcome.silent;
    require(
        silent == 0,
        format!("{silent} connections were silent for a second"),
    );
    if let Some((wanted, counted)) = outcome.flood {
        require(
            counted >= wanted,
            format!("{counted} of {wanted} SYNs entered"),
        );
    }
    if case.change == Change::Add {
        let breaks = without.broken() > 0;
        require(breaks, "nothing broke without transitions either".into());
    }
    let broken = chance.broken_late + chance.broken_other;
    require(
        broken == 0,
        format!("{broken} connections broke with second chance"),
    );
    if case.change == Change::NodeAndBackend {
        let passed_on = chance.passed_on > 0;
        require(passed_on, "no backend passed a packet on".into());
    }
    failed
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "{:32} {:>11} {:>5} {:>5} {:>6} {:>19} {:>18}\n",
        "case",
        "connections",
        "slots",
        "moved",
        "broken",
        "without transitions",
        "with second chance"
    );
    for case in &report.cases {
        table += &format!(
            "{:32} {:>11} {:>5} {:>5} {:>6} {:>19} {:>18}\n",
            case.name,
            case.connections,
            case.slots_moved,
            case.moved,
            case.broken,
            case.broken_without_transitions,
            case.broken_with_second_chance
        );
    }
    table += &report.at_rest.lines();
    for what in &report.failed {
        table += &format!("Does not hold: {what}\n");
    }
    table
}
