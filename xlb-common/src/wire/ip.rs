//! IPv4 (RFC 791) and IPv6 (RFC 8200).

use super::Header;

/// An IPv4 header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Ipv4Header {
    /// Version in the upper four bits, length in 32-bit words in the lower ones.
    pub version_ihl: u8,
    /// Differentiated services (RFC 2474) and ECN (RFC 3168).
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_length_be: u16,
    /// Identification of the datagram that fragments belong to.
    pub identification_be: u16,
    /// Flags in the upper three bits, offset in units of eight bytes in the rest.
    pub flags_fragment_be: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: u16,
    /// Source address.
    pub source_be: u32,
    /// Destination address.
    pub destination_be: u32,
}

const _: () = assert!(size_of::<Ipv4Header>() == 20);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Ipv4Header {}

impl Ipv4Header {
    /// [`Ipv4Header::version_ihl`] of a header without options.
    pub const VERSION_IHL: u8 = 0x45;
    /// More fragments, and the offset: a packet with any of these bits is a fragment.
    pub const FRAGMENT_BE: u16 = 0x3fffu16.to_be();
    /// Offset of a fragment: not 0 in later ones.
    pub const FRAGMENT_OFFSET_BE: u16 = 0x1fffu16.to_be();
    /// More fragments.
    pub const MORE_FRAGMENTS_BE: u16 = 0x2000u16.to_be();
    /// Don't fragment.
    pub const DONT_FRAGMENT_BE: u16 = 0x4000u16.to_be();
}

/// Options of IPv4 (IANA, IP Option Numbers), by their first byte.
pub mod option {
    /// End of the options.
    pub const END: u8 = 0;
    /// A byte between options.
    pub const NOTHING: u8 = 1;
    /// Loose source route.
    pub const LOOSE_SOURCE_ROUTE: u8 = 131;
    /// Strict source route.
    pub const STRICT_SOURCE_ROUTE: u8 = 137;
    /// Bytes of all options, at most.
    pub const BYTES_MAX: usize = 40;
}

/// An IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Ipv6Header {
    /// Version, traffic class and flow label.
    pub version_class_flow_be: u32,
    /// Bytes of what follows this header.
    pub payload_length_be: u16,
    /// Protocol of the payload, or an extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address, as it stands in memory.
    pub source: [u64; 2],
    /// Destination address, as it stands in memory.
    pub destination: [u64; 2],
}

const _: () = assert!(size_of::<Ipv6Header>() == 40);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Ipv6Header {}

/// The start of an IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct ExtensionHeader {
    /// What follows.
    pub next_header: u8,
    /// Length: in units of eight bytes without the first eight, in the authentication header of four
    /// bytes without the first eight.
    pub length: u8,
    /// In a routing header: its type.
    pub kind: u8,
    /// In a routing header: nodes that are still to be visited.
    pub segments_left: u8,
}

const _: () = assert!(size_of::<ExtensionHeader>() == 4);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for ExtensionHeader {}

/// An IPv6 fragment header (RFC 8200, section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Ipv6FragmentHeader {
    /// Protocol of what was fragmented.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of eight bytes in the upper 13 bits, "more fragments" in the lowest.
    pub offset_more_be: u16,
    /// What all fragments of a datagram have in common.
    pub identification_be: u32,
}

const _: () = assert!(size_of::<Ipv6FragmentHeader>() == 8);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Ipv6FragmentHeader {}

/// IPv6 extension headers (IANA, IPv6 Extension Header Types).
pub mod extension {
    /// Hop-by-hop options (RFC 8200, section 4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing (RFC 8200, section 4.4).
    pub const ROUTING: u8 = 43;
    /// [`super::ExtensionHeader::kind`] of a routing header: type 0 (RFC 5095).
    pub const ROUTING_SOURCE_ROUTE: u8 = 0;
    /// Fragment (RFC 8200, section 4.5).
    pub const FRAGMENT: u8 = 44;
    /// Authentication (RFC 4302).
    pub const AUTHENTICATION: u8 = 51;
    /// Destination options (RFC 8200, section 4.6).
    pub const DESTINATION: u8 = 60;
}
