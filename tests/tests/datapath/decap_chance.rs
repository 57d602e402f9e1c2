//! Second chance on a backend: packets that name an alternative.

use std::net::{IpAddr, SocketAddr};

use xlb_agent::endpoint;
use xlb_common::{
    decap::{Hop, Reason},
    maps::{forward, protocol},
};

use crate::{
    check::{PASS, REDIRECT, TX},
    decap_rig::DecapRig,
    frame::{
        Carries, ETHERNET_BYTES, Frame, IPV4_BYTES, IPV6_BYTES, Tunnel, encapsulated, ether_type,
        set_ecn, sum_header, sum_header_at,
    },
    kinds::{CLIENT_PORT, Kind, LOOPBACK, backend_address, backend_mac, egress_mac, outer_source},
    sockets,
};

const SELF: u16 = 1;
const OTHER: u16 = 2;
const FLOW_LABEL: u32 = 0x1_2345;

/// The families of the outer header, of the header to the alternative, and of the client's packet.
#[derive(Clone, Copy, Debug)]
struct Families {
    outer: bool,
    second: bool,
    inner: bool,
    /// Whether the tunnels are `gue`; otherwise they are `ipip`.
    gue: bool,
}

impl Families {
    fn all() -> Vec<Self> {
        (0..16u8)
            .map(|bits| {
                let [outer, second, inner, gue] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
                Self {
                    outer,
                    second,
                    inner,
                    gue,
                }
            })
            .collect()
    }

    /// Where the header to the alternative begins.
    fn second_offset(self) -> usize {
        ETHERNET_BYTES + bytes_of(self.outer) + self.tunnel().udp_bytes()
    }

    fn tunnel(self) -> Tunnel {
        Tunnel {
            flow_label: FLOW_LABEL,
            udp: self.gue.then_some(50_000),
        }
    }

    fn alternative(self) -> IpAddr {
        backend_address(self.second, OTHER)
    }

    /// The packet in the header to the alternative alone.
    fn second(self, inner: &Frame) -> Vec<u8> {
        let from = outer_source(self.second);
        encapsulated(&inner.bytes(), from, self.alternative(), self.tunnel())
    }

    /// The packet as a balancer sends it to its first choice.
    fn nested(self, inner: &Frame) -> Vec<u8> {
        self.around(&self.second(inner))
    }

    fn around(self, second: &[u8]) -> Vec<u8> {
        let to = backend_address(self.outer, SELF);
        encapsulated(second, outer_source(self.outer), to, self.tunnel())
    }

    /// What is passed on of a frame that has the header to the alternative alone.
    fn passed_on(self, second: &[u8]) -> Vec<u8> {
        let mut bytes = second.to_vec();
        bytes[..6].copy_from_slice(&backend_mac(OTHER));
        bytes[6..12].copy_from_slice(&egress_mac(1));
        if self.second {
            bytes[ETHERNET_BYTES + 7] -= 1;
        } else {
            bytes[ETHERNET_BYTES + 8] -= 1;
            sum_header(&mut bytes);
        }
        bytes
    }
}

const fn bytes_of(v6: bool) -> usize {
    if v6 { IPV6_BYTES } else { IPV4_BYTES }
}

fn vip(v6: bool) -> SocketAddr {
    Kind::new(v6, protocol::TCP, forward::IPIP).vip()
}

/// A segment of a client's connection to a VIP.
fn segment(v6: bool) -> Frame {
    Kind::new(v6, protocol::TCP, forward::IPIP)
        .request()
        .with(|frame| frame.carries = Carries::Segment(77))
}

fn hop(ifindex: u32) -> Hop {
    Hop::new(backend_mac(OTHER), egress_mac(1), ifindex)
}

/// The program of a backend that may pass packets on to another one and knows the way, in a
/// namespace for sockets.
fn rig() -> DecapRig {
    sockets::namespace();
    let mut rig = DecapRig::new();
    for v6 in [false, true] {
        rig.put_peer(backend_address(v6, OTHER));
        rig.put_hop(backend_address(v6, OTHER), &hop(LOOPBACK));
    }
    rig
}

/// The packet is given to this host.
fn stays(rig: &DecapRig, name: &str, families: Families, inner: &Frame) {
    let end = (PASS, Reason::FirstChoice);
    rig.gives(name, &families.nested(inner), end, &inner.bytes());
}

/// The packet is passed on.
fn leaves(rig: &DecapRig, name: &str, families: Families, inner: &Frame) {
    let output = families.passed_on(&families.second(inner));
    rig.gives(
        name,
        &families.nested(inner),
        (TX, Reason::PassedOn),
        &output,
    );
}

