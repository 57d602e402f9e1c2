//! Makes a difference smaller: fewer frames, then a simpler last one.

use anyhow::Result;

use super::{
    balancer::Balancer,
    compare::{Difference, Tally, run},
    frames::INPUT_BYTES_MIN,
};
use crate::model::World;

/// Runs that it may take.
const TRIES: usize = 3000;

/// The frames that are left, and what they show.
pub(super) fn shrink(
    target: &mut Balancer,
    world: &World,
    frames: &[Vec<u8>],
    difference: Difference,
) -> Result<(Vec<Vec<u8>>, Difference)> {
    let mut work = Work {
        target,
        world,
        left: TRIES,
        best: frames[..=difference.frame].to_vec(),
        difference,
    };
    work.fewer()?;
    work.simpler()?;
    Ok((work.best, work.difference))
}

struct Work<'a> {
    target: &'a mut Balancer,
    world: &'a World,
    left: usize,
    best: Vec<Vec<u8>>,
    difference: Difference,
}

impl Work<'_> {
    /// Keeps these frames if they show a difference too.
    fn try_with(&mut self, frames: Vec<Vec<u8>>) -> Result<bool> {
        if self.left == 0 || frames.is_empty() {
            return Ok(false);
        }
        self.left -= 1;
        self.target.reset(self.world)?;
        let found = run(self.target, self.world, &frames, &mut Tally::default())?;
        let Some(difference) = found else {
            return Ok(false);
        };
        self.best = frames[..=difference.frame].to_vec();
        self.difference = difference;
        Ok(true)
    }

    /// Leaves out ever smaller parts of what came before.
    fn fewer(&mut self) -> Result<()> {
        let last = self.best.last().cloned().unwrap_or_default();
        if self.try_with(vec![last])? {
            return Ok(());
        }
        let mut part = self.best.len() / 2;
        while part > 0 {
            let mut at = 0;
            while at + part < self.best.len() {
                let mut fewer = self.best.clone();
                fewer.drain(at..at + part);
                if !self.try_with(fewer)? {
                    at += part;
                }
            }
            part /= 2;
        }
        Ok(())
    }

    /// Shortens the last frame and sets bytes of it to 0.
    fn simpler(&mut self) -> Result<()> {
        let Some(last) = self.best.last().cloned() else {
            return Ok(());
        };
        let mut part = last.len() / 2;
        while part > 0 {
            while let Some(last) = self.best.last().cloned() {
                let length = last.len().saturating_sub(part);
                if length < INPUT_BYTES_MIN || !self.with_last(last[..length].to_vec())? {
                    break;
                }
            }
            part /= 2;
        }
        let bytes = self.best.last().map_or(0, Vec::len);
        for at in INPUT_BYTES_MIN..bytes {
            let Some(mut last) = self.best.last().cloned() else {
                break;
            };
            if last.get(at).is_some_and(|byte| *byte != 0) {
                last[at] = 0;
                self.with_last(last)?;
            }
        }
        Ok(())
    }

    fn with_last(&mut self, last: Vec<u8>) -> Result<bool> {
        let mut frames = self.best.clone();
        if let Some(place) = frames.last_mut() {
            *place = last;
        }
        self.try_with(frames)
    }
}
