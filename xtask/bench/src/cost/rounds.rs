//! From what programs took in many rounds to what they cost.
//!
//! A round runs every load of every program once, so that what disturbs the machine disturbs them
//! alike. What the wrapper takes is subtracted: what it takes with a program that does nothing, and,
//! for a program that makes the frame longer, what it then takes to make it shorter again. The latter
//! is half of what a program takes that does nothing else, since that one does one of each.

use crate::statistics::{Interval, Summary, median};

/// What was seen in one round: nanoseconds a frame, wrapper included, a figure each load.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// The program that does nothing.
    pub empty: Vec<f64>,
    /// The program that makes room.
    pub adjust: Vec<f64>,
    /// The program that writes a fixed outer header.
    pub fixed: Vec<f64>,
    /// The programs under test.
    pub programs: Vec<Vec<f64>>,
}

/// What a program costs, over all its loads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Nanoseconds a frame, net of the wrapper; of each load the median over the rounds.
    pub net_ns: Summary,
    /// The same as a multiple of what the fixed outer header costs in the same rounds: the median
    /// over the loads.
    pub ratio: f64,
    /// Where that median lies.
    pub interval: Interval,
    /// Nanoseconds a frame of the wrapper that were subtracted: the median over the rounds.
    pub wrapper_ns: f64,
}

impl Round {
    /// What the wrapper takes with a program that leaves the frame's length alone.
    fn wrapper(&self) -> Option<f64> {
        median(&self.empty)
    }

    /// What the wrapper takes in addition to undo a program's room for an outer header.
    fn undo(&self) -> Option<f64> {
        Some(((median(&self.adjust)? - self.wrapper()?) / 2.0).max(0.0))
    }

    /// What the wrapper takes for a program that makes the frame longer, or does not.
    fn wrapper_for(&self, grows: bool) -> Option<f64> {
        let undo = if grows { self.undo()? } else { 0.0 };
        Some(self.wrapper()? + undo)
    }

    fn net(&self, gross: f64, grows: bool) -> Option<f64> {
        Some(gross - self.wrapper_for(grows)?)
    }

    fn fixed_net(&self) -> Option<f64> {
        self.net(median(&self.fixed)?, true)
    }
}

/// The cost of a program under test, by its index. `None` if there were no rounds.
#[must_use]
pub fn cost(rounds: &[Round], program: usize, grows: bool) -> Option<Cost> {
    cost_of(rounds, |round| round.programs.get(program), grows)
}

/// The cost of the fixed outer header itself.
#[must_use]
pub fn cost_of_fixed(rounds: &[Round]) -> Option<Cost> {
    cost_of(rounds, |round| Some(&round.fixed), true)
}

/// The cost of making room, and nothing else.
#[must_use]
pub fn cost_of_adjust(rounds: &[Round]) -> Option<Cost> {
    cost_of(rounds, |round| Some(&round.adjust), true)
}

fn cost_of(
    rounds: &[Round],
    gross: impl Fn(&Round) -> Option<&Vec<f64>>,
    grows: bool,
) -> Option<Cost> {
    let loads = gross(rounds.first()?)?.len();
    let (mut nets, mut ratios) = (Vec::new(), Vec::new());
    for load in 0..loads {
        let (mut net_by_round, mut ratio_by_round) = (Vec::new(), Vec::new());
        for round in rounds {
            let net = round.net(*gross(round)?.get(load)?, grows)?;
            net_by_round.push(net);
            // A round in which the yardstick took no time was disturbed.
            if let Some(fixed) = round.fixed_net().filter(|&fixed| fixed > 0.0) {
                ratio_by_round.push(net / fixed);
            }
        }
        nets.push(median(&net_by_round)?);
        ratios.push(median(&ratio_by_round)?);
    }
    let wrapper = rounds.iter().map(|round| round.wrapper_for(grows));
    let wrapper: Option<Vec<f64>> = wrapper.collect();
    Some(Cost {
        net_ns: Summary::of(&nets)?,
        ratio: median(&ratios)?,
        interval: Interval::of_median(&ratios)?,
        wrapper_ns: median(&wrapper?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which the wrapper takes 33, room 8 each way, and the fixed header 5 more.
    fn round(slowdown: f64, program: &[f64]) -> Round {
        let scaled = |values: &[f64]| values.iter().map(|value| value * slowdown).collect();
        Round {
            empty: scaled(&[33.0, 32.0, 34.0]),
            adjust: scaled(&[49.0, 48.0, 50.0]),
            fixed: scaled(&[54.0, 53.0, 55.0]),
            programs: vec![scaled(program)],
        }
    }

    #[test]
    fn what_the_wrapper_takes_is_subtracted() {
        let rounds = [round(1.0, &[69.0, 70.0, 68.0])];
        let cost = cost(&rounds, 0, true).expect("a cost");
        // 33 for the wrapper, and 8 to make the frame shorter again.
        assert_eq!(cost.net_ns.median, 28.0);
        assert_eq!((cost.net_ns.min, cost.net_ns.max), (27.0, 29.0));
        assert_eq!(cost.wrapper_ns, 41.0);
        assert!((cost.ratio - 28.0 / 13.0).abs() < 1e-9);
        assert!((cost.interval.low - 27.0 / 13.0).abs() < 1e-9);
    }

    #[test]
    fn a_program_that_leaves_the_length_alone_has_nothing_undone() {
        let rounds = [round(1.0, &[43.0, 43.0, 43.0])];
        assert_eq!(cost(&rounds, 0, false).expect("a cost").net_ns.median, 10.0);
    }

    #[test]
    fn a_round_that_is_slow_as_a_whole_changes_no_ratio() {
        let rounds = [
            round(1.0, &[69.0, 69.0, 69.0]),
            round(3.0, &[69.0, 69.0, 69.0]),
            round(1.5, &[69.0, 69.0, 69.0]),
        ];
        let cost = cost(&rounds, 0, true).expect("a cost");
        assert!((cost.ratio - 28.0 / 13.0).abs() < 1e-9);
        assert!((cost.interval.high - cost.interval.low).abs() < 1e-9);
        assert_eq!(cost.net_ns.median, 42.0, "the median round's");
    }

    #[test]
    fn the_fixed_header_costs_itself() {
        let rounds = [round(1.0, &[69.0, 69.0, 69.0])];
        let fixed = cost_of_fixed(&rounds).expect("a cost");
        assert_eq!((fixed.net_ns.median, fixed.ratio), (13.0, 1.0));
        let adjust = cost_of_adjust(&rounds).expect("a cost");
        assert_eq!(adjust.net_ns.median, 8.0);
    }

    #[test]
    fn without_rounds_or_without_such_a_program_there_is_no_cost() {
        assert_eq!(cost(&[], 0, true), None);
        assert_eq!(cost(&[round(1.0, &[1.0])], 1, true), None);
    }
}
