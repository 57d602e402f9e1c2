//! Packets that reach a backend.

use xlb_common::maps::{NextHop, forward, protocol};

use crate::{
    check::{Expected, REDIRECT, TX, hex},
    decap_rig::{flow_label, tunnel_of},
    frame::{Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, UDP_BYTES},
    kinds::{
        ALL_FEATURES, CLIENT_PORT, Kind, MTU, OTHER, backend, backend_mac, egress_mac, outer_source,
    },
    rig::Rig,
    too_big,
};

/// What should come out for a request to a service of this kind. What stands for the flow in the
/// outer headers is taken from what did come out; other tests look at it.
pub(crate) fn expected(rig: &Rig, kind: Kind, request: &Frame) -> Vec<u8> {
    let inner = kind.forwarded(request);
    if ![forward::IPIP, forward::GUE].contains(&kind.forward) {
        return inner.bytes();
    }
    let tunnel = tunnel_of(&rig.run(&request.bytes()).bytes, kind.v6, kind.forward);
    inner.encapsulated(outer_source(kind.v6), kind.backend(), tunnel)
}

/// Offset in bytes of a UDP checksum within an IPv4 frame.
const UDP_CHECKSUM: std::ops::Range<usize> =
    ETHERNET_BYTES + IPV4_BYTES + 6..ETHERNET_BYTES + IPV4_BYTES + 8;

#[test]
fn every_mode_forwards_both_families_and_both_protocols() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let open = kind.request();
        let odd = open.with(|frame| frame.payload = b"odd".to_vec());
        let empty = open.with(|frame| frame.payload.clear());
        let mut requests = vec![("opening", open.clone()), ("odd", odd), ("empty", empty)];
        if kind.protocol == protocol::TCP {
            let segment = open.with(|frame| frame.carries = Carries::Segment(1001));
            requests.push(("segment", segment));
        }
        for (what, request) in requests {
            let output = expected(&rig, kind, &request);
            rig.check(
                &format!("{kind:?} {what}"),
                &request.bytes(),
                &Expected::forwarded(&request, kind.counter(), output),
            );
        }
    }
}

#[test]
fn a_service_alone_needs_only_its_own_features() {
    use xlb_common::maps::feature;
    for kind in Kind::all() {
        let family = if kind.v6 {
            feature::IPV6
        } else {
            feature::IPV4
        };
        let mode = match kind.forward {
            forward::DNAT => feature::DNAT,
            forward::L2_DSR => feature::L2_DSR,
            forward::GUE => feature::GUE,
            _ => feature::IPIP,
        };
        let rig = Rig::new(family | mode);
        let request = kind.request();
        let output = expected(&rig, kind, &request);
        rig.check(
            &format!("{kind:?} alone"),
            &request.bytes(),
            &Expected::forwarded(&request, kind.counter(), output),
        );
    }
}

#[test]
fn a_datagram_without_checksum_stays_without() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(false, protocol::UDP, forward::DNAT);
    let request = kind.request();
    let (mut input, mut output) = (request.bytes(), kind.forwarded(&request).bytes());
    input[UDP_CHECKSUM].fill(0);
    output[UDP_CHECKSUM].fill(0);
    rig.check(
        "checksum 0",
        &input,
        &Expected::forwarded(&request, kind.counter(), output),
    );
}

/// A datagram may end before its packet does (RFC 9868), which its checksum does not cover.
#[test]
fn a_datagram_shorter_than_its_packet_gets_no_checksum_outside() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(true, protocol::UDP, forward::GUE);
    let mut input = kind.request().bytes();
    input.extend([1, 2, 3, 4]);
    input[ETHERNET_BYTES + 5] += 4;
    let output = rig.run(&input).bytes;
    let checksum = ETHERNET_BYTES + IPV6_BYTES + 6;
    assert_eq!(output[checksum..checksum + 2], [0, 0]);
}

#[test]
fn a_computed_checksum_of_zero_is_sent_as_all_ones() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::UDP, forward::DNAT);
        let at = kind.request().transport_offset() + 6;
        let request = (0..=u16::MAX)
            .map(|word| {
                kind.request()
                    .with(|frame| frame.payload = word.to_be_bytes().to_vec())
            })
            .find(|request| kind.forwarded(request).bytes()[at..at + 2] == [0xff, 0xff])
            .expect("one of all words brings the sum to 0");
        let output = kind.forwarded(&request).bytes();
        rig.check(
            &format!("computed 0, v6 {v6}"),
            &request.bytes(),
            &Expected::forwarded(&request, kind.counter(), output),
        );
    }
}

#[test]
fn padding_follows_the_packet() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let request = kind.request().with(|frame| frame.payload.clear());
        let (mut input, mut output) = (request.bytes(), expected(&rig, kind, &request));
        input.extend_from_slice(&[0xee; 18]);
        output.extend_from_slice(&[0xee; 18]);
        let mut expected = Expected::forwarded(&request, kind.counter(), output);
        expected.counters[0].1.bytes = input.len() as u64;
        rig.check(&format!("{kind:?} padded"), &input, &expected);
    }
}

