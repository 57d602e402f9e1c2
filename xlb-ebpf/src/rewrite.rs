//! Rewrites a packet on its way to a backend, or back.

use xlb_common::{
    checksum,
    maps::{Backend, Service, feature, forward, protocol, service_option},
    reason::Reason,
    wire::{TcpHeader, UdpHeader, extension},
};

use xlb_ebpf::tunnel::{Gue, Ipip, Tunnel};

use crate::{
    family::Family,
    frame::{Frame, Layout},
    globals,
    maps::{self, BACKENDS},
    select::Selected,
};

/// Rewrites a packet for its backend, in the service's forwarding mode. `mtu` is that of the
/// interface that it leaves by.
#[inline(always)]
pub fn towards_backend<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    service: &Service,
    selected: &Selected,
    protocol: u8,
    mtu: u16,
) -> Result<(), Reason> {
    F::hop(frame)?;
    let backend = selected.backend;
    if globals::has(feature::DNAT) && service.forward == forward::DNAT {
        destination::<F>(frame, backend, protocol)
    } else if globals::has(feature::IPIP) && service.forward == forward::IPIP {
        encapsulate::<F, Ipip>(frame, service, selected, mtu)
    } else if globals::has(feature::GUE) && service.forward == forward::GUE {
        encapsulate::<F, Gue>(frame, service, selected, mtu)
    } else if globals::has(feature::L2_DSR) && service.forward == forward::L2_DSR {
        // The frame's new destination is all that the backend needs.
        Ok(())
    } else {
        Err(Reason::Inconsistent)
    }
}

#[inline(always)]
fn encapsulate<F: Family, T: Tunnel>(
    frame: &mut Frame<'_, impl Layout>,
    service: &Service,
    selected: &Selected,
    mtu: u16,
) -> Result<(), Reason> {
    if globals::has(feature::SECOND_CHANCE) && service.options & service_option::SECOND_CHANCE != 0
    {
        let is_named = name_alternative::<F, T>(frame, selected, mtu)?;
        // With a header of the other family around it, the packet is one of that family.
        if is_named && is_across::<F>(selected.backend) {
            return F::Other::encapsulate::<T>(frame, selected.backend, mtu, selected.hash);
        }
    }
    outer::<F, T>(frame, selected.backend, mtu, selected.hash)
}

/// Puts a packet into an outer header of its backend's family.
#[inline(always)]
pub fn outer<F: Family, T: Tunnel>(
    frame: &mut Frame<'_, impl Layout>,
    backend: &Backend,
    mtu: u16,
    hash: u32,
) -> Result<(), Reason> {
    if is_across::<F>(backend) {
        F::encapsulate_across::<T>(frame, backend, mtu, hash)
    } else {
        F::encapsulate::<T>(frame, backend, mtu, hash)
    }
}

/// Whether the way to a backend is of another family than the packet.
#[inline(always)]
fn is_across<F: Family>(backend: &Backend) -> bool {
    globals::has(feature::MIXED) && backend.family != F::NUMBER
}

/// Puts a header to the alternative, if there is one, around the packet before the one to its
/// backend; whether it did. A packet that would become too big goes without, and so does one whose
/// backends are of two families.
#[inline(always)]
fn name_alternative<F: Family, T: Tunnel>(
    frame: &mut Frame<'_, impl Layout>,
    selected: &Selected,
    mtu: u16,
) -> Result<bool, Reason> {
    if selected.alternative == 0 {
        return Ok(false);
    }
    let Some(alternative) = BACKENDS.get(u32::from(selected.alternative)) else {
        return Err(Reason::Inconsistent);
    };
    let backend = selected.backend;
    if globals::has(feature::MIXED) && alternative.family != backend.family {
        return Ok(false);
    }
    let (is_itself, outer_bytes) = if is_across::<F>(backend) {
        (
            is_same::<F::Other>(alternative, backend),
            F::Other::OUTER_BYTES,
        )
    } else {
        (is_same::<F>(alternative, backend), F::OUTER_BYTES)
    };
    if is_itself || F::ip_bytes(frame)? + 2 * (outer_bytes + T::BYTES) > mtu as usize {
        return Ok(false);
    }
    maps::count(Reason::SecondChance);
    outer::<F, T>(frame, alternative, mtu, selected.hash)?;
    Ok(true)
}

