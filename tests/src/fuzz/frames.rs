//! Valid frames of all kinds that a balancer meets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xlb_common::maps::{forward, protocol};

use super::{
    balancer::FRAME_BYTES_MAX,
    build::{Ip, frame, ports, tcp},
    fragments, mutate,
    random::Random,
    worlds::{client, endpoint, flow_client},
};
use crate::model::{Backend, ETHERNET_BYTES, GUE_PORT, Service, World};

/// Room that a test run leaves for a frame: a page less what comes before and after.
pub(super) const INPUT_BYTES_MAX: usize = FRAME_BYTES_MAX - 256 - 320;

const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];
const TTLS: [u8; 8] = [64, 64, 63, 255, 128, 2, 1, 0];

/// Adds a frame for a world, or those of the fragments of a datagram.
pub(super) fn more(random: &mut Random, world: &World, frames: &mut Vec<Vec<u8>>) {
    if random.percent(4) {
        frames.extend(in_fragments(random, world));
    } else {
        frames.push(any(random, world));
    }
}

/// A datagram in fragments, some of which are not as they should be.
fn in_fragments(random: &mut Random, world: &World) -> Vec<Vec<u8>> {
    let service = &world.services[random.below(world.services.len())];
    let length = random.pick(&[40, 200, 200, 700, 1500, 2500]);
    let data = random.bytes(length);
    let packet = match random.below(20) {
        0 => {
            let from = client(random, service.vip.is_ipv6());
            let ip = ip(random, from, service.vip.ip());
            let kind = if service.vip.is_ipv6() { 128 } else { 8 };
            ip.icmp(kind, 0, [0, 7, 0, 9], &data)
        }
        1..6 => {
            let backend = member(random, world, service).address;
            let to = flow_client(random, service.vip.is_ipv6());
            let ip = ip(random, backend.ip(), to.ip());
            transport(random, service, ip, ports(backend, to), &data)
        }
        _ => {
            let from = flow_client(random, service.vip.is_ipv6());
            packet(random, service, from, &data)
        }
    };
    fragments::of(random, &packet)
        .into_iter()
        .map(|packet| {
            let mut frame = frame(world.interfaces[0].mac, ROUTER_MAC, &packet);
            if random.percent(6) {
                mutate::some(random, &mut frame);
            }
            frame.truncate(INPUT_BYTES_MAX);
            frame
        })
        .collect()
}

/// A frame for a world, valid or not.
fn any(random: &mut Random, world: &World) -> Vec<u8> {
    let mut frame = valid(random, world);
    if random.percent(45) {
        mutate::some(random, &mut frame);
    } else if random.percent(8) {
        let length = frame.len() + random.between(1, 50);
        frame.resize(length, random.byte());
    }
    frame.truncate(INPUT_BYTES_MAX);
    frame
}

