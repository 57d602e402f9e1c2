//! Reasons in whole sentences.

use xlb_common::{
    rule::{Verdict, What},
    slot::SlotWord,
};

pub(super) const AT_REST: &str = "the pool is at rest: the ring alone decides";
pub(super) const ALL_DOWN: &str =
    "none of the backends is well, and the service says `all_down = \"drop\"`";
pub(super) const NO_BACKEND: &str = "the slot names no backend";
pub(super) const NO_ENTRY: &str = "the slot or a record names a backend that does not exist: the agent is in the middle of a \
     change, or wrong";
pub(super) const NO_SLOT: &str = "the service names a slot that does not exist: the agent is in the middle of a change, or wrong";
pub(super) const UNRESOLVED: &str = "its next hop has no known MAC address";
pub(super) const REPLY: &str = "it is a reply of the backend, and leaves for the client with the virtual address as its source";
pub(super) const LOCAL: &str = "the service is of this host's own stack (`forward = \"local\"`)";
pub(super) const RING_DIFFERS: &str = "ring and slot word name different backends: the agent is in the middle of a change, or died in \
     one; the next agent mends it";
pub(super) const ANOTHER_SYN: &str = "taken as the first packet of another connection than the one that is recorded; --seq with the \
     recorded number asks about a repeated one";
pub(super) const OF_THE_HANDSHAKE: &str = "taken as a packet of the handshake that is pending, not of the older connection that used the \
     same port; --seq tells them apart";

pub(super) const SECOND_CHANCE: &str = "the outer header names the slot's target as the backend that may have the flow if this one \
     does not";

pub(super) const FRAGMENTS_BY_ADDRESS: &str = "fragments of this service go by their addresses: the others of the datagram, and those of all others \
     of this client, go to the same backend, on every node";
pub(super) const FRAGMENTS_FOLLOW: &str = "the other fragments of the datagram go to the same backend, if they come to this node within half a \
     minute of the first (IPv6: a minute)";

pub(super) fn not_for_service(is_vip: bool) -> String {
    if is_vip {
        "the destination is a virtual address, but no service answers at this port and protocol: \
         the packet is for the host"
    } else {
        "no service answers at the destination: the packet is for the host"
    }
    .to_owned()
}

/// Why the rule decided as it did. `choice`: what the policy would choose for a new connection; 0
/// where it is not the policy's to choose.
pub(super) fn of(verdict: Verdict, word: SlotWord, choice: u16) -> String {
    let moves = word.is_marked();
    match verdict.what {
        What::Rest => "other slots of the pool move, this one does not: it has one backend",
        What::Datagram => {
            "the slot moves, and datagrams of a stateless service go to its target at once"
        }
        What::Untracked => "it follows the flow that it is about",
        What::SynRecorded | What::FlowRecorded if choice != 0 => {
            "a new connection: the policy chooses its backend, and it is recorded"
        }
        What::SynRecorded if verdict.backend != word.target() => {
            "a new connection from a port whose older one is recorded: it goes to the same backend, \
             and is recorded"
        }
        What::SynRecorded if word.target() == word.stable() && moves => {
            "a new connection in a slot that has moved and come back: it goes to the target, and is \
             recorded"
        }
        What::SynRecorded if moves => {
            "a new connection in a slot that moves: it goes to the target, and is recorded"
        }
        What::SynRecorded | What::FlowRecorded => {
            "a new flow: it goes to the slot's target, and is recorded"
        }
        What::SynUnrecorded => {
            "a new connection in a slot whose target is also the stable backend, which needs no \
             record"
        }
        What::SynAgain => "a SYN that was seen before: it goes where the first one went",
        What::FullReused => {
            "a new connection from a port whose older one is recorded, and no room for another \
             record: it goes to the same backend"
        }
        What::FullToStable => {
            "a new connection, and no room to record it: it goes to the stable backend, which needs \
             no record"
        }
        What::FullDropped => {
            "a new connection, no room to record it, and a stable backend that can't take it: the \
             client will try again"
        }
        What::TombstoneDropped => {
            "a new connection from a port whose older record is just being deleted: the client will \
             try again"
        }
        What::Promoted => {
            "a handshake that is pending leads there; with this packet it is established, and its \
             record moves to FLOWS"
        }
        What::Confirmed => {
            "a handshake that is pending leads there; with this packet it is established, and its \
             record stays in PENDING, since FLOWS has no room"
        }
        What::Recorded => "the flow is recorded, and goes where the record says",
        What::Missed if moves => {
            "the slot moves and the flow has no record: it is older than the move, and belongs to \
             the stable backend"
        }
        What::Missed => "the flow has no record, and belongs to the stable backend",
        What::Moved => "the flow's backend is dead: it goes to the slot's target",
        What::FlowFull => {
            "a new flow, and no room to record it: it goes to the stable backend, or to the target \
             if that is dead"
        }
    }
    .to_owned()
}
