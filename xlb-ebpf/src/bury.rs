//! The program that exchanges words of records for the agent, when it collects them. It is attached
//! nowhere: the agent runs it with the exchanges in place of a packet.

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use xlb_common::collect::{EXCHANGES_MAX, Exchange, table};

use crate::{
    atomic::exchange,
    maps::{FLOWS, PENDING},
};

/// Carries out the exchanges of its input, each whose word is still the old one.
#[xdp]
#[inline(always)]
pub fn bury(ctx: XdpContext) -> u32 {
    let mut at = ctx.data();
    for _ in 0..EXCHANGES_MAX {
        if at + size_of::<Exchange>() > ctx.data_end() {
            break;
        }
        // SAFETY: the exchange lies within the input, and any bytes are one.
        let wanted = unsafe { (at as *const Exchange).read_unaligned() };
        let record = if wanted.table == table::PENDING {
            PENDING.get_ptr_mut(wanted.key)
        } else {
            FLOWS.get_ptr_mut(wanted.key)
        };
        if let Some(record) = record {
            // SAFETY: the pointer came from a lookup in this run of the program, under the RCU lock
            // that keeps its memory mapped.
            unsafe { exchange(&raw mut (*record).word, wanted.old, wanted.new) };
        }
        at += size_of::<Exchange>();
    }
    xdp_action::XDP_DROP
}