#[test]
fn a_segment_without_a_socket_is_passed_on() {
    let rig = rig();
    for families in Families::all() {
        leaves(
            &rig,
            &format!("{families:?}"),
            families,
            &segment(families.inner),
        );
    }
}

#[test]
fn what_is_passed_on_is_delivered_by_the_alternative() {
    let rig = rig();
    for families in Families::all() {
        let inner = segment(families.inner);
        let (_, passed_on, _) = rig.run(&families.nested(&inner));
        let delivered = inner.with(|frame| {
            frame.destination_mac = backend_mac(OTHER);
            frame.source_mac = egress_mac(1);
        });
        rig.delivers(&format!("{families:?}"), &passed_on, &delivered.bytes());
    }
}

#[test]
fn a_segment_of_a_connection_stays() {
    let rig = rig();
    for (port, families) in (CLIENT_PORT..).step_by(2).zip(Families::all()) {
        let listener = sockets::listener(vip(families.inner), false);
        let segment = segment(families.inner).with(|frame| frame.source.set_port(port));
        leaves(&rig, "a listener alone", families, &segment);
        let ends = sockets::established(&listener, segment.source);
        stays(&rig, &format!("{families:?}"), families, &segment);
        let other = segment.with(|frame| frame.source.set_port(port + 1));
        leaves(&rig, "another connection", families, &other);
        // The server closes first, and its end of the connection has to wait.
        let (client, server) = ends;
        drop(server);
        drop(client);
        stays(&rig, "a connection that has just ended", families, &segment);
        drop(listener);
    }
}

#[test]
fn a_handshake_that_is_only_requested_stays() {
    let rig = rig();
    for (port, families) in (CLIENT_PORT..).zip(Families::all()) {
        let _listener = sockets::listener(vip(families.inner), true);
        let segment = segment(families.inner).with(|frame| frame.source.set_port(port));
        leaves(&rig, "a listener alone", families, &segment);
        let _client = sockets::connection(segment.source, vip(families.inner));
        stays(&rig, &format!("{families:?}"), families, &segment);
    }
}

#[test]
fn the_end_of_a_handshake_with_a_cookie_stays() {
    let rig = rig();
    sockets::set("tcp_syncookies", "2");
    for inner in [false, true] {
        let families = Families {
            outer: inner,
            second: inner,
            inner,
            gue: false,
        };
        let _listener = sockets::listener(vip(inner), false);
        let segment = segment(inner);
        let cookie = sockets::half_open(segment.source, vip(inner), 76);
        let with = |acknowledged: u32| {
            segment.with(|frame| frame.carries = Carries::Acknowledgment(77, acknowledged))
        };
        stays(&rig, "the cookie", families, &with(cookie.wrapping_add(1)));
        // The last bits of a cookie are an index, of which some neighbours are valid too.
        leaves(
            &rig,
            "no cookie",
            families,
            &with(cookie.wrapping_add(0x1000)),
        );
    }
}

#[test]
fn what_belongs_to_no_connection_stays() {
    let rig = rig();
    for families in Families::all() {
        let segment = segment(families.inner);
        let open = segment.with(|frame| frame.carries = Carries::Syn(5));
        stays(&rig, "SYN", families, &open);
        let datagram = segment.with(|frame| frame.carries = Carries::Udp);
        stays(&rig, "datagram", families, &datagram);
        let echo = segment.with(|frame| frame.carries = Carries::EchoRequest);
        stays(&rig, "echo", families, &echo);
        let short = {
            let mut short = families.nested(&segment.with(|frame| frame.payload.clear()));
            let length = short.len() - 1;
            short.truncate(length);
            short
        };
        rig.refuses("cut off", &short, Reason::Truncated);
    }
}

#[test]
fn an_alternative_that_is_no_peer_gets_nothing() {
    sockets::namespace();
    let rig = DecapRig::new();
    for families in Families::all() {
        let segment = segment(families.inner);
        let end = (PASS, Reason::UnknownPeer);
        let input = families.nested(&segment);
        rig.gives(&format!("{families:?}"), &input, end, &segment.bytes());
    }
}

#[test]
fn an_alternative_without_a_known_way_is_told_to_the_agent() {
    sockets::namespace();
    let mut rig = DecapRig::new();
    for v6 in [false, true] {
        rig.put_peer(backend_address(v6, OTHER));
    }
    for families in Families::all() {
        let input = families.nested(&segment(families.inner));
        rig.refuses(&format!("{families:?}"), &input, Reason::PeerUnresolved);
        assert_eq!(rig.missed(), [endpoint::bytes(families.alternative())]);
    }
}

