//! A world, frames, and where model and program part.

use std::fmt::Write;

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};
use xlb_common::{
    maps::name,
    reason::{Action, Reason},
};

use super::balancer::{Actual, Balancer, number};
use crate::{
    model::{Expected, Model, World},
    strict,
};

/// Seconds that clocks of model and program may lie apart.
const CLOCK_SLACK_S: u32 = 3;

/// A difference between model and program.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Place of the frame that showed it.
    pub frame: usize,
    /// What differs.
    pub what: String,
}

/// What came of many frames.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Frames that were compared.
    pub frames: u64,
    /// Frames by the reason that model and program gave.
    pub reasons: Vec<u64>,
    /// Frames that left by attachment.
    pub forwarded: u64,
    /// Frames that left although the independent parser calls them malformed.
    pub malformed_forwarded: u64,
    /// Frames that it calls malformed.
    pub malformed: u64,
}

/// The time that records are kept in.
pub(super) fn now_s() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec() as u32)
}

/// Runs frames one after another, and compares each, and at last what was recorded. Gives the first
/// difference.
pub(super) fn run(
    target: &mut Balancer,
    world: &World,
    frames: &[Vec<u8>],
    tally: &mut Tally,
) -> Result<Option<Difference>> {
    tally.reasons.resize(Reason::COUNT, 0);
    let mut model = Model::new(world.clone());
    for (place, frame) in frames.iter().enumerate() {
        let expected = model.frame(frame, now_s());
        let actual = target.run(frame)?;
        tally.frames += 1;
        for reason in &expected.reasons {
            tally.reasons[reason.index() as usize] += 1;
        }
        let mut what = differs(&expected, &actual);
        if what.is_none() {
            what = looks_wrong(frame, &actual, tally);
        }
        if let Some(what) = what {
            return Ok(Some(Difference { frame: place, what }));
        }
    }
    Ok(remembered(target, &model)?.map(|what| Difference {
        frame: frames.len().saturating_sub(1),
        what,
    }))
}

/// What differs between the model's expectation and what the program did.
fn differs(expected: &Expected, actual: &Actual) -> Option<String> {
    let withheld = expected.limited
        && actual.action == number(Action::Drop)
        && actual.reasons == [(Reason::TooBig, 1)];
    if withheld {
        return None;
    }
    let mut out = String::new();
    let reasons: Vec<_> = expected.reasons.iter().map(|&reason| (reason, 1)).collect();
    if actual.reasons != reasons {
        let _ = writeln!(
            out,
            "reasons: expected {:?}, got {:?}",
            expected.reasons, actual.reasons
        );
    }
    if actual.action != number(expected.action) {
        let _ = writeln!(
            out,
            "action: expected {} ({:?}), got {}",
            number(expected.action),
            expected.action,
            actual.action
        );
    }
    let counters: Vec<_> = expected
        .counter
        .iter()
        .map(|(index, counters)| (*index, counters.words()))
        .collect();
    if actual.counters != counters {
        let _ = writeln!(
            out,
            "counters: expected {counters:?}, got {:?}",
            actual.counters
        );
    }
    if let Some(output) = &expected.output
        && *output != actual.output
        && out.is_empty()
    {
        let _ = writeln!(
            out,
            "bytes:\n  expected {}\n  got      {}",
            hex(output),
            hex(&actual.output)
        );
    }
    (!out.is_empty()).then_some(out)
}

/// What the independent parser finds in a frame that left.
fn looks_wrong(input: &[u8], actual: &Actual, tally: &mut Tally) -> Option<String> {
    let malformed = strict::malformed(input);
    tally.malformed += u64::from(malformed.is_some());
    if ![number(Action::Tx), number(Action::Redirect)].contains(&actual.action) {
        return None;
    }
    tally.forwarded += 1;
    if let Some(error) = malformed {
        tally.malformed_forwarded += 1;
        return Some(format!("a malformed frame was forwarded: {error}\n"));
    }
    if strict::wrong_checksum(input).is_some() {
        return None;
    }
    if let Some(error) = strict::malformed(&actual.output) {
        return Some(format!("what left is malformed: {error}\n"));
    }
    let wrong = strict::wrong_checksum(&actual.output)?;
    Some(format!(
        "the frame's checksums were right, and what left has a wrong one: {wrong}\n  got {}\n",
        hex(&actual.output)
    ))
}

/// What differs between what the model remembers and what the maps say.
fn remembered(target: &mut Balancer, model: &Model) -> Result<Option<String>> {
    for (map, records) in [(name::PENDING, &model.pending), (name::FLOWS, &model.flows)] {
        let actual = target.records(map)?;
        for (key, value) in records.iter() {
            let Some((_, is)) = actual.iter().find(|(of, _)| of == key) else {
                return Ok(Some(format!("{map} lacks {key:x?}: {value:x?}\n")));
            };
            if (is.word, is.isn) != (value.word, value.isn)
                || is.seen_s.abs_diff(value.seen_s) > CLOCK_SLACK_S
            {
                let text =
                    format!("{map} of {key:x?}:\n  expected {value:x?}\n  got      {is:x?}\n");
                return Ok(Some(text));
            }
        }
        let expected = records.iter().count();
        if actual.len() != expected {
            let more = actual
                .iter()
                .find(|(key, _)| records.iter().all(|(of, _)| of != key));
            return Ok(Some(format!(
                "{map}: expected {expected} records, got {}; among them {more:x?}\n",
                actual.len()
            )));
        }
    }
    for (slot, is) in (0..).zip(target.last_miss_s()?) {
        let should = model.last_miss_s.get(&slot).copied().unwrap_or(0);
        if is.abs_diff(should) > CLOCK_SLACK_S {
            return Ok(Some(format!(
                "last miss of slot {slot}: expected {should}, got {is}\n"
            )));
        }
    }
    for (number, backend) in (1..).zip(&model.world.backends) {
        let is = target.connections(number)?;
        if is != backend.connections {
            return Ok(Some(format!(
                "open connections of backend {number}: expected {}, got {is}\n",
                backend.connections
            )));
        }
    }
    Ok(None)
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
