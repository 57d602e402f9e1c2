//! Tagged frames (IEEE 802.1Q): what is within one or two tags takes the way of the same frame without,
//! and gets them back wherever it goes.
//!
//! The tags are taken off here, before `xlb_odd`, and put back by the program that the way ends in. All
//! headers are then where they are without, and plain frames pay nothing.

use aya_ebpf::{
    bindings::xdp_action,
    macros::{map, xdp},
    maps::PerCpuArray,
    programs::XdpContext,
};
use xlb_common::{
    maps::way,
    reason::Reason,
    wire::{ETHER_TYPE_IPV4_BE, ETHER_TYPE_IPV6_BE, Half, MacAddresses, Word, is_tag},
};

use crate::{
    frame::{Frame, Layout},
    ways::{self, Handover, conclude},
};

/// Bytes of a tag: its type, and priority with VLAN.
const TAG_BYTES: usize = size_of::<Word>();

/// Offset of the first tag.
const TAGS: usize = size_of::<MacAddresses>();

/// The tags of the packet at hand, between the program that takes them off and the one that puts them
/// back. Lives with the programs, unlike other maps.
#[map]
static TAKEN_OFF: PerCpuArray<Tags> = PerCpuArray::with_max_entries(1, 0);

/// What was taken off a frame.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Tags {
    /// How many there were; 0: the packet at hand came without.
    count: u32,
    /// They themselves, as they stood in memory, the outer one first.
    tags: [u32; 2],
}

/// The program of frames with tags.
#[xdp]
#[inline(always)]
pub fn xlb_vlan(ctx: XdpContext) -> u32 {
    match take_off(&mut Frame::new(&ctx)) {
        Ok(action) => action,
        Err(reason) => conclude(reason),
    }
}

#[inline(always)]
fn take_off(frame: &mut Frame<'_>) -> Result<u32, Reason> {
    let (Ok(outer), Ok(type_be)) = (frame.at::<Word>(TAGS), frame.at::<Half>(TAGS + TAG_BYTES))
    else {
        return Err(Reason::NotIp);
    };
    let (outer, type_be) = (outer.0, type_be.0);
    if !is_tag(type_be) {
        return without::<TAG_BYTES>(frame, type_be, [outer, 0]);
    }
    let (Ok(inner), Ok(type_be)) = (
        frame.at::<Word>(TAGS + TAG_BYTES),
        frame.at::<Half>(TAGS + 2 * TAG_BYTES),
    ) else {
        return Err(Reason::NotIp);
    };
    let (inner, type_be) = (inner.0, type_be.0);
    if is_tag(type_be) {
        return Err(Reason::TooManyTags);
    }
    without::<{ 2 * TAG_BYTES }>(frame, type_be, [outer, inner])
}

/// Goes on with the frame without its tags, which have `BYTES` bytes.
#[inline(always)]
fn without<const BYTES: usize>(
    frame: &mut Frame<'_>,
    type_be: u16,
    tags: [u32; 2],
) -> Result<u32, Reason> {
    if type_be != ETHER_TYPE_IPV4_BE && type_be != ETHER_TYPE_IPV6_BE {
        return Err(Reason::NotIp);
    }
    // The type of what is within stands right before it already.
    let addresses = *frame.at::<MacAddresses>(0)?;
    frame.shrink_front(BYTES)?;
    *frame.at_mut::<MacAddresses>(0)? = addresses;
    note(Tags {
        count: (BYTES / TAG_BYTES) as u32,
        tags,
    });
    let action = ways::hand_over(frame, way::ODD, Handover::default());
    note(Tags::default());
    Ok(action)
}

#[inline(always)]
fn note(tags: Tags) {
    if let Some(place) = TAKEN_OFF.get_ptr_mut(0) {
        // SAFETY: the pointer is to this CPU's value, and XDP is not preempted by itself.
        unsafe { *place = tags };
    }
}

/// The end of every way that a tagged frame can take: puts its tags back, if it has any, and gives the
/// action.
#[inline(always)]
pub fn put_back(ctx: &XdpContext, action: u32) -> u32 {
    let tags = match TAKEN_OFF.get(0) {
        Some(tags) if tags.count != 0 => *tags,
        Some(_) | None => return action,
    };
    note(Tags::default());
    if action == xdp_action::XDP_DROP {
        return action;
    }
    let frame = &mut Frame::new(ctx);
    let done = if tags.count == 1 {
        with::<TAG_BYTES>(frame, tags.tags)
    } else {
        with::<{ 2 * TAG_BYTES }>(frame, tags.tags)
    };
    match done {
        Ok(()) => action,
        Err(reason) => conclude(reason),
    }
}

/// Has the frame leave without the tags that it came with.
#[inline(always)]
pub fn forget() {
    note(Tags::default());
}

/// Makes room for the tag of a VLAN device and writes it. The addresses before it are still to be written.
#[inline(always)]
pub fn insert(frame: &mut Frame<'_, impl Layout>, tag: u32) -> Result<(), Reason> {
    frame.grow_front(TAG_BYTES)?;
    frame.at_mut::<Word>(TAGS)?.0 = tag;
    Ok(())
}

#[inline(always)]
fn with<const BYTES: usize>(frame: &mut Frame<'_>, tags: [u32; 2]) -> Result<(), Reason> {
    let addresses = *frame.at::<MacAddresses>(0)?;
    frame.grow_front(BYTES)?;
    *frame.at_mut::<MacAddresses>(0)? = addresses;
    frame.at_mut::<Word>(TAGS)?.0 = tags[0];
    if BYTES > TAG_BYTES {
        frame.at_mut::<Word>(TAGS + TAG_BYTES)?.0 = tags[1];
    }
    Ok(())
}
