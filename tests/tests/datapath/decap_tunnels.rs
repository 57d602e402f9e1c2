//! Packets as balancers send them to a backend: in tunnels of both forms, of all families.

use xlb_common::maps::{forward, protocol};

use crate::{
    frame::{ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, Tunnel, sum_header, sum_header_at},
    kinds::{Kind, backend_address, outer_source},
};

/// Where the outer header begins.
pub(crate) const IP: usize = ETHERNET_BYTES;

const FLOW_LABEL: u32 = 0x1_2345;

/// A combination of families.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Families {
    pub(crate) outer_v6: bool,
    pub(crate) inner_v6: bool,
    /// Whether the tunnel is `gue`; otherwise it is `ipip`.
    pub(crate) gue: bool,
}

impl Families {
    pub(crate) fn all() -> [Self; 4] {
        [(false, false), (false, true), (true, false), (true, true)].map(|(outer_v6, inner_v6)| {
            Self {
                outer_v6,
                inner_v6,
                gue: false,
            }
        })
    }

    /// The same in both forms of tunnels.
    pub(crate) fn in_all_tunnels() -> Vec<Self> {
        let in_gue = Self::all().map(|families| Self {
            gue: true,
            ..families
        });
        [Self::all(), in_gue].concat()
    }

    pub(crate) fn tunnel(self) -> Tunnel {
        Tunnel {
            flow_label: FLOW_LABEL,
            udp: self.gue.then_some(50_000),
        }
    }

    /// A client's packet to a VIP.
    pub(crate) fn inner(self) -> Frame {
        Kind::new(self.inner_v6, protocol::TCP, forward::IPIP).request()
    }

    /// Where the inner header begins.
    pub(crate) fn inner_offset(self) -> usize {
        IP + if self.outer_v6 {
            IPV6_BYTES
        } else {
            IPV4_BYTES
        } + self.tunnel().udp_bytes()
    }

    /// A packet as a balancer sends it.
    pub(crate) fn encapsulated(self, inner: &Frame) -> Vec<u8> {
        let backend = backend_address(self.outer_v6, 1);
        inner.encapsulated(outer_source(self.outer_v6), backend, self.tunnel())
    }

    /// The same with bytes of the outer header changed, and its checksum right again.
    pub(crate) fn with_outer(self, inner: &Frame, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = self.encapsulated(inner);
        change(&mut frame);
        if frame[12..14] == [8, 0] {
            sum_header(&mut frame);
        }
        frame
    }

    /// The same with bytes of the inner packet changed, and the checksum of its header right again.
    pub(crate) fn with_inner(self, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut frame = self.encapsulated(&self.inner());
        let offset = self.inner_offset();
        change(&mut frame[offset..]);
        if !self.inner_v6 && frame[offset] & 0x0f >= 5 && frame[offset] >> 4 == 4 {
            sum_header_at(&mut frame, offset);
        }
        frame
    }
}
