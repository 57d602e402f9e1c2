//! What stands between an IP header and what the packet carries: options of IPv4 (RFC 791), and
//! extension headers of IPv6 (RFC 8200). docs/packets.md says which are looked through.

use xlb_common::reason::Reason;

use super::{IPV4_BYTES, IPV6_BYTES, bytes::be16};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Extension headers that are looked through at most.
const EXTENSIONS_MAX: usize = 8;
/// How far into the frame what follows them may begin.
const TRANSPORT_OFFSET_MAX: usize = 1024;

/// Where a packet's headers lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Offset of what the packet carries, from the beginning of the IP header.
    pub(super) transport_at: usize,
    /// Its protocol number.
    pub(super) protocol: u8,
    /// Which part of a datagram it is, if it is not all of one.
    pub(super) fragment: Option<Fragment>,
}

impl Way {
    /// Whether the packet's beginning is in another fragment.
    pub(super) fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|fragment| fragment.offset != 0)
    }
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment {
    /// Offset of the part in its packet.
    pub(crate) at: usize,
    /// Offset of its first byte in the datagram.
    pub(crate) offset: usize,
    /// Whether others follow.
    pub(crate) more: bool,
    /// Identification of the datagram.
    pub(crate) id: u32,
}

/// Looks through the options of an IPv4 packet.
pub(super) fn options(packet: &[u8]) -> Result<Way, Reason> {
    let header = usize::from(packet[0] & 0x0f) * 4;
    let mut at = IPV4_BYTES;
    while at < header {
        match *packet.get(at).ok_or(Reason::Truncated)? {
            END_OF_OPTIONS => break,
            NO_OPERATION => at += 1,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Reason::SourceRoute),
            _ => {
                if at + 1 == header {
                    return Err(Reason::BadOptions);
                }
                let length = usize::from(*packet.get(at + 1).ok_or(Reason::Truncated)?);
                if length < 2 || at + length > header {
                    return Err(Reason::BadOptions);
                }
                at += length;
            }
        }
    }
    let word = be16(packet, 6);
    Ok(Way {
        transport_at: header,
        protocol: packet[9],
        fragment: (word & 0x3fff != 0).then(|| Fragment {
            at: header,
            offset: usize::from(word & 0x1fff) * 8,
            more: word & 0x2000 != 0,
            id: be16(packet, 4).into(),
        }),
    })
}

/// Looks through the extension headers of an IPv6 packet that begins at this offset of its frame.
pub(super) fn extensions(packet: &[u8], offset: usize) -> Result<Way, Reason> {
    let mut way = Way {
        transport_at: IPV6_BYTES,
        protocol: packet[6],
        fragment: None,
    };
    let mut has_fragment_header = false;
    for count in 0.. {
        let number = way.protocol;
        if ![HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION].contains(&number)
            || way.is_later_fragment()
        {
            break;
        }
        let again = number == FRAGMENT && has_fragment_header;
        if count == EXTENSIONS_MAX || number == HOP_BY_HOP && count != 0 || again {
            return Err(Reason::ExtensionHeader);
        }
        let header = packet
            .get(way.transport_at..way.transport_at + if number == FRAGMENT { 8 } else { 4 })
            .ok_or(if way.fragment.is_some() {
                // The headers go on in the next fragment (RFC 7112).
                Reason::FragmentTiny
            } else {
                Reason::Truncated
            })?;
        match number {
            // RFC 4302, section 2.2.
            AUTHENTICATION if header[1] == 0 || header[1] % 2 != 0 => {
                return Err(Reason::ExtensionHeader);
            }
            ROUTING if header[2] == 0 || header[3] != 0 => return Err(Reason::SourceRoute),
            FRAGMENT => {
                has_fragment_header = true;
                let word = be16(header, 2);
                way.fragment = (word & 0xfff9 != 0).then(|| Fragment {
                    at: way.transport_at + 8,
                    offset: usize::from(word & 0xfff8),
                    more: word & 1 != 0,
                    id: u32::from(be16(header, 4)) << 16 | u32::from(be16(header, 6)),
                });
            }
            _ => {}
        }
        way.protocol = header[0];
        way.transport_at += match number {
            FRAGMENT => 8,
            AUTHENTICATION => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        if offset + way.transport_at >= TRANSPORT_OFFSET_MAX {
            return Err(Reason::ExtensionHeader);
        }
    }
    Ok(way)
}