fn valid(random: &mut Random, world: &World) -> Vec<u8> {
    let service = &world.services[random.below(world.services.len())];
    let packet = match random.below(100) {
        0..45 => of_flow(random, service),
        45..51 => large(random, world, service),
        51..55 => echo(random, service),
        55..67 => error_about_answer(random, service),
        67..73 => error_about_request(random, world, service),
        73..79 => error_about_tunnel(random, world, service),
        79..90 => reply(random, world, service),
        90..96 => elsewhere(random, service),
        _ => other_protocol(random, service),
    };
    let to = if random.percent(3) {
        random.pick(&[[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [2, 9, 9, 9, 9, 9]])
    } else {
        world.interfaces[0].mac
    };
    frame(to, ROUTER_MAC, &packet)
}

fn ip(random: &mut Random, source: IpAddr, destination: IpAddr) -> Ip {
    Ip {
        source,
        destination,
        ttl: if random.percent(15) {
            random.pick(&TTLS)
        } else {
            61
        },
        class: if random.coin() { 0 } else { random.byte() },
        identification: random.half(),
        dont_fragment: random.percent(80),
        flow_label: if random.coin() { 0 } else { random.word() },
    }
}

fn data(random: &mut Random) -> Vec<u8> {
    let length = random.pick(&[0, 0, 1, 2, 7, 24, 100]);
    random.bytes(length)
}

fn of_flow(random: &mut Random, service: &Service) -> Vec<u8> {
    let from = if random.percent(5) {
        martian(random, service.vip)
    } else {
        flow_client(random, service.vip.is_ipv6())
    };
    let data = data(random);
    packet(random, service, from, &data)
}

fn packet(random: &mut Random, service: &Service, from: SocketAddr, data: &[u8]) -> Vec<u8> {
    let to = endpoint(random, service);
    let ip = ip(random, from.ip(), to.ip());
    let ports = ports(from, to);
    if service.is_tcp() {
        segment(random, ip, ports, data)
    } else {
        ip.udp(ports, random.percent(80), data)
    }
}

fn segment(random: &mut Random, ip: Ip, ports: [u16; 2], data: &[u8]) -> Vec<u8> {
    let flags = random.pick(&[
        tcp::SYN,
        tcp::SYN,
        tcp::SYN,
        tcp::ACK,
        tcp::ACK,
        tcp::ACK,
        tcp::ACK | tcp::FIN,
        tcp::RST,
        tcp::ACK | tcp::RST,
        tcp::SYN | tcp::ACK,
        tcp::SYN | tcp::RST,
        tcp::SYN | tcp::FIN,
        0,
        0xff,
    ]);
    let isn = 1000 * random.below(4) as u32;
    let sequence = match random.below(6) {
        0..3 if flags & tcp::SYN != 0 => isn,
        0..3 => isn + 1,
        3 => isn + random.below(70_000) as u32,
        4 => random.word(),
        _ => isn,
    };
    let options = random.pick(&[
        &[][..],
        &[][..],
        &[2, 4, 5, 0xb4],
        &[1, 1, 1, 0, 1, 1, 1, 1],
    ]);
    ip.tcp(ports, sequence, flags, options, data)
}

fn martian(random: &mut Random, vip: SocketAddr) -> SocketAddr {
    let address: IpAddr = if vip.is_ipv6() {
        random
            .pick(&[
                0,
                1,
                0xff02_u128 << 112 | 1,
                0xfe80_u128 << 112 | 5,
                0xffff_0a00_0001,
            ])
            .to_be_bytes()
            .into()
    } else {
        random
            .pick(&[
                [0, 0, 0, 0],
                [0, 1, 2, 3],
                [127, 0, 0, 1],
                [224, 0, 0, 1],
                [240, 1, 1, 1],
                [255, 255, 255, 255],
                [169, 254, 1, 1],
            ])
            .into()
    };
    let address = if random.percent(15) {
        vip.ip()
    } else {
        address
    };
    SocketAddr::new(address, 40_000)
}

/// A packet about as large as interfaces take.
fn large(random: &mut Random, world: &World, service: &Service) -> Vec<u8> {
    let mtu = world.interfaces[random.below(world.interfaces.len())].mtu;
    let size = if mtu == 0 { 1500 } else { usize::from(mtu) };
    let headers =
        if service.vip.is_ipv6() { 40 } else { 20 } + if service.is_tcp() { 20 } else { 8 };
    let away = random.pick(&[0, 20, 21, 28, 29, 40, 41, 48, 49, 56, 57, 80, 81, 96, 97]);
    let bytes = size.saturating_sub(away + headers);
    let data = vec![random.byte(); bytes.min(2800)];
    let from = if random.percent(10) {
        martian(random, service.vip)
    } else {
        flow_client(random, service.vip.is_ipv6())
    };
    packet(random, service, from, &data)
}

fn echo(random: &mut Random, service: &Service) -> Vec<u8> {
    let v6 = service.vip.is_ipv6();
    let from = if random.percent(15) {
        martian(random, service.vip).ip()
    } else {
        client(random, v6)
    };
    let to = endpoint(random, service);
    let ip = ip(random, from, to.ip());
    let kind = match (v6, random.below(4)) {
        (false, 0) => random.byte(),
        (true, 0) => random.byte(),
        (false, _) => 8,
        (true, _) => 128,
    };
    let code = if random.percent(90) { 0 } else { random.byte() };
    let data = data(random);
    ip.icmp(kind, code, [0, 7, 0, 9], &data)
}

/// An error's type, code, and what follows the checksum.
fn error_kind(random: &mut Random, v6: bool) -> (u8, u8, [u8; 4]) {
    let mtu = random.pick(&[0_u16, 68, 576, 620, 1280, 1300, 1400, 1500, 0xffff]);
    let [high, low] = mtu.to_be_bytes();
    let (kind, codes, rest): (u8, u8, [u8; 4]) = if v6 {
        random.pick(&[
            (1, 7, [0; 4]),
            (2, 1, [0, 0, high, low]),
            (2, 1, [0, 0, high, low]),
            (3, 2, [0; 4]),
            (4, 3, [0, 0, 0, 6]),
            (5, 1, [0; 4]),
            (137, 1, [0; 4]),
        ])
    } else {
        random.pick(&[
            (3, 4, [0; 4]),
            (3, 16, [0, 0, high, low]),
            (11, 2, [0; 4]),
            (12, 3, [9, 0, 0, 0]),
            (4, 1, [0; 4]),
            (5, 2, [10, 0, 0, 1]),
        ])
    };
    if !v6 && kind == 3 && random.coin() {
        return (3, 4, [0, 0, high, low]);
    }
    (kind, random.below(codes.into()) as u8, rest)
}

/// What an error quotes of a packet: at least what it has to.
fn quotation(random: &mut Random, packet: &[u8]) -> Vec<u8> {
    let header = if packet[0] >> 4 == 6 { 40 } else { 20 };
    let bytes = header
        + match random.below(6) {
            0 => 8,
            1 => 20,
            2 => random.below(40),
            _ => packet.len(),
        };
    packet[..bytes.min(packet.len()).min(1200)].to_vec()
}

fn error(random: &mut Random, about: &[u8], to: IpAddr) -> Vec<u8> {
    let v6 = to.is_ipv6();
    let router: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(10, 77, 0, 1).into()
    };
    let ip = ip(random, router, to);
    let (kind, code, rest) = error_kind(random, v6);
    let mut quoted = quotation(random, about);
    if random.percent(10) {
        mutate::quotation(random, &mut quoted);
    }
    ip.icmp(kind, code, rest, &quoted)
}

