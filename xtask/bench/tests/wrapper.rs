//! The wrapper gives every flow its turn and frames their length, and the programs that others are
//! compared with do what they say. Needs root.

use std::{
    collections::HashSet,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use etherparse::{IpNumber, NetSlice, SlicedPacket};
use xlb_bench::cost::{
    harness::{Harness, Programs, Reference, References},
    traffic::{Carries, Traffic, Way},
};

const FLOWS: u32 = 16;
const ETHERNET_BYTES: usize = 14;
/// `XDP_TX`.
const TX: u32 = 3;

/// The benchmark's object lies next to the balancer's.
fn object() -> PathBuf {
    let balancer = env::var_os("XLB_EBPF_OBJECT").map_or_else(
        || {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../target/ebpf/bpfel-unknown-none/release/xlb-ebpf")
        },
        PathBuf::from,
    );
    balancer.with_file_name("bench")
}

fn traffic(first: &str, carries: Carries) -> Traffic {
    let first: SocketAddr = first.parse().expect("an endpoint");
    Traffic {
        way: Way::ToServices { first, count: 1 },
        carries,
    }
}

/// Kinds of traffic, each with its frames.
fn kinds() -> Vec<(Traffic, HashSet<Vec<u8>>)> {
    ["192.0.2.10:80", "[2001:db8::10]:80"]
        .into_iter()
        .flat_map(|first| {
            [Carries::Segment, Carries::Syn, Carries::Datagram]
                .map(|carries| traffic(first, carries))
        })
        .map(|traffic| {
            let frames = (0..FLOWS).map(|number| traffic.frame(number)).collect();
            (traffic, frames)
        })
        .collect()
}

#[test]
fn every_flow_has_its_turn_and_frames_get_their_length_back() {
    let programs = Programs::read(&object());
    let references = References::load(&programs);
    for (traffic, frames) in kinds() {
        let mut harness = Harness::new(&programs, &traffic, FLOWS);
        harness.call_reference(&references, Reference::Empty);
        let mut seen = HashSet::new();
        for _ in 0..FLOWS {
            let (action, frame) = harness.run_once();
            assert_eq!(action, TX, "{traffic:?}");
            seen.insert(frame);
        }
        assert_eq!(seen, frames, "{traffic:?}");
        // In a run of many frames each but the first comes to the wrapper longer than it should be.
        harness.call_reference(&references, Reference::Fixed);
        let sample = harness.sample(5 * FLOWS, false);
        assert_eq!(sample.action, TX, "{traffic:?}");
        assert!(sample.gross_ns > 0.0);
    }
}

#[test]
fn a_fixed_outer_header_is_a_valid_one_and_carries_the_packet() {
    let programs = Programs::read(&object());
    let references = References::load(&programs);
    for (traffic, frames) in kinds() {
        let mut harness = Harness::new(&programs, &traffic, FLOWS);
        harness.call_reference(&references, Reference::Fixed);
        let (action, frame) = harness.run_once();
        assert_eq!(action, TX);
        let packet = SlicedPacket::from_ethernet(&frame).expect("an outer header");
        let net = packet.net.expect("an IP header");
        if let NetSlice::Ipv4(ip) = &net {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
        }
        let payload = net.ip_payload_ref().expect("a payload");
        let wanted = if traffic.is_v6() {
            IpNumber::IPV6
        } else {
            IpNumber::IPV4
        };
        assert_eq!(payload.ip_number, wanted);
        let is_inner = |frame: &Vec<u8>| frame[ETHERNET_BYTES..] == *payload.payload;
        assert!(frames.iter().any(is_inner), "{traffic:?}");
    }
}
