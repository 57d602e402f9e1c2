//! Tell before you act: what `diff` says comes true, and what `explain` and `replay`
//! say is what packets do.

#[path = "foresight/diff.rs"]
mod diff;
#[path = "foresight/explain.rs"]
mod explain;
#[path = "foresight/replay.rs"]
mod replay;
#[path = "foresight/stage.rs"]
mod stage;
