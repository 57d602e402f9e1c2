//! What the verifier makes of each program.

use std::fmt;

use anyhow::{Context, Result};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    programs::{ProgramInfo, Xdp},
};
use xlb_common::{
    decap,
    maps::{PROGRAM, way},
};

use super::{load, name_of};

/// Key of the flow hash, which no instruction depends on.
const HASH_KEY: [u64; 2] = [1, 2];

/// Entries of the tables of records: their number is not in the programs.
const FLOW_ENTRIES: u32 = 8;

/// A program as the kernel has loaded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// Its name in the object.
    pub program: String,
    /// The features that it was loaded with, in words.
    pub features: String,
    /// Instructions that the verifier went through.
    pub verified: u32,
    /// Bytes of what it made of the program.
    pub translated: u32,
}

impl fmt::Display for Measure {
    /// A line: program, features, verified instructions, bytes translated.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            features,
            verified,
            translated,
        } = self;
        write!(
            f,
            "{program:<9} {features:<30} {verified:>7} {translated:>7}"
        )
    }
}

impl Measure {
    /// Reads a line as [`fmt::Display`] writes it.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [program, features, verified, translated] = words[..] else {
            return None;
        };
        Some(Self {
            program: program.to_owned(),
            features: features.to_owned(),
            verified: verified.parse().ok()?,
            translated: translated.parse().ok()?,
        })
    }
}

/// Loads every program of the balancer's object with these features.
///
/// # Errors
///
/// What the verifier says.
pub fn balancer(object: &[u8], features: u32) -> Result<Vec<Measure>> {
    let of = name_of(features);
    let what = || format!("with features {of}");
    let mut ebpf = open(
        &mut load::balancer(&features, &HASH_KEY, FLOW_ENTRIES, FLOW_ENTRIES),
        object,
    )?;
    let _ways = load::programs(&mut ebpf).with_context(what)?;
    [PROGRAM]
        .into_iter()
        .chain(way::PROGRAMS)
        .map(|name| measure(&ebpf, name, &of))
        .collect()
}

/// Loads the program of the backend's object, which has no features.
///
/// # Errors
///
/// What the verifier says.
pub fn decapsulator(object: &[u8]) -> Result<Measure> {
    let mut ebpf = open(&mut EbpfLoader::new(), object)?;
    load::program(&mut ebpf, decap::PROGRAM)?;
    measure(&ebpf, decap::PROGRAM, "any")
}

fn open(loader: &mut EbpfLoader<'_>, object: &[u8]) -> Result<Ebpf> {
    loader.btf(None).verifier_log_level(VerifierLogLevel::STATS);
    loader.load(object).context("load the object")
}

fn measure(ebpf: &Ebpf, name: &str, features: &str) -> Result<Measure> {
    let program: &Xdp = ebpf.program(name).context("a program")?.try_into()?;
    let info: ProgramInfo = program.info()?;
    let verified = info.verified_instruction_count();
    let translated = info.size_translated();
    Ok(Measure {
        program: name.to_owned(),
        features: features.to_owned(),
        verified: verified.context("the kernel does not say how many instructions it verified")?,
        translated: translated.context("the kernel does not say how large the program is")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_is_written() {
        let measure = Measure {
            program: "xlb".to_owned(),
            features: "ipv4+dnat".to_owned(),
            verified: 7819,
            translated: 22_600,
        };
        assert_eq!(Measure::parse(&measure.to_string()), Some(measure));
        assert_eq!(Measure::parse("# a comment of some words"), None);
    }
}
