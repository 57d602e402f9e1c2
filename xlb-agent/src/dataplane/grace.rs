//! Waiting until no program looks at what was just unlinked.

use std::{io, thread, time::Duration};

/// `MEMBARRIER_CMD_GLOBAL` of the kernel's `include/uapi/linux/membarrier.h`.
const MEMBARRIER_GLOBAL: i32 = 1;

/// Longer than any run of the program: a CPU handles at most a budget of 64 packets (300 by
/// `netdev_budget`) before it passes through a quiescent state.
const FALLBACK: Duration = Duration::from_millis(50);

/// Returns after an RCU grace period: every run of an XDP program that had begun before the call has
/// ended. Takes some milliseconds, so it is called once for many removals.
pub fn rcu_grace_period() {
    // The kernel implements the command by `synchronize_rcu` (kernel/sched/membarrier.c). It is
    // refused on kernels with nohz_full CPUs, and by seccomp filters that do not know it.
    if let Err(error) = membarrier_global() {
        tracing::debug!(%error, "membarrier is not available, waiting instead");
        thread::sleep(FALLBACK);
    }
}

fn membarrier_global() -> io::Result<()> {
    // SAFETY: the call takes three integers and touches no memory.
    match unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_grants_a_grace_period() {
        membarrier_global().expect("membarrier");
        rcu_grace_period();
    }
}
