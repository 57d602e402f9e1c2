//! ICMP.

use xlb_common::{
    checksum,
    maps::protocol,
    reason::Reason,
    wire::{ETHER_TYPE_IPV4_BE, EthernetHeader, IcmpError, IcmpHeader, Ipv4Header},
};
use xlb_ebpf::tunnel::Tunnel;

use super::{
    across,
    quoted::{IcmpFamily, tunnel_sum},
    too_big::add_sum,
};
use crate::{
    family::{Family, V4, V6},
    frame::{Frame, Layout, NETWORK_OFFSET},
};

const HEADER: usize = size_of::<Ipv4Header>();

/// Type of service of an error (RFC 1812, section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// Smallest MTU that a host need not ignore (RFC 1191).
pub const MTU_MIN: usize = 68;

impl IcmpFamily for V4 {
    type Opposite = V6;
    const ECHO_REQUEST: u16 = IcmpHeader::ECHO_REQUEST;
    const TOO_BIG: u16 = IcmpError::FRAGMENTATION_NEEDED;
    const TUNNEL: u8 = protocol::IPV4;
    const ANSWER_QUOTES: usize = 576 - HEADER - size_of::<IcmpError>();
    const ANSWERED_MTU_MIN: usize = 576;

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        IcmpError::is_error(kind)
    }

    #[inline(always)]
    fn set_quoted<const SOURCE: bool>(
        frame: &mut Frame<'_, impl Layout>,
        new: u32,
    ) -> Result<(u64, u64), Reason> {
        let ip = frame.at_mut::<Ipv4Header>(Self::quoted_offset(frame))?;
        let old = if SOURCE {
            ip.source_be
        } else {
            ip.destination_be
        };
        if SOURCE {
            ip.source_be = new;
        } else {
            ip.destination_be = new;
        }
        let addresses = checksum::difference32(old, new);
        let sum = ip.checksum;
        ip.checksum = checksum::update(sum, addresses);
        Ok((
            addresses,
            addresses + checksum::difference16(sum, ip.checksum),
        ))
    }

    #[inline(always)]
    fn sum(frame: &mut Frame<'_, impl Layout>, _addresses: u64, quoted: u64) -> Result<(), Reason> {
        let icmp = frame.at_mut::<IcmpHeader>(frame.transport(Self::TRANSPORT_OFFSET))?;
        icmp.checksum = checksum::update(icmp.checksum, quoted);
        Ok(())
    }

    #[inline(always)]
    fn unwrapped<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let outer = frame.at::<Ipv4Header>(Self::quoted_offset(frame))?;
        // Ours have no options.
        if outer.version_ihl != Ipv4Header::VERSION_IHL {
            return Err(Reason::IcmpOther);
        }
        let removed = u64::from(header_sum(outer));
        let removed = removed + tunnel_sum::<T>(frame, Self::quoted_offset(frame) + HEADER)?;
        let icmp = frame.at_mut::<IcmpError>(frame.transport(Self::TRANSPORT_OFFSET))?;
        // 0: the router is too old to say (RFC 1191, section 5).
        let mtu = match u16::from_be(icmp.mtu_be) {
            0 => 0,
            mtu if mtu as usize >= MTU_MIN + outer_bytes::<T>() => mtu - outer_bytes::<T>() as u16,
            _ => return Err(Reason::TooBig),
        };
        let change = checksum::difference16(checksum::fold(removed), 0)
            + checksum::difference16(icmp.length, 0)
            + checksum::difference16(icmp.mtu_be, mtu.to_be());
        icmp.checksum = checksum::update(icmp.checksum, change);
        // Extensions, if there are any, end up in what seems quoted.
        icmp.length = 0;
        icmp.mtu_be = mtu.to_be();
        Ok(())
    }

    #[inline(always)]
    fn unwrap<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        let total_length =
            u16::from_be(ip.total_length_be).saturating_sub(outer_bytes::<T>() as u16);
        let icmp = *frame.at::<IcmpError>(frame.transport(Self::TRANSPORT_OFFSET))?;
        frame.shrink_front(outer_bytes::<T>())?;
        frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV4_BE;
        *frame.at_mut::<IcmpError>(frame.transport(Self::TRANSPORT_OFFSET))? = icmp;
        let inner = frame.at::<Ipv4Header>(Self::quoted_offset(frame))?;
        let (client, vip) = (inner.source_be, inner.destination_be);
        write_header(frame, total_length, vip, client)
    }

    #[inline(always)]
    fn across<T: Tunnel>(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
        across::to_v6::<T>(frame)
    }

    #[inline(always)]
    fn is_answerable(frame: &Frame<'_, impl Layout>) -> Result<bool, Reason> {
        let group = frame.at::<EthernetHeader>(0)?.destination_high & 1 != 0;
        let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        let [first, ..] = ip.source_be.to_ne_bytes();
        // To one host, which the source has to name (RFC 1812, section 4.3.2.7).
        Ok(ip.flags_fragment_be & Ipv4Header::DONT_FRAGMENT_BE != 0
            && !group
            && !matches!(first, 0 | 127 | 224..))
    }

    #[inline(always)]
    fn answer(frame: &mut Frame<'_, impl Layout>, mtu: usize) -> Result<(), Reason> {
        let ip = frame.at::<Ipv4Header>(NETWORK_OFFSET)?;
        let (client, vip) = (ip.source_be, ip.destination_be);
        let sum = add_sum::<512>(frame, NETWORK_OFFSET, 0)?;
        let sum = add_sum::<{ Self::ANSWER_QUOTES - 512 }>(frame, NETWORK_OFFSET + 512, sum)?;
        let ethernet = frame.at::<EthernetHeader>(0)?;
        let (high, low) = (ethernet.source_high, ethernet.source_low);
        let (own_high, own_low) = (ethernet.destination_high, ethernet.destination_low);
        frame.grow_front(HEADER + size_of::<IcmpError>())?;
        *frame.at_mut::<EthernetHeader>(0)? = EthernetHeader {
            destination_high: high,
            destination_low: low,
            source_high: own_high,
            source_low: own_low,
            ether_type_be: ETHER_TYPE_IPV4_BE,
        };
        let mtu_be = (mtu as u16).to_be();
        let sum = sum + u64::from(IcmpError::FRAGMENTATION_NEEDED) + u64::from(mtu_be);
        *frame.at_mut::<IcmpError>(frame.transport(Self::TRANSPORT_OFFSET))? = IcmpError {
            type_code: IcmpError::FRAGMENTATION_NEEDED,
            checksum: checksum::finish(sum),
            length: 0,
            mtu_be,
        };
        write_header(frame, 576, vip, client)
    }
}

