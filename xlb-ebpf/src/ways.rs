//! The programs that a packet's way goes on in when it is not a plain packet of TCP or UDP. Each has a
//! stack of its own, and the main program has no instruction for what they do.
//!
//! | program | gets |
//! | --- | --- |
//! | `xlb_odd` | what the main program does not recognise as plain: see [`crate::odd`] |
//! | `xlb_nat` | services under full NAT, and what comes to its source addresses: see [`crate::nat`] |
//! | `xlb_vlan` | frames with VLAN tags, which it hands to `xlb_odd` without: see [`crate::vlan`] |
//! | `xlb_icmp` | ICMP and ICMPv6, and packets that are to be answered by such a message |
//! | `xlb_fragment` | fragments |

use aya_ebpf::{
    bindings::xdp_action,
    macros::map,
    maps::{PerCpuArray, ProgramArray},
    programs::XdpContext,
};
use xlb_common::{
    maps::way,
    reason::{Action, Reason},
};

use crate::{
    family::Family,
    frame::{Frame, Layout, Odd},
    maps::count,
    packet::Fragment,
};

/// The agent fills it before the program that calls them sees a packet, and keeps it filled for as
/// long as that runs.
#[map]
static WAYS: ProgramArray = ProgramArray::with_max_entries(way::PROGRAMS.len() as u32, 0);

/// What one program tells the next about the packet at hand. Lives with the programs, unlike other
/// maps.
#[map]
static HANDOVER: PerCpuArray<Handover> = PerCpuArray::with_max_entries(1, 0);

/// What one program tells the next about a packet.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Handover {
    /// One of [`task`]; 0: it goes on.
    pub task: u32,
    /// With [`task::TOO_BIG`]: the largest packet that the interface takes.
    pub mtu: u32,
    /// With [`task::TOO_BIG`]: bytes of outer headers that share it.
    pub outer_bytes: u32,
    /// Offset of what the IP packet carries.
    pub transport: u32,
    /// Protocol number of that.
    pub number: u32,
    /// With [`task::NAT`] the number of the service; with [`task::NAT_REPLY`] and
    /// [`task::NAT_ERROR_REPLY`] that of the source.
    pub service: u32,
    /// With [`task::NAT`]: number of the backend.
    pub backend: u32,
    /// With an error: offset of what the packet carries that it quotes.
    pub quoted: u32,
    /// With an error: protocol number of that.
    pub quoted_number: u32,
    /// Of a fragment: its identification, in network byte order.
    pub identification_be: u32,
    /// Of a fragment: the offset of its first byte in its datagram, and 1 if more follow.
    pub offset_more: u32,
    /// Of a fragment: offset in the frame of what it has of the datagram.
    pub start: u32,
}

impl Handover {
    /// Says where a packet with ports has them.
    #[inline(always)]
    pub fn of<F: Family>(frame: &Frame<'_, impl Layout>, protocol: u8) -> Self {
        Self {
            transport: frame.transport(F::TRANSPORT_OFFSET) as u32,
            number: protocol.into(),
            ..Self::default()
        }
    }

    /// Which part of a datagram the packet is.
    #[inline(always)]
    pub const fn fragment(&self) -> Fragment {
        Fragment {
            offset: self.offset_more as u16 & !7,
            more: self.offset_more & 1 != 0,
            identification_be: self.identification_be,
            start: self.start as u16,
        }
    }
}

/// What the next program is to do with a packet other than to go on with it.
pub mod task {
    /// Answers that it is too big.
    pub const TOO_BIG: u32 = 1;
    /// Sends a packet to a backend under full NAT.
    pub const NAT: u32 = 2;
    /// Sends what came to a source address of full NAT to its client.
    pub const NAT_REPLY: u32 = 3;
    /// Sends an error about a packet of a backend's under full NAT to that backend.
    pub const NAT_ERROR: u32 = 4;
    /// Sends an error that came to a source address of full NAT to its client.
    pub const NAT_ERROR_REPLY: u32 = 5;
}

/// What was handed over.
#[inline(always)]
pub fn handed_over() -> Handover {
    match HANDOVER.get(0) {
        Some(&handover) => handover,
        None => Handover::default(),
    }
}

/// The frame of a context, laid out as it was handed over.
#[inline(always)]
pub fn frame(context: &XdpContext) -> Frame<'_, Odd> {
    let handover = handed_over();
    let (transport, number) = (handover.transport as usize, handover.number as u8);
    Frame::laid_out(context, Odd::new(transport, number))
}

/// Goes on in another program; gives the action if that is not there.
#[inline(always)]
pub fn go_on(frame: &Frame<'_, impl Layout>, way: u32) -> u32 {
    // SAFETY: nothing here waits to be dropped.
    unsafe { WAYS.tail_call(frame.ctx(), way) };
    conclude(Reason::WayMissing)
}

/// Goes on in another program, which is told this; gives the action if that is not there.
#[inline(always)]
pub fn hand_over(frame: &Frame<'_, impl Layout>, way: u32, handover: Handover) -> u32 {
    note(handover);
    go_on(frame, way)
}

/// Notes this for the next program, or for this one to read again.
#[inline(always)]
pub fn note(handover: Handover) {
    if let Some(place) = HANDOVER.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
        unsafe { *place = handover };
    }
}

/// What becomes of a packet whose way ended for this reason, which is counted.
#[inline(always)]
pub fn conclude(reason: Reason) -> u32 {
    count(reason);
    match reason.action() {
        Action::Pass => xdp_action::XDP_PASS,
        Action::Drop | Action::Redirect => xdp_action::XDP_DROP,
        Action::Tx => xdp_action::XDP_TX,
    }
}
