//! Services of several ports or addresses, and backends that take the port that packets have.

use std::net::{IpAddr, SocketAddr};

use xlb_agent::endpoint;
use xlb_common::{
    endpoint::EndpointTarget,
    maps::{AttachmentCounters, NextHop, Service, feature, forward, protocol, service_option},
    reason::Reason,
    wide::direction,
    wire::SctpHeader,
};
use xlb_control::config::{
    At, Ports, Vip,
    spread::{self, Span},
};
use xlb_tests::programs::maps::put_ports;

use crate::{
    check::{Expected, TX},
    forwarding::expected,
    fragments::parts,
    frame::{Carries, Frame, GUE_PORT},
    icmp::{error, quote, too_big},
    kinds::{
        ALL_FEATURES, CLIENT_PORT, Kind, SAME, backend, backend_mac, client, egress_mac, to_vip,
    },
    rig::Rig,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

/// Where services of the families take packets in: `X` stands for what their addresses begin with.
fn at(v6: bool, vip: &str, ports: &str) -> At {
    let vip = vip.replace('X', if v6 { "2001:db8::" } else { "192.0.2." });
    At {
        vip: vip.parse::<Vip>().expect("a VIP"),
        ports: ports.parse::<Ports>().expect("ports"),
    }
}

fn service(kind: Kind, at: At) -> Service {
    Service {
        vip: endpoint::bytes(at.vip.address()),
        vip_bits: at.vip.bits(),
        port_be: at.ports.first().to_be(),
        last_port_be: at.ports.last().to_be(),
        options: [
            (at.ports.one().is_none(), service_option::SEVERAL_PORTS),
            (!at.vip.is_one(), service_option::SEVERAL_ADDRESSES),
        ]
        .into_iter()
        .filter_map(|(holds, option)| holds.then_some(option))
        .sum(),
        ..kind.service()
    }
}

fn span(at: At, protocol: u8, service: u16, backend: u16) -> Span<EndpointTarget> {
    Span {
        at,
        protocol,
        what: EndpointTarget {
            service: service.into(),
            backend,
            ..EndpointTarget::default()
        },
    }
}

/// Has these be found. The numbers of their tables follow `first`.
fn put(rig: &mut Rig, direction: u32, first: u32, spans: &[Span<EndpointTarget>]) {
    for (number, table) in (first..).zip(spread::tables(spans)) {
        put_ports(&mut rig.ebpf, direction, number, &table).expect("room for a table");
    }
}

/// A rig in which services of these kinds take in packets here.
fn rig_with(features: u32, places: &[(Kind, At)]) -> Rig {
    let mut rig = Rig::new(features);
    let mut spans = Vec::new();
    for &(kind, at) in places {
        rig.put_service(kind, &service(kind, at));
        spans.push(span(at, kind.protocol, kind.number(), 0));
    }
    put(&mut rig, direction::VIP, 1, &spans);
    rig
}

#[test]
fn the_most_specific_service_gets_a_packet() {
    let of = |v6: bool, forward| Kind::new(v6, protocol::TCP, forward);
    for v6 in [false, true] {
        let (all, range, port, one) = if v6 {
            ("X/96", "X10/124", "X10/124", "X11")
        } else {
            ("X0/24", "X16/28", "X16/28", "X17")
        };
        let places = [
            (of(v6, forward::DNAT), at(v6, all, "all")),
            (of(v6, forward::IPIP), at(v6, range, "8000-8999")),
            (of(v6, forward::GUE), at(v6, port, "8080")),
            (
                Kind::new(v6, protocol::UDP, forward::GUE),
                at(v6, one, "1-8500"),
            ),
        ];
        let mut rig = Rig::new(ALL_FEATURES);
        let mut spans = Vec::new();
        for (kind, at) in places {
            let service = Service {
                forward: forward::L2_DSR,
                protocol: protocol::TCP,
                ..service(kind, at)
            };
            rig.put_service(kind, &service);
            spans.push(span(at, protocol::TCP, kind.number(), 0));
        }
        put(&mut rig, direction::VIP, 1, &spans);
        let [all, range, port, one] = places.map(|(kind, _)| kind);
        let exact = of(v6, forward::L2_DSR);
        let base = if v6 { "[2001:db8::" } else { "192.0.2." };
        let [vip, far, near, alone] = if v6 {
            ["a]", "ffff]", "12]", "11]"]
        } else {
            ["10", "200", "18", "17"]
        };
        for (last, to_port, kind) in [
            (vip, exact.vip().port(), exact),
            (vip, 8080, all),
            (vip, 1, all),
            (far, 8080, all),
            (far, 65_535, all),
            (near, 8000, range),
            (near, 8999, range),
            (near, 9000, all),
            (near, 7999, all),
            (near, 8080, port),
            (near, 8081, range),
            (alone, 8080, one),
            (alone, 1, one),
            (alone, 8500, one),
            (alone, 8501, range),
            (alone, 9000, all),
        ] {
            let to: SocketAddr = format!("{base}{last}:{to_port}")
                .parse()
                .expect("an endpoint");
            let request = to_vip(to, Carries::Syn(1000));
            let output = request.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = backend_mac(kind.number());
                frame.ttl -= 1;
            });
            let wanted = Expected::forwarded(&request, kind.counter(), output.bytes());
            rig.check(&format!("to {to}"), &request.bytes(), &wanted);
        }
        // Of another protocol there is nothing.
        let to: SocketAddr = format!("{base}{near}:8080").parse().expect("an endpoint");
        let datagram = to_vip(to, Carries::Udp).bytes();
        rig.check(
            "UDP",
            &datagram,
            &Expected::passed(Reason::NotForService, &datagram),
        );
    }
}

