//! IPv4 options and IPv6 extension headers: the packet is looked through and keeps them.

use std::net::SocketAddr;

use xlb_common::{
    maps::{AttachmentCounters, NextHop, forward, protocol},
    reason::Reason,
};

use crate::{
    check::{Expected, TX},
    decap_rig::tunnel_of,
    frame::{Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, encapsulated, sum_header_at},
    kinds::{
        ALL_FEATURES, BACKEND_PORT, CLIENT_PORT, Kind, SAME, backend_mac, client, egress_mac,
        outer_source, to_vip, vip,
    },
    rig::Rig,
};

const IP: usize = ETHERNET_BYTES;

/// What may stand between an IP header and what it carries: IPv4 options, padded, or the numbers and
/// bytes of IPv6 extension headers, whose first byte is set when they are put together.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Between {
    Options(&'static [u8]),
    Extensions(&'static [(u8, &'static [u8])]),
}

/// Extension headers.
pub(crate) const HOP_BY_HOP: (u8, &[u8]) = (0, &[0, 0, 5, 2, 0, 0, 1, 0]);
pub(crate) const DESTINATION: (u8, &[u8]) = (60, &[0, 0, 1, 4, 0, 0, 0, 0]);
const LONG_DESTINATION: (u8, &[u8]) = (60, &[0, 1, 1, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
const ROUTING_DONE: (u8, &[u8]) = (43, &[0, 0, 4, 0, 0, 0, 0, 0]);
const ROUTING: (u8, &[u8]) = (
    43,
    &[
        0, 2, 4, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
    ],
);
const ROUTING_0: (u8, &[u8]) = (43, &[0, 0, 0, 0, 0, 0, 0, 0]);
const AUTHENTICATION: (u8, &[u8]) = (
    51,
    &[
        0, 4, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    ],
);
/// Of a packet that is the only fragment.
const ATOMIC: (u8, &[u8]) = (44, &[0, 0, 0, 0, 0, 0, 0, 9]);

/// What is looked through.
const KEPT: &[Between] = &[
    // Nothing, and a record of the route with a place for one address.
    Between::Options(&[1, 1, 1, 0]),
    Between::Options(&[7, 7, 4, 0, 0, 0, 0, 0]),
    // Router alert.
    Between::Options(&[0x94, 4, 0, 0]),
    Between::Options(&[1; 40]),
    Between::Extensions(&[HOP_BY_HOP]),
    Between::Extensions(&[DESTINATION]),
    Between::Extensions(&[ROUTING_DONE]),
    Between::Extensions(&[ATOMIC]),
    Between::Extensions(&[AUTHENTICATION]),
    Between::Extensions(&[
        HOP_BY_HOP,
        DESTINATION,
        ROUTING_DONE,
        ATOMIC,
        AUTHENTICATION,
        LONG_DESTINATION,
    ]),
    Between::Extensions(&[DESTINATION; 8]),
];

/// What is refused, and why.
const REFUSED: &[(Between, Reason)] = &[
    (
        Between::Options(&[131, 7, 4, 10, 0, 0, 9, 0]),
        Reason::SourceRoute,
    ),
    (
        Between::Options(&[1, 137, 7, 4, 10, 0, 0, 9]),
        Reason::SourceRoute,
    ),
    (Between::Options(&[7, 0, 0, 0]), Reason::BadOptions),
    (Between::Options(&[7, 1, 0, 0]), Reason::BadOptions),
    (Between::Options(&[7, 5, 0, 0]), Reason::BadOptions),
    (Between::Options(&[1, 1, 1, 7]), Reason::BadOptions),
    (Between::Extensions(&[ROUTING]), Reason::SourceRoute),
    (Between::Extensions(&[ROUTING_0]), Reason::SourceRoute),
    (
        Between::Extensions(&[DESTINATION, HOP_BY_HOP]),
        Reason::ExtensionHeader,
    ),
    (
        Between::Extensions(&[HOP_BY_HOP, HOP_BY_HOP]),
        Reason::ExtensionHeader,
    ),
    (
        Between::Extensions(&[ATOMIC, ATOMIC]),
        Reason::ExtensionHeader,
    ),
    (
        Between::Extensions(&[DESTINATION; 9]),
        Reason::ExtensionHeader,
    ),
    // An authentication header without an integrity check value, and one that is no multiple of eight.
    (
        Between::Extensions(&[(51, &[0, 0, 0, 0, 0, 0, 0, 9])]),
        Reason::ExtensionHeader,
    ),
    (
        Between::Extensions(&[(51, &[0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 7, 7, 7, 7])]),
        Reason::ExtensionHeader,
    ),
    // Longer than all that is looked through, and than the packet.
    (
        Between::Extensions(&[(60, &[0, 127, 1, 4, 0, 0, 0, 0])]),
        Reason::ExtensionHeader,
    ),
    (
        Between::Extensions(&[(60, &[0, 100, 1, 4, 0, 0, 0, 0])]),
        Reason::Truncated,
    ),
];

impl Between {
    const fn is_v6(self) -> bool {
        matches!(self, Self::Extensions(_))
    }

    /// Puts it into the packet whose IP header is at `ip`.
    pub(crate) fn put(self, frame: &mut Vec<u8>, ip: usize) {
        match self {
            Self::Options(options) => {
                let at = ip + IPV4_BYTES;
                frame.splice(at..at, options.iter().copied());
                frame[ip] += (options.len() / 4) as u8;
                lengthen(frame, ip + 2, options.len());
                // An expectation may be of options that no parser takes.
                if etherparse::Ipv4Header::from_slice(&frame[ip..]).is_ok() {
                    sum_header_at(frame, ip);
                }
            }
            Self::Extensions(headers) => {
                let mut number_at = ip + 6;
                let carried = frame[number_at];
                let mut at = ip + IPV6_BYTES;
                for (number, bytes) in headers {
                    frame[number_at] = *number;
                    frame.splice(at..at, bytes.iter().copied());
                    number_at = at;
                    at += bytes.len();
                    lengthen(frame, ip + 4, bytes.len());
                }
                frame[number_at] = carried;
            }
        }
    }

    /// The frame of a description with this in it.
    pub(crate) fn within(self, frame: &Frame) -> Vec<u8> {
        let mut bytes = frame.bytes();
        self.put(&mut bytes, IP);
        bytes
    }
}

fn lengthen(frame: &mut [u8], at: usize, by: usize) {
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + by as u16;
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

pub(crate) fn kept(v6: bool) -> impl Iterator<Item = Between> {
    KEPT.iter()
        .copied()
        .filter(move |between| between.is_v6() == v6)
}

#[test]
fn what_stands_between_the_headers_is_kept() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        for between in kept(kind.v6) {
            let request = kind.request();
            let input = between.within(&request);
            let mut output = between.within(&kind.forwarded(&request));
            if [forward::IPIP, forward::GUE].contains(&kind.forward) {
                let tunnel = tunnel_of(&rig.run(&input).bytes, kind.v6, kind.forward);
                output = encapsulated(&output, outer_source(kind.v6), kind.backend(), tunnel);
            }
            let mut expected = Expected::forwarded(&request, kind.counter(), output);
            expected.counters[0].1.bytes = input.len() as u64;
            rig.check(&format!("{kind:?} {between:?}"), &input, &expected);
        }
    }
}

#[test]
fn a_flow_goes_where_its_plain_packets_go() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        if kind.forward != forward::GUE {
            continue;
        }
        for between in kept(kind.v6) {
            // The source port of `gue` stands for the flow.
            let plain = rig.run(&kind.request().bytes()).bytes;
            let odd = rig.run(&between.within(&kind.request())).bytes;
            assert_eq!(
                tunnel_of(&plain, kind.v6, kind.forward).udp,
                tunnel_of(&odd, kind.v6, kind.forward).udp,
            );
        }
    }
}

