//! The way of live frames.

use aya::{
    Ebpf,
    maps::PerCpuArray,
    programs::{TestRun as _, TestRunAttrs, TestRunOptions, XdpMode},
};
use xlb_tests::lab::{Lab, NetNs};

use crate::{
    clock,
    cost::{
        harness::{Programs, fill_headers, program, program_mut},
        traffic::Traffic,
        world,
    },
};

/// Frames that the kernel hands to the generator at a time: its default, and what a veth takes in one
/// go.
const BATCH: u32 = 64;
/// Frames before a run that do not count.
const WARM_UP: u32 = 10_000;
/// The interface at either end.
const INTERFACE: &str = "eth0";

/// Sends frames of many flows.
pub(super) struct Generator {
    ebpf: Ebpf,
    program: &'static str,
    frame: Vec<u8>,
}

impl Generator {
    pub(super) fn new(programs: &Programs, traffic: &Traffic, flows: u32) -> Self {
        let v6 = traffic.is_v6();
        let program = if v6 { "send6" } else { "send4" };
        let frame = traffic.frame(0);
        let bytes = u32::try_from(frame.len()).expect("frames are short");
        let ebpf = programs.load(&[program], bytes, flows, v6);
        fill_headers(&ebpf, traffic, flows);
        Self {
            ebpf,
            program,
            frame,
        }
    }

    /// Sends frames out of an interface of this thread's namespace.
    fn send(&self, ifindex: u32, frames: u32) {
        let length = u32::try_from(self.frame.len()).expect("frames are short");
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context = [0, length, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        program(&self.ebpf, self.program)
            .test_run(TestRunOptions {
                data_in: Some(&self.frame),
                ctx_in: Some(&context),
                repeat: frames,
                attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("send {frames} frames: {error:?}"));
    }
}

/// A cable whose one end takes in what the other sends back.
pub(super) struct Road {
    wire: NetNs,
    ifindex: u32,
    /// The program at this end.
    taking_in: Ebpf,
    /// The program at the other end, if it is none of a host's.
    _answering: Option<Ebpf>,
    /// The host at the other end; without it there is no cable.
    _host: Option<NetNs>,
}

/// What a run took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Processor time of a frame that came back.
    pub(super) cpu_ns: f64,
    /// The part of the frames that did not come back.
    pub(super) lost: f64,
}

impl Road {
    /// To a host with a program of its own, from the other end of its cable.
    pub(super) fn to_host(programs: &Programs, wire: &NetNs) -> Self {
        // The lab's own program gives way.
        wire.exec(&["ip", "link", "set", "dev", INTERFACE, "xdpdrv", "off"]);
        Self {
            taking_in: attach(programs, "take_in", wire),
            ifindex: wire.run(ifindex),
            wire: wire.clone(),
            _answering: None,
            _host: None,
        }
    }

    /// To one of the benchmark's programs.
    pub(super) fn to_program(programs: &Programs, name: &str) -> Self {
        let lab = Lab::new("bench-live");
        let (host, wire) = (lab.namespace("host"), lab.namespace("wire"));
        world::connect(&host, &wire);
        let answering = attach(programs, name, &host);
        Self {
            _answering: Some(answering),
            _host: Some(host),
            ..Self::to_host(programs, &wire)
        }
    }

    /// Sends frames and waits for what comes back.
    pub(super) fn run(&self, generator: &Generator, frames: u32) -> Run {
        let (cpu, returned) = self.wire.run(|| {
            generator.send(self.ifindex, WARM_UP);
            let before = (self.returned(), cpu_time());
            generator.send(self.ifindex, frames);
            (cpu_time() - before.1, self.returned() - before.0)
        });
        assert!(
            returned > u64::from(frames) / 2,
            "{returned} of {frames} frames came back"
        );
        Run {
            cpu_ns: cpu.as_secs_f64() * 1e9 / returned as f64,
            lost: 1.0 - (returned as f64 / f64::from(frames)).min(1.0),
        }
    }

    fn returned(&self) -> u64 {
        let map = self.taking_in.map("RETURNED").expect("the object has it");
        let map = PerCpuArray::<_, u64>::try_from(map).expect("per-CPU counts");
        map.get(&0, 0).expect("a count").iter().sum()
    }
}

/// The generator's own time, in which the soft interrupts that it causes are, and that of those which
/// the kernel left to its threads.
fn cpu_time() -> std::time::Duration {
    clock::of_thread() + clock::of_soft_interrupts()
}

fn attach(programs: &Programs, name: &str, ns: &NetNs) -> Ebpf {
    let mut ebpf = programs.load(&[name], 64, 1, false);
    let attached = ns.run(|| program_mut(&mut ebpf, name).attach(INTERFACE, XdpMode::Driver));
    attached.unwrap_or_else(|error| panic!("attach {name}: {error:?}"));
    ebpf
}

fn ifindex() -> u32 {
    nix::net::if_::if_nametoindex(INTERFACE).expect("the interface is there")
}
