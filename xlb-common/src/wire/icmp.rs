//! ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as the first eight bytes of a message.

use super::Header;

/// The start of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct IcmpHeader {
    /// Type in the first byte, code in the second, as they stand in memory.
    pub type_code: u16,
    /// Checksum; over the pseudo-header too in ICMPv6.
    pub checksum: u16,
}

const _: () = assert!(size_of::<IcmpHeader>() == 4);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for IcmpHeader {}

impl IcmpHeader {
    /// Bytes of an echo before its data, and the least that any message has that Linux takes in:
    /// the four here, identifier and sequence number.
    pub const MESSAGE_BYTES_MIN: usize = 8;
    /// Echo request (RFC 792), type 8, code 0.
    pub const ECHO_REQUEST: u16 = u16::from_ne_bytes([8, 0]);
    /// Echo reply (RFC 792), type 0, code 0.
    pub const ECHO_REPLY: u16 = u16::from_ne_bytes([0, 0]);
    /// Echo request (RFC 4443, section 4.1), type 128, code 0.
    pub const ECHO_REQUEST_V6: u16 = u16::from_ne_bytes([128, 0]);
    /// Echo reply (RFC 4443, section 4.2), type 129, code 0.
    pub const ECHO_REPLY_V6: u16 = u16::from_ne_bytes([129, 0]);

    /// The type of a message.
    #[inline(always)]
    #[must_use]
    pub const fn kind(type_code: u16) -> u8 {
        type_code.to_ne_bytes()[0]
    }
}

/// An ICMP error (RFC 792), after which the packet that it is about follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct IcmpError {
    /// As in [`IcmpHeader`].
    pub type_code: u16,
    /// As in [`IcmpHeader`].
    pub checksum: u16,
    /// Zero in the first byte; in the second, 32-bit words of the packet that it is about, if
    /// extensions follow (RFC 4884).
    pub length: u16,
    /// The largest packet that fits, in a message that one did not (RFC 1191).
    pub mtu_be: u16,
}

const _: () = assert!(size_of::<IcmpError>() == 8);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for IcmpError {}

impl IcmpError {
    /// Fragmentation needed and DF set (RFC 792), type 3, code 4.
    pub const FRAGMENTATION_NEEDED: u16 = u16::from_ne_bytes([3, 4]);

    /// Whether a message of this type is an error about a packet: unreachable, time exceeded,
    /// parameter problem. Source quench is obsolete (RFC 6633), and a redirect is for the host.
    #[inline(always)]
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }
}

/// An ICMPv6 error (RFC 4443, section 3), after which the packet that it is about follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Icmpv6Error {
    /// As in [`IcmpHeader`].
    pub type_code: u16,
    /// As in [`IcmpHeader`].
    pub checksum: u16,
    /// The largest packet that fits, in a "packet too big".
    pub mtu_be: u32,
}

const _: () = assert!(size_of::<Icmpv6Error>() == 8);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for Icmpv6Error {}

impl Icmpv6Error {
    /// Packet too big (RFC 4443, section 3.2), type 2, code 0.
    pub const PACKET_TOO_BIG: u16 = u16::from_ne_bytes([2, 0]);

    /// Whether a message of this type is an error about a packet: unreachable, too big, time
    /// exceeded, parameter problem.
    #[inline(always)]
    #[must_use]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }
}
