//! The program picks the slot that the host computes for a flow.

use xlb_common::{
    flow::FlowKey,
    maps::{forward, name, protocol, service_state},
    slot::SlotWord,
};

use crate::{
    check::Expected,
    kinds::{ALL_FEATURES, Kind},
    program::HASH_KEY,
    rig::Rig,
};

/// Slots of the ring in these tests: enough that no slot is hit by chance.
const RING_SLOTS: u32 = 1021;

/// First of them, behind the slots of the other kinds.
const RING_OFFSET: u32 = 500;

/// Ports of clients: the usual ones, and those whose bytes are all the same or all differ.
const CLIENT_PORTS: [u16; 6] = [1, 0x0102, 40_000, 51_812, 0x8080, 65_535];

fn kinds() -> impl Iterator<Item = Kind> {
    [false, true].into_iter().flat_map(|v6| {
        [protocol::TCP, protocol::UDP].map(|number| Kind::new(v6, number, forward::DNAT))
    })
}

/// A service whose ring is empty.
fn rig(kind: Kind, state: u32) -> Rig {
    let mut rig = Rig::new(ALL_FEATURES);
    let mut service = kind.service();
    service.state = state;
    service.ring_offset = RING_OFFSET;
    service.ring_slots = RING_SLOTS;
    rig.put_service(kind, &service);
    rig
}

/// The frame of a client, its key, and its slot in the arena.
fn flow(kind: Kind, port: u16) -> (crate::frame::Frame, FlowKey, u32) {
    let request = kind.request().with(|frame| frame.source.set_port(port));
    let key = FlowKey::between(request.source, request.destination, kind.protocol)
        .expect("one address family");
    (request, key, RING_OFFSET + key.slot(HASH_KEY, RING_SLOTS))
}

/// Only the slot that the host computed names a backend.
#[test]
fn at_rest_the_slot_is_the_hosts() {
    for kind in kinds() {
        let mut rig = rig(kind, 0);
        for port in CLIENT_PORTS {
            let (request, _, slot) = flow(kind, port);
            rig.put_ring(slot, kind.number());
            let output = kind.forwarded(&request).bytes();
            let expected = Expected::forwarded(&request, kind.counter(), output);
            rig.check(
                &format!("{kind:?} from port {port}"),
                &request.bytes(),
                &expected,
            );
            rig.put_ring(slot, 0);
        }
    }
}

/// The same of slots that move, whose flows are recorded by a key that the host computes too.
#[test]
fn while_slots_move_slot_and_key_are_the_hosts() {
    for kind in kinds() {
        let mut rig = rig(kind, service_state::MOVING);
        for port in CLIENT_PORTS {
            let (request, key, slot) = flow(kind, port);
            rig.put_slot(slot, SlotWord::marked(0, kind.number()));
            let output = kind.forwarded(&request).bytes();
            let expected = Expected::forwarded(&request, kind.counter(), output);
            rig.check(
                &format!("{kind:?} from port {port}"),
                &request.bytes(),
                &expected,
            );
            rig.put_slot(slot, SlotWord::default());
            let recorded = rig.has_record(name::PENDING, &key);
            assert_eq!(
                recorded,
                kind.protocol == protocol::TCP,
                "{kind:?} from port {port}"
            );
        }
    }
}
