//! The decapsulation program with its maps, and runs of it.

use std::net::IpAddr;

use aya::{
    Ebpf,
    maps::{HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    programs::{TestRun, TestRunOptions, Xdp},
};
use xlb_common::{
    decap::{PROGRAM, Reason, name, vip_flag},
    reason::Action,
};

use crate::{
    check::{DROP, PASS, hex},
    frame::verify_checksums,
    kinds::{outer_source, vip},
    program,
};

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
        match prefix {
            IpAddr::V4(address) => {
                let map = self.ebpf.map_mut(name::BALANCERS4).expect("the map");
                let mut trie = LpmTrie::<_, [u8; 4], u32>::try_from(map).expect("a trie");
                trie.insert(&Key::new(bits, address.octets()), 1, 0)
            }
            IpAddr::V6(address) => {
                let map = self.ebpf.map_mut(name::BALANCERS6).expect("the map");
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
        let (action, output, reasons) = self.run(input);
        assert_eq!(reasons, [(Reason::Delivered, 1)], "{name}: reasons");
        assert_eq!(action, PASS, "{name}: action");
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
