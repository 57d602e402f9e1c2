//! Where it is measured.

use std::{fs, thread};

use serde::Serialize;

use crate::clock;

/// What a reader must know of the machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Release of the kernel.
    pub kernel: String,
    /// Whether eBPF programs are compiled.
    pub jit: bool,
    /// What the kernel does against attacks that cost calls and branches.
    pub mitigations: Vec<String>,
    /// Whether the kernel accounts interrupts apart from threads.
    pub interrupts_apart: bool,
    /// Processes that wanted to run in the minute before the benchmark began.
    pub load_before: f64,
}

impl Machine {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            processor: processor(&read("/proc/cpuinfo")),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            jit: read("/proc/sys/net/core/bpf_jit_enable").trim() != "0",
            mitigations: mitigations(),
            interrupts_apart: clock::interrupts_are_apart(),
            load_before: load(&read("/proc/loadavg")),
        }
    }

    /// Whether something else ran that may disturb the figures.
    #[must_use]
    pub fn was_busy(&self) -> bool {
        const SOME: f64 = 0.5;
        self.load_before > SOME
    }

    /// Lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let jit = if self.jit { "compiled" } else { "interpreted" };
        let mut lines = vec![format!(
            "{}, {} processors, Linux {}, eBPF {jit}",
            self.processor, self.processors, self.kernel
        )];
        if !self.mitigations.is_empty() {
            lines.push(format!("mitigations: {}", self.mitigations.join("; ")));
        }
        if self.was_busy() {
            lines.push(format!(
                "the machine was busy before ({:.1} processes wanted to run): figures are disturbed",
                self.load_before
            ));
        }
        lines
    }
}

fn processor(cpuinfo: &str) -> String {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map_or_else(
        || "unknown processor".to_owned(),
        |(_, name)| name.trim().to_owned(),
    )
}

fn load(loadavg: &str) -> f64 {
    let first = loadavg.split_whitespace().next();
    first.and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

/// Those of the kernel's mitigations that a program's indirect calls and returns pay for.
fn mitigations() -> Vec<String> {
    ["spectre_v2", "retbleed", "spec_rstack_overflow"]
        .iter()
        .filter_map(|name| {
            let path = format!("/sys/devices/system/cpu/vulnerabilities/{name}");
            let said = fs::read_to_string(path).ok()?;
            said.starts_with("Mitigation")
                .then(|| format!("{name}: {}", said.trim()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_and_the_load_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Fast 9000\ncpu MHz\t: 1\n";
        assert_eq!(processor(cpuinfo), "Fast 9000");
        assert_eq!(processor(""), "unknown processor");
        assert_eq!(load("1.25 0.50 0.10 1/200 300\n"), 1.25);
        assert_eq!(load(""), 0.0);
    }

    #[test]
    fn a_busy_machine_says_so() {
        let mut machine = Machine {
            load_before: 0.3,
            ..Machine::default()
        };
        assert_eq!(machine.lines().len(), 1);
        machine.load_before = 2.0;
        assert!(machine.lines()[1].contains("figures are disturbed"));
    }
}
