//! TCP (RFC 9293), UDP (RFC 768) and SCTP (RFC 9260).

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

/// The common header of SCTP, and the type of the chunk that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct SctpHeader {
    /// Source port.
    pub source_port_be: u16,
    /// Destination port.
    pub destination_port_be: u16,
    /// Verification tag, by which the receiver knows the association.
    pub verification_tag_be: u32,
    /// CRC32c over header and chunks, ports among them, and no pseudo-header.
    pub checksum: u32,
    /// Type of the first chunk.
    pub chunk_type: u8,
}

const _: () = assert!(size_of::<SctpHeader>() == 13);

// SAFETY: packed integers: alignment of one, no padding, every bit pattern is valid.
unsafe impl Header for SctpHeader {}

impl SctpHeader {
    /// Bytes of a packet with one empty chunk, the least that there is (RFC 9260, section 3).
    pub const PACKET_BYTES_MIN: usize = 16;
    /// INIT, which asks for an association and stands alone in its packet.
    pub const INIT: u8 = 1;
    /// ABORT, which ends one at once.
    pub const ABORT: u8 = 6;
    /// SHUTDOWN, by which its sender ends one.
    pub const SHUTDOWN: u8 = 7;
    /// SHUTDOWN COMPLETE.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
    /// What stands for the initial sequence number of TCP where an association is recorded: there is
    /// none that every packet is near to.
    pub const INITIAL: u32 = 0;

    /// Whether a packet with this first chunk asks for an association.
    #[inline(always)]
    #[must_use]
    pub const fn opens(chunk_type: u8) -> bool {
        chunk_type == Self::INIT
    }

    /// Whether a packet with this first chunk is one by which its sender ends an association.
    #[inline(always)]
    #[must_use]
    pub const fn closes(chunk_type: u8) -> bool {
        matches!(
            chunk_type,
            Self::ABORT | Self::SHUTDOWN | Self::SHUTDOWN_COMPLETE
        )
    }
}
