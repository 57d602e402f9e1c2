//! Builds a valid frame from its description. What the program should make of it is built the same
//! way from a changed description, so that every checksum of an expectation is a new sum.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{
    IpDscp, IpEcn, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, PacketBuilder,
    TcpHeader, UdpHeader,
};
use xlb_tests::strict;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4_BYTES: usize = 20;
/// Bytes of an IPv6 header.
pub(crate) const IPV6_BYTES: usize = 40;
/// Bytes of a UDP header.
pub(crate) const UDP_BYTES: usize = 8;
/// UDP port of the backend's end of `gue`.
pub(crate) const GUE_PORT: u16 = 6080;

/// Type of service, or traffic class, of every frame: none of its bits may get lost.
const TOS: u8 = 0xb9;
const IDENTIFICATION: u16 = 0x1234;
const FLOW_LABEL: u32 = 0x54321;

/// What a frame carries.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Carries {
    /// A TCP SYN with this sequence number.
    Syn(u32),
    /// A TCP segment with ACK and this sequence number.
    Segment(u32),
    /// The same with FIN.
    Fin(u32),
    /// The same with RST.
    Rst(u32),
    /// The same, with the number that it acknowledges.
    Acknowledgment(u32, u32),
    Udp,
    /// SCTP whose first chunk, with the payload as its value, is of this type.
    Sctp(u8),
    EchoRequest,
    EchoReply,
    /// An ICMP or ICMPv6 error of this type and code, with these four bytes before what it quotes,
    /// which is the payload.
    Error(u8, u8, [u8; 4]),
}

/// A frame's description.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) carries: Carries,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The same with one thing changed.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut frame = self.clone();
        change(&mut frame);
        frame
    }

    /// The frame's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(self.source_mac, self.destination_mac).ip(ip(
            self.source.ip(),
            self.destination.ip(),
            self.ttl,
        ));
        let (from, to) = (self.source.port(), self.destination.port());
        let mut bytes = Vec::new();
        match self.carries {
            Carries::Syn(sequence)
            | Carries::Segment(sequence)
            | Carries::Fin(sequence)
            | Carries::Rst(sequence)
            | Carries::Acknowledgment(sequence, _) => {
                let mut header = TcpHeader::new(from, to, sequence, 64_240);
                header.syn = matches!(self.carries, Carries::Syn(_));
                header.ack = !header.syn;
                header.fin = matches!(self.carries, Carries::Fin(_));
                header.rst = matches!(self.carries, Carries::Rst(_));
                if let Carries::Acknowledgment(_, acknowledged) = self.carries {
                    header.acknowledgment_number = acknowledged;
                }
                builder.tcp_header(header).write(&mut bytes, &self.payload)
            }
            Carries::Udp => builder.udp(from, to).write(&mut bytes, &self.payload),
            Carries::Sctp(chunk_type) => {
                let packet = sctp(from, to, chunk_type, &self.payload);
                builder.write(&mut bytes, IpNumber::SCTP, &packet)
            }
            Carries::EchoRequest if self.source.is_ipv4() => builder
                .icmpv4_echo_request(7, 9)
                .write(&mut bytes, &self.payload),
            Carries::EchoRequest => builder
                .icmpv6_echo_request(7, 9)
                .write(&mut bytes, &self.payload),
            Carries::EchoReply if self.source.is_ipv4() => builder
                .icmpv4_echo_reply(7, 9)
                .write(&mut bytes, &self.payload),
            Carries::EchoReply => builder
                .icmpv6_echo_reply(7, 9)
                .write(&mut bytes, &self.payload),
            Carries::Error(kind, code, rest) if self.source.is_ipv4() => builder
                .icmpv4_raw(kind, code, rest)
                .write(&mut bytes, &self.payload),
            Carries::Error(kind, code, rest) => builder
                .icmpv6_raw(kind, code, rest)
                .write(&mut bytes, &self.payload),
        }
        .expect("a frame of a valid description");
        bytes
    }

    /// The frame's bytes in a tunnel.
    pub(crate) fn encapsulated(&self, from: IpAddr, to: IpAddr, tunnel: Tunnel) -> Vec<u8> {
        encapsulated(&self.bytes(), from, to, tunnel)
    }

    /// Offset of what follows the IP header.
    pub(crate) fn transport_offset(&self) -> usize {
        ETHERNET_BYTES
            + if self.source.is_ipv4() {
                IPV4_BYTES
            } else {
                IPV6_BYTES
            }
    }
}

/// A packet of SCTP with one chunk (RFC 9260, section 3).
fn sctp(from: u16, to: u16, chunk_type: u8, value: &[u8]) -> Vec<u8> {
    let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
    packet.extend_from_slice(&0x0a0b_0c0du32.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&[chunk_type, 0]);
    packet.extend_from_slice(&(4 + value.len() as u16).to_be_bytes());
    packet.extend_from_slice(value);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// CRC32c (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

/// Form of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnel {
    /// Flow label of an outer IPv6 header.
    pub(crate) flow_label: u32,
    /// Source port of a UDP header, if there is one.
    pub(crate) udp: Option<u16>,
}

