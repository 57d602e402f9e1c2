use proptest::prelude::*;

use super::*;
use crate::{config::CheckKind, health::ProbeResult};

fn check(rise: u32, fall: u32) -> Check {
    Check {
        kind: CheckKind::Tcp,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise,
        fall,
        port: None,
    }
}

fn outcome(result: ProbeResult) -> Outcome {
    Outcome {
        result,
        latency: Duration::from_micros(250),
    }
}

/// Feeds results in, a second apart, and returns the transitions as (index of the result, to).
fn run(machine: &mut Machine, results: &[ProbeResult], start: Instant) -> Vec<(usize, State)> {
    let mut transitions = Vec::new();
    for (index, result) in results.iter().enumerate() {
        let now = start + Duration::from_secs(index as u64 + 1);
        let before = machine.snapshot().state;
        if let Some(transition) = machine.on_result(&outcome(result.clone()), now) {
            assert_eq!(transition.from, before);
            assert_eq!(transition.at, now);
            assert_eq!(machine.snapshot().since, now);
            transitions.push((index, transition.to));
        }
    }
    transitions
}

use ProbeResult::{Ok, Refused, TimedOut};

#[test]
fn the_first_result_decides_at_once() {
    let start = Instant::now();
    for (result, state) in [(Ok, State::Up), (Refused, State::Down)] {
        let mut machine = Machine::new(&check(3, 3), start);
        assert_eq!(machine.snapshot().state, State::Unknown);
        assert_eq!(machine.snapshot().code, Code::Unk);
        assert_eq!(run(&mut machine, &[result], start), vec![(0, state)]);
    }
}

#[test]
fn after_that_it_takes_rise_or_fall_results_in_a_row() {
    let start = Instant::now();
    let mut machine = Machine::new(&check(2, 3), start);
    let results = [
        Ok, TimedOut, TimedOut, Ok, TimedOut, TimedOut, Refused, Ok, Refused, Ok, Ok,
    ];
    assert_eq!(
        run(&mut machine, &results, start),
        vec![(0, State::Up), (6, State::Down), (10, State::Up)]
    );
}

#[test]
fn a_transition_tells_its_reason() {
    let start = Instant::now();
    let mut machine = Machine::adopted(&check(1, 2), Verdict::Up, start);
    assert_eq!(machine.on_result(&outcome(Refused), start), None);
    let transition = machine
        .on_result(
            &outcome(ProbeResult::Unreachable("no route".to_owned())),
            start,
        )
        .expect("the second failure decides");
    assert_eq!(transition.code, Code::L4Con);
    assert_eq!(transition.detail, "unreachable: no route");
    assert_eq!(transition.results_in_a_row, 2);
}

#[test]
fn an_adopted_state_is_not_overturned_by_one_result() {
    let start = Instant::now();
    let mut up = Machine::adopted(&check(2, 2), Verdict::Up, start);
    assert_eq!(
        run(&mut up, &[Refused, Refused], start),
        vec![(1, State::Down)]
    );
    let mut down = Machine::adopted(&check(2, 2), Verdict::Down, start);
    assert_eq!(run(&mut down, &[Ok, Ok], start), vec![(1, State::Up)]);
}

#[test]
fn trouble_of_this_host_counts_as_nothing_and_is_shown() {
    let start = Instant::now();
    let local = || ProbeResult::Local("too many open files".to_owned());
    let mut machine = Machine::new(&check(2, 2), start);
    assert_eq!(run(&mut machine, &[local(), local()], start), vec![]);
    assert_eq!(machine.snapshot().state, State::Unknown);
    assert_eq!(machine.snapshot().latency, None);
    let results = [Ok, Refused, local(), local(), Refused];
    assert_eq!(
        run(&mut machine, &results, start),
        vec![(0, State::Up), (4, State::Down)]
    );
    run(&mut machine, &[local()], start);
    assert_eq!(machine.snapshot().code, Code::Unk);
    assert_eq!(machine.snapshot().fall, 2);
}

#[test]
fn the_snapshot_follows_each_result() {
    let start = Instant::now();
    let mut machine = Machine::new(&check(2, 3), start);
    run(&mut machine, &[Ok, Ok, TimedOut], start);
    let snapshot = machine.snapshot();
    assert_eq!(snapshot.state, State::Up);
    assert_eq!(snapshot.code, Code::L4Tout);
    assert_eq!((snapshot.rise, snapshot.fall), (0, 1));
    assert_eq!(snapshot.since, start + Duration::from_secs(1));
    assert_eq!(snapshot.latency, Some(Duration::from_micros(250)));
}

/// What the state must be, from the whole history at once: whichever came last of `rise` successes
/// in a row, `fall` failures in a row, and the first result of a target that was unknown.
fn oracle(check: &Check, adopted: Option<Verdict>, history: &[bool]) -> State {
    for end in (1..=history.len()).rev() {
        let ends_run = |is_well: bool, length: u32| {
            let length = length as usize;
            end >= length && history[end - length..end].iter().all(|&r| r == is_well)
        };
        let is_first = end == 1 && adopted.is_none();
        if ends_run(true, check.rise) || (is_first && history[0]) {
            return State::Up;
        }
        if ends_run(false, check.fall) || (is_first && !history[0]) {
            return State::Down;
        }
    }
    adopted.map_or(State::Unknown, State::from)
}

proptest! {
    #[test]
    fn agrees_with_the_oracle(
        rise in 1_u32..5,
        fall in 1_u32..5,
        adopted in prop_oneof![
            Just(None),
            Just(Some(Verdict::Up)),
            Just(Some(Verdict::Down)),
        ],
        results in prop::collection::vec(
            prop_oneof![4 => Just(Ok), 2 => Just(Refused), 2 => Just(TimedOut),
                1 => Just(ProbeResult::Local("full".to_owned()))],
            0..60,
        ),
    ) {
        let check = check(rise, fall);
        let start = Instant::now();
        let mut machine = match adopted {
            None => Machine::new(&check, start),
            Some(verdict) => Machine::adopted(&check, verdict, start),
        };
        let mut history = Vec::new();
        for result in results {
            if !matches!(result, ProbeResult::Local(_)) {
                history.push(result == Ok);
            }
            let before = machine.snapshot().state;
            let transition = machine.on_result(&outcome(result), start);
            let expected = oracle(&check, adopted, &history);
            prop_assert_eq!(machine.snapshot().state, expected);
            let changed = transition.map(|transition| (transition.from, transition.to));
            prop_assert_eq!(changed, (before != expected).then_some((before, expected)));
        }
    }
}
