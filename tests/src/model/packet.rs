//! A frame's headers, as far as the balancer has to understand them.

use std::net::{IpAddr, SocketAddr};

use xlb_common::{maps::protocol, reason::Reason};

use super::{
    ETHERNET_BYTES, ICMP_BYTES, IPV4_BYTES, IPV6_BYTES, TCP_BYTES, UDP_BYTES,
    between::{self, Fragment},
    bytes::{address, be16},
};

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
    Icmp,
    Other,
}

/// An IP packet in a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) v6: bool,
    /// Offset of the IP header.
    pub(crate) ip: usize,
    /// Offset of what follows the IP header.
    pub(crate) transport_at: usize,
    /// Offset of the packet's end, by its own word. Beyond the frame's, if it is truncated.
    pub(crate) end: usize,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) ttl: u8,
    /// Protocol number of what follows the headers.
    pub(crate) number: u8,
    /// Which part of a datagram it is, if it is not all of one.
    pub(crate) fragment: Option<Fragment>,
}

/// A packet that is not looked into: where it goes, and why.
pub(crate) struct Refused {
    pub(crate) destination: Option<IpAddr>,
    pub(crate) reason: Reason,
}

impl Packet {
    /// Reads the headers of a frame whose EtherType says what family it is of.
    pub(crate) fn parse(frame: &[u8], v6: bool) -> Result<Self, Refused> {
        let ip = ETHERNET_BYTES;
        let packet = &frame[ip..];
        let least = if v6 { IPV6_BYTES } else { IPV4_BYTES };
        if packet.len() < least {
            return Err(Refused {
                destination: None,
                reason: Reason::BadHeader,
            });
        }
        let (source_at, destination_at) = if v6 { (8, 24) } else { (12, 16) };
        let destination = address(packet, destination_at, v6);
        let header = usize::from(packet[0] & 0x0f) * 4;
        let way = if packet[0] >> 4 != if v6 { 6 } else { 4 } {
            Err(Reason::BadHeader)
        } else if v6 {
            between::extensions(packet, ip)
        } else if header < IPV4_BYTES {
            Err(Reason::BadHeader)
        } else {
            between::options(packet)
        };
        let way = way.map_err(|reason| Refused {
            destination: Some(destination),
            reason,
        })?;
        let transport = match way.protocol {
            protocol::TCP => Transport::Tcp,
            protocol::UDP => Transport::Udp,
            protocol::ICMP if !v6 => Transport::Icmp,
            protocol::ICMPV6 if v6 => Transport::Icmp,
            _ => Transport::Other,
        };
        Ok(Self {
            v6,
            ip,
            transport_at: ip + way.transport_at,
            end: if v6 {
                ip + IPV6_BYTES + usize::from(be16(packet, 4))
            } else {
                ip + usize::from(be16(packet, 2))
            },
            source: address(packet, source_at, v6),
            destination,
            transport,
            ttl: packet[if v6 { 7 } else { 8 }],
            number: way.protocol,
            fragment: way.fragment,
        })
    }

    /// Whether something stands between the IP header and what the packet carries.
    pub(crate) fn has_more_headers(&self) -> bool {
        self.transport_at - self.ip > if self.v6 { IPV6_BYTES } else { IPV4_BYTES }
    }

    /// Bytes of the IP packet.
    pub(crate) fn bytes(&self) -> usize {
        self.end - self.ip
    }

    /// Bytes that every header of this kind has.
    fn transport_bytes(&self) -> usize {
        match self.transport {
            Transport::Tcp => TCP_BYTES,
            Transport::Udp => UDP_BYTES,
            Transport::Icmp => ICMP_BYTES,
            Transport::Other => 0,
        }
    }

    /// Whether the frame has what the headers say, and the headers leave room for one another.
    pub(crate) fn is_whole(&self, frame: &[u8]) -> bool {
        if self.end > frame.len() || self.end < self.transport_at + self.transport_bytes() {
            return false;
        }
        let room = self.end - self.transport_at;
        match self.transport {
            Transport::Tcp => {
                let header = usize::from(frame[self.transport_at + 12] >> 4) * 4;
                (TCP_BYTES..=room).contains(&header)
            }
            Transport::Udp => {
                let datagram = usize::from(be16(frame, self.transport_at + 4));
                (UDP_BYTES..=room).contains(&datagram)
            }
            Transport::Icmp | Transport::Other => true,
        }
    }

    /// Protocol of a service that the packet may be for.
    pub(crate) fn protocol(&self) -> u8 {
        match self.transport {
            Transport::Tcp => protocol::TCP,
            Transport::Udp => protocol::UDP,
            Transport::Icmp | Transport::Other => protocol::ICMP,
        }
    }

    /// Where it comes from; only of TCP and UDP that is whole.
    pub(crate) fn from(&self, frame: &[u8]) -> SocketAddr {
        SocketAddr::new(self.source, be16(frame, self.transport_at))
    }

    /// Where it goes; only of TCP and UDP that is whole.
    pub(crate) fn to(&self, frame: &[u8]) -> SocketAddr {
        SocketAddr::new(self.destination, be16(frame, self.transport_at + 2))
    }

    /// Offset of the transport checksum.
    pub(crate) fn checksum_at(&self) -> usize {
        self.transport_at
            + match self.transport {
                Transport::Tcp => 16,
                Transport::Udp => 6,
                Transport::Icmp | Transport::Other => 2,
            }
    }

    /// Offset of the source address; that of the destination follows it.
    pub(crate) fn source_at(&self) -> usize {
        self.ip + if self.v6 { 8 } else { 12 }
    }

    /// Offset of the destination address.
    pub(crate) fn destination_at(&self) -> usize {
        self.ip + if self.v6 { 24 } else { 16 }
    }

    /// Offset of the header checksum.
    pub(crate) fn header_checksum_at(&self) -> Option<usize> {
        (!self.v6).then_some(self.ip + 10)
    }

    /// Takes one from the TTL or hop limit in a copy of the frame (RFC 1812, section 5.3.1; RFC 8200,
    /// section 3).
    pub(crate) fn take_hop(&self, frame: &mut [u8]) -> Result<(), Reason> {
        if self.ttl <= 1 {
            return Err(Reason::TtlExpired);
        }
        if self.v6 {
            frame[self.ip + 7] -= 1;
        } else {
            let word = [frame[self.ip + 8] - 1, frame[self.ip + 9]];
            super::bytes::rewrite(frame, self.ip + 8, &word, &[self.ip + 10]);
        }
        Ok(())
    }
}