/// Where services of a family take packets in here, and one of these endpoints.
fn several(v6: bool) -> (At, SocketAddr) {
    let at = at(v6, if v6 { "X100/120" } else { "X128/25" }, "8000-8999");
    (at, SocketAddr::new(at.vip.last(), 8123))
}

#[test]
fn packets_keep_address_and_port_on_their_way() {
    for mode in [forward::L2_DSR, forward::IPIP, forward::GUE] {
        let kinds = || Kind::all().into_iter().filter(|kind| kind.forward == mode);
        let places: Vec<_> = kinds().map(|kind| (kind, several(kind.v6).0)).collect();
        let rig = rig_with(ALL_FEATURES, &places);
        for kind in kinds() {
            let request = kind
                .request()
                .with(|frame| frame.destination = several(kind.v6).1);
            let output = expected(&rig, kind, &request);
            let wanted = Expected::forwarded(&request, kind.counter(), output);
            rig.check(&format!("{kind:?}"), &request.bytes(), &wanted);
        }
    }
}

#[test]
fn a_service_of_sctp_may_have_several_too() {
    let mut rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::UDP, forward::L2_DSR);
        let (at, to) = several(v6);
        let service = Service {
            protocol: protocol::SCTP,
            ..service(kind, at)
        };
        rig.put_service(kind, &service);
        let spans = [span(at, protocol::SCTP, kind.number(), 0)];
        put(&mut rig, direction::VIP, 1, &spans);
        let request = to_vip(to, Carries::Sctp(SctpHeader::INIT));
        let output = expected(&rig, kind, &request);
        let mut wanted = Expected::forwarded(&request, kind.counter(), output);
        wanted.counters[0].1.connections = 1;
        rig.check("INIT", &request.bytes(), &wanted);
    }
}

#[test]
fn they_are_vips_and_other_ports_are_the_hosts() {
    let kind = |v6| Kind::new(v6, protocol::TCP, forward::L2_DSR);
    let places = [false, true].map(|v6| (kind(v6), several(v6).0));
    let rig = rig_with(ALL_FEATURES, &places);
    let without = rig_with(ALL_FEATURES & !feature::WIDE, &places);
    for v6 in [false, true] {
        let (at, to) = several(v6);
        let request = |to| to_vip(to, Carries::Syn(1000));
        for port in [1, 7999, 9000] {
            let input = request(SocketAddr::new(to.ip(), port)).bytes();
            let passed = Expected::passed(Reason::NotForService, &input);
            rig.check(&format!("port {port}"), &input, &passed);
        }
        let mut short = request(to).bytes();
        short.truncate(request(to).transport_offset() + 10);
        rig.check("short", &short, &Expected::dropped(Reason::Truncated));
        // What it has no use for, without it, is as it was before there were such services.
        let input = request(to).bytes();
        let passed = Expected::passed(Reason::NotForService, &input);
        without.check("not configured", &input, &passed);
        let outside = request(SocketAddr::new(before(at.vip.address()), to.port())).bytes();
        let passed = Expected::passed(Reason::NotForService, &outside);
        rig.check("outside", &outside, &passed);
    }
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(it) => std::net::Ipv4Addr::from(u32::from(it) - 1).into(),
        IpAddr::V6(it) => std::net::Ipv6Addr::from(u128::from(it) - 1).into(),
    }
}

