//! What the data path would do with a packet, and why: its own rule, on values read from the live
//! maps. Nothing is written.
//!
//! ```text
//! maps --read--> Facts --select, the rule of xlb-common--> Explanation
//! ```

mod choice;
mod facts;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;

pub use facts::{Facts, Found, Slot, gather};
use xlb_common::{
    flow::FlowKey,
    maps::{Backend, Service, backend_flag, forward, service_option, service_state},
    next_hop::NextHop,
    reason::{Action, Reason},
    record::FlowValue,
    rule::{self, Kind, PENDING_TTL_S, What, age_s},
    wire::SctpHeader,
};
use xlb_control::{
    api::{
        ExplainRequest, ExplainedAction, ExplainedBackend, ExplainedRecord, ExplainedService,
        ExplainedSlot, ExplainedVerdict, Explanation,
    },
    config::{Affinity, Forward, Policy, Protocol},
};

use crate::{endpoint, engine::goal};

/// How far from every recorded sequence number that of a new connection is taken to be.
const FAR: u32 = 1 << 30;

/// The flow of a packet.
///
/// # Errors
///
/// When source and destination are of two address families.
pub fn flow_of(packet: &ExplainRequest) -> Result<FlowKey, String> {
    let number = goal::protocol_number(packet.protocol);
    FlowKey::between(packet.source, packet.destination, number).ok_or_else(|| {
        format!(
            "{} and {} are of two address families; no packet has both",
            packet.source.ip(),
            packet.destination.ip()
        )
    })
}

/// What the data path would do with a packet. `name_of`: the name of an interface by its index in
/// `EGRESS`.
#[must_use]
pub fn explain(
    packet: &ExplainRequest,
    facts: &Facts,
    name_of: impl Fn(u16) -> String,
) -> Explanation {
    let mut notes = Vec::new();
    let verdict = match &facts.found {
        Found::Nothing { is_vip } => {
            refused(Reason::NotForService, words::not_for_service(*is_vip))
        }
        Found::Reply {
            service: _,
            backend,
        } => ExplainedVerdict {
            action: ExplainedAction::Reply,
            backend: facts.backends.get(backend).map(endpoint::of),
            reason: None,
            why: words::REPLY.to_owned(),
        },
        Found::Service(service) => match &facts.slot {
            Some(slot) => {
                if slot.ring != slot.word.stable() {
                    notes.push(words::RING_DIFFERS.to_owned());
                }
                judge(packet, facts, service, slot, &mut notes)
            }
            None => refused(Reason::Inconsistent, words::NO_SLOT.to_owned()),
        },
    };
    Explanation {
        packet: *packet,
        service: facts.service().map(|service| ExplainedService {
            number: facts.service_number,
            name: None,
            forward: forward_of(service.forward),
            pool: facts.pool.clone(),
            policy: policy_of(service.state),
            affinity: (service.state & service_state::CLIENT_IP != 0).then_some(Affinity::ClientIp),
            tracked: service.state & service_state::TRACKED != 0,
            moving: service.state & service_state::MOVING != 0,
            refuses: service.state & service_state::REFUSE != 0,
        }),
        slot: facts
            .slot
            .as_ref()
            .map(|slot| explained_slot(slot, facts.now_s)),
        pending: facts.pending.map(|value| record(value, facts.now_s, true)),
        flow: facts.flow.map(|value| record(value, facts.now_s, false)),
        backends: backends(facts, name_of),
        verdict,
        notes,
    }
}

/// The way of a packet to a service, as `xlb-ebpf` has it.
fn judge(
    packet: &ExplainRequest,
    facts: &Facts,
    service: &Service,
    slot: &Slot,
    notes: &mut Vec<String>,
) -> ExplainedVerdict {
    let state = service.state;
    let by_address = packet.fragment && service.options & service_option::FRAGMENTS_BY_ADDRESS != 0;
    if packet.fragment {
        let note = if by_address {
            words::FRAGMENTS_BY_ADDRESS
        } else {
            words::FRAGMENTS_FOLLOW
        };
        notes.push(note.to_owned());
    }
    let (number, why) = if state & service_state::NOT_AT_REST == 0 {
        (slot.ring, words::AT_REST.to_owned())
    } else if state & service_state::REFUSE != 0 {
        return refused(Reason::AllDown, words::ALL_DOWN.to_owned());
    } else {
        let tracked = state & service_state::TRACKED != 0;
        let by_connection = state & service_state::BY_CONNECTION != 0;
        let word = slot.word.with_mark(slot.word.is_marked() || tracked);
        let kind = kind_of(packet, facts, tracked, notes);
        let mut tables = tables::ReadOnly::new(facts);
        let verdict = rule::select(&mut tables, word, kind, by_connection);
        let why = words::of(verdict, slot.word, facts.choice);
        if verdict.is_drop() {
            return refused(Reason::FlowTableFull, why);
        }
        if matches!(verdict.what, What::FullToStable | What::FlowFull) {
            notes.push(format!(
                "counted as {} besides",
                Reason::FlowTableFullToStable.name()
            ));
        }
        if verdict.what == What::Missed
            && service.options & service_option::SECOND_CHANCE != 0
            && word.target() != word.stable()
        {
            notes.push(words::SECOND_CHANCE.to_owned());
        }
        (verdict.backend, why)
    };
    if number == 0 {
        return refused(Reason::NoBackend, words::NO_BACKEND.to_owned());
    }
    let Some(backend) = facts.backends.get(&number) else {
        return refused(Reason::Inconsistent, words::NO_ENTRY.to_owned());
    };
    if service.forward == forward::LOCAL {
        return ExplainedVerdict {
            backend: Some(endpoint::of(backend)),
            ..refused(Reason::Local, words::LOCAL.to_owned())
        };
    }
    if !NextHop(backend.next_hop).is_known() {
        return ExplainedVerdict {
            backend: Some(endpoint::of(backend)),
            ..refused(
                Reason::BackendUnresolved,
                format!("{why}; but {}", words::UNRESOLVED),
            )
        };
    }
    ExplainedVerdict {
        action: ExplainedAction::Forward,
        backend: Some(endpoint::of(backend)),
        reason: None,
        why,
    }
}

