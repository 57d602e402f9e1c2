//! The way to another backend.

use aya_ebpf::{bindings::xdp_action, helpers::generated::bpf_redirect};
use xlb_common::{
    decap::Reason,
    maps::{Event, event},
    wire::EthernetHeader,
};
use xlb_ebpf::frame::Frame;

use crate::{family::Family, maps::DECAP_EVENTS};

/// Sends a packet to the backend that its outer header leads to, as a router does. The agent knows the way, since
/// the kernel tells programs nothing of routes on hosts that do not forward.
#[inline(always)]
pub fn pass_on<F: Family>(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    let ingress_ifindex = frame.ingress_ifindex();
    let Some(hop) = F::hop(frame)? else {
        tell_agent(ingress_ifindex, F::event_address(frame)?, F::NUMBER);
        return Err(Reason::PeerUnresolved);
    };
    F::decrement_ttl(frame)?;
    let ethernet = frame.at_mut::<EthernetHeader>(0)?;
    ethernet.destination_high = hop.destination_high;
    ethernet.destination_low = hop.destination_low;
    ethernet.source_high = hop.source_high;
    ethernet.source_low = hop.source_low;
    if hop.ifindex == ingress_ifindex {
        return Ok(xdp_action::XDP_TX);
    }
    // SAFETY: the helper takes numbers.
    Ok(unsafe { bpf_redirect(hop.ifindex, 0) } as u32)
}

#[inline(always)]
fn tell_agent(ifindex: u32, address: [u8; 16], family: u8) {
    let Some(mut entry) = DECAP_EVENTS.reserve::<Event>(0) else {
        return;
    };
    entry.write(Event {
        kind: event::NEIGHBOUR_MISSING,
        ifindex,
        address,
        family: u32::from(family),
        reserved: 0,
    });
    entry.submit(0);
}
