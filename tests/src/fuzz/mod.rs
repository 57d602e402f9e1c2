//! Holds the program against the model, on configurations and frames that chance makes.
//!
//! A case is a seed: it gives a configuration, of which the program is loaded and the maps are
//! written, and frames, which are run one after another. Model and program have to agree on the
//! kernel's answer, every reason and counter, every byte that leaves, and at the end on every record.

mod balancer;
mod build;
mod compare;
mod fragments;
mod frames;
mod mutate;
mod random;
mod shrink;
mod worlds;

use std::time::Instant;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};

pub use compare::{Difference, Tally};

use balancer::Balancer;
use random::Random;

use crate::programs::load;

/// Frames of one case: more where there are many, since to load a program takes its time.
fn frames_each(frames: u64) -> u64 {
    (frames / 20).clamp(2000, 10_000)
}

/// What is to be done.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Frames to compare.
    #[arg(long, default_value_t = 100_000)]
    pub frames: u64,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs this case alone, as a difference has named it.
    #[arg(long)]
    pub case: Option<u64>,
    /// Differences after which it stops.
    #[arg(long, default_value_t = 10)]
    pub differences: usize,
    /// Prints one JSON object at the end.
    #[arg(long)]
    pub json: bool,
}

/// What came of it all.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Counts.
    pub tally: Tally,
    /// Cases, each with a configuration of its own.
    pub cases: u64,
    /// Differences, as they are printed.
    pub differences: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Compares as many frames as it is told. The thread gets a network namespace of its own.
///
/// # Errors
///
/// The program can't be loaded or run.
pub fn run(options: &Options) -> Result<Report> {
    // So that the host's routes and forwarding play no part.
    unshare(CloneFlags::CLONE_NEWNET)
        .context("a network namespace for this thread: are you root?")?;
    let object = load::object(load::BALANCER)?;
    let begin = Instant::now();
    let mut report = Report::default();
    let mut seeds = Random::new(options.seed);
    while report.tally.frames < options.frames && report.differences.len() < options.differences {
        let seed = options.case.unwrap_or_else(|| seeds.long());
        let frames = (options.frames - report.tally.frames).min(frames_each(options.frames));
        let found = case(&object, seed, frames, &mut report.tally)
            .with_context(|| format!("case {seed}"))?;
        report.differences.extend(found);
        report.cases += 1;
        if options.case.is_some() {
            break;
        }
    }
    report.seconds = begin.elapsed().as_secs_f64();
    Ok(report)
}

fn case(object: &[u8], seed: u64, frames: u64, tally: &mut Tally) -> Result<Option<String>> {
    let mut random = Random::new(seed);
    let world = worlds::world(&mut random, compare::now_s());
    let count = frames as usize;
    let mut frames = Vec::new();
    while frames.len() < count {
        frames::more(&mut random, &world, &mut frames);
    }
    frames.truncate(count);
    let mut target = Balancer::load(object, &world)?;
    let Some(difference) = compare::run(&mut target, &world, &frames, tally)? else {
        return Ok(None);
    };
    let (frames, difference) = shrink::shrink(&mut target, &world, &frames, difference)?;
    Ok(Some(describe(seed, &world, &frames, &difference)))
}

fn describe(
    seed: u64,
    world: &crate::model::World,
    frames: &[Vec<u8>],
    difference: &Difference,
) -> String {
    use std::fmt::Write;
    let mut text = format!("case {seed}: run it again by `cargo xtask fuzz --case {seed}`\n");
    let _ = writeln!(text, "features {:#b}", world.features);
    for (number, interface) in (1..).zip(&world.interfaces) {
        let _ = writeln!(text, "interface {number}: {interface:?}");
    }
    for (number, service) in (1..).zip(&world.services) {
        let _ = writeln!(text, "service {number}: {service:?}");
    }
    for (number, pool) in world.pools.iter().enumerate() {
        let _ = writeln!(text, "pool {number}: {pool:x?}");
    }
    for (number, backend) in (1..).zip(&world.backends) {
        let _ = writeln!(text, "backend {number}: {backend:?}");
    }
    for frame in frames {
        let _ = writeln!(text, "frame {}", compare::hex(frame));
        match etherparse::SlicedPacket::from_ethernet(frame) {
            Ok(packet) => {
                let _ = writeln!(text, "  {:?}\n  {:?}", packet.net, packet.transport);
            }
            Err(error) => {
                let _ = writeln!(text, "  malformed: {error}");
            }
        }
    }
    text + &difference.what
}
