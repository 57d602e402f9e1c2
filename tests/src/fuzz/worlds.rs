//! Configurations: what an agent may have written into the maps at some moment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xlb_common::{
    flow::FlowKey,
    maps::{backend_flag, feature, forward, protocol, service_state, vlan_tag},
    record::{CONFIRMED, FlowValue, TOMBSTONE},
    slot::SlotWord,
};

use super::random::Random;
use crate::model::{Backend, Interface, Pool, Record, Route, Service, Way, World, contains, whole};

/// Counters that each service has.
pub(super) const COUNTERS_EACH: u32 = 8;

/// Services at most.
pub(super) const SERVICES_MAX: usize = 6;

const MTUS: [u16; 9] = [1500, 1500, 1500, 1400, 0, 1320, 9000, 600, 540];
const PORTS: [u16; 5] = [80, 443, 53, 6080, 65_535];
const SLOTS: [usize; 5] = [1, 2, 5, 13, 61];

/// A VIP, of which there are two a family.
fn vip(v6: bool, number: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(number)).into()
    } else {
        Ipv4Addr::new(192, 0, 2, number).into()
    }
}

fn backend_address(v6: bool, pool: usize, number: usize) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 1, pool as u16, 0, 0, 0, number as u16).into()
    } else {
        Ipv4Addr::new(10, 0, pool as u8, number as u8).into()
    }
}

/// A client's address: of those that routes lead to, of this host, or of somewhere.
pub(super) fn client(random: &mut Random, v6: bool) -> IpAddr {
    let last = random.between(1, 6) as u8;
    match (random.below(10), v6) {
        (0, false) => Ipv4Addr::new(203, 0, 113, last).into(),
        (0, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, last.into()).into(),
        (1, false) => Ipv4Addr::new(100, 64, 0, last).into(),
        (1, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xe, 0, 0, 0, 0, last.into()).into(),
        (_, false) => Ipv4Addr::new(198, 51, 100, last).into(),
        (_, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, last.into()).into(),
    }
}

/// A configuration and what has been recorded under it.
pub(super) fn world(random: &mut Random, now_s: u32) -> World {
    let interfaces = (0..random.pick(&[1, 1, 2, 3]))
        .map(|index| Interface {
            mac: [2, 0, 0, 2, 0, 1 + index],
            mtu: random.pick(&MTUS),
            ifindex: if index == 0 { 1 } else { 98 + u32::from(index) },
            tag: random.pick(&[0, 0, 0, vlan_tag(0x8100, 20), vlan_tag(0x88a8, 4094)]),
        })
        .collect();
    let mut world = World {
        features: 0,
        hash_key: [random.long(), random.long()],
        interfaces,
        services: Vec::new(),
        pools: Vec::new(),
        backends: Vec::new(),
        routes: Vec::new(),
        pending: (Vec::new(), random.between(4, 40)),
        flows: (Vec::new(), random.between(4, 40)),
    };
    let families = random.pick(&[[true, false], [false, true], [true, true], [true, true]]);
    for (v6, _) in [false, true]
        .into_iter()
        .zip(families)
        .filter(|(_, on)| *on)
    {
        for _ in 0..random.between(1, 3) {
            pool(random, &mut world, v6);
        }
        routes(random, &mut world, v6);
    }
    for number in 0..random.between(1, SERVICES_MAX + 1) {
        service(random, &mut world, number as u32);
    }
    world.features = features(random, &world);
    records(random, &mut world, now_s);
    world
}

fn way(random: &mut Random, world: &World, last: u8) -> Way {
    Way {
        mac: [2, 0, 0, 1, random.byte(), last],
        egress: 1 + random.below(world.interfaces.len()) as u16,
    }
}

