//! Places at which a test has the agent die.

use std::cell::Cell;

/// A place in a change of the pins, in the order in which they are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Larger maps are made and filled, aside.
    MapsStaged,
    /// The program is loaded on them.
    ProgramStaged,
    /// The change is complete, and will be finished after a crash.
    Committed,
    /// The first link runs the new program, others may not.
    FirstLinkSwapped,
    /// All links run it.
    LinksSwapped,
    /// The new program's pin took the old one's place.
    ProgramRenamed,
    /// So did the first map's.
    FirstMapRenamed,
    /// So did all.
    AllRenamed,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 8] = [
        Self::MapsStaged,
        Self::ProgramStaged,
        Self::Committed,
        Self::FirstLinkSwapped,
        Self::LinksSwapped,
        Self::ProgramRenamed,
        Self::FirstMapRenamed,
        Self::AllRenamed,
    ];
}

thread_local! {
    static ARMED: Cell<Option<Step>> = const { Cell::new(None) };
}

/// Has this thread panic when it reaches the step: nothing in between cleans up, so what remains is
/// what remains of an agent that was killed there.
pub fn arm(step: Step) {
    ARMED.set(Some(step));
}

/// Marks a place.
///
/// # Panics
///
/// If a test armed the step.
pub(super) fn reach(step: Step) {
    if ARMED.get() == Some(step) {
        ARMED.set(None);
        panic!("a test ended the agent at {step:?}");
    }
}
