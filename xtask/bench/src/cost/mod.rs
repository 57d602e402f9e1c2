//! The cost of a packet, by test runs of the programs that the agent loads.

pub mod check;
pub mod harness;
pub mod peer;
pub mod rounds;
pub mod scenarios;
pub mod traffic;
pub mod world;

use std::{collections::HashMap, path::Path};

use serde::Serialize;
use xlb_common::reason::Reason;

use self::{
    harness::{Harness, Loaded, Programs, Reference, References},
    peer::Peer,
    rounds::Round,
    scenarios::{Group, Scenario, Tables, groups},
    traffic::{Carries, Traffic},
    world::{Plan, World},
};
use crate::{
    clock,
    progress::{self, say},
    statistics::{Interval, Summary},
};

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Effort {
    quick: bool,
    /// Numbers of flows, powers of two.
    flows: Vec<u32>,
    /// Numbers of services besides the few of other scenarios.
    services: Vec<u32>,
    /// Loads of every program.
    loads: usize,
    /// Rounds.
    rounds: usize,
    /// Frames of a sample.
    frames: u32,
}

impl Effort {
    /// All of it.
    #[must_use]
    pub fn full() -> Self {
        Self {
            quick: false,
            flows: vec![1, 1 << 10, 1 << 16, 1 << 20],
            services: vec![100, 10_000],
            loads: 9,
            rounds: 5,
            frames: 200_000,
        }
    }

    /// What fits into a minute.
    #[must_use]
    pub fn quick() -> Self {
        Self {
            quick: true,
            flows: vec![1, 1 << 20],
            services: vec![10_000],
            loads: 3,
            rounds: 3,
            frames: 50_000,
        }
    }
}

/// The cost of a packet in one scenario with so many flows.
#[derive(Clone, Debug, Serialize)]
pub struct CostEntry {
    /// Name of the scenario.
    pub scenario: String,
    /// Flows that take turns.
    pub flows: u32,
    /// Nanoseconds, net of the wrapper, over the loads.
    pub net_ns: Summary,
    /// A multiple of what a fixed outer header costs in the same rounds.
    pub ratio_to_fixed_header: f64,
    /// Where that ratio's median lies.
    pub ratio_interval: Interval,
    /// What was subtracted for the wrapper, in nanoseconds.
    pub wrapper_ns: f64,
}

/// Measures the cost of a packet. What was measured before something fails is among the entries.
pub fn measure(
    agent: &Path,
    programs: &Programs,
    peers: &[Peer],
    effort: &Effort,
    entries: &mut Vec<CostEntry>,
) {
    let references: Vec<References> = (0..effort.loads)
        .map(|_| References::load(programs))
        .collect();
    let mut worlds = Worlds::default();
    let groups = groups(effort.quick, &effort.services);
    for (number, group) in groups.iter().enumerate() {
        worlds.prepare(agent, group, effort.loads);
        for &flows in &effort.flows {
            let bench = Bench {
                programs,
                references: &references,
                worlds: &worlds,
                effort,
                group,
                flows,
            };
            entries.extend(bench.measure(if group.with_peers { peers } else { &[] }));
        }
        worlds.keep_only(groups.get(number + 1..).unwrap_or_default());
    }
}

/// The hosts that are up.
#[derive(Default)]
struct Worlds {
    by_plan: Vec<World>,
}

impl Worlds {
    fn prepare(&mut self, agent: &Path, group: &Group, loads: usize) {
        for scenario in &group.scenarios {
            if !self
                .by_plan
                .iter()
                .any(|world| world.plan() == scenario.plan)
            {
                say(&format!(
                    "a host for {}, started {loads} times",
                    scenario.name
                ));
                self.by_plan.push(World::build(agent, scenario.plan, loads));
            }
        }
    }

    fn keep_only(&mut self, groups: &[Group]) {
        self.by_plan.retain(|world| {
            let mut scenarios = groups.iter().flat_map(|group| &group.scenarios);
            scenarios.any(|scenario| scenario.plan == world.plan())
        });
    }

