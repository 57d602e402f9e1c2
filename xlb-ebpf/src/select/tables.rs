//! The tables of pending handshakes and of flows, as the rule of a packet wants them.

use core::{mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::generated::bpf_ktime_get_coarse_ns,
};
use xlb_common::{
    maps::{FlowKey, protocol},
    record::{CONFIRMED, COUNTED, Flow, FlowValue, Pending},
    rule::{Insert, Tables},
    slot::BackendFlags,
};

use super::{count, policy::Decision};
use crate::{
    atomic::exchange,
    maps::{self, BACKENDS, FLOWS, LAST_MISS, PENDING},
};

/// Nanoseconds of a second.
const SECOND_NS: u64 = 1_000_000_000;

/// The kernel's answer to an insertion of a key that exists.
const EEXIST: i32 = 17;

/// What the rule may ask and do for one packet in a marked slot.
pub struct MovingSlot {
    key: FlowKey,
    tag: u32,
    index: u32,
    now_s: u32,
    decision: Decision,
    /// Flags of a record of `FLOWS` that is written.
    flow_flags: u16,
    // Null where there is none.
    pending: *mut FlowValue,
    flow: *mut FlowValue,
}

impl MovingSlot {
    /// For the flow of `key`, in the slot at `index` of the arena.
    #[inline(always)]
    pub fn new(key: FlowKey, index: u32, decision: Decision) -> Self {
        Self {
            tag: key.tag(),
            key,
            index,
            now_s: 0,
            decision,
            flow_flags: 0,
            pending: ptr::null_mut(),
            flow: ptr::null_mut(),
        }
    }

    /// The flow is no open connection of its backend any more.
    #[inline(always)]
    pub fn release(&mut self) {
        // The packet at hand may have written the record itself.
        let record = match FLOWS.get_ptr_mut(self.key) {
            Some(flow) => flow,
            None => PENDING.get_ptr_mut(self.key).unwrap_or(ptr::null_mut()),
        };
        count::release(record, self.tag);
    }

    /// Flags of the record of a new connection.
    #[inline(always)]
    fn new_flags(&self) -> u16 {
        if self.decision.counts() { COUNTED } else { 0 }
    }

    /// A connection has begun.
    #[inline(always)]
    fn begun(&self, backend: u16) {
        if self.decision.counts() {
            count::add(backend, 1);
        }
    }

    /// A record is about to be replaced by one of another connection.
    #[inline(always)]
    fn replaced(&self, record: *mut FlowValue) {
        if self.decision.counts() {
            count::release(record, self.tag);
        }
    }
}

/// The record at a pointer of a lookup, if there is one and it is this key's.
#[inline(always)]
fn read(record: *mut FlowValue, tag: u32) -> Option<FlowValue> {
    if record.is_null() {
        return None;
    }
    // SAFETY: the pointer came from a lookup in this run of the program, under the RCU lock that
    // keeps its memory mapped.
    unsafe { FlowValue::read(record, tag) }
}

/// The same answer, by way of bytes on the stack that were zeros before.
///
/// What a `None` carries is undefined to the compiler, which saves it all the same when registers
/// are scarce, from one that nothing wrote, and that the verifier refuses.
#[inline(always)]
fn defined<T: Copy>(answer: Option<T>) -> Option<T> {
    let mut bytes = MaybeUninit::<Option<T>>::zeroed();
    bytes.write(None);
    opaque(bytes.as_mut_ptr());
    if answer.is_some() {
        bytes.write(answer);
        opaque(bytes.as_mut_ptr());
    }
    // SAFETY: an answer was written, and `opaque` changed nothing.
    unsafe { bytes.assume_init() }
}

/// Does nothing to what the pointer is to, of which the compiler does not know.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque<T>(pointer: *mut T) {
    // A move to itself, since no instruction at all would leave two lines of debug information with
    // the same offset, which the kernel refuses.
    // SAFETY: the register keeps what it holds, and no memory is touched.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) pointer => _, options(nostack)) };
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
fn opaque<T>(_pointer: *mut T) {}

/// Writes the time, and perhaps the initial sequence number, of a record.
#[inline(always)]
fn touch(record: *mut FlowValue, isn: Option<u32>, now_s: u32) {
    if record.is_null() {
        return;
    }
    // SAFETY: the pointer came from a lookup in this run of the program, under the RCU lock that
    // keeps its memory mapped; others may write too, hence volatile.
    unsafe {
        if (&raw const (*record).seen_s).read_volatile() != now_s {
            (&raw mut (*record).seen_s).write_volatile(now_s);
        }
        if let Some(isn) = isn {
            (&raw mut (*record).isn).write_volatile(isn);
        }
    }
}

/// Whether a record is of the connection with this initial sequence number.
#[inline(always)]
fn is_of(record: *mut FlowValue, isn: u32) -> bool {
    // SAFETY: as in `touch`.
    !record.is_null() && unsafe { (&raw const (*record).isn).read_volatile() } == isn
}

#[inline(always)]
fn outcome(result: Result<(), i32>) -> Insert {
    match result {
        Ok(()) => Insert::Inserted,
        Err(error) if error == -EEXIST => Insert::Exists,
        Err(_) => Insert::Full,
    }
}

