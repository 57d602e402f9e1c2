//! What people see while they wait: lines on standard error.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::OnceLock,
    time::Instant,
};

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// Says what begins.
pub fn say(what: &str) {
    eprintln!("[{:4} s] {what}", start().elapsed().as_secs());
}

/// Says how far something is, where a terminal can take the line back.
pub fn step(what: &str, done: usize, all: usize) {
    let mut stderr = stderr();
    if stderr.is_terminal() {
        // A terminal that is gone is nothing to stop for.
        let _ = write!(stderr, "         {what} {} of {all}\r", done + 1);
        let _ = stderr.flush();
    }
}
