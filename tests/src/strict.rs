//! What an independent parser says of frames: whether they are well-formed, and whether their
//! checksums are right.

use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};

use crate::model::{ETHERNET_BYTES, GUE_PORT};

/// Bytes of a VLAN tag.
const TAG_BYTES: usize = 4;

/// What is wrong with a frame's headers and lengths, if anything is.
#[must_use]
pub fn malformed(frame: &[u8]) -> Option<String> {
    match SlicedPacket::from_ethernet(frame) {
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
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
    let parsed = match SlicedPacket::from_ip(packet) {
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
