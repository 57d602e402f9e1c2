//! ICMP and ICMPv6 errors: each goes where the packets come from that it is about.

use std::net::{IpAddr, SocketAddr};

use xlb_common::{
    maps::{AttachmentCounters, NextHop, forward, name, protocol, service_state},
    reason::Reason,
    slot::SlotWord,
};

use crate::{
    check::{Expected, TX},
    decap_rig::{flow_label, tunnel_of},
    frame::{Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, sum_header, sum_header_at},
    kinds::{
        ALL_FEATURES, BACKEND_PORT, CLIENT_PORT, Kind, SAME, backend_address, backend_mac, client,
        egress_mac, outer_source, to_vip, vip,
    },
    moving::{STABLE, TARGET, moving, packet},
    rig::Rig,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Type and code of the errors, and the four bytes that follow the checksum.
const ERRORS4: &[(u8, u8, [u8; 4])] = &[
    (3, 1, [0; 4]),
    (3, 3, [0; 4]),
    (3, 4, [0, 0, 0x05, 0x14]),
    (11, 0, [0; 4]),
    (12, 0, [9, 0, 0, 0]),
];
const ERRORS6: &[(u8, u8, [u8; 4])] = &[
    (1, 4, [0; 4]),
    (2, 0, [0, 0, 0x05, 0x14]),
    (3, 0, [0; 4]),
    (4, 1, [0, 0, 0, 6]),
];

pub(crate) const fn errors(v6: bool) -> &'static [(u8, u8, [u8; 4])] {
    if v6 { ERRORS6 } else { ERRORS4 }
}

/// The error that a packet was too big for a link of 1300 bytes.
pub(crate) const fn too_big(v6: bool) -> Carries {
    let (kind, code, rest) = if v6 { ERRORS6[1] } else { ERRORS4[2] };
    Carries::Error(kind, code, rest)
}

/// Bytes of the transport header of each quotation: all that every router quotes, the whole of a
/// TCP header, and the whole packet.
pub(crate) const QUOTED: [usize; 3] = [8, 20, usize::MAX];

/// A router between client and balancer.
fn router(v6: bool) -> IpAddr {
    backend_address(v6, 77)
}

/// What the backend of a service says to the client, as the client sees it.
pub(crate) fn answer(kind: Kind) -> Frame {
    to_vip(kind.vip(), reply_of(kind)).with(|frame| {
        (frame.source, frame.destination) = (frame.destination, frame.source);
        frame.ttl = 3;
    })
}

const fn reply_of(kind: Kind) -> Carries {
    if kind.protocol == protocol::TCP {
        Carries::Segment(77)
    } else {
        Carries::Udp
    }
}

/// The beginning of a packet: its IP header and so many bytes of what it carries.
pub(crate) fn quote(packet: &Frame, bytes: usize) -> Vec<u8> {
    let mut whole = packet.bytes();
    whole.truncate(packet.transport_offset().saturating_add(bytes));
    whole.split_off(ETHERNET_BYTES)
}

/// An error of a router about a packet, which it quotes so.
pub(crate) fn error(carries: Carries, about: &Frame, quotation: Vec<u8>) -> Frame {
    let v6 = about.source.is_ipv6();
    to_vip(SocketAddr::new(about.source.ip(), 0), carries).with(|frame| {
        frame.source = SocketAddr::new(router(v6), 0);
        frame.payload = quotation;
    })
}

/// What should leave towards the backend of a service.
fn towards_backend(rig: &Rig, kind: Kind, error: &Frame, bytes: usize) -> Expected {
    let mut output = error.with(|frame| {
        frame.source_mac = egress_mac(SAME);
        frame.destination_mac = backend_mac(kind.number());
        frame.ttl -= 1;
    });
    if kind.forward == forward::DNAT {
        let backend = SocketAddr::new(kind.backend(), BACKEND_PORT);
        output.destination = backend;
        output.payload = quote(&answer(kind).with(|frame| frame.source = backend), bytes);
    }
    let bytes = if [forward::IPIP, forward::GUE].contains(&kind.forward) {
        let tunnel = tunnel_of(&rig.run(&error.bytes()).bytes, kind.v6, kind.forward);
        output.encapsulated(outer_source(kind.v6), kind.backend(), tunnel)
    } else {
        output.bytes()
    };
    let mut expected = Expected::forwarded(error, kind.counter(), bytes);
    expected.reasons.push(Reason::IcmpError);
    expected
}

