//! From netlink's messages to [`Change`]s: the one place that knows how the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, VlanProtocol,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE};

use super::NeighbourKey;
use super::model::{
    Address, Change, Hop, Link, Neighbour, NeighbourState, Route, RouteKind, Table, Vlan,
};

/// The change that a message tells, if it is one that matters here. `flags` are those of the
/// message's netlink header; a message of a dump has neither REPLACE nor APPEND in a meaning of
/// these bits, so a dump passes `NLM_F_APPEND` to keep the kernel's order.
#[must_use]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rtnetlink has many more messages, and none of them concerns next hops"
)]
pub fn change(message: &RouteNetlinkMessage, flags: u16) -> Option<Change> {
    match message {
        RouteNetlinkMessage::NewLink(link) => decode_link(link).map(Change::Link),
        RouteNetlinkMessage::DelLink(link) => {
            decode_link(link).map(|link| Change::LinkGone(link.ifindex))
        }
        RouteNetlinkMessage::NewAddress(address) => decode_address(address).map(Change::Address),
        RouteNetlinkMessage::DelAddress(address) => {
            decode_address(address).map(Change::AddressGone)
        }
        RouteNetlinkMessage::NewRoute(route) => decode_route(route).map(|route| Change::Route {
            route,
            replaces: flags & NLM_F_REPLACE != 0,
            appends: flags & NLM_F_APPEND != 0,
        }),
        RouteNetlinkMessage::DelRoute(route) => decode_route(route).map(Change::RouteGone),
        RouteNetlinkMessage::NewNeighbour(entry) => {
            decode_neighbour(entry).map(|(key, neighbour)| Change::Neighbour(key, neighbour))
        }
        RouteNetlinkMessage::DelNeighbour(entry) => {
            decode_neighbour(entry).map(|(key, _)| Change::NeighbourGone(key))
        }
        _ => None,
    }
}

fn decode_link(message: &LinkMessage) -> Option<Link> {
    // A bridge tells of its ports as links of its own family; a port that leaves it is no link
    // that goes.
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut link = Link {
        ifindex: message.header.index,
        name: String::new(),
        mac: None,
        up: message
            .header
            .flags
            .contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
        vlan: None,
    };
    let (mut parent, mut tag) = (None, None);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::Address(mac) = attribute {
            link.mac = mac.as_slice().try_into().ok();
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        } else if let LinkAttribute::Link(below) = attribute {
            parent = Some(*below);
        } else if let LinkAttribute::LinkInfo(parts) = attribute {
            tag = parts.iter().find_map(decode_vlan);
        }
    }
    link.vlan = parent.zip(tag).map(|(parent, (ether_type, id))| Vlan {
        parent,
        ether_type,
        id,
    });
    Some(link)
}

/// Type and VLAN of the tag of a VLAN device.
fn decode_vlan(information: &LinkInfo) -> Option<(u16, u16)> {
    let LinkInfo::Data(InfoData::Vlan(attributes)) = information else {
        return None;
    };
    let (mut ether_type, mut id) = (VlanProtocol::default(), None);
    for attribute in attributes {
        if let InfoVlan::Id(number) = attribute {
            id = Some(*number);
        } else if let InfoVlan::Protocol(protocol) = attribute {
            ether_type = *protocol;
        }
    }
    Some((ether_type.into(), id?))
}

fn decode_address(message: &AddressMessage) -> Option<Address> {
    let (mut local, mut address) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        if let AddressAttribute::Local(ip) = attribute {
            local = Some(*ip);
        } else if let AddressAttribute::Address(ip) = attribute {
            address = Some(*ip);
        } else if let AddressAttribute::Flags(all) = attribute {
            flags = *all;
        }
    }
    let unfit = AddressFlags::Secondary
        | AddressFlags::Tentative
        | AddressFlags::Deprecated
        | AddressFlags::Dadfailed;
    Some(Address {
        ifindex: message.header.index,
        // On a point-to-point link IFA_ADDRESS is the other end.
        address: local.or(address)?,
        prefix_len: message.header.prefix_len,
        preferred: u8::from(message.header.scope) == libc::RT_SCOPE_UNIVERSE
            && !flags.intersects(unfit),
    })
}