#[test]
fn a_backend_behind_another_interface_is_reached_by_a_redirect() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let mut value = backend(kind.v6, kind.number());
        value.next_hop = NextHop::new(backend_mac(kind.number()), OTHER).0;
        rig.put_backend(kind.number(), &value);
        let request = kind.request();
        let mut output = expected(&rig, kind, &request);
        output[6..12].copy_from_slice(&egress_mac(OTHER));
        let expected = Expected {
            action: REDIRECT,
            ..Expected::forwarded(&request, kind.counter(), output)
        };
        rig.check(&format!("{kind:?} redirected"), &request.bytes(), &expected);
    }
}

#[test]
fn an_outer_header_may_fill_the_mtu_and_not_exceed_it() {
    let rig = Rig::new(ALL_FEATURES);
    for (v6, forward, outer) in [
        (false, forward::IPIP, 20),
        (true, forward::IPIP, 40),
        (false, forward::GUE, 28),
        (true, forward::GUE, 48),
    ] {
        let kind = Kind::new(v6, protocol::UDP, forward);
        let of_bytes = |ip_bytes: usize| {
            let headers = kind.request().transport_offset() - ETHERNET_BYTES + 8;
            kind.request()
                .with(|frame| frame.payload = vec![7; ip_bytes - headers])
        };
        let fits = of_bytes(usize::from(MTU) - outer);
        let output = expected(&rig, kind, &fits);
        rig.check(
            "fills the MTU",
            &fits.bytes(),
            &Expected::forwarded(&fits, kind.counter(), output),
        );
        let exceeds = of_bytes(usize::from(MTU) - outer + 1);
        rig.check(
            "exceeds the MTU",
            &exceeds.bytes(),
            &too_big::answered(&exceeds, usize::from(MTU) - outer),
        );
    }
}

#[test]
fn flows_spread_over_the_slots_and_each_keeps_its_own() {
    let mut rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::L2_DSR);
        let mut service = kind.service();
        service.ring_slots = 16;
        rig.put_service(kind, &service);
        for slot in 0..16u16 {
            rig.put_ring(kind.slot() + u32::from(slot), 20 + slot);
            let mut value = backend(v6, 20 + slot);
            value.position = 1;
            rig.put_backend(20 + slot, &value);
        }
        let backend_of = |port: u16, carries: Carries| {
            let request = kind.request().with(|frame| {
                frame.source.set_port(port);
                frame.carries = carries;
            });
            let outcome = rig.run(&request.bytes());
            assert_eq!(outcome.action, TX);
            outcome.bytes[5]
        };
        let mut flows = [0u32; 16];
        for port in CLIENT_PORT..CLIENT_PORT + 512 {
            let number = backend_of(port, Carries::Syn(1));
            assert_eq!(
                number,
                backend_of(port, Carries::Segment(99)),
                "a flow moved"
            );
            flows[usize::from(number) - 20] += 1;
        }
        // 32 are expected of each; 8 and 80 are more than four standard deviations away.
        assert!(
            flows.iter().all(|flows| (8..80).contains(flows)),
            "v6 {v6}: {flows:?}"
        );
    }
}

#[test]
fn the_outer_flow_label_is_the_flows_own() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(true, protocol::TCP, forward::IPIP);
    let label = |port: u16, carries: Carries| {
        let request = kind.request().with(|frame| {
            frame.source.set_port(port);
            frame.carries = carries;
        });
        flow_label(&rig.run(&request.bytes()).bytes)
    };
    assert_eq!(label(1, Carries::Syn(1)), label(1, Carries::Segment(5)));
    let labels: std::collections::BTreeSet<_> =
        (0..64).map(|port| label(port, Carries::Syn(1))).collect();
    assert!(labels.len() > 60, "labels of 64 flows: {labels:?}");
}

#[test]
fn the_outer_source_port_is_the_flows_own() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::GUE);
        let port = |port: u16, carries: Carries| {
            let request = kind.request().with(|frame| {
                frame.source.set_port(port);
                frame.carries = carries;
            });
            let output = rig.run(&request.bytes()).bytes;
            tunnel_of(&output, v6, kind.forward).udp.expect("a port")
        };
        assert_eq!(port(1, Carries::Syn(1)), port(1, Carries::Segment(5)));
        let ports: std::collections::BTreeSet<_> =
            (0..64).map(|from| port(from, Carries::Syn(1))).collect();
        assert!(ports.len() > 60, "source ports of 64 flows: {ports:?}");
        assert!(ports.iter().all(|&port| port >= 49_152), "{ports:?}");
    }
}

/// Without a checksum inside there is nothing that one outside could be made of.
#[test]
fn a_datagram_without_checksum_has_none_outside_either() {
    let rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(true, protocol::UDP, forward::GUE);
    let request = kind.request();
    let mut input = request.bytes();
    let (udp, outer) = (request.transport_offset(), IPV6_BYTES + UDP_BYTES);
    input[udp + 6..udp + 8].fill(0);
    let mut output = expected(&rig, kind, &request);
    output[udp + outer + 6..udp + outer + 8].fill(0);
    output[udp + 6..udp + 8].fill(0);
    let outcome = rig.run(&input);
    assert_eq!((outcome.action, hex(&outcome.bytes)), (TX, hex(&output)));
}
