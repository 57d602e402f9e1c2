//! Full NAT: packets out, replies back, and whose port is whose.

use std::net::{IpAddr, SocketAddr};

use xlb_agent::endpoint;
use xlb_common::{
    maps::{AttachmentCounters, NextHop, Service, feature, forward, protocol},
    nat::{NatPool, NatSource, Sender, Timeouts, state},
    reason::Reason,
};

use crate::{
    check::{Expected, TX},
    frame::{Carries, ETHERNET_BYTES, Frame},
    icmp::{self, QUOTED, answer, error, errors, quote},
    kinds::{
        ALL_FEATURES, BACKEND_PORT, CLIENT_PORT, Kind, MTU, SAME, backend_address, backend_mac,
        client, egress_mac,
    },
    odd,
    rig::Rig,
    too_big, vlan,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
const FIRST_PORT: u16 = 2000;
const IDLE_S: u32 = 300;

fn source(v6: bool) -> IpAddr {
    backend_address(v6, 99)
}

/// Services of each family and protocol.
fn kinds() -> impl Iterator<Item = Kind> {
    [false, true].into_iter().flat_map(|v6| {
        [protocol::TCP, protocol::UDP].map(|number| Kind::new(v6, number, forward::DNAT))
    })
}

/// One service under full NAT with so many source ports.
fn rig(kind: Kind, features: u32, ports: u16) -> Rig {
    let mut rig = Rig::new(features);
    let service = Service {
        forward: forward::FULL_NAT,
        idle_s: IDLE_S,
        ..kind.service()
    };
    rig.put_service(kind, &service);
    let pool = NatPool {
        length: 1,
        first: FIRST_PORT,
        last: ports - 1,
        ..NatPool::default()
    };
    let of = NatSource {
        address: endpoint::bytes(source(kind.v6)),
        family: if kind.v6 { 6 } else { 4 },
        reserved: 0,
    };
    rig.put_nat(kind.v6, source(kind.v6), &of, &pool);
    let bits = if kind.v6 { 64 } else { 24 };
    rig.put_route(client(kind.v6), bits, NextHop::new(CLIENT_MAC, SAME));
    rig
}

/// What should leave for the backend.
fn forwarded(kind: Kind, request: &Frame, port: u16) -> Frame {
    kind.forwarded(request).with(|frame| {
        frame.source = SocketAddr::new(source(kind.v6), port);
    })
}

/// What the backend sends back.
fn reply(kind: Kind, port: u16, carries: Carries) -> Frame {
    kind.request().with(|frame| {
        frame.source_mac = backend_mac(kind.number());
        frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
        frame.destination = SocketAddr::new(source(kind.v6), port);
        frame.carries = carries;
    })
}

fn payload(kind: Kind) -> Carries {
    if kind.protocol == protocol::TCP {
        Carries::Segment(77)
    } else {
        Carries::Udp
    }
}

/// Expects a reply to get to the client.
fn check_reply(rig: &Rig, kind: Kind, port: u16, to: u16) {
    let reply = reply(kind, port, payload(kind));
    let sent = reply.with(|frame| {
        frame.source_mac = egress_mac(SAME);
        frame.destination_mac = CLIENT_MAC;
        frame.source = kind.vip();
        frame.destination = SocketAddr::new(client(kind.v6), to);
        frame.ttl -= 1;
    });
    let counters = AttachmentCounters {
        reply_packets: 1,
        reply_bytes: reply.bytes().len() as u64,
        ..AttachmentCounters::default()
    };
    let expected = Expected {
        action: TX,
        bytes: Some(sent.bytes()),
        reasons: Vec::new(),
        counters: vec![(kind.counter(), counters)],
    };
    rig.check(&format!("reply {kind:?}"), &reply.bytes(), &expected);
}

fn check_request(rig: &Rig, kind: Kind, request: &Frame, port: u16) {
    let sent = forwarded(kind, request, port).bytes();
    let expected = Expected::forwarded(request, kind.counter(), sent);
    rig.check(&format!("{kind:?}"), &request.bytes(), &expected);
}

#[test]
fn packets_leave_from_a_port_and_replies_come_back_by_it() {
    for kind in kinds() {
        let family = if kind.v6 {
            feature::IPV6
        } else {
            feature::IPV4
        };
        for features in [ALL_FEATURES, family | feature::FULL_NAT] {
            let rig = rig(kind, features, 1);
            check_request(&rig, kind, &kind.request(), FIRST_PORT);
            check_reply(&rig, kind, FIRST_PORT, CLIENT_PORT);
            let more = kind.request().with(|frame| frame.carries = payload(kind));
            check_request(&rig, kind, &more, FIRST_PORT);
        }
    }
}

#[test]
fn what_is_no_connection_s_is_the_hosts() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES, 1);
        let other = reply(kind, FIRST_PORT, payload(kind)).bytes();
        rig.check(
            "no connection",
            &other,
            &Expected::passed(Reason::NotForService, &other),
        );
        check_request(&rig, kind, &kind.request(), FIRST_PORT);
        for change in [
            (|frame: &mut Frame| frame.source.set_port(1)) as fn(&mut Frame),
            |frame| {
                frame
                    .source
                    .set_ip(backend_address(frame.source.is_ipv6(), 77))
            },
            |frame| frame.destination.set_port(FIRST_PORT + 1),
        ] {
            let other = reply(kind, FIRST_PORT, payload(kind)).with(change).bytes();
            let expected = Expected::passed(Reason::NotForService, &other);
            rig.check("a stranger", &other, &expected);
        }
    }
}

