//! Counts traffic by the attachment of a backend to a service, one update a packet.

use xlb_common::{
    maps::{Backend, Service},
    wire::{SctpHeader, TcpHeader},
};

use crate::{
    family::Family,
    maps::{BACKENDS, COUNTERS},
    packet::{Packet, Transport},
};

/// Counts a packet that went to a backend.
#[inline(always)]
pub fn forwarded<F: Family>(service: &Service, backend: &Backend, packet: &Packet<F>) {
    let Some(counters) = COUNTERS.get_ptr_mut(index(service, backend)) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
    unsafe {
        (*counters).packets += 1;
        (*counters).bytes += packet.frame_bytes;
        if opens(packet.transport) {
            (*counters).connections += 1;
        }
    }
}

/// Whether a packet opens a connection or an association.
#[inline(always)]
const fn opens(transport: Transport) -> bool {
    match transport {
        Transport::Tcp { flags, .. } => TcpHeader::opens(flags),
        Transport::Sctp { chunk_type, .. } => SctpHeader::opens(chunk_type),
        _ => false,
    }
}

/// Counts a reply that went to a client.
#[inline(always)]
pub fn replied<F: Family>(service: &Service, backend: u16, packet: &Packet<F>) {
    let Some(backend) = BACKENDS.get(u32::from(backend)) else {
        return;
    };
    let Some(counters) = COUNTERS.get_ptr_mut(index(service, backend)) else {
        return;
    };
    // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
    unsafe {
        (*counters).reply_packets += 1;
        (*counters).reply_bytes += packet.frame_bytes;
    }
}

/// Counts an ICMP error that went to a backend.
#[inline(always)]
pub fn error_forwarded(service: &Service, backend: &Backend, frame_bytes: u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(index(service, backend)) {
        // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += frame_bytes;
        }
    }
}

/// Counts an ICMP error about a packet to a backend, which went to a client.
#[inline(always)]
pub fn error_replied(service: &Service, backend: u16, frame_bytes: u64) {
    let Some(backend) = BACKENDS.get(u32::from(backend)) else {
        return;
    };
    if let Some(counters) = COUNTERS.get_ptr_mut(index(service, backend)) {
        // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
        unsafe {
            (*counters).reply_packets += 1;
            (*counters).reply_bytes += frame_bytes;
        }
    }
}

#[inline(always)]
fn index(service: &Service, backend: &Backend) -> u32 {
    // SAFETY: the agent changes this word when it gives the service more counters, hence volatile.
    let base = unsafe { (&raw const service.counter_base).read_volatile() };
    base + u32::from(backend.position)
}
