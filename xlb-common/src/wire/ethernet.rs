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

/// EtherType of IPv4 (RFC 894), in network byte order.
pub const ETHER_TYPE_IPV4_BE: u16 = 0x0800u16.to_be();
/// EtherType of IPv6 (RFC 2464, section 3), in network byte order.
pub const ETHER_TYPE_IPV6_BE: u16 = 0x86ddu16.to_be();
