//! What Prometheus wants to know of every process, by the names that its clients agree on.

use nix::{
    sys::resource::{UsageWho, getrusage},
    unistd::{SysconfVar, sysconf},
};

/// What a process takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Seconds of CPU, of user and system.
    pub(super) cpu_s: f64,
    /// Bytes of memory that are resident.
    pub(super) resident_bytes: u64,
    /// Open files.
    pub(super) open_files: u64,
}

/// What this process takes; `None`: the kernel does not say.
pub(super) fn usage() -> Option<Usage> {
    let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| {
        std::time::Duration::new(
            u64::try_from(time.tv_sec()).unwrap_or(0),
            u32::try_from(time.tv_usec()).unwrap_or(0) * 1000,
        )
        .as_secs_f64()
    };
    let pages: u64 = std::fs::read_to_string("/proc/self/statm")
        .ok()?
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()?;
    let page_bytes = u64::try_from(sysconf(SysconfVar::PAGE_SIZE).ok()??).ok()?;
    Some(Usage {
        cpu_s: seconds(used.user_time()) + seconds(used.system_time()),
        resident_bytes: pages * page_bytes,
        open_files: std::fs::read_dir("/proc/self/fd").ok()?.count() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_something() {
        let usage = usage().expect("the kernel says");
        assert!(usage.cpu_s > 0.0 && usage.cpu_s < 1e6, "{usage:?}");
        assert!(usage.resident_bytes > 1 << 20, "{usage:?}");
        assert!(usage.open_files >= 3, "{usage:?}");
    }
}
