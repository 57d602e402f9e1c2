//! What an independent parser says of frames: whether they are well-formed, and whether their
//! checksums are right.

use std::borrow::Cow;

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};

use crate::model::{ETHERNET_BYTES, GUE_PORT, IPV6_BYTES};

/// Bytes of a VLAN tag.
const TAG_BYTES: usize = 4;

/// What is wrong with a frame's headers and lengths, if anything is.
#[must_use]
pub fn malformed(frame: &[u8]) -> Option<String> {
    match SlicedPacket::from_ethernet(&as_of_a_part(frame, ETHERNET_BYTES)) {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// Says of a later fragment of IPv6, whose header is at this offset, that it carries what has no header: the
/// parser would look for one, which is in the first fragment.
fn as_of_a_part(bytes: &[u8], at: usize) -> Cow<'_, [u8]> {
    const FRAGMENT: u8 = 44;
    const EXPERIMENT: u8 = 253;
    let mut own = Cow::Borrowed(bytes);
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    let mut at = at;
    if at != 0 {
        while matches!(
            [byte(at - 2), byte(at - 1)],
            [0x81 | 0x91, 0] | [0x88, 0xa8]
        ) {
            at += 4;
        }
    }
    let is_v6 = byte(at) >> 4 == 6 && (at == 0 || [byte(at - 2), byte(at - 1)] == [0x86, 0xdd]);
    let (mut number, mut header) = (byte(at + 6), at + IPV6_BYTES);
    while is_v6 && header + 8 <= bytes.len() {
        let bytes = match number {
            0 | 43 | 60 => (usize::from(byte(header + 1)) + 1) * 8,
            51 => (usize::from(byte(header + 1)) + 2) * 4,
            FRAGMENT => {
                if byte(header + 2) != 0 || byte(header + 3) & 0xf8 != 0 {
                    own.to_mut()[header] = EXPERIMENT;
                }
                break;
            }
            _ => break,
        };
        (number, header) = (byte(header), header + bytes);
    }
    own
}

/// Which checksum of a frame is wrong, within tunnels too, if one is. Frames are well-formed; a UDP
/// checksum of 0 is none.
#[must_use]
pub fn wrong_checksum(frame: &[u8]) -> Option<String> {
    let mut at = ETHERNET_BYTES;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at - 2..at) {
        at += TAG_BYTES;
    }
    wrong_in_packet(frame.get(at..)?)
}

fn wrong_in_packet(packet: &[u8]) -> Option<String> {
    let packet = as_of_a_part(packet, 0);
    let parsed = match SlicedPacket::from_ip(&packet) {
        Ok(parsed) => parsed,
        Err(error) => return Some(error.to_string()),
    };
    let net = parsed.net.as_ref()?;
    let payload = net.ip_payload_ref()?;
    if payload.ip_number == IpNumber::IPV4 || payload.ip_number == IpNumber::IPV6 {
        if let Some(wrong) = wrong_in_packet(payload.payload) {
            return Some(format!("within: {wrong}"));
        }
    } else if let Some(TransportSlice::Udp(udp)) = &parsed.transport
        && udp.destination_port() == GUE_PORT
        && matches!(udp.payload().first(), Some(first) if [4, 6].contains(&(first >> 4)))
        && let Some(wrong) = wrong_in_packet(udp.payload())
    {
        return Some(format!("within: {wrong}"));
    }
    match net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            if header.header_checksum != header.calc_header_checksum() {
                return Some("IPv4 header".to_owned());
            }
            let (from, to) = (header.source, header.destination);
            match &parsed.transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    differs("TCP", tcp.checksum(), tcp.calc_checksum_ipv4(from, to).ok())
                }
                Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
                    let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
                    differs("UDP", udp.checksum(), sum.ok())
                }
                Some(TransportSlice::Icmpv4(icmp)) => {
                    let sum = !crate::model::sum(icmp.slice());
                    (sum != 0).then(|| "ICMP".to_owned())
                }
                _ => None,
            }
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            let (from, to) = (header.source, header.destination);
            match &parsed.transport {
                Some(TransportSlice::Tcp(tcp)) => {
                    differs("TCP", tcp.checksum(), tcp.calc_checksum_ipv6(from, to).ok())
                }
                Some(TransportSlice::Udp(udp)) if udp.checksum() != 0 => {
                    let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload());
                    differs("UDP", udp.checksum(), sum.ok())
                }
                Some(TransportSlice::Icmpv6(icmp)) if !icmp.is_checksum_valid(from, to) => {
                    Some("ICMPv6".to_owned())
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn differs(of: &str, is: u16, should: Option<u16>) -> Option<String> {
    // 0 and all ones are one number.
    (should.is_none_or(|should| should % 0xffff != is % 0xffff)).then(|| of.to_owned())
}