#[test]
fn what_no_router_passes_on_is_dropped() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        for &(between, reason) in REFUSED {
            if between.is_v6() != kind.v6 {
                continue;
            }
            let name = format!("{kind:?} {between:?}");
            let input = between.within(&kind.request());
            rig.check(&name, &input, &Expected::dropped(reason));
            // What is for somebody else is for somebody else to judge.
            let other = kind
                .request()
                .with(|frame| frame.destination.set_ip(client(kind.v6)));
            let input = between.within(&other);
            rig.check(
                &name,
                &input,
                &Expected::passed(Reason::NotForService, &input),
            );
        }
    }
}

#[test]
fn replies_keep_what_stands_between_too() {
    let mut rig = Rig::new(ALL_FEATURES);
    let client_mac = [2, 0, 0, 0, 9, 9];
    for v6 in [false, true] {
        let bits = if v6 { 64 } else { 24 };
        rig.put_route(client(v6), bits, NextHop::new(client_mac, SAME));
    }
    for kind in Kind::all() {
        if kind.forward != forward::DNAT {
            continue;
        }
        for between in kept(kind.v6) {
            let reply = kind.request().with(|frame| {
                frame.source_mac = backend_mac(kind.number());
                frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
                frame.destination = SocketAddr::new(client(kind.v6), CLIENT_PORT);
            });
            let sent = reply.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = client_mac;
                frame.source = kind.vip();
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
fn an_echo_request_is_answered_with_what_it_has() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        for between in kept(v6) {
            let request = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoRequest);
            let answer = request.with(|frame| {
                std::mem::swap(&mut frame.source, &mut frame.destination);
                std::mem::swap(&mut frame.source_mac, &mut frame.destination_mac);
                frame.carries = Carries::EchoReply;
                frame.ttl = 64;
            });
            let expected = Expected {
                action: TX,
                bytes: Some(between.within(&answer)),
                reasons: vec![Reason::EchoReply],
                counters: Vec::new(),
            };
            let name = format!("echo request {between:?}");
            rig.check(&name, &between.within(&request), &expected);
        }
    }
}

