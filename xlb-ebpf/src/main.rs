//! The XDP program of xlb: the story of a packet.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

mod atomic;
mod bury;
mod counters;
mod family;
mod fragments;
mod globals;
mod icmp;
mod maps;
mod nat;
mod odd;
mod packet;
mod rewrite;
mod select;
mod services;
mod transmit;
mod vlan;
mod ways;

use aya_ebpf::{macros::xdp, programs::XdpContext};
use xlb_common::{
    maps::{Service, feature, forward, way},
    reason::Reason,
};
use xlb_ebpf::frame::{self, Frame, Layout, Network};

use crate::{
    family::{Family, V4, V6},
    packet::Packet,
    select::Selected,
    services::Found,
    ways::{Handover, conclude, task},
};

/// The program: what a packet's way ends with, other than on the way to a backend or a client, is a
/// reason, which is counted and says what to do with it.
#[xdp]
#[inline(always)]
pub fn xlb(ctx: XdpContext) -> u32 {
    match balance(&mut Frame::new(&ctx)) {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    }
}

#[inline(always)]
fn balance(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    match frame.network() {
        Network::Ipv4 => balance_family::<V4>(frame),
        Network::Ipv6 => balance_family::<V6>(frame),
        Network::Tagged => Ok(ways::go_on(frame, way::VLAN)),
        Network::Other => Err(Reason::NotIp),
    }
}

/// The way of a plain packet of TCP or UDP; others have programs of their own.
#[inline(always)]
fn balance_family<F: Family>(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    if !globals::has(F::FEATURE) {
        return Err(Reason::NotForService);
    }
    match F::parse(frame) {
        Ok(packet) if packet.transport.has_ports() => forward::<F>(frame, &packet),
        Ok(_) | Err(_) => Ok(ways::go_on(frame, way::ODD)),
    }
}

/// The way of a packet that was parsed.
#[inline(always)]
pub fn forward<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    packet: &Packet<F>,
) -> Result<u32, Reason> {
    match services::find(packet)? {
        Found::Service(service, ports, protocol) => {
            let selected = select::select(packet, service, ports, protocol)?;
            if globals::has(feature::FULL_NAT) && service.forward == forward::FULL_NAT {
                let handover = Handover {
                    task: task::NAT,
                    service: service.number,
                    backend: selected.number.into(),
                    ..Handover::of::<F>(frame, protocol)
                };
                return Ok(ways::hand_over(frame, way::NAT, handover));
            }
            to_backend::<F>(frame, packet, service, &selected, protocol)
        }
        Found::Source(source, protocol) => {
            let handover = Handover {
                task: task::NAT_REPLY,
                service: source,
                ..Handover::of::<F>(frame, protocol)
            };
            Ok(ways::hand_over(frame, way::NAT, handover))
        }
        Found::Reply(service, backend) => {
            to_client::<F>(frame, packet, service, backend, service.protocol)
        }
    }
}

/// The way of a packet whose backend was selected. `protocol` is that of the header whose ports are
/// rewritten.
#[inline(always)]
pub fn to_backend<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    packet: &Packet<F>,
    service: &'static Service,
    selected: &Selected,
    protocol: u8,
) -> Result<u32, Reason> {
    if globals::has(feature::LOCAL) && service.forward == forward::LOCAL {
        counters::forwarded(service, selected.backend, packet);
        return Err(Reason::Local);
    }
    let hop = transmit::hop_of(selected.backend)?;
    let mtu = hop.egress.mtu;
    if let Err(reason) = rewrite::towards_backend::<F>(frame, service, selected, protocol, mtu) {
        return if (globals::has(feature::IPIP) || globals::has(feature::GUE))
            && matches!(reason, Reason::TooBig)
        {
            let handover = Handover {
                task: task::TOO_BIG,
                mtu: mtu.into(),
                outer_bytes: rewrite::outer_bytes::<F>(service, selected.backend),
                ..Handover::default()
            };
            Ok(ways::hand_over(frame, way::ICMP, handover))
        } else {
            Err(reason)
        };
    }
    let action = transmit::transmit(frame, &hop)?;
    counters::forwarded(service, selected.backend, packet);
    Ok(action)
}

/// The way of a backend's reply. `protocol` is that of the header whose ports are rewritten.
#[inline(always)]
pub fn to_client<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    packet: &Packet<F>,
    service: &'static Service,
    backend: u16,
    protocol: u8,
) -> Result<u32, Reason> {
    let route = transmit::route_to::<F>(packet.destination)?;
    rewrite::towards_client::<F>(frame, service, protocol)?;
    let from = F::address(&service.vip);
    let action = transmit::to_client::<F>(frame, route, from, packet.destination)?;
    counters::replied(service, backend, packet);
    Ok(action)
}

/// The kernel offers some helpers to programs under a licence compatible with the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
