//! The decapsulation program: a packet that a balancer encapsulated, and one mutation each.

use std::net::IpAddr;

use xlb_common::{
    decap::Reason,
    maps::{forward, protocol},
};

use crate::{
    decap_rig::DecapRig,
    decap_tunnels::{Families, IP},
    frame::{
        Carries, ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, ether_type, set_ecn, sum_header,
        sum_header_at,
    },
    kinds::{Kind, backend_address},
};

#[test]
fn all_four_combinations_of_families_are_delivered() {
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        let open = families.inner();
        let datagram = Kind::new(families.inner_v6, protocol::UDP, forward::IPIP).request();
        for (what, inner) in [
            ("SYN", open.clone()),
            (
                "segment",
                open.with(|frame| frame.carries = Carries::Segment(1001)),
            ),
            ("empty", open.with(|frame| frame.payload.clear())),
            ("odd", open.with(|frame| frame.payload = b"odd".to_vec())),
            (
                "echo",
                open.with(|frame| frame.carries = Carries::EchoRequest),
            ),
            ("datagram", datagram),
            ("of TTL 1", open.with(|frame| frame.ttl = 1)),
        ] {
            let input = families.encapsulated(&inner);
            rig.delivers(&format!("{families:?} {what}"), &input, &inner.bytes());
        }
    }
}

#[test]
fn padding_follows_the_packet() {
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        let inner = families.inner();
        let (mut input, mut output) = (families.encapsulated(&inner), inner.bytes());
        input.extend_from_slice(&[0xee; 9]);
        output.extend_from_slice(&[0xee; 9]);
        rig.delivers(&format!("{families:?} padded"), &input, &output);
    }
}

#[test]
fn inner_options_are_the_hosts_business() {
    let rig = DecapRig::new();
    for outer_v6 in [false, true] {
        let families = Families {
            outer_v6,
            inner_v6: false,
            gue: false,
        };
        let with_options = |frame: &mut Vec<u8>, offset: usize| {
            frame.splice(offset + 20..offset + 20, [1, 1, 1, 0]);
            frame[offset] = 0x46;
            frame[offset + 3] += 4;
            sum_header_at(frame, offset);
        };
        let mut output = families.inner().bytes();
        with_options(&mut output, IP);
        let input = families.with_outer(&families.inner(), |frame| {
            with_options(frame, families.inner_offset());
            frame[IP + if outer_v6 { 5 } else { 3 }] += 4;
        });
        rig.delivers(&format!("{families:?} options"), &input, &output);
    }
}

