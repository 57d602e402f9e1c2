//! What an error quotes of the packet that it is about.

use std::net::SocketAddr;

use xlb_common::maps::protocol;

use crate::model::{
    IPV4_BYTES, IPV6_BYTES, between,
    bytes::{address, be16, octets, rewrite},
};

/// The beginning of a packet that an error is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quote {
    v6: bool,
    pub(super) at: usize,
    transport_at: usize,
    end: usize,
    pub(super) protocol: u8,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
}

impl Quote {
    /// Reads what stands between two offsets. Eight bytes after the IP header tell the flow (RFC 792).
    pub(super) fn parse(frame: &[u8], at: usize, end: usize, v6: bool) -> Option<Self> {
        let quoted = frame.get(at..end)?;
        let mut header = header_bytes(quoted, v6)?;
        let (mut number, source, destination) = if v6 {
            (quoted[6], 8, 24)
        } else {
            (quoted[9], 12, 16)
        };
        if v6 {
            let way = between::extensions(quoted, at).ok()?;
            (header, number) = (way.transport_at, way.protocol);
            if way.is_later_fragment() {
                return None;
            }
        }
        if quoted.len() < header + 8 || !v6 && be16(quoted, 6) & 0x1fff != 0 {
            return None;
        }
        if ![protocol::TCP, protocol::UDP].contains(&number) {
            return None;
        }
        let ports = [be16(quoted, header), be16(quoted, header + 2)];
        Some(Self {
            v6,
            at,
            transport_at: at + header,
            end,
            protocol: number,
            from: SocketAddr::new(address(quoted, source, v6), ports[0]),
            to: SocketAddr::new(address(quoted, destination, v6), ports[1]),
        })
    }

    /// Where its transport checksum stands, if it is quoted and there is one.
    fn checksum_at(&self, frame: &[u8]) -> Option<usize> {
        let at = self.transport_at
            + if self.protocol == protocol::TCP {
                16
            } else {
                6
            };
        let is_there = at + 2 <= self.end;
        (is_there && (self.protocol == protocol::TCP || be16(frame, at) != 0)).then_some(at)
    }

    /// Writes another endpoint over its source or its destination, with all checksums within.
    pub(super) fn translate(&self, out: &mut [u8], destination: bool, to: SocketAddr) {
        let which = usize::from(destination);
        let checksum = self.checksum_at(out);
        let header = (!self.v6).then_some(self.at + 10);
        let both: Vec<usize> = checksum.into_iter().chain(header).collect();
        let (first, width) = if self.v6 { (8, 16) } else { (12, 4) };
        rewrite(
            out,
            self.at + first + which * width,
            &octets(to.ip()),
            &both,
        );
        let transport: Vec<usize> = checksum.into_iter().collect();
        let port_at = self.transport_at + which * 2;
        rewrite(out, port_at, &to.port().to_be_bytes(), &transport);
        if let Some(at) = checksum
            && self.protocol == protocol::UDP
            && be16(out, at) == 0
        {
            out[at..at + 2].fill(0xff);
        }
    }
}

/// Bytes of a quoted IP header of a family.
pub(super) fn header_bytes(quoted: &[u8], v6: bool) -> Option<usize> {
    if v6 {
        return (quoted.len() >= IPV6_BYTES && quoted[0] >> 4 == 6).then_some(IPV6_BYTES);
    }
    let header = usize::from(quoted.first()? & 0x0f) * 4;
    (quoted.len() >= header && quoted[0] >> 4 == 4 && header >= IPV4_BYTES).then_some(header)
}
