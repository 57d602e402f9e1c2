//! The netlink requests that the agent sends, as values.

use std::net::IpAddr;

use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope, CacheInfo,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};

use super::NeighbourKey;

/// A message to the kernel.
pub(super) type Request = NetlinkMessage<RouteNetlinkMessage>;

fn request(message: RouteNetlinkMessage, flags: u16) -> Request {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request
}

/// The requests that ask for all tables, in an order in which each part finds what it refers to.
pub(super) fn dumps() -> [Request; 5] {
    let mut routes_v4 = RouteMessage::default();
    routes_v4.header.address_family = AddressFamily::Inet;
    let mut routes_v6 = RouteMessage::default();
    routes_v6.header.address_family = AddressFamily::Inet6;
    [
        RouteNetlinkMessage::GetLink(LinkMessage::default()),
        RouteNetlinkMessage::GetAddress(AddressMessage::default()),
        RouteNetlinkMessage::GetRoute(routes_v4),
        RouteNetlinkMessage::GetRoute(routes_v6),
        RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()),
    ]
    .map(|message| request(message, NLM_F_DUMP))
}

/// Tells the kernel that a neighbour is in use (`NTF_USE`), upon which it probes it.
pub(super) fn use_neighbour((ifindex, address): NeighbourKey) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = ifindex;
    message.header.state = NeighbourState::None;
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address.into()));
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    request(RouteNetlinkMessage::NewNeighbour(message), flags)
}

/// Adds an address of one host. An IPv6 address skips duplicate address detection, since a VIP
/// moves between hosts and must answer at once, and is deprecated from the start, so that the
/// kernel takes it as the source of no connection of its own.
pub(super) fn add_address(ifindex: u32, address: IpAddr) -> Request {
    let mut message = address_message(ifindex, address);
    if address.is_ipv6() {
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        message.attributes.push(AddressAttribute::Flags(flags));
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = 0;
        lifetimes.ifa_valid = u32::MAX;
        message
            .attributes
            .push(AddressAttribute::CacheInfo(lifetimes));
    }
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    request(RouteNetlinkMessage::NewAddress(message), flags)
}

/// Removes an address of one host.
pub(super) fn del_address(ifindex: u32, address: IpAddr) -> Request {
    request(
        RouteNetlinkMessage::DelAddress(address_message(ifindex, address)),
        NLM_F_ACK,
    )
}

fn address_message(ifindex: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = if address.is_ipv6() { 128 } else { 32 };
    message.header.scope = AddressScope::Universe;
    message.header.index = ifindex;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}
