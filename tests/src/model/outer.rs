//! Outer headers: IP in IP (RFC 2003, RFC 2473), and Generic UDP Encapsulation in its direct form
//! (draft-ietf-intarea-gue, variant 1).

use std::net::IpAddr;

use xlb_common::maps::forward;

use super::{
    ETHERNET_BYTES, GUE_PORT, IPV4_BYTES, IPV6_BYTES, UDP_BYTES,
    balance::Model,
    between,
    bytes::{add, be16, octets, sum},
    packet::{Packet, Transport},
    select::Choice,
    world::{Service, Way},
};

const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const UDP: u8 = 17;

/// Bytes of the outer headers of a service's packets.
pub(super) fn outer_bytes(service: &Service, outer_v6: bool) -> usize {
    let udp = if service.forward == forward::GUE {
        UDP_BYTES
    } else {
        0
    };
    udp + if outer_v6 { IPV6_BYTES } else { IPV4_BYTES }
}

impl Model {
    /// A frame in a header to its backend; around one to the alternative, where there is one and both
    /// have room.
    pub(super) fn encapsulate(
        &mut self,
        frame: &[u8],
        packet: &Packet,
        service: usize,
        choice: &Choice,
        way: Way,
    ) -> Vec<u8> {
        let of = self.world.services[service].clone();
        let mtu = self.mtu(way);
        let mut inner = frame[ETHERNET_BYTES..].to_vec();
        // What follows a datagram in its packet (RFC 9868) is not covered by its checksum.
        let datagram = || usize::from(be16(frame, packet.transport_at + 4));
        // Nothing says what a part of a datagram adds up to.
        let unsummed = packet.fragment.is_some()
            || packet.transport == Transport::Udp
                && (be16(frame, packet.checksum_at()) == 0
                    || packet.transport_at + datagram() != packet.end);
        let mut length = packet.bytes();
        let each = outer_bytes(&of, packet.v6);
        let second = choice
            .alternative
            .filter(|_| length + 2 * each <= usize::from(mtu));
        if let Some(second) = second {
            self.events.push(xlb_common::reason::Reason::SecondChance);
            inner = self.within(&inner, length, &of, second, choice.hash, unsummed);
            length += each;
        }
        inner = self.within(&inner, length, &of, choice.backend, choice.hash, unsummed);
        let mut out = frame[..12].to_vec();
        out.extend(if inner[0] >> 4 == 6 {
            [0x86, 0xdd]
        } else {
            [0x08, 0x00]
        });
        out.extend(inner);
        out
    }

    /// Largest packet of the interface of a way; 0: not known, so that nothing is known to fit.
    pub(super) fn mtu(&self, way: Way) -> u16 {
        let place = usize::from(way.egress).wrapping_sub(1);
        self.world
            .interfaces
            .get(place)
            .map_or(0, |interface| interface.mtu)
    }

    /// An IP packet, which has so many bytes and then padding, in a header to a backend.
    fn within(
        &self,
        inner: &[u8],
        length: usize,
        service: &Service,
        backend: u16,
        hash: u32,
        unsummed: bool,
    ) -> Vec<u8> {
        let Some(backend) = self.world.backend(backend) else {
            return inner.to_vec();
        };
        let (from, to) = (backend.outer_source, backend.address.ip());
        let mut payload = Vec::new();
        let mut protocol = if inner[0] >> 4 == 6 {
            IPV6_IN_IP
        } else {
            IPV4_IN_IP
        };
        if service.forward == forward::GUE {
            protocol = UDP;
            let datagram = (UDP_BYTES + length) as u16;
            payload.extend((0xc000 | hash as u16).to_be_bytes());
            payload.extend(GUE_PORT.to_be_bytes());
            payload.extend(datagram.to_be_bytes());
            payload.extend([0, 0]);
            if from.is_ipv6() && !unsummed {
                let checksum = udp_checksum(from, to, &payload, &inner[..length]);
                payload[6..8].copy_from_slice(&checksum.to_be_bytes());
            }
        }
        let length = length + payload.len();
        payload.extend(inner);
        let mut out = match (from, to) {
            (IpAddr::V4(_), IpAddr::V4(_)) => outer4(from, to, inner, protocol, length),
            _ => outer6(from, to, inner, protocol, length, hash),
        };
        out.extend(payload);
        out
    }
}

