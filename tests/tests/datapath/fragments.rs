//! Datagrams in fragments: the first says where all go.

use std::net::SocketAddr;

use xlb_common::{
    endpoint::EndpointTarget,
    fragment,
    maps::{AttachmentCounters, NextHop, forward, protocol, service_option},
    reason::Reason,
};

use crate::{
    check::{DROP, Expected, TX},
    decap_rig::tunnel_of,
    frame::{
        Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, encapsulated, sum_header_at,
        verify_checksums,
    },
    kinds::{
        ALL_FEATURES, BACKEND_PORT, CLIENT_PORT, Kind, SAME, backend, backend_mac, client,
        egress_mac, outer_source, to_vip, vip,
    },
    rig::Rig,
};

const IP: usize = ETHERNET_BYTES;

/// Where a datagram of 96 bytes and its transport header is cut.
const CUTS: [usize; 2] = [40, 80];

fn whole(kind: Kind) -> Frame {
    kind.request().with(|frame| frame.payload = vec![0x5a; 96])
}

/// A part of a frame's datagram: from a byte to another, the last one if there is none.
fn part(frame: &[u8], v6: bool, id: u16, from: usize, to: Option<usize>) -> Vec<u8> {
    let header = IP + if v6 { IPV6_BYTES } else { IPV4_BYTES };
    let payload = &frame[header..];
    let part = &payload[from..to.unwrap_or(payload.len())];
    let mut bytes = frame[..header].to_vec();
    let more = u16::from(to.is_some());
    if v6 {
        let length = (part.len() + 8) as u16;
        bytes[IP + 4..IP + 6].copy_from_slice(&length.to_be_bytes());
        let number = std::mem::replace(&mut bytes[IP + 6], 44);
        bytes.extend_from_slice(&[number, 0]);
        bytes.extend_from_slice(&(from as u16 | more).to_be_bytes());
        bytes.extend_from_slice(&u32::from(id).to_be_bytes());
    } else {
        let length = (part.len() + IPV4_BYTES) as u16;
        bytes[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
        bytes[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
        let word = (from / 8) as u16 | more << 13;
        bytes[IP + 6..IP + 8].copy_from_slice(&word.to_be_bytes());
        sum_header_at(&mut bytes, IP);
    }
    bytes.extend_from_slice(part);
    bytes
}

/// The parts of a frame's datagram, in their order.
pub(crate) fn parts(frame: &[u8], v6: bool, id: u16) -> Vec<Vec<u8>> {
    let [first, second] = CUTS;
    vec![
        part(frame, v6, id, 0, Some(first)),
        part(frame, v6, id, first, Some(second)),
        part(frame, v6, id, second, None),
    ]
}

/// What should come out for a part: the same part of the whole that was forwarded, in a tunnel of its
/// own where the mode has one.
fn forwarded(rig: &Rig, kind: Kind, id: u16, index: usize, input: &[u8]) -> Expected {
    let mut output = parts(&kind.forwarded(&whole(kind)).bytes(), kind.v6, id).remove(index);
    if [forward::IPIP, forward::GUE].contains(&kind.forward) {
        // The tunnel of a flow is that of its whole packets.
        let whole = rig.run(&whole(kind).bytes());
        let tunnel = tunnel_of(&whole.bytes, kind.v6, kind.forward);
        output = encapsulated(&output, outer_source(kind.v6), kind.backend(), tunnel);
        if kind.v6 && kind.forward == forward::GUE {
            // Nothing says what the part adds up to.
            output[IP + IPV6_BYTES + 6..IP + IPV6_BYTES + 8].fill(0);
        }
        if !kind.v6 {
            let cut = [0, CUTS[0], CUTS[1]][index] / 8;
            output[IP + 4..IP + 6].copy_from_slice(&(id ^ cut as u16).to_be_bytes());
            output[IP + 6] &= !0x40;
            sum_header_at(&mut output, IP);
        }
    }
    let mut expected = Expected::forwarded(&whole(kind), kind.counter(), output);
    expected.counters[0].1.bytes = input.len() as u64;
    expected.counters[0].1.connections = u64::from(index == 0 && kind.protocol == protocol::TCP);
    expected
}

#[test]
fn every_part_goes_where_the_first_went() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        for (id, order) in [(1, [0, 1, 2]), (2, [0, 2, 1])] {
            let id = kind.number() * 4 + id;
            let inputs = parts(&whole(kind).bytes(), kind.v6, id);
            for index in order {
                let input = &inputs[index];
                let expected = forwarded(&rig, kind, id, index, input);
                rig.check(&format!("{kind:?} part {index}"), input, &expected);
            }
            // What was whole is forgotten: the identification may come again, and what comes late is dropped.
            let late = Expected::dropped(Reason::Fragment);
            rig.check("late", &inputs[1], &late);
            let again = forwarded(&rig, kind, id, 0, &inputs[0]);
            rig.check("again", &inputs[0], &again);
        }
    }
}

