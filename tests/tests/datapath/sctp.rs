//! SCTP, whose packets no mode may change: a checksum covers all of them.

use xlb_common::{
    endpoint::EndpointTarget,
    maps::{Service, feature, forward, name, protocol, service_state},
    reason::Reason,
    slot::SlotWord,
    wire::SctpHeader,
};

use crate::{
    check::{Expected, PASS, TX, hex},
    forwarding::expected,
    frame::{Carries, ETHERNET_BYTES, Frame, IPV6_BYTES},
    icmp::{answer, error, quote, too_big},
    kinds::{ALL_FEATURES, Kind, backend, backend_mac, egress_mac},
    moving::{STABLE, TARGET, only_record},
    rig::Rig,
};

const INIT: Carries = Carries::Sctp(SctpHeader::INIT);
const DATA: Carries = Carries::Sctp(0);

/// Services of each family and of each mode that leaves packets as they are.
fn kinds() -> impl Iterator<Item = Kind> {
    [false, true].into_iter().flat_map(|v6| {
        [forward::L2_DSR, forward::IPIP, forward::GUE]
            .map(|forward| Kind::new(v6, protocol::UDP, forward))
    })
}

/// The service of a kind, made one of SCTP.
fn service(kind: Kind) -> Service {
    Service {
        protocol: protocol::SCTP,
        ..kind.service()
    }
}

fn rig(features: u32) -> Rig {
    let mut rig = Rig::new(features);
    for kind in kinds() {
        put(&mut rig, kind, &service(kind));
    }
    rig
}

fn put(rig: &mut Rig, kind: Kind, service: &Service) {
    rig.put_service(kind, service);
    let target = EndpointTarget {
        service: kind.number().into(),
        ..EndpointTarget::default()
    };
    rig.put_endpoint(false, kind.vip(), protocol::SCTP, target);
}

fn request(kind: Kind, carries: Carries) -> Frame {
    kind.request().with(|frame| frame.carries = carries)
}

#[test]
fn packets_come_to_the_backend_as_they_are() {
    let rig = rig(ALL_FEATURES);
    for kind in kinds() {
        for (carries, connections) in [(INIT, 1), (DATA, 0)] {
            let request = request(kind, carries);
            let mut output = expected(&rig, kind, &request);
            let name = format!("{kind:?}, {connections} connections");
            let mut wanted = Expected::forwarded(&request, kind.counter(), output.clone());
            wanted.counters[0].1.connections = connections;
            if kind.v6 && kind.forward == forward::GUE {
                // Of a CRC nothing can be made that covers it as the Internet checksum would.
                let udp = ETHERNET_BYTES + IPV6_BYTES;
                output[udp + 6..udp + 8].fill(0);
                let outcome = rig.run(&request.bytes());
                assert_eq!(outcome.action, TX, "{name}");
                assert_eq!(hex(&outcome.bytes), hex(&output), "{name}");
                continue;
            }
            rig.check(&name, &request.bytes(), &wanted);
        }
    }
}

#[test]
fn it_may_be_for_this_host() {
    let mut rig = rig(ALL_FEATURES);
    for kind in kinds() {
        let local = Service {
            forward: forward::LOCAL,
            ..service(kind)
        };
        rig.put_service(kind, &local);
        let request = request(kind, DATA);
        let wanted = Expected {
            action: PASS,
            reasons: vec![Reason::Local],
            ..Expected::forwarded(&request, kind.counter(), request.bytes())
        };
        rig.check(&format!("{kind:?}"), &request.bytes(), &wanted);
    }
}

#[test]
fn what_is_no_packet_of_it_goes_nowhere() {
    let without = rig(ALL_FEATURES & !feature::SCTP);
    let with = rig(ALL_FEATURES);
    for kind in kinds() {
        let request = request(kind, DATA).bytes();
        let expected = Expected::passed(Reason::OtherProtocol, &request);
        without.check("not configured", &request, &expected);
        // To another port there is no service.
        let other = kind.request().with(|frame| {
            frame.carries = DATA;
            frame.destination.set_port(7);
        });
        let expected = Expected::passed(Reason::NotForService, &other.bytes());
        with.check("another port", &other.bytes(), &expected);
        // A header without a chunk.
        let mut short = kind.request().with(|frame| {
            frame.carries = DATA;
            frame.payload.clear();
        });
        short.payload = Vec::new();
        let mut bytes = short.bytes();
        bytes.truncate(short.transport_offset() + 12);
        with.check("short", &bytes, &Expected::dropped(Reason::Truncated));
    }
}

