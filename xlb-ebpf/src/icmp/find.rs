//! Finds what a message is about.

use aya_ebpf::bindings::xdp_md;
use xlb_common::{
    endpoint::EndpointTarget,
    gue,
    maps::{NextHop, feature, forward, protocol},
    nat,
    reason::Reason,
    wire::{IcmpHeader, UdpHeader},
};
use xlb_ebpf::tunnel::{Gue, Ipip, Tunnel};

use super::{
    context,
    quoted::{IcmpFamily, Quoted, quoted},
};
use crate::{
    frame::{Frame, Layout, NETWORK_OFFSET},
    globals,
    maps::SERVICES,
    ways::{self, Handover, conclude, task},
};

/// An echo request to a VIP.
pub const ECHO: u64 = 1;
/// An error about a packet of a backend.
pub const TO_BACKEND: u64 = 2;
/// An error about a packet to a backend under `dnat`.
pub const TO_CLIENT: u64 = 3;
/// An error about a packet to a backend under `ipip` that was too big.
pub const IPIP: u64 = 4;
/// An error about a packet to a backend under `gue` that was too big.
pub const GUE: u64 = 5;
/// As [`IPIP`], about a packet of the other family.
pub const IPIP_ACROSS: u64 = 6;
/// As [`GUE`], about a packet of the other family.
pub const GUE_ACROSS: u64 = 7;
/// An error about a packet under full NAT, of which the program for that was told.
pub const NAT: u64 = 8;

/// What a message is about, in one word: what of the above in the upper 16 bits, a backend in the
/// next, and in the lower half a service, or the action if it is nothing of the above.
#[derive(Clone, Copy)]
pub struct Found(pub u64);

impl Found {
    #[inline(always)]
    const fn new(what: u64, target: EndpointTarget) -> Self {
        Self(what << 48 | (target.backend as u64) << 32 | target.service as u64)
    }

    /// Whether it is this of the above.
    #[inline(always)]
    pub const fn is(self, what: u64) -> bool {
        self.0 >> 48 == what
    }

    /// Number of the service.
    #[inline(always)]
    pub const fn service(self) -> u32 {
        self.0 as u32
    }

