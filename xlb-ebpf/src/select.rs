//! Selects the backend of a packet.

mod count;
mod policy;
mod tables;

use policy::Decision;
use tables::MovingSlot;
use xlb_common::{
    hash,
    maps::{Backend, Service, feature, protocol, service_state},
    reason::Reason,
    rule::{self, Kind, What},
    slot::SlotWord,
    wire::{SctpHeader, TcpHeader},
};

use crate::{
    family::Family,
    globals,
    maps::{self, BACKENDS, RING, SLOTS},
    packet::{Packet, Ports, Transport},
};

/// What was selected.
pub struct Selected {
    /// The backend.
    pub backend: &'static Backend,
    /// Its number.
    pub number: u16,
    /// Hash of the flow.
    pub hash: u32,
    /// Number of the backend that may have the flow if this one does not; 0: none.
    pub alternative: u16,
}

/// Numbers of backends.
struct Choice {
    first: u16,
    alternative: u16,
}

impl Choice {
    #[inline(always)]
    const fn only(first: u16) -> Self {
        Self {
            first,
            alternative: 0,
        }
    }
}

/// Selects the backend: by the ring alone while its pool is at rest, by the rule of moving slots
/// otherwise.
#[inline(always)]
pub fn select<F: Family>(
    packet: &Packet<F>,
    service: &'static Service,
    ports: Ports,
    protocol: u8,
) -> Result<Selected, Reason> {
    let (state, hash) = state_and_hash(packet, service, ports, protocol);
    let index = service.ring_offset + hash::slot(hash, service.ring_slots);
    let choice = if state & service_state::NOT_AT_REST == 0 {
        Choice::only(at_rest(index)?)
    } else if state & service_state::REFUSE != 0 {
        return Err(Reason::AllDown);
    } else {
        let decision = Decision {
            service,
            state,
            hash,
        };
        moving(packet, ports, protocol, index, decision)?
    };
    if choice.first == 0 {
        return Err(Reason::NoBackend);
    }
    let backend = BACKENDS
        .get(u32::from(choice.first))
        .ok_or(Reason::Inconsistent)?;
    Ok(Selected {
        backend,
        number: choice.first,
        hash,
        alternative: choice.alternative,
    })
}

/// Selects the backend of a fragment by its addresses, whatever its datagram's ports are: where a slot moves,
/// its newer backend, as for any datagram without a record.
#[inline(always)]
pub fn by_addresses<F: Family>(
    packet: &Packet<F>,
    service: &'static Service,
) -> Result<Selected, Reason> {
    let none = Ports {
        source_be: 0,
        destination_be: 0,
    };
    let (state, hash) = state_and_hash(packet, service, none, service.protocol);
    let index = service.ring_offset + hash::slot(hash, service.ring_slots);
    let number = if state & service_state::NOT_AT_REST == 0 {
        at_rest(index)?
    } else if state & service_state::REFUSE != 0 {
        return Err(Reason::AllDown);
    } else {
        let word = maps::arena(&SLOTS, index).ok_or(Reason::Inconsistent)?;
        // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
        let word = SlotWord(unsafe { word.read_volatile() });
        if word.is_marked() {
            word.target()
        } else {
            word.stable()
        }
    };
    if number == 0 {
        return Err(Reason::NoBackend);
    }
    let backend = BACKENDS
        .get(u32::from(number))
        .ok_or(Reason::Inconsistent)?;
    Ok(Selected {
        backend,
        number,
        hash,
        alternative: 0,
    })
}

/// The state of the service, and the hash of the flow that it wants.
#[inline(always)]
fn state_and_hash<F: Family>(
    packet: &Packet<F>,
    service: &'static Service,
    ports: Ports,
    protocol: u8,
) -> (u32, u32) {
    // SAFETY: the agent changes this word while we read it, hence volatile.
    let state = unsafe { (&raw const service.state).read_volatile() };
    let hash = if globals::has(feature::CLIENT_IP) && state & service_state::CLIENT_IP != 0 {
        F::client_hash(globals::hash_key(), packet)
    } else {
        F::hash(globals::hash_key(), packet, ports, protocol)
    };
    (state, hash)
}