#[test]
fn every_address_of_a_prefix_answers_echo_requests() {
    let kind = |v6| Kind::new(v6, protocol::UDP, forward::L2_DSR);
    let places = [false, true].map(|v6| (kind(v6), several(v6).0));
    let rig = rig_with(ALL_FEATURES, &places);
    for v6 in [false, true] {
        let (at, to) = several(v6);
        let echo = to_vip(SocketAddr::new(to.ip(), 0), Carries::EchoRequest);
        let outcome = rig.run(&echo.bytes());
        assert_eq!(outcome.action, TX, "{}", to.ip());
        let outside = SocketAddr::new(before(at.vip.address()), 0);
        let echo = to_vip(outside, Carries::EchoRequest).bytes();
        let passed = Expected::passed(Reason::NotForService, &echo);
        rig.check("outside", &echo, &passed);
    }
}

fn dnat() -> impl Iterator<Item = Kind> {
    Kind::all()
        .into_iter()
        .filter(|kind| kind.forward == forward::DNAT)
}

/// Services under `dnat` whose backends take the port that packets have, at these ports.
fn portless(ports: &str) -> Rig {
    let places: Vec<_> = dnat()
        .map(|kind| (kind, at(kind.v6, "X20", ports)))
        .collect();
    let mut rig = rig_with(ALL_FEATURES, &places);
    let mut spans = Vec::new();
    for (kind, at) in places {
        let mut value = backend(kind.v6, kind.number());
        value.port_be = 0;
        rig.put_backend(kind.number(), &value);
        let from = At {
            vip: kind.backend().into(),
            ports: at.ports,
        };
        spans.push(span(from, kind.protocol, kind.number(), kind.number()));
        rig.put_route(client(kind.v6), 16, NextHop::new(CLIENT_MAC, SAME));
    }
    put(&mut rig, direction::REPLY, 9, &spans);
    rig
}

/// An answer of the backend, and what a client should get.
fn answer(kind: Kind, to: SocketAddr) -> (Frame, Frame) {
    let reply = kind.request().with(|frame| {
        frame.source_mac = backend_mac(kind.number());
        frame.source = SocketAddr::new(kind.backend(), to.port());
        frame.destination = SocketAddr::new(client(kind.v6), CLIENT_PORT);
        if kind.protocol == protocol::TCP {
            frame.carries = Carries::Segment(77);
        }
    });
    let sent = reply.with(|frame| {
        frame.source_mac = egress_mac(SAME);
        frame.destination_mac = CLIENT_MAC;
        frame.source = to;
        frame.ttl -= 1;
    });
    (reply, sent)
}

#[test]
fn dnat_keeps_the_port_there_and_back() {
    for (ports, port) in [("8000-8999", 8123), ("all", 65_535)] {
        let rig = portless(ports);
        for kind in dnat() {
            let at = at(kind.v6, "X20", ports);
            let to = SocketAddr::new(at.vip.address(), port);
            let request = kind.request().with(|frame| frame.destination = to);
            let output = request.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = backend_mac(kind.number());
                frame.destination = SocketAddr::new(kind.backend(), port);
                frame.ttl -= 1;
            });
            let wanted = Expected::forwarded(&request, kind.counter(), output.bytes());
            rig.check(&format!("{kind:?} {at}"), &request.bytes(), &wanted);
            let (reply, sent) = answer(kind, to);
            let counters = AttachmentCounters {
                reply_packets: 1,
                reply_bytes: reply.bytes().len() as u64,
                ..AttachmentCounters::default()
            };
            let wanted = Expected {
                action: TX,
                bytes: Some(sent.bytes()),
                reasons: Vec::new(),
                counters: vec![(kind.counter(), counters)],
            };
            rig.check(&format!("reply, {kind:?} {at}"), &reply.bytes(), &wanted);
        }
    }
}

