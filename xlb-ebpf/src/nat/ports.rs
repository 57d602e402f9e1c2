//! The table of ports, as the program uses it. Only compare-and-exchange changes a word; the rest of an
//! entry stays as it is while its word says that the port is in use.

use aya_ebpf::bindings::BPF_NOEXIST;
use xlb_common::{
    maps::FlowKey,
    nat::{self, NatPool, NatPort, NatSource, Refused, Timeouts, Word, state},
    reason::Reason,
    record::FlowValue,
};

use xlb_ebpf::opaque::opaque;

use super::first;
use crate::{
    atomic::exchange,
    family::Family,
    maps::{NAT_FLOWS, NAT_POOLS, NAT_PORTS, NAT_SOURCES},
    packet::Ports,
};

/// A flow's key in words. As a structure, its last fields would go over the stack at an odd offset, which
/// the verifier refuses.
pub type Flow = [u64; size_of::<FlowKey>() / size_of::<u64>()];

/// The words of the key of the flow between a client and a VIP, as the client's packets have it.
#[inline(always)]
pub fn flow<F: Family>(client: F::Address, vip: F::Address, ports: Ports, protocol: u8) -> Flow {
    let (client, vip) = (F::key(client), F::key(vip));
    let rest = u64::from(ports.source_be)
        | u64::from(ports.destination_be) << 16
        | u64::from(protocol) << 32
        | u64::from(F::NUMBER) << 40;
    [client[0], client[1], vip[0], vip[1], rest]
}

/// Protocol of a flow.
#[inline(always)]
pub const fn protocol_of(flow: &Flow) -> u8 {
    (flow[4] >> 32) as u8
}

/// Ports of a flow.
#[inline(always)]
pub const fn ports_of(flow: &Flow) -> Ports {
    Ports {
        source_be: flow[4] as u16,
        destination_be: (flow[4] >> 16) as u16,
    }
}

/// Client of a flow.
#[inline(always)]
pub fn client_of<F: Family>(flow: &Flow) -> F::Address {
    F::of_key([flow[0], flow[1]])
}

/// VIP of a flow.
#[inline(always)]
pub fn vip_of<F: Family>(flow: &Flow) -> F::Address {
    F::of_key([flow[2], flow[3]])
}

/// What a new connection is.
pub struct Wanted {
    /// Number of its service.
    pub service: u32,
    /// Number of its backend.
    pub backend: u32,
    /// For how long it may be idle when it is open, seconds.
    pub idle_s: u32,
    /// Whether it is one of datagrams.
    pub is_udp: bool,
    /// Where the search for a port begins.
    pub hash: u32,
}

/// Who has a port.
pub struct Held {
    /// The port's entry.
    pub entry: *mut NatPort,
    /// Its word, of which the rest is.
    pub word: Word,
    /// The flow of the client to the VIP.
    pub flow: Flow,
    /// Number of the service.
    pub service: u32,
    /// Number of the backend.
    pub backend: u32,
    /// For how long it may be idle when it is open, seconds.
    pub idle_s: u32,
    /// The connection has another port by now.
    pub has_moved: bool,
}

/// What a client's packet found.
pub enum Used {
    /// Its connection has the port with this index.
    Port(u32),
    /// Its connection is not known.
    None,
    /// Its connection was at another backend, and has given that port back.
    Moved,
}

/// The entry of a port.
#[inline(always)]
pub fn entry(index: u32) -> Option<*mut NatPort> {
    NAT_PORTS.get_ptr_mut(index)
}

/// The source address of a port.
#[inline(always)]
pub fn source(index: u32) -> Option<&'static NatSource> {
    NAT_SOURCES.get(nat::source_of(index))
}

/// The word of a port.
#[inline(always)]
pub fn word(entry: *mut NatPort) -> Word {
    // SAFETY: the pointer is to a value of the map; others write it, hence volatile.
    Word(unsafe { (&raw const (*entry).word).read_volatile() })
}

