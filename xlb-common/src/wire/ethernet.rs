//! Ethernet II (IEEE 802.3).

use super::Header;

/// An Ethernet header. The MAC addresses are split into whole words, which load and store at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct EthernetHeader {
    /// First four bytes of the destination.
    pub destination_high: u32,
    /// Last two bytes of the destination.
    pub destination_low: u16,
    /// First four bytes of the source.
    pub source_high: u32,
    /// Last two bytes of the source.
    pub source_low: u16,
    /// EtherType.
    pub ether_type_be: u16,
}

const _: () = assert!(size_of::<EthernetHeader>() == 14);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for EthernetHeader {}

/// The addresses of an Ethernet header, which tags follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct MacAddresses {
    /// First four bytes of the destination.
    pub destination_high: u32,
    /// Last two bytes of the destination.
    pub destination_low: u16,
    /// First four bytes of the source.
    pub source_high: u32,
    /// Last two bytes of the source.
    pub source_low: u16,
}

const _: () = assert!(size_of::<MacAddresses>() == 12);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for MacAddresses {}

/// Whether an EtherType, in network byte order, is that of a VLAN tag: a customer's (IEEE 802.1Q) or a
/// service provider's (802.1ad).
#[inline(always)]
#[must_use]
pub const fn is_tag(ether_type_be: u16) -> bool {
    ether_type_be == 0x8100u16.to_be() || ether_type_be == 0x88a8u16.to_be()
}

/// EtherType of IPv4 (RFC 894), in network byte order.
pub const ETHER_TYPE_IPV4_BE: u16 = 0x0800u16.to_be();
/// EtherType of IPv6 (RFC 2464, section 3), in network byte order.
pub const ETHER_TYPE_IPV6_BE: u16 = 0x86ddu16.to_be();
