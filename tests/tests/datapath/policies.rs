//! Policies: which backend a new connection goes to, that what is established stays there, and what
//! is counted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use xlb_common::{
    flow::FlowKey,
    hash,
    maps::{backend_flag, forward, name, protocol, service_state},
    reason::Reason,
    slot::SlotWord,
};

use crate::{
    check::Expected,
    frame::{Carries, Frame},
    kinds::{ALL_FEATURES, CLIENT_PORT, Kind, backend},
    moving::{STABLE, TARGET, moving, only_record, packet, reaches, tcp_kinds},
    program::{FLOW_ENTRIES, HASH_KEY},
    rig::Rig,
};

const ROUND_ROBIN: u32 = service_state::TRACKED | service_state::ROUND_ROBIN;
const LEAST_CONNECTIONS: u32 = service_state::TRACKED | service_state::LEAST_CONNECTIONS;

/// A service in this state, with one slot that is at rest with `STABLE`; `TARGET` has none.
fn tracked(kind: Kind, state: u32) -> Rig {
    let mut rig = moving(kind, SlotWord::rest(STABLE));
    let mut service = kind.service();
    service.state = state;
    rig.put_service(kind, &service);
    rig
}

/// The same with two slots, the second of which is at rest with `TARGET`.
fn two_slots(kind: Kind, state: u32) -> Rig {
    let mut rig = tracked(kind, state);
    let mut service = kind.service();
    service.state = state;
    service.ring_slots = 2;
    rig.put_service(kind, &service);
    rig.put_slot(kind.slot() + 1, SlotWord::rest(TARGET));
    rig
}

/// The same with backends that take turns in this order.
fn turns(kind: Kind, order: &[u16]) -> Rig {
    let mut rig = tracked(kind, ROUND_ROBIN);
    let mut service = kind.service();
    service.state = ROUND_ROBIN;
    service.sequence_length = order.len() as u32;
    rig.put_service(kind, &service);
    for (place, &number) in (0u32..).zip(order) {
        rig.put_turn(kind.slot() + place, number);
    }
    rig
}

/// Sends a packet from a port, which has to reach this backend.
fn check(rig: &Rig, kind: Kind, port: u16, carries: Carries, number: u16) {
    let packet = packet(kind, port, carries);
    let what = format!("{kind:?} from port {port} to backend {number}");
    rig.check(&what, &packet.bytes(), &reaches(kind, &packet, number));
}

fn udp_kinds() -> [Kind; 2] {
    [false, true].map(|v6| Kind::new(v6, protocol::UDP, forward::DNAT))
}

#[test]
fn backends_take_turns_by_their_weights_and_connections_stay() {
    for kind in tcp_kinds() {
        let mut rig = turns(kind, &[STABLE, TARGET, STABLE]);
        let order = [STABLE, TARGET, STABLE, STABLE, TARGET, STABLE];
        for (port, &number) in (1000..).zip(&order) {
            check(&rig, kind, port, Carries::Syn(1), number);
        }
        assert_eq!(rig.records(name::PENDING).len(), order.len());
        // A SYN that comes again is no connection more.
        check(&rig, kind, 1000, Carries::Syn(1), STABLE);
        for (port, &number) in (1000..).zip(&order) {
            check(&rig, kind, port, Carries::Segment(2), number);
        }
        assert_eq!(rig.records(name::FLOWS).len(), order.len());
        // Turns and slots may change.
        rig.put_turn(kind.slot(), TARGET);
        rig.put_slot(kind.slot(), SlotWord::marked(STABLE, TARGET));
        for (port, &number) in (1000..).zip(&order) {
            check(&rig, kind, port, Carries::Segment(500_000), number);
        }
        // A port that is used again takes the next turn, which is the changed one.
        check(&rig, kind, 1000, Carries::Syn(900_000), TARGET);
    }
}

#[test]
fn without_a_turn_the_ring_decides() {
    for kind in tcp_kinds() {
        let rig = turns(kind, &[]);
        check(&rig, kind, 1000, Carries::Syn(1), STABLE);
        assert_eq!(only_record(&rig, name::PENDING), (STABLE, 0));
        let mut rig = turns(kind, &[TARGET]);
        let mut leaving = backend(kind.v6, TARGET);
        leaving.flags |= backend_flag::DRAIN;
        rig.put_backend(TARGET, &leaving);
        check(&rig, kind, 1000, Carries::Syn(1), STABLE);
    }
}

