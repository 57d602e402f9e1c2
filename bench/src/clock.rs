//! Clocks of the processor's time, and where threads run.

use std::time::Duration;

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

/// The processors that this process may run on, in ascending order.
#[must_use]
pub fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("the kernel knows where we may run");
    (0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect()
}

/// Keeps this thread, and those that it starts, on one processor.
pub fn pin_to(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a processor that exists");
    sched_setaffinity(Pid::from_raw(0), &set)
        .unwrap_or_else(|error| panic!("stay on processor {cpu}: {error}"));
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

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