/// Notes that a port is used: whether its connection still has it, which a word that was read before
/// says. Once a second at most, unless the state changes.
#[inline(always)]
pub fn touch<F: Family>(entry: *mut NatPort, old: Word, idle_s: u32, now_s: u32, row: u32) -> bool {
    let Ok(timeouts) = timeouts::<F>() else {
        return false;
    };
    let new = after(old, timeouts, idle_s, now_s, row);
    if new.0 == old.0 {
        // Nobody may claim it within this second, and what was read before is of this claim only if
        // it still is.
        return word(entry).generation() == old.generation();
    }
    // SAFETY: the pointer is to a value of the map.
    if unsafe { exchange(&raw mut (*entry).word, old.0, new.0) } {
        return true;
    }
    // Another packet of the connection was faster, or the port is somebody else's by now.
    let found = word(entry);
    if found.generation() != old.generation() || found.state() < state::OPENING {
        return false;
    }
    let new = after(found, timeouts, idle_s, now_s, row);
    // SAFETY: as above. Who was faster noted that it is used.
    unsafe { exchange(&raw mut (*entry).word, found.0, new.0) };
    true
}

/// The word after a packet of this row.
#[inline(always)]
fn after(old: Word, timeouts: &Timeouts, idle_s: u32, now_s: u32, row: u32) -> Word {
    let row = row as usize & (nat::ROWS - 1);
    let state = nat::AFTER[row][usize::from(old.state() & 15)];
    old.used(state, timeouts, idle_s, now_s)
}

/// Who has a port.
///
/// # Errors
///
/// Nobody of xlb's: what comes to it is the host's own.
#[inline(always)]
pub fn held<F: Family>(index: u32, now_s: u32) -> Result<Held, Reason> {
    let entry = entry(index).ok_or(Reason::NotForService)?;
    let word = word(entry);
    // SAFETY: the pointer is to a value of the map; it is checked below that the fields belong to the
    // word.
    let (flow, service, backend, idle_s) = unsafe {
        (
            read_flow(entry),
            (&raw const (*entry).service).read_volatile(),
            (&raw const (*entry).backend).read_volatile(),
            (&raw const (*entry).idle_s).read_volatile(),
        )
    };
    let is_held = word.state() > state::CLAIMED && !word.is_free(now_s);
    if !is_held || self::word(entry).generation() != word.generation() {
        return Err(Reason::NotForService);
    }
    Ok(Held {
        entry,
        word,
        flow,
        service,
        backend,
        idle_s,
        has_moved: word.state() == state::MOVED,
    })
}

/// For how long ports of a family stay taken.
#[inline(always)]
fn timeouts<F: Family>() -> Result<&'static Timeouts, Reason> {
    match NAT_POOLS.get(u32::from(F::NUMBER == 6)) {
        Some(pool) => Ok(&pool.timeouts),
        None => Err(Reason::Inconsistent),
    }
}

/// Index of the port that the record of a flow names, which may be another's by now.
#[inline(always)]
fn record(flow: &Flow) -> Option<u32> {
    let record = NAT_FLOWS.get_ptr(*flow)?;
    // SAFETY: the pointer came from a lookup in this run of the program.
    Some(unsafe { (&raw const (*record).word).read_volatile() } as u32)
}

/// The port of a flow that is open, which is not noted to be used.
#[inline(always)]
pub fn known<F: Family>(flow: &Flow, now_s: u32) -> Option<u32> {
    let index = record(flow)?;
    match held::<F>(index, now_s) {
        Ok(held) if !held.has_moved && is_of(held.entry, flow) => Some(index),
        Ok(_) | Err(_) => None,
    }
}

/// The port that a flow has towards this backend, which is noted to be used.
#[inline(always)]
pub fn of_flow<F: Family>(flow: &Flow, backend: u32, now_s: u32, row: u32) -> Used {
    let Some(index) = record(flow) else {
        return Used::None;
    };
    let (Some(entry), Ok(timeouts)) = (entry(index), timeouts::<F>()) else {
        return Used::None;
    };
    let old = word(entry);
    // SAFETY: the pointer is to a value of the map; `touch` says whether this is of the word.
    let (idle_s, at) = unsafe {
        (
            (&raw const (*entry).idle_s).read_volatile(),
            (&raw const (*entry).backend).read_volatile(),
        )
    };
    if !old.is_live(now_s) || !is_of(entry, flow) {
        return Used::None;
    }
    if at == backend {
        return if touch::<F>(entry, old, idle_s, now_s, row) {
            Used::Port(index)
        } else {
            Used::None
        };
    }
    let moved = old.used(state::MOVED, timeouts, idle_s, now_s);
    // SAFETY: as above.
    if unsafe { exchange(&raw mut (*entry).word, old.0, moved.0) } {
        Used::Moved
    } else {
        Used::None
    }
}

