//! Finds what a packet is to xlb.

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, feature},
    reason::Reason,
};

use crate::{
    family::Family,
    globals,
    maps::SERVICES,
    packet::{Packet, Ports, Transport},
};

/// What a packet is to xlb.
pub enum Found {
    /// For a service.
    Service(&'static Service, Ports, u8),
    /// From a backend under `dnat`, on its way back to a client.
    Reply(&'static Service, u16),
    /// ICMP or ICMPv6, to whomever.
    Icmp,
}

/// Finds what a packet is to xlb: first by its destination, then, where replies come back through
/// the balancer, by its source.
#[inline(always)]
pub fn find<F: Family>(packet: &Packet<F>) -> Result<Found, Reason> {
    let Some((protocol, ports)) = packet.transport.endpoint() else {
        return match packet.transport {
            Transport::Icmp => Ok(Found::Icmp),
            _ => Err(address_only(packet)),
        };
    };
    if let Some(target) = F::find_vip(packet.destination, ports.destination_be, protocol) {
        return Ok(Found::Service(service(target)?, ports, protocol));
    }
    if globals::has(feature::DNAT)
        && let Some(target) = F::find_reply(packet.source, ports.source_be, protocol)
    {
        return Ok(Found::Reply(service(target)?, target.backend));
    }
    Err(Reason::NotForService)
}

#[inline(always)]
fn service(target: EndpointTarget) -> Result<&'static Service, Reason> {
    SERVICES.get(target.service).ok_or(Reason::Inconsistent)
}

/// A packet without ports concerns xlb only if its destination is a VIP.
#[inline(always)]
fn address_only<F: Family>(packet: &Packet<F>) -> Reason {
    if F::find_vip(packet.destination, 0, 0).is_none() {
        return Reason::NotForService;
    }
    match packet.transport {
        Transport::Fragment => Reason::Fragment,
        Transport::Truncated => Reason::Truncated,
        Transport::Icmp | Transport::Tcp { .. } | Transport::Udp { .. } | Transport::Other => {
            Reason::OtherProtocol
        }
    }
}