#[test]
fn a_segment_of_no_connection_is_refused() {
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let rig = rig(kind, ALL_FEATURES, 1);
        let stray = kind
            .request()
            .with(|frame| frame.carries = Carries::Segment(5));
        let expected = Expected::dropped(Reason::NatUnknown);
        rig.check("a segment", &stray.bytes(), &expected);
    }
}

#[test]
fn a_port_is_used_again_after_its_timeout_and_not_before() {
    for kind in kinds() {
        let mut rig = rig(kind, ALL_FEATURES, 2);
        let from = |port: u16| kind.request().with(|frame| frame.source.set_port(port));
        let mut at = Vec::new();
        for client in [1, 2] {
            let bytes = rig.run(&from(client).bytes()).bytes;
            let offset = from(client).transport_offset();
            at.push(u16::from_be_bytes([bytes[offset], bytes[offset + 1]]));
        }
        let mut sorted = at.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [FIRST_PORT, FIRST_PORT + 1], "each has its own");
        check_reply(&rig, kind, at[0], 1);
        check_reply(&rig, kind, at[1], 2);
        let third = from(3).bytes();
        rig.check(
            "the third",
            &third,
            &Expected::dropped(Reason::NatExhausted),
        );
        let is_udp = kind.protocol == protocol::UDP;
        // The backend has answered: the state is one of both ways.
        let (name, timeout_s) = if is_udp {
            (state::TWO_WAY, 300)
        } else {
            (state::OPENING, 60)
        };
        assert_eq!(rig.nat_state(is_udp, at[0]), name);
        rig.age_nat(is_udp, at[0], timeout_s - 5);
        rig.check("not yet", &third, &Expected::dropped(Reason::NatExhausted));
        rig.age_nat(is_udp, at[0], 10);
        check_request(&rig, kind, &from(3), at[0]);
        check_reply(&rig, kind, at[0], 3);
        // Who had it before is told apart from who has it now.
        let before = from(1).with(|frame| frame.carries = payload(kind)).bytes();
        let reason = if is_udp {
            Reason::NatExhausted
        } else {
            Reason::NatUnknown
        };
        rig.check("the first again", &before, &Expected::dropped(reason));
    }
}

