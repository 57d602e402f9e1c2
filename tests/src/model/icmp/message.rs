//! Messages of our own, and those that are made of a router's.

use std::net::IpAddr;

use xlb_common::maps::protocol;

use super::quote::Quote;
use crate::model::{
    ETHERNET_BYTES, ICMP_BYTES, IPV4_BYTES, IPV6_BYTES,
    bytes::{add, be16, octets, sum, updated},
    packet::Packet,
};

/// Largest ICMP message that quotes as much as it may (RFC 1812, section 4.3.2.3; RFC 4443, section
/// 2.4), and the least that a path has to take.
pub(super) const fn message_max(v6: bool) -> usize {
    if v6 { 1280 } else { 576 }
}

/// A router's message with the outer header taken out of what it quotes, and this size in it. Its
/// checksum changes along, so that a wrong one stays wrong.
pub(super) fn relayed(
    frame: &[u8],
    packet: &Packet,
    outer: usize,
    fits: usize,
    about: &Quote,
) -> Vec<u8> {
    let (from, to) = (about.to.ip(), about.from.ip());
    let at = packet.transport_at;
    let old = &frame[at..packet.end];
    let mut new = old.to_vec();
    new.drain(ICMP_BYTES..ICMP_BYTES + outer);
    if packet.v6 {
        new[4..8].copy_from_slice(&(fits as u32).to_be_bytes());
    } else {
        // What a router appended can't be told any more from what it quotes (RFC 4884).
        new[4..6].fill(0);
        new[6..8].copy_from_slice(&(fits as u16).to_be_bytes());
    }
    let with_ends = |ends: [IpAddr; 2], message: &[u8]| {
        let mut covered = Vec::new();
        if packet.v6 {
            covered = [octets(ends[0]), octets(ends[1])].concat();
            covered.extend((message.len() as u32).to_be_bytes());
        }
        covered.extend(&message[..2]);
        covered.extend(&message[4..]);
        covered
    };
    let was = with_ends([packet.source, packet.destination], old);
    let checksum = updated(be16(old, 2), &was, &with_ends([from, to], &new));
    new[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut out = frame[..ETHERNET_BYTES].to_vec();
    out.extend(header_of(from, to, new.len()));
    out.extend(new);
    out.extend(&frame[packet.end..]);
    out
}

/// "This size fits", about a packet.
pub(super) fn too_big(from: IpAddr, to: IpAddr, fits: usize, about: &[u8]) -> Vec<u8> {
    let v6 = from.is_ipv6();
    let header = if v6 { IPV6_BYTES } else { IPV4_BYTES };
    let most = message_max(v6) - header - ICMP_BYTES;
    let mut message = if v6 {
        let mut message = vec![2, 0, 0, 0];
        message.extend((fits as u32).to_be_bytes());
        message
    } else {
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend((fits as u16).to_be_bytes());
        message
    };
    message.extend(&about[..about.len().min(most)]);
    let mut total = sum(&message);
    if v6 {
        let mut pseudo = octets(from);
        pseudo.extend(octets(to));
        pseudo.extend((message.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, protocol::ICMPV6]);
        total = add(total, sum(&pseudo));
    }
    let mut out = header_of(from, to, message.len());
    message[2..4].copy_from_slice(&(!total).to_be_bytes());
    out.extend(message);
    out
}

/// The IP header of a message of our own.
fn header_of(from: IpAddr, to: IpAddr, bytes: usize) -> Vec<u8> {
    let mut out;
    if from.is_ipv6() {
        out = vec![0x60, 0, 0, 0];
        out.extend((bytes as u16).to_be_bytes());
        out.extend([protocol::ICMPV6, 64]);
        out.extend(octets(from));
        out.extend(octets(to));
    } else {
        // Internetwork control (RFC 1812, section 4.3.2.5).
        out = vec![0x45, 0xc0];
        out.extend(((IPV4_BYTES + bytes) as u16).to_be_bytes());
        out.extend([0, 0, 0x40, 0, 64, protocol::ICMP, 0, 0]);
        out.extend(octets(from));
        out.extend(octets(to));
        let checksum = !sum(&out);
        out[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    out
}
