//! Packets that are too big with their outer header: the program tells their sender itself, or passes
//! on what a router behind it said.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use xlb_common::{
    maps::{NextHop, forward, protocol},
    reason::Reason,
};

use crate::{
    check::{DROP, Expected, TX},
    frame::{Carries, ETHERNET_BYTES, Frame, Tunnel, encapsulated, sum_header},
    kinds::{
        ALL_FEATURES, Kind, MTU, SAME, backend_address, client, egress_mac, outer_source, to_vip,
        vip,
    },
    rig::Rig,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const IP: usize = ETHERNET_BYTES;

pub(crate) fn tunnels() -> impl Iterator<Item = Kind> {
    let kinds = Kind::all().into_iter();
    kinds.filter(|kind| [forward::IPIP, forward::GUE].contains(&kind.forward))
}

/// Bytes of a service's outer headers.
const fn outer_bytes(kind: Kind) -> usize {
    let udp = if kind.forward == forward::GUE { 8 } else { 0 };
    udp + if kind.v6 { 40 } else { 20 }
}

/// A request whose packet has so many bytes.
pub(crate) fn request(kind: Kind, ip_bytes: usize) -> Frame {
    let headers = kind.request().transport_offset() - ETHERNET_BYTES
        + if kind.protocol == protocol::TCP {
            20
        } else {
            8
        };
    kind.request()
        .with(|frame| frame.payload = vec![7; ip_bytes - headers])
}

/// "This size fits."
pub(crate) fn says(v6: bool, mtu: usize) -> Carries {
    let [high, low] = (mtu as u16).to_be_bytes();
    let (kind, code) = if v6 { (2, 0) } else { (3, 4) };
    Carries::Error(kind, code, [0, 0, high, low])
}

/// The bytes of a message that the program made: no traffic class of ours, no flow label, no
/// identification, and the precedence that RFC 1812 gives to errors.
pub(crate) fn made(message: &Frame) -> Vec<u8> {
    let mut bytes = message.bytes();
    if message.source.is_ipv4() {
        bytes[IP + 1] = 0xc0;
        bytes[IP + 4..IP + 6].fill(0);
        sum_header(&mut bytes);
    } else {
        bytes[IP..IP + 4].copy_from_slice(&[0x60, 0, 0, 0]);
    }
    bytes
}

/// A request that is too big is answered: so many bytes fit.
pub(crate) fn answered(request: &Frame, fits: usize) -> Expected {
    Expected {
        action: TX,
        bytes: Some(answer(request, fits)),
        reasons: vec![Reason::TooBigAnswered],
        counters: Vec::new(),
    }
}

/// What should answer a request that is too big. The program has taken one from its TTL already, which
/// RFC 1812 allows.
fn answer(request: &Frame, fits: usize) -> Vec<u8> {
    let v6 = request.source.is_ipv6();
    let quoted = request.with(|frame| frame.ttl -= 1).bytes();
    let most = if v6 { 1280 - 48 } else { 576 - 28 };
    let message = Frame {
        source_mac: request.destination_mac,
        destination_mac: request.source_mac,
        source: request.destination,
        destination: request.source,
        ttl: 64,
        carries: says(v6, fits),
        payload: quoted[IP..IP + most].to_vec(),
    };
    made(&message)
}

#[test]
fn a_packet_too_big_for_its_outer_header_is_answered_by_the_size_that_fits() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in tunnels() {
        let most = usize::from(MTU) - outer_bytes(kind);
        for ip_bytes in [most + 1, most + 2, usize::from(MTU)] {
            let input = request(kind, ip_bytes);
            let name = format!("{kind:?} {ip_bytes}");
            rig.check(&name, &input.bytes(), &answered(&input, most));
        }
    }
}

/// What may be fragmented needs no answer, and nobody is told who is not one host.
#[test]
fn not_every_packet_that_is_too_big_is_answered() {
    type Mutation = fn(&mut Vec<u8>);
    let rig = Rig::new(ALL_FEATURES);
    let rows4: &[(&str, Mutation)] = &[
        ("may be fragmented", |f| f[IP + 6] = 0),
        ("from nobody", |f| f[IP + 12..IP + 16].fill(0)),
        ("from loopback", |f| f[IP + 12] = 127),
        ("from a group", |f| f[IP + 12] = 224),
        ("from everybody", |f| f[IP + 12..IP + 16].fill(255)),
        ("to everybody on the link", |f| f[..6].fill(255)),
    ];
    let rows6: &[(&str, Mutation)] = &[
        ("from nobody", |f| f[IP + 8..IP + 24].fill(0)),
        ("from a group", |f| f[IP + 8] = 0xff),
        ("from loopback", |f| {
            f[IP + 8..IP + 24].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }),
        ("to everybody on the link", |f| f[..6].fill(255)),
    ];
    for kind in tunnels() {
        for (name, mutate) in if kind.v6 { rows6 } else { rows4 } {
            let mut input = request(kind, usize::from(MTU)).bytes();
            mutate(&mut input);
            if !kind.v6 {
                sum_header(&mut input);
            }
            let dropped = Expected::dropped(Reason::TooBig);
            rig.check(&format!("{kind:?} {name}"), &input, &dropped);
        }
    }
}