fn pool(random: &mut Random, world: &mut World, v6: bool) {
    let place = world.pools.len();
    let first = world.backends.len();
    // Backends may take the port that packets have.
    let portless = random.percent(35);
    for number in 0..random.between(1, 6) {
        // Some hosts are two backends, by two ports.
        let host = if !portless && random.percent(10) {
            1
        } else {
            number + 1
        };
        let port = if portless { 0 } else { 8080 + number as u16 };
        let mut flags = backend_flag::USED;
        for (bits, share) in [
            (backend_flag::DRAIN, 10),
            (backend_flag::DOWN, 10),
            (backend_flag::DOWN | backend_flag::DEAD, 6),
        ] {
            if random.percent(share) {
                flags |= bits;
            }
        }
        let next_hop = (!random.percent(5)).then(|| way(random, world, number as u8));
        world.backends.push(Backend {
            address: SocketAddr::new(backend_address(v6, place, host), port),
            outer_source: backend_address(v6, 200, 1 + random.below(2)),
            next_hop,
            flags,
            position: number as u16,
            weight: random.pick(&[1, 1, 1, 2, 10, 0]),
            connections: 0,
        });
    }
    let members: Vec<u16> = (first..world.backends.len())
        .map(|place| place as u16 + 1)
        .collect();
    let moving = random.percent(60);
    let slots = (0..random.pick(&SLOTS))
        .map(|_| slot(random, &members, moving))
        .collect();
    let sequence = (0..random.below(7))
        .map(|_| random.pick(&members))
        .collect();
    world.pools.push(Pool {
        members,
        slots,
        sequence,
        offset: place as u32 * 64 + random.below(3) as u32,
    });
}

fn own_pool(world: &mut World, v6: bool) -> usize {
    let place = world.pools.len();
    world.backends.push(Backend {
        address: SocketAddr::new(backend_address(v6, 99, place), 443),
        outer_source: backend_address(v6, 200, 1),
        next_hop: None,
        flags: backend_flag::USED,
        position: 0,
        weight: 1,
        connections: 0,
    });
    let number = world.backends.len() as u16;
    world.pools.push(Pool {
        members: vec![number],
        slots: vec![SlotWord::rest(number)],
        sequence: Vec::new(),
        offset: place as u32 * 64,
    });
    place
}

fn slot(random: &mut Random, members: &[u16], moving: bool) -> SlotWord {
    let stable = if random.percent(3) {
        0
    } else {
        random.pick(members)
    };
    if !moving || random.percent(25) {
        return SlotWord::rest(stable);
    }
    let target = if random.percent(15) {
        stable
    } else {
        random.pick(members)
    };
    SlotWord::marked(stable, target).with_settling(random.percent(10))
}

fn service(random: &mut Random, world: &mut World, number: u32) {
    // Those of services of this host have no others.
    let shared = world.pools.len()
        - world
            .services
            .iter()
            .filter(|it| it.forward == forward::LOCAL)
            .count();
    let pool = random.below(shared);
    let first = world.pools[pool].members[0];
    let v6 = world
        .backend(first)
        .is_some_and(|backend| backend.address.is_ipv6());
    let protocol = random.pick(&[protocol::TCP, protocol::TCP, protocol::UDP]);
    let forward = random.pick(&[
        forward::DNAT,
        forward::DNAT,
        forward::L2_DSR,
        forward::IPIP,
        forward::GUE,
    ]);
    let address = vip(v6, 10 + random.below(2) as u8);
    let is_portless = world
        .backend(first)
        .is_some_and(|backend| backend.address.port() == 0);
    let At {
        vip,
        bits,
        last_port,
    } = at(random, address, forward, is_portless);
    let taken = world.services.iter().any(|other| {
        other.specificity() == specificity(vip, bits, last_port)
            && contains(vip.ip(), bits, other.vip.ip())
            && other.vip.port() <= last_port
            && vip.port() <= other.last_port
            && other.protocol == protocol
            || forward == forward::DNAT
                && other.forward == forward
                && other.pool == pool
                && other.protocol == protocol
            || other.fragments_by_address
                && contains(vip.ip(), bits, other.vip.ip())
                && other.protocol == protocol
    });
    if taken {
        return;
    }
    let mut state = random.pick(&[
        0,
        0,
        0,
        service_state::CLIENT_IP,
        service_state::TRACKED,
        service_state::TRACKED | service_state::ROUND_ROBIN,
        service_state::TRACKED | service_state::LEAST_CONNECTIONS,
    ]);
    if protocol == protocol::TCP && state == service_state::TRACKED {
        state = 0;
    }
    let by_ring = state & service_state::TRACKED == 0;
    if random.percent(5) {
        state |= service_state::REFUSE;
    }
    // A service of this host has a pool of its own, with one backend.
    let local = random.percent(8);
    let (forward, pool, state) = if local {
        (
            forward::LOCAL,
            own_pool(world, v6),
            state & service_state::REFUSE,
        )
    } else {
        (forward, pool, state)
    };
    // Fragments have no port, so that they are one service's.
    let is_alone = world
        .services
        .iter()
        .all(|other| !contains(other.vip.ip(), other.bits, address) || other.protocol != protocol);
    let is_exact = bits == whole(address) && vip.port() == last_port;
    let fragments_by_address =
        is_exact && protocol == protocol::UDP && by_ring && is_alone && random.percent(40);
    world.services.push(Service {
        fragments_by_address,
        vip,
        bits,
        last_port,
        protocol,
        forward,
        pool,
        state,
        second_chance: by_ring
            && protocol == protocol::TCP
            && matches!(forward, forward::IPIP | forward::GUE)
            && random.percent(70),
        counter_base: number * COUNTERS_EACH,
        turns: 0,
    });
}

