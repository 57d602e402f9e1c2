//! Packets of connections that the balancer knows nothing of, while their slot moves: where the
//! service says so, they name the slot's other backend as an alternative.

use xlb_common::{
    maps::{feature, forward, name, protocol, service_option, service_state},
    reason::Reason,
    slot::SlotWord,
};

use crate::{
    check::Expected,
    decap_rig::tunnel_of,
    frame::{Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, UDP_BYTES, encapsulated},
    kinds::{
        ALL_FEATURES, Kind, MTU, backend, backend_address, backend_mac, egress_mac, outer_source,
    },
    rig::Rig,
    too_big,
};

const STABLE: u16 = 30;
const TARGET: u16 = 31;

fn kinds() -> Vec<Kind> {
    let both = |forward| [false, true].map(|v6| Kind::new(v6, protocol::TCP, forward));
    [forward::IPIP, forward::GUE].map(both).concat()
}

/// The feature of a kind's mode.
const fn mode(kind: Kind) -> u32 {
    if kind.forward == forward::GUE {
        feature::GUE
    } else {
        feature::IPIP
    }
}

/// A service with one slot of this word, whose packets may name an alternative.
fn moving(features: u32, kind: Kind, word: SlotWord) -> Rig {
    let mut rig = Rig::new(features);
    let mut service = kind.service();
    service.state = service_state::MOVING;
    service.options = service_option::SECOND_CHANCE;
    rig.put_service(kind, &service);
    rig.put_slot(kind.slot(), word);
    for (position, number) in [(0, STABLE), (1, TARGET)] {
        let mut value = backend(kind.v6, number);
        value.position = position;
        rig.put_backend(number, &value);
    }
    rig
}

/// The packet in a header to each of these backends, the first one outermost.
fn reaches(rig: &Rig, kind: Kind, packet: &Frame, numbers: &[u16]) -> Expected {
    let first = numbers[0];
    let inner = packet.with(|frame| {
        frame.source_mac = egress_mac(1);
        frame.destination_mac = backend_mac(first);
        frame.ttl -= 1;
    });
    let tunnel = tunnel_of(&rig.run(&packet.bytes()).bytes, kind.v6, kind.forward);
    let bytes = numbers.iter().rev().fold(inner.bytes(), |bytes, &number| {
        let to = backend_address(kind.v6, number);
        encapsulated(&bytes, outer_source(kind.v6), to, tunnel)
    });
    let counter = kind.service().counter_base + u32::from(first - STABLE);
    let mut expected = Expected::forwarded(packet, counter, bytes);
    if numbers.len() > 1 {
        expected.reasons.push(Reason::SecondChance);
    }
    expected
}

fn segment(kind: Kind) -> Frame {
    kind.request()
        .with(|frame| frame.carries = Carries::Segment(77))
}

#[test]
fn a_segment_without_a_record_names_the_target() {
    for kind in kinds() {
        let rig = moving(ALL_FEATURES, kind, SlotWord::marked(STABLE, TARGET));
        let segment = segment(kind);
        let expected = reaches(&rig, kind, &segment, &[STABLE, TARGET]);
        rig.check(&format!("{kind:?}"), &segment.bytes(), &expected);
        let alone = moving(
            feature::IPV4 | feature::IPV6 | mode(kind) | feature::SECOND_CHANCE,
            kind,
            SlotWord::marked(STABLE, TARGET),
        );
        alone.check(&format!("{kind:?} alone"), &segment.bytes(), &expected);
    }
}

#[test]
fn a_connection_that_is_known_names_none() {
    for kind in kinds() {
        let rig = moving(ALL_FEATURES, kind, SlotWord::marked(STABLE, TARGET));
        let open = kind.request();
        let expected = reaches(&rig, kind, &open, &[TARGET]);
        rig.check("SYN", &open.bytes(), &expected);
        assert_eq!(rig.records(name::PENDING).len(), 1);
        let next = open.with(|frame| frame.carries = Carries::Segment(1001));
        let expected = reaches(&rig, kind, &next, &[TARGET]);
        rig.check("recorded", &next.bytes(), &expected);
    }
}

#[test]
fn a_slot_with_one_meaning_names_none() {
    for kind in kinds() {
        let segment = segment(kind);
        for word in [
            SlotWord::rest(STABLE),
            SlotWord::marked(STABLE, STABLE),
            SlotWord::rest(STABLE).with_target(TARGET),
        ] {
            let rig = moving(ALL_FEATURES, kind, word);
            let expected = reaches(&rig, kind, &segment, &[STABLE]);
            rig.check(&format!("{word:?}"), &segment.bytes(), &expected);
        }
    }
}

#[test]
fn a_service_or_a_program_without_it_names_none() {
    for kind in kinds() {
        let segment = segment(kind);
        let word = SlotWord::marked(STABLE, TARGET);
        let rig = moving(ALL_FEATURES & !feature::SECOND_CHANCE, kind, word);
        let expected = reaches(&rig, kind, &segment, &[STABLE]);
        rig.check("the program", &segment.bytes(), &expected);
        let mut rig = moving(ALL_FEATURES, kind, word);
        let mut service = kind.service();
        service.state = service_state::MOVING;
        rig.put_service(kind, &service);
        let expected = reaches(&rig, kind, &segment, &[STABLE]);
        rig.check("the service", &segment.bytes(), &expected);
    }
}

#[test]
fn two_backends_of_one_address_are_no_alternatives() {
    for kind in kinds() {
        let mut rig = moving(ALL_FEATURES, kind, SlotWord::marked(STABLE, TARGET));
        let mut other = backend(kind.v6, STABLE);
        other.position = 1;
        other.port_be = 81_u16.to_be();
        rig.put_backend(TARGET, &other);
        let segment = segment(kind);
        let expected = reaches(&rig, kind, &segment, &[STABLE]);
        rig.check("the same address", &segment.bytes(), &expected);
    }
}

#[test]
fn a_packet_that_would_be_too_big_names_none() {
    for kind in kinds() {
        let rig = moving(ALL_FEATURES, kind, SlotWord::marked(STABLE, TARGET));
        let udp = if kind.forward == forward::GUE {
            UDP_BYTES
        } else {
            0
        };
        let outer = udp + if kind.v6 { IPV6_BYTES } else { IPV4_BYTES };
        let of_bytes = |ip_bytes: usize| {
            segment(kind).with(|frame| {
                let headers = frame.transport_offset() - ETHERNET_BYTES + 20;
                frame.payload = vec![7; ip_bytes - headers];
            })
        };
        let room = usize::from(MTU);
        for (what, bytes, numbers) in [
            ("fits twice", room - 2 * outer, &[STABLE, TARGET][..]),
            ("fits once", room - 2 * outer + 1, &[STABLE]),
            ("fits barely", room - outer, &[STABLE]),
        ] {
            let packet = of_bytes(bytes);
            let expected = reaches(&rig, kind, &packet, numbers);
            rig.check(&format!("{kind:?} {what}"), &packet.bytes(), &expected);
        }
        let exceeds = of_bytes(room - outer + 1);
        let answered = too_big::answered(&exceeds, room - outer);
        rig.check("fits not", &exceeds.bytes(), &answered);
    }
}