/// An error about what a backend said to a client.
fn error_about_answer(random: &mut Random, service: &Service) -> Vec<u8> {
    let to = flow_client(random, service.vip.is_ipv6());
    let vip = endpoint(random, service);
    let mut about = ip(random, vip.ip(), to.ip());
    about.ttl = random.pick(&[0, 1, 60]);
    let data = data(random);
    let about = transport(random, service, about, ports(vip, to), &data);
    let receiver = if random.percent(3) {
        client(random, service.vip.is_ipv6())
    } else {
        vip.ip()
    };
    error(random, &about, receiver)
}

fn transport(
    random: &mut Random,
    service: &Service,
    ip: Ip,
    ports: [u16; 2],
    data: &[u8],
) -> Vec<u8> {
    if service.is_tcp() {
        let number = random.word();
        ip.tcp(ports, number, tcp::ACK, &[], data)
    } else {
        ip.udp(ports, random.percent(80), data)
    }
}

fn member<'a>(random: &mut Random, world: &'a World, service: &Service) -> &'a Backend {
    let members = &world.pools[service.pool].members;
    let number = random.pick(members);
    &world.backends[usize::from(number.max(1)) - 1]
}

/// Where a backend gets a packet of a client, and answers from.
fn backend_endpoint(random: &mut Random, world: &World, service: &Service) -> SocketAddr {
    let mut at = member(random, world, service).address;
    if at.port() == 0 {
        at.set_port(endpoint(random, service).port());
    }
    at
}

/// An error about a client's packet, as it was sent to a backend.
fn error_about_request(random: &mut Random, world: &World, service: &Service) -> Vec<u8> {
    let backend = backend_endpoint(random, world, service);
    let from = flow_client(random, service.vip.is_ipv6());
    let about = ip(random, from.ip(), backend.ip());
    let data = data(random);
    let about = transport(random, service, about, ports(from, backend), &data);
    error(random, &about, from.ip())
}

/// An error about an outer packet on its way to a backend.
fn error_about_tunnel(random: &mut Random, world: &World, service: &Service) -> Vec<u8> {
    let backend = member(random, world, service);
    let from = flow_client(random, service.vip.is_ipv6());
    let data = data(random);
    let inner = packet(random, service, from, &data);
    let outer = ip(random, backend.outer_source, backend.address.ip());
    let gue = if random.percent(90) {
        service.forward == forward::GUE
    } else {
        random.coin()
    };
    let about = if gue {
        outer.udp([50_000, GUE_PORT], backend.address.is_ipv6(), &inner)
    } else {
        let number = if inner[0] >> 4 == 6 {
            protocol::IPV6
        } else {
            protocol::IPV4
        };
        outer.packet(number, &inner)
    };
    error(random, &about, backend.outer_source)
}

fn reply(random: &mut Random, world: &World, service: &Service) -> Vec<u8> {
    let backend = backend_endpoint(random, world, service);
    let to = if random.percent(5) {
        martian(random, service.vip)
    } else {
        flow_client(random, service.vip.is_ipv6())
    };
    let ip = ip(random, backend.ip(), to.ip());
    let data = data(random);
    transport(random, service, ip, ports(backend, to), &data)
}

/// To a port or an address that no service has.
fn elsewhere(random: &mut Random, service: &Service) -> Vec<u8> {
    let from = flow_client(random, service.vip.is_ipv6());
    let mut to = service.vip;
    if random.coin() {
        to.set_port(random.half());
    } else {
        to.set_ip(client(random, to.is_ipv6()));
    }
    let ip = ip(random, from.ip(), to.ip());
    let data = data(random);
    transport(random, service, ip, ports(from, to), &data)
}

fn other_protocol(random: &mut Random, service: &Service) -> Vec<u8> {
    let from = client(random, service.vip.is_ipv6());
    let ip = ip(random, from, service.vip.ip());
    let mut data = data(random);
    data.extend([0; 8]);
    let number = random.pick(&[
        0, 1, 2, 4, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255,
    ]);
    ip.packet(number, &data)
}

/// Bytes of the shortest frame that a test run takes.
pub(super) const INPUT_BYTES_MIN: usize = ETHERNET_BYTES;