#[test]
fn a_part_before_the_first_is_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        // Datagrams to the same VIP differ by it alone.
        let id = kind.number() * 10;
        let inputs = parts(&whole(kind).bytes(), kind.v6, id);
        let name = format!("{kind:?}");
        rig.check(&name, &inputs[1], &Expected::dropped(Reason::Fragment));
        rig.run(&inputs[0]);
        // Of another datagram, and of another client.
        for other in [
            part(&whole(kind).bytes(), kind.v6, id + 1, CUTS[0], None),
            part(
                &whole(kind)
                    .with(|frame| frame.source.set_ip(kind.backend()))
                    .bytes(),
                kind.v6,
                id,
                CUTS[0],
                None,
            ),
        ] {
            rig.check(&name, &other, &Expected::dropped(Reason::Fragment));
        }
        // To another address.
        let elsewhere = whole(kind).with(|frame| frame.destination.set_ip(client(kind.v6)));
        let input = part(&elsewhere.bytes(), kind.v6, id, CUTS[0], None);
        rig.check(
            &name,
            &input,
            &Expected::passed(Reason::NotForService, &input),
        );
    }
}

#[test]
fn parts_that_no_host_sends_are_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let frame = whole(kind).bytes();
        let header = if kind.protocol == protocol::TCP {
            20
        } else {
            8
        };
        let tiny = if kind.protocol == protocol::TCP {
            16
        } else {
            0
        };
        let part = |from, to| part(&frame, kind.v6, 9, from, to);
        if tiny != 0 {
            let name = format!("{kind:?} without its whole header of {header}");
            rig.check(
                &name,
                &part(0, Some(tiny)),
                &Expected::dropped(Reason::FragmentTiny),
            );
            let mut long = part(0, Some(40));
            let transport = long.len() - 40;
            long[transport + 12] = 0xf0;
            rig.check(
                "of header length 60",
                &long,
                &Expected::dropped(Reason::FragmentTiny),
            );
        }
        let odd = part(0, Some(41));
        rig.check(
            "of 41 bytes",
            &odd,
            &Expected::dropped(Reason::FragmentLength),
        );
        rig.run(&part(0, Some(40)));
        let odd = part(40, Some(47));
        rig.check(
            "of 7 bytes",
            &odd,
            &Expected::dropped(Reason::FragmentLength),
        );
        let none = part(40, Some(40));
        rig.check(
            "of nothing",
            &none,
            &Expected::dropped(Reason::FragmentLength),
        );
        let mut beyond = part(40, None);
        let at = if kind.v6 { IP + IPV6_BYTES + 2 } else { IP + 6 };
        beyond[at..at + 2].copy_from_slice(if kind.v6 {
            &[0xff, 0xf8]
        } else {
            &[0x1f, 0xff]
        });
        if !kind.v6 {
            sum_header_at(&mut beyond, IP);
        }
        rig.check(
            "beyond 65,535",
            &beyond,
            &Expected::dropped(Reason::FragmentLength),
        );
    }
}