#[test]
fn what_is_older_than_the_policy_stays_with_its_slot() {
    for kind in tcp_kinds() {
        let mut rig = turns(kind, &[TARGET]);
        check(&rig, kind, 1000, Carries::Segment(5), STABLE);
        assert!(rig.records(name::FLOWS).is_empty());
        assert_ne!(rig.last_miss_s(kind.slot()), 0, "stable is needed");
        check(&rig, kind, 1001, Carries::Syn(5), TARGET);
    }
}

#[test]
fn a_policy_without_room_sends_to_stable() {
    for kind in tcp_kinds() {
        let rig = turns(kind, &[TARGET]);
        for port in 0..FLOW_ENTRIES as u16 {
            check(&rig, kind, 1000 + port, Carries::Syn(1), TARGET);
        }
        let syn = packet(kind, CLIENT_PORT, Carries::Syn(1));
        let mut expected = reaches(kind, &syn, STABLE);
        expected.reasons = vec![Reason::FlowTableFullToStable];
        rig.check("full", &syn.bytes(), &expected);
        check(&rig, kind, CLIENT_PORT, Carries::Segment(2), STABLE);
        check(&rig, kind, 1000, Carries::Segment(2), TARGET);
    }
}

#[test]
fn the_less_loaded_of_two_gets_the_connection() {
    for kind in tcp_kinds() {
        let mut rig = two_slots(kind, LEAST_CONNECTIONS);
        rig.put_connections(STABLE, 3);
        // As many as it takes until both have as much to do.
        for port in 1000..1003 {
            check(&rig, kind, port, Carries::Syn(1), TARGET);
        }
        assert_eq!((rig.connections(STABLE), rig.connections(TARGET)), (3, 3));
        // Three times the weight is three times the share.
        let mut heavy = backend(kind.v6, STABLE);
        heavy.position = 0;
        heavy.weight = 3;
        rig.put_backend(STABLE, &heavy);
        for port in 1003..1008 {
            check(&rig, kind, port, Carries::Syn(1), STABLE);
        }
        assert_eq!((rig.connections(STABLE), rig.connections(TARGET)), (8, 3));
    }
}

#[test]
fn a_connection_counts_from_its_syn_to_its_end_and_once() {
    for kind in tcp_kinds() {
        let mut rig = two_slots(kind, LEAST_CONNECTIONS);
        rig.put_connections(STABLE, 50);
        let counted = |rig: &mut Rig, carries: Carries, connections: i64| {
            check(rig, kind, 1000, carries, TARGET);
            assert_eq!(rig.connections(TARGET), connections);
            assert_eq!(rig.connections(STABLE), 50);
        };
        counted(&mut rig, Carries::Syn(1), 1);
        counted(&mut rig, Carries::Syn(1), 1);
        // Another attempt from the same port takes the place of the first.
        counted(&mut rig, Carries::Syn(100_000), 1);
        counted(&mut rig, Carries::Segment(100_001), 1);
        assert!(rig.records(name::PENDING).is_empty(), "promoted");
        counted(&mut rig, Carries::Segment(100_002), 1);
        counted(&mut rig, Carries::Fin(100_002), 0);
        counted(&mut rig, Carries::Fin(100_002), 0);
        counted(&mut rig, Carries::Rst(100_002), 0);
        // The half-closed connection still talks, and its port may be used again.
        counted(&mut rig, Carries::Segment(100_003), 0);
        counted(&mut rig, Carries::Syn(700_000), 1);
        // The end may come before the handshake's.
        counted(&mut rig, Carries::Rst(700_001), 0);
        counted(&mut rig, Carries::Segment(700_001), 0);
    }
}

#[test]
fn a_port_that_is_used_again_without_an_end_counts_once() {
    for kind in tcp_kinds() {
        let mut rig = two_slots(kind, LEAST_CONNECTIONS);
        rig.put_connections(STABLE, 1);
        check(&rig, kind, 1000, Carries::Syn(1), TARGET);
        check(&rig, kind, 1000, Carries::Segment(2), TARGET);
        rig.put_connections(STABLE, 0);
        check(&rig, kind, 1000, Carries::Syn(500_000), STABLE);
        assert_eq!((rig.connections(STABLE), rig.connections(TARGET)), (1, 1));
        // With the end of the handshake, the older one is over.
        check(&rig, kind, 1000, Carries::Segment(500_001), STABLE);
        assert_eq!((rig.connections(STABLE), rig.connections(TARGET)), (1, 0));
    }
}