#[test]
fn errors_about_a_backends_packets_go_to_that_backend() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        for &(number, code, rest) in errors(kind.v6) {
            for bytes in QUOTED {
                let about = answer(kind);
                let carries = Carries::Error(number, code, rest);
                let input = error(carries, &about, quote(&about, bytes));
                rig.check(
                    &format!("{kind:?} type {number} code {code}, {bytes} bytes quoted"),
                    &input.bytes(),
                    &towards_backend(&rig, kind, &input, bytes),
                );
            }
        }
    }
}

#[test]
fn an_error_carries_the_entropy_of_its_flow() {
    let rig = Rig::new(ALL_FEATURES);
    let about = |kind| {
        let about = answer(kind);
        rig.run(&error(too_big(kind.v6), &about, quote(&about, 8)).bytes())
            .bytes
    };
    let request = |kind: Kind| rig.run(&kind.request().bytes()).bytes;
    let kind = Kind::new(true, protocol::TCP, forward::IPIP);
    assert_eq!(flow_label(&about(kind)), flow_label(&request(kind)));
    let kind = Kind::new(false, protocol::TCP, forward::GUE);
    let port = |bytes: Vec<u8>| tunnel_of(&bytes, false, kind.forward).udp;
    assert_eq!(port(about(kind)), port(request(kind)));
}

/// The quoted packet has options, which the balancer's services never see, but routers do.
#[test]
fn the_quoted_packet_may_have_options() {
    let rig = Rig::new(ALL_FEATURES);
    let with_options = |mut quotation: Vec<u8>| {
        quotation.splice(IPV4_BYTES..IPV4_BYTES, [1, 1, 1, 0]);
        quotation[0] = 0x46;
        quotation[3] += 4;
        sum_header_at(&mut quotation, 0);
        quotation
    };
    for protocol in [protocol::TCP, protocol::UDP] {
        let kind = Kind::new(false, protocol, forward::DNAT);
        let about = answer(kind);
        let plain = error(too_big(false), &about, quote(&about, usize::MAX));
        let input = plain.with(|frame| frame.payload = with_options(frame.payload.clone()));
        let backend = SocketAddr::new(kind.backend(), BACKEND_PORT);
        let output = input.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(kind.number());
            frame.ttl -= 1;
            frame.destination = backend;
            let about = about.with(|about| about.source = backend);
            frame.payload = with_options(quote(&about, usize::MAX));
        });
        let mut expected = Expected::forwarded(&input, kind.counter(), output.bytes());
        expected.reasons.push(Reason::IcmpError);
        rig.check(&format!("{kind:?}"), &input.bytes(), &expected);
    }
}

/// A datagram without a checksum stays without.
#[test]
fn a_quoted_datagram_without_checksum_stays_without() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(false, protocol::UDP, forward::DNAT);
    let about = answer(kind);
    let mut quotation = quote(&about, 8);
    quotation[IPV4_BYTES + 6..].fill(0);
    let input = error(too_big(false), &about, quotation);
    let mut expected = towards_backend(&rig, kind, &input, 8);
    let output = input.with(|frame| {
        frame.source_mac = egress_mac(SAME);
        frame.destination_mac = backend_mac(kind.number());
        frame.ttl -= 1;
        let backend = SocketAddr::new(kind.backend(), BACKEND_PORT);
        frame.destination = backend;
        frame.payload = quote(&about.with(|about| about.source = backend), 8);
        frame.payload[IPV4_BYTES + 6..].fill(0);
    });
    expected.bytes = Some(output.bytes());
    rig.check("without a checksum", &input.bytes(), &expected);
}