/// Where a service takes packets in.
struct At {
    vip: SocketAddr,
    bits: u8,
    last_port: u16,
}

/// One address and port, or several. Under `dnat` only the ports can be several, and only if the
/// backends take them as they are.
fn at(random: &mut Random, address: IpAddr, forward: u8, is_portless: bool) -> At {
    let port = random.pick(&PORTS);
    let bits = whole(address);
    let several_ports = forward != forward::DNAT || is_portless;
    let (first, last_port) = match random.below(10) {
        0 | 1 if several_ports => (0, u16::MAX),
        2..4 if several_ports => {
            random.pick(&[(50, 100), (440, 443), (90, 7000), (1, 65_535), (6080, 6081)])
        }
        _ => (port, port),
    };
    let prefix = forward != forward::DNAT && random.percent(25);
    let bits = if prefix {
        bits - random.pick(&[1, 3, 4, 8])
    } else {
        bits
    };
    At {
        vip: SocketAddr::new(network(address, bits), first),
        bits,
        last_port,
    }
}

/// The first address of the prefix that an address is in.
fn network(address: IpAddr, bits: u8) -> IpAddr {
    let free = whole(address) - bits;
    match address {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) >> free << free).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> free << free).into(),
    }
}

fn specificity(vip: SocketAddr, bits: u8, last_port: u16) -> (u8, u8) {
    let ports = match (vip.port(), last_port) {
        (first, last) if first == last => 2,
        (0, u16::MAX) => 0,
        _ => 1,
    };
    (bits, ports)
}

/// One of a service's endpoints, of the few that flows come to again and again.
pub(super) fn endpoint(random: &mut Random, service: &Service) -> SocketAddr {
    let free = whole(service.vip.ip()) - service.bits;
    let last = if free == 0 {
        0
    } else {
        random.below(1 << free.min(4)) as u8
    };
    let address = match service.vip.ip() {
        IpAddr::V4(address) => Ipv4Addr::from(u32::from(address) | u32::from(last)).into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) | u128::from(last)).into(),
    };
    let (first, last) = (service.vip.port(), service.last_port);
    let port = random.pick(&[
        first,
        last,
        first.saturating_add(1).min(last),
        443.clamp(first, last),
    ]);
    SocketAddr::new(address, port)
}

