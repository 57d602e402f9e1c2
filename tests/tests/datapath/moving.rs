//! Slots that move from one backend to another: new flows go to the new one, old flows stay.

use std::net::SocketAddr;

use xlb_common::{
    maps::{backend_flag, forward, name, protocol, service_state},
    reason::Reason,
    record::{FlowValue, TOMBSTONE},
    slot::SlotWord,
};

use crate::{
    check::Expected,
    frame::{Carries, Frame},
    kinds::{ALL_FEATURES, CLIENT_PORT, Kind, backend, backend_address, backend_mac, egress_mac},
    program::FLOW_ENTRIES,
    rig::Rig,
};

pub(crate) const STABLE: u16 = 30;
pub(crate) const TARGET: u16 = 31;

/// A service with one slot, which moves from `STABLE` to `TARGET`.
pub(crate) fn moving(kind: Kind, word: SlotWord) -> Rig {
    let mut rig = Rig::new(ALL_FEATURES);
    let mut service = kind.service();
    service.state = service_state::MOVING;
    rig.put_service(kind, &service);
    rig.put_slot(kind.slot(), word);
    // The ring says neither: while slots move it is not read.
    rig.put_ring(kind.slot(), kind.number());
    for (position, number) in [(0, STABLE), (1, TARGET)] {
        let mut value = backend(kind.v6, number);
        value.position = position;
        rig.put_backend(number, &value);
    }
    rig
}

/// A packet of the flow from a client's port.
pub(crate) fn packet(kind: Kind, port: u16, carries: Carries) -> Frame {
    kind.request().with(|frame| {
        frame.source.set_port(port);
        frame.carries = carries;
    })
}

/// The packet reaches this backend.
pub(crate) fn reaches(kind: Kind, packet: &Frame, number: u16) -> Expected {
    let output = packet.with(|frame| {
        frame.source_mac = egress_mac(1);
        frame.destination_mac = backend_mac(number);
        frame.destination = SocketAddr::new(backend_address(kind.v6, number), 8080);
        frame.ttl -= 1;
    });
    let counter = kind.service().counter_base + u32::from(number - STABLE);
    Expected::forwarded(packet, counter, output.bytes())
}

pub(crate) fn tcp_kinds() -> [Kind; 2] {
    [false, true].map(|v6| Kind::new(v6, protocol::TCP, forward::DNAT))
}

/// The one record's backend and flags.
pub(crate) fn only_record(rig: &Rig, map: &str) -> (u16, u16) {
    let records = rig.records(map);
    assert_eq!(records.len(), 1, "records of {map}");
    let word = u64::from_ne_bytes(records[0].1[..8].try_into().expect("eight bytes"));
    let value = FlowValue {
        word,
        ..FlowValue::default()
    };
    (value.backend(), value.flags())
}

#[test]
fn a_new_flow_goes_to_the_target_and_stays_there() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let at = |carries| packet(kind, CLIENT_PORT, carries);
        let check = |rig: &Rig, what: &str, carries, number| {
            let packet = at(carries);
            rig.check(what, &packet.bytes(), &reaches(kind, &packet, number));
        };
        check(&rig, "SYN", Carries::Syn(1000), TARGET);
        assert_eq!(only_record(&rig, name::PENDING), (TARGET, 0));
        assert!(rig.records(name::FLOWS).is_empty());
        check(&rig, "SYN again", Carries::Syn(1000), TARGET);
        assert_eq!(only_record(&rig, name::PENDING), (TARGET, 0));
        check(&rig, "ACK", Carries::Segment(1001), TARGET);
        assert_eq!(only_record(&rig, name::FLOWS), (TARGET, 0));
        assert!(rig.records(name::PENDING).is_empty(), "promoted");
        // Far from where the handshake was.
        check(&rig, "later", Carries::Segment(1_000_000_000), TARGET);
        assert_eq!(rig.last_miss_s(kind.slot()), 0, "stable was not used");
        // The slot moves on, and the flow does not.
        rig.put_slot(kind.slot(), SlotWord::marked(STABLE, STABLE));
        check(&rig, "after another move", Carries::Segment(2000), TARGET);
    }
}

#[test]
fn a_flow_older_than_the_move_stays_with_stable() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let packet = packet(kind, CLIENT_PORT, Carries::Segment(5));
        rig.check("ACK", &packet.bytes(), &reaches(kind, &packet, STABLE));
        assert!(rig.records(name::PENDING).is_empty());
        assert!(rig.records(name::FLOWS).is_empty());
        assert_ne!(
            rig.last_miss_s(kind.slot()),
            0,
            "the use of stable is noted"
        );
    }
}

#[test]
fn a_segment_far_from_the_handshake_is_not_its_end() {
    for kind in tcp_kinds() {
        let rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let syn = packet(kind, CLIENT_PORT, Carries::Syn(1000));
        rig.check("SYN", &syn.bytes(), &reaches(kind, &syn, TARGET));
        let old = packet(kind, CLIENT_PORT, Carries::Segment(900_000_000));
        rig.check("old ACK", &old.bytes(), &reaches(kind, &old, STABLE));
        assert_eq!(only_record(&rig, name::PENDING), (TARGET, 0));
    }
}

