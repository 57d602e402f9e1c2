//! A router on the way to a backend says that a packet with its outer header was too big. The one who
//! can send smaller packets is the client (RFC 2003, section 5; RFC 2473, section 8).

use aya_ebpf::bindings::xdp_md;
use xlb_ebpf::tunnel::Tunnel;

use super::{context, quoted::IcmpFamily};
use crate::{frame::Frame, ways::conclude};

/// Makes the message one for the client; gives 0, or the action if it is not to be sent.
#[inline(always)]
pub fn relay<F: IcmpFamily, T: Tunnel>(ctx: *mut xdp_md) -> u32 {
    match change::<F, T>(ctx) {
        0 => unwrap::<F, T>(ctx),
        action => action,
    }
}

#[inline(never)]
fn change<F: IcmpFamily, T: Tunnel>(ctx: *mut xdp_md) -> u32 {
    let context = context(ctx);
    match F::unwrapped::<T>(&mut Frame::new(&context)) {
        Ok(()) => 0,
        Err(reason) => conclude(reason),
    }
}

#[inline(never)]
fn unwrap<F: IcmpFamily, T: Tunnel>(ctx: *mut xdp_md) -> u32 {
    let context = context(ctx);
    match F::unwrap::<T>(&mut Frame::new(&context)) {
        Ok(()) => 0,
        Err(reason) => conclude(reason),
    }
}

/// The same where the packet within is of the other family.
#[inline(never)]
pub fn relay_across<F: IcmpFamily, T: Tunnel>(ctx: *mut xdp_md) -> u32 {
    let context = context(ctx);
    match F::across::<T>(&mut Frame::new(&context)) {
        Ok(()) => 0,
        Err(reason) => conclude(reason),
    }
}
