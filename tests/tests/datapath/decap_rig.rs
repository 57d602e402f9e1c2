//! The decapsulation program with its maps, and runs of it.

use std::net::IpAddr;

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, PerCpuArray, RingBuf, lpm_trie::Key},
    programs::{TestRun, TestRunOptions, Xdp},
};
use xlb_common::{
    decap::{Hop, PROGRAM, Reason, name, vip_flag},
    maps::{Event, event},
    reason::Action,
};

use crate::{
    check::{DROP, PASS, hex},
    frame::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, Tunnel, verify_checksums},
    kinds::{outer_source, vip},
    program,
};

/// The flow label of a frame's outermost IPv6 header.
pub(crate) fn flow_label(frame: &[u8]) -> u32 {
    let word = &frame[ETHERNET_BYTES..ETHERNET_BYTES + 4];
    u32::from_be_bytes(word.try_into().expect("four bytes")) & 0x000f_ffff
}

/// The tunnel that a frame is in, as its outermost headers say. `forward`: of the service.
pub(crate) fn tunnel_of(frame: &[u8], v6: bool, forward: u8) -> Tunnel {
    let udp = ETHERNET_BYTES + if v6 { IPV6_BYTES } else { IPV4_BYTES };
    Tunnel {
        flow_label: if v6 { flow_label(frame) } else { 0 },
        udp: (forward == xlb_common::maps::forward::GUE)
            .then(|| u16::from_be_bytes([frame[udp], frame[udp + 1]])),
    }
}

/// The program with its maps.
pub(crate) struct DecapRig {
    ebpf: Ebpf,
}

impl DecapRig {
    /// The program with nothing configured, so that it takes nothing from anybody.
    pub(crate) fn empty() -> Self {
        Self {
            ebpf: program::load_decapsulator(),
        }
    }

    /// The program of a backend of [`vip`], whose balancers send from [`outer_source`].
    pub(crate) fn new() -> Self {
        let mut rig = Self::empty();
        for v6 in [false, true] {
            let bits = if v6 { 128 } else { 32 };
            rig.put_balancer(outer_source(v6), bits);
            rig.put_vip(vip(v6));
        }
        rig
    }

    pub(crate) fn put_balancer(&mut self, prefix: IpAddr, bits: u32) {
        self.put_prefix([name::BALANCERS4, name::BALANCERS6], prefix, bits);
    }

    /// Lets packets be passed on to a backend.
    pub(crate) fn put_peer(&mut self, address: IpAddr) {
        let bits = if address.is_ipv6() { 128 } else { 32 };
        self.put_prefix([name::PEERS4, name::PEERS6], address, bits);
    }

    fn put_prefix(&mut self, maps: [&str; 2], prefix: IpAddr, bits: u32) {
        match prefix {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(maps[0]).expect("the map");
                let mut trie = LpmTrie::<_, [u8; 4], u32>::try_from(map).expect("a trie");
                trie.insert(&Key::new(bits, address.octets()), 1, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(maps[1]).expect("the map");
                let mut trie = LpmTrie::<_, [u8; 16], u32>::try_from(map).expect("a trie");
                trie.insert(&Key::new(bits, address.octets()), 1, 0)
            }
        }
        .expect("a prefix");
    }

    pub(crate) fn put_vip(&mut self, vip: IpAddr) {
        match vip {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(name::LOCAL_VIPS4).expect("the map");
                let mut vips = HashMap::<_, [u8; 4], u32>::try_from(map).expect("a hash");
                vips.insert(address.octets(), vip_flag::USED, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(name::LOCAL_VIPS6).expect("the map");
                let mut vips = HashMap::<_, [u8; 16], u32>::try_from(map).expect("a hash");
                vips.insert(address.octets(), vip_flag::USED, 0)
            }
        }
        .expect("a VIP");
    }