/// A flow that has moved takes its errors along, and one that has not keeps them; nothing is recorded.
#[test]
fn errors_follow_their_flow_while_slots_move() {
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let rig = moving(kind, SlotWord::marked(STABLE, TARGET));
        let reach = |what: &str, number: u16| {
            let about = answer(kind);
            let input = error(too_big(v6), &about, quote(&about, 8));
            let backend = SocketAddr::new(backend_address(v6, number), BACKEND_PORT);
            let output = input.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = backend_mac(number);
                frame.ttl -= 1;
                frame.destination = backend;
                frame.payload = quote(&about.with(|about| about.source = backend), 8);
            });
            let counter = kind.service().counter_base + u32::from(number - STABLE);
            let mut expected = Expected::forwarded(&input, counter, output.bytes());
            expected.reasons.push(Reason::IcmpError);
            rig.check(what, &input.bytes(), &expected);
        };
        let lookups = rig.table_lookups();
        reach("no record", STABLE);
        assert_eq!(rig.table_lookups(), lookups + 1, "it was looked up");
        for map in [name::PENDING, name::FLOWS] {
            assert!(rig.records(map).is_empty(), "an error is recorded in {map}");
        }
        rig.run(&packet(kind, CLIENT_PORT, Carries::Syn(1000)).bytes());
        reach("a handshake", TARGET);
        assert_eq!(rig.records(name::PENDING).len(), 1);
        rig.run(&packet(kind, CLIENT_PORT, Carries::Segment(1001)).bytes());
        let flows = rig.records(name::FLOWS);
        reach("a flow", TARGET);
        assert_eq!(rig.records(name::FLOWS), flows);
    }
}

/// Datagrams of a service without tracking go to the target, and so do errors about its answers.
#[test]
fn errors_of_datagrams_move_with_their_slot() {
    let kind = Kind::new(false, protocol::UDP, forward::DNAT);
    let rig = moving(kind, SlotWord::marked(STABLE, TARGET));
    let about = answer(kind);
    let input = error(too_big(false), &about, quote(&about, 8));
    assert_eq!(
        rig.run(&input.bytes()).bytes[..6],
        backend_mac(TARGET),
        "where the error goes"
    );
}

/// A mutation of an error's bytes, what it is called, and what becomes of the result.
type Row = (&'static str, fn(&mut Vec<u8>), Reason);

const IP: usize = ETHERNET_BYTES;
const QUOTE4: usize = IP + IPV4_BYTES + 8;

const REFUSED: &[Row] = &[
    ("of a redirect", |f| f[IP + 20] = 5, Reason::IcmpOther),
    ("of a source quench", |f| f[IP + 20] = 4, Reason::IcmpOther),
    (
        "about another's packet",
        |f| f[QUOTE4 + 15] ^= 1,
        Reason::IcmpOther,
    ),
    (
        "about another port",
        |f| f[QUOTE4 + 20] ^= 0x80,
        Reason::IcmpOther,
    ),
    ("about GRE", |f| f[QUOTE4 + 9] = 47, Reason::IcmpOther),
    (
        "about a later fragment",
        |f| f[QUOTE4 + 7] = 1,
        Reason::IcmpOther,
    ),
    ("about IPv6", |f| f[QUOTE4] = 0x60, Reason::IcmpOther),
    ("quoting too little", |f| shorten(f, 1), Reason::IcmpOther),
    ("quoting no port", |f| shorten(f, 8), Reason::IcmpOther),
    (
        "quoting half a header",
        |f| shorten(f, 20),
        Reason::IcmpOther,
    ),
    ("quoting nothing", |f| shorten(f, 28), Reason::IcmpOther),
    (
        "to another host",
        |f| {
            f[IP + 19] ^= 1;
            sum_header(f);
        },
        Reason::NotForService,
    ),
    (
        "of TTL 1",
        |f| {
            f[IP + 8] = 1;
            sum_header(f);
        },
        Reason::TtlExpired,
    ),
];

/// Takes the last bytes of a packet.
fn shorten(frame: &mut Vec<u8>, bytes: usize) {
    frame.truncate(frame.len() - bytes);
    let length = (frame.len() - IP) as u16;
    frame[IP + 2..IP + 4].copy_from_slice(&length.to_be_bytes());
    sum_header(frame);
}

#[test]
fn what_is_no_error_about_a_flow_is_for_the_host() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all().into_iter().filter(|kind| !kind.v6) {
        for (name, mutate, reason) in REFUSED {
            let about = answer(kind);
            let mut input = error(too_big(false), &about, quote(&about, 8)).bytes();
            mutate(&mut input);
            let expected = if *reason == Reason::TtlExpired {
                Expected::dropped(*reason)
            } else {
                Expected::passed(*reason, &input)
            };
            rig.check(&format!("{kind:?} {name}"), &input, &expected);
        }
    }
}