/// Number of the backend that has the flow of an ICMP error, and the flow's hash: as [`select`] would
/// have it for the flow's own packets, but that nothing is recorded.
#[inline(always)]
pub fn follow<F: Family>(
    packet: &Packet<F>,
    service: &'static Service,
    ports: Ports,
    protocol: u8,
) -> Result<(u16, u32), Reason> {
    let (state, hash) = state_and_hash(packet, service, ports, protocol);
    let index = service.ring_offset + hash::slot(hash, service.ring_slots);
    let backend = if state & service_state::NOT_AT_REST == 0 {
        at_rest(index)?
    } else if state & service_state::REFUSE != 0 {
        return Err(Reason::AllDown);
    } else {
        let decision = Decision {
            service,
            state,
            hash,
        };
        let word = maps::arena(&SLOTS, index).ok_or(Reason::Inconsistent)?;
        // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
        let word = SlotWord(unsafe { word.read_volatile() });
        let word = word.with_mark(word.is_marked() || decision.tracks());
        let kind = if protocol == protocol::UDP && !decision.tracks() {
            Kind::Datagram
        } else {
            Kind::Untracked
        };
        if word.is_marked() && kind == Kind::Untracked {
            maps::count(Reason::TableLookup);
        }
        let key = F::flow_key(packet, ports, protocol);
        let mut tables = MovingSlot::new(key, index, decision);
        rule::select(&mut tables, word, kind, decision.is_by_connection()).backend
    };
    if backend == 0 {
        return Err(Reason::NoBackend);
    }
    Ok((backend, hash))
}

#[inline(always)]
fn at_rest(index: u32) -> Result<u16, Reason> {
    let entry = maps::arena(&RING, index).ok_or(Reason::Inconsistent)?;
    // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
    Ok(unsafe { entry.read_volatile() })
}

#[inline(always)]
fn moving<F: Family>(
    packet: &Packet<F>,
    ports: Ports,
    protocol: u8,
    index: u32,
    decision: Decision,
) -> Result<Choice, Reason> {
    let word = maps::arena(&SLOTS, index).ok_or(Reason::Inconsistent)?;
    // SAFETY: the entry lies in the map; the agent may write it meanwhile, hence volatile.
    let word = SlotWord(unsafe { word.read_volatile() });
    let word = word.with_mark(word.is_marked() || decision.tracks());
    if !word.is_marked() {
        return Ok(Choice::only(word.stable()));
    }
    let mut closes = false;
    let kind = match packet.transport {
        Transport::Tcp {
            flags, sequence, ..
        } => {
            closes = TcpHeader::closes(flags);
            if TcpHeader::opens(flags) {
                Kind::Syn { isn: sequence }
            } else {
                Kind::Segment { sequence }
            }
        }
        // An association is followed as a connection of TCP is, by its first packet.
        Transport::Sctp { chunk_type, .. } => {
            closes = SctpHeader::closes(chunk_type);
            if SctpHeader::opens(chunk_type) {
                Kind::Syn {
                    isn: SctpHeader::INITIAL,
                }
            } else {
                Kind::Segment {
                    sequence: SctpHeader::INITIAL + 1,
                }
            }
        }
        Transport::Udp { .. } if decision.tracks() => Kind::TrackedDatagram,
        Transport::Udp { .. }
        | Transport::Icmp
        | Transport::Fragment
        | Transport::Truncated
        | Transport::Other => return Ok(Choice::only(word.target())),
    };
    maps::count(Reason::TableLookup);
    let key = F::flow_key(packet, ports, protocol);
    let mut tables = MovingSlot::new(key, index, decision);
    let verdict = rule::select(&mut tables, word, kind, decision.is_by_connection());
    if verdict.is_drop() {
        return Err(Reason::FlowTableFull);
    }
    if matches!(verdict.what, What::FullToStable | What::FlowFull) {
        maps::count(Reason::FlowTableFullToStable);
    }
    if decision.counts() && (closes || verdict.what == What::Moved) {
        tables.release();
    }
    let mut choice = Choice::only(verdict.backend);
    // A flow that began at another node while the slot moved lives at the target, and has no record
    // here.
    if globals::has(feature::SECOND_CHANCE)
        && verdict.what == What::Missed
        && word.target() != word.stable()
    {
        choice.alternative = word.target();
    }
    Ok(choice)
}
