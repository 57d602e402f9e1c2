//! The wrapper that feeds a program with frames, and the programs that it is compared with.
//!
//! `BPF_PROG_TEST_RUN` with `repeat` gives a program its own output from the second round on. So what
//! is run is a wrapper, which gives the frame its length again, writes the next flow's headers into
//! it, and tail-calls the program under test.

use std::{path::Path, time::Duration};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, ProgramArray},
    programs::{ProgramFd, TestRun as _, TestRunOptions, TestRunResult, Xdp},
};
use aya_obj::programs::XdpAttachType;
use xlb_tests::lab::NetNs;

use super::traffic::Traffic;
use crate::{clock, maps};

/// Words of headers of IPv4 and of IPv6 frames that the wrapper writes.
const HEADER_WORDS: [usize; 2] = [7, 10];
/// Frames that are run before a sample, so that caches know the program.
const WARM_UP: u32 = 2_000;

/// The object of the benchmark's programs.
pub struct Programs {
    object: Vec<u8>,
}

impl Programs {
    /// Reads the object.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let object = std::fs::read(path).unwrap_or_else(|error| {
            panic!(
                "read the benchmark's programs {}, which `cargo xtask build` makes: {error}",
                path.display()
            )
        });
        Self { object }
    }

    /// Loads programs by name, for frames of this length from so many headers.
    pub(crate) fn load(&self, names: &[&str], frame_bytes: u32, headers: u32, v6: bool) -> Ebpf {
        let mask = headers - 1;
        let mut loader = EbpfLoader::new();
        loader
            .override_global("FRAME_BYTES", &frame_bytes, true)
            .override_global("HEADERS_MASK", &mask, true)
            .map_max_entries(headers_map(v6), headers);
        let mut ebpf = loader
            .load(&self.object)
            .unwrap_or_else(|error| panic!("load the benchmark's programs: {error:?}"));
        for name in names {
            program_mut(&mut ebpf, name)
                .load()
                .unwrap_or_else(|error| panic!("load the program {name}: {error:?}"));
        }
        ebpf
    }
}

/// Writes the headers of all flows, in a random order, into the map that a wrapper or a generator
/// reads.
pub(crate) fn fill_headers(ebpf: &Ebpf, traffic: &Traffic, flows: u32) {
    let v6 = traffic.is_v6();
    let order = Traffic::order(flows);
    let words = order.iter().flat_map(|&number| {
        let mut bytes = traffic.frame(number);
        bytes.resize(HEADER_WORDS[usize::from(v6)] * 8, 0);
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes")))
            .collect();
        words
    });
    maps::fill(map_data(ebpf, headers_map(v6)), words);
}

const fn headers_map(v6: bool) -> &'static str {
    if v6 { "HEADERS6" } else { "HEADERS4" }
}

fn map_data<'a>(ebpf: &'a Ebpf, name: &str) -> &'a MapData {
    match ebpf.map(name) {
        Some(aya::maps::Map::Array(data)) => data,
        _ => panic!("the benchmark's object has no array {name}"),
    }
}

pub(crate) fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut Xdp {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .unwrap_or_else(|| panic!("the benchmark's object has no XDP program {name}"))
}

pub(crate) fn program<'a>(ebpf: &'a Ebpf, name: &str) -> &'a Xdp {
    ebpf.program(name)
        .and_then(|program| program.try_into().ok())
        .unwrap_or_else(|| panic!("the benchmark's object has no XDP program {name}"))
}

/// A loaded program, as a wrapper calls it.
#[derive(Debug)]
pub struct Loaded {
    xdp: Xdp,
}

impl Loaded {
    /// The program behind a pin on a host of a lab.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn on_host(ns: &NetNs, pin: &Path) -> anyhow::Result<Self> {
        ns.run(|| Self::from_pin(pin))
    }

    /// The program behind a pin.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn from_pin(pin: &Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let xdp = Xdp::from_pin(pin, XdpAttachType::Interface)
            .with_context(|| format!("open the program {}", pin.display()))?;
        Ok(Self { xdp })
    }

    fn fd(&self) -> &ProgramFd {
        self.xdp.fd().expect("it is loaded")
    }
}