#[test]
fn an_error_meets_what_its_flow_meets() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let about = answer(kind);
        let input = error(too_big(kind.v6), &about, quote(&about, 8)).bytes();
        rig.put_ring(kind.slot(), 0);
        let dropped = Expected::dropped(Reason::NoBackend);
        rig.check(&format!("{kind:?} without a backend"), &input, &dropped);
        let mut service = kind.service();
        service.state = service_state::REFUSE;
        rig.put_service(kind, &service);
        let dropped = Expected::dropped(Reason::AllDown);
        rig.check(&format!("{kind:?} refused"), &input, &dropped);
    }
}

/// Errors about a client's packets on the way to a backend under `dnat`, by a router and by the
/// backend itself.
#[test]
fn errors_about_a_clients_packets_go_to_the_client() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        if kind.forward != forward::DNAT {
            continue;
        }
        let v6 = kind.v6;
        rig.put_route(client(v6), 16, NextHop::new(CLIENT_MAC, SAME));
        for &(number, code, rest) in errors(v6) {
            for (bytes, source) in QUOTED
                .into_iter()
                .zip([router(v6), kind.backend(), router(v6)])
            {
                let sent = kind.forwarded(&kind.request());
                let input = error(
                    Carries::Error(number, code, rest),
                    &sent,
                    quote(&sent, bytes),
                )
                .with(|frame| frame.source = SocketAddr::new(source, 0));
                let output = input.with(|frame| {
                    frame.source_mac = egress_mac(SAME);
                    frame.destination_mac = CLIENT_MAC;
                    frame.source = SocketAddr::new(vip(v6), 0);
                    frame.ttl -= 1;
                    frame.payload = quote(&sent.with(|sent| sent.destination = kind.vip()), bytes);
                });
                let counters = AttachmentCounters {
                    reply_packets: 1,
                    reply_bytes: input.bytes().len() as u64,
                    ..AttachmentCounters::default()
                };
                let expected = Expected {
                    action: TX,
                    bytes: Some(output.bytes()),
                    reasons: vec![Reason::IcmpError],
                    counters: vec![(kind.counter(), counters)],
                };
                let name = format!("{kind:?} type {number} code {code}, {bytes} bytes quoted");
                rig.check(&name, &input.bytes(), &expected);
            }
        }
    }
}

#[test]
fn an_error_about_the_hosts_own_packet_is_the_hosts() {
    let mut rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        rig.put_route(client(v6), 16, NextHop::LOCAL);
        let sent = kind.forwarded(&kind.request());
        let input = error(too_big(v6), &sent, quote(&sent, 8)).bytes();
        let passed = Expected::passed(Reason::ReplyToHost, &input);
        rig.check(&format!("{kind:?}"), &input, &passed);
    }
}

/// Neither as an error that was passed on, nor as a reply.
#[test]
fn an_error_that_finds_no_way_to_the_client_is_not_counted_as_sent() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let sent = kind.forwarded(&kind.request());
        let input = error(too_big(v6), &sent, quote(&sent, 8)).bytes();
        let mut expected = Expected::dropped(Reason::ClientUnresolved);
        expected.reasons.push(Reason::FibLookup);
        rig.check(&format!("{kind:?}"), &input, &expected);
    }
}
