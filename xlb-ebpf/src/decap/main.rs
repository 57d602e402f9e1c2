//! The decapsulation program of a backend: the story of a packet that a balancer encapsulated.
#![no_std]
#![no_main]

mod family;
mod maps;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use xlb_common::{
    decap::{Reason, ecn},
    maps::protocol,
    reason::Action,
    wire::{ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, EthernetHeader},
};
use xlb_ebpf::frame::Frame;

use crate::family::{Family, V4, V6};

/// The program: every packet's way ends with a reason, which is counted and says what to do with it.
#[xdp]
#[inline(always)]
pub fn xlb_decap(ctx: XdpContext) -> u32 {
    let reason = match decapsulate(&mut Frame::new(&ctx)) {
        Ok(()) => Reason::Delivered,
        Err(reason) => reason,
    };
    maps::count(reason);
    match reason.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop | Action::Redirect => xdp_action::XDP_DROP,
        Action::Tx => xdp_action::XDP_TX,
    }
}

#[inline(always)]
fn decapsulate(frame: &mut Frame<'_>) -> Result<(), Reason> {
    let Ok(ethernet) = frame.at::<EthernetHeader>(0) else {
        return Err(Reason::NotEncapsulated);
    };
    let ether_type_be = ethernet.ether_type_be;
    if ether_type_be == ETHER_TYPE_IPV4_BE {
        unpack::<V4>(frame)
    } else if ether_type_be == ETHER_TYPE_IPV6_BE {
        unpack::<V6>(frame)
    } else {
        Err(Reason::NotEncapsulated)
    }
}

/// The way of a packet whose outer header, if it has one, is of family `O`.
#[inline(always)]
fn unpack<O: Family>(frame: &mut Frame<'_>) -> Result<(), Reason> {
    let outer = O::outer(frame)?;
    if outer.carries == protocol::IPV4 {
        deliver::<V4>(frame, O::END, &outer)
    } else {
        deliver::<V6>(frame, O::END, &outer)
    }
}

/// An outer header.
pub struct Outer {
    /// Protocol number of what it carries: IPv4 or IPv6.
    carries: u8,
    /// Bytes of what it carries.
    payload_bytes: usize,
    /// Its ECN field.
    ecn: u8,
}

/// Gives the packet of family `I` that begins at `offset` to the host, in the frame of its outer
/// header.
#[inline(always)]
fn deliver<I: Family>(frame: &mut Frame<'_>, offset: usize, outer: &Outer) -> Result<(), Reason> {
    let inner = I::inner(frame, offset)?;
    if inner.bytes > outer.payload_bytes {
        return Err(Reason::Truncated);
    }
    if !I::is_vip(inner.destination) {
        return Err(Reason::UnknownVip);
    }
    let ecn = ecn::decapsulated(inner.ecn, outer.ecn).ok_or(Reason::CongestionDrop)?;
    if ecn != inner.ecn {
        I::set_ecn(frame, offset, ecn)?;
    }
    strip(
        frame,
        offset - size_of::<EthernetHeader>(),
        I::ETHER_TYPE_BE,
    )
}

/// Takes out `bytes` after the Ethernet header, which says what follows from now on.
#[inline(always)]
fn strip(frame: &mut Frame<'_>, bytes: usize, ether_type_be: u16) -> Result<(), Reason> {
    let ethernet = frame.at::<EthernetHeader>(0)?;
    let (destination_high, destination_low) = (ethernet.destination_high, ethernet.destination_low);
    let (source_high, source_low) = (ethernet.source_high, ethernet.source_low);
    frame.shrink_front(bytes)?;
    *frame.at_mut::<EthernetHeader>(0)? = EthernetHeader {
        destination_high,
        destination_low,
        source_high,
        source_low,
        ether_type_be,
    };
    Ok(())
}

/// The kernel offers some helpers to programs under a licence compatible with the GPL only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";
