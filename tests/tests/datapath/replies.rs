//! Replies of backends under `dnat`, and the answers that the program gives itself.

use std::{fs, net::SocketAddr, process::Command};

use xlb_agent::endpoint;
use xlb_common::{
    maps::{AttachmentCounters, NextHop, feature, forward, protocol},
    reason::Reason,
};

use crate::{
    check::{Expected, REDIRECT, TX},
    frame::{Carries, Frame},
    kinds::{
        ALL_FEATURES, BACKEND_PORT, CLIENT_PORT, Kind, OTHER, SAME, backend_mac, client,
        egress_mac, to_vip, vip,
    },
    rig::Rig,
};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

fn dnat() -> impl Iterator<Item = Kind> {
    Kind::all()
        .into_iter()
        .filter(|kind| kind.forward == forward::DNAT)
}

/// What the backend of a service sends a client.
pub(crate) fn reply(kind: Kind) -> Frame {
    kind.request().with(|frame| {
        frame.source_mac = backend_mac(kind.number());
        frame.source = SocketAddr::new(kind.backend(), BACKEND_PORT);
        frame.destination = SocketAddr::new(client(kind.v6), CLIENT_PORT);
        if kind.protocol == protocol::TCP {
            frame.carries = Carries::Segment(77);
        }
    })
}

/// What should leave for the client.
fn sent(kind: Kind, egress_mac: [u8; 6]) -> Frame {
    reply(kind).with(|frame| {
        frame.source_mac = egress_mac;
        frame.destination_mac = CLIENT_MAC;
        frame.source = kind.vip();
        frame.ttl -= 1;
    })
}

fn expected(kind: Kind, action: u32, reasons: Vec<Reason>, egress_mac: [u8; 6]) -> Expected {
    let counters = AttachmentCounters {
        reply_packets: 1,
        reply_bytes: reply(kind).bytes().len() as u64,
        ..AttachmentCounters::default()
    };
    Expected {
        action,
        bytes: Some(sent(kind, egress_mac).bytes()),
        reasons,
        counters: vec![(kind.counter(), counters)],
    }
}

#[test]
fn a_reply_leaves_from_the_vip_by_the_agents_next_hop() {
    for (egress, action) in [(SAME, TX), (OTHER, REDIRECT)] {
        let mut rig = Rig::new(ALL_FEATURES);
        for v6 in [false, true] {
            let bits = if v6 { 64 } else { 24 };
            rig.put_route(client(v6), bits, NextHop::new(CLIENT_MAC, egress));
        }
        for kind in dnat() {
            rig.check(
                &format!("reply of {kind:?} by {egress}"),
                &reply(kind).bytes(),
                &expected(kind, action, Vec::new(), egress_mac(egress)),
            );
        }
    }
}

#[test]
fn a_reply_of_a_datagram_without_checksum_stays_without() {
    let mut rig = Rig::new(ALL_FEATURES);
    rig.put_route(client(false), 24, NextHop::new(CLIENT_MAC, SAME));
    let kind = Kind::new(false, protocol::UDP, forward::DNAT);
    let at = reply(kind).transport_offset() + 6;
    let mut input = reply(kind).bytes();
    let mut expected = expected(kind, TX, Vec::new(), egress_mac(SAME));
    input[at..at + 2].fill(0);
    expected.bytes.as_mut().expect("a frame")[at..at + 2].fill(0);
    rig.check("reply with checksum 0", &input, &expected);
}

#[test]
fn a_reply_to_this_host_passes_untouched() {
    let mut rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let bits = if v6 { 128 } else { 32 };
        rig.put_route(client(v6), bits, NextHop::LOCAL);
    }
    for kind in dnat() {
        let input = reply(kind).bytes();
        let expected = Expected::passed(Reason::ReplyToHost, &input);
        rig.check(&format!("{kind:?} to the host"), &input, &expected);
    }
}

#[test]
fn a_reply_whose_ttl_ends_here_is_dropped() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in dnat() {
        rig.put_route(client(kind.v6), 16, NextHop::new(CLIENT_MAC, SAME));
        let input = reply(kind).with(|frame| frame.ttl = 1).bytes();
        let expected = Expected::dropped(Reason::TtlExpired);
        rig.check(&format!("{kind:?} TTL 1"), &input, &expected);
    }
}

#[test]
fn a_reply_without_any_route_is_dropped_and_the_agent_is_told() {
    let mut rig = Rig::new(ALL_FEATURES);
    for kind in dnat() {
        let mut expected = Expected::dropped(Reason::ClientUnresolved);
        expected.reasons.push(Reason::FibLookup);
        rig.check(&format!("{kind:?}"), &reply(kind).bytes(), &expected);
        let told = rig.missing_neighbours();
        assert_eq!(
            told,
            vec![endpoint::bytes(client(kind.v6))],
            "{kind:?}: events"
        );
    }
}

