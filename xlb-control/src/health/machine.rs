//! The state machine of one target: results in, transitions out.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, Instant},
};

use super::{
    outcome::{Code, Evidence, Outcome},
    tally::Tally,
};
use crate::config::Check;

/// What is held of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No probe has told anything yet.
    Unknown,
    /// Well.
    Up,
    /// Failed its checks.
    Down,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// A state that has been decided, and that an agent can hand on to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Well.
    Up,
    /// Failed its checks.
    Down,
}

impl From<Verdict> for State {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Up => Self::Up,
            Verdict::Down => Self::Down,
        }
    }
}

impl State {
    /// The state as something to hand on; `None` while it is unknown.
    #[must_use]
    pub const fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Unknown => None,
            Self::Up => Some(Verdict::Up),
            Self::Down => Some(Verdict::Down),
        }
    }
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State before.
    pub from: State,
    /// State after.
    pub to: State,
    /// Reason code of the result that decided.
    pub code: Code,
    /// What happened, in words.
    pub detail: Cow<'static, str>,
    /// Results of this kind in a row that it took.
    pub results_in_a_row: u32,
    /// When it was decided.
    pub at: Instant,
}

/// What there is to say about a target, for the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// State.
    pub state: State,
    /// Reason code of the last result.
    pub code: Code,
    /// What happened last, in words.
    pub detail: Cow<'static, str>,
    /// Successes in a row.
    pub rise: u32,
    /// Failures in a row.
    pub fall: u32,
    /// When the state began.
    pub since: Instant,
    /// How long the last probe took that told something. `None` before the first one.
    pub latency: Option<Duration>,
}

/// The state machine of one target.
///
/// The first result decides at once; after that it takes [`Check::rise`] successes in a row to get
/// up, and [`Check::fall`] failures in a row to go down. A probe that failed on this host's account
/// counts as neither.
#[derive(Clone, Debug)]
pub struct Machine {
    rise_needed: u32,
    fall_needed: u32,
    now: Snapshot,
    tally: Tally,
}

impl Machine {
    /// A target of which nothing is known.
    #[must_use]
    pub fn new(check: &Check, now: Instant) -> Self {
        Self::starting(check, State::Unknown, "not probed yet", now)
    }

    /// A target whose state is known from before, so that a restart of the agent changes nothing by
    /// itself: it takes as many results as ever to overturn it.
    #[must_use]
    pub fn adopted(check: &Check, verdict: Verdict, now: Instant) -> Self {
        let detail = "state taken over, not probed since";
        Self::starting(check, verdict.into(), detail, now)
    }

    fn starting(check: &Check, state: State, detail: &'static str, now: Instant) -> Self {
        Self {
            rise_needed: check.rise,
            fall_needed: check.fall,
            now: Snapshot {
                state,
                code: Code::Unk,
                detail: Cow::Borrowed(detail),
                rise: 0,
                fall: 0,
                since: now,
                latency: None,
            },
            tally: Tally::default(),
        }
    }

    /// What there is to say about the target.
    #[must_use]
    pub const fn snapshot(&self) -> &Snapshot {
        &self.now
    }

    /// What its probes came to.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes a result in; returns the change of state that follows from it.
    pub fn on_result(&mut self, outcome: &Outcome, now: Instant) -> Option<Transition> {
        self.tally.add(outcome);
        self.now.code = outcome.code();
        self.now.detail = outcome.sentence();
        match outcome.evidence() {
            Evidence::Well => {
                self.now.rise = self.now.rise.saturating_add(1);
                self.now.fall = 0;
            }
            Evidence::Ill => {
                self.now.fall = self.now.fall.saturating_add(1);
                self.now.rise = 0;
            }
            Evidence::Nothing => return None,
        }
        self.now.latency = Some(outcome.latency);
        self.enter(self.decide(), now)
    }

    /// The state that the counts amount to.
    const fn decide(&self) -> State {
        let is_well = self.now.rise > 0;
        match self.now.state {
            State::Unknown if is_well => State::Up,
            State::Unknown => State::Down,
            State::Up if !is_well && self.now.fall >= self.fall_needed => State::Down,
            State::Down if is_well && self.now.rise >= self.rise_needed => State::Up,
            State::Up | State::Down => self.now.state,
        }
    }

    fn enter(&mut self, to: State, now: Instant) -> Option<Transition> {
        let from = self.now.state;
        if from == to {
            return None;
        }
        self.now.state = to;
        self.now.since = now;
        Some(Transition {
            from,
            to,
            code: self.now.code,
            detail: self.now.detail.clone(),
            // One of the two is zero.
            results_in_a_row: self.now.rise.max(self.now.fall),
            at: now,
        })
    }
}

#[cfg(test)]
mod tests;
