//! Rewrites errors and sends them on.

use aya_ebpf::bindings::xdp_md;
use xlb_common::{
    checksum,
    maps::{Backend, NextHop, Service, feature, forward, protocol},
    reason::Reason,
    wire::Half,
};
use xlb_ebpf::tunnel::{Gue, Ipip};

use super::{
    context,
    quoted::{IcmpFamily, quoted},
};
use crate::{
    counters,
    frame::{Frame, Layout, NETWORK_OFFSET},
    globals,
    maps::count,
    rewrite::{backend_port_be, outer, reply_port_be, udp_checksum},
    transmit,
    ways::{self, conclude},
};

/// Sends an error to the backend that has its flow.
#[inline(never)]
pub fn towards_backend<F: IcmpFamily>(
    ctx: *mut xdp_md,
    service: &'static Service,
    backend: &'static Backend,
    hash: u32,
) -> u32 {
    let context = context(ctx);
    match forward::<F>(&mut ways::frame(&context), service, backend, hash) {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    }
}

#[inline(always)]
fn forward<F: IcmpFamily>(
    frame: &mut Frame<'_, impl Layout>,
    service: &'static Service,
    backend: &'static Backend,
    hash: u32,
) -> Result<u32, Reason> {
    let frame_bytes = frame.length() as u64;
    let hop = transmit::hop_of(backend)?;
    F::hop(frame)?;
    if globals::has(feature::DNAT) && service.forward == forward::DNAT {
        let address = F::address(&backend.address);
        let port_be = |own_be| backend_port_be(backend, own_be);
        let quoted = translate::<F, true>(frame, address, port_be)?;
        let addresses = F::set_destination(frame, address)?;
        F::sum(frame, addresses, quoted)?;
    } else if globals::has(feature::IPIP) && service.forward == forward::IPIP {
        outer::<F, Ipip>(frame, backend, hop.egress.mtu, hash)?;
    } else if globals::has(feature::GUE) && service.forward == forward::GUE {
        outer::<F, Gue>(frame, backend, hop.egress.mtu, hash)?;
    } else if !globals::has(feature::L2_DSR) || service.forward != forward::L2_DSR {
        return Err(Reason::Inconsistent);
    }
    let action = transmit::transmit(frame, &hop)?;
    count(Reason::IcmpError);
    counters::error_forwarded(service, backend, frame_bytes);
    Ok(action)
}

/// Sends an error about a client's packet to that client, as if from the VIP: what is behind is
/// nothing to the client (RFC 5508, section 4.2).
#[inline(always)]
pub fn back<F: IcmpFamily>(ctx: *mut xdp_md, service: &'static Service, backend: u16) -> u32 {
    let frame_bytes = Frame::new(&context(ctx)).length() as u64;
    let route = route::<F>(ctx);
    if route == NextHop::LOCAL.0 {
        return conclude(Reason::ReplyToHost);
    }
    match from_vip::<F>(ctx, service) {
        0 => {
            let action = depart::<F>(ctx, route);
            if transmit::has_left(action) {
                count(Reason::IcmpError);
                counters::error_replied(service, backend, frame_bytes);
            }
            action
        }
        action => action,
    }
}

/// Rewrites an error about a client's packet for the client; gives 0, or the action if it is not to
/// be sent.
#[inline(never)]
fn from_vip<F: IcmpFamily>(ctx: *mut xdp_md, service: &'static Service) -> u32 {
    let context = context(ctx);
    match rewrite::<F>(&mut ways::frame(&context), service) {
        Ok(()) => 0,
        Err(reason) => conclude(reason),
    }
}

#[inline(always)]
fn rewrite<F: IcmpFamily>(
    frame: &mut Frame<'_, impl Layout>,
    service: &Service,
) -> Result<(), Reason> {
    F::hop(frame)?;
    let vip = F::address(&service.vip);
    let port_be = |own_be| reply_port_be(service, own_be);
    let quoted = translate::<F, false>(frame, vip, port_be)?;
    let addresses = F::set_source(frame, vip)?;
    F::sum(frame, addresses, quoted)
}

/// Sets an end of the quoted packet, its port by the one that it has; gives the change of the sum of what is quoted.
#[inline(always)]
fn translate<F: IcmpFamily, const SOURCE: bool>(
    frame: &mut Frame<'_, impl Layout>,
    address: F::Address,
    port_be: impl FnOnce(u16) -> u16,
) -> Result<u64, Reason> {
    let quoted = quoted::<F>(frame, F::quoted_offset(frame))?;
    let (transport, is_tcp) = (quoted.transport, quoted.protocol == protocol::TCP);
    let end = NETWORK_OFFSET + F::ip_bytes(frame)?;
    let (addresses, mut change) = F::set_quoted::<SOURCE>(frame, address)?;
    let port = frame.at_mut::<Half>(transport + if SOURCE { 0 } else { 2 })?;
    let new_be = port_be(port.0);
    let ports = checksum::difference16(port.0, new_be);
    port.0 = new_be;
    change += ports;
    let at = transport + if is_tcp { 16 } else { 6 };
    // Eight bytes of TCP are all that some routers quote, and its checksum comes later.
    if at + size_of::<Half>() <= end
        && let Ok(sum) = frame.at_mut::<Half>(at)
    {
        let old = sum.0;
        let new = if is_tcp {
            checksum::update(old, addresses + ports)
        } else {
            udp_checksum(old, addresses + ports)
        };
        sum.0 = new;
        change += checksum::difference16(old, new);
    }
    Ok(change)
}

/// The word of the next hop to where a message goes; 0: the agent's table knows none.
#[inline(never)]
pub fn route<F: IcmpFamily>(ctx: *mut xdp_md) -> u64 {
    let context = context(ctx);
    match F::ends(&ways::frame(&context), NETWORK_OFFSET) {
        Ok((_, destination)) => F::route(destination).map_or(0, |next| next.0),
        Err(_) => 0,
    }
}

/// Sends a message by this word of a next hop.
#[inline(never)]
pub fn depart<F: IcmpFamily>(ctx: *mut xdp_md, route: u64) -> u32 {
    let context = context(ctx);
    let frame = &mut ways::frame(&context);
    let sent = F::ends(frame, NETWORK_OFFSET).and_then(|(from, to)| {
        let next = NextHop(route);
        if next == NextHop::LOCAL {
            return Err(Reason::ReplyToHost);
        }
        let next = if next.is_known() { Some(next) } else { None };
        transmit::to_client::<F>(frame, next, from, to)
    });
    match sent {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    }
}
