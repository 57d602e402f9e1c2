//! How many messages of its own the program sends (RFC 1812, section 4.3.2.8; RFC 4443, section
//! 2.4): a bucket of tokens for each CPU, which only they look at.

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, macros::map, maps::PerCpuArray};

/// A token a millisecond, as Linux has it.
const INTERVAL_NS: u64 = 1_000_000;
/// Tokens of a full bucket.
const BURST: u64 = 50;

/// When the bucket will be full if nothing is sent, in nanoseconds of CLOCK_MONOTONIC. Lives with the
/// program, unlike other maps.
#[map]
static ANSWERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Takes a token; whether there was one.
#[inline(always)]
pub fn take() -> bool {
    let Some(full_at_ns) = ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the helper takes nothing and gives a number.
    let now_ns = unsafe { bpf_ktime_get_coarse_ns() };
    // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
    unsafe {
        let full = (*full_at_ns).max(now_ns) + INTERVAL_NS;
        if full > now_ns + BURST * INTERVAL_NS {
            return false;
        }
        *full_at_ns = full;
    }
    true
}
