//! Generic UDP Encapsulation in its direct form: an IP packet right after a UDP header
//! (draft-ietf-intarea-gue, variant 1).
//!
//! Receivers and routers spread packets over queues and paths by their UDP ports, so the source port
//! stands for the flow within.

use crate::{
    checksum,
    maps::protocol,
    wire::{Ipv4Header, Ipv6Header, UdpHeader},
};

/// UDP port that packets are sent to (IANA, Service Name and Transport Protocol Port Number
/// Registry), in network byte order.
pub const PORT_BE: u16 = 6080u16.to_be();

/// First of the dynamic ports, which are the last quarter of all (RFC 6335, section 6).
const DYNAMIC_PORTS: u16 = 0xc000;

/// The source port that stands for a flow, in network byte order. `hash`: of the flow; its lower
/// bits, since the upper ones pick the slot.
#[inline(always)]
#[must_use]
pub const fn source_port_be(hash: u32) -> u16 {
    (DYNAMIC_PORTS | hash as u16).to_be()
}

/// The protocol number of what follows the UDP header, by its first byte: the version of IP is the
/// variant. `None`: of another variant, or no IP.
#[inline(always)]
#[must_use]
pub const fn carries(first: u8) -> Option<u8> {
    match first >> 4 {
        4 => Some(protocol::IPV4),
        6 => Some(protocol::IPV6),
        _ => None,
    }
}

/// The checksum of a UDP header that is put around an IPv6 packet, which is never 0.
///
/// What the packet's own checksum covers adds up to nothing together with the pseudo-header that it
/// was made with, so that the packet need not be read: what is left of it are words of its IP header
/// that the pseudo-header has not. So this is right if the inner checksum is, as a receiver can't
/// tell the two apart.
///
/// `addresses`: sum of the words of the outer addresses. `inner`: header of the packet. `carries`:
/// protocol number of what it carries. `extensions`: sum of the words of the extension headers between
/// the two, and of their bytes as a length.
#[inline(always)]
#[must_use]
pub const fn checksum6(
    addresses: u64,
    udp: &UdpHeader,
    inner: &Ipv6Header,
    carries: u8,
    extensions: u64,
) -> u16 {
    let next_and_limit = u16::from_ne_bytes([inner.next_header, inner.hop_limit]);
    let next = u16::from_ne_bytes([0, carries]);
    let pseudo_header =
        addresses + udp.length_be as u64 + u16::from_ne_bytes([0, protocol::UDP]) as u64;
    let header = udp.source_port_be as u64 + udp.destination_port_be as u64 + udp.length_be as u64;
    let rest = checksum::sum32(inner.version_class_flow_be)
        + next_and_limit as u64
        + (!next) as u64
        + extensions;
    match checksum::finish(pseudo_header + header + rest) {
        0 => 0xffff,
        sum => sum,
    }
}

/// The same of a UDP header between an outer header of IPv6 and an IPv4 packet, which is no fragment,
/// and whose IP header has a right checksum, so that it adds up to nothing. A message of ICMP does that
/// by itself, since its checksum is made without a pseudo-header.
#[inline(always)]
#[must_use]
pub const fn checksum4(addresses: u64, udp: &UdpHeader, inner: &Ipv4Header) -> u16 {
    let header_bytes = ((inner.version_ihl & 0x0f) as u16) * 4;
    let payload_bytes = u16::from_be(inner.total_length_be).saturating_sub(header_bytes);
    let own = if inner.protocol == protocol::ICMP {
        0
    } else {
        checksum::sum32(inner.source_be)
            + checksum::sum32(inner.destination_be)
            + u16::from_ne_bytes([0, inner.protocol]) as u64
            + payload_bytes.to_be() as u64
    };
    let pseudo_header =
        addresses + udp.length_be as u64 + u16::from_ne_bytes([0, protocol::UDP]) as u64;
    let header = udp.source_port_be as u64 + udp.destination_port_be as u64 + udp.length_be as u64;
    match checksum::finish(pseudo_header + header + (!checksum::fold(own)) as u64) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_are_dynamic_and_differ() {
        assert_eq!(u16::from_be(source_port_be(0)), 49_152);
        assert_eq!(u16::from_be(source_port_be(u32::MAX)), 65_535);
        assert_eq!(u16::from_be(source_port_be(0xabcd_1234)), 0xd234);
    }

    #[test]
    fn the_first_byte_says_what_is_carried() {
        assert_eq!(carries(0x45), Some(protocol::IPV4));
        assert_eq!(carries(0x60), Some(protocol::IPV6));
        // Variant 0, and what is none.
        assert_eq!([0x00, 0x04, 0x80, 0xff].map(carries), [None; 4]);
    }
}
