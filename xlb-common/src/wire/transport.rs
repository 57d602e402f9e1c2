//! TCP (RFC 9293) and UDP (RFC 768).

use super::Header;

/// A TCP header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct TcpHeader {
    /// Source port.
    pub source_port_be: u16,
    /// Destination port.
    pub destination_port_be: u16,
    /// Sequence number.
    pub sequence_be: u32,
    /// Acknowledgment number.
    pub acknowledgment_be: u32,
    /// Length in 32-bit words, in the upper four bits.
    pub data_offset: u8,
    /// Control bits.
    pub flags: u8,
    /// Receive window.
    pub window_be: u16,
    /// Checksum over pseudo-header, header and payload.
    pub checksum: u16,
    /// Urgent pointer.
    pub urgent_be: u16,
}

const _: () = assert!(size_of::<TcpHeader>() == 20);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for TcpHeader {}

impl TcpHeader {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;

    /// Whether the flags are those of a packet that opens a connection.
    #[inline(always)]
    #[must_use]
    pub const fn opens(flags: u8) -> bool {
        flags & (Self::SYN | Self::ACK | Self::RST) == Self::SYN
    }

    /// Whether the flags are those of a packet by which its sender ends a connection.
    #[inline(always)]
    #[must_use]
    pub const fn closes(flags: u8) -> bool {
        flags & (Self::FIN | Self::RST) != 0
    }
}

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct UdpHeader {
    /// Source port.
    pub source_port_be: u16,
    /// Destination port.
    pub destination_port_be: u16,
    /// Bytes of header and payload.
    pub length_be: u16,
    /// Checksum over pseudo-header, header and payload; 0 over IPv4: none.
    pub checksum: u16,
}

const _: () = assert!(size_of::<UdpHeader>() == 8);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for UdpHeader {}