/// RFC 1858, RFC 3128 and RFC 5722: what would write over a header, or over anything else.
#[test]
fn parts_that_overlap_are_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    let overlap = Expected::dropped(Reason::FragmentOverlap);
    for kind in Kind::all() {
        let frame = whole(kind).bytes();
        let case = |number: u16,
                    before: &[(usize, Option<usize>)],
                    last: (usize, Option<usize>),
                    breaks: bool| {
            let id = kind.number() * 20 + number;
            let part = |(from, to): (usize, Option<usize>)| part(&frame, kind.v6, id, from, to);
            for &(from, to) in before {
                rig.run(&part((from, to)));
            }
            let name = format!("{kind:?} case {number}");
            rig.check(&name, &part(last), &overlap);
            // What was missing and contradicts nothing is still missing.
            let missing = part((64, Some(72)));
            if breaks {
                rig.check(&format!("{name}, after"), &missing, &overlap);
            } else {
                assert_eq!(rig.run(&missing).action, TX, "{name}, after");
            }
        };
        let end = 96
            + if kind.protocol == protocol::TCP {
                20
            } else {
                8
            };
        // Of what was seen, all of it again.
        case(0, &[(0, Some(40))], (0, Some(40)), false);
        case(1, &[(0, Some(40))], (8, Some(24)), false);
        case(2, &[(0, Some(40)), (40, Some(64))], (40, Some(56)), false);
        // A part of it again.
        case(3, &[(0, Some(40))], (32, Some(48)), true);
        case(4, &[(0, Some(40))], (0, Some(48)), true);
        case(5, &[(0, Some(40)), (80, Some(96))], (72, Some(88)), true);
        // Behind the end, and another end before what was seen.
        case(
            6,
            &[(0, Some(40)), (80, None)],
            (end / 8 * 8 - 8, Some(end / 8 * 8)),
            false,
        );
        case(7, &[(0, Some(40)), (80, Some(96))], (48, None), true);
    }
}

/// More pieces apart from one another than are remembered.
#[test]
fn parts_too_many_of_which_are_missing_are_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let frame = kind.request().with(|frame| frame.payload = vec![7; 400]);
        let id = 1000 + kind.number();
        let part = |from| part(&frame.bytes(), kind.v6, id, from, Some(from + 24));
        for piece in 0..8 {
            assert_eq!(rig.run(&part(piece * 48)).action, TX, "{kind:?} {piece}");
        }
        let more = Expected::dropped(Reason::FragmentScattered);
        rig.check("a ninth piece", &part(8 * 48), &more);
        assert_eq!(rig.run(&part(24)).action, TX, "{kind:?}: joins two");
        assert_eq!(rig.run(&part(8 * 48)).action, TX, "{kind:?}: has room");
    }
}

/// Whoever has the address may put it together and answer: xlb answers no part of it.
#[test]
fn a_ping_in_parts_is_for_the_host() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let ping = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoRequest)
            .with(|frame| frame.payload = vec![1; 96]);
        for input in parts(&ping.bytes(), v6, 3) {
            rig.check(
                "a ping",
                &input,
                &Expected::passed(Reason::IcmpOther, &input),
            );
        }
    }
}

#[test]
fn headers_that_go_on_in_the_next_part_are_tiny() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(true, protocol::UDP, forward::L2_DSR);
    let frame = whole(kind).bytes();
    let header = IP + IPV6_BYTES;
    let tiny = Expected::dropped(Reason::FragmentTiny);
    for (name, options, cut) in [
        (
            "options that end in the next",
            vec![17, 3, 1, 4, 0, 0, 0, 0],
            8,
        ),
        ("options without UDP", vec![17, 0, 1, 4, 0, 0, 0, 0], 8),
        ("another header", vec![60, 0, 1, 4, 0, 0, 0, 0], 8),
    ] {
        let mut datagram = frame.clone();
        datagram[IP + 6] = 60;
        datagram.splice(header..header, options);
        rig.check(name, &part(&datagram, true, 3, 0, Some(cut)), &tiny);
    }
    // With all of them in the first, the others follow, whose number is that of the options.
    let mut datagram = frame;
    datagram[IP + 6] = 60;
    datagram.splice(header..header, [17, 0, 1, 4, 0, 0, 0, 0]);
    for (from, to) in [(0, Some(40)), (40, Some(80)), (80, None)] {
        let input = part(&datagram, true, 4, from, to);
        assert_eq!(rig.run(&input).action, TX, "from {from}");
    }
}

/// Its length is that of the whole datagram, and its least is that of its header.
#[test]
fn the_length_of_a_datagram_is_not_that_of_its_first_part() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::UDP, forward::DNAT);
        let mut input = parts(&whole(kind).bytes(), v6, 12).remove(0);
        let at = input.len() - CUTS[0] + 4;
        input[at..at + 2].copy_from_slice(&[0, 7]);
        rig.check("of 7", &input, &Expected::dropped(Reason::Truncated));
        input[at..at + 2].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(rig.run(&input).action, TX);
    }
}

