//! Runs of the program: what went in, what came out, and every counter that moved.

use aya::{
    maps::PerCpuArray,
    programs::{TestRun, TestRunOptions, Xdp},
};
use xlb_common::{
    maps::{AttachmentCounters, PROGRAM, name},
    reason::Reason,
};

use crate::{
    frame::{Carries, Frame, verify_checksums},
    rig::Rig,
};

pub(crate) const PASS: u32 = 2;
pub(crate) const DROP: u32 = 1;
pub(crate) const TX: u32 = 3;
pub(crate) const REDIRECT: u32 = 4;

/// What a run should come to.
pub(crate) struct Expected {
    pub(crate) action: u32,
    /// The frame that comes out; of a dropped frame there is none.
    pub(crate) bytes: Option<Vec<u8>>,
    /// Reasons that are counted, once each, but for `TableLookup`.
    pub(crate) reasons: Vec<Reason>,
    /// Counters of attachments that move, and by what.
    pub(crate) counters: Vec<(u32, AttachmentCounters)>,
}

impl Expected {
    /// Goes on untouched, for this reason.
    pub(crate) fn passed(reason: Reason, bytes: &[u8]) -> Self {
        Self {
            action: PASS,
            bytes: Some(bytes.to_vec()),
            reasons: vec![reason],
            counters: Vec::new(),
        }
    }

    /// Is dropped, for this reason.
    pub(crate) fn dropped(reason: Reason) -> Self {
        Self {
            action: DROP,
            bytes: None,
            reasons: vec![reason],
            counters: Vec::new(),
        }
    }

    /// Leaves for a backend, counted at `counter`.
    pub(crate) fn forwarded(input: &Frame, counter: u32, bytes: Vec<u8>) -> Self {
        let counters = AttachmentCounters {
            packets: 1,
            bytes: input.bytes().len() as u64,
            connections: u64::from(matches!(input.carries, Carries::Syn(_))),
            ..AttachmentCounters::default()
        };
        Self {
            action: TX,
            bytes: Some(bytes),
            reasons: Vec::new(),
            counters: vec![(counter, counters)],
        }
    }
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) action: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) reasons: Vec<(Reason, u64)>,
    pub(crate) counters: Vec<(u32, [u64; 8])>,
}

impl Rig {
    fn reasons(&self) -> Vec<u64> {
        let map = self.ebpf.map(name::REASONS).expect("the map");
        let map = PerCpuArray::<_, u64>::try_from(map).expect("a per-CPU array");
        (0..Reason::COUNT as u32)
            .map(|index| map.get(&index, 0).expect("a counter").iter().sum())
            .collect()
    }

    /// Lookups in the tables of flows until now.
    pub(crate) fn table_lookups(&self) -> u64 {
        self.reasons()[Reason::TableLookup.index() as usize]
    }

    fn counters(&self) -> Vec<[u64; 8]> {
        let map = self.ebpf.map(name::COUNTERS).expect("the map");
        let map = PerCpuArray::<_, [u64; 8]>::try_from(map).expect("a per-CPU array");
        (0..map.len())
            .map(|index| {
                let values = map.get(&index, 0).expect("counters");
                std::array::from_fn(|field| values.iter().map(|value| value[field]).sum())
            })
            .collect()
    }

    /// Runs the program once on these bytes.
    pub(crate) fn run(&self, input: &[u8]) -> Outcome {
        let (reasons, counters) = (self.reasons(), self.counters());
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
        let moved = self.reasons().into_iter().zip(reasons);
        let reasons = moved
            .zip(Reason::ALL)
            .filter(|((now, before), _)| now != before)
            .map(|((now, before), &reason)| (reason, now - before))
            // Which packets are looked up is a subject of its own.
            .filter(|(reason, _)| *reason != Reason::TableLookup)
            .collect();
        let counters = (0..)
            .zip(self.counters().into_iter().zip(counters))
            .filter(|(_, (now, before))| now != before)
            .map(|(index, (now, before))| {
                (
                    index,
                    std::array::from_fn(|field| now[field] - before[field]),
                )
            })
            .collect();
        Outcome {
            action: result.return_value,
            bytes,
            reasons,
            counters,
        }
    }

    /// Runs the program once, for its action alone.
    pub(crate) fn action(&self, input: &[u8]) -> u32 {
        let program = self.ebpf.program(PROGRAM).expect("the program");
        let program: &Xdp = program.try_into().expect("a program of type XDP");
        let options = TestRunOptions {
            data_in: Some(input),
            ..TestRunOptions::default()
        };
        program.test_run(options).expect("a test run").return_value
    }

    /// Runs the program and checks everything that comes of it.
    pub(crate) fn check(&self, name: &str, input: &[u8], expected: &Expected) {
        let outcome = self.run(input);
        let reasons: Vec<_> = expected.reasons.iter().map(|&reason| (reason, 1)).collect();
        assert_eq!(outcome.reasons, reasons, "{name}: reasons");
        assert_eq!(outcome.action, expected.action, "{name}: action");
        let counters: Vec<_> = expected
            .counters
            .iter()
            .map(|(index, counters)| (*index, counters.words()))
            .collect();
        assert_eq!(outcome.counters, counters, "{name}: counters");
        if let Some(bytes) = &expected.bytes {
            assert_eq!(hex(&outcome.bytes), hex(bytes), "{name}: bytes");
        }
        if [TX, REDIRECT].contains(&outcome.action) {
            verify_checksums(name, &outcome.bytes);
        }
    }
}

/// Sixteen bytes a line, so that a failure shows where two frames differ.
pub(crate) fn hex(bytes: &[u8]) -> Vec<String> {
    bytes
        .chunks(16)
        .map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect())
        .collect()
}
