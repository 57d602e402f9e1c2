//! Makes valid frames of their parts.

use std::net::{IpAddr, SocketAddr};

use crate::model::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, sum};

/// What an IP header says besides lengths and checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ip {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) class: u8,
    pub(super) identification: u16,
    pub(super) dont_fragment: bool,
    pub(super) flow_label: u32,
}

/// TCP's control bits.
pub(super) mod tcp {
    pub(in crate::fuzz) const FIN: u8 = 1;
    pub(in crate::fuzz) const SYN: u8 = 2;
    pub(in crate::fuzz) const RST: u8 = 4;
    pub(in crate::fuzz) const ACK: u8 = 16;
}

impl Ip {
    /// The packet that carries this.
    pub(super) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut out;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                out = vec![0x45, self.class];
                out.extend(((IPV4_BYTES + payload.len()) as u16).to_be_bytes());
                out.extend(self.identification.to_be_bytes());
                out.extend([if self.dont_fragment { 0x40 } else { 0 }, 0]);
                out.extend([self.ttl, protocol, 0, 0]);
                out.extend(source.octets());
                out.extend(destination.octets());
                let checksum = !sum(&out);
                out[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            (source, destination) => {
                let word = 6 << 28 | u32::from(self.class) << 20 | self.flow_label & 0xf_ffff;
                out = word.to_be_bytes().to_vec();
                out.extend((payload.len() as u16).to_be_bytes());
                out.extend([protocol, self.ttl]);
                out.extend(sixteen(source));
                out.extend(sixteen(destination));
            }
        }
        out.extend(payload);
        out
    }

    fn pseudo_header(&self, protocol: u8, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(address) => out.extend(address.octets()),
                IpAddr::V6(address) => out.extend(address.octets()),
            }
        }
        out.extend((length as u32).to_be_bytes());
        out.extend([0, 0, 0, protocol]);
        out
    }

    /// Puts the checksum of a TCP segment, datagram or ICMPv6 message into it.
    fn sum_up(&self, protocol: u8, at: usize, payload: &mut [u8]) {
        let mut whole = self.pseudo_header(protocol, payload.len());
        whole.extend_from_slice(payload);
        let checksum = match !sum(&whole) {
            0 if protocol == 17 => 0xffff,
            other => other,
        };
        payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    /// The packet with a TCP segment. `options`: a multiple of four bytes.
    pub(super) fn tcp(
        &self,
        ports: [u16; 2],
        sequence: u32,
        flags: u8,
        options: &[u8],
        data: &[u8],
    ) -> Vec<u8> {
        let mut out = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        out.extend(sequence.to_be_bytes());
        out.extend([0, 0, 0, 9]);
        out.extend([((5 + options.len() / 4) << 4) as u8, flags]);
        out.extend([0xfa, 0xf0, 0, 0, 0, 0]);
        out.extend(options);
        out.extend(data);
        self.sum_up(6, 16, &mut out);
        self.packet(6, &out)
    }

    /// The packet with a datagram.
    pub(super) fn udp(&self, ports: [u16; 2], with_checksum: bool, data: &[u8]) -> Vec<u8> {
        let mut out = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
        out.extend(((8 + data.len()) as u16).to_be_bytes());
        out.extend([0, 0]);
        out.extend(data);
        if with_checksum {
            self.sum_up(17, 6, &mut out);
        }
        self.packet(17, &out)
    }

    /// The packet with an ICMP or ICMPv6 message.
    pub(super) fn icmp(&self, kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut out = vec![kind, code, 0, 0];
        out.extend(rest);
        out.extend(data);
        if self.source.is_ipv6() {
            self.sum_up(58, 2, &mut out);
            self.packet(58, &out)
        } else {
            let checksum = !sum(&out);
            out[2..4].copy_from_slice(&checksum.to_be_bytes());
            self.packet(1, &out)
        }
    }
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// A frame of a packet.
pub(super) fn frame(destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ether_type = match packet.first().map(|byte| byte >> 4) {
        Some(6) => [0x86, 0xdd],
        _ => [0x08, 0x00],
    };
    let mut out = [destination, source].concat();
    out.extend(ether_type);
    out.extend(packet);
    out
}

/// The ports of two endpoints.
pub(super) fn ports(from: SocketAddr, to: SocketAddr) -> [u16; 2] {
    [from.port(), to.port()]
}

/// Sums everything anew that stands where it usually does: for mutations that should get further than
/// the first check.
pub(super) fn resum(frame: &mut [u8]) {
    let at = ETHERNET_BYTES;
    if frame.len() < at + IPV4_BYTES {
        return;
    }
    let v6 = match frame[12..14] {
        [0x08, 0x00] => false,
        [0x86, 0xdd] if frame.len() >= at + IPV6_BYTES => true,
        _ => return,
    };
    let header = if v6 {
        IPV6_BYTES
    } else {
        usize::from(frame[at] & 0x0f) * 4
    };
    if header < IPV4_BYTES || frame.len() < at + header {
        return;
    }
    if !v6 {
        frame[at + 10..at + 12].fill(0);
        let checksum = !sum(&frame[at..at + header]);
        frame[at + 10..at + 12].copy_from_slice(&checksum.to_be_bytes());
    }
    let length = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    let end = if v6 {
        at + header + length(at + 4)
    } else {
        at + length(at + 2)
    };
    let start = at + header;
    let (protocol, addresses) = if v6 {
        (frame[at + 6], at + 8..at + 40)
    } else {
        (frame[at + 9], at + 12..at + 20)
    };
    let place = match protocol {
        6 => 16,
        17 => 6,
        1 | 58 => 2,
        _ => return,
    };
    if end > frame.len() || end < start + place + 2 {
        return;
    }
    let mut whole = if protocol == 1 {
        Vec::new()
    } else {
        frame[addresses].to_vec()
    };
    if protocol != 1 {
        whole.extend(((end - start) as u32).to_be_bytes());
        whole.extend([0, 0, 0, protocol]);
    }
    frame[start + place..start + place + 2].fill(0);
    whole.extend(&frame[start..end]);
    let checksum = !sum(&whole);
    frame[start + place..start + place + 2].copy_from_slice(&checksum.to_be_bytes());
}