/// RFC 6040, figure 4: a row for each inner field (Not-ECT, ECT(0), ECT(1), CE), in it a column for
/// each outer one, in the same order.
#[test]
fn congestion_marks_are_combined_as_rfc_6040_says() {
    const NOT: u8 = 0;
    const ONE: u8 = 1;
    const ZERO: u8 = 2;
    const CE: u8 = 3;
    let order = [NOT, ZERO, ONE, CE];
    let figure = [
        [Some(NOT), Some(NOT), Some(NOT), None],
        [Some(ZERO), Some(ZERO), Some(ONE), Some(CE)],
        [Some(ONE), Some(ONE), Some(ONE), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        for (inner, row) in order.into_iter().zip(figure) {
            for (outer, expected) in order.into_iter().zip(row) {
                let name = format!("{families:?} inner {inner:02b} outer {outer:02b}");
                let mut input = families.encapsulated(&families.inner());
                set_ecn(&mut input, IP, families.outer_v6, outer);
                set_ecn(
                    &mut input,
                    families.inner_offset(),
                    families.inner_v6,
                    inner,
                );
                match expected {
                    Some(ecn) => {
                        let mut output = families.inner().bytes();
                        set_ecn(&mut output, IP, families.inner_v6, ecn);
                        rig.delivers(&name, &input, &output);
                    }
                    None => rig.refuses(&name, &input, Reason::CongestionDrop),
                }
            }
        }
    }
}

/// A mutation, what it is called, and what becomes of the result.
type Row = (&'static str, fn(&mut Vec<u8>), Reason);

const OUTER: &[Row] = &[
    (
        "ARP",
        |f| f[12..14].copy_from_slice(&[8, 6]),
        Reason::NotEncapsulated,
    ),
    (
        "in a VLAN",
        |f| drop(f.splice(12..12, [0x81, 0, 0, 7])),
        Reason::NotEncapsulated,
    ),
];

const OUTER_V4: &[Row] = &[
    ("TCP", |f| f[IP + 9] = 6, Reason::NotEncapsulated),
    ("GRE", |f| f[IP + 9] = 47, Reason::NotEncapsulated),
    (
        "from a stranger",
        |f| f[IP + 15] ^= 1,
        Reason::UnknownSource,
    ),
    ("with options", with_outer_options, Reason::OuterOptions),
    (
        "the first fragment",
        |f| f[IP + 6] |= 0x20,
        Reason::OuterFragment,
    ),
    (
        "a later fragment",
        |f| f[IP + 7] = 0x10,
        Reason::OuterFragment,
    ),
    (
        "longer than its frame",
        |f| f[IP + 3] += 1,
        Reason::Truncated,
    ),
    (
        "shorter than what it carries",
        |f| f[IP + 3] -= 1,
        Reason::Truncated,
    ),
    (
        "shorter than itself",
        |f| f[IP + 2..IP + 4].copy_from_slice(&[0, 19]),
        Reason::Truncated,
    ),
];

const OUTER_V6: &[Row] = &[
    ("TCP", |f| f[IP + 6] = 6, Reason::NotEncapsulated),
    (
        "with destination options",
        |f| f[IP + 6] = 60,
        Reason::NotEncapsulated,
    ),
    ("of version 5", |f| f[IP] = 0x5b, Reason::BadHeader),
    (
        "from a stranger",
        |f| f[IP + 23] ^= 1,
        Reason::UnknownSource,
    ),
    ("a fragment", |f| as_fragment(f, 41), Reason::OuterFragment),
    (
        "a fragment of TCP",
        |f| as_fragment(f, 6),
        Reason::NotEncapsulated,
    ),
    (
        "a fragment from a stranger",
        |f| {
            as_fragment(f, 4);
            f[IP + 23] ^= 1;
        },
        Reason::UnknownSource,
    ),
    (
        "longer than its frame",
        |f| f[IP + 5] += 1,
        Reason::Truncated,
    ),
    (
        "shorter than what it carries",
        |f| f[IP + 5] -= 1,
        Reason::Truncated,
    ),
];

fn with_outer_options(frame: &mut Vec<u8>) {
    frame.splice(IP + 20..IP + 20, [1, 1, 1, 0]);
    frame[IP] = 0x46;
    frame[IP + 3] += 4;
}

fn as_fragment(frame: &mut Vec<u8>, next: u8) {
    let header = [next, 0, 0, 1, 0, 0, 0, 9];
    frame.splice(IP + IPV6_BYTES..IP + IPV6_BYTES, header);
    frame[IP + 6] = 44;
    frame[IP + 5] += 8;
}

#[test]
fn each_mutation_of_the_outer_header_has_its_reason() {
    let rig = DecapRig::new();
    for families in Families::all() {
        let own = if families.outer_v6 {
            OUTER_V6
        } else {
            OUTER_V4
        };
        for (name, mutate, reason) in OUTER.iter().chain(own) {
            let input = families.with_outer(&families.inner(), mutate);
            rig.refuses(&format!("{families:?} {name}"), &input, *reason);
        }
    }
}

#[test]
fn an_outer_header_that_is_none_is_for_the_host_to_judge() {
    let rig = DecapRig::new();
    for inner_v6 in [false, true] {
        let families = Families {
            outer_v6: false,
            inner_v6,
            gue: false,
        };
        let whole = families.encapsulated(&families.inner());
        for (name, byte) in [("of version 5", 0x55), ("of header length 4", 0x44)] {
            let mut input = whole.clone();
            input[IP] = byte;
            rig.refuses(name, &input, Reason::BadHeader);
        }
        let mut input = whole;
        input[IP + 10] ^= 1;
        rig.refuses("with a wrong checksum", &input, Reason::OuterChecksum);
    }
}

#[test]
fn each_mutation_of_the_inner_packet_has_its_reason() {
    type Row = (&'static str, fn(&mut [u8]), Reason);
    const V4: &[Row] = &[
        ("to another address", |p| p[19] ^= 1, Reason::UnknownVip),
        ("of version 6", |p| p[0] = 0x65, Reason::BadInner),
        ("of header length 4", |p| p[0] = 0x44, Reason::BadInner),
        (
            "shorter than its header",
            |p| p[2..4].copy_from_slice(&[0, 19]),
            Reason::BadInner,
        ),
        ("longer than its tunnel", |p| p[3] += 1, Reason::Truncated),
    ];
    const V6: &[Row] = &[
        ("to another address", |p| p[39] ^= 1, Reason::UnknownVip),
        ("of version 4", |p| p[0] = 0x45, Reason::BadInner),
        ("longer than its tunnel", |p| p[5] += 1, Reason::Truncated),
    ];
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        for (name, mutate, reason) in if families.inner_v6 { V6 } else { V4 } {
            // In a tunnel of UDP, the version is all that says what it is.
            if families.gue && name.starts_with("of version") {
                continue;
            }
            let input = families.with_inner(mutate);
            rig.refuses(&format!("{families:?} inner {name}"), &input, *reason);
        }
    }
}

#[test]
fn an_inner_packet_of_another_family_than_promised_is_dropped() {
    let rig = DecapRig::new();
    for families in Families::all() {
        let promised = if families.inner_v6 { 4 } else { 41 };
        let input = families.with_outer(&families.inner(), |frame| {
            frame[IP + if families.outer_v6 { 6 } else { 9 }] = promised;
        });
        rig.refuses(&format!("{families:?}"), &input, Reason::BadInner);
    }
}

#[test]
fn a_frame_cut_off_anywhere_is_never_delivered() {
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        let whole = families.encapsulated(&families.inner());
        // A test run takes no frame without an Ethernet header.
        for length in ETHERNET_BYTES..whole.len() {
            let ip_end = families.inner_offset() - families.tunnel().udp_bytes();
            let reason = if length < ip_end {
                Reason::BadHeader
            } else if length < families.inner_offset() {
                // Nobody knows whose port it was for.
                Reason::NotEncapsulated
            } else {
                Reason::Truncated
            };
            let name = format!("{families:?} cut to {length}");
            rig.refuses(&name, &whole[..length], reason);
        }
    }
}

/// The same, with a length in the outer header that agrees with the frame's.
#[test]
fn a_short_inner_packet_is_dropped() {
    let rig = DecapRig::new();
    for families in Families::all() {
        let whole = families.encapsulated(&families.inner());
        for bytes in 0..whole.len() - families.inner_offset() {
            let mut input = whole[..families.inner_offset() + bytes].to_vec();
            let at = IP + if families.outer_v6 { 4 } else { 2 };
            let length = bytes + if families.outer_v6 { 0 } else { IPV4_BYTES };
            input[at..at + 2].copy_from_slice(&(length as u16).to_be_bytes());
            if !families.outer_v6 {
                sum_header(&mut input);
            }
            let name = format!("{families:?} with {bytes} bytes inside");
            rig.refuses(&name, &input, Reason::Truncated);
        }
    }
}

#[test]
fn a_prefix_of_balancers_ends_where_it_says() {
    let cases: [(&str, u32, &str, &str); 2] = [
        ("10.0.8.0", 22, "10.0.11.255", "10.0.12.0"),
        ("fd00:0:0:8::", 62, "fd00::b:ffff:0:0:1", "fd00::c:0:0:0:1"),
    ];
    let mut rig = DecapRig::new();
    for (prefix, bits, inside, outside) in cases {
        let [prefix, inside, outside] =
            [prefix, inside, outside].map(|text| text.parse::<IpAddr>().expect("an address"));
        rig.put_balancer(prefix, bits);
        let inner = Kind::new(false, protocol::TCP, forward::IPIP).request();
        let to = backend_address(prefix.is_ipv6(), 1);
        let tunnel = Families::all()[0].tunnel();
        let from = |source| inner.encapsulated(source, to, tunnel);
        rig.delivers(&inside.to_string(), &from(inside), &inner.bytes());
        rig.refuses(&outside.to_string(), &from(outside), Reason::UnknownSource);
    }
}

#[test]
fn without_configuration_nothing_is_taken() {
    let rig = DecapRig::empty();
    for families in Families::in_all_tunnels() {
        let inner = families.inner();
        let input = families.encapsulated(&inner);
        rig.refuses(&format!("{families:?}"), &input, Reason::UnknownSource);
        let plain = inner.bytes();
        assert_eq!(plain[12..14], ether_type(inner.source.ip()));
        rig.refuses("not encapsulated", &plain, Reason::NotEncapsulated);
    }
}