/// What the packet is to the rule.
fn kind_of(packet: &ExplainRequest, facts: &Facts, tracked: bool, notes: &mut Vec<String>) -> Kind {
    let pending = facts.pending.map(FlowValue::pending);
    let flow = facts.flow.map(FlowValue::flow);
    match packet.protocol {
        Protocol::Udp if tracked => Kind::TrackedDatagram,
        Protocol::Udp => Kind::Datagram,
        Protocol::Sctp if packet.syn => Kind::Syn {
            isn: SctpHeader::INITIAL,
        },
        Protocol::Sctp => Kind::Segment {
            sequence: SctpHeader::INITIAL + 1,
        },
        Protocol::Tcp if packet.syn => {
            let recorded = pending.map(|p| p.isn).or(flow.map(|f| f.isn));
            let another = recorded.map_or(0, |isn| isn.wrapping_add(FAR));
            if packet.sequence.is_none() && recorded.is_some() {
                notes.push(words::ANOTHER_SYN.to_owned());
            }
            Kind::Syn {
                isn: packet.sequence.unwrap_or(another),
            }
        }
        Protocol::Tcp => {
            if packet.sequence.is_none() && pending.is_some() && flow.is_some() {
                notes.push(words::OF_THE_HANDSHAKE.to_owned());
            }
            let next = pending.map_or(0, |pending| pending.isn.wrapping_add(1));
            Kind::Segment {
                sequence: packet.sequence.unwrap_or(next),
            }
        }
    }
}

fn refused(reason: Reason, why: String) -> ExplainedVerdict {
    ExplainedVerdict {
        action: match reason.action() {
            Action::Pass => ExplainedAction::Pass,
            Action::Drop => ExplainedAction::Drop,
            Action::Tx | Action::Redirect => ExplainedAction::Forward,
        },
        backend: None,
        reason: Some(reason.name().to_owned()),
        why,
    }
}

fn explained_slot(slot: &Slot, now_s: u32) -> ExplainedSlot {
    ExplainedSlot {
        slot: slot.slot,
        ring_slots: slot.ring_slots,
        hash: slot.hash,
        ring: slot.ring,
        stable: slot.word.stable(),
        target: slot.word.target(),
        marked: slot.word.is_marked(),
        settling: slot.word.is_settling(),
        last_miss_age_s: (slot.word.is_marked() && slot.last_miss_s != 0)
            .then(|| age_s(now_s, slot.last_miss_s)),
    }
}

fn record(value: FlowValue, now_s: u32, is_pending: bool) -> ExplainedRecord {
    let pending = value.pending();
    let age_s = age_s(now_s, value.seen_s);
    ExplainedRecord {
        backend: pending.backend,
        initial_sequence: pending.isn,
        age_s,
        confirmed: is_pending && pending.confirmed,
        tombstone: pending.tombstone,
        expired: is_pending && !pending.confirmed && age_s > PENDING_TTL_S,
    }
}

fn backends(facts: &Facts, name_of: impl Fn(u16) -> String) -> Vec<ExplainedBackend> {
    let mut named: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (number, by) in facts.named() {
        named.entry(number).or_default().push(by.to_owned());
    }
    named
        .into_iter()
        .map(|(number, named_by)| {
            let entry = facts.backends.get(&number);
            let has = |bit: u16| entry.is_some_and(|entry| entry.flags & bit != 0);
            ExplainedBackend {
                number,
                endpoint: entry.map(endpoint::of),
                named_by,
                used: has(backend_flag::USED),
                drain: has(backend_flag::DRAIN),
                down: has(backend_flag::DOWN),
                dead: has(backend_flag::DEAD),
                next_hop: entry.and_then(|entry| hop_text(entry, &name_of)),
            }
        })
        .collect()
}

fn hop_text(entry: &Backend, name_of: impl Fn(u16) -> String) -> Option<String> {
    let hop = NextHop(entry.next_hop);
    hop.is_known().then(|| {
        if hop == NextHop::LOCAL {
            return "this host".to_owned();
        }
        let mac = hop.mac().map(|byte| format!("{byte:02x}")).join(":");
        format!("{mac} {}", name_of(hop.egress()))
    })
}

const fn policy_of(state: u32) -> Policy {
    if state & service_state::ROUND_ROBIN != 0 {
        Policy::RoundRobin
    } else if state & service_state::LEAST_CONNECTIONS != 0 {
        Policy::LeastConnections
    } else {
        Policy::Maglev
    }
}

const fn forward_of(number: u8) -> Option<Forward> {
    match number {
        forward::DNAT => Some(Forward::Dnat),
        forward::L2_DSR => Some(Forward::L2Dsr),
        forward::IPIP => Some(Forward::Ipip),
        forward::GUE => Some(Forward::Gue),
        forward::LOCAL => Some(Forward::Local),
        forward::FULL_NAT => Some(Forward::FullNat),
        _ => None,
    }
}