/// RFC 2003, section 3.1. What the sender said of fragments holds for the outer packet too; DSCP and
/// ECN are copied (RFC 6040, section 4.1, normal mode).
fn outer4(from: IpAddr, to: IpAddr, inner: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let total = (IPV4_BYTES + length) as u16;
    let mut out = vec![0x45, class_of(inner)];
    out.extend(total.to_be_bytes());
    // Fragments of a datagram share its identification, and their outer packets are no such parts of one
    // (docs/fragments.md).
    out.extend((be16(inner, 4) ^ be16(inner, 6) & 0x1fff).to_be_bytes());
    out.extend([inner[6] & 0x40, 0, ttl_of(inner), protocol, 0, 0]);
    out.extend(octets(from));
    out.extend(octets(to));
    let checksum = !sum(&out);
    out[10..12].copy_from_slice(&checksum.to_be_bytes());
    out
}

/// RFC 2473, section 6, with a flow label that stands for the flow (RFC 6438).
fn outer6(
    from: IpAddr,
    to: IpAddr,
    inner: &[u8],
    protocol: u8,
    length: usize,
    hash: u32,
) -> Vec<u8> {
    let word = 6 << 28 | u32::from(class_of(inner)) << 20 | hash & 0x000f_ffff;
    let mut out = word.to_be_bytes().to_vec();
    out.extend((length as u16).to_be_bytes());
    out.extend([protocol, ttl_of(inner)]);
    out.extend(octets(from));
    out.extend(octets(to));
    out
}

/// Type of service, or traffic class.
fn class_of(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 {
        packet[0] << 4 | packet[1] >> 4
    } else {
        packet[1]
    }
}

/// TTL or hop limit, which an outer header takes over, so that tunnels within one another end
/// (docs/backend.md).
fn ttl_of(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 6 {
        packet[7]
    } else {
        packet[8]
    }
}

/// The checksum that a receiver finds right if the packet's own is (docs/backend.md), and all ones for
/// a computed zero (RFC 8200, section 8.1).
fn udp_checksum(from: IpAddr, to: IpAddr, header: &[u8], inner: &[u8]) -> u16 {
    let length = (header.len() + inner.len()) as u16;
    let mut pseudo = octets(from);
    pseudo.extend(octets(to));
    pseudo.extend(length.to_be_bytes());
    pseudo.extend([0, UDP]);
    let checksum = !add(add(sum(&pseudo), sum(header)), sum_if_right(inner));
    if checksum == 0 { 0xffff } else { checksum }
}

/// The sum over a packet, taken for granted that its checksums are right.
fn sum_if_right(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0x0f) * 4;
        let upper = packet.len() - header;
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend((upper as u16).to_be_bytes());
        pseudo.extend([0, packet[9]]);
        return !sum(&pseudo);
    }
    let Ok(way) = between::extensions(packet, ETHERNET_BYTES) else {
        return sum(packet);
    };
    // Extension headers are of an even number of bytes.
    let (headers, rest) = packet.split_at(way.transport_at.min(packet.len()));
    if way.protocol == IPV6_IN_IP || way.protocol == IPV4_IN_IP {
        return add(sum(headers), sum_if_right(rest));
    }
    let mut pseudo = headers[8..40].to_vec();
    pseudo.extend((rest.len() as u16).to_be_bytes());
    pseudo.extend([0, way.protocol]);
    add(sum(headers), !sum(&pseudo))
}
