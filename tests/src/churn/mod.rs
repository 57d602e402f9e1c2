//! Changes of backends and nodes under connections that stay open: how many of these break, with
//! xlb's transitions and without.

mod cases;
mod client;
mod flood;
mod server;
mod stage;

use std::process::ExitCode;

use cases::{Case, Change, Outcome};
use serde::Serialize;
use stage::{Pool, Stage};

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
    /// Cases without a flood, from the first.
    pub cases: usize,
    /// Cases with a flood, from the first.
    pub floods: usize,
}

const FULL: Size = Size {
    connections: 2000,
    backends: 16,
    spoofed: 200_000,
    cases: usize::MAX,
    floods: usize::MAX,
};

const QUICK: Size = Size {
    connections: 500,
    backends: 16,
    spoofed: 20_000,
    cases: 3,
    floods: 1,
};

/// What is reported.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether all that should hold does.
    pub ok: bool,
    /// The cases.
    pub cases: Vec<CaseReport>,
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
    /// Slots that got another target.
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
    /// Connections that broke with second chance; `None`: not run.
    pub broken_with_second_chance: Option<usize>,
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

/// Runs the cases with transitions, then without.
#[must_use]
pub fn perform(size: Size) -> Report {
    let (quiet, flooded): (Vec<Case>, Vec<Case>) =
        all_cases().into_iter().partition(|case| case.flood == 0);
    let quiet = quiet.into_iter().take(size.cases);
    let cases: Vec<Case> = quiet.chain(flooded.into_iter().take(size.floods)).collect();
    let with = lab(size, &cases, true);
    let without = lab(size, &cases, false);
    let mut failed = Vec::new();
    let mut reports = Vec::new();
    for ((case, outcome), without) in cases.iter().zip(with).zip(without) {
        failed.extend(complaints(*case, &outcome, &without));
        reports.push(CaseReport {
            name: case.pool.name.to_owned(),
            connections: outcome.connections,
            slots_moved: outcome.slots_moved,
            nodes_moved: outcome.nodes_moved,
            moved: outcome.moved,
            broken: outcome.broken(),
            broken_by_class: Classes {
                dead_backend: outcome.broken_dead,
                begun_while_moving: outcome.broken_late,
                none: outcome.broken_other,
            },
            broken_without_transitions: without.broken(),
            broken_with_second_chance: None,
            flood: outcome.flood,
        });
    }
    Report {
        ok: failed.is_empty(),
        cases: reports,
        failed,
    }
}

fn lab(size: Size, cases: &[Case], transitions: bool) -> Vec<Outcome> {
    let with = if transitions { "with" } else { "without" };
    eprintln!("{with} transitions: the lab");
    let pools: Vec<Pool> = cases.iter().map(|case| case.pool).collect();
    let mut stage = Stage::build(size.backends, &pools, transitions);
    cases
        .iter()
        .map(|case| {
            let outcome = cases::run(&mut stage, *case, size.connections, size.spoofed);
            eprintln!(
                "{with} transitions: {}: {} of {} connections broke{}",
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
fn complaints(case: Case, outcome: &Outcome, without: &Outcome) -> Vec<String> {
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
    failed
}

fn table(report: &Report) -> String {
    let mut table = format!(
        "{:32} {:>11} {:>5} {:>5} {:>6} {:>19}\n",
        "case", "connections", "slots", "moved", "broken", "without transitions"
    );
    for case in &report.cases {
        table += &format!(
            "{:32} {:>11} {:>5} {:>5} {:>6} {:>19}\n",
            case.name,
            case.connections,
            case.slots_moved,
            case.moved,
            case.broken,
            case.broken_without_transitions
        );
    }
    for what in &report.failed {
        table += &format!("Does not hold: {what}\n");
    }
    table
}