/// The service in this state, with a slot that has this word, of which STABLE and TARGET are the backends.
fn moving(kind: Kind, state: u32, word: SlotWord) -> Rig {
    let mut rig = rig(ALL_FEATURES);
    let service = Service {
        state,
        ..service(kind)
    };
    rig.put_service(kind, &service);
    rig.put_slot(kind.slot(), word);
    for (position, number) in [(0, STABLE), (1, TARGET)] {
        let mut value = backend(kind.v6, number);
        value.position = position;
        rig.put_backend(number, &value);
    }
    rig
}

/// Sends a packet from a port, which has to reach this backend.
fn check(rig: &Rig, kind: Kind, port: u16, carries: Carries, number: u16) {
    let packet = request(kind, carries).with(|frame| frame.source.set_port(port));
    let output = packet.with(|frame| {
        frame.source_mac = egress_mac(1);
        frame.destination_mac = backend_mac(number);
        frame.ttl -= 1;
    });
    let counter = kind.service().counter_base + u32::from(number - STABLE);
    let mut wanted = Expected::forwarded(&packet, counter, output.bytes());
    wanted.counters[0].1.connections = u64::from(carries == INIT);
    rig.check(&format!("{kind:?}, port {port}"), &packet.bytes(), &wanted);
}

fn direct_kinds() -> [Kind; 2] {
    [false, true].map(|v6| Kind::new(v6, protocol::UDP, forward::L2_DSR))
}

#[test]
fn an_association_stays_while_its_slot_moves() {
    for kind in direct_kinds() {
        let rig = moving(
            kind,
            service_state::MOVING,
            SlotWord::marked(STABLE, TARGET),
        );
        // Older than the move; then a new one, its packet of the handshake, and more.
        check(&rig, kind, 1, DATA, STABLE);
        check(&rig, kind, 2, INIT, TARGET);
        check(&rig, kind, 2, INIT, TARGET);
        assert_eq!(only_record(&rig, name::PENDING), (TARGET, 0));
        check(&rig, kind, 2, Carries::Sctp(10), TARGET);
        check(&rig, kind, 2, DATA, TARGET);
        assert_eq!(only_record(&rig, name::FLOWS), (TARGET, 0));
        assert!(rig.records(name::PENDING).is_empty(), "promoted");
        check(&rig, kind, 1, DATA, STABLE);
    }
}

#[test]
fn an_association_counts_from_its_init_to_its_end() {
    let state = service_state::TRACKED | service_state::LEAST_CONNECTIONS;
    for kind in direct_kinds() {
        for end in [
            SctpHeader::ABORT,
            SctpHeader::SHUTDOWN,
            SctpHeader::SHUTDOWN_COMPLETE,
        ] {
            let mut rig = moving(kind, state, SlotWord::rest(STABLE));
            let mut counted = |carries: Carries, associations: i64| {
                check(&rig, kind, 1, carries, STABLE);
                assert_eq!(rig.connections(STABLE), associations, "{kind:?}, end {end}");
            };
            counted(INIT, 1);
            counted(Carries::Sctp(10), 1);
            counted(DATA, 1);
            counted(Carries::Sctp(end), 0);
        }
    }
}

#[test]
fn errors_about_it_go_to_the_backend() {
    let rig = rig(ALL_FEATURES);
    for kind in kinds().filter(|kind| kind.forward == forward::L2_DSR) {
        let about = answer(kind).with(|frame| frame.carries = DATA);
        // Eight bytes are all that some routers quote.
        for bytes in [8, usize::MAX] {
            let input = error(too_big(kind.v6), &about, quote(&about, bytes));
            let output = input.with(|frame| {
                frame.source_mac = egress_mac(1);
                frame.destination_mac = backend_mac(kind.number());
                frame.ttl -= 1;
            });
            let mut wanted = Expected::forwarded(&input, kind.counter(), output.bytes());
            wanted.reasons.push(Reason::IcmpError);
            rig.check(&format!("{kind:?}"), &input.bytes(), &wanted);
        }
    }
}
