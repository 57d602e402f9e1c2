//! Packets that pass untouched, and packets that are dropped: a valid request and one mutation each.

use std::net::SocketAddr;

use xlb_common::{
    maps::{forward, protocol, service_state},
    reason::Reason,
};

use crate::{
    check::Expected,
    frame::{Carries, ETHERNET_BYTES, Frame, sum_header},
    kinds::{ALL_FEATURES, Kind, backend, client, to_vip, vip},
    rig::Rig,
};

/// A mutation of a request's bytes, what it is called, and what becomes of the result.
type Row = (&'static str, fn(&mut Vec<u8>), Reason);

/// Where the IP header begins.
const IP: usize = ETHERNET_BYTES;

const BOTH: &[Row] = &[
    ("ARP", |f| f[12..14].copy_from_slice(&[8, 6]), Reason::NotIp),
    (
        "in three VLANs",
        |f| drop(f.splice(12..12, [0x81, 0, 0, 7].repeat(3))),
        Reason::TooManyTags,
    ),
    ("Ethernet alone", |f| f.truncate(IP), Reason::BadHeader),
    ("of IP version 5", |f| f[IP] = 0x55, Reason::BadHeader),
];

const IPV4: &[Row] = &[
    ("of header length 4", |f| f[IP] = 0x44, Reason::BadHeader),
    (
        "a later fragment",
        |f| summed(f, |f| f[IP + 7] = 0x10),
        Reason::Fragment,
    ),
    (
        "of TTL 1",
        |f| summed(f, |f| f[IP + 8] = 1),
        Reason::TtlExpired,
    ),
    (
        "of TTL 0",
        |f| summed(f, |f| f[IP + 8] = 0),
        Reason::TtlExpired,
    ),
    (
        "GRE",
        |f| summed(f, |f| f[IP + 9] = 47),
        Reason::OtherProtocol,
    ),
    (
        "longer than its frame",
        |f| summed(f, |f| f[IP + 3] += 1),
        Reason::Truncated,
    ),
    (
        "shorter than its headers",
        |f| summed(f, |f| f[IP + 2..IP + 4].copy_from_slice(&[0, 27])),
        Reason::Truncated,
    ),
    (
        "shorter than an IP header",
        |f| summed(f, |f| f[IP + 2..IP + 4].copy_from_slice(&[0, 19])),
        Reason::Truncated,
    ),
    (
        "to another address",
        |f| summed(f, |f| f[IP + 19] ^= 1),
        Reason::NotForService,
    ),
    (
        "to another port",
        |f| f[IP + 20 + 3] ^= 0x80,
        Reason::NotForService,
    ),
    (
        "a fragment to another address",
        |f| {
            summed(f, |f| {
                f[IP + 6] = 0x20;
                f[IP + 19] ^= 1;
            });
        },
        Reason::NotForService,
    ),
];

const IPV6: &[Row] = &[
    (
        "a later fragment",
        |f| {
            f[IP + 6] = 44;
            f[IP + 40] = 17;
            f[IP + 42..IP + 44].copy_from_slice(&[0, 8]);
        },
        Reason::Fragment,
    ),
    ("of hop limit 1", |f| f[IP + 7] = 1, Reason::TtlExpired),
    ("of hop limit 0", |f| f[IP + 7] = 0, Reason::TtlExpired),
    ("GRE", |f| f[IP + 6] = 47, Reason::OtherProtocol),
    (
        "longer than its frame",
        |f| f[IP + 5] += 1,
        Reason::Truncated,
    ),
    (
        "shorter than its headers",
        |f| f[IP + 4..IP + 6].copy_from_slice(&[0, 7]),
        Reason::Truncated,
    ),
    (
        "to another address",
        |f| f[IP + 39] ^= 1,
        Reason::NotForService,
    ),
    (
        "to another port",
        |f| f[IP + 40 + 3] ^= 0x80,
        Reason::NotForService,
    ),
];

fn summed(frame: &mut [u8], change: fn(&mut [u8])) {
    change(frame);
    sum_header(frame);
}

/// What becomes of a packet for this reason, which says itself whether it passes.
fn expected(reason: Reason, input: &[u8]) -> Expected {
    use xlb_common::reason::Action;
    match reason.action() {
        Action::Pass => Expected::passed(reason, input),
        Action::Drop => Expected::dropped(reason),
        Action::Tx | Action::Redirect => panic!("{reason:?} refuses nothing"),
    }
}

#[test]
fn each_mutation_of_a_request_has_its_reason() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let own = if kind.v6 { IPV6 } else { IPV4 };
        for (name, mutate, reason) in BOTH.iter().chain(own) {
            let mut input = kind.request().bytes();
            mutate(&mut input);
            let name = format!("{kind:?} {name}");
            rig.check(&name, &input, &expected(*reason, &input));
        }
    }
}

#[test]
fn the_other_protocol_of_a_service_is_not_its_own() {
    let mut rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let udp = Kind::new(v6, protocol::UDP, forward::DNAT);
        let tcp = Kind::new(v6, protocol::TCP, forward::DNAT);
        rig.remove_vip(tcp);
        let input = tcp.request().bytes();
        rig.check(
            "TCP to a service of UDP",
            &input,
            &Expected::passed(Reason::NotForService, &input),
        );
        let request = udp.request();
        rig.check(
            "UDP to the same",
            &request.bytes(),
            &Expected::forwarded(&request, udp.counter(), udp.forwarded(&request).bytes()),
        );
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_never_forwarded() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let request = kind.request();
        let whole = request.bytes();
        // A test run takes no frame without an Ethernet header.
        for length in ETHERNET_BYTES..whole.len() {
            let input = &whole[..length];
            let reason = if length < request.transport_offset() {
                Reason::BadHeader
            } else {
                Reason::Truncated
            };
            let name = format!("{kind:?} cut to {length}");
            rig.check(&name, input, &expected(reason, input));
        }
    }
}

