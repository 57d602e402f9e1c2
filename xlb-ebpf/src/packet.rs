//! A packet as the parser saw it.

use xlb_common::{
    flow,
    maps::{feature, protocol},
    reason::Reason,
    wire::{IcmpHeader, SctpHeader, TcpHeader, UdpHeader},
};

use crate::{
    family::Family,
    frame::{Frame, Layout, NETWORK_OFFSET},
    globals,
};

/// A parsed packet of one address family.
pub struct Packet<F: Family> {
    /// Source address.
    pub source: F::Address,
    /// Destination address.
    pub destination: F::Address,
    /// What the IP header carries.
    pub transport: Transport,
    /// Bytes of the frame.
    pub frame_bytes: u64,
}

/// What stands between the beginning of an IP header and what the packet carries.
pub struct Headers {
    /// Protocol number of what it carries.
    pub number: u8,
    /// Offset of that.
    pub transport: usize,
    /// Which part of a datagram it is; [`Fragment::WHOLE`] of a whole one.
    pub fragment: Fragment,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy)]
pub struct Fragment {
    /// Offset of its first byte, a multiple of eight.
    pub offset: u16,
    /// More fragments follow.
    pub more: bool,
    /// Identification of the datagram, in network byte order.
    pub identification_be: u32,
    /// Offset in the frame of what it has of the datagram.
    pub start: u16,
}

impl Fragment {
    /// All of it (and RFC 6946: also where a fragment header says so).
    pub const WHOLE: Self = Self {
        offset: 0,
        more: false,
        identification_be: 0,
        start: 0,
    };

    /// Whether the packet is all of its datagram.
    #[inline(always)]
    pub const fn is_whole(self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// What an IP header carries.
#[derive(Clone, Copy)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Ports.
        ports: Ports,
        /// Control bits.
        flags: u8,
        /// Sequence number, in host byte order.
        sequence: u32,
    },
    /// UDP.
    Udp {
        /// Ports.
        ports: Ports,
    },
    /// SCTP.
    Sctp {
        /// Ports.
        ports: Ports,
        /// Type of the first chunk.
        chunk_type: u8,
    },
    /// ICMP or ICMPv6.
    Icmp,
    /// A fragment, whose ports are not known.
    Fragment,
    /// Shorter than its headers say.
    Truncated,
    /// Anything else.
    Other,
}

/// Ports of TCP, UDP or SCTP, in network byte order.
#[derive(Clone, Copy)]
pub struct Ports {
    /// Source port.
    pub source_be: u16,
    /// Destination port.
    pub destination_be: u16,
}

impl Ports {
    /// Both in one word, to be hashed.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        flow::ports(self.source_be, self.destination_be)
    }
}

impl Transport {
    /// Whether it is known by ports.
    #[inline(always)]
    pub const fn has_ports(self) -> bool {
        self.endpoint().is_some()
    }

    /// IP protocol number and ports, if there are any.
    #[inline(always)]
    pub const fn endpoint(self) -> Option<(u8, Ports)> {
        match self {
            Self::Tcp { ports, .. } => Some((protocol::TCP, ports)),
            Self::Udp { ports } => Some((protocol::UDP, ports)),
            Self::Sctp { ports, .. } => Some((protocol::SCTP, ports)),
            Self::Icmp | Self::Fragment | Self::Truncated | Self::Other => None,
        }
    }
}

/// Parses the header that an IP packet carries. `ip_bytes` is the length that the IP
/// header claims for itself and its payload.
#[inline(always)]
pub fn transport<F: Family>(
    frame: &Frame<'_, impl Layout>,
    number: u8,
    ip_bytes: usize,
) -> Transport {
    // Where the packet ends, and how far the headers may reach.
    let end = ip_bytes + NETWORK_OFFSET;
    if end > frame.length() {
        return Transport::Truncated;
    }
    let parsed = if number == protocol::TCP {
        tcp::<F>(frame, end)
    } else if number == protocol::UDP {
        udp::<F>(frame, end)
    } else if number == F::ICMP {
        icmp(frame.transport(F::TRANSPORT_OFFSET), end)
    } else if globals::has(feature::SCTP) && number == protocol::SCTP {
        sctp::<F>(frame, end)
    } else {
        Ok(Transport::Other)
    };
    match parsed {
        Ok(transport) => transport,
        Err(_) => Transport::Truncated,
    }
}

