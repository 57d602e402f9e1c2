//! The maps. What they hold stands in `xlb_common::decap`.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{HashMap, LpmTrie, PerCpuArray, RingBuf},
};
use xlb_common::{
    decap::{Hop, Reason},
    limits::{DECAP_EVENTS_BYTES, MAX_ALTERNATIVES, MAX_BACKEND_VIPS, MAX_BALANCER_PREFIXES},
    reason::REASONS_MAX,
};

#[map]
pub static BALANCERS4: LpmTrie<[u8; 4], u32> =
    LpmTrie::with_max_entries(MAX_BALANCER_PREFIXES, BPF_F_NO_PREALLOC);
#[map]
pub static BALANCERS6: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(MAX_BALANCER_PREFIXES, BPF_F_NO_PREALLOC);
#[map]
pub static LOCAL_VIPS4: HashMap<u32, u32> =
    HashMap::with_max_entries(MAX_BACKEND_VIPS, BPF_F_NO_PREALLOC);
#[map]
pub static LOCAL_VIPS6: HashMap<[u64; 2], u32> =
    HashMap::with_max_entries(MAX_BACKEND_VIPS, BPF_F_NO_PREALLOC);
#[map]
pub static PEERS4: LpmTrie<[u8; 4], u32> =
    LpmTrie::with_max_entries(MAX_BALANCER_PREFIXES, BPF_F_NO_PREALLOC);
#[map]
pub static PEERS6: LpmTrie<[u8; 16], u32> =
    LpmTrie::with_max_entries(MAX_BALANCER_PREFIXES, BPF_F_NO_PREALLOC);
#[map]
pub static ALTERNATIVES4: HashMap<u32, Hop> =
    HashMap::with_max_entries(MAX_ALTERNATIVES, BPF_F_NO_PREALLOC);
#[map]
pub static ALTERNATIVES6: HashMap<[u64; 2], Hop> =
    HashMap::with_max_entries(MAX_ALTERNATIVES, BPF_F_NO_PREALLOC);
#[map]
pub static DECAP_EVENTS: RingBuf = RingBuf::with_byte_size(DECAP_EVENTS_BYTES, 0);
#[map]
pub static DECAP_REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS_MAX, 0);

/// Adds one to the counter of a reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = DECAP_REASONS.get_ptr_mut(reason.index()) {
        // SAFETY: the kernel gave a pointer to this CPU's value, and XDP is not preempted by itself.
        unsafe { *counter += 1 };
    }
}