    fn of(&self, plan: Plan) -> &World {
        self.by_plan
            .iter()
            .find(|world| world.plan() == plan)
            .expect("it was prepared")
    }
}

/// A group with so many flows.
struct Bench<'a> {
    programs: &'a Programs,
    references: &'a [References],
    worlds: &'a Worlds,
    effort: &'a Effort,
    group: &'a Group,
    flows: u32,
}

impl Bench<'_> {
    fn measure(&self, peers: &[Peer]) -> Vec<CostEntry> {
        let Some(frames) = self.frames() else {
            return Vec::new();
        };
        let names: Vec<&str> = self.names();
        say(&format!("{} flows: {}", self.flows, names.join(", ")));
        let mut harness = Harness::new(self.programs, &self.group.traffic, self.flows);
        for scenario in &self.group.scenarios {
            self.prepare(&mut harness, scenario, frames);
        }
        let peers: Vec<&Peer> = peers
            .iter()
            .filter(|peer| peer.is_fit(&mut harness, &self.group.traffic))
            .collect();
        // Where the wrapper runs, nothing of ours does.
        let _pinned = clock::Pinned::to_last();
        let mut rounds = Vec::new();
        for round in 0..self.effort.rounds {
            progress::step("round", round, self.effort.rounds);
            rounds.push(self.round(&mut harness, &peers, frames));
        }
        self.entries(&rounds, &peers)
    }

    fn names(&self) -> Vec<&str> {
        let scenarios = self.group.scenarios.iter();
        scenarios.map(|scenario| scenario.name.as_str()).collect()
    }

    /// Frames of a sample. `None`: with so few flows the scenario means nothing.
    fn frames(&self) -> Option<u32> {
        let filling = |scenario: &Scenario| scenario.tables == Tables::Filling;
        if !self.group.scenarios.iter().any(filling) {
            return Some(self.effort.frames);
        }
        // A short run is mostly its beginning and end.
        const FEWEST: u32 = 10_000;
        (self.flows >= FEWEST).then(|| self.effort.frames.min(self.flows))
    }

    fn round(&self, harness: &mut Harness, peers: &[&Peer], frames: u32) -> Round {
        let mut round = Round {
            programs: vec![Vec::new(); self.group.scenarios.len() + peers.len()],
            ..Round::default()
        };
        for (load, references) in self.references.iter().enumerate() {
            for (reference, times) in [
                (Reference::Empty, &mut round.empty),
                (Reference::Adjust, &mut round.adjust),
                (Reference::Fixed, &mut round.fixed),
            ] {
                harness.call_reference(references, reference);
                times.push(harness.sample(frames, true).gross_ns);
            }
            for (scenario, times) in self.group.scenarios.iter().zip(&mut round.programs) {
                let world = self.worlds.of(scenario.plan);
                call(harness, &world.programs()[load]);
                let filling = scenario.tables == Tables::Filling;
                if filling {
                    world.forget_flows();
                }
                times.push(harness.sample(frames, !filling).gross_ns);
            }
            let of_peers = round.programs.iter_mut().skip(self.group.scenarios.len());
            for (peer, times) in peers.iter().zip(of_peers) {
                call(harness, peer.program());
                times.push(harness.sample(frames, true).gross_ns);
            }
        }
        round
    }

    fn entries(&self, rounds: &[Round], peers: &[&Peer]) -> Vec<CostEntry> {
        let entry = |name: &str, cost: Option<rounds::Cost>| {
            let cost = cost?;
            Some(CostEntry {
                scenario: name.to_owned(),
                flows: self.flows,
                net_ns: cost.net_ns,
                ratio_to_fixed_header: cost.ratio,
                ratio_interval: cost.interval,
                wrapper_ns: cost.wrapper_ns,
            })
        };
        let traffic = &self.group.traffic;
        let mut entries = Vec::new();
        // Each family's references are told once, with the traffic that most scenarios have.
        if self.group.with_peers {
            let family = if traffic.is_v6() { "v6" } else { "v4" };
            let fixed = rounds::cost_of_fixed(rounds);
            entries.extend(entry(&format!("reference/{family}/fixed-header"), fixed));
            let adjust = rounds::cost_of_adjust(rounds);
            entries.extend(entry(&format!("reference/{family}/adjust-head"), adjust));
        }
        for (index, scenario) in self.group.scenarios.iter().enumerate() {
            let cost = rounds::cost(rounds, index, scenario.outcome.grows());
            entries.extend(entry(&scenario.name, cost));
        }
        for (index, peer) in peers.iter().enumerate() {
            let cost = rounds::cost(rounds, self.group.scenarios.len() + index, true);
            entries.extend(entry(&peer.scenario(traffic), cost));
        }
        entries
    }

    /// Puts the tables of flows into the state that the scenario is about, and checks what the
    /// program makes of the frames.
    fn prepare(&self, harness: &mut Harness, scenario: &Scenario, frames: u32) {
        /// Frames that are looked at.
        const LOOKED_AT: usize = 50;
        let world = self.worlds.of(scenario.plan);
        if scenario.tables != Tables::AsTheyAre {
            world.forget_flows();
        }
        if scenario.tables == Tables::Full {
            self.open_connections(world);
        }
        for program in world.programs() {
            call(harness, program);
            for _ in 0..LOOKED_AT {
                let (action, frame) = harness.run_once();
                if let Err(error) = scenario.outcome.check(&self.group.traffic, action, &frame) {
                    panic!("{}: {error:#}", scenario.name);
                }
            }
        }
        if scenario.tables == Tables::Filling {
            world.forget_flows();
        }
        let before = world.reasons();
        let last = harness.sample(frames, false);
        let counted: HashMap<Reason, u64> = Reason::ALL
            .iter()
            .zip(world.reasons().into_iter().zip(before))
            .filter(|(_, (now, before))| now > before)
            .map(|(&reason, (now, before))| (reason, now - before))
            .collect();
        if let Some(wrong) = wrong(&counted, scenario.reason, frames) {
            panic!(
                "{}: {wrong} (the last action is {})",
                scenario.name, last.action
            );
        }
    }

    /// Makes a record of every flow: by its SYN, and the segment that follows.
    fn open_connections(&self, world: &World) {
        for carries in [Carries::Syn, Carries::Segment] {
            let traffic = Traffic {
                carries,
                ..self.group.traffic
            };
            let mut harness = Harness::new(self.programs, &traffic, self.flows);
            call(&mut harness, &world.programs()[0]);
            // Every flow has its turn.
            let _ = harness.sample(self.flows, false);
        }
    }
}

