//! Finds what a packet is to xlb.

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, feature, service_option},
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

/// Whether an address is the service's, or one of them.
#[inline(always)]
pub fn has_address<F: Family>(service: &Service, address: F::Address) -> bool {
    let vip = F::address(&service.vip);
    if globals::has(feature::WIDE) && service.options & service_option::SEVERAL_ADDRESSES != 0 {
        F::share(vip, address, service.vip_bits)
    } else {
        F::equal(vip, address)
    }
}

#[inline(always)]
fn service(target: EndpointTarget) -> Result<&'static Service, Reason> {
    SERVICES.get(target.service).ok_or(Reason::Inconsistent)
}
