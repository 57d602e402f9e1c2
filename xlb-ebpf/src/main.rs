//! The XDP program of xlb: the story of a packet.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod bury;
mod counters;
mod family;
mod globals;
mod icmp;
mod maps;
mod packet;
mod rewrite;
mod select;
mod services;
mod transmit;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use xlb_common::{
    maps::feature,
    reason::Reason,
    wire::{ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader},
};
use xlb_ebpf::frame::{self, Frame, Layout};

use crate::{
    family::{V4, V6},
    icmp::{IcmpFamily, too_big},
    services::Found,
};

/// The program: what a packet's way ends with, other than on the way to a backend or a client, is a
/// reason, which is counted and says what to do with it.
#[xdp]
#[inline(always)]
pub fn xlb(ctx: XdpContext) -> u32 {
    match balance(&mut Frame::new(&ctx)) {
        Ok(action) => action,
        Err(reason) => icmp::conclude(reason),
    }
}

#[inline(always)]
fn balance(frame: &mut Frame<'_, impl Layout>) -> Result<u32, Reason> {
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

/// The way of a packet.
#[inline(always)]
fn balance_family<F: IcmpFamily>(frame: &mut Frame<'_, impl Layout>) -> Result<u32, Reason> {
    if !globals::has(F::FEATURE) {
        return Err(Reason::NotForService);
    }
    let packet = F::parse(frame)?;
    match services::find(&packet)? {
        Found::Service(service, ports, protocol) => {
            let selected = select::select(&packet, service, ports, protocol)?;
            let hop = transmit::hop_of(selected.backend)?;
            let mtu = hop.egress.mtu;
            if let Err(reason) =
                rewrite::towards_backend::<F>(frame, service, &selected, protocol, mtu)
            {
                return if (globals::has(feature::IPIP) || globals::has(feature::GUE))
                    && matches!(reason, Reason::TooBig)
                {
                    let outer_bytes = rewrite::outer_bytes::<F>(service);
                    Ok(too_big::answer::<F>(
                        frame.ctx().ctx,
                        mtu.into(),
                        outer_bytes,
                    ))
                } else {
                    Err(reason)
                };
            }
            let action = transmit::transmit(frame, &hop)?;
            counters::forwarded(service, selected.backend, &packet);
            Ok(action)
        }
        Found::Reply(service, backend) => {
            let route = transmit::route_to::<F>(packet.destination)?;
            rewrite::towards_client::<F>(frame, service)?;
            let from = F::address(&service.vip);
            let action = transmit::to_client::<F>(frame, route, from, packet.destination)?;
            counters::replied(service, backend, &packet);
            Ok(action)
        }
        Found::Icmp => Ok(icmp::handle::<F>(frame.ctx().ctx)),
    }
}

/// The kernel offers some helpers to programs under a licence compatible with the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
