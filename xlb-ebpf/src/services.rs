//! Finds what a packet is to xlb.

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, feature},
    nat,
    reason::Reason,
};

use crate::{
    family::Family,
    globals,
    maps::SERVICES,
    packet::{Packet, Ports},
};

/// What a packet is to xlb.
pub enum Found {
    /// For a service.
    Service(&'static Service, Ports, u8),
    /// From a backend under `dnat`, on its way back to a client.
    Reply(&'static Service, u16),
    /// To a source address of full NAT, of this number and under this protocol.
    Source(u32, u8),
}

/// Finds what a packet is to xlb: first by its destination, then, where replies come back through
/// the balancer, by its source.
#[inline(always)]
pub fn find<F: Family>(packet: &Packet<F>) -> Result<Found, Reason> {
    let Some((protocol, ports)) = packet.transport.endpoint() else {
        return Err(Reason::NotForService);
    };
    if let Some(target) = F::find_vip(packet.destination, ports.destination_be, protocol) {
        return Ok(Found::Service(service(target)?, ports, protocol));
    }
    if globals::has(feature::FULL_NAT)
        && let Some(target) = F::find_vip(packet.destination, 0, nat::SOURCE)
    {
        return Ok(Found::Source(target.service.wrapping_sub(1), protocol));
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