/// A part that does not fit with its outer header is answered, where its sender may send smaller ones.
#[test]
fn parts_that_are_too_big_for_their_tunnel_are_answered() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        if ![forward::IPIP, forward::GUE].contains(&kind.forward) {
            continue;
        }
        rig.put_route(
            client(kind.v6),
            if kind.v6 { 128 } else { 32 },
            NextHop::new([2; 6], SAME),
        );
        let frame = kind.request().with(|frame| frame.payload = vec![7; 4000]);
        let id = 2000 + kind.number();
        let part = |from: usize, to| part(&frame.bytes(), kind.v6, id, from, Some(to));
        rig.run(&part(0, 80));
        let outcome = rig.run(&part(80, 80 + 1464));
        if kind.v6 {
            assert_eq!(outcome.action, TX, "{kind:?}");
            assert_eq!(outcome.bytes[IP + 6], 58, "{kind:?}: ICMPv6");
            verify_checksums("too big", &outcome.bytes);
        } else {
            assert_eq!(outcome.action, DROP, "{kind:?}");
        }
        assert_eq!(rig.run(&part(1600, 1680)).action, TX, "{kind:?}: fits");
    }
}

/// Each part by itself goes where a hash of its addresses says, whatever came before it.
#[test]
fn by_addresses_every_part_is_chosen_for_alone() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        if kind.protocol != protocol::UDP {
            continue;
        }
        let mut service = kind.service();
        service.options = service_option::FRAGMENTS_BY_ADDRESS;
        // Two slots, so that addresses and ports lead to different ones.
        service.ring_slots = 2;
        let other = kind.number() + 40;
        rig.put_backend(other, &backend(kind.v6, other));
        rig.put_service(kind, &service);
        rig.put_endpoint(
            false,
            SocketAddr::new(kind.vip().ip(), protocol::UDP.into()),
            fragment::ENDPOINT_PROTOCOL,
            EndpointTarget {
                service: kind.number().into(),
                ..EndpointTarget::default()
            },
        );
        for forwards in [kind.number(), other] {
            rig.put_ring(kind.slot(), forwards);
            rig.put_ring(kind.slot() + 1, forwards);
            let to = backend_mac(forwards);
            let inputs = parts(&whole(kind).bytes(), kind.v6, 14);
            for index in [1, 2, 0, 0, 1] {
                let outcome = rig.run(&inputs[index]);
                assert_eq!(outcome.action, TX, "{kind:?} part {index}");
                assert_eq!(outcome.bytes[..6], to, "{kind:?} part {index}");
            }
        }
        // By addresses alone: every port leads to one backend.
        rig.put_ring(kind.slot(), kind.number());
        let first = |port: u16| {
            let frame = whole(kind).with(|frame| frame.source.set_port(port));
            let input = parts(&frame.bytes(), kind.v6, 15).remove(0);
            rig.run(&input).bytes[..6].to_vec()
        };
        let later = rig.run(&part(&whole(kind).bytes(), kind.v6, 99, 40, None));
        for port in 1000..1020 {
            assert_eq!(first(port), later.bytes[..6], "{kind:?} port {port}");
        }
    }
}

#[test]
fn replies_in_parts_come_from_the_vip() {
    let mut rig = Rig::new(ALL_FEATURES);
    let client_mac = [2, 0, 0, 0, 9, 9];
    for v6 in [false, true] {
        let bits = if v6 { 64 } else { 24 };
        rig.put_route(client(v6), bits, NextHop::new(client_mac, SAME));
    }
    for kind in Kind::all() {
        if kind.forward != forward::DNAT {
            continue;
        }
        let reply = whole(kind).with(|frame| {
            frame.source_mac = backend_mac(kind.number());
            frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
            frame.destination = SocketAddr::new(client(kind.v6), CLIENT_PORT);
        });
        let sent = reply.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = client_mac;
            frame.source = kind.vip();
            frame.ttl -= 1;
        });
        let inputs = parts(&reply.bytes(), kind.v6, 5);
        let outputs = parts(&sent.bytes(), kind.v6, 5);
        let early = &inputs[1];
        rig.check(
            "before",
            early,
            &Expected::passed(Reason::NotForService, early),
        );
        for (input, output) in inputs.iter().zip(outputs) {
            let counters = AttachmentCounters {
                reply_packets: 1,
                reply_bytes: input.len() as u64,
                ..AttachmentCounters::default()
            };
            let expected = Expected {
                action: TX,
                bytes: Some(output),
                reasons: Vec::new(),
                counters: vec![(kind.counter(), counters)],
            };
            rig.check(&format!("reply of {kind:?}"), input, &expected);
        }
    }
}
