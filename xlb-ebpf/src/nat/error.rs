//! Errors about packets under full NAT, which are translated outside and within (RFC 5508). The way that
//! they come by has found what they quote, and where.

use xlb_common::{checksum, maps::protocol, nat, reason::Reason, wire::Half};

use super::{is_from, now_s, ports};
use crate::{
    counters,
    family::Family,
    frame::{Frame, NETWORK_OFFSET, Odd, bounded},
    icmp::quoted::IcmpFamily,
    maps::{BACKENDS, SERVICES, count},
    packet::Ports,
    rewrite::udp_checksum,
    transmit,
    ways::Handover,
};

/// An end of a flow: address and port.
type End<F> = (<F as Family>::Address, u16);

/// The packet that an error quotes, as the way that it came by found it.
struct Quoted<F: Family> {
    source: End<F>,
    destination: End<F>,
    protocol: u8,
    transport: usize,
}

/// Sends an error about a packet of a backend's, as a client got or should have got it, to that backend.
#[inline(always)]
pub fn towards_backend<F: IcmpFamily>(
    frame: &mut Frame<'_, Odd>,
    handover: &Handover,
) -> Result<u32, Reason> {
    let frame_bytes = frame.length() as u64;
    let quoted = quoted::<F>(frame, handover)?;
    let ports = Ports {
        source_be: quoted.destination.1,
        destination_be: quoted.source.1,
    };
    let flow = ports::flow::<F>(
        quoted.destination.0,
        quoted.source.0,
        ports,
        quoted.protocol,
    );
    let index = ports::known::<F>(&flow, now_s()).ok_or(Reason::NatUnknown)?;
    let held = ports::held::<F>(index, now_s())?;
    let source = ports::source(index).ok_or(Reason::Inconsistent)?;
    let backend = BACKENDS.get(held.backend).ok_or(Reason::Inconsistent)?;
    let service = SERVICES.get(held.service).ok_or(Reason::Inconsistent)?;
    let hop = transmit::hop_of(backend)?;
    let own = F::address(&source.address);
    let of = F::address(&backend.address);
    rewrite::<F>(
        frame,
        &quoted,
        (own, of),
        (of, backend.port_be),
        (own, nat::port_of(index).to_be()),
    )?;
    let action = transmit::transmit(frame, &hop)?;
    count(Reason::IcmpError);
    counters::error_forwarded(service, backend, frame_bytes);
    Ok(action)
}

/// Sends an error about a packet to a backend to the client that it is of.
#[inline(always)]
pub fn towards_client<F: IcmpFamily>(
    frame: &mut Frame<'_, Odd>,
    handover: &Handover,
) -> Result<u32, Reason> {
    let frame_bytes = frame.length() as u64;
    let quoted = quoted::<F>(frame, handover)?;
    let is_udp = quoted.protocol == protocol::UDP;
    let port = u16::from_be(quoted.source.1);
    let held = ports::held::<F>(nat::index(handover.service, is_udp, port), now_s())?;
    let backend = BACKENDS.get(held.backend).ok_or(Reason::Inconsistent)?;
    if held.has_moved || !is_from::<F>(backend, quoted.destination.0, quoted.destination.1) {
        return Err(Reason::NotForService);
    }
    let service = SERVICES.get(held.service).ok_or(Reason::Inconsistent)?;
    let (client, vip) = (
        ports::client_of::<F>(&held.flow),
        ports::vip_of::<F>(&held.flow),
    );
    let ends = ports::ports_of(&held.flow);
    let route = transmit::route_to::<F>(client)?;
    rewrite::<F>(
        frame,
        &quoted,
        (vip, client),
        (client, ends.source_be),
        (vip, ends.destination_be),
    )?;
    let action = transmit::to_client::<F>(frame, route, vip, client)?;
    count(Reason::IcmpError);
    counters::error_replied(service, held.backend as u16, frame_bytes);
    Ok(action)
}

#[inline(always)]
fn quoted<F: IcmpFamily>(frame: &Frame<'_, Odd>, handover: &Handover) -> Result<Quoted<F>, Reason> {
    let transport = bounded(handover.quoted as usize);
    let (source, destination) = F::ends(frame, F::quoted_offset(frame))?;
    let source_be = frame.at::<Half>(transport)?.0;
    let destination_be = frame.at::<Half>(transport + 2)?.0;
    Ok(Quoted {
        source: (source, source_be),
        destination: (destination, destination_be),
        protocol: handover.quoted_number as u8,
        transport,
    })
}

/// Sets the ends of a message and of what it quotes, and follows with the checksums.
#[inline(always)]
fn rewrite<F: IcmpFamily>(
    frame: &mut Frame<'_, Odd>,
    quoted: &Quoted<F>,
    (from, to): (F::Address, F::Address),
    source: End<F>,
    destination: End<F>,
) -> Result<(), Reason> {
    F::hop(frame)?;
    let end = NETWORK_OFFSET + F::ip_bytes(frame)?;
    let (sources, change) = F::set_quoted::<true>(frame, source.0)?;
    let (destinations, more) = F::set_quoted::<false>(frame, destination.0)?;
    let ports = checksum::difference16(quoted.source.1, source.1)
        + checksum::difference16(quoted.destination.1, destination.1);
    frame.at_mut::<Half>(quoted.transport)?.0 = source.1;
    frame.at_mut::<Half>(quoted.transport + 2)?.0 = destination.1;
    let mut change = change + more + ports;
    let is_tcp = quoted.protocol == protocol::TCP;
    let at = quoted.transport + if is_tcp { 16 } else { 6 };
    // Eight bytes of TCP are all that some routers quote, and its checksum comes later.
    if at + size_of::<Half>() <= end
        && let Ok(sum) = frame.at_mut::<Half>(at)
    {
        let old = sum.0;
        let difference = sources + destinations + ports;
        sum.0 = if is_tcp {
            checksum::update(old, difference)
        } else {
            udp_checksum(old, difference)
        };
        change += checksum::difference16(old, sum.0);
    }
    let addresses = F::set_source(frame, from)? + F::set_destination(frame, to)?;
    F::sum(frame, addresses, change)
}