/// The same, with a length in the IP header that agrees with the frame's.
#[test]
fn a_packet_shorter_than_its_headers_is_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let request = kind.request();
        let header = if kind.protocol == protocol::TCP {
            20
        } else {
            8
        };
        for bytes in 0..header {
            let mut input = request.bytes();
            input.truncate(request.transport_offset() + bytes);
            set_ip_length(&request, &mut input, bytes);
            let name = format!("{kind:?} with {bytes} bytes after the IP header");
            rig.check(&name, &input, &Expected::dropped(Reason::Truncated));
        }
    }
}

/// A length within TCP or UDP that contradicts the packet's: what left would be malformed.
#[test]
fn a_transport_header_that_contradicts_itself_is_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let request = kind.request();
        let at = request.transport_offset();
        let rows: &[(&str, usize, &[u8])] = if kind.protocol == protocol::TCP {
            &[
                ("a header shorter than itself", 12, &[0x40]),
                ("options beyond the packet", 12, &[0xf0]),
            ]
        } else {
            &[
                ("a datagram of length 0", 4, &[0, 0]),
                ("a datagram shorter than its header", 4, &[0, 7]),
                ("a datagram longer than the packet", 4, &[0, 33]),
            ]
        };
        for (name, offset, bytes) in rows {
            let mut input = request.bytes();
            input[at + offset..][..bytes.len()].copy_from_slice(bytes);
            let dropped = Expected::dropped(Reason::Truncated);
            rig.check(&format!("{kind:?} {name}"), &input, &dropped);
        }
    }
}

/// An echo request whose IP header ends it before its own header does, in a frame that goes on with
/// padding and in one that does not.
#[test]
fn an_echo_request_shorter_than_its_header_is_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let request = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoRequest);
        for bytes in 0..8 {
            let mut input = request.bytes();
            set_ip_length(&request, &mut input, bytes);
            let dropped = Expected::dropped(Reason::Truncated);
            let name = format!("v6 {v6}, {bytes} bytes after the IP header");
            rig.check(&format!("{name} and padding"), &input, &dropped);
            input.truncate(request.transport_offset() + bytes);
            rig.check(&name, &input, &dropped);
        }
    }
}

fn set_ip_length(request: &Frame, frame: &mut [u8], payload: usize) {
    if request.source.is_ipv4() {
        frame[IP + 2..IP + 4].copy_from_slice(&(payload as u16 + 20).to_be_bytes());
        sum_header(frame);
    } else {
        frame[IP + 4..IP + 6].copy_from_slice(&(payload as u16).to_be_bytes());
    }
}

#[test]
fn a_slot_without_a_backend_drops() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        rig.put_ring(kind.slot(), 0);
        let input = kind.request().bytes();
        let expected = Expected::dropped(Reason::NoBackend);
        rig.check(&format!("{kind:?}"), &input, &expected);
    }
}

#[test]
fn a_backend_without_a_next_hop_drops() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let mut value = backend(kind.v6, kind.number());
        value.next_hop = 0;
        rig.put_backend(kind.number(), &value);
        let input = kind.request().bytes();
        let expected = Expected::dropped(Reason::BackendUnresolved);
        rig.check(&format!("{kind:?}"), &input, &expected);
    }
}

#[test]
fn a_service_that_refuses_drops() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        let mut service = kind.service();
        service.state = service_state::REFUSE;
        rig.put_service(kind, &service);
        let input = kind.request().bytes();
        let expected = Expected::dropped(Reason::AllDown);
        rig.check(&format!("{kind:?}"), &input, &expected);
    }
}

#[test]
fn maps_that_disagree_drop() {
    for kind in Kind::all() {
        let mut rig = Rig::new(ALL_FEATURES);
        let input = kind.request().bytes();
        let dropped = Expected::dropped(Reason::Inconsistent);
        rig.put_ring(kind.slot(), 9999);
        rig.check("a backend past the map's end", &input, &dropped);
        rig.put_ring(kind.slot(), kind.number());
        let mut service = kind.service();
        service.forward = 99;
        rig.put_service(kind, &service);
        rig.check("an unknown way of forwarding", &input, &dropped);
        service.forward = kind.forward;
        service.ring_offset = 1 << 20;
        rig.put_service(kind, &service);
        rig.check("a ring past the arena's end", &input, &dropped);
    }
}

#[test]
fn a_family_that_is_not_configured_passes() {
    use xlb_common::maps::feature;
    for (features, v6) in [(feature::IPV4, true), (feature::IPV6, false)] {
        let rig = Rig::new(features | feature::DNAT);
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let input = kind.request().bytes();
        let expected = Expected::passed(Reason::NotForService, &input);
        rig.check(&format!("v6 {v6}"), &input, &expected);
    }
}

#[test]
fn a_backends_other_traffic_passes() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let input = kind
            .request()
            .with(|frame| {
                frame.source = SocketAddr::new(kind.backend(), 22);
                frame.destination = SocketAddr::new(client(v6), 5000);
            })
            .bytes();
        let expected = Expected::passed(Reason::NotForService, &input);
        rig.check(&format!("v6 {v6}"), &input, &expected);
    }
}
