//! Values that kernel and agent exchange byte by byte.

use xlb_common::{
    collect::Exchange,
    decap::{Hop, Sysctl},
    maps::{AttachmentCounters, Backend, Egress, Entry4, Entry6, Event, FlowKey, Pool, Service},
    nat::{NatPool, NatPort, NatSource},
    record::FlowValue,
};

/// A key or value of a map.
///
/// # Safety
///
/// The type is `repr(C)` or primitive, and any bit pattern is a value of it.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),+ $(,)?) => {
        $(
            // SAFETY: it is an integer, or `repr(C)` with nothing but such types inside.
            unsafe impl Plain for $type {}
        )+
    };
}

plain!(
    u8,
    u16,
    u32,
    u64,
    AttachmentCounters,
    Backend,
    Egress,
    Entry4,
    Entry6,
    Event,
    Exchange,
    FlowKey,
    FlowValue,
    Hop,
    NatPool,
    NatPort,
    NatSource,
    Pool,
    Service,
    Sysctl,
);

// SAFETY: an array is its elements, one after another.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The value whose bytes are all zero.
pub(super) fn zeroed<T: Plain>() -> T {
    // SAFETY: any bit pattern is a value of a plain type.
    unsafe { std::mem::zeroed() }
}
