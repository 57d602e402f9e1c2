//! Packets that the main program does not recognise as plain: IPv4 options and IPv6 extension headers are
//! looked through and kept, and then the story is the same.

use aya_ebpf::{macros::xdp, programs::XdpContext};
use xlb_common::{maps::way, reason::Reason};

use crate::{
    family::{Family, V4, V6},
    forward,
    frame::{Frame, NETWORK_OFFSET, Network, Odd},
    globals,
    packet::{self, Packet, Transport},
    vlan,
    ways::{self, Handover, conclude},
};

/// The program of such frames.
#[xdp]
#[inline(always)]
pub fn xlb_odd(ctx: XdpContext) -> u32 {
    let action = match balance(&Frame::laid_out(&ctx, Odd::new(0, 0))) {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    };
    vlan::put_back(&ctx, action)
}

#[inline(always)]
fn balance(frame: &Frame<'_, Odd>) -> Result<u32, Reason> {
    match frame.network() {
        Network::Ipv4 => balance_family::<V4>(frame),
        Network::Ipv6 => balance_family::<V6>(frame),
        Network::Tagged | Network::Other => Err(Reason::NotIp),
    }
}

#[inline(always)]
fn balance_family<F: Family>(frame: &Frame<'_, Odd>) -> Result<u32, Reason> {
    if !globals::has(F::FEATURE) {
        return Err(Reason::NotForService);
    }
    let (source, destination) = F::ends(frame, NETWORK_OFFSET)?;
    let recognised = look_through::<F>(frame).and_then(|()| {
        let frame = ways::frame(frame.ctx());
        if !ways::handed_over().fragment().is_whole() {
            return Ok((frame, None));
        }
        let transport = transport::<F>(&frame)?;
        let packet = Packet::<F> {
            source,
            destination,
            transport,
            frame_bytes: frame.length() as u64,
        };
        Ok((frame, Some(packet)))
    });
    match recognised {
        Ok((mut frame, Some(packet))) => balance_packet(&mut frame, &packet),
        Ok((frame, None)) => Ok(ways::go_on(&frame, way::FRAGMENT)),
        Err(reason) => Err(to_vip::<F>(destination, reason)),
    }
}

/// The reason of a packet whose ports can't be seen: it concerns xlb only if its destination is a VIP.
#[inline(always)]
pub fn to_vip<F: Family>(destination: F::Address, reason: Reason) -> Reason {
    match F::find_vip(destination, 0, 0) {
        Some(_) => reason,
        None => Reason::NotForService,
    }
}

/// Looks through the headers of a packet, and notes where they are. From the note on, the verifier
/// knows no longer by which of a thousand ways that was found out, and walks on for all of them at once.
#[inline(always)]
fn look_through<F: Family>(frame: &Frame<'_, Odd>) -> Result<(), Reason> {
    let headers = F::look_through(frame, NETWORK_OFFSET)?;
    F::check_options(frame, &headers)?;
    let fragment = headers.fragment;
    ways::note(Handover {
        transport: headers.transport as u32,
        number: headers.number.into(),
        identification_be: fragment.identification_be,
        offset_more: u32::from(fragment.offset) | u32::from(fragment.more),
        start: fragment.start.into(),
        ..Handover::default()
    });
    Ok(())
}

#[inline(always)]
fn transport<F: Family>(frame: &Frame<'_, Odd>) -> Result<Transport, Reason> {
    let number = frame.carries(0);
    match packet::transport::<F>(frame, number, F::ip_bytes(frame)?) {
        Transport::Truncated => Err(Reason::Truncated),
        Transport::Other => Err(Reason::OtherProtocol),
        transport => Ok(transport),
    }
}

#[inline(always)]
fn balance_packet<F: Family>(
    frame: &mut Frame<'_, Odd>,
    packet: &Packet<F>,
) -> Result<u32, Reason> {
    if packet.transport.has_ports() {
        return forward::<F>(frame, packet);
    }
    Ok(ways::go_on(frame, way::ICMP))
}
