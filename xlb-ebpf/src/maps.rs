//! The maps. Their keys and values stand in `xlb_common::maps`; the agent sets their sizes.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, DevMap, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};
use xlb_common::{
    fragment::FragmentRecord,
    limits::{
        BLOCK_ENTRIES, ENDPOINT_TABLE_MIN, EVENTS_BYTES, MAX_EGRESS, MAX_PORTS, MAX_ROUTES,
        MAX_WIDE_ADDRESSES,
    },
    maps::{AttachmentCounters, Backend, Egress, Entry4, Entry6, FlowKey, Pool, Service},
    nat::{NatPool, NatPort, NatSource, SOURCES_MAX},
    reason::{REASONS_MAX, Reason},
    record::FlowValue,
};

/// Sizes until the agent sets its own.
const DEFAULT_ENTRIES: u32 = 64;

/// Of these the kernel forgets some well before they are as many.
const DEFAULT_FRAGMENTED: u32 = 1024;

#[map]
pub static VIPS4: Array<Entry4> = Array::with_max_entries(ENDPOINT_TABLE_MIN, BPF_F_MMAPABLE);
#[map]
pub static VIPS6: Array<Entry6> = Array::with_max_entries(ENDPOINT_TABLE_MIN, BPF_F_MMAPABLE);
#[map]
pub static REPLIES4: Array<Entry4> = Array::with_max_entries(ENDPOINT_TABLE_MIN, BPF_F_MMAPABLE);
#[map]
pub static REPLIES6: Array<Entry6> = Array::with_max_entries(ENDPOINT_TABLE_MIN, BPF_F_MMAPABLE);
#[map]
pub static WIDE4: LpmTrie<[u8; 8], u64> =
    LpmTrie::with_max_entries(MAX_WIDE_ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
pub static WIDE6: LpmTrie<[u8; 20], u64> =
    LpmTrie::with_max_entries(MAX_WIDE_ADDRESSES, BPF_F_NO_PREALLOC);
#[map]
pub static PORTS: LpmTrie<[u8; 8], u64> = LpmTrie::with_max_entries(MAX_PORTS, BPF_F_NO_PREALLOC);
#[map]
pub static SERVICES: Array<Service> = Array::with_max_entries(DEFAULT_ENTRIES, BPF_F_MMAPABLE);
#[map]
pub static BACKENDS: Array<Backend> = Array::with_max_entries(DEFAULT_ENTRIES, BPF_F_MMAPABLE);
#[map]
pub static POOLS: Array<Pool> = Array::with_max_entries(DEFAULT_ENTRIES, BPF_F_MMAPABLE);
#[map]
pub static RING: Array<[u16; BLOCK_ENTRIES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static SLOTS: Array<[u64; BLOCK_ENTRIES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static LAST_MISS: Array<[u32; BLOCK_ENTRIES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static PENDING: HashMap<FlowKey, FlowValue> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static FLOWS: HashMap<FlowKey, FlowValue> = HashMap::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static FRAGMENTS: LruHashMap<FlowKey, FragmentRecord> =
    LruHashMap::with_max_entries(DEFAULT_FRAGMENTED, 0);
#[map]
pub static SEQUENCES: Array<[u16; BLOCK_ENTRIES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static CURSORS: Array<u64> = Array::with_max_entries(DEFAULT_ENTRIES, BPF_F_MMAPABLE);
#[map]
pub static CONNECTIONS: Array<u64> = Array::with_max_entries(DEFAULT_ENTRIES, BPF_F_MMAPABLE);
#[map]
pub static EGRESS: Array<Egress> = Array::with_max_entries(MAX_EGRESS, BPF_F_MMAPABLE);
#[map]
pub static EGRESS_DEVICES: DevMap = DevMap::with_max_entries(MAX_EGRESS, 0);
#[map]
pub static ROUTES4: LpmTrie<[u8; 4], u64> =
    LpmTrie::with_max_entries(MAX_ROUTES, BPF_F_NO_PREALLOC);
#[map]
pub static ROUTES6: LpmTrie<[u8; 16], u64> =
    LpmTrie::with_max_entries(MAX_ROUTES, BPF_F_NO_PREALLOC);
#[map]
pub static COUNTERS: PerCpuArray<AttachmentCounters> =
    PerCpuArray::with_max_entries(DEFAULT_ENTRIES, 0);
#[map]
pub static REASONS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS_MAX, 0);
#[map]
pub static NAT_PORTS: Array<NatPort> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
pub static NAT_SOURCES: Array<NatSource> = Array::with_max_entries(SOURCES_MAX, BPF_F_MMAPABLE);
#[map]
pub static NAT_POOLS: Array<NatPool> = Array::with_max_entries(2, BPF_F_MMAPABLE);
#[map]
pub static NAT_FLOWS: HashMap<[u64; 5], FlowValue> = HashMap::with_max_entries(1, 0);
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(EVENTS_BYTES, 0);

/// An entry of an arena, whose blocks are the values of an array map.
#[inline(always)]
pub fn arena<T: Copy>(arena: &Array<[T; BLOCK_ENTRIES]>, index: u32) -> Option<*mut T> {
    const MASK: u32 = BLOCK_ENTRIES as u32 - 1;
    let block = arena.get_ptr_mut(index / BLOCK_ENTRIES as u32)?;
    // SAFETY: the index within the block is masked to its length, a power of two.
    Some(unsafe { block.cast::<T>().add((index & MASK) as usize) })
}

/// Adds one to the counter of a reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason.index()) {
        // SAFETY: the kernel gave a pointer to this CPU's value, and XDP is not preempted by itself.
        unsafe { *counter += 1 };
    }
}
