//! Frames that really travel: from a generator over a cable to the program, which sends them back.
//!
//! The generator is a test run with live frames: its program writes the next flow's headers into a
//! frame and sends it out of one end of a veth pair. The program under test is attached to the other
//! end. What comes back is counted and dropped. All of it happens on one processor, and its time
//! there is what is told: the generator and the way back are in it, so it is compared with a program
//! that only sends frames back.

mod road;

use std::path::Path;

use serde::Serialize;

use self::road::{Generator, Road, Run};
use crate::{
    clock,
    cost::{
        harness::Programs,
        scenarios,
        world::{Plan, World},
    },
    progress::{self, say},
    statistics::{Interval, Summary, median},
};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Numbers of flows, powers of two.
    flows: Vec<u32>,
    /// Rounds.
    rounds: usize,
    /// Frames of a run.
    frames: u32,
    /// Forwarding modes, and whether of IPv6.
    modes: Vec<(&'static str, bool)>,
}

impl Effort {
    /// All of it.
    #[must_use]
    pub fn full() -> Self {
        Self {
            flows: vec![1, 1 << 10, 1 << 16, 1 << 20],
            rounds: 11,
            frames: 1_000_000,
            modes: vec![
                ("ipip", false),
                ("dnat", false),
                ("l2-dsr", false),
                ("ipip", true),
            ],
        }
    }

    /// What fits into a quarter of a minute.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            flows: vec![1 << 20],
            rounds: 5,
            frames: 200_000,
            modes: vec![("ipip", false)],
        }
    }
}

/// What a program takes with live frames.
#[derive(Clone, Debug, Serialize)]
pub struct LiveEntry {
    /// Name of the scenario.
    pub scenario: String,
    /// Flows that take turns.
    pub flows: u32,
    /// Processor time a frame, in nanoseconds, generator and way back included.
    pub cpu_ns: Summary,
    /// The rate on one processor as a part of the rate of a program that only sends frames back:
    /// the median over the rounds.
    pub ratio_to_xdp_tx: f64,
    /// Where that median lies.
    pub ratio_interval: Interval,
    /// Frames of a thousand that did not come back, in the median round.
    pub lost_per_mille: f64,
}

/// Programs that are compared with, and their names here.
const REFERENCES: [(&str, &str); 2] = [("xdp-tx", "empty"), ("fixed-header", "fixed4")];

/// Measures with live frames.
#[must_use]
pub fn measure(agent: &Path, programs: &Programs, effort: &Effort) -> Vec<LiveEntry> {
    say("cables for live frames");
    let mut entries = Vec::new();
    for v6 in [false, true] {
        let contenders = contenders(agent, programs, effort, v6);
        if contenders.is_empty() {
            continue;
        }
        for &flows in &effort.flows {
            let names: Vec<&str> = contenders.iter().map(|c| c.scenario.as_str()).collect();
            say(&format!("live, {flows} flows: {}", names.join(", ")));
            let generator = Generator::new(programs, &scenarios::tcp(v6), flows);
            let _pinned = clock::Pinned::to_last();
            let mut rounds: Vec<Vec<Run>> = Vec::new();
            for round in 0..effort.rounds {
                progress::step("round", round, effort.rounds);
                let run = |contender: &Contender| contender.road.run(&generator, effort.frames);
                rounds.push(contenders.iter().map(run).collect());
            }
            for (index, contender) in contenders.iter().enumerate() {
                entries.extend(entry(&contender.scenario, flows, &rounds, index));
            }
        }
    }
    entries
}

/// A program at the end of a cable.
struct Contender {
    scenario: String,
    road: Road,
    _world: Option<World>,
}

/// The references of a family and xlb in each mode; none if the family plays no part.
fn contenders(agent: &Path, programs: &Programs, effort: &Effort, v6: bool) -> Vec<Contender> {
    let modes = effort.modes.iter().filter(|mode| mode.1 == v6);
    let transport = if v6 { "tcp6" } else { "tcp4" };
    let hosts: Vec<Contender> = modes
        .map(|(mode, _)| {
            let world = World::build(agent, Plan::Mode(mode), 1);
            Contender {
                scenario: format!("{mode}/{transport}/rest"),
                road: Road::to_host(programs, world.wire()),
                _world: Some(world),
            }
        })
        .collect();
    if hosts.is_empty() {
        return hosts;
    }
    // The fixed outer header is that of IPv4.
    let references = if v6 { 1 } else { REFERENCES.len() };
    REFERENCES
        .iter()
        .take(references)
        .map(|(name, program)| Contender {
            scenario: format!("{name}/{transport}"),
            road: Road::to_program(programs, program),
            _world: None,
        })
        .chain(hosts)
        .collect()
}

/// The contender at `index`; the first is the one to compare with.
fn entry(scenario: &str, flows: u32, rounds: &[Vec<Run>], index: usize) -> Option<LiveEntry> {
    let of = |figure: &dyn Fn(&[Run]) -> f64| -> Vec<f64> {
        rounds.iter().map(|runs| figure(runs)).collect()
    };
    let ratios = of(&|runs| runs[0].cpu_ns / runs[index].cpu_ns);
    Some(LiveEntry {
        scenario: scenario.to_owned(),
        flows,
        cpu_ns: Summary::of(&of(&|runs| runs[index].cpu_ns))?,
        ratio_to_xdp_tx: median(&ratios)?,
        ratio_interval: Interval::of_median(&ratios)?,
        lost_per_mille: median(&of(&|runs| runs[index].lost * 1_000.0))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_compared_within_a_round() {
        let run = |cpu_ns| Run { cpu_ns, lost: 0.0 };
        // The machine is twice as slow in the second round.
        let rounds = [
            vec![run(250.0), run(300.0)],
            vec![run(500.0), run(600.0)],
            vec![run(260.0), run(320.0)],
        ];
        let other = entry("x", 1, &rounds, 1).expect("an entry");
        assert!((other.ratio_to_xdp_tx - 250.0 / 300.0).abs() < 1e-9);
        assert_eq!(other.cpu_ns.median, 320.0);
        let itself = entry("tx", 1, &rounds, 0).expect("an entry");
        assert_eq!(itself.ratio_to_xdp_tx, 1.0);
    }
}
