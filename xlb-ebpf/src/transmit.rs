//! Sends a frame to its next hop.

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, xdp_action},
    helpers::generated::{bpf_fib_lookup as fib_lookup, bpf_redirect},
};
use xlb_common::{
    maps::{Backend, Egress, Event, NextHop, event, feature},
    reason::Reason,
    wire::EthernetHeader,
};

use crate::{
    family::Family,
    frame::{Frame, Layout},
    globals,
    maps::{self, EGRESS, EGRESS_DEVICES, EVENTS},
    vlan,
};

/// Where a frame goes, and by which interface.
pub struct Hop {
    next: NextHop,
    /// The interface.
    pub egress: &'static Egress,
}

/// The next hop of a backend.
#[inline(always)]
pub fn hop_of(backend: &'static Backend) -> Result<Hop, Reason> {
    // SAFETY: the agent changes this word while we read it, hence volatile.
    let next = NextHop(unsafe { (&raw const backend.next_hop).read_volatile() });
    if !next.is_known() {
        return Err(Reason::BackendUnresolved);
    }
    hop(next)
}

#[inline(always)]
fn hop(next: NextHop) -> Result<Hop, Reason> {
    let egress = EGRESS
        .get(u32::from(next.egress()))
        .ok_or(Reason::Inconsistent)?;
    Ok(Hop { next, egress })
}

/// Sends a frame to a next hop: back out of the interface that it came in on, or out of another. By a
/// VLAN device, it gets the tag of that.
#[inline(always)]
pub fn transmit<L: Layout>(frame: &mut Frame<'_, L>, hop: &Hop) -> Result<u32, Reason> {
    // Where VLAN devices are named, the way alone says which tag there is.
    if globals::has(feature::VLAN) {
        if L::MAY_HAVE_TAGS {
            vlan::forget();
        }
        if hop.egress.tag != 0 {
            vlan::insert(frame, hop.egress.tag)?;
        }
    }
    let ethernet = frame.at_mut::<EthernetHeader>(0)?;
    let [a, b, c, d, e, f] = hop.egress.mac;
    ethernet.destination_high = hop.next.mac_high();
    ethernet.destination_low = hop.next.mac_low();
    ethernet.source_high = u32::from_ne_bytes([a, b, c, d]);
    ethernet.source_low = u16::from_ne_bytes([e, f]);
    if globals::has(feature::REDIRECT) && hop.egress.ifindex != frame.ingress_ifindex() {
        return match EGRESS_DEVICES.redirect(u32::from(hop.next.egress()), 0) {
            Ok(action) => Ok(action),
            Err(_) => Err(Reason::Inconsistent),
        };
    }
    Ok(xdp_action::XDP_TX)
}

/// Whether an action sends the frame on.
#[inline(always)]
pub const fn has_left(action: u32) -> bool {
    action == xdp_action::XDP_TX || action == xdp_action::XDP_REDIRECT
}

/// What the agent's table of next hops says of a client, if anything.
///
/// # Errors
///
/// [`Reason::ReplyToHost`] if the client is this host.
#[inline(always)]
pub fn route_to<F: Family>(to: F::Address) -> Result<Option<NextHop>, Reason> {
    match F::route(to) {
        Some(NextHop::LOCAL) => Err(Reason::ReplyToHost),
        Some(next) if next.is_known() => Ok(Some(next)),
        Some(_) | None => Ok(None),
    }
}

/// The MTU of the interface that the agent's table has a client behind, if it knows one.
#[inline(always)]
pub fn mtu_of(route: Option<NextHop>) -> Option<u16> {
    let egress = EGRESS.get(u32::from(route?.egress()))?;
    Some(egress.mtu)
}

/// Sends a reply towards its client: by the agent's table of next hops, or, where that knows none,
/// by the kernel's routes.
#[inline(always)]
pub fn to_client<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    route: Option<NextHop>,
    from: F::Address,
    to: F::Address,
) -> Result<u32, Reason> {
    match route {
        Some(next) => transmit(frame, &hop(next)?),
        None => by_fib::<F>(frame, from, to),
    }
}

#[inline(always)]
fn by_fib<F: Family>(
    frame: &mut Frame<'_, impl Layout>,
    from: F::Address,
    to: F::Address,
) -> Result<u32, Reason> {
    maps::count(Reason::FibLookup);
    let ingress_ifindex = frame.ingress_ifindex();
    let mut request = F::fib_request(from, to, ingress_ifindex);
    // SAFETY: the context is the one that the program was called with; the request is on our stack.
    let answer = unsafe {
        fib_lookup(
            frame.ctx().ctx.cast(),
            &raw mut request,
            size_of::<bpf_fib_lookup>() as i32,
            0,
        )
    };
    // The agent should know this one: what the kernel found may be gone tomorrow, and what it did
    // not find can be asked for.
    tell_agent::<F>(ingress_ifindex, to);
    if answer != BPF_FIB_LKUP_RET_SUCCESS as i64 {
        return Err(Reason::ClientUnresolved);
    }
    let ethernet = frame.at_mut::<EthernetHeader>(0)?;
    (ethernet.destination_high, ethernet.destination_low) = mac(&request.dmac);
    (ethernet.source_high, ethernet.source_low) = mac(&request.smac);
    if request.ifindex == ingress_ifindex {
        return Ok(xdp_action::XDP_TX);
    }
    if !globals::has(feature::REDIRECT) {
        return Err(Reason::ClientUnroutable);
    }
    // It may be a VLAN device, which can't be redirected to; the agent's next hop can.
    if globals::has(feature::VLAN) {
        return Err(Reason::ClientUnresolved);
    }
    // SAFETY: the helper takes numbers.
    Ok(unsafe { bpf_redirect(request.ifindex, 0) } as u32)
}

#[inline(always)]
fn tell_agent<F: Family>(ifindex: u32, address: F::Address) {
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        return;
    };
    entry.write(Event {
        kind: event::NEIGHBOUR_MISSING,
        ifindex,
        address: F::event_address(address),
        family: u32::from(F::NUMBER),
        reserved: 0,
    });
    entry.submit(0);
}

/// First four and last two bytes of a MAC address of an answer. The verifier wants aligned reads of
/// the stack, and the answer's addresses lie at even offsets.
#[inline(always)]
fn mac(bytes: &[u8; 6]) -> (u32, u16) {
    let words = bytes.as_ptr().cast::<u16>();
    // SAFETY: six bytes at an even address; volatile, lest the compiler join the reads.
    let [a, b, c] = unsafe {
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
        ]
    };
    (u32::from(a) | u32::from(b) << 16, c)
}
