//! Clocks of the processor's time, and where threads run.

use std::{fs, process::Command, sync::OnceLock, time::Duration};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    time::{ClockId, clock_gettime},
    unistd::Pid,
};

/// Processor time that this thread has used.
///
/// On a kernel that does not account interrupts apart, it includes what soft interrupts did on top of
/// the thread, which for traffic over veth is nearly all of the network's work.
#[must_use]
pub fn of_thread() -> Duration {
    read(ClockId::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time that a process has used, with all its threads.
#[must_use]
pub fn of_process(pid: u32) -> Duration {
    let pid = Pid::from_raw(i32::try_from(pid).expect("process ids fit"));
    let clock = ClockId::pid_cpu_clock_id(pid)
        .unwrap_or_else(|error| panic!("find the clock of process {pid}: {error}"));
    read(clock)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock).unwrap_or_else(|error| panic!("read {clock}: {error}"));
    Duration::from(time)
}

/// Processor time that soft interrupts took which no thread of ours is charged with: what the
/// kernel's own threads did, and, on a kernel that accounts interrupts apart, all of it. Others'
/// traffic counts as well, so the machine should have none.
#[must_use]
pub fn of_soft_interrupts() -> Duration {
    static THREADS: OnceLock<Vec<u32>> = OnceLock::new();
    let threads = THREADS.get_or_init(soft_interrupt_threads);
    let by_threads: Duration = threads.iter().map(|&pid| of_process(pid)).sum();
    if interrupts_are_apart() {
        by_threads + interrupt_time()
    } else {
        by_threads
    }
}

fn soft_interrupt_threads() -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("a system has /proc");
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm"));
            name.is_ok_and(|name| name.starts_with("ksoftirqd/"))
        })
        .collect()
}

/// Whether threads are not charged with the interrupts on top of them. Where the kernel's
/// configuration can't be read, they are taken to be.
#[must_use]
pub fn interrupts_are_apart() -> bool {
    static APART: OnceLock<bool> = OnceLock::new();
    *APART.get_or_init(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let config = fs::read_to_string(format!("/boot/config-{}", release.trim())).ok();
        let config = config.or_else(|| {
            let output = Command::new("zcat").arg("/proc/config.gz").output().ok()?;
            String::from_utf8(output.stdout).ok()
        });
        config.is_some_and(|config| {
            let mut lines = config.lines();
            lines.any(|line| line == "CONFIG_IRQ_TIME_ACCOUNTING=y")
        })
    })
}

/// Time in hard and soft interrupts, over all processors.
fn interrupt_time() -> Duration {
    /// Parts of a second in `/proc/stat` (proc(5), USER_HZ).
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    Duration::from_secs_f64(interrupt_ticks(&stat) / TICKS)
}

/// The sixth and seventh figure of the line of all processors.
fn interrupt_ticks(stat: &str) -> f64 {
    let line = stat.lines().next().unwrap_or_default();
    let figures = line.split_whitespace().skip(1 + 5).take(2);
    figures
        .filter_map(|figure| figure.parse::<f64>().ok())
        .sum()
}

/// Keeps this thread, and those that it starts, on one processor, until this is dropped.
#[derive(Debug)]
pub struct Pinned {
    before: CpuSet,
}

impl Pinned {
    /// On the last processor that the thread may run on: the first ones have most of the interrupts.
    #[must_use]
    pub fn to_last() -> Self {
        let before = sched_getaffinity(THIS).expect("the kernel knows where we may run");
        pin(THIS, &before);
        Self { before }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // Where we were allowed to run before, we are still.
        let _ = sched_setaffinity(THIS, &self.before);
    }
}

/// Keeps a process that has one thread on the processor of [`Pinned::to_last`].
pub fn pin_process_to_last(pid: u32) {
    let allowed = sched_getaffinity(THIS).expect("the kernel knows where we may run");
    let pid = i32::try_from(pid).expect("process ids fit");
    pin(Pid::from_raw(pid), &allowed);
}

/// Keeps a thread on the last of the processors that are allowed.
fn pin(thread: Pid, allowed: &CpuSet) {
    let last = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false))
        .expect("we may run somewhere");
    let mut set = CpuSet::new();
    set.set(last).expect("a processor that exists");
    sched_setaffinity(thread, &set)
        .unwrap_or_else(|error| panic!("stay on processor {last}: {error}"));
}

/// The calling thread.
const THIS: Pid = Pid::from_raw(0);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn hard_and_soft_interrupts_are_summed_up() {
        let stat = "cpu  10 20 30 40 50 7 11 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(interrupt_ticks(stat), 18.0);
        assert_eq!(interrupt_ticks(""), 0.0);
    }

    #[test]
    fn the_kernel_has_threads_for_soft_interrupts() {
        assert!(!soft_interrupt_threads().is_empty());
    }

    #[test]
    fn work_takes_processor_time_and_sleep_takes_none() {
        let (thread, process) = (of_thread(), of_process(std::process::id()));
        std::thread::sleep(Duration::from_millis(30));
        assert!(of_thread() - thread < Duration::from_millis(20));
        let start = Instant::now();
        while of_thread() - thread < Duration::from_millis(20) {
            assert!(start.elapsed() < Duration::from_secs(60));
        }
        assert!(of_process(std::process::id()) - process >= Duration::from_millis(20));
    }
}