/// Gives this thread's namespace a way to the clients, by another interface than test runs come in
/// on, and gives that interface's MAC address.
fn kernel_route() -> [u8; 6] {
    let ip = |arguments: &str| {
        let status = Command::new("ip")
            .args(arguments.split(' '))
            .status()
            .expect("run ip");
        assert!(status.success(), "ip {arguments}");
    };
    let mac = client_mac_text();
    ip("link set lo up");
    ip("link add out address 02:00:00:02:00:07 type veth peer name beyond");
    ip("link set beyond up");
    ip("link set out up");
    for (address, route, gateway) in [
        ("10.9.0.1/24", "198.51.100.0/24", "10.9.0.2"),
        ("2001:db8:9::1/64", "2001:db8:c::/64", "2001:db8:9::2"),
    ] {
        ip(&format!("address add {address} dev out"));
        ip(&format!(
            "neighbour add {gateway} dev out lladdr {mac} nud permanent"
        ));
        ip(&format!("route add {route} via {gateway}"));
    }
    for path in ["ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"] {
        fs::write(
            format!("/proc/thread-self/net/../../../sys/net/{path}"),
            "1",
        )
        .or_else(|_| fs::write(format!("/proc/sys/net/{path}"), "1"))
        .expect("switch forwarding on in the namespace");
    }
    egress_mac(7)
}

fn client_mac_text() -> String {
    CLIENT_MAC.map(|byte| format!("{byte:02x}")).join(":")
}

#[test]
fn a_reply_without_the_agents_route_takes_the_kernels() {
    let rig = Rig::new(ALL_FEATURES & !feature::VLAN);
    let mac = kernel_route();
    for kind in dnat() {
        let expected = expected(kind, REDIRECT, vec![Reason::FibLookup], mac);
        rig.check(&format!("{kind:?}"), &reply(kind).bytes(), &expected);
    }
}

/// What the kernel names may be a VLAN device, which frames can't be redirected to: the agent, who is told,
/// knows the interface below it.
#[test]
fn a_kernel_route_by_another_interface_waits_for_the_agent_where_vlan_devices_are_named() {
    let rig = Rig::new(ALL_FEATURES);
    kernel_route();
    for kind in dnat() {
        let mut expected = Expected::dropped(Reason::ClientUnresolved);
        expected.reasons.push(Reason::FibLookup);
        rig.check(&format!("{kind:?}"), &reply(kind).bytes(), &expected);
    }
}

#[test]
fn a_kernel_route_by_an_unused_interface_is_not_taken() {
    let rig = Rig::new(ALL_FEATURES & !feature::REDIRECT);
    kernel_route();
    for kind in dnat() {
        let mut expected = Expected::dropped(Reason::ClientUnroutable);
        expected.reasons.push(Reason::FibLookup);
        rig.check(&format!("{kind:?}"), &reply(kind).bytes(), &expected);
    }
}

#[test]
fn an_echo_request_to_a_vip_is_answered() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let request = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoRequest);
        let answer = request.with(|frame| {
            (frame.source, frame.destination) = (frame.destination, frame.source);
            (frame.source_mac, frame.destination_mac) = (frame.destination_mac, frame.source_mac);
            frame.ttl = 64;
            frame.carries = Carries::EchoReply;
        });
        let expected = Expected {
            action: TX,
            bytes: Some(answer.bytes()),
            reasons: vec![Reason::EchoReply],
            counters: Vec::new(),
        };
        rig.check(&format!("echo, v6 {v6}"), &request.bytes(), &expected);
    }
}

/// Its words are all 0, and so its checksum is not.
#[test]
fn an_answer_of_nothing_but_zeros_has_a_checksum() {
    let rig = Rig::new(ALL_FEATURES);
    let request = to_vip(SocketAddr::new(vip(false), 0), Carries::EchoRequest)
        .with(|frame| frame.payload.clear());
    let at = request.transport_offset();
    let mut input = request.bytes();
    input[at..at + 8].copy_from_slice(&[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let answer = rig.run(&input).bytes;
    assert_eq!(answer[at..at + 8], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
}

#[test]
fn an_echo_request_to_everybody_on_the_link_is_for_the_host() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let request = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoRequest);
        let input = request
            .with(|frame| frame.destination_mac = [0xff; 6])
            .bytes();
        let expected = Expected::passed(Reason::IcmpOther, &input);
        rig.check(&format!("v6 {v6}"), &input, &expected);
    }
}

#[test]
fn other_icmp_to_a_vip_passes() {
    let rig = Rig::new(ALL_FEATURES);
    for v6 in [false, true] {
        let input = to_vip(SocketAddr::new(vip(v6), 0), Carries::EchoReply).bytes();
        let expected = Expected::passed(Reason::IcmpOther, &input);
        rig.check(&format!("echo reply, v6 {v6}"), &input, &expected);
    }
}
