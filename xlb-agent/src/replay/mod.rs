//! What xlb would do with a capture: every frame of it through the real program by a test run.
//!
//! ```text
//! configuration --Engine--> maps of a sandbox
//! frame --program, by test run--> action, frame that leaves
//!       --counters before and after, and the rule of `explain`--> reason, service, slot, backend
//! ```
//!
//! No interface is touched, nothing of a running agent is read but its hash key, and nothing is left.

mod bench;
pub mod capture;
pub mod carried;
mod hops;
mod line;
mod sandbox;

use std::{net::IpAddr, path::PathBuf};

use xlb_control::config::Config;

use self::{
    bench::Bench,
    capture::{Capture, Output},
};
pub use self::{
    hops::{Mac, NextHops, SaidHop},
    line::{Line, Summary, Verdict},
};
use crate::daemon;

/// What is replayed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The configuration file.
    pub config: PathBuf,
    /// Where an agent keeps its hash key.
    pub state_dir: PathBuf,
    /// The capture.
    pub capture: PathBuf,
    /// The file that what leaves is written to.
    pub output: PathBuf,
    /// Where frames go.
    pub next_hops: NextHops,
    /// Sources of outer headers where the configuration says none, one a family at most.
    pub tunnel_sources: Vec<IpAddr>,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Done {
    /// How many frames came to which end.
    pub summary: Summary,
    /// What the reader should know.
    pub warnings: Vec<String>,
}

/// Replays a capture; each frame's line goes to `tell` when the frame is through. The calling thread is
/// in a sandbox afterwards.
///
/// # Errors
///
/// When the configuration or the capture is bad, a next hop or an outer source is not known, the output
/// can't be written, or the kernel refuses something.
pub fn replay(
    options: &Options,
    mut tell: impl FnMut(&Line) -> anyhow::Result<()>,
) -> anyhow::Result<Done> {
    let loaded = Config::load(&options.config)?;
    let mut warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let mut capture = Capture::open(&options.capture)?;
    let hash_key = daemon::known_hash_key(&loaded.config, &options.state_dir)?;
    if hash_key.is_none() {
        warnings.push(format!(
            "neither {} nor {} has a hash key: slots and backends are others than on any running host",
            options.config.display(),
            options.state_dir.display()
        ));
    }
    let mut bench = Bench::new(options, &loaded.config, hash_key.unwrap_or_default())?;
    // Last of all, so that what a bad input would have replaced is still there.
    let mut output = Output::create(&options.output)?;
    let mut summary = Summary::default();
    let mut number = 0;
    loop {
        let frame = match capture.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(error) => {
                output.finish()?;
                return Err(error);
            }
        };
        number += 1;
        let (line, sent) = bench.frame(number, &frame)?;
        if let Some((direction, bytes)) = sent {
            output.write(direction, frame.time, &bytes, &line.comment())?;
        }
        summary.add(line.verdict);
        tell(&line)?;
    }
    output.finish()?;
    Ok(Done { summary, warnings })
}