#[test]
fn a_connections_state_follows_its_segments() {
    for v6 in [false, true] {
        let kind = Kind::new(v6, protocol::TCP, forward::DNAT);
        let mut rig = rig(kind, ALL_FEATURES, 1);
        let timeouts = Timeouts::default();
        let steps = [
            (Sender::Client, Carries::Syn(9), state::OPENING),
            (Sender::Client, Carries::Syn(9), state::OPENING),
            (Sender::Backend, Carries::Syn(70), state::ANSWERED),
            (Sender::Client, Carries::Segment(10), state::ESTABLISHED),
            (Sender::Backend, Carries::Rst(71), state::RESET),
            (Sender::Client, Carries::Segment(10), state::ESTABLISHED),
            (Sender::Client, Carries::Fin(10), state::CLIENT_CLOSED),
            (Sender::Backend, Carries::Segment(71), state::CLIENT_CLOSED),
            (Sender::Backend, Carries::Fin(71), state::CLOSED),
            (Sender::Client, Carries::Segment(11), state::CLOSED),
            (Sender::Client, Carries::Rst(11), state::CLOSED),
            (Sender::Client, Carries::Syn(500), state::OPENING),
        ];
        for (place, (from, carries, after)) in steps.into_iter().enumerate() {
            let packet = match from {
                Sender::Client => kind.request().with(|frame| frame.carries = carries),
                Sender::Backend => reply(kind, FIRST_PORT, carries),
            };
            assert_eq!(rig.run(&packet.bytes()).action, TX, "step {place}");
            assert_eq!(rig.nat_state(false, FIRST_PORT), after, "step {place}");
            let left_s = rig.nat_left_s(false, FIRST_PORT);
            let whole_s = timeouts.of(after, IDLE_S);
            assert!((whole_s - 5..=whole_s).contains(&left_s), "{left_s} s");
        }
    }
}

/// An error of a router about a packet, which it quotes so far; and what should leave, when the ends of
/// both are these.
fn translated(
    error: &Frame,
    about: &Frame,
    bytes: usize,
    (from, to): (IpAddr, IpAddr),
    mac: [u8; 6],
) -> Frame {
    error.with(|frame| {
        frame.source_mac = egress_mac(SAME);
        frame.destination_mac = mac;
        frame.source.set_ip(from);
        frame.destination.set_ip(to);
        frame.payload = quote(about, bytes);
        frame.ttl -= 1;
    })
}

#[test]
fn errors_about_a_backends_packets_go_to_that_backend() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES, 1);
        let about = answer(kind);
        let any = error(icmp::too_big(kind.v6), &about, quote(&about, 8));
        let expected = Expected::dropped(Reason::NatUnknown);
        rig.check("no connection", &any.bytes(), &expected);
        check_request(&rig, kind, &kind.request(), FIRST_PORT);
        for &(number, code, rest) in errors(kind.v6) {
            for bytes in QUOTED {
                let input = error(
                    Carries::Error(number, code, rest),
                    &about,
                    quote(&about, bytes),
                );
                let sent = about.with(|frame| {
                    frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
                    frame.destination = SocketAddr::new(source(kind.v6), FIRST_PORT);
                });
                let ends = (source(kind.v6), kind.backend());
                let mac = backend_mac(kind.number());
                let output = translated(&input, &sent, bytes, ends, mac);
                let mut expected = Expected::forwarded(&input, kind.counter(), output.bytes());
                expected.reasons.push(Reason::IcmpError);
                let name = format!("{kind:?} type {number} code {code}, {bytes} bytes quoted");
                rig.check(&name, &input.bytes(), &expected);
            }
        }
        // What it quotes is of another client.
        let other = about.with(|frame| frame.destination.set_port(CLIENT_PORT + 1));
        let input = error(icmp::too_big(kind.v6), &other, quote(&other, 8));
        let expected = Expected::dropped(Reason::NatUnknown);
        rig.check("another flow", &input.bytes(), &expected);
    }
}