#[test]
fn connections_of_a_dead_backend_are_over() {
    for kind in tcp_kinds() {
        let mut rig = two_slots(kind, LEAST_CONNECTIONS);
        rig.put_connections(STABLE, 1);
        check(&rig, kind, 1000, Carries::Syn(1), TARGET);
        check(&rig, kind, 1000, Carries::Segment(2), TARGET);
        rig.put_slot(kind.slot() + 1, SlotWord::rest(STABLE));
        let mut dead = backend(kind.v6, TARGET);
        dead.flags |= backend_flag::DOWN | backend_flag::DEAD;
        rig.put_backend(TARGET, &dead);
        check(&rig, kind, 1000, Carries::Segment(3), STABLE);
        assert_eq!(rig.connections(TARGET), 0);
    }
}

#[test]
fn tracked_datagrams_follow_their_record_and_are_counted() {
    for kind in udp_kinds() {
        let mut rig = tracked(kind, service_state::TRACKED);
        check(&rig, kind, 1000, Carries::Udp, STABLE);
        assert_eq!(only_record(&rig, name::FLOWS), (STABLE, 0));
        rig.put_slot(kind.slot(), SlotWord::rest(TARGET));
        check(&rig, kind, 1000, Carries::Udp, STABLE);
        check(&rig, kind, 1001, Carries::Udp, TARGET);
        for record in rig.records(name::FLOWS) {
            rig.remove_record(name::FLOWS, record.0);
        }
        check(&rig, kind, 1000, Carries::Udp, TARGET);

        let mut rig = two_slots(kind, LEAST_CONNECTIONS);
        rig.put_connections(STABLE, 2);
        for port in [1000, 1001, 1000] {
            check(&rig, kind, port, Carries::Udp, TARGET);
        }
        assert_eq!(rig.connections(TARGET), 2);
    }
}

#[test]
fn datagrams_without_room_go_to_stable() {
    for kind in udp_kinds() {
        let mut rig = tracked(kind, service_state::TRACKED);
        rig.put_slot(kind.slot(), SlotWord::marked(STABLE, TARGET));
        for port in 0..FLOW_ENTRIES as u16 {
            check(&rig, kind, 1000 + port, Carries::Udp, TARGET);
        }
        let datagram = packet(kind, CLIENT_PORT, Carries::Udp);
        let mut expected = reaches(kind, &datagram, STABLE);
        expected.reasons = vec![Reason::FlowTableFullToStable];
        rig.check("full", &datagram.bytes(), &expected);
    }
}

/// Only the slot of the client's address names a backend.
#[test]
fn a_client_has_one_slot_whatever_its_port() {
    const SLOTS: u32 = 1021;
    for kind in tcp_kinds().into_iter().chain(udp_kinds()) {
        let mut rig = Rig::new(ALL_FEATURES);
        let mut service = kind.service();
        service.state = service_state::CLIENT_IP;
        service.ring_offset = 500;
        service.ring_slots = SLOTS;
        rig.put_service(kind, &service);
        let from = |last: u8, port: u16| {
            kind.request().with(|frame: &mut Frame| {
                frame.source.set_ip(if kind.v6 {
                    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, last.into()))
                } else {
                    IpAddr::V4(Ipv4Addr::new(198, 51, 100, last))
                });
                frame.source.set_port(port);
            })
        };
        for last in [7, 8] {
            let request = from(last, 1);
            let key = FlowKey::between(request.source, request.destination, kind.protocol);
            let hash = key.expect("one address family").client_hash(HASH_KEY);
            let slot = 500 + hash::slot(hash, SLOTS);
            rig.put_ring(slot, kind.number());
            for port in [1, 2, 40_000] {
                let request = from(last, port);
                let output = kind.forwarded(&request).bytes();
                let expected = Expected::forwarded(&request, kind.counter(), output);
                rig.check(
                    &format!("{kind:?} port {port}"),
                    &request.bytes(),
                    &expected,
                );
            }
            rig.put_ring(slot, 0);
        }
    }
}