impl Tunnel {
    /// Bytes of the UDP header.
    pub(crate) const fn udp_bytes(self) -> usize {
        if self.udp.is_some() { UDP_BYTES } else { 0 }
    }
}

/// A frame's bytes in a tunnel, whose header has its TTL or hop limit.
pub(crate) fn encapsulated(frame: &[u8], from: IpAddr, to: IpAddr, tunnel: Tunnel) -> Vec<u8> {
    let (ethernet, inner) = frame.split_at(ETHERNET_BYTES);
    let ttl = inner[if inner[0] >> 4 == 6 { 7 } else { 8 }];
    let inner = within_udp(inner, from, to, tunnel);
    let number = if tunnel.udp.is_some() {
        IpNumber::UDP
    } else if ethernet[12..] == [0x08, 0x00] {
        IpNumber::IPV4
    } else {
        IpNumber::IPV6
    };
    let mut bytes = ethernet.to_vec();
    bytes[12..].copy_from_slice(&ether_type(from));
    match ip(from, to, ttl) {
        IpHeaders::Ipv4(mut header, _) => {
            header.protocol = number;
            header.set_payload_len(inner.len()).expect("a length");
            header.header_checksum = header.calc_header_checksum();
            header.write(&mut bytes).expect("a header");
        }
        IpHeaders::Ipv6(mut header, _) => {
            header.next_header = number;
            header.set_payload_length(inner.len()).expect("a length");
            header.flow_label = Ipv6FlowLabel::try_new(tunnel.flow_label).expect("20 bits");
            header.write(&mut bytes).expect("a header");
        }
    }
    bytes.extend_from_slice(&inner);
    bytes
}

/// A packet after the tunnel's UDP header, if it has one: with a checksum over IPv6, with none over
/// IPv4.
fn within_udp(packet: &[u8], from: IpAddr, to: IpAddr, tunnel: Tunnel) -> Vec<u8> {
    let Some(source) = tunnel.udp else {
        return packet.to_vec();
    };
    let header = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            UdpHeader::with_ipv6_checksum(source, GUE_PORT, &v6_header(from, to, 64), packet)
        }
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => {
            UdpHeader::without_ipv4_checksum(source, GUE_PORT, packet.len())
        }
    };
    [&header.expect("a length").to_bytes(), packet].concat()
}

/// EtherType of the family of an address.
pub(crate) const fn ether_type(address: IpAddr) -> [u8; 2] {
    match address {
        IpAddr::V4(_) => [0x08, 0x00],
        IpAddr::V6(_) => [0x86, 0xdd],
    }
}

fn ip(from: IpAddr, to: IpAddr, ttl: u8) -> IpHeaders {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = Ipv4Header::new(0, ttl, IpNumber::TCP, from.octets(), to.octets())
                .expect("a length");
            header.dscp = IpDscp::try_new(TOS >> 2).expect("6 bits");
            header.ecn = IpEcn::try_new(TOS & 3).expect("2 bits");
            header.identification = IDENTIFICATION;
            header.dont_fragment = true;
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            IpHeaders::Ipv6(v6_header(from, to, ttl), Default::default())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            panic!("a frame from {from} to {to}")
        }
    }
}

fn v6_header(from: Ipv6Addr, to: Ipv6Addr, ttl: u8) -> Ipv6Header {
    Ipv6Header {
        traffic_class: TOS,
        flow_label: Ipv6FlowLabel::try_new(FLOW_LABEL).expect("20 bits"),
        hop_limit: ttl,
        source: from.octets(),
        destination: to.octets(),
        ..Default::default()
    }
}

/// Sums the IPv4 header of a frame whose bytes were changed anew.
pub(crate) fn sum_header(bytes: &mut [u8]) {
    sum_header_at(bytes, ETHERNET_BYTES);
}

/// The same for the IPv4 header at an offset.
pub(crate) fn sum_header_at(bytes: &mut [u8], offset: usize) {
    let (header, _) = Ipv4Header::from_slice(&bytes[offset..]).expect("an IPv4 header");
    bytes[offset + 10..offset + 12].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Sets the ECN field of the header at an offset.
pub(crate) fn set_ecn(frame: &mut [u8], offset: usize, v6: bool, ecn: u8) {
    if v6 {
        frame[offset + 1] = frame[offset + 1] & !0x30 | ecn << 4;
    } else {
        frame[offset + 1] = frame[offset + 1] & !3 | ecn;
        sum_header_at(frame, offset);
    }
}

/// Checks every checksum of a frame that left the program, within an outer header too.
pub(crate) fn verify_checksums(name: &str, frame: &[u8]) {
    assert_eq!(strict::malformed(frame), None, "{name}");
    assert_eq!(strict::wrong_checksum(frame), None, "{name}: checksum");
}