#[inline(always)]
fn tcp<F: Family>(frame: &Frame<'_, impl Layout>, end: usize) -> Result<Transport, Reason> {
    let offset = frame.transport(F::TRANSPORT_OFFSET);
    let header = frame.at::<TcpHeader>(offset)?;
    // The options have to lie in the packet too, and the header can't be shorter than itself.
    let header_bytes = usize::from(header.data_offset >> 4) * 4;
    if header_bytes < size_of::<TcpHeader>() || end < offset + header_bytes {
        return Err(Reason::Truncated);
    }
    Ok(Transport::Tcp {
        ports: Ports {
            source_be: header.source_port_be,
            destination_be: header.destination_port_be,
        },
        flags: header.flags,
        sequence: u32::from_be(header.sequence_be),
    })
}

/// A message that ends before its header does is none, though padding may follow it in the frame.
#[inline(always)]
const fn icmp(offset: usize, end: usize) -> Result<Transport, Reason> {
    if end < offset + IcmpHeader::MESSAGE_BYTES_MIN {
        return Err(Reason::Truncated);
    }
    Ok(Transport::Icmp)
}

#[inline(always)]
fn udp<F: Family>(frame: &Frame<'_, impl Layout>, end: usize) -> Result<Transport, Reason> {
    let offset = frame.transport(F::TRANSPORT_OFFSET);
    let header = frame.at::<UdpHeader>(offset)?;
    // The datagram may be shorter than the packet (RFC 9868), never longer.
    let datagram_bytes = usize::from(u16::from_be(header.length_be));
    if datagram_bytes < size_of::<UdpHeader>() || end < offset + datagram_bytes {
        return Err(Reason::Truncated);
    }
    Ok(Transport::Udp {
        ports: Ports {
            source_be: header.source_port_be,
            destination_be: header.destination_port_be,
        },
    })
}

/// Parses the header at the beginning of a datagram, of which the packet has what lies before `end`.
///
/// # Errors
///
/// [`Reason::FragmentTiny`] where the header goes on in the next fragment (RFC 1858), and
/// [`Reason::Truncated`] where it contradicts itself.
#[inline(always)]
pub fn beginning<F: Family>(
    frame: &Frame<'_, impl Layout>,
    number: u8,
    end: usize,
) -> Result<Transport, Reason> {
    let offset = frame.transport(F::TRANSPORT_OFFSET);
    let has = |bytes: usize| {
        if end < offset + bytes {
            return Err(Reason::FragmentTiny);
        }
        Ok(())
    };
    if number == protocol::TCP {
        has(size_of::<TcpHeader>())?;
        let header_bytes = usize::from(frame.at::<TcpHeader>(offset)?.data_offset >> 4) * 4;
        if header_bytes >= size_of::<TcpHeader>() {
            has(header_bytes)?;
        }
        tcp::<F>(frame, end)
    } else if number == protocol::UDP {
        has(size_of::<UdpHeader>())?;
        let header = frame.at::<UdpHeader>(offset)?;
        // What it says is the length of the whole datagram.
        if usize::from(u16::from_be(header.length_be)) < size_of::<UdpHeader>() {
            return Err(Reason::Truncated);
        }
        Ok(Transport::Udp {
            ports: Ports {
                source_be: header.source_port_be,
                destination_be: header.destination_port_be,
            },
        })
    } else {
        has(SctpHeader::PACKET_BYTES_MIN)?;
        sctp::<F>(frame, end)
    }
}

#[inline(always)]
fn sctp<F: Family>(frame: &Frame<'_, impl Layout>, end: usize) -> Result<Transport, Reason> {
    let offset = frame.transport(F::TRANSPORT_OFFSET);
    let header = frame.at::<SctpHeader>(offset)?;
    if end < offset + SctpHeader::PACKET_BYTES_MIN {
        return Err(Reason::Truncated);
    }
    Ok(Transport::Sctp {
        ports: Ports {
            source_be: header.source_port_be,
            destination_be: header.destination_port_be,
        },
        chunk_type: header.chunk_type,
    })
}