    /// Number of the backend.
    #[inline(always)]
    pub const fn backend(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// What becomes of the message.
    #[inline(always)]
    pub const fn action(self) -> u32 {
        self.0 as u32
    }
}

/// Finds what a message is about.
#[inline(never)]
pub fn find<F: IcmpFamily>(ctx: *mut xdp_md) -> u64 {
    let context = context(ctx);
    match identify::<F>(&ways::frame(&context)) {
        Ok(found) => found.0,
        Err(reason) => u64::from(conclude(reason)),
    }
}

#[inline(always)]
fn identify<F: IcmpFamily>(frame: &Frame<'_, impl Layout>) -> Result<Found, Reason> {
    let type_code = frame
        .at::<IcmpHeader>(frame.transport(F::TRANSPORT_OFFSET))?
        .type_code;
    let (_, destination) = F::ends(frame, NETWORK_OFFSET)?;
    let is_vip = F::find_vip(destination, 0, 0).is_some();
    if is_vip && type_code == F::ECHO_REQUEST {
        return Ok(Found::new(ECHO, EndpointTarget::default()));
    }
    let other = if is_vip {
        Reason::IcmpOther
    } else {
        Reason::NotForService
    };
    if !F::is_error(IcmpHeader::kind(type_code)) {
        return Err(other);
    }
    let Ok(quoted) = quoted::<F>(frame, F::quoted_offset(frame)) else {
        return Err(other);
    };
    // An error goes to where the packet came from that it is about.
    if !F::equal(quoted.source, destination) {
        return Err(other);
    }
    let found = if is_vip {
        of_backend(frame, &quoted)
    } else if globals::has(feature::FULL_NAT)
        && let Some(source) = F::find_vip(destination, 0, nat::SOURCE)
        && let Some(found) = of_source(frame, &quoted, source.service.wrapping_sub(1))
    {
        Some(found)
    } else if globals::has(feature::IPIP) && type_code == F::TOO_BIG && quoted.protocol == F::TUNNEL
    {
        of_tunnel::<F, F, Ipip>(frame, &quoted)
    } else if globals::has(feature::MIXED)
        && globals::has(feature::IPIP)
        && type_code == F::TOO_BIG
        && quoted.protocol == F::Opposite::TUNNEL
    {
        of_tunnel::<F, F::Opposite, Ipip>(frame, &quoted)
    } else if globals::has(feature::GUE) && type_code == F::TOO_BIG && is_gue(frame, &quoted) {
        // A backend under `dnat` may listen on the port of tunnels.
        let translated = of_client(frame, &quoted);
        if translated.is_some() {
            translated
        } else if globals::has(feature::MIXED) && carries_other(frame, &quoted) {
            of_tunnel::<F, F::Opposite, Gue>(frame, &quoted)
        } else {
            of_tunnel::<F, F, Gue>(frame, &quoted)
        }
    } else {
        of_client(frame, &quoted)
    };
    found.ok_or(other)
}

#[inline(always)]
fn of_backend<F: IcmpFamily>(frame: &Frame<'_, impl Layout>, quoted: &Quoted<F>) -> Option<Found> {
    let ports = quoted.ports(frame, F::ip_bytes(frame).ok()?)?;
    let target = F::find_vip(quoted.source, ports.source_be, quoted.protocol)?;
    if globals::has(feature::FULL_NAT) && SERVICES.get(target.service)?.forward == forward::FULL_NAT
    {
        return Some(told(quoted, task::NAT_ERROR, 0));
    }
    Some(Found::new(TO_BACKEND, target))
}

/// About a packet to a backend under full NAT, if its source port is that of a connection.
#[inline(always)]
fn of_source<F: IcmpFamily>(
    frame: &Frame<'_, impl Layout>,
    quoted: &Quoted<F>,
    source: u32,
) -> Option<Found> {
    quoted.ports(frame, F::ip_bytes(frame).ok()?)?;
    if quoted.protocol == protocol::SCTP {
        return None;
    }
    Some(told(quoted, task::NAT_ERROR_REPLY, source))
}

/// Tells the program of full NAT where an error quotes what.
#[inline(always)]
fn told<F: IcmpFamily>(quoted: &Quoted<F>, task: u32, service: u32) -> Found {
    ways::note(Handover {
        task,
        service,
        quoted: quoted.transport as u32,
        quoted_number: quoted.protocol.into(),
        ..ways::handed_over()
    });
    Found::new(NAT, EndpointTarget::default())
}

#[inline(always)]
fn of_client<F: IcmpFamily>(frame: &Frame<'_, impl Layout>, quoted: &Quoted<F>) -> Option<Found> {
    if !globals::has(feature::DNAT) {
        return None;
    }
    let ports = quoted.ports(frame, F::ip_bytes(frame).ok()?)?;
    let target = F::find_reply(quoted.destination, ports.destination_be, quoted.protocol)?;
    Some(Found::new(TO_CLIENT, target))
}

#[inline(always)]
fn is_gue<F: IcmpFamily>(frame: &Frame<'_, impl Layout>, quoted: &Quoted<F>) -> bool {
    quoted.protocol == protocol::UDP
        && matches!(frame.at::<UdpHeader>(quoted.transport),
            Ok(udp) if udp.destination_port_be == gue::PORT_BE)
}

/// Whether what follows the UDP header is a packet of the other family.
#[inline(always)]
fn carries_other<F: IcmpFamily>(frame: &Frame<'_, impl Layout>, quoted: &Quoted<F>) -> bool {
    matches!(frame.at::<u8>(quoted.transport + Gue::BYTES),
        Ok(&first) if gue::carries(first) == Some(F::Opposite::TUNNEL))
}

/// A message whose own header is no plain one is not unwrapped, for no router sends such.
///
/// Routers quote enough of a packet for the one within, of family `I`, to be seen, as RFC 1812 wants
/// it.
#[inline(always)]
fn of_tunnel<F: IcmpFamily, I: IcmpFamily, T: Tunnel>(
    frame: &Frame<'_, impl Layout>,
    outer: &Quoted<F>,
) -> Option<Found> {
    if frame.transport(F::TRANSPORT_OFFSET) != F::TRANSPORT_OFFSET {
        return None;
    }
    let inner = quoted::<I>(frame, outer.transport + T::BYTES).ok()?;
    let ports = inner.ports(frame, F::ip_bytes(frame).ok()?)?;
    let target = I::find_vip(inner.destination, ports.destination_be, inner.protocol)?;
    let service = SERVICES.get(target.service)?;
    let is_across = I::NUMBER != F::NUMBER;
    let (what, forward) = match (T::IS_UDP, is_across) {
        (true, false) => (GUE, forward::GUE),
        (true, true) => (GUE_ACROSS, forward::GUE),
        (false, false) => (IPIP, forward::IPIP),
        (false, true) => (IPIP_ACROSS, forward::IPIP),
    };
    // What this host sends does not come by here, and what is for it stays as it is.
    if service.forward != forward || I::route(inner.source) == Some(NextHop::LOCAL) {
        return None;
    }
    Some(Found::new(what, target))
}
