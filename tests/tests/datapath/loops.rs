//! Packets that balancers send one another, and what outer headers take over from the packet within.

use std::net::{IpAddr, SocketAddr};

use xlb_agent::endpoint;
use xlb_common::{
    endpoint::EndpointTarget,
    maps::{forward, outer_sum, outer_sum6, protocol},
    reason::Reason,
};

use crate::{
    check::{Expected, TX},
    decap_rig::DecapRig,
    forwarding,
    frame::{ETHERNET_BYTES, Frame, GUE_PORT, sum_header},
    kinds::{ALL_FEATURES, Kind, backend, backend_address, egress_mac, outer_source},
    rig::Rig,
};

/// TTL of the client's packet: few enough for outer headers to stay below the MTU.
const TTL: u8 = 12;

/// A balancer that has a VIP in front of a backend at another address, in a tunnel by UDP, to whose port
/// it listens itself; and the same under `dnat`.
fn balancer(own: SocketAddr, other: SocketAddr, forward: u8) -> Rig {
    let mut rig = Rig::new(ALL_FEATURES);
    let kind = Kind::new(own.is_ipv6(), protocol::UDP, forward);
    let mut service = kind.service();
    (service.vip, service.port_be) = (endpoint::bytes(own.ip()), own.port().to_be());
    rig.put_service(kind, &service);
    let target = EndpointTarget {
        service: kind.number().into(),
        ..EndpointTarget::default()
    };
    rig.put_endpoint(false, own, protocol::UDP, target);
    let mut value = backend(other.is_ipv6(), kind.number());
    value.address = endpoint::bytes(other.ip());
    value.port_be = other.port().to_be();
    value.outer_sum = match (outer_source(other.is_ipv6()), other) {
        (IpAddr::V4(from), SocketAddr::V4(to)) => outer_sum(from.octets(), to.ip().octets()),
        (IpAddr::V6(from), SocketAddr::V6(to)) => outer_sum6(from.octets(), to.ip().octets()),
        (from, to) => panic!("from {from} to {to}"),
    };
    rig.put_backend(kind.number(), &value);
    rig
}

/// How often two balancers pass a packet on to one another that a client sent to the first.
fn turns(own: [SocketAddr; 2], forward: u8) -> usize {
    let rigs = [
        balancer(own[0], own[1], forward),
        balancer(own[1], own[0], forward),
    ];
    let mut frame = Kind::new(own[0].is_ipv6(), protocol::UDP, forward)
        .request()
        .with(|frame| {
            frame.destination = own[0];
            frame.ttl = TTL;
            frame.payload.clear();
        })
        .bytes();
    for turn in 0..usize::from(u8::MAX) {
        let rig = &rigs[turn % 2];
        let outcome = rig.run(&frame);
        if outcome.action != TX {
            let end = Expected::dropped(Reason::TtlExpired);
            rig.check(&format!("{own:?} at its end"), &frame, &end);
            return turn;
        }
        frame = outcome.bytes;
        // What leaves one comes to the other.
        frame[..6].copy_from_slice(&egress_mac(1));
    }
    panic!("{own:?}: it goes on for ever");
}

#[test]
fn a_packet_between_two_balancers_has_an_end() {
    let [v4, v6] = [false, true].map(|v6| {
        [backend_address(v6, 101), backend_address(v6, 102)]
            .map(|address| SocketAddr::new(address, GUE_PORT))
    });
    for forward in [forward::GUE, forward::DNAT] {
        for own in [v4, v6] {
            assert_eq!(turns(own, forward), usize::from(TTL) - 1, "{own:?}");
        }
    }
    for own in [[v4[0], v6[1]], [v6[0], v4[1]]] {
        assert_eq!(turns(own, forward::GUE), usize::from(TTL) - 1, "{own:?}");
    }
}

fn in_tunnels() -> impl Iterator<Item = Kind> {
    let all = Kind::all().into_iter();
    all.filter(|kind| [forward::IPIP, forward::GUE].contains(&kind.forward))
}

#[test]
fn an_outer_header_begins_with_the_ttl_that_is_left() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in in_tunnels() {
        for ttl in [2, 3, 64, 128, 255] {
            let request = kind.request().with(|frame| frame.ttl = ttl);
            let output = forwarding::expected(&rig, kind, &request);
            let at = ETHERNET_BYTES + if kind.v6 { 7 } else { 8 };
            assert_eq!(output[at], ttl - 1);
            rig.check(
                &format!("{kind:?} of TTL {ttl}"),
                &request.bytes(),
                &Expected::forwarded(&request, kind.counter(), output),
            );
        }
        let last = kind.request().with(|frame| frame.ttl = 1);
        let expected = Expected::dropped(Reason::TtlExpired);
        rig.check(&format!("{kind:?} of TTL 1"), &last.bytes(), &expected);
    }
}

/// Sets type of service or traffic class of a frame.
fn set_class(frame: &mut [u8], v6: bool, class: u8) {
    let at = ETHERNET_BYTES;
    if v6 {
        frame[at] = 0x60 | class >> 4;
        frame[at + 1] = frame[at + 1] & 0x0f | class << 4;
    } else {
        frame[at + 1] = class;
        sum_header(frame);
    }
}

fn class(frame: &[u8], v6: bool) -> u8 {
    let at = ETHERNET_BYTES;
    if v6 {
        frame[at] << 4 | frame[at + 1] >> 4
    } else {
        frame[at + 1]
    }
}

/// RFC 6040, section 4.1, normal mode: all of DSCP and ECN, in every combination of families; and back
/// on the backend, where nothing happened on the way.
#[test]
fn dscp_and_ecn_are_copied_to_the_outer_header_and_come_out_as_they_were() {
    let receiver = DecapRig::new();
    for across in [false, true] {
        let mut rig = Rig::new(ALL_FEATURES);
        for kind in in_tunnels() {
            let outer_v6 = kind.v6 != across;
            rig.put_backend(kind.number(), &backend(outer_v6, kind.number()));
            let request: Frame = kind.request();
            for of in 0..=u8::MAX {
                let name = format!("{kind:?} across {across} class {of:#04x}");
                let mut input = request.bytes();
                set_class(&mut input, kind.v6, of);
                let sent = rig.run(&input);
                assert_eq!(sent.action, TX, "{name}");
                assert_eq!(class(&sent.bytes, outer_v6), of, "{name}: outer header");
                let mut inner = kind.forwarded(&request).bytes();
                set_class(&mut inner, kind.v6, of);
                receiver.delivers(&name, &sent.bytes, &inner);
            }
        }
    }
}
