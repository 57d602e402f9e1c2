//! Outer headers: that of a family is written alike around packets of either.

use xlb_common::{
    checksum, gue,
    maps::{Backend, protocol},
    reason::Reason,
    wire::{
        ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader, Ipv4Header, Ipv6Header, UdpHeader,
    },
};
use xlb_ebpf::tunnel::Tunnel;

use super::{Family, V4, V6};
use crate::frame::{Frame, Layout, NETWORK_OFFSET};

/// What outer headers take from the packet within.
pub struct Inner {
    /// Bytes of the packet.
    pub bytes: u32,
    /// Protocol number of its family.
    pub number: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit, which the outer header takes over. It was made one less already, so that a
    /// packet has an end that balancers send one another in ever more headers, which would begin anew
    /// each with a TTL of its own (RFC 2003, section 3.2; RFC 2473, section 4.1).
    pub ttl: u8,
    /// Goes where routers look for what tells flows apart.
    pub entropy: u32,
}

impl Inner {
    /// Protocol number of what follows the outer IP header.
    #[inline(always)]
    const fn follows<T: Tunnel>(&self) -> u8 {
        if T::IS_UDP {
            protocol::UDP
        } else {
            self.number
        }
    }

    /// A UDP header of so many bytes with what it carries, and no checksum.
    #[inline(always)]
    const fn udp(&self, length_be: u16) -> UdpHeader {
        UdpHeader {
            source_port_be: gue::source_port_be(self.entropy),
            destination_port_be: gue::PORT_BE,
            length_be,
            checksum: 0,
        }
    }
}

/// Puts a packet into an outer IPv4 header, with these flags and identification.
#[inline(always)]
pub fn ipv4<T: Tunnel>(
    frame: &mut Frame<'_, impl Layout>,
    backend: &Backend,
    mtu: u16,
    inner: &Inner,
    flags_be: u16,
    identification_be: u16,
) -> Result<(), Reason> {
    let outer_bytes = V4::OUTER_BYTES + T::BYTES;
    let total_length = inner.bytes + outer_bytes as u32;
    if total_length > u32::from(mtu) {
        return Err(Reason::TooBig);
    }
    frame.grow_front(outer_bytes)?;
    frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV4_BE;
    let total_length_be = (total_length as u16).to_be();
    let number = inner.follows::<T>();
    let sum = u64::from(backend.outer_sum)
        + u64::from(u16::from_ne_bytes([inner.ttl, number]))
        + (u64::from(inner.traffic_class) << 8)
        + u64::from(total_length_be)
        + u64::from(identification_be)
        + u64::from(flags_be);
    *frame.at_mut::<Ipv4Header>(NETWORK_OFFSET)? = Ipv4Header {
        version_ihl: Ipv4Header::VERSION_IHL,
        tos: inner.traffic_class,
        total_length_be,
        identification_be,
        flags_fragment_be: flags_be,
        ttl: inner.ttl,
        protocol: number,
        checksum: checksum::finish(sum),
        source_be: V4::address(&backend.outer_source),
        destination_be: V4::address(&backend.address),
    };
    if T::IS_UDP {
        // Without a checksum, for what is within has its own.
        *frame.at_mut::<UdpHeader>(V4::TRANSPORT_OFFSET)? =
            inner.udp((total_length as u16 - V4::OUTER_BYTES as u16).to_be());
    }
    frame.is_within_outer(V4::TRANSPORT_OFFSET, number);
    Ok(())
}

/// Puts a packet into an outer IPv6 header. `checksum` gives that of the UDP header, if there is one.
#[inline(always)]
pub fn ipv6<T: Tunnel>(
    frame: &mut Frame<'_, impl Layout>,
    backend: &Backend,
    mtu: u16,
    inner: &Inner,
    checksum: impl FnOnce(&UdpHeader) -> u16,
) -> Result<(), Reason> {
    let payload = inner.bytes + T::BYTES as u32;
    if payload + V6::OUTER_BYTES as u32 > u32::from(mtu) {
        return Err(Reason::TooBig);
    }
    frame.grow_front(V6::OUTER_BYTES + T::BYTES)?;
    frame.at_mut::<EthernetHeader>(0)?.ether_type_be = ETHER_TYPE_IPV6_BE;
    let payload_length_be = (payload as u16).to_be();
    let number = inner.follows::<T>();
    // The flow label is where routers look for entropy (RFC 6438).
    let class_flow = u32::from(inner.traffic_class) << 20 | inner.entropy & 0x000f_ffff;
    *frame.at_mut::<Ipv6Header>(NETWORK_OFFSET)? = Ipv6Header {
        version_class_flow_be: (6 << 28 | class_flow).to_be(),
        payload_length_be,
        next_header: number,
        hop_limit: inner.ttl,
        source: V6::address(&backend.outer_source),
        destination: V6::address(&backend.address),
    };
    if T::IS_UDP {
        let mut udp = inner.udp(payload_length_be);
        udp.checksum = checksum(&udp);
        *frame.at_mut::<UdpHeader>(V6::TRANSPORT_OFFSET)? = udp;
    }
    frame.is_within_outer(V6::TRANSPORT_OFFSET, number);
    Ok(())
}
