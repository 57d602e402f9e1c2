//! The story of an ICMP or ICMPv6 message: an echo request, or an error about a packet of a flow
//! (RFC 792, RFC 4443), which goes where the packets of that flow come from.
//!
//! | error to | about a packet | goes to |
//! | --- | --- | --- |
//! | a VIP | of a backend to a client | the backend, rewritten within too under `dnat` (RFC 5508) |
//! | a client | of that client to a backend under `dnat` | the client, as from the VIP |
//! | a VIP or a source | under full NAT | [`crate::nat`], told where it quotes what |
//! | this host | too big, of a client in an outer header | the client, as from the VIP |
//!
//! All this is a program of its own, and each step a function of its own to the kernel, with a stack of
//! its own. Steps give numbers, since structures would go over the stack.

mod across;
mod find;
mod follow;
mod limit;
pub mod quoted;
mod send;
mod too_big;
mod tunnel;
mod v4;
mod v6;

use aya_ebpf::{bindings::xdp_md, macros::xdp, programs::XdpContext};
use xlb_common::{
    maps::{Service, feature, forward, way},
    reason::Reason,
    wire::EthernetHeader,
};

use xlb_ebpf::tunnel::{Gue, Ipip};

use self::quoted::IcmpFamily;
use crate::{
    family::{V4, V6},
    frame::{Frame, Layout, Network},
    globals,
    maps::{BACKENDS, SERVICES, count},
    transmit, vlan,
    ways::{self, conclude, task},
};

/// The program of such messages, and of what is answered by one.
#[xdp]
#[inline(always)]
pub fn xlb_icmp(ctx: XdpContext) -> u32 {
    let action = match Frame::new(&ctx).network() {
        Network::Ipv4 if globals::has(feature::IPV4) => take_up::<V4>(ctx.ctx),
        Network::Ipv6 if globals::has(feature::IPV6) => take_up::<V6>(ctx.ctx),
        _ => conclude(Reason::NotIp),
    };
    vlan::put_back(&ctx, action)
}

#[inline(always)]
fn take_up<F: IcmpFamily>(ctx: *mut xdp_md) -> u32 {
    let handover = ways::handed_over();
    if globals::has(feature::IPIP | feature::GUE | feature::FULL_NAT)
        && handover.task == task::TOO_BIG
    {
        return too_big::answer::<F>(ctx, handover.mtu, handover.outer_bytes);
    }
    handle::<F>(ctx)
}

/// The context within a step. The compiler must not see that its fields are all that a step takes of
/// it: it would have the caller read them, and to the kernel numbers that were passed are no pointers
/// to a packet.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn context(mut ctx: *mut xdp_md) -> XdpContext {
    // SAFETY: the register keeps what it holds, and no memory is touched.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) ctx, options(nostack)) };
    XdpContext::new(ctx)
}

/// For the lints, which take the program for one of the host.
#[cfg(not(target_arch = "bpf"))]
pub const fn context(ctx: *mut xdp_md) -> XdpContext {
    XdpContext::new(ctx)
}

/// The way of a message; gives the action.
#[inline(always)]
pub fn handle<F: IcmpFamily>(ctx: *mut xdp_md) -> u32 {
    let found = find::Found(find::find::<F>(ctx));
    if found.is(find::ECHO) {
        echo::<F>(ctx)
    } else if found.is(find::TO_BACKEND) {
        match SERVICES.get(found.service()) {
            Some(service) => to_backend::<F>(ctx, service),
            None => conclude(Reason::Inconsistent),
        }
    } else if found.is(find::TO_CLIENT) {
        match SERVICES.get(found.service()) {
            Some(service) => send::back::<F>(ctx, service, found.backend()),
            None => conclude(Reason::Inconsistent),
        }
    } else if globals::has(feature::FULL_NAT) && found.is(find::NAT) {
        let context = context(ctx);
        ways::go_on(&Frame::new(&context), way::NAT)
    } else if globals::has(feature::IPIP) && found.is(find::IPIP) {
        depart::<F>(ctx, tunnel::relay::<F, Ipip>(ctx))
    } else if globals::has(feature::GUE) && found.is(find::GUE) {
        depart::<F>(ctx, tunnel::relay::<F, Gue>(ctx))
    } else if globals::has(feature::MIXED)
        && globals::has(feature::IPIP)
        && found.is(find::IPIP_ACROSS)
    {
        depart::<F::Opposite>(ctx, tunnel::relay_across::<F, Ipip>(ctx))
    } else if globals::has(feature::MIXED)
        && globals::has(feature::GUE)
        && found.is(find::GUE_ACROSS)
    {
        depart::<F::Opposite>(ctx, tunnel::relay_across::<F, Gue>(ctx))
    } else {
        found.action()
    }
}

/// Sends a router's word to the client, if it was made one for the client: `made` is 0.
#[inline(always)]
fn depart<F: IcmpFamily>(ctx: *mut xdp_md, made: u32) -> u32 {
    if made != 0 {
        return made;
    }
    let action = send::depart::<F>(ctx, send::route::<F>(ctx));
    if transmit::has_left(action) {
        count(Reason::TunnelTooBig);
    }
    action
}

#[inline(always)]
fn to_backend<F: IcmpFamily>(ctx: *mut xdp_md, service: &'static Service) -> u32 {
    if globals::has(feature::LOCAL) && service.forward == forward::LOCAL {
        return conclude(Reason::Local);
    }
    let followed = follow::Followed(follow::follow::<F>(ctx, service));
    if followed.backend() == 0 {
        return followed.action();
    }
    match BACKENDS.get(u32::from(followed.backend())) {
        Some(backend) => send::towards_backend::<F>(ctx, service, backend, followed.hash()),
        None => conclude(Reason::Inconsistent),
    }
}

/// Answers an echo request.
#[inline(never)]
fn echo<F: IcmpFamily>(ctx: *mut xdp_md) -> u32 {
    let context = context(ctx);
    let frame = &mut ways::frame(&context);
    // What was sent to many on the link is for the host to judge (RFC 1122, section 3.3.6).
    match frame.at::<EthernetHeader>(0) {
        Ok(ethernet) if ethernet.destination_high & 1 == 0 => {}
        Ok(_) | Err(_) => return conclude(Reason::IcmpOther),
    }
    let answered = F::answer_echo(frame).and_then(|()| turn_around(frame));
    conclude(answered.err().unwrap_or(Reason::EchoReply))
}

/// Sends a frame back to where it came from.
#[inline(always)]
fn turn_around(frame: &mut Frame<'_, impl Layout>) -> Result<(), Reason> {
    let ethernet = frame.at_mut::<EthernetHeader>(0)?;
    let (high, low) = (ethernet.destination_high, ethernet.destination_low);
    (ethernet.destination_high, ethernet.destination_low) =
        (ethernet.source_high, ethernet.source_low);
    (ethernet.source_high, ethernet.source_low) = (high, low);
    Ok(())
}
