//! A client's packet that is too big with its outer header: its sender is told which size fits (RFC
//! 1191, RFC 8201).

use aya_ebpf::{bindings::xdp_md, helpers::generated::bpf_csum_diff};
use xlb_common::{reason::Reason, wire::Bytes};

use super::{context, limit, quoted::IcmpFamily};
use crate::{
    frame::{Frame, Layout, NETWORK_OFFSET},
    ways::conclude,
};

/// Answers a packet that is too big for an interface of this MTU, which so many bytes of outer
/// headers would share with it.
#[inline(never)]
pub fn answer<F: IcmpFamily>(ctx: *mut xdp_md, mtu: u32, outer_bytes: u32) -> u32 {
    let context = context(ctx);
    let fits = mtu.saturating_sub(outer_bytes) as usize;
    let answered = tell::<F>(&mut Frame::new(&context), fits);
    conclude(answered.err().unwrap_or(Reason::TooBigAnswered))
}

#[inline(always)]
fn tell<F: IcmpFamily>(frame: &mut Frame<'_, impl Layout>, fits: usize) -> Result<(), Reason> {
    let length = NETWORK_OFFSET + F::ANSWER_QUOTES;
    if fits < F::ANSWERED_MTU_MIN || frame.length() < length {
        return Err(Reason::TooBig);
    }
    if !F::is_answerable(frame)? || !limit::take() {
        return Err(Reason::TooBig);
    }
    let excess = frame.length() - length;
    if excess > 0 {
        frame.shrink_back(excess)?;
    }
    F::answer(frame, fits)
}

/// Adds the sum of the `N` bytes at an offset to another; `N` is a multiple of four and at most 512,
/// the most that older kernels take.
#[inline(always)]
pub fn add_sum<const N: usize>(
    frame: &Frame<'_, impl Layout>,
    offset: usize,
    sum: u64,
) -> Result<u64, Reason> {
    let bytes = frame.at::<Bytes<N>>(offset)?;
    // SAFETY: the bytes lie within the frame, as `at` proved, and the helper reads them only.
    let sum = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            core::ptr::from_ref(bytes).cast_mut().cast(),
            N as u32,
            sum as u32,
        )
    };
    Ok(sum as u32 as u64)
}