#[test]
fn errors_about_a_clients_packets_go_to_that_client() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES, 1);
        let request = kind.request().with(|frame| frame.carries = payload(kind));
        let about = forwarded(kind, &request, FIRST_PORT);
        let any = error(icmp::too_big(kind.v6), &about, quote(&about, 8));
        let passed = |input: &Frame| Expected::passed(Reason::NotForService, &input.bytes());
        rig.check("no connection", &any.bytes(), &passed(&any));
        check_request(&rig, kind, &kind.request(), FIRST_PORT);
        for &(number, code, rest) in errors(kind.v6) {
            for bytes in QUOTED {
                let input = error(
                    Carries::Error(number, code, rest),
                    &about,
                    quote(&about, bytes),
                );
                let sent = about.with(|frame| {
                    frame.source = SocketAddr::new(client(kind.v6), CLIENT_PORT);
                    frame.destination = kind.vip();
                });
                let ends = (kind.vip().ip(), client(kind.v6));
                let output = translated(&input, &sent, bytes, ends, CLIENT_MAC);
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
        // The host's own connections, and what was said to another host than the backend.
        for change in [
            (|frame: &mut Frame| frame.source.set_port(FIRST_PORT + 1)) as fn(&mut Frame),
            |frame| frame.destination.set_port(7),
        ] {
            let other = about.with(change);
            let input = error(icmp::too_big(kind.v6), &other, quote(&other, 8));
            rig.check("a stranger's", &input.bytes(), &passed(&input));
        }
    }
}

#[test]
fn what_stands_between_the_headers_is_kept_both_ways() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES, 1);
        for between in odd::kept(kind.v6) {
            let request = kind.request();
            let input = between.within(&request);
            let output = between.within(&forwarded(kind, &request, FIRST_PORT));
            let mut expected = Expected::forwarded(&request, kind.counter(), output);
            expected.counters[0].1.bytes = input.len() as u64;
            rig.check(&format!("{kind:?} {between:?}"), &input, &expected);

            let reply = reply(kind, FIRST_PORT, payload(kind));
            let sent = reply.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = CLIENT_MAC;
                frame.source = kind.vip();
                frame.destination = SocketAddr::new(client(kind.v6), CLIENT_PORT);
                frame.ttl -= 1;
            });
            let input = between.within(&reply);
            let counters = AttachmentCounters {
                reply_packets: 1,
                reply_bytes: input.len() as u64,
                ..AttachmentCounters::default()
            };
            let expected = Expected {
                action: TX,
                bytes: Some(between.within(&sent)),
                reasons: Vec::new(),
                counters: vec![(kind.counter(), counters)],
            };
            rig.check(&format!("reply of {kind:?} {between:?}"), &input, &expected);
        }
    }
}

#[test]
fn tags_are_kept_both_ways() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES & !feature::VLAN, 1);
        let request = kind.request();
        assert_eq!(vlan::check(&rig, "a request", &request.bytes()), TX);
        let reply = reply(kind, FIRST_PORT, payload(kind));
        assert_eq!(vlan::check(&rig, "a reply", &reply.bytes()), TX);
        let about = answer(kind);
        let error = error(icmp::too_big(kind.v6), &about, quote(&about, 8));
        assert_eq!(vlan::check(&rig, "an error", &error.bytes()), TX);
        let other = reply.with(|frame| frame.destination.set_port(FIRST_PORT + 1));
        vlan::check(&rig, "the host's own", &other.bytes());
    }
}

/// Between interfaces of different MTUs, the program is the router that says so.
#[test]
fn what_does_not_fit_the_interface_is_answered_both_ways() {
    for kind in kinds() {
        let rig = rig(kind, ALL_FEATURES, 1);
        let mtu = usize::from(MTU);
        let largest = too_big::request(kind, mtu);
        check_request(&rig, kind, &largest, FIRST_PORT);
        let back = largest.with(|frame| {
            frame.source_mac = backend_mac(kind.number());
            frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
            frame.destination = SocketAddr::new(source(kind.v6), FIRST_PORT);
            frame.payload.push(7);
        });
        for (name, input) in [
            ("a request", too_big::request(kind, mtu + 1)),
            ("a reply", back),
        ] {
            let most = if kind.v6 { 1280 - 48 } else { 576 - 28 };
            let message = Frame {
                source_mac: input.destination_mac,
                destination_mac: input.source_mac,
                source: input.destination,
                destination: input.source,
                ttl: 64,
                carries: too_big::says(kind.v6, mtu),
                payload: input.bytes()[ETHERNET_BYTES..][..most].to_vec(),
            };
            let expected = Expected {
                action: TX,
                bytes: Some(too_big::made(&message)),
                reasons: vec![Reason::TooBigAnswered],
                counters: Vec::new(),
            };
            rig.check(&format!("{name} {kind:?}"), &input.bytes(), &expected);
        }
    }
}