impl Tables for MovingSlot {
    #[inline(always)]
    fn now_s(&mut self) -> u32 {
        if self.now_s == 0 {
            // SAFETY: the helper takes nothing and gives a number.
            self.now_s = (unsafe { bpf_ktime_get_coarse_ns() } / SECOND_NS) as u32;
        }
        self.now_s
    }

    #[inline(always)]
    fn pending(&mut self) -> Option<Pending> {
        self.pending = PENDING.get_ptr_mut(self.key).unwrap_or(ptr::null_mut());
        let value = read(self.pending, self.tag);
        if let Some(value) = value {
            // What is moved to `FLOWS` takes its count along.
            self.flow_flags = value.flags() & COUNTED;
        }
        defined(value.map(FlowValue::pending))
    }

    #[inline(always)]
    fn flow(&mut self) -> Option<Flow> {
        self.flow = FLOWS.get_ptr_mut(self.key).unwrap_or(ptr::null_mut());
        defined(read(self.flow, self.tag).map(FlowValue::flow))
    }

    #[inline(always)]
    fn flags(&mut self, backend: u16) -> BackendFlags {
        if backend == 0 {
            return BackendFlags(0);
        }
        match BACKENDS.get_ptr(u32::from(backend)) {
            // SAFETY: the pointer is to a value of the map; the agent may write it, hence volatile.
            Some(entry) => BackendFlags(unsafe { (&raw const (*entry).flags).read_volatile() }),
            None => BackendFlags(0),
        }
    }

    #[inline(always)]
    fn choose(&mut self) -> u16 {
        self.decision.choose()
    }

    #[inline(always)]
    fn insert_pending(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let value = FlowValue::new(backend, self.new_flags(), self.tag, isn, now_s);
        let inserted = outcome(PENDING.insert(self.key, value, u64::from(BPF_NOEXIST)));
        if inserted == Insert::Inserted {
            self.begun(backend);
        }
        inserted
    }

    #[inline(always)]
    fn overwrite_pending(&mut self, backend: u16, isn: u32, now_s: u32) {
        self.replaced(self.pending);
        let value = FlowValue::new(backend, self.new_flags(), self.tag, isn, now_s);
        if PENDING.insert(self.key, value, u64::from(BPF_ANY)).is_ok() {
            self.begun(backend);
        }
    }

    #[inline(always)]
    fn touch_pending(&mut self, now_s: u32) {
        touch(self.pending, None, now_s);
    }

    #[inline(always)]
    fn reopen_pending(&mut self, isn: u32, now_s: u32) {
        touch(self.pending, Some(isn), now_s);
        if self.decision.counts() {
            count::take(self.pending, self.tag);
        }
    }

    #[inline(always)]
    fn confirm_pending(&mut self, now_s: u32) {
        touch(self.pending, None, now_s);
        let record = self.pending;
        if record.is_null() {
            return;
        }
        // SAFETY: as in `touch`.
        unsafe {
            let old = (&raw const (*record).word).read_volatile();
            if (old >> 32) as u32 == self.tag {
                exchange(
                    &raw mut (*record).word,
                    old,
                    old | u64::from(CONFIRMED) << 16,
                );
            }
        }
    }

    #[inline(always)]
    fn delete_pending(&mut self) {
        let _ = PENDING.remove(self.key);
    }

    #[inline(always)]
    fn insert_flow(&mut self, backend: u16, isn: u32, now_s: u32) -> Insert {
        let is_new = self.key.protocol == protocol::UDP;
        if is_new {
            self.flow_flags = self.new_flags();
        }
        let value = FlowValue::new(backend, self.flow_flags, self.tag, isn, now_s);
        let inserted = outcome(FLOWS.insert(self.key, value, u64::from(BPF_NOEXIST)));
        if is_new && inserted == Insert::Inserted {
            self.begun(backend);
        }
        inserted
    }

    #[inline(always)]
    fn overwrite_flow(&mut self, backend: u16, isn: u32, now_s: u32) {
        let is_new = self.key.protocol == protocol::UDP;
        if is_new {
            self.flow_flags = self.new_flags();
        }
        // Another packet of the same connection may have been faster, which counts as it is.
        if is_new || !is_of(self.flow, isn) {
            self.replaced(self.flow);
        }
        let value = FlowValue::new(backend, self.flow_flags, self.tag, isn, now_s);
        if FLOWS.insert(self.key, value, u64::from(BPF_ANY)).is_ok() && is_new {
            self.begun(backend);
        }
    }

    #[inline(always)]
    fn touch_flow(&mut self, now_s: u32) {
        touch(self.flow, None, now_s);
    }

    #[inline(always)]
    fn reopen_flow(&mut self, isn: u32, now_s: u32) {
        touch(self.flow, Some(isn), now_s);
        if self.decision.counts() {
            count::take(self.flow, self.tag);
        }
    }

    #[inline(always)]
    fn touch_last_miss(&mut self, now_s: u32) {
        let Some(entry) = maps::arena(&LAST_MISS, self.index) else {
            return;
        };
        // SAFETY: the entry lies in the map; other CPUs write the same time, hence volatile.
        unsafe {
            if entry.read_volatile() != now_s {
                entry.write_volatile(now_s);
            }
        }
    }
}
