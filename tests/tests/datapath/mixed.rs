//! Backends of another family than the VIP: outer headers of IPv6 around IPv4, and of IPv4 around IPv6.

use std::net::SocketAddr;

use xlb_common::{
    maps::{feature, forward, protocol, service_option, service_state},
    reason::Reason,
    slot::SlotWord,
};

use crate::{
    check::{Expected, TX, hex},
    decap_rig::tunnel_of,
    frame::{
        Carries, ETHERNET_BYTES, Frame, IPV6_BYTES, Tunnel, UDP_BYTES, encapsulated, sum_header,
    },
    icmp,
    kinds::{
        ALL_FEATURES, Kind, MTU, SAME, backend, backend_address, backend_mac, egress_mac,
        outer_source, to_vip,
    },
    rig::Rig,
    too_big::{answered, put_clients, request, says, told, tunnels},
};

const STABLE: u16 = 30;
const TARGET: u16 = 31;

/// Services in tunnels, whose backends are of the other family.
fn rig(features: u32) -> Rig {
    let mut rig = Rig::new(features);
    for kind in tunnels() {
        rig.put_backend(kind.number(), &backend(!kind.v6, kind.number()));
    }
    rig
}

/// Bytes of the outer headers.
const fn outer_bytes(kind: Kind) -> usize {
    let udp = if kind.forward == forward::GUE { 8 } else { 0 };
    udp + if kind.v6 { 20 } else { 40 }
}

/// A frame in a header to the backend of this number, as the program makes it: nobody fragments IPv6 on
/// its way, so that an outer header of IPv4 has no identification.
fn wrapped(frame: &[u8], kind: Kind, number: u16, tunnel: Tunnel) -> Vec<u8> {
    let to = backend_address(!kind.v6, number);
    let mut bytes = encapsulated(frame, outer_source(!kind.v6), to, tunnel);
    if kind.v6 {
        bytes[ETHERNET_BYTES + 4..ETHERNET_BYTES + 6].fill(0);
        sum_header(&mut bytes);
    }
    bytes
}

fn expected(rig: &Rig, kind: Kind, request: &Frame) -> Vec<u8> {
    let tunnel = tunnel_of(&rig.run(&request.bytes()).bytes, !kind.v6, kind.forward);
    let inner = kind.forwarded(request).bytes();
    wrapped(&inner, kind, kind.number(), tunnel)
}

#[test]
fn packets_come_to_backends_of_the_other_family() {
    for kind in tunnels() {
        let mode = if kind.forward == forward::GUE {
            feature::GUE
        } else {
            feature::IPIP
        };
        let alone = feature::IPV4 | feature::IPV6 | feature::MIXED | mode;
        for features in [ALL_FEATURES, alone] {
            let rig = rig(features);
            let open = kind.request();
            let odd = open.with(|frame| frame.payload = b"odd".to_vec());
            let empty = open.with(|frame| frame.payload.clear());
            for request in [open, odd, empty] {
                let output = expected(&rig, kind, &request);
                rig.check(
                    &format!("{kind:?}, {} bytes", request.payload.len()),
                    &request.bytes(),
                    &Expected::forwarded(&request, kind.counter(), output),
                );
            }
        }
    }
}

/// Without a checksum inside there is nothing that one outside could be made of.
#[test]
fn a_datagram_without_checksum_has_none_outside_either() {
    let rig = rig(ALL_FEATURES);
    let kind = Kind::new(false, protocol::UDP, forward::GUE);
    let request = kind.request();
    let mut input = request.bytes();
    let udp = request.transport_offset() + 6;
    input[udp..udp + 2].fill(0);
    let mut output = expected(&rig, kind, &request);
    let (outer, inner) = (
        ETHERNET_BYTES + IPV6_BYTES + 6,
        udp + IPV6_BYTES + UDP_BYTES,
    );
    output[outer..outer + 2].fill(0);
    output[inner..inner + 2].fill(0);
    let outcome = rig.run(&input);
    assert_eq!((outcome.action, hex(&outcome.bytes)), (TX, hex(&output)));
}

#[test]
fn a_packet_may_fill_the_mtu_with_its_outer_header_and_is_answered_beyond() {
    let rig = rig(ALL_FEATURES);
    for kind in tunnels() {
        let most = usize::from(MTU) - outer_bytes(kind);
        let fits = request(kind, most);
        let output = expected(&rig, kind, &fits);
        let name = format!("{kind:?}");
        rig.check(
            &name,
            &fits.bytes(),
            &Expected::forwarded(&fits, kind.counter(), output),
        );
        let exceeds = request(kind, most + 1);
        rig.check(&name, &exceeds.bytes(), &answered(&exceeds, most));
    }
}