/// What programs are compared with: once loaded each.
pub struct References {
    ebpf: Ebpf,
}

/// A program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// Does nothing.
    Empty,
    /// Makes room for an outer header.
    Adjust,
    /// Writes an outer header that is always the same.
    Fixed,
}

impl References {
    /// Loads them.
    #[must_use]
    pub fn load(programs: &Programs) -> Self {
        let names = ["empty", "adjust", "fixed4", "fixed6"];
        Self {
            ebpf: programs.load(&names, 64, 1, false),
        }
    }

    fn fd(&self, reference: Reference, v6: bool) -> &ProgramFd {
        let name = match (reference, v6) {
            (Reference::Empty, _) => "empty",
            (Reference::Adjust, _) => "adjust",
            (Reference::Fixed, false) => "fixed4",
            (Reference::Fixed, true) => "fixed6",
        };
        program(&self.ebpf, name).fd().expect("it is loaded")
    }
}

/// A wrapper with its flows.
pub struct Harness {
    ebpf: Ebpf,
    v6: bool,
    frame: Vec<u8>,
}

/// What a run of many frames took.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Processor time a frame, in nanoseconds, with all that the wrapper does.
    pub gross_ns: f64,
    /// What the program said of the last frame.
    pub action: u32,
}

impl Harness {
    /// A wrapper that writes so many flows of this traffic, a power of two.
    #[must_use]
    pub fn new(programs: &Programs, traffic: &Traffic, flows: u32) -> Self {
        let v6 = traffic.is_v6();
        let frame = traffic.frame(0);
        let bytes = u32::try_from(frame.len()).expect("frames are short");
        let name = Self::name(v6);
        let ebpf = programs.load(&[name], bytes, flows, v6);
        fill_headers(&ebpf, traffic, flows);
        Self { ebpf, v6, frame }
    }

    const fn name(v6: bool) -> &'static str {
        if v6 { "next6" } else { "next4" }
    }

    /// Has it call a program from now on.
    ///
    /// # Errors
    ///
    /// When the kernel does not let it: programs that call each other must agree on fragments.
    pub fn call(&mut self, program: &Loaded) -> anyhow::Result<()> {
        self.set(program.fd())
    }

    /// Has it call a program to compare with.
    pub fn call_reference(&mut self, references: &References, reference: Reference) {
        self.set(references.fd(reference, self.v6))
            .unwrap_or_else(|error| panic!("call {reference:?}: {error:#}"));
    }

    fn set(&mut self, program: &ProgramFd) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let map = self.ebpf.map_mut("UNDER_TEST").expect("the object has it");
        ProgramArray::try_from(map)?.set(0, program, 0).context(
            "have the wrapper call it: it must be an XDP program with the attach type BPF_XDP, \
                 loaded without support for fragments",
        )
    }

    /// Runs one frame, and returns the action and the frame that came out.
    #[must_use]
    pub fn run_once(&self) -> (u32, Vec<u8>) {
        let mut out = vec![0; self.frame.len() + 256];
        let result = self.run(1, Some(&mut out));
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    /// Runs `frames` frames, after a few that do not count.
    #[must_use]
    pub fn sample(&self, frames: u32, warm_up: bool) -> Sample {
        if warm_up {
            self.run(WARM_UP, None);
        }
        let before = clock::of_thread();
        let result = self.run(frames, None);
        let time: Duration = clock::of_thread() - before;
        Sample {
            gross_ns: time.as_secs_f64() * 1e9 / f64::from(frames),
            action: result.return_value,
        }
    }

    fn run(&self, repeat: u32, out: Option<&mut [u8]>) -> TestRunResult {
        program(&self.ebpf, Self::name(self.v6))
            .test_run(TestRunOptions {
                data_in: Some(&self.frame),
                data_out: out,
                repeat,
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("run {repeat} frames: {error:?}"))
    }
}