#[test]
fn errors_follow_the_flow_and_keep_its_port() {
    let rig = portless("all");
    // The second is the port of tunnels, too.
    let kinds = dnat().flat_map(|kind| [8123, GUE_PORT].map(|port| (kind, port)));
    for (kind, port) in kinds {
        let to = SocketAddr::new(at(kind.v6, "X20", "all").vip.address(), port);
        // About what the backend sent.
        let (reply, sent) = answer(kind, to);
        let input = error(too_big(kind.v6), &sent, quote(&sent, usize::MAX));
        let within = sent.with(|frame| frame.source = reply.source);
        let output = input.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(kind.number());
            frame.destination.set_ip(kind.backend());
            frame.payload = quote(&within, usize::MAX);
            frame.ttl -= 1;
        });
        let mut wanted = Expected::forwarded(&input, kind.counter(), output.bytes());
        wanted.reasons.push(Reason::IcmpError);
        rig.check(
            &format!("about an answer, {kind:?}"),
            &input.bytes(),
            &wanted,
        );
        // About what it was sent.
        let seen = kind.request().with(|frame| frame.destination = to);
        let sent = seen.with(|frame| frame.destination = reply.source);
        let input = error(too_big(kind.v6), &sent, quote(&sent, usize::MAX));
        let output = input.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = CLIENT_MAC;
            frame.source.set_ip(to.ip());
            frame.payload = quote(&seen, usize::MAX);
            frame.ttl -= 1;
        });
        let outcome = rig.run(&input.bytes());
        assert_eq!(outcome.action, TX, "about a request, {kind:?} {port}");
        assert_eq!(
            crate::check::hex(&outcome.bytes),
            crate::check::hex(&output.bytes()),
            "about a request, {kind:?} {port}"
        );
    }
}

#[test]
fn errors_about_an_address_of_a_prefix_come_to_the_backend() {
    let kind = |v6| Kind::new(v6, protocol::TCP, forward::L2_DSR);
    let places = [false, true].map(|v6| (kind(v6), several(v6).0));
    let rig = rig_with(ALL_FEATURES, &places);
    for v6 in [false, true] {
        let (kind, (_, to)) = (kind(v6), several(v6));
        let (_, sent) = answer(kind, to);
        let input = error(too_big(v6), &sent, quote(&sent, 8));
        let output = input.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(kind.number());
            frame.ttl -= 1;
        });
        let mut wanted = Expected::forwarded(&input, kind.counter(), output.bytes());
        wanted.reasons.push(Reason::IcmpError);
        rig.check(&format!("{kind:?}"), &input.bytes(), &wanted);
    }
}

/// Two addresses of a prefix are two ends: what is remembered of a datagram is for the one that it is to.
#[test]
fn fragments_to_an_address_of_a_prefix_follow_the_first() {
    let kind = |v6| Kind::new(v6, protocol::UDP, forward::L2_DSR);
    let places = [false, true].map(|v6| (kind(v6), several(v6).0));
    let rig = rig_with(ALL_FEATURES, &places);
    for v6 in [false, true] {
        let (kind, to) = (kind(v6), several(v6).1);
        let whole = kind.request().with(|frame| {
            frame.destination = to;
            frame.payload = vec![0x5a; 96];
        });
        let inputs = parts(&whole.bytes(), v6, 7);
        let outputs = parts(&kind.forwarded(&whole).bytes(), v6, 7);
        for (input, output) in inputs.iter().zip(outputs) {
            let mut wanted = Expected::forwarded(&whole, kind.counter(), output);
            wanted.counters[0].1.bytes = input.len() as u64;
            rig.check("a part", input, &wanted);
        }
        let other = whole.with(|frame| frame.destination.set_ip(before(to.ip())));
        let later = &parts(&other.bytes(), v6, 7)[1];
        rig.check("to another", later, &Expected::dropped(Reason::Fragment));
    }
}
