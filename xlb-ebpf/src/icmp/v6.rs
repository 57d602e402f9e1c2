//! ICMPv6.

use xlb_common::{
    checksum,
    maps::protocol,
    reason::Reason,
    wire::{ETHER_TYPE_IPV6_BE, EthernetHeader, IcmpHeader, Icmpv6Error, Ipv6Header},
};
use xlb_ebpf::tunnel::Tunnel;

use super::{
    across,
    quoted::{IcmpFamily, tunnel_sum},
    too_big::add_sum,
};
use crate::{
    family::{Family, V4, V6, difference},
    frame::{Frame, Layout, NETWORK_OFFSET},
};

const HEADER: usize = size_of::<Ipv6Header>();

/// Smallest MTU of a link (RFC 8200, section 5).
pub const MTU_MIN: usize = 1280;

/// Version 6, without traffic class and flow label.
const VERSION_BE: u32 = 0x6000_0000u32.to_be();

impl IcmpFamily for V6 {
    type Opposite = V4;
    const ECHO_REQUEST: u16 = IcmpHeader::ECHO_REQUEST_V6;
    const TOO_BIG: u16 = Icmpv6Error::PACKET_TOO_BIG;
    const TUNNEL: u8 = protocol::IPV6;
    const ANSWER_QUOTES: usize = MTU_MIN - HEADER - size_of::<Icmpv6Error>();
    const ANSWERED_MTU_MIN: usize = MTU_MIN;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        Icmpv6Error::is_error(kind)
    }

    #[inline(always)]
    fn set_quoted<const SOURCE: bool>(
        frame: &mut Frame<'_, impl Layout>,
        new: [u64; 2],
    ) -> Result<(u64, u64), Reason> {
        let ip = frame.at_mut::<Ipv6Header>(Self::quoted_offset(frame))?;
        let old = if SOURCE { ip.source } else { ip.destination };
        if SOURCE {
            ip.source = new;
        } else {
            ip.destination = new;
        }
        let addresses = difference(old, new);
        Ok((addresses, addresses))
    }

    #[inline(always)]
    fn sum(frame: &mut Frame<'_, impl Layout>, addresses: u64, quoted: u64) -> Result<(), Reason> {
        let icmp = frame.at_mut::<IcmpHeader>(frame.transport(Self::TRANSPORT_OFFSET))?;
        icmp.checksum = checksum::update(icmp.checksum, addresses + quoted);
        Ok(())
    }

    #[inline(always)]
    fn unwrapped<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        // The message's own addresses were part of its sum, and what become its addresses are.
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let length_be = ip.payload_length_be;
        let shorter_be = shorter::<T>(length_be);
        let own = checksum::fold(address_sum(ip.source) + address_sum(ip.destination));
        let outer = frame.at::<Ipv6Header>(Self::quoted_offset(frame))?;
        let removed = u64::from(header_sum(outer));
        let removed =
            checksum::fold(removed + tunnel_sum::<T>(frame, Self::quoted_offset(frame) + HEADER)?);
        let inner = frame.at::<Ipv6Header>(Self::quoted_offset(frame) + outer_bytes::<T>())?;
        let new = checksum::fold(address_sum(inner.source) + address_sum(inner.destination));
        let icmp = frame.at_mut::<Icmpv6Error>(frame.transport(Self::TRANSPORT_OFFSET))?;
        // A host ignores what is less than every link takes (RFC 8201, section 4).
        let mtu = u32::from_be(icmp.mtu_be)
            .saturating_sub(outer_bytes::<T>() as u32)
            .max(MTU_MIN as u32);
        let change = checksum::difference16(own, new)
            + checksum::difference16(removed, 0)
            + checksum::difference16(length_be, shorter_be)
            + checksum::difference32(icmp.mtu_be, mtu.to_be());
        icmp.checksum = checksum::update(icmp.checksum, change);
        icmp.mtu_be = mtu.to_be();
        Ok(())
    }

    #[inline(always)]
    fn unwrap<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let length_be = shorter::<T>(ip.payload_length_be);
        let icmp = *frame.at::<Icmpv6Error>(frame.transport(Self::TRANSPORT_OFFSET))?;
        frame.shrink_front(outer_bytes::<T>())?;
        frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV6_BE;
        *frame.at_mut::<Icmpv6Error>(frame.transport(Self::TRANSPORT_OFFSET))? = icmp;
        let inner = frame.at::<Ipv6Header>(Self::quoted_offset(frame))?;
        let (client, vip) = (inner.source, inner.destination);
        write_header(frame, length_be, vip, client)
    }

    #[inline(always)]
    fn across<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        across::to_v4::<T>(frame)
    }

    #[inline(always)]
    fn is_answerable(frame: &Frame<'_, impl Layout>) -> Result<bool, Reason> {
        // The answer's source would be a group.
        let group = frame.at::<EthernetHeader>(0)?.destination_high & 1 != 0;
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let [high, low] = ip.source;
        let [first, ..] = high.to_ne_bytes();
        // The source has to name one host, which is not the loopback of somebody (RFC 4443, section
        // 2.4).
        let is_nobody = high == 0 && (low == 0 || low == 1u64.to_be());
        Ok(!group && first != 0xff && !is_nobody)
    }

    #[inline(always)]
    fn answer(frame: &mut Frame<'_, impl Layout>, mtu: usize) -> Result<(), Reason> {
        const QUOTES: usize = V6::ANSWER_QUOTES;
        const LENGTH_BE: u16 = ((QUOTES + size_of::<Icmpv6Error>()) as u16).to_be();
        let ip = frame.at::<Ipv6Header>(NETWORK_OFFSET)?;
        let (client, vip) = (ip.source, ip.destination);
        let sum = add_sum::<512>(frame, NETWORK_OFFSET, 0)?;
        let sum = add_sum::<512>(frame, NETWORK_OFFSET + 512, sum)?;
        let sum = add_sum::<{ QUOTES - 1024 }>(frame, NETWORK_OFFSET + 1024, sum)?;
        let ethernet = frame.at::<EthernetHeader>(0)?;
        let (high, low) = (ethernet.source_high, ethernet.source_low);
        let (own_high, own_low) = (ethernet.destination_high, ethernet.destination_low);
        frame.grow_front(HEADER + size_of::<Icmpv6Error>())?;
        *frame.at_mut::<EthernetHeader>(0)? = EthernetHeader {
            destination_high: high,
            destination_low: low,
            source_high: own_high,
            source_low: own_low,
            ether_type_be: ETHER_TYPE_IPV6_BE,
        };
        let mtu_be = (mtu as u32).to_be();
        let sum = sum
            + u64::from(Icmpv6Error::PACKET_TOO_BIG)
            + checksum::sum32(mtu_be)
            + address_sum(client)
            + address_sum(vip)
            + u64::from(LENGTH_BE)
            + u64::from(u16::from(protocol::ICMPV6).to_be());
        *frame.at_mut::<Icmpv6Error>(frame.transport(Self::TRANSPORT_OFFSET))? = Icmpv6Error {
            type_code: Icmpv6Error::PACKET_TOO_BIG,
            checksum: checksum::finish(sum),
            mtu_be,
        };
        write_header(frame, LENGTH_BE, vip, client)
    }
}

