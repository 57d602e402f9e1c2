//! Frames that the main program does not recognise as plain: the same story, told with care.

use aya_ebpf::{macros::xdp, programs::XdpContext};
use xlb_common::{
    maps::way,
    reason::Reason,
    wire::{ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader},
};

use crate::{
    family::{Family, V4, V6},
    forward,
    frame::Frame,
    globals,
    packet::{Packet, Transport},
    ways::{self, Handover, conclude},
};

/// The program of such frames.
#[xdp]
#[inline(always)]
pub fn xlb_odd(ctx: XdpContext) -> u32 {
    match balance(&mut Frame::new(&ctx)) {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    }
}

#[inline(always)]
fn balance(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    let Ok(ethernet) = frame.at::<EthernetHeader>(0) else {
        return Err(Reason::NotIp);
    };
    let ether_type_be = ethernet.ether_type_be;
    if ether_type_be == ETHER_TYPE_IPV4_BE {
        balance_family::<V4>(frame)
    } else if ether_type_be == ETHER_TYPE_IPV6_BE {
        balance_family::<V6>(frame)
    } else {
        Err(Reason::NotIp)
    }
}

#[inline(always)]
fn balance_family<F: Family>(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    if !globals::has(F::FEATURE) {
        return Err(Reason::NotForService);
    }
    let packet = F::parse(frame)?;
    match packet.transport {
        Transport::Icmp => Ok(ways::hand_over(frame, way::ICMP, Handover::default())),
        Transport::Tcp { .. } | Transport::Udp { .. } => forward::<F>(frame, &packet),
        Transport::Fragment => Err(to_vip(&packet, Reason::Fragment)),
        Transport::Truncated => Err(to_vip(&packet, Reason::Truncated)),
        Transport::Other => Err(to_vip(&packet, Reason::OtherProtocol)),
    }
}

/// The reason of a packet without ports, which concerns xlb only if its destination is a VIP.
#[inline(always)]
fn to_vip<F: Family>(packet: &Packet<F>, reason: Reason) -> Reason {
    match F::find_vip(packet.destination, 0, 0) {
        Some(_) => reason,
        None => Reason::NotForService,
    }
}