#[test]
fn the_way_may_lead_through_another_interface() {
    let mut rig = rig();
    for families in Families::all() {
        rig.put_hop(families.alternative(), &hop(99));
        let inner = segment(families.inner);
        let output = families.passed_on(&families.second(&inner));
        let end = (REDIRECT, Reason::PassedOn);
        rig.gives(
            &format!("{families:?}"),
            &families.nested(&inner),
            end,
            &output,
        );
    }
}

#[test]
fn congestion_on_the_way_is_passed_on() {
    const ECT: u8 = 1;
    const CE: u8 = 3;
    let rig = rig();
    for families in Families::all() {
        let inner = segment(families.inner);
        let mut second = families.second(&inner);
        set_ecn(&mut second, ETHERNET_BYTES, families.second, ECT);
        let mut input = families.around(&second);
        set_ecn(&mut input, ETHERNET_BYTES, families.outer, CE);
        set_ecn(&mut second, ETHERNET_BYTES, families.second, CE);
        let output = families.passed_on(&second);
        rig.gives(
            &format!("{families:?}"),
            &input,
            (TX, Reason::PassedOn),
            &output,
        );
    }
}

#[test]
fn each_mutation_of_the_second_header_has_its_reason() {
    type Row = (&'static str, fn(&mut Vec<u8>, usize), Reason);
    const FRAGMENT: Reason = Reason::OuterFragment;
    const V4: &[Row] = &[
        (
            "from a stranger",
            |f, at| f[at + 15] ^= 1,
            Reason::UnknownSource,
        ),
        ("of TTL 1", |f, at| f[at + 8] = 1, Reason::TtlExpired),
        ("of TTL 0", |f, at| f[at + 8] = 0, Reason::TtlExpired),
        ("a fragment", |f, at| f[at + 6] |= 0x20, FRAGMENT),
        (
            "longer than its outer header says",
            |f, at| f[at + 3] += 1,
            Reason::Truncated,
        ),
        (
            "shorter than what it carries",
            |f, at| f[at + 3] -= 1,
            Reason::Truncated,
        ),
    ];
    const V6: &[Row] = &[
        (
            "from a stranger",
            |f, at| f[at + 23] ^= 1,
            Reason::UnknownSource,
        ),
        ("of hop limit 1", |f, at| f[at + 7] = 1, Reason::TtlExpired),
        ("of hop limit 0", |f, at| f[at + 7] = 0, Reason::TtlExpired),
        (
            "longer than its outer header says",
            |f, at| f[at + 5] += 1,
            Reason::Truncated,
        ),
        (
            "shorter than what it carries",
            |f, at| f[at + 5] -= 1,
            Reason::Truncated,
        ),
    ];
    let rig = rig();
    for families in Families::all() {
        let at = families.second_offset();
        for (name, mutate, reason) in if families.second { V6 } else { V4 } {
            let mut input = families.nested(&segment(families.inner));
            mutate(&mut input, at);
            if !families.second {
                sum_header_at(&mut input, at);
            }
            // A fragment of UDP does not say what it is of.
            let reason = if families.gue && *reason == FRAGMENT {
                Reason::UnknownVip
            } else {
                *reason
            };
            rig.refuses(&format!("{families:?} {name}"), &input, reason);
        }
        if !families.second {
            let mut input = families.nested(&segment(families.inner));
            input[at + 10] ^= 1;
            rig.refuses("with a wrong checksum", &input, Reason::OuterChecksum);
        }
    }
}

#[test]
fn what_is_not_for_a_vip_is_not_passed_on() {
    let rig = rig();
    for families in Families::all() {
        let stray = segment(families.inner).with(|frame| {
            frame.destination = SocketAddr::new(backend_address(families.inner, 9), 80);
        });
        let input = families.nested(&stray);
        assert_eq!(input[12..14], ether_type(outer_source(families.outer)));
        rig.refuses(&format!("{families:?}"), &input, Reason::UnknownVip);
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_neither_delivered_nor_passed_on() {
    let rig = rig();
    for families in Families::all() {
        let whole = families.nested(&segment(families.inner));
        for length in families.second_offset()..whole.len() {
            let name = format!("{families:?} cut to {length}");
            rig.refuses(&name, &whole[..length], Reason::Truncated);
        }
    }
}
