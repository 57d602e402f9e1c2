//! Selects the backend that has the flow of an error.

use aya_ebpf::bindings::xdp_md;
use xlb_common::{maps::Service, reason::Reason};

use super::{
    context,
    quoted::{IcmpFamily, quoted},
};
use crate::{
    frame::{Frame, Layout},
    packet::{Packet, Ports, Transport},
    select,
    ways::{self, conclude},
};

/// What was selected, in one word: a backend in the upper half, and in the lower one the flow's hash,
/// or without a backend the action.
#[derive(Clone, Copy)]
pub struct Followed(pub u64);

impl Followed {
    /// Number of the backend; 0: none.
    #[inline(always)]
    pub const fn backend(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Hash of the flow.
    #[inline(always)]
    pub const fn hash(self) -> u32 {
        self.0 as u32
    }

    /// What becomes of the message.
    #[inline(always)]
    pub const fn action(self) -> u32 {
        self.0 as u32
    }
}

/// Selects the backend that has the flow of an error about one of its packets.
#[inline(never)]
pub fn follow<F: IcmpFamily>(ctx: *mut xdp_md, service: &'static Service) -> u64 {
    let context = context(ctx);
    match backend_of::<F>(&ways::frame(&context), service) {
        Ok(followed) => followed,
        Err(reason) => u64::from(conclude(reason)),
    }
}

#[inline(always)]
fn backend_of<F: IcmpFamily>(
    frame: &Frame<'_, impl Layout>,
    service: &'static Service,
) -> Result<u64, Reason> {
    let quoted = quoted::<F>(frame, F::quoted_offset(frame))?;
    let Some(ports) = quoted.ports(frame, F::ip_bytes(frame)?) else {
        return Err(Reason::Truncated);
    };
    // The flow as its client's packets have it.
    let packet = Packet::<F> {
        source: quoted.destination,
        destination: quoted.source,
        transport: Transport::Icmp,
        frame_bytes: 0,
    };
    let ports = Ports {
        source_be: ports.destination_be,
        destination_be: ports.source_be,
    };
    let (backend, hash) = select::follow(&packet, service, ports, quoted.protocol)?;
    Ok(u64::from(backend) << 32 | u64::from(hash))
}