    /// Tells the program the way to a backend.
    pub(crate) fn put_hop(&mut self, address: IpAddr, hop: &Hop) {
        // SAFETY: it is integers without padding, as many bytes as stand there.
        let hop = unsafe { std::ptr::from_ref(hop).cast::<[u8; 16]>().read() };
        match address {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(name::ALTERNATIVES4).expect("the map");
                let mut hops = HashMap::<_, [u8; 4], [u8; 16]>::try_from(map).expect("a hash");
                hops.insert(address.octets(), hop, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(name::ALTERNATIVES6).expect("the map");
                let mut hops = HashMap::<_, [u8; 16], [u8; 16]>::try_from(map).expect("a hash");
                hops.insert(address.octets(), hop, 0)
            }
        }
        .expect("a way");
    }

    /// Addresses of which the program told the agent that it misses the way to them.
    pub(crate) fn missed(&mut self) -> Vec<[u8; 16]> {
        let map = self.ebpf.map_mut(name::DECAP_EVENTS).expect("the map");
        let mut events = RingBuf::try_from(map).expect("a ring buffer");
        let mut addresses = Vec::new();
        while let Some(entry) = events.next() {
            assert_eq!(entry.len(), size_of::<Event>());
            assert_eq!(entry[..4], event::NEIGHBOUR_MISSING.to_ne_bytes());
            addresses.push(entry[8..24].try_into().expect("sixteen bytes"));
        }
        addresses
    }

    fn reasons(&self) -> Vec<u64> {
        let map = self.ebpf.map(name::DECAP_REASONS).expect("the map");
        let map = PerCpuArray::<_, u64>::try_from(map).expect("a per-CPU array");
        (0..Reason::COUNT as u32)
            .map(|index| map.get(&index, 0).expect("a counter").iter().sum())
            .collect()
    }

    /// Runs the program once: its answer, the frame that comes out, and the reasons that moved.
    pub(crate) fn run(&self, input: &[u8]) -> (u32, Vec<u8>, Vec<(Reason, u64)>) {
        let before = self.reasons();
        let program = self.ebpf.program(PROGRAM).expect("the program");
        let program: &Xdp = program.try_into().expect("a program of type XDP");
        let mut bytes = vec![0; input.len() + 256];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(input),
                data_out: Some(&mut bytes),
                ..TestRunOptions::default()
            })
            .expect("a test run");
        bytes.truncate(result.data_size_out as usize);
        let moved = self.reasons().into_iter().zip(before).zip(Reason::ALL);
        let moved = moved
            .filter(|((now, before), _)| now != before)
            .map(|((now, before), &reason)| (reason, now - before))
            .collect();
        (result.return_value, bytes, moved)
    }

    /// Runs the program and expects the packet to be given to the host as `bytes`.
    pub(crate) fn delivers(&self, name: &str, input: &[u8], bytes: &[u8]) {
        self.gives(name, input, (PASS, Reason::Delivered), bytes);
    }

    /// Runs the program and expects this action for this reason, and these bytes.
    pub(crate) fn gives(&self, name: &str, input: &[u8], end: (u32, Reason), bytes: &[u8]) {
        let (action, output, reasons) = self.run(input);
        assert_eq!(reasons, [(end.1, 1)], "{name}: reasons");
        assert_eq!(action, end.0, "{name}: action");
        assert_eq!(hex(&output), hex(bytes), "{name}: bytes");
        verify_checksums(name, &output);
    }

    /// Runs the program and expects that it leaves the packet alone, or drops it, as the reason says.
    pub(crate) fn refuses(&self, name: &str, input: &[u8], reason: Reason) {
        let (action, output, reasons) = self.run(input);
        assert_eq!(reasons, [(reason, 1)], "{name}: reasons");
        match reason.action() {
            Action::Pass => {
                assert_eq!(action, PASS, "{name}: action");
                assert_eq!(hex(&output), hex(input), "{name}: bytes");
            }
            Action::Drop => assert_eq!(action, DROP, "{name}: action"),
            Action::Tx | Action::Redirect => panic!("{reason:?} refuses nothing"),
        }
    }
}
