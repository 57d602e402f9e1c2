//! ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as the first four bytes that all messages share.

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
}