/// The flow of an entry.
///
/// # Safety
///
/// The pointer is to a value of the map.
#[inline(always)]
unsafe fn read_flow(entry: *mut NatPort) -> Flow {
    // SAFETY: the caller's; a key is five words. Others may write it, hence volatile.
    unsafe {
        let words = (&raw const (*entry).flow).cast::<u64>();
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
            words.add(4).read_volatile(),
        ]
    }
}

/// Whether an entry is of this flow.
#[inline(always)]
fn is_of(entry: *mut NatPort, flow: &Flow) -> bool {
    // SAFETY: the pointer is to a value of the map.
    let found = unsafe { read_flow(entry) };
    let mut differ = 0;
    let mut at = 0;
    while at < found.len() {
        differ |= found[at] ^ flow[at];
        at += 1;
    }
    differ == 0
}

/// The table of ports to the allocation.
struct Table;

impl nat::Ports for Table {
    #[inline(always)]
    fn read(&mut self, index: u32) -> Option<Word> {
        Some(word(entry(index)?))
    }

    #[inline(always)]
    fn exchange(&mut self, index: u32, old: Word, new: Word) -> bool {
        match entry(index) {
            // SAFETY: the pointer is to a value of the map.
            Some(entry) => unsafe { exchange(&raw mut (*entry).word, old.0, new.0) },
            None => false,
        }
    }
}

/// Finds a port for a new connection; gives its index.
#[inline(always)]
pub fn open(v6: bool, flow: &Flow, wanted: &Wanted, now_s: u32) -> Result<u32, Reason> {
    let pool: &NatPool = NAT_POOLS.get(u32::from(v6)).ok_or(Reason::Inconsistent)?;
    let claim = nat::allocate(
        &mut Table,
        pool,
        wanted.hash,
        wanted.is_udp,
        now_s,
        |number| opaque(number as usize) as u64,
    );
    let (index, claimed) = match claim {
        Ok(claim) => claim,
        Err(Refused::Exhausted) => return Err(Reason::NatExhausted),
        Err(Refused::Raced) => return Err(Reason::NatRaced),
    };
    let entry = entry(index).ok_or(Reason::Inconsistent)?;
    forget(entry, index);
    // What an older record of the flow names is not its own any more.
    let _ = NAT_FLOWS.remove(flow);
    // SAFETY: the pointer is to a value of the map, which the claim made ours.
    unsafe {
        let words = (&raw mut (*entry).flow).cast::<u64>();
        let mut at = 0;
        while at < flow.len() {
            words.add(at).write_volatile(flow[at]);
            at += 1;
        }
        (&raw mut (*entry).service).write_volatile(wanted.service);
        (&raw mut (*entry).backend).write_volatile(wanted.backend);
        (&raw mut (*entry).idle_s).write_volatile(wanted.idle_s);
    }
    let value = FlowValue {
        word: u64::from(index),
        isn: 0,
        seen_s: now_s,
    };
    let inserted = NAT_FLOWS
        .insert(flow, value, u64::from(BPF_NOEXIST))
        .is_ok();
    let opened = if inserted {
        let state = first(wanted.is_udp);
        claimed.used(state, &pool.timeouts, wanted.idle_s, now_s)
    } else {
        claimed.freed()
    };
    // SAFETY: as above. An exchange, since it orders what was written before.
    unsafe { exchange(&raw mut (*entry).word, claimed.0, opened.0) };
    if inserted {
        Ok(index)
    } else {
        Err(Reason::NatRaced)
    }
}

/// Removes the record of the flow that had the port before.
#[inline(always)]
fn forget(entry: *mut NatPort, index: u32) {
    // SAFETY: the pointer is to a value of the map, which the claim made ours.
    let old = unsafe { read_flow(entry) };
    if record(&old) == Some(index) {
        let _ = NAT_FLOWS.remove(old);
    }
}