fn routes(random: &mut Random, world: &mut World, v6: bool) {
    let (to, bits) = if v6 {
        (Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0).into(), 64)
    } else {
        (Ipv4Addr::new(198, 51, 100, 0).into(), 24)
    };
    let mut add = |prefix: IpAddr, bits: u8, way: Option<Way>| {
        world.routes.push(Route { prefix, bits, way });
    };
    let whole = if v6 { 128 } else { 32 };
    let mut ways: Vec<Way> = Vec::new();
    for last in [9, 7] {
        ways.push(Way {
            mac: [2, 0, 0, 9, 9, last],
            egress: 1 + random.below(world.interfaces.len()) as u16,
        });
    }
    if random.percent(90) {
        add(to, bits, Some(ways[0]));
    }
    if random.percent(30) {
        let of_one: IpAddr = if v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 3).into()
        } else {
            Ipv4Addr::new(198, 51, 100, 3).into()
        };
        add(of_one, whole, Some(ways[1]));
    }
    for last in 1..4 {
        let own: IpAddr = if v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, last).into()
        } else {
            Ipv4Addr::new(203, 0, 113, last as u8).into()
        };
        add(own, whole, None);
    }
}

/// What the configuration needs, and sometimes more.
fn features(random: &mut Random, world: &World) -> u32 {
    let mut features = 0;
    let mut needs = |condition: bool, bit: u32| {
        if condition || random.percent(20) {
            features |= bit;
        }
    };
    let any = |what: &dyn Fn(&Service) -> bool| world.services.iter().any(what);
    needs(any(&|it| it.vip.is_ipv4()), feature::IPV4);
    needs(any(&|it| it.vip.is_ipv6()), feature::IPV6);
    needs(any(&|it| it.forward == forward::DNAT), feature::DNAT);
    needs(any(&|it| it.forward == forward::L2_DSR), feature::L2_DSR);
    needs(any(&|it| it.forward == forward::IPIP), feature::IPIP);
    needs(any(&|it| it.forward == forward::GUE), feature::GUE);
    needs(any(&|it| it.forward == forward::LOCAL), feature::LOCAL);
    needs(world.interfaces.len() > 1, feature::REDIRECT);
    needs(world.interfaces.iter().any(|it| it.tag != 0), feature::VLAN);
    needs(
        any(&|it| it.has(service_state::CLIENT_IP)),
        feature::CLIENT_IP,
    );
    needs(any(&|it| it.second_chance), feature::SECOND_CHANCE);
    let portless = world.repliers().any(|it| {
        let backend = world.backend(it.backend);
        backend.is_some_and(|backend| backend.address.port() == 0)
    });
    needs(portless || any(&|it| !it.is_exact()), feature::WIDE);
    let by_connection = any(&|it| it.has(service_state::BY_CONNECTION));
    needs(by_connection, feature::BY_CONNECTION);
    let by_connection = features & feature::BY_CONNECTION != 0;
    if by_connection || any(&|it| it.has(service_state::TRACKED)) || random.percent(20) {
        features |= feature::TRACKED;
    }
    features
}

/// Flows that are recorded before the first frame.
fn records(random: &mut Random, world: &mut World, now_s: u32) {
    for pending in [true, false] {
        let room = if pending {
            world.pending.1
        } else {
            world.flows.1
        };
        let mut records: Vec<Record> = Vec::new();
        for _ in 0..random.below(room + 1) {
            let service = &world.services[random.below(world.services.len())];
            let from = flow_client(random, service.vip.is_ipv6());
            let to = endpoint(random, service);
            let Some(key) = FlowKey::between(from, to, service.protocol) else {
                continue;
            };
            let mut flags = 0;
            if pending && random.percent(20) {
                flags |= CONFIRMED;
            }
            if random.percent(10) {
                flags |= TOMBSTONE;
            }
            // Another key's, which was given the element a moment ago.
            let tag = if random.percent(3) { 7 } else { key.tag() };
            let age = random.pick(&[0, 5, 30, 100, 4000]);
            let backend = random.pick(&world.pools[service.pool].members);
            let isn = 1000 * random.below(4) as u32;
            let value = FlowValue::new(backend, flags, tag, isn, now_s.saturating_sub(age));
            if records.iter().all(|(of, _)| *of != key) {
                records.push((key, value));
            }
        }
        if pending {
            world.pending.0 = records;
        } else {
            world.flows.0 = records;
        }
    }
}

/// A client of the few flows that come again and again.
pub(super) fn flow_client(random: &mut Random, v6: bool) -> SocketAddr {
    SocketAddr::new(client(random, v6), 40_000 + random.below(4) as u16)
}