/// Whether two backends have one address, of this family.
#[inline(always)]
fn is_same<F: Family>(a: &Backend, b: &Backend) -> bool {
    F::equal(F::address(&a.address), F::address(&b.address))
}

/// Bytes of the outer headers that a service puts around packets to a backend.
#[inline(always)]
pub fn outer_bytes<F: Family>(service: &Service, backend: &Backend) -> u32 {
    let header = if is_across::<F>(backend) {
        F::Other::OUTER_BYTES
    } else {
        F::OUTER_BYTES
    };
    let bytes = if globals::has(feature::GUE) && service.forward == forward::GUE {
        header + Gue::BYTES
    } else {
        header + Ipip::BYTES
    };
    bytes as u32
}

/// Rewrites a backend's reply, so that it comes from the VIP.
#[inline(always)]
pub fn towards_client<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    service: &Service,
    protocol: u8,
) -> Result<(), Reason> {
    F::hop(frame)?;
    let difference = F::set_source(frame, F::address(&service.vip))?;
    if frame.may_be_fragment() && protocol == extension::FRAGMENT {
        // Ports and checksum are in the first one.
        return Ok(());
    }
    if protocol == protocol::TCP {
        let tcp = frame.at_mut::<TcpHeader>(frame.transport(F::TRANSPORT_OFFSET))?;
        let port_be = reply_port_be(service, tcp.source_port_be);
        let difference = difference + checksum::difference16(tcp.source_port_be, port_be);
        tcp.source_port_be = port_be;
        tcp.checksum = checksum::update(tcp.checksum, difference);
    } else {
        let udp = frame.at_mut::<UdpHeader>(frame.transport(F::TRANSPORT_OFFSET))?;
        let port_be = reply_port_be(service, udp.source_port_be);
        let difference = difference + checksum::difference16(udp.source_port_be, port_be);
        udp.source_port_be = port_be;
        udp.checksum = udp_checksum(udp.checksum, difference);
    }
    Ok(())
}

#[inline(always)]
fn destination<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    backend: &Backend,
    protocol: u8,
) -> Result<(), Reason> {
    let difference = F::set_destination(frame, F::address(&backend.address))?;
    if frame.may_be_fragment() && protocol == extension::FRAGMENT {
        // Ports and checksum are in the first one.
        return Ok(());
    }
    if protocol == protocol::TCP {
        let tcp = frame.at_mut::<TcpHeader>(frame.transport(F::TRANSPORT_OFFSET))?;
        let port_be = backend_port_be(backend, tcp.destination_port_be);
        let difference = difference + checksum::difference16(tcp.destination_port_be, port_be);
        tcp.destination_port_be = port_be;
        tcp.checksum = checksum::update(tcp.checksum, difference);
    } else {
        let udp = frame.at_mut::<UdpHeader>(frame.transport(F::TRANSPORT_OFFSET))?;
        let port_be = backend_port_be(backend, udp.destination_port_be);
        let difference = difference + checksum::difference16(udp.destination_port_be, port_be);
        udp.destination_port_be = port_be;
        udp.checksum = udp_checksum(udp.checksum, difference);
    }
    Ok(())
}

/// The port by which a client knows the sender of a reply.
#[inline(always)]
pub fn reply_port_be(service: &Service, own_be: u16) -> u16 {
    if globals::has(feature::WIDE) && service.options & service_option::SEVERAL_PORTS != 0 {
        own_be
    } else {
        service.port_be
    }
}

/// The port of a backend for a packet to this one.
#[inline(always)]
pub fn backend_port_be(backend: &Backend, own_be: u16) -> u16 {
    if globals::has(feature::WIDE) && backend.port_be == 0 {
        own_be
    } else {
        backend.port_be
    }
}

/// A UDP checksum of 0 says that there is none, and a computed 0 is sent as all ones (RFC 768).
#[inline(always)]
pub const fn udp_checksum(old: u16, difference: u64) -> u16 {
    if old == 0 {
        return 0;
    }
    match checksum::update(old, difference) {
        0 => 0xffff,
        sum => sum,
    }
}
