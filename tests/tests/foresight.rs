//! Tell before you act: what `diff` says comes true, and what `explain` says is what packets do.

#[path = "foresight/diff.rs"]
mod diff;
#[path = "foresight/explain.rs"]
mod explain;
#[path = "foresight/stage.rs"]
mod stage;
