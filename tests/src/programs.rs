//! What the verifier makes of each program, with every set of features.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use aya::{
    EbpfLoader, VerifierLogLevel,
    programs::{Program, ProgramInfo, Xdp},
};
use xlb_common::{
    limits::ENDPOINT_TABLE_MIN,
    maps::{feature, global, name},
};

/// Key of the flow hash, which no instruction depends on.
const HASH_KEY: [u64; 2] = [1, 2];

/// Entries of the tables of records: their number is not in the programs.
const FLOW_ENTRIES: u32 = 8;

/// Sets of which at most two features are there, or at most two are missing: each has other branches
/// removed, and what two of them do to one another shows. All of them would take minutes.
pub fn sets() -> impl Iterator<Item = u32> {
    let all = all_features();
    (0..=all).filter(move |features| {
        let missing = all & !features;
        features.count_ones() <= 2 || missing.count_ones() <= 2
    })
}

/// The set of all features.
#[must_use]
pub fn all_features() -> u32 {
    feature::ALL.iter().fold(0, |bits, (bit, _)| bits | bit)
}

/// A set of features in words: those that are there, or, if these are many, those that are not.
#[must_use]
pub fn name_of(features: u32) -> String {
    let names = |bits: u32| {
        let found = feature::ALL.iter().filter(|(bit, _)| bits & bit != 0);
        let names: Vec<&str> = found.map(|(_, name)| *name).collect();
        names.join("+")
    };
    let missing = all_features() & !features;
    match (features, missing) {
        (0, _) => "none".to_owned(),
        (_, 0) => "all".to_owned(),
        _ if features.count_ones() <= missing.count_ones() => names(features),
        _ => format!("all-but-{}", names(missing)),
    }
}

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

/// The eBPF objects.
#[derive(Debug)]
pub struct Objects {
    balancer: Vec<u8>,
    decapsulator: Vec<u8>,
}

impl Objects {
    /// Reads them: next to the one that `XLB_EBPF_OBJECT` names, else where `cargo xtask build` leaves
    /// them.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn read() -> Result<Self> {
        let built = || {
            let target = "../target/ebpf/bpfel-unknown-none/release/xlb-ebpf";
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target)
        };
        Self::read_next_to(&env::var_os("XLB_EBPF_OBJECT").map_or_else(built, PathBuf::from))
    }

    /// Reads them next to one of them.
    ///
    /// # Errors
    ///
    /// Names the file that can't be read.
    pub fn read_next_to(object: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = object.with_file_name(name);
            fs::read(&path).with_context(|| {
                format!("read {}, which `cargo xtask build` makes", path.display())
            })
        };
        Ok(Self {
            balancer: read("xlb-ebpf")?,
            decapsulator: read("xlb-decap")?,
        })
    }

    /// Loads every program of the balancer with these features.
    ///
    /// # Errors
    ///
    /// What the verifier says.
    pub fn balancer(&self, features: u32) -> Result<Vec<Measure>> {
        let mask = ENDPOINT_TABLE_MIN - 1;
        let mut loader = EbpfLoader::new();
        loader
            .override_global(global::HASH_KEY, &HASH_KEY, true)
            .override_global(global::FEATURES, &features, true)
            .map_max_entries(name::PENDING, FLOW_ENTRIES)
            .map_max_entries(name::FLOWS, FLOW_ENTRIES);
        for name in [
            global::VIPS4_MASK,
            global::VIPS6_MASK,
            global::REPLIES4_MASK,
            global::REPLIES6_MASK,
        ] {
            loader.override_global(name, &mask, true);
        }
        load(&mut loader, &self.balancer, &name_of(features))
    }

    /// Loads the decapsulation program, which has no features.
    ///
    /// # Errors
    ///
    /// What the verifier says.
    pub fn decapsulator(&self) -> Result<Vec<Measure>> {
        load(&mut EbpfLoader::new(), &self.decapsulator, "any")
    }
}

fn load(loader: &mut EbpfLoader<'_>, object: &[u8], features: &str) -> Result<Vec<Measure>> {
    loader.btf(None).verifier_log_level(VerifierLogLevel::STATS);
    let mut ebpf = loader.load(object).context("load the object")?;
    let mut measures = Vec::new();
    for (name, program) in ebpf.programs_mut() {
        let what = || format!("load the program {name} with features {features}");
        let Program::Xdp(program) = program else {
            bail!("the program {name} is not of type XDP");
        };
        program.load().with_context(what)?;
        measures.push(measure(name, program, features).with_context(what)?);
    }
    measures.sort_by(|a, b| a.program.cmp(&b.program));
    Ok(measures)
}

fn measure(name: &str, program: &Xdp, features: &str) -> Result<Measure> {
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
    fn sets_have_short_names() {
        assert_eq!(name_of(0), "none");
        assert_eq!(name_of(feature::IPV4 | feature::DNAT), "ipv4+dnat");
        assert_eq!(name_of(all_features() & !feature::GUE), "all-but-gue");
        assert_eq!(name_of(all_features()), "all");
    }

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