#[test]
fn an_error_may_have_some_and_quote_some() {
    let rig = Rig::new(ALL_FEATURES);
    for kind in Kind::all() {
        if kind.forward != forward::DNAT {
            continue;
        }
        for between in kept(kind.v6) {
            // What the backend said to the client, as the client, and as the backend sees it.
            let said = |from: SocketAddr| {
                let about = to_vip(kind.vip(), Carries::Udp).with(|frame| {
                    frame.destination = frame.source;
                    frame.source = from;
                    if kind.protocol == protocol::TCP {
                        frame.carries = Carries::Segment(77);
                    }
                });
                between.within(&about).split_off(IP)
            };
            let carries = if kind.v6 {
                Carries::Error(1, 4, [0; 4])
            } else {
                Carries::Error(3, 3, [0; 4])
            };
            let error = to_vip(SocketAddr::new(kind.vip().ip(), 0), carries)
                .with(|frame| frame.payload = said(kind.vip()));
            let backend = SocketAddr::new(kind.backend(), BACKEND_PORT);
            let output = error.with(|frame| {
                frame.source_mac = egress_mac(SAME);
                frame.destination_mac = backend_mac(kind.number());
                frame.ttl -= 1;
                frame.destination = SocketAddr::new(backend.ip(), 0);
                frame.payload = said(backend);
            });
            for (what, input, output) in [
                ("quoted", error.bytes(), output.bytes()),
                ("both", between.within(&error), between.within(&output)),
            ] {
                let mut expected = Expected::forwarded(&error, kind.counter(), output);
                expected.counters[0].1.bytes = input.len() as u64;
                expected.reasons.push(Reason::IcmpError);
                rig.check(&format!("{kind:?} {between:?} {what}"), &input, &expected);
            }
        }
    }
}