#[test]
fn errors_about_a_backends_packets_come_to_it_in_its_family() {
    let rig = rig(ALL_FEATURES);
    for kind in tunnels() {
        let about = icmp::answer(kind);
        let input = icmp::error(icmp::too_big(kind.v6), &about, icmp::quote(&about, 20));
        let tunnel = tunnel_of(&rig.run(&input.bytes()).bytes, !kind.v6, kind.forward);
        let inner = input.with(|frame| {
            frame.source_mac = egress_mac(SAME);
            frame.destination_mac = backend_mac(kind.number());
            frame.ttl -= 1;
        });
        let output = wrapped(&inner.bytes(), kind, kind.number(), tunnel);
        let mut wanted = Expected::forwarded(&input, kind.counter(), output);
        wanted.reasons.push(Reason::IcmpError);
        rig.check(&format!("{kind:?}"), &input.bytes(), &wanted);
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
    let quoted = wrapped(&sent, kind, kind.number(), tunnel);
    let from = SocketAddr::new(outer_source(!kind.v6), 0);
    to_vip(from, says(!kind.v6, mtu)).with(|frame| {
        frame.source = SocketAddr::new(backend_address(!kind.v6, 77), 0);
        let end = (ETHERNET_BYTES + bytes).min(quoted.len());
        frame.payload = quoted[ETHERNET_BYTES..end].to_vec();
    })
}

#[test]
fn a_routers_word_about_an_outer_packet_goes_to_the_client_in_its_family() {
    let mut rig = rig(ALL_FEATURES);
    put_clients(&mut rig);
    for kind in tunnels() {
        let (v6, outer) = (kind.v6, outer_bytes(kind));
        let least = outer + if v6 { 40 } else { 20 } + 8;
        for bytes in [least, usize::MAX - ETHERNET_BYTES] {
            for (mtu, told_mtu) in [
                (1400, 1400 - outer),
                (600, if v6 { 1280 } else { 600 - outer }),
            ] {
                let input = of_router(kind, mtu, bytes);
                let wanted = told(v6, told_mtu, &input.payload[outer..]);
                let name = format!("{kind:?}, mtu {mtu}, {bytes} bytes quoted");
                rig.check(&name, &input.bytes(), &wanted);
            }
        }
        // What quotes too little of the packet within is for the host.
        let short = of_router(kind, 1400, least - 1).bytes();
        rig.check(
            &format!("{kind:?} short"),
            &short,
            &Expected::passed(Reason::NotForService, &short),
        );
    }
}

#[test]
fn an_alternative_is_named_if_it_is_of_the_backends_family() {
    for kind in tunnels().filter(|kind| kind.protocol == protocol::TCP) {
        for target_v6 in [false, true] {
            let mut rig = Rig::new(ALL_FEATURES);
            let mut service = kind.service();
            service.state = service_state::MOVING;
            service.options = service_option::SECOND_CHANCE;
            rig.put_service(kind, &service);
            rig.put_slot(kind.slot(), SlotWord::marked(STABLE, TARGET));
            for (position, number, v6) in [(0, STABLE, !kind.v6), (1, TARGET, target_v6)] {
                let mut value = backend(v6, number);
                value.position = position;
                rig.put_backend(number, &value);
            }
            let packet = kind
                .request()
                .with(|frame| frame.carries = Carries::Segment(77));
            let inner = packet.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = backend_mac(STABLE);
                frame.ttl -= 1;
            });
            let tunnel = tunnel_of(&rig.run(&packet.bytes()).bytes, !kind.v6, kind.forward);
            let is_named = target_v6 != kind.v6;
            let bytes = if is_named {
                let within = wrapped(&inner.bytes(), kind, TARGET, tunnel);
                wrapped(&within, kind, STABLE, tunnel)
            } else {
                wrapped(&inner.bytes(), kind, STABLE, tunnel)
            };
            let mut wanted = Expected::forwarded(&packet, service.counter_base, bytes);
            if is_named {
                wanted.reasons.push(Reason::SecondChance);
            }
            let name = format!("{kind:?}, target of IPv6: {target_v6}");
            rig.check(&name, &packet.bytes(), &wanted);
        }
    }
}