#[test]
fn a_slot_without_a_mark_needs_no_record() {
    for kind in tcp_kinds() {
        let rig = moving(kind, SlotWord::rest(STABLE));
        for carries in [Carries::Syn(1), Carries::Segment(2)] {
            let packet = packet(kind, CLIENT_PORT, carries);
            rig.check("at rest", &packet.bytes(), &reaches(kind, &packet, STABLE));
        }
        assert!(rig.records(name::PENDING).is_empty());
    }
}

#[test]
fn a_datagram_follows_its_slot() {
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::UDP, forward::DNAT);
        let rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let packet = packet(kind, CLIENT_PORT, Carries::Udp);
        rig.check("UDP", &packet.bytes(), &reaches(kind, &packet, TARGET));
        assert!(rig.records(name::FLOWS).is_empty());
    }
}

/// Opens as many flows as there is room for.
fn fill(rig: &Rig, kind: Kind) {
    for port in 0..FLOW_ENTRIES as u16 {
        let syn = packet(kind, 1000 + port, Carries::Syn(1));
        rig.check("room", &syn.bytes(), &reaches(kind, &syn, TARGET));
    }
    assert_eq!(rig.records(name::PENDING).len(), FLOW_ENTRIES as usize);
}

#[test]
fn without_room_new_flows_go_to_stable_and_none_is_evicted() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        fill(&rig, kind);
        let syn = packet(kind, CLIENT_PORT, Carries::Syn(1));
        let mut expected = reaches(kind, &syn, STABLE);
        expected.reasons = vec![Reason::FlowTableFullToStable];
        rig.check("full", &syn.bytes(), &expected);
        assert_ne!(
            rig.last_miss_s(kind.slot()),
            0,
            "the use of stable is noted"
        );
        assert_eq!(rig.records(name::PENDING).len(), FLOW_ENTRIES as usize);
        let first = packet(kind, 1000, Carries::Segment(2));
        rig.check("the first", &first.bytes(), &reaches(kind, &first, TARGET));
    }
}

#[test]
fn without_room_nothing_goes_to_a_stable_that_is_down_or_settling() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        fill(&rig, kind);
        let syn = packet(kind, CLIENT_PORT, Carries::Syn(1)).bytes();
        let dropped = Expected::dropped(Reason::FlowTableFull);
        let settling = SlotWord::marked(STABLE, TARGET).with_settling(true);
        rig.put_slot(kind.slot(), settling);
        rig.check("settling", &syn, &dropped);
        rig.put_slot(kind.slot(), SlotWord::marked(STABLE, TARGET));
        let mut value = backend(kind.v6, STABLE);
        value.flags |= backend_flag::DOWN;
        rig.put_backend(STABLE, &value);
        rig.check("down", &syn, &dropped);
    }
}

#[test]
fn a_flow_whose_backend_is_dead_moves_to_the_target() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let mut value = backend(kind.v6, STABLE);
        value.position = 0;
        value.flags |= backend_flag::DEAD;
        rig.put_backend(STABLE, &value);
        let packet = packet(kind, CLIENT_PORT, Carries::Segment(5));
        rig.check("ACK", &packet.bytes(), &reaches(kind, &packet, TARGET));
    }
}

#[test]
fn a_confirmed_flow_stays_when_flows_has_no_room() {
    for kind in tcp_kinds() {
        let rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        fill(&rig, kind);
        for port in 0..FLOW_ENTRIES as u16 {
            let ack = packet(kind, 1000 + port, Carries::Segment(2));
            rig.check("promoted", &ack.bytes(), &reaches(kind, &ack, TARGET));
        }
        assert!(rig.records(name::PENDING).is_empty());
        for carries in [
            Carries::Syn(1),
            Carries::Segment(2),
            Carries::Segment(1 << 30),
        ] {
            let packet = packet(kind, CLIENT_PORT, carries);
            rig.check(
                "confirmed",
                &packet.bytes(),
                &reaches(kind, &packet, TARGET),
            );
        }
        let (number, flags) = only_record(&rig, name::PENDING);
        assert_eq!((number, flags), (TARGET, xlb_common::record::CONFIRMED));
    }
}

#[test]
fn a_syn_beside_a_tombstone_is_dropped() {
    for kind in tcp_kinds() {
        let mut rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        for carries in [Carries::Syn(1), Carries::Segment(2)] {
            let packet = packet(kind, CLIENT_PORT, carries);
            rig.check("opened", &packet.bytes(), &reaches(kind, &packet, TARGET));
        }
        let (key, mut value) = rig.records(name::FLOWS)[0];
        let word = u64::from_ne_bytes(value[..8].try_into().expect("eight bytes"));
        value[..8].copy_from_slice(&(word | u64::from(TOMBSTONE) << 16).to_ne_bytes());
        rig.put_record(name::FLOWS, key, value);
        let syn = packet(kind, CLIENT_PORT, Carries::Syn(7)).bytes();
        rig.check("buried", &syn, &Expected::dropped(Reason::FlowTableFull));
    }
}