/// A flood of packets that are too big is not answered by another.
#[test]
fn answers_are_limited() {
    const LIMIT: Duration = Duration::from_secs(20);
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(false, protocol::TCP, forward::IPIP);
    let input = request(kind, usize::from(MTU)).bytes();
    assert_eq!(rig.action(&input), TX);
    let deadline = Instant::now() + LIMIT;
    while rig.action(&input) != DROP {
        assert!(Instant::now() < deadline, "no answer is withheld");
    }
    while rig.action(&input) != TX {
        assert!(Instant::now() < deadline, "nobody is answered any more");
    }
}

/// What a router on the way to a backend says of a packet in its outer header, of which it quotes so
/// many bytes.
fn of_router(kind: Kind, mtu: usize, bytes: usize) -> Frame {
    let sent = kind.forwarded(&kind.request()).bytes();
    let tunnel = Tunnel {
        flow_label: 0x12345,
        udp: (kind.forward == forward::GUE).then_some(50_000),
    };
    let quoted = encapsulated(&sent, outer_source(kind.v6), kind.backend(), tunnel);
    to_vip(
        SocketAddr::new(outer_source(kind.v6), 0),
        says(kind.v6, mtu),
    )
    .with(|frame| {
        frame.source = SocketAddr::new(backend_address(kind.v6, 77), 0);
        frame.payload = quoted[IP..(IP + bytes).min(quoted.len())].to_vec();
    })
}

/// Tells the program where clients are.
pub(crate) fn put_clients(rig: &mut Rig) {
    for v6 in [false, true] {
        rig.put_route(client(v6), 16, NextHop::new(CLIENT_MAC, SAME));
    }
}

/// The VIP tells a client of the size that fits, about a packet of which this is quoted.
pub(crate) fn told(v6: bool, mtu: usize, quoted: &[u8]) -> Expected {
    let message = Frame {
        source_mac: egress_mac(SAME),
        destination_mac: CLIENT_MAC,
        source: SocketAddr::new(vip(v6), 0),
        destination: SocketAddr::new(client(v6), 0),
        ttl: 64,
        carries: says(v6, mtu),
        payload: quoted.to_vec(),
    };
    Expected {
        action: TX,
        bytes: Some(made(&message)),
        reasons: vec![Reason::TunnelTooBig],
        counters: Vec::new(),
    }
}

#[test]
fn a_routers_word_about_an_outer_packet_goes_to_the_client() {
    let mut rig = Rig::new(ALL_FEATURES);
    put_clients(&mut rig);
    for kind in tunnels() {
        let v6 = kind.v6;
        let outer = outer_bytes(kind);
        for bytes in [inner_ports(kind) + 8, usize::MAX - IP] {
            let input = of_router(kind, 1400, bytes);
            let expected = told(v6, 1400 - outer, &input.payload[outer..]);
            let name = format!("{kind:?} {bytes} bytes quoted");
            rig.check(&name, &input.bytes(), &expected);
        }
    }
}

/// Nobody is told by a word that can't be sent, and what is this host's stays as it came.
#[test]
fn a_routers_word_that_can_not_be_passed_on_is_not_counted_as_such() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in tunnels() {
        let input = of_router(kind, 1400, 120).bytes();
        let mut expected = Expected::dropped(Reason::ClientUnresolved);
        expected.reasons.push(Reason::FibLookup);
        rig.check(&format!("{kind:?} without a route"), &input, &expected);
    }
    for v6 in [false, true] {
        rig.put_route(client(v6), if v6 { 128 } else { 32 }, NextHop::LOCAL);
    }
    for kind in tunnels() {
        let input = of_router(kind, 1400, 120).bytes();
        let passed = Expected::passed(Reason::NotForService, &input);
        rig.check(&format!("{kind:?} to this host"), &input, &passed);
    }
}

/// Offset of the ports of the packet within, in what a router quotes.
const fn inner_ports(kind: Kind) -> usize {
    outer_bytes(kind) + if kind.v6 { 40 } else { 20 }
}

/// What quotes too little of the packet within, and what is about another packet, is for the host.
#[test]
fn another_word_about_an_outer_packet_is_for_the_host() {
    type Mutation = fn(&mut Frame, Kind);
    let rig = Rig::new(ALL_FEATURES);
    let rows: &[(&str, Mutation)] = &[
        ("unreachable", |frame, kind| {
            frame.carries = Carries::Error(if kind.v6 { 1 } else { 3 }, 1, [0; 4]);
        }),
        ("quoting too little", |frame, kind| {
            frame.payload.truncate(inner_ports(kind) + 7);
        }),
        ("about a packet to another address", |frame, kind| {
            frame.payload[inner_ports(kind) - 1] ^= 1;
        }),
        ("about a packet to another port", |frame, kind| {
            frame.payload[inner_ports(kind) + 2] ^= 0x80;
        }),
        ("about a packet to a port of another mode", |frame, kind| {
            let other = Kind::new(kind.v6, kind.protocol, forward::DNAT).vip();
            let at = inner_ports(kind) + 2;
            frame.payload[at..at + 2].copy_from_slice(&other.port().to_be_bytes());
        }),
        ("about another's packet", |frame, kind| {
            frame.payload[if kind.v6 { 23 } else { 15 }] ^= 1;
        }),
    ];
    for kind in tunnels() {
        for (name, mutate) in rows {
            let input = of_router(kind, 1400, 120).with(|frame| mutate(frame, kind));
            let input = input.bytes();
            let expected = Expected::passed(Reason::NotForService, &input);
            rig.check(&format!("{kind:?} {name}"), &input, &expected);
        }
    }
}