fn call(harness: &mut Harness, program: &Loaded) {
    harness
        .call(program)
        .unwrap_or_else(|error| panic!("{error:#}"));
}

/// Says which reason was counted for the wrong number of frames. A few frames are the host's own, and
/// lookups are counted besides what becomes of a frame.
fn wrong(counted: &HashMap<Reason, u64>, wanted: Option<Reason>, frames: u32) -> Option<String> {
    let few = u64::from(frames) / 100;
    let all = u64::from(frames);
    let count = |reason: Reason| counted.get(&reason).copied().unwrap_or(0);
    if let Some(reason) = wanted
        && count(reason) < all
    {
        let name = reason.name();
        return Some(format!("{} of {frames} frames are {name}", count(reason)));
    }
    counted
        .iter()
        .filter(|(reason, _)| **reason != Reason::TableLookup)
        .find(|&(&reason, &count)| Some(reason) != wanted && count > few)
        .map(|(reason, count)| format!("{count} of {frames} frames are {}", reason.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_should_not_be_counted_is_seen() {
        let counted = HashMap::from([(Reason::NotForService, 1_000), (Reason::NotIp, 3)]);
        assert_eq!(wrong(&counted, Some(Reason::NotForService), 1_000), None);
        let said = wrong(&counted, None, 1_000).expect("it is wrong");
        assert_eq!(said, "1000 of 1000 frames are not-for-service");
        let said = wrong(&counted, Some(Reason::NotForService), 1_200).expect("it is wrong");
        assert_eq!(said, "1000 of 1200 frames are not-for-service");
        assert_eq!(wrong(&HashMap::new(), None, 1_000), None);
    }
}
