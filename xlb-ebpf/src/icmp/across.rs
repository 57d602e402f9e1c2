//! A router's word that a packet with its outer header was too big, where these are of two families:
//! it comes as a message of the outer header's, and goes to the client as one of the packet's.
//!
//! What the message quotes of the packet adds up to what is missing in the sum of the rest, so that
//! it need not be read; a message whose checksum is wrong becomes one whose checksum is.

use xlb_common::{
    checksum,
    maps::protocol,
    reason::Reason,
    wire::{
        ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader, IcmpError, Icmpv6Error, Ipv4Header,
        Ipv6Header,
    },
};
use xlb_ebpf::tunnel::Tunnel;

use super::{
    quoted::{IcmpFamily, tunnel_sum},
    v4, v6,
};
use crate::{
    family::{Family, V4, V6},
    frame::{Frame, Layout, NETWORK_OFFSET},
};

const ERROR_BYTES: usize = size_of::<IcmpError>();
const _: () = assert!(ERROR_BYTES == size_of::<Icmpv6Error>());

/// Makes a message of ICMPv6 about an IPv4 packet one of ICMP.
#[inline(always)]
pub fn to_v4<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
    let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
    let length_be = ip.payload_length_be;
    let message = *frame.at::<Icmpv6Error>(V6::TRANSPORT_OFFSET)?;
    let outer = frame.at::<Ipv6Header>(V6::quoted_offset(frame))?;
    let known = v6::address_sum(ip.source)
        + v6::address_sum(ip.destination)
        + u64::from(length_be)
        + u64::from(u16::from(protocol::ICMPV6).to_be())
        + u64::from(message.type_code)
        + u64::from(message.checksum)
        + checksum::sum32(message.mtu_be)
        + u64::from(v6::header_sum(outer))
        + tunnel_sum::<T>(frame, V6::quoted_offset(frame) + V6::OUTER_BYTES)?;
    let quoted = !checksum::fold(known);

    let outer_bytes = V6::OUTER_BYTES + T::BYTES;
    let mtu = u32::from_be(message.mtu_be).saturating_sub(outer_bytes as u32);
    if mtu < v4::MTU_MIN as u32 {
        return Err(Reason::TooBig);
    }
    let mtu_be = if mtu > 0xffff {
        u16::MAX
    } else {
        (mtu as u16).to_be()
    };
    let quoted_bytes =
        u16::from_be(length_be).saturating_sub((ERROR_BYTES + outer_bytes) as u16) as usize;
    frame.shrink_front(V6::OUTER_BYTES + outer_bytes - V4::OUTER_BYTES)?;
    frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV4_BE;
    let sum = u64::from(quoted) + u64::from(IcmpError::FRAGMENTATION_NEEDED) + u64::from(mtu_be);
    *frame.at_mut::<IcmpError>(V4::TRANSPORT_OFFSET)? = IcmpError {
        type_code: IcmpError::FRAGMENTATION_NEEDED,
        checksum: checksum::finish(sum),
        length: 0,
        mtu_be,
    };
    let inner = frame.at::<Ipv4Header>(V4::quoted_offset(frame))?;
    let (client, vip) = (inner.source_be, inner.destination_be);
    let total_length = V4::OUTER_BYTES + ERROR_BYTES + quoted_bytes;
    v4::write_header(frame, total_length as u16, vip, client)
}

/// Makes a message of ICMP about an IPv6 packet one of ICMPv6.
#[inline(always)]
pub fn to_v6<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
    let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
    let total_length = u16::from_be(ip.total_length_be);
    let message = *frame.at::<IcmpError>(V4::TRANSPORT_OFFSET)?;
    let outer = frame.at::<Ipv4Header>(V4::quoted_offset(frame))?;
    // Ours have no options.
    if outer.version_ihl != Ipv4Header::VERSION_IHL {
        return Err(Reason::IcmpOther);
    }
    let known = u64::from(message.type_code)
        + u64::from(message.checksum)
        + u64::from(message.length)
        + u64::from(message.mtu_be)
        + u64::from(v4::header_sum(outer))
        + tunnel_sum::<T>(frame, V4::quoted_offset(frame) + V4::OUTER_BYTES)?;
    let quoted = !checksum::fold(known);

    let outer_bytes = V4::OUTER_BYTES + T::BYTES;
    // A host ignores what is less than every link takes (RFC 8201, section 4), which is also what a
    // router gets that is too old to say (RFC 1191, section 5).
    let mtu = u32::from(u16::from_be(message.mtu_be))
        .saturating_sub(outer_bytes as u32)
        .max(v6::MTU_MIN as u32);
    let mtu_be = mtu.to_be();
    let length = total_length.saturating_sub((V4::OUTER_BYTES + outer_bytes) as u16);
    let length_be = length.to_be();
    let inner = frame.at::<Ipv6Header>(V4::quoted_offset(frame) + outer_bytes)?;
    let (client, vip) = (inner.source, inner.destination);
    let sum = u64::from(quoted)
        + u64::from(Icmpv6Error::PACKET_TOO_BIG)
        + checksum::sum32(mtu_be)
        + v6::address_sum(client)
        + v6::address_sum(vip)
        + u64::from(length_be)
        + u64::from(u16::from(protocol::ICMPV6).to_be());
    // An outer header of IPv4 and the message's make room for one of IPv6.
    const { assert!(V4::OUTER_BYTES * 2 == V6::OUTER_BYTES) };
    if T::BYTES != 0 {
        frame.shrink_front(T::BYTES)?;
    }
    frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV6_BE;
    *frame.at_mut::<Icmpv6Error>(V6::TRANSPORT_OFFSET)? = Icmpv6Error {
        type_code: Icmpv6Error::PACKET_TOO_BIG,
        checksum: checksum::finish(sum),
        mtu_be,
    };
    v6::write_header(frame, length_be, vip, client)
}
