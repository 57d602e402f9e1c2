//! The decapsulation program of a backend: the story of a packet that a balancer encapsulated.
#![no_std]
#![no_main]

mod family;
mod maps;
mod peers;
mod socket;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use xlb_common::{
    decap::{Reason, ecn},
    maps::protocol,
    reason::Action,
    wire::EthernetHeader,
};
use xlb_ebpf::{
    frame::{Frame, Network},
    tunnel::{Gue, Ipip, Tunnel},
};

use crate::{
    family::{Family, Inner, V4, V6},
    peers::pass_on,
};

/// The program: every packet's way ends with a reason, which is counted and says what to do with it;
/// but by which interface a packet is passed on, only the way to its next backend says.
#[xdp]
#[inline(always)]
pub fn xlb_decap(ctx: XdpContext) -> u32 {
    match decapsulate(&mut Frame::new(&ctx)) {
        Ok(action) => {
            maps::count(Reason::PassedOn);
            action
        }
        Err(reason) => {
            maps::count(reason);
            match reason.action() {
                Action::Pass => xdp_action::XDP_PASS,
                Action::Drop | Action::Redirect => xdp_action::XDP_DROP,
                Action::Tx => xdp_action::XDP_TX,
            }
        }
    }
}

#[inline(always)]
fn decapsulate(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    match frame.network() {
        Network::Ipv4 => unpack::<V4>(frame),
        Network::Ipv6 => unpack::<V6>(frame),
        Network::Tagged | Network::Other => Err(Reason::NotEncapsulated),
    }
}

/// What matters of an outer header, but for its addresses: between the steps these would stand on the
/// stack, where the compiler puts them together in ways that the verifier refuses.
pub struct Outer {
    /// Protocol number of what it carries: IPv4 or IPv6.
    carries: u8,
    /// Bytes of the packet that it carries, and of what follows that.
    payload_bytes: usize,
    /// Its ECN field.
    ecn: u8,
}

/// The way of a packet whose outer header, if it has one, is of family `O`.
#[inline(always)]
fn unpack<O: Family>(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    if O::is_gue(frame) {
        unpack_tunnel::<O, Gue>(frame)
    } else {
        unpack_tunnel::<O, Ipip>(frame)
    }
}

#[inline(always)]
fn unpack_tunnel<O: Family, T: Tunnel>(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    let outer = O::outer::<T>(frame)?;
    if outer.carries == protocol::IPV4 {
        open::<O, T, V4>(frame, &outer)
    } else {
        open::<O, T, V6>(frame, &outer)
    }
}

/// Opens a packet from a balancer: what it carries is for the host, or a packet for another backend,
/// which is named by this as the alternative.
#[inline(always)]
fn open<O: Family, T: Tunnel, I: Family>(
    frame: &mut Frame<'_>,
    outer: &Outer,
) -> Result<u32, Reason> {
    let inner = inner_of::<O, T, I>(frame, outer)?;
    if family::names_alternative::<T, I>(frame, O::END + T::BYTES, &inner)? {
        take_out::<O, T, I>(frame, outer, &inner)?;
        let second = I::outer::<T>(frame)?;
        return if second.carries == protocol::IPV4 {
            give_chance::<I, T, V4>(frame, &second)
        } else {
            give_chance::<I, T, V6>(frame, &second)
        };
    }
    if !I::is_for_vip(frame, O::END + T::BYTES)? {
        return Err(Reason::UnknownVip);
    }
    take_out::<O, T, I>(frame, outer, &inner)?;
    Err(Reason::Delivered)
}

/// Passes a packet on to the backend that its outer header leads to, if that is a peer and this host
/// does not have the packet's socket; else gives it to the host. What is passed on has one header,
/// so that it is not passed on again.
#[inline(always)]
fn give_chance<O: Family, T: Tunnel, I: Family>(
    frame: &mut Frame<'_>,
    outer: &Outer,
) -> Result<u32, Reason> {
    let inner = inner_of::<O, T, I>(frame, outer)?;
    if !I::is_for_vip(frame, O::END + T::BYTES)? {
        return Err(Reason::UnknownVip);
    }
    let is_peer = O::is_to_peer(frame)?;
    if is_peer && socket::is_missing::<I>(frame, O::END + T::BYTES, &inner)? {
        return pass_on::<O>(frame);
    }
    take_out::<O, T, I>(frame, outer, &inner)?;
    Err(if is_peer {
        Reason::FirstChoice
    } else {
        Reason::UnknownPeer
    })
}

#[inline(always)]
fn inner_of<O: Family, T: Tunnel, I: Family>(
    frame: &Frame<'_>,
    outer: &Outer,
) -> Result<Inner, Reason> {
    let inner = I::inner(frame, O::END + T::BYTES)?;
    if inner.bytes > outer.payload_bytes {
        return Err(Reason::Truncated);
    }
    Ok(inner)
}

/// Takes a packet out of its outer header.
#[inline(always)]
fn take_out<O: Family, T: Tunnel, I: Family>(
    frame: &mut Frame<'_>,
    outer: &Outer,
    inner: &Inner,
) -> Result<(), Reason> {
    let ecn = ecn::decapsulated(inner.ecn, outer.ecn).ok_or(Reason::CongestionDrop)?;
    if ecn != inner.ecn {
        I::set_ecn(frame, O::END + T::BYTES, ecn)?;
    }
    strip(
        frame,
        O::END + T::BYTES - size_of::<EthernetHeader>(),
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
