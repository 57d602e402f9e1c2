//! The decapsulation program: what is particular to tunnels of UDP.

use xlb_common::{
    decap::Reason,
    maps::{forward, protocol},
};

use crate::{
    decap_rig::DecapRig,
    decap_tunnels::{Families, IP},
    frame::{GUE_PORT, UDP_BYTES},
    kinds::Kind,
};

/// The headers of a tunnel by UDP: what each mutation comes to.
#[test]
fn each_mutation_of_a_udp_tunnel_has_its_reason() {
    type Row = (&'static str, fn(&mut Vec<u8>, usize), Reason);
    const ROWS: &[Row] = &[
        (
            "to another port",
            |f, at| f[at + 3] ^= 1,
            Reason::NotEncapsulated,
        ),
        (
            "of variant 0",
            |f, at| f[at + UDP_BYTES] = 0,
            Reason::GueVariant,
        ),
        (
            "of no IP",
            |f, at| f[at + UDP_BYTES] = 0x50,
            Reason::GueVariant,
        ),
        (
            "longer than its IP header says",
            |f, at| f[at + 5] += 1,
            Reason::Truncated,
        ),
        (
            "shorter than what it carries",
            |f, at| f[at + 5] -= 1,
            Reason::Truncated,
        ),
        (
            "shorter than itself",
            |f, at| f[at + 4..at + 6].fill(0),
            Reason::Truncated,
        ),
    ];
    const V4: &[Row] = &[
        (
            "from a stranger",
            |f, _| f[IP + 15] ^= 1,
            Reason::UnknownSource,
        ),
        (
            "the first fragment",
            |f, _| f[IP + 6] |= 0x20,
            Reason::OuterFragment,
        ),
        (
            "a later fragment",
            |f, _| f[IP + 7] = 0x10,
            Reason::NotEncapsulated,
        ),
        (
            "longer than its frame",
            |f, _| f[IP + 3] += 1,
            Reason::Truncated,
        ),
        ("of TCP", |f, _| f[IP + 9] = 6, Reason::NotEncapsulated),
    ];
    const V6: &[Row] = &[
        (
            "from a stranger",
            |f, _| f[IP + 23] ^= 1,
            Reason::UnknownSource,
        ),
        (
            "longer than its frame",
            |f, _| f[IP + 5] += 1,
            Reason::Truncated,
        ),
        ("of TCP", |f, _| f[IP + 6] = 6, Reason::NotEncapsulated),
    ];
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels().into_iter().filter(|it| it.gue) {
        let at = families.inner_offset() - UDP_BYTES;
        let own = if families.outer_v6 { V6 } else { V4 };
        for (name, mutate, reason) in ROWS.iter().chain(own) {
            let input = families.with_outer(&families.inner(), |frame| mutate(frame, at));
            rig.refuses(&format!("{families:?} {name}"), &input, *reason);
        }
    }
}

/// A client may talk to a VIP on the port of tunnels.
#[test]
fn a_datagram_to_a_vip_is_no_tunnel() {
    let rig = DecapRig::new();
    for families in Families::in_all_tunnels() {
        let datagram = Kind::new(families.inner_v6, protocol::UDP, forward::IPIP).request();
        let inner = datagram.with(|frame| frame.destination.set_port(GUE_PORT));
        let (_, output, reasons) = rig.run(&families.encapsulated(&inner));
        assert_eq!(reasons, [(Reason::Delivered, 1)], "{families:?}");
        assert_eq!(output, inner.bytes(), "{families:?}");
    }
}