/// Bytes of an outer header with what follows it.
const fn outer_bytes<T: Tunnel>() -> usize {
    HEADER + T::BYTES
}

/// Sum of a header's words.
#[inline(always)]
pub fn header_sum(ip: &Ipv4Header) -> u16 {
    checksum::fold(
        u64::from(u16::from_ne_bytes([ip.version_ihl, ip.tos]))
            + u64::from(ip.total_length_be)
            + u64::from(ip.identification_be)
            + u64::from(ip.flags_fragment_be)
            + u64::from(u16::from_ne_bytes([ip.ttl, ip.protocol]))
            + u64::from(ip.checksum)
            + checksum::sum32(ip.source_be)
            + checksum::sum32(ip.destination_be),
    )
}

/// Writes the IP header of a message.
#[inline(always)]
pub fn write_header(
    frame: &mut Frame<'_, impl Layout>,
    total_length: u16,
    source_be: u32,
    destination_be: u32,
) -> Result<(), Reason> {
    let ip = frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)?;
    *ip = Ipv4Header {
        version_ihl: Ipv4Header::VERSION_IHL,
        tos: INTERNETWORK_CONTROL,
        total_length_be: total_length.to_be(),
        // What is not fragmented needs none (RFC 6864).
        identification_be: 0,
        flags_fragment_be: Ipv4Header::DONT_FRAGMENT_BE,
        ttl: xlb_common::maps::OWN_TTL,
        protocol: protocol::ICMP,
        checksum: 0,
        source_be,
        destination_be,
    };
    ip.checksum = !header_sum(ip);
    Ok(())
}