/// Bytes of an outer header with what follows it.
const fn outer_bytes<T: Tunnel>() -> usize {
    HEADER + T::BYTES
}

/// The length of a message that loses a header.
#[inline(always)]
const fn shorter<T: Tunnel>(length_be: u16) -> u16 {
    u16::from_be(length_be)
        .saturating_sub(outer_bytes::<T>() as u16)
        .to_be()
}

#[inline(always)]
pub fn address_sum(address: [u64; 2]) -> u64 {
    checksum::sum32(address[0] as u32)
        + (address[0] >> 32)
        + checksum::sum32(address[1] as u32)
        + (address[1] >> 32)
}

/// Sum of a header's words.
#[inline(always)]
pub fn header_sum(ip: &Ipv6Header) -> u16 {
    checksum::fold(
        checksum::sum32(ip.version_class_flow_be)
            + u64::from(ip.payload_length_be)
            + u64::from(u16::from_ne_bytes([ip.next_header, ip.hop_limit]))
            + address_sum(ip.source)
            + address_sum(ip.destination),
    )
}

/// Writes the IP header of a message.
#[inline(always)]
pub fn write_header(
    frame: &mut Frame<'_, impl Layout>,
    payload_length_be: u16,
    source: [u64; 2],
    destination: [u64; 2],
) -> Result<(), Reason> {
    *frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)? = Ipv6Header {
        version_class_flow_be: VERSION_BE,
        payload_length_be,
        next_header: protocol::ICMPV6,
        hop_limit: xlb_common::maps::OWN_TTL,
        source,
        destination,
    };
    Ok(())
}