fn decode_route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let any: IpAddr = if header.address_family == AddressFamily::Inet {
        Ipv4Addr::UNSPECIFIED.into()
    } else if header.address_family == AddressFamily::Inet6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        return None;
    };
    if header.tos != 0
        || header.source_prefix_length != 0
        || header.flags.contains(RouteFlags::Cloned)
    {
        return None;
    }
    let mut route = Route {
        table: Table::Main,
        prefix: any,
        prefix_len: header.destination_prefix_length,
        metric: 0,
        kind: route_kind(u8::from(header.kind))?,
        prefsrc: None,
        hops: Vec::new(),
    };
    let mut table_id = u32::from(header.table);
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(prefix) = attribute {
            route.prefix = route_address(prefix)?;
        } else if let RouteAttribute::Priority(metric) = attribute {
            route.metric = *metric;
        } else if let RouteAttribute::PrefSource(source) = attribute {
            route.prefsrc = route_address(source);
        } else if let RouteAttribute::Table(id) = attribute {
            table_id = *id;
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            let dead = |flags: RouteNextHopFlags| flags.contains(RouteNextHopFlags::Dead);
            let decode = |hop: &netlink_packet_route::route::RouteNextHop| {
                decode_hop(Some(hop.interface_index), &hop.attributes, dead(hop.flags))
            };
            route.hops = hops.iter().filter_map(decode).collect();
        }
    }
    route.table = match table_id {
        id if id == u32::from(libc::RT_TABLE_MAIN) => Table::Main,
        id if id == u32::from(libc::RT_TABLE_LOCAL) => Table::Local,
        _ => return None,
    };
    if route.hops.is_empty() {
        let dead = header.flags.contains(RouteFlags::Dead);
        route
            .hops
            .extend(decode_hop(None, &message.attributes, dead));
    }
    Some(route)
}

fn decode_hop(oif: Option<u32>, attributes: &[RouteAttribute], dead: bool) -> Option<Hop> {
    let (mut oif, mut gateway, mut encapsulates) = (oif, None, false);
    for attribute in attributes {
        if let RouteAttribute::Oif(ifindex) = attribute {
            oif = Some(*ifindex);
        } else if let RouteAttribute::Gateway(address) = attribute {
            gateway = route_address(address);
        } else if let RouteAttribute::Via(RouteVia::Inet(address)) = attribute {
            gateway = Some(IpAddr::V4(*address));
        } else if let RouteAttribute::Via(RouteVia::Inet6(address)) = attribute {
            gateway = Some(IpAddr::V6(*address));
        } else if let RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) = attribute {
            encapsulates = true;
        }
    }
    Some(Hop {
        ifindex: oif?,
        gateway,
        dead,
        encapsulates,
    })
}

fn route_kind(number: u8) -> Option<RouteKind> {
    Some(match number {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_LOCAL => RouteKind::Local,
        libc::RTN_BROADCAST | libc::RTN_ANYCAST | libc::RTN_MULTICAST => RouteKind::NotUnicast,
        libc::RTN_BLACKHOLE => RouteKind::Blackhole,
        libc::RTN_UNREACHABLE => RouteKind::Unreachable,
        libc::RTN_PROHIBIT => RouteKind::Prohibit,
        libc::RTN_THROW => RouteKind::Throw,
        _ => return None,
    })
}

fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    if let RouteAddress::Inet(v4) = address {
        Some(IpAddr::V4(*v4))
    } else if let RouteAddress::Inet6(v6) = address {
        Some(IpAddr::V6(*v6))
    } else {
        None
    }
}

fn decode_neighbour(message: &NeighbourMessage) -> Option<(NeighbourKey, Neighbour)> {
    // Entries of a bridge's forwarding table come in the same messages, and so do addresses that
    // the host answers for.
    let family = message.header.family;
    if family != AddressFamily::Inet && family != AddressFamily::Inet6
        || message.header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        if let NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) = attribute {
            address = Some(IpAddr::V4(*v4));
        } else if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) = attribute {
            address = Some(IpAddr::V6(*v6));
        } else if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
            mac = bytes.as_slice().try_into().ok();
        }
    }
    let state = neighbour_state(u16::from(message.header.state));
    Some(((message.header.ifindex, address?), Neighbour { mac, state }))
}

fn neighbour_state(number: u16) -> NeighbourState {
    match number {
        libc::NUD_INCOMPLETE => NeighbourState::Incomplete,
        libc::NUD_REACHABLE => NeighbourState::Reachable,
        libc::NUD_STALE => NeighbourState::Stale,
        libc::NUD_DELAY => NeighbourState::Delay,
        libc::NUD_PROBE => NeighbourState::Probe,
        libc::NUD_FAILED => NeighbourState::Failed,
        libc::NUD_NOARP => NeighbourState::Noarp,
        libc::NUD_PERMANENT => NeighbourState::Permanent,
        _ => NeighbourState::None,
    }
}
